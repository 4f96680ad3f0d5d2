"""The parts of the membership actor: the table of members, datagrams, probes, suspicions, names, joining, leaving.

Each part is state together with the rules of one concern (SWIM, Das et al. 2002). None of them is an actor, or starts
a timer other than through what it was given; who leads, and what is replicated, is not known here.
"""
