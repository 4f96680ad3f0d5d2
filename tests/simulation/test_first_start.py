"""Whole nodes that found a cluster: found by gossip, in two halves, with a disk that is lost in between."""

from __future__ import annotations

from contextlib import closing

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.observer import WarningKind
from ourolog.simulation.checkers.founding import FoundedByAll
from ourolog.simulation.checkers.terms import OneLeaderATerm
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import Event, FileReplaced, NodeSaid
from ourolog.storage.identity import FOUNDING_NAME

RAFT = ElectionChoice("raft")


def unstarted(nodes: int, expect: int | None) -> Cluster:
    """Nodes that name no voters: the claims about who may vote are held against names, and see nothing here."""
    checkers = (FoundedByAll(), OneLeaderATerm())
    cluster = Cluster(seed=5, nodes=nodes, election="raft:n1", checkers=checkers)
    for name in cluster.names:
        cluster.configure(name, election=RAFT, bootstrap_expect=expect)
    return cluster


def test_three_that_gossip_finds_elect_a_leader_and_the_fourth_copies_and_does_not_vote() -> None:
    with closing(unstarted(4, 3)) as cluster:
        cluster.start("n1", "n2", "n3", wait=False)
        cluster.run_until(lambda: cluster.leader_id is not None, 5.0)
        cluster.start("n4")
        cluster.run_for(5.0)
        assert cluster.leader_id is not None
        offset = cluster.produce(cluster.leader_id, b"first")
        cluster.run_for(2.0)
        assert cluster.consume("n4", offset) == b"first"
        election = cluster.status("n4").election
        assert (election.role, set(election.voters)) == ("standby", {"n1", "n2", "n3"})


def test_two_halves_of_a_network_found_no_cluster_each_and_one_when_they_meet() -> None:
    with closing(unstarted(5, 5)) as cluster:
        cluster.partition(("n1", "n2", "n3"), ("n4", "n5"))
        cluster.start(wait=False)
        cluster.run_for(10.0)
        for name in cluster.names:
            election = cluster.status(name).election
            assert election.leader_id is None
            assert "more to found the cluster" in election.why_nobody
        cluster.heal()
        cluster.run_until(lambda: cluster.leader_id is not None, 20.0)


def test_a_node_that_is_told_nothing_leads_alone_and_warns_of_the_only_copy() -> None:
    warned: list[str] = []

    def see(event: Event) -> None:
        if isinstance(event, NodeSaid) and getattr(event.event, "kind", None) is WarningKind.ONE_COPY:
            warned.append(event.node_id)

    with closing(unstarted(1, None)) as cluster:
        cluster.subscribe(see)
        cluster.start(join=())
        cluster.run_until(lambda: cluster.leader_id == "n1", 2.0)
        assert cluster.consume("n1", cluster.produce("n1", b"only")) == b"only"
    assert warned == ["n1"]


def test_a_disk_that_is_lost_right_after_its_promise_keeps_the_cluster_from_being_founded_and_status_says_so() -> None:
    checkers = (FoundedByAll(), OneLeaderATerm())
    cluster = Cluster(seed=7, nodes=3, election="raft:n1,n2,n3", checkers=checkers)

    crashed: list[float] = []

    def see(event: Event) -> None:
        is_promise = isinstance(event, FileReplaced) and event.path.endswith(f"/{FOUNDING_NAME}")
        if is_promise and event.node_id == "n3" and not crashed:
            crashed.append(event.time_s)
            cluster.after(0.0, lambda: cluster.crash("n3", power=True))

    cluster.subscribe(see)
    with closing(cluster):
        cluster.start(wait=False)
        cluster.run_until(lambda: "n3" not in cluster.running, 10.0)
        cluster.run_for(3.0)
        assert "waits for n3" in cluster.status("n1").election.why_nobody
        cluster.wipe("n3")
        cluster.start("n3", wait=False)
        cluster.run_for(10.0)
        assert cluster.leader_id is None
        why = cluster.status("n1").election.why_nobody
        assert "n3 has another disk than the one with which n1, n2 and n3 were to found the cluster" in why
        for name in cluster.names:
            cluster.stop(name)
        for name in cluster.names:
            cluster.wipe(name)
        cluster.start()
        cluster.run_until(lambda: cluster.leader_id is not None, 10.0)
