"""The parts of the replicator actor: the pulls, the fetch server, the commit position, and where logs diverge.

Nothing here knows how a leader came to be, or touches a file: the log is the store's, and who leads is announced.
"""
