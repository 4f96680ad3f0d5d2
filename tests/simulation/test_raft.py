"""Whole clusters that elect their leader: the conformance suite of several nodes, and simulations under all faults."""

from __future__ import annotations

import pytest

from ourolog.simulation.cluster import Cluster
from ourolog.simulation.election_conformance import ElectionClusterConformance
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate


class TestRaft(ElectionClusterConformance):
    election = "raft:n1,n2,n3"


@pytest.mark.parametrize("seed", range(4))
def test_no_claim_is_violated_whatever_fails(seed: int) -> None:
    result = simulate(Options(seed, nodes=3 + 2 * (seed % 2), election="raft:n1,n2,n3", minutes=0.2))
    assert [str(violation) for violation in result.violations] == []


def test_when_a_leader_dies_another_is_elected_within_a_second_and_nothing_is_lost() -> None:
    with Cluster(seed=3, nodes=3, election="raft:n1,n2,n3") as cluster:
        cluster.run_for(3.0)
        for _ in range(3):
            leader = cluster.leader_id
            assert leader is not None
            offset = cluster.produce(leader, leader.encode())
            cluster.crash(leader)
            died_s = cluster.now_s
            cluster.run_until(lambda died=leader: cluster.leader_id not in (None, died), 5.0)
            assert cluster.now_s - died_s < 1.5
            assert cluster.leader_id is not None
            assert cluster.client("reader").consume(offset, wait=True) == leader.encode()
            cluster.restart(leader)


def test_a_cluster_that_is_started_again_where_no_gossip_passes_is_led_and_serves() -> None:
    with Cluster(seed=3, nodes=3, election="raft:n1,n2,n3") as cluster:
        cluster.run_for(3.0)
        assert cluster.leader_id is not None
        offset = cluster.produce(cluster.leader_id, b"before")
        for name in cluster.names:
            cluster.crash(name)
            cluster.filter_datagrams(name)
        cluster.run_for(1.0)
        for name in cluster.names:
            cluster.start(name, wait=False)
        cluster.run_for(3.0)
        leader = cluster.leader_id
        assert leader is not None
        assert cluster.produce(leader, b"after", acks="all") == offset + 1
        for name in cluster.names:
            assert len(cluster.status(name).membership.members) == 1
            assert cluster.client(f"reader-{name}").consume(offset + 1, wait=True) == b"after"
        cluster.heal()
        cluster.run_for(30.0)


def test_disks_on_which_a_vote_takes_longer_than_the_first_canvass_elect_a_leader_all_the_same() -> None:
    with Cluster(seed=3, nodes=3, election="raft:n1,n2,n3") as cluster:
        cluster.run_for(3.0)
        died = cluster.leader_id
        assert died is not None
        for disk in cluster.disks.values():
            disk.faults.slow_s = 0.3
        cluster.crash(died)
        cluster.run_until(lambda: cluster.leader_id not in (None, died), 15.0)


def test_a_voter_with_an_empty_disk_copies_and_has_no_vote() -> None:
    with Cluster(seed=4, nodes=3, election="raft:n1,n2,n3") as cluster:
        cluster.run_for(3.0)
        leader = cluster.leader_id
        assert leader is not None
        wiped, other = (name for name in cluster.names if name != leader)
        offset = cluster.produce(leader, b"kept")
        cluster.crash(wiped, power=True)
        cluster.wipe(wiped)
        cluster.run_for(5.0)
        cluster.restart(wiped)
        cluster.run_for(5.0)
        assert cluster.consume(wiped, offset) == b"kept"
        assert cluster.status(wiped).election.role == "standby"
        cluster.crash(leader)
        cluster.run_for(10.0)
        assert cluster.status(other).election.leader_id is None
        expected = (
            f"2 of 3 voters are needed, and {leader} does not answer {other}; {wiped} has another disk than the one "
            "that votes: it copies, and has no vote until admitted"
        )
        assert expected in cluster.status(other).election.why_nobody


def test_a_node_without_a_vote_finds_the_next_leader_though_the_old_one_never_comes_back() -> None:
    with Cluster(seed=5, nodes=4, election="raft:n1,n2,n3") as cluster:
        cluster.run_for(3.0)
        leader = cluster.leader_id
        assert leader is not None
        cluster.crash(leader, power=True)
        cluster.run_for(6.0)
        offset = cluster.client("app").produce(b"of the next leader")
        cluster.run_for(2.0)
        assert cluster.consume("n4", offset) == b"of the next leader"
