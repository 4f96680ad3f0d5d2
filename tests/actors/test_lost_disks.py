"""Whole nodes on virtual time: what disks that are lost, and leaders that change, may not cost."""

from __future__ import annotations

import pytest

from tests.decreed_cluster import NAMES, DecreedCluster


@pytest.mark.parametrize("restarts", [0, 2])
def test_a_leader_that_lost_its_disk_is_not_followed_however_long_its_new_log_grows(restarts: int) -> None:
    with DecreedCluster() as cluster:
        for value in (b"a", b"b", b"c"):
            assert cluster.acknowledges("n1", value, "all")
        cluster.run_for(1)
        cluster.lose_disk("n1")
        cluster.run_for(1)
        cluster.start("n1", force_lead=True)
        for number in range(10):
            assert cluster.acknowledges("n1", b"new %d" % number, "leader")
        for _ in range(restarts):
            cluster.stop("n1")
            cluster.start("n1")
        cluster.run_for(10)
        for follower in ("n2", "n3"):
            assert cluster.values(follower) == [b"a", b"b", b"c"]
            assert "n1 has lost its disk" in cluster.warnings(follower)
        assert not cluster.acknowledges("n1", b"lonely", "quorum")


def test_followers_that_crashed_as_well_keep_their_copies_when_the_leader_lost_its_disk() -> None:
    with DecreedCluster() as cluster:
        assert cluster.acknowledges("n1", b"a", "all")
        cluster.run_for(1)
        cluster.lose_power("n2", "n3")
        cluster.lose_disk("n1")
        cluster.run_for(1)
        cluster.start()
        cluster.run_for(10)
        cluster.stop("n1")
        cluster.restart_under("static:n2,n3", "n2", "n3")
        cluster.run_for(5)
        assert cluster.values("n2") == cluster.values("n3") == [b"a"]


def test_a_disk_that_was_lost_is_filled_again_under_another_leader_and_may_then_lead() -> None:
    with DecreedCluster() as cluster:
        assert cluster.acknowledges("n1", b"a", "all")
        cluster.lose_disk("n1")
        cluster.run_for(1)
        for decree in ("static:n2,n1,n3", "static:n1,n2,n3"):
            cluster.stop()
            cluster.start_under(decree, *NAMES)
            cluster.run_for(10)
        assert cluster.acknowledges("n1", b"b", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [b"a", b"b"]


@pytest.mark.parametrize("crash", [False, True])
def test_a_new_leader_that_lacks_what_was_acknowledged_does_not_take_it_from_those_who_have_it(crash: bool) -> None:
    with DecreedCluster() as cluster:
        cluster.lose_power("n2")
        assert cluster.acknowledges("n1", b"a", "quorum")
        # The commit position is told to the follower with its next fetch, and noted once a second.
        cluster.run_for(1.5 if crash else 0.1)
        cluster.lose_power("n1", "n3") if crash else cluster.stop("n1", "n3")
        cluster.start_under("static:n2,n3", *NAMES, force_lead=True)
        cluster.run_for(10)
        for name in ("n1", "n3"):
            assert "keeps its copy" in cluster.warnings(name)
        for name in ("n1", "n3"):
            cluster.stop()
            cluster.start_under(f"static:{name}", name)
            cluster.run_for(5)
            assert cluster.values(name) == [b"a"]
