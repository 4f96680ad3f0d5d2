"""Whole nodes on virtual time: what disks that are lost, and leaders that change, may not cost."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.observer import NodeWarned
from ourolog.actors.messages.server import Produced
from ourolog.actors.messages.values import Acks
from ourolog.actors.occupants import parse_election
from ourolog.actors.testing.virtual_cluster import VirtualCluster
from ourolog.storage.memory import MemoryFiles
from ourolog.storage.types import NodeId

STATIC = parse_election("static:n1,n2,n3")


def three(**config: Any) -> VirtualCluster:
    cluster = VirtualCluster()
    for name in ("n1", "n2", "n3"):
        cluster.start(name, election=STATIC, **config)
    cluster.runtime.run_for(3)
    return cluster


def lose_disk(cluster: VirtualCluster, name: str) -> None:
    cluster.kill(name)
    cluster.files[NodeId(name)] = MemoryFiles()
    cluster.runtime.run_for(1)


def payloads(cluster: VirtualCluster, name: str) -> list[bytes]:
    return [batch.payload for batch in cluster.batches(name)]


def warnings(cluster: VirtualCluster, name: str) -> str:
    return "\n".join(event.reason for event in cluster.events(name) if isinstance(event, NodeWarned))


@pytest.mark.parametrize("restarts", [0, 2])
def test_a_leader_that_lost_its_disk_is_not_followed_however_long_its_new_log_grows(restarts: int) -> None:
    cluster = three()
    for value in (b"a", b"b", b"c"):
        assert isinstance(cluster.produce("n1", value, acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    lose_disk(cluster, "n1")
    cluster.start("n1")
    for number in range(10):
        assert isinstance(cluster.produce("n1", b"new %d" % number, acks=Acks.LEADER), Produced)
    for _ in range(restarts):
        cluster.stop("n1")
        cluster.start("n1")
    cluster.runtime.run_for(10)
    for follower in ("n2", "n3"):
        assert payloads(cluster, follower) == [b"a", b"b", b"c"]
        assert "n1 has lost its disk" in warnings(cluster, follower)
    assert not isinstance(cluster.produce("n1", b"lonely", acks=Acks.QUORUM), Produced)


def test_followers_that_crashed_as_well_keep_their_copies_when_the_leader_lost_its_disk() -> None:
    cluster = three()
    assert isinstance(cluster.produce("n1", b"a", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in ("n2", "n3"):
        cluster.kill(name)
    lose_disk(cluster, "n1")
    for name in ("n1", "n2", "n3"):
        cluster.start(name)
    cluster.runtime.run_for(10)
    cluster.stop("n1")
    for name in ("n2", "n3"):
        cluster.stop(name)
        cluster.start(name, election=parse_election("static:n2,n3"))
    cluster.runtime.run_for(5)
    assert payloads(cluster, "n2") == payloads(cluster, "n3") == [b"a"]


def test_a_disk_that_was_lost_is_filled_again_under_another_leader_and_may_then_lead() -> None:
    cluster = three()
    assert isinstance(cluster.produce("n1", b"a", acks=Acks.ALL), Produced)
    lose_disk(cluster, "n1")
    for decree in ("static:n2,n1,n3", "static:n1,n2,n3"):
        for running in list(cluster.nodes):
            cluster.stop(running)
        for name in ("n1", "n2", "n3"):
            cluster.start(name, election=parse_election(decree))
        cluster.runtime.run_for(10)
    assert isinstance(cluster.produce("n1", b"b", acks=Acks.ALL), Produced)
    cluster.runtime.run_for(1)
    for name in ("n1", "n2", "n3"):
        assert payloads(cluster, name) == [b"a", b"b"]


@pytest.mark.parametrize("crash", [False, True])
def test_a_new_leader_that_lacks_what_was_acknowledged_does_not_take_it_from_those_who_have_it(crash: bool) -> None:
    cluster = three()
    cluster.kill("n2")
    assert isinstance(cluster.produce("n1", b"a", acks=Acks.QUORUM), Produced)
    # The commit position is told to the follower with its next fetch, and noted once a second.
    cluster.runtime.run_for(1.5 if crash else 0.1)
    for name in ("n1", "n3"):
        cluster.kill(name) if crash else cluster.stop(name)
    for name in ("n1", "n2", "n3"):
        cluster.start(name, election=parse_election("static:n2,n3"))
    cluster.runtime.run_for(10)
    for name in ("n1", "n3"):
        assert "keeps its copy" in warnings(cluster, name)
        cluster.stop(name)
        cluster.start(name, election=parse_election(f"static:{name}"))
        cluster.runtime.run_for(5)
        assert payloads(cluster, name) == [b"a"]
