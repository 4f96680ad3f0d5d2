"""What `fsync interval` promises: a quorum is one of disks all the same; one disk's word alone is only written."""

from __future__ import annotations

from ourolog.actors.config import Fsync
from ourolog.simulation.cluster import Cluster

LAZY = {"fsync": Fsync.INTERVAL, "fsync_interval_s": 1.0}


def test_what_a_quorum_has_acknowledged_survives_a_blackout_at_that_moment() -> None:
    for seed in range(6):
        with Cluster(seed, nodes=3, election="static", **LAZY) as cluster:
            offsets = {cluster.produce("n1", value, acks="quorum"): value.encode() for value in ("a", "b", "c")}
            for name in ("n1", "n2", "n3"):
                cluster.crash(name, power=True)
            cluster.restart("n1", "n2", "n3")
            cluster.run_for(5.0)
            assert {offset: cluster.consume("n1", offset) for offset in offsets} == offsets


def test_a_leader_that_forgets_what_it_had_only_written_is_followed_again() -> None:
    """With acks=leader that is what may be lost, so nobody compares what clients have seen."""
    for seed in range(6):
        with Cluster(seed, nodes=3, election="static", checkers=(), **LAZY) as cluster:
            cluster.produce("n1", "kept", acks="quorum")
            cluster.produce("n1", "may be lost", acks="leader")
            cluster.crash("n1", power=True)
            cluster.restart("n1")
            cluster.run_for(10.0)
            offset = cluster.produce("n1", "later", acks="all")
            assert cluster.consume("n1", offset) == b"later"


def test_an_acknowledgement_of_the_leader_alone_does_not_wait_for_the_disk() -> None:
    with Cluster(1, nodes=3, election="static", **LAZY) as cluster:
        cluster.run_for(3.0)
        began_s = cluster.now_s
        cluster.produce("n1", "quick", acks="leader")
        assert cluster.now_s - began_s < 0.5
