"""The parts of the store actor beside the log: damaged places and the reads that wait for their repair, the scrub.

Each part decides what is to be done next; the actor alone touches the log.
"""
