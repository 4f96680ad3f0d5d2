"""The torture of the edge: `python -m torture`. Not part of what is installed; see docs/torture.md.

Real nodes on loopback, honest clients beside them, and one kind of villain at a time.

    bounds     the figures that every scenario asserts
    stage      the nodes of a scenario, their limits, and what /proc knows of them
    relay      what gossip passes where it can be cut
    honest     clients that produce and consume all the time, and remember every promise
    audit      what the logs hold afterwards, compared with what was promised
    scenario   one scenario from its first node to its verdict
    scenarios  the table of all of them
    faults     villains that do something to the nodes' processes and disks
    villains   those that come over the network, in a process of their own
    elections  another torture: faults of processes, disks and the network, for a cluster with a leader

Nothing that is shipped may import from here.
"""
