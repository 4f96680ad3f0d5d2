"""The parts of the replicator actor: the pulls, the fetch server, the commit position, and where logs diverge.

Nothing here knows how a leader was chosen, or touches a file: the log belongs to the store, and the election slot
announces who leads.
"""
