"""The torture of elections: `python -m torture.elections`. Not part of what is installed; see docs/torture.md.

A cluster of real processes with a leader, clients that produce and read all the time, and faults drawn
from a seed: killed, frozen and restarted nodes, cut networks, full and wiped disks. In the end everything
is healed, and what clients saw is held against what a log may show.

    network    namespaces, one for each node, between which packets can be dropped
    disks      small disks of the nodes' own, which can be filled
    nodes      the cluster: real nodes, what their logs said, and who ended without being told to
    recording  the history: every call of every client, by one clock
    clients    producers and readers
    faults     what is done to the nodes, drawn from a seed
    logs       what is in the nodes' data directories, after they have ended
    claims     what must hold in the end
    run        one run from its first node to its verdict
"""
