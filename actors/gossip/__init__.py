"""The parts of the membership actor: the table of members, datagrams, probes, suspicions, names, joining, leaving.

Each part is state with the rules of one concern (SWIM, Das et al. 2002). None of them is an actor or starts a
timer that it was not handed; who leads, and what is replicated, is not known here.
"""
