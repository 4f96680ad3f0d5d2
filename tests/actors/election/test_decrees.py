"""Whole nodes on virtual time: decrees that change, all at once and one by one, and terms out of nowhere.

The three ways in which two leaders of one term once went unnoticed, with replicas that differed for
good; and what must be said, refused and kept on each of them.
"""

from __future__ import annotations

import contextlib

import pytest

from ourolog.actors.messages.election import ClaimReceived
from ourolog.actors.messages.observer import NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.values import ElectionClaim
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import RefusedError
from ourolog.storage.ballot import Ballot, save_ballot
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Term
from tests.decreed_cluster import NAMES, DecreedCluster

OLD, NEW = "static:n1,n2,n3", "static:n2,n1,n3"


def assert_nothing_differs(cluster: DecreedCluster) -> None:
    """What two nodes hold for committed at one place is the same; some do not know what is committed."""
    logs = {}
    for name in cluster.running:
        with contextlib.suppress(RefusedError):
            logs[name] = cluster.records(name)
    longest = max(logs.values(), key=len)
    for name, log in logs.items():
        assert log == longest[: len(log)], name


def test_an_old_leader_that_comes_back_with_its_old_flags_is_noticed_and_its_entries_go() -> None:
    with DecreedCluster() as cluster:
        assert cluster.acknowledges("n1", b"first", "all")
        cluster.run_for(1.5)
        cluster.stop(*NAMES)
        cluster.start_under(NEW, "n2", "n3")
        cluster.run_for(3)
        assert cluster.acknowledges("n2", b"acknowledged by quorum", "quorum")
        cluster.start_under(OLD, "n1", force_lead=True)
        assert not cluster.acknowledges("n1", b"times out", "quorum")
        cluster.run_for(3)
        for name in NAMES:
            (dispute,) = cluster.disputes(name)
            assert OLD in dispute.reason
            assert NEW in dispute.reason
            assert not cluster.says_ready(name)
            with pytest.raises(RefusedError, match="not ready"):
                cluster.produce(name, b"now at " + name.encode(), acks="leader")
        cluster.restart_under(NEW, "n1")
        cluster.run_for(10)
        assert all(cluster.says_ready(name) for name in NAMES)
        assert cluster.acknowledges("n2", b"after", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [b"first", b"acknowledged by quorum", b"after"]


def test_the_entries_of_two_leaders_of_one_term_are_told_apart_though_nobody_ever_heard_of_the_other() -> None:
    with DecreedCluster() as cluster:
        cluster.produce("n1", b"first", acks="all")
        cluster.run_for(1.5)
        cluster.stop(*NAMES)
        cluster.start_under(NEW, "n2", "n3")
        cluster.run_for(3)
        assert cluster.acknowledges("n2", b"acknowledged by quorum", "quorum")
        cluster.stop("n2", "n3")
        cluster.start_under(OLD, "n1", force_lead=True)
        assert not cluster.acknowledges("n1", b"times out", "quorum")
        cluster.stop("n1")
        cluster.start_under(NEW, *NAMES)
        cluster.run_for(10)
        assert cluster.acknowledges("n2", b"after", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [b"first", b"acknowledged by quorum", b"after"]
        assert "n1 drops its entries" in cluster.warnings("n1")


def test_an_old_leader_that_a_supervisor_starts_again_while_flags_change_acknowledges_nothing() -> None:
    with DecreedCluster() as cluster:
        cluster.produce("n1", b"first", acks="all")
        cluster.run_for(1.5)
        cluster.restart_under(NEW, "n2")
        cluster.run_for(1)
        cluster.restart_under(OLD, "n1")  # as a supervisor would
        cluster.run_for(3)
        acknowledged = [number for number in range(10) if cluster.acknowledges("n1", b"n%d" % number, "quorum")]
        assert acknowledged == []
        cluster.restart_under(NEW, "n3")
        cluster.restart_under(NEW, "n1")
        cluster.run_for(10)
        # n1 has written what it could not acknowledge, and n3 has copied it: a person decides that it goes.
        assert "n1 is ahead" in cluster.disputes("n2")[-1].reason
        cluster.stop(*NAMES)
        cluster.start_under(NEW, *NAMES, force_lead=True)
        cluster.run_for(5)
        assert cluster.acknowledges("n2", b"after", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [b"first", b"after"]
            assert cluster.says_ready(name)


@pytest.mark.parametrize("crash", [False, True])
def test_a_decreed_leader_that_lacks_what_was_acknowledged_says_who_is_ahead_and_does_not_lead(crash: bool) -> None:
    with DecreedCluster() as cluster:
        cluster.lose_power("n2")
        for number in range(10):
            assert cluster.acknowledges("n1", b"n%d" % number, "quorum")
        cluster.run_for(1.5)
        cluster.lose_power("n1", "n3") if crash else cluster.stop("n1", "n3")
        cluster.start_under(NEW, *NAMES)
        cluster.run_for(10)
        withheld = cluster.disputes("n2")[-1].reason
        assert "n2 does not lead, though --election static:n2,n1,n3 says so: n1 is ahead" in withheld
        assert "--force-lead" in withheld
        assert WarningKind.LEAD_WITHHELD in {warned.kind for warned in cluster.heard("n2", NodeWarned)}
        assert not cluster.acknowledges("n2", b"lonely", "leader")
        for name in ("n1", "n3"):
            assert cluster.values(name) == [b"n%d" % number for number in range(10)]
        cluster.stop(*NAMES)
        cluster.start_under(OLD, *NAMES)
        cluster.run_for(5)
        assert cluster.acknowledges("n1", b"after", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [*(b"n%d" % number for number in range(10)), b"after"]


def test_a_decreed_leader_waits_for_a_majority_of_the_voters_and_leads_once_it_is_there() -> None:
    with DecreedCluster() as cluster:
        assert cluster.acknowledges("n1", b"first", "all")
        cluster.stop(*NAMES)
        cluster.start_under(OLD, "n1")
        cluster.run_for(5)
        assert not cluster.says_ready("n1")
        assert "n2, n3 did not" in cluster.warnings("n1")
        assert cluster.disputes("n1") == []
        assert cluster.values("n1") == [b"first"]
        cluster.start_under(OLD, "n3")
        cluster.run_for(3)
        assert cluster.acknowledges("n1", b"two of three", "quorum")
        assert cluster.says_ready("n1")


def test_a_forced_leader_leads_at_once_and_warns_of_it() -> None:
    with DecreedCluster() as cluster:
        assert cluster.acknowledges("n1", b"first", "all")
        cluster.stop(*NAMES)
        cluster.start_under(OLD, "n1", force_lead=True)
        assert cluster.acknowledges("n1", b"alone", "leader")
        (warned,) = cluster.heard("n1", NodeWarned)
        assert warned.kind is WarningKind.LEAD_FORCED
        assert "--force-lead" in warned.reason


@pytest.mark.parametrize("crash", [False, True])
def test_what_was_acknowledged_before_a_forced_change_is_kept_by_those_who_have_it(crash: bool) -> None:
    with DecreedCluster() as cluster:
        cluster.lose_power("n2")
        for number in range(10):
            assert cluster.acknowledges("n1", b"n%d" % number, "quorum")
        cluster.run_for(1.5)
        cluster.start_under(NEW, "n2", force_lead=True)
        for name in ("n3", "n1"):
            if crash:
                cluster.lose_power(name)
                cluster.start_under(NEW, name)
            else:
                cluster.restart_under(NEW, name)
        cluster.run_for(10)
        for name in ("n1", "n3"):
            assert cluster.values(name) == [b"n%d" % number for number in range(10)]
            assert "keeps its copy and does not follow" in cluster.warnings(name)
        assert not cluster.acknowledges("n2", b"lonely", "quorum")
        assert not cluster.says_ready("n2")
        assert_nothing_differs(cluster)


def test_a_leader_that_lost_its_disk_gives_up_what_it_wrote_since_when_another_is_decreed() -> None:
    with DecreedCluster() as cluster:
        old = [b"old %d" % number for number in range(20)]
        for value in old:
            assert cluster.acknowledges("n1", value, "all")
        cluster.run_for(1.5)
        cluster.lose_disk("n1")
        cluster.run_for(1)
        cluster.start_under(OLD, "n1", force_lead=True)
        for number in range(20):
            assert not cluster.acknowledges("n1", b"other %d" % number, "quorum")
        assert_nothing_differs(cluster)
        for name in ("n2", "n3"):
            assert "n1 has lost its disk" in cluster.warnings(name)
        cluster.stop(*NAMES)
        cluster.start_under(NEW, *NAMES)
        cluster.run_for(10)
        assert cluster.acknowledges("n2", b"after", "all")
        cluster.run_for(1)
        for name in NAMES:
            assert cluster.values(name) == [*old, b"after"]


def test_a_node_under_another_decree_is_not_ready_says_why_once_and_is_well_again_without_a_restart() -> None:
    with DecreedCluster() as cluster:
        cluster.restart_under("static:n1,n3", "n3")
        cluster.run_for(20)
        assert [len(cluster.disputes(name)) for name in NAMES] == [1, 1, 1]
        assert "n3 with static:n1,n3" in cluster.disputes("n1")[0].reason
        cluster.restart_under(OLD, "n3")
        cluster.run_for(5)
        assert all(cluster.says_ready(name) for name in NAMES)
        assert cluster.acknowledges("n1", b"again", "all")


def test_a_rival_that_was_stopped_disputes_nothing_any_more() -> None:
    with DecreedCluster() as cluster:
        cluster.restart_under("static:n3", "n3")
        cluster.run_for(5)
        assert not cluster.says_ready("n1")
        cluster.stop("n3")
        cluster.run_for(5)
        assert cluster.says_ready("n1")
        assert cluster.acknowledges("n1", b"two of three", "quorum")


def test_a_rival_that_is_not_heard_of_any_more_may_lead_on_where_it_is_until_a_person_has_decided() -> None:
    with DecreedCluster() as cluster:
        cluster.restart_under("static:n3", "n3")
        cluster.run_for(5)
        cluster.lose_power("n3")
        cluster.run_for(60)
        (dispute,) = cluster.disputes("n1")
        assert "n3 with static:n3" in dispute.reason
        assert not cluster.acknowledges("n1", b"not yet", "leader")
        cluster.restart_under(OLD, "n1")
        cluster.restart_under(OLD, "n2")
        cluster.run_for(10)
        assert cluster.says_ready("n1")
        assert cluster.acknowledges("n1", b"decided", "quorum")


# ---------------------------------------------------------------- terms out of nowhere


TERMS = (0, 1, 2, 3, 2**20, 2**20 + 1, 2**31, 2**32, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("liar", ["n2", "n3", "stranger"])
def test_no_term_that_anybody_asks_with_ends_the_cluster(liar: str) -> None:
    with DecreedCluster(without=("fetches_honest", "answered_once")) as cluster:
        assert cluster.acknowledges("n1", b"before", "all")
        client = Probe()
        for number, term in enumerate(TERMS):
            for at, target in enumerate(NAMES):
                request = FetchRequest(
                    cluster="ourolog",
                    node_id=NodeId(liar),
                    log_epoch=term,
                    elected=True,
                    term=Term(term),
                    next_index=Index(TERMS[-number]),
                    last=Place(Term(term), (NodeId(liar), term)) if number % 2 else None,
                    source_epoch=term,
                    committed=Index(term),
                    max_bytes=100,
                    max_wait_s=0.1,
                )
                cluster.running[NodeId(target)].replicator.tell(CallReceived(1000 + 10 * number + at, request, client))
        cluster.run_for(3)
        assert cluster.acknowledges("n1", b"after", "all")
        for event in cluster.said["n1"]:
            assert getattr(event, "term", 2) <= 2, "no term was burnt"
        cluster.lose_power(*NAMES)
        cluster.start_under(OLD, *NAMES)
        cluster.run_for(5)
        assert cluster.acknowledges("n1", b"after restarts", "all")
        cluster.lose_power("n1")
        cluster.lose_disk("n2")
        cluster.start_under(OLD, "n1", "n2")
        cluster.run_for(5)
        assert cluster.acknowledges("n1", b"after a fresh disk", "all")
        cluster.run_for(1)
        assert cluster.values("n2") == [b"before", b"after", b"after restarts", b"after a fresh disk"]


def test_a_term_that_somebody_claims_in_a_dead_voters_name_shuts_nobody_out() -> None:
    with DecreedCluster() as cluster:
        cluster.lose_power("n3")
        cluster.run_for(10)
        for claimed in (2**32 + 1, 2**33 + 2**32, 2**62 - 2**32):
            claim = ElectionClaim(OLD, Term(claimed), NodeId("n1"))
            cluster.running[NodeId("n1")].election.tell(ClaimReceived(NodeId("n3"), claim))
            cluster.run_for(3)
        cluster.wipe("n3")
        cluster.start_under(OLD, "n3")
        cluster.run_for(20)
        assert cluster.acknowledges("n1", b"by all", "all")
        cluster.lose_power("n2")
        cluster.lose_disk("n1")
        cluster.start_under(NEW, "n1", "n2")
        cluster.restart_under(NEW, "n3")
        cluster.run_for(20)
        assert cluster.acknowledges("n2", b"by all again", "all")
        cluster.run_for(1)
        assert cluster.values("n1") == [b"by all", b"by all again"]


def test_strangers_however_many_do_not_outvote_a_majority_of_the_voters() -> None:
    with DecreedCluster() as cluster:
        for number in range(8):
            claim = ElectionClaim("static:x1", Term(1), NodeId("x1"))
            cluster.running[NodeId("n1")].election.tell(ClaimReceived(NodeId(f"x{number}"), claim))
        cluster.run_for(1)
        assert cluster.disputes("n1") == []
        assert cluster.acknowledges("n1", b"all the same", "quorum")


def test_a_leader_goes_past_the_terms_that_its_followers_have_reached_without_it() -> None:
    with DecreedCluster() as cluster:
        for decree in (NEW, "static:n3,n2", "static:n2,n3"):
            cluster.stop()
            cluster.start_under(decree, "n2", "n3")
            cluster.run_for(3)
        cluster.stop("n2", "n3")
        cluster.start_under("static:n1,n2,n3", *NAMES, force_lead=True)
        cluster.run_for(5)
        # n1 lacks the control batches of the terms that it missed, all of them committed by the others.
        assert "keeps its copy" in cluster.warnings("n2")
        cluster.stop(*NAMES)
        cluster.start_under(NEW, *NAMES)
        cluster.run_for(5)
        assert cluster.acknowledges("n2", b"v", "all")


def test_a_data_directory_at_the_last_term_there_is_says_so_and_changes_nothing() -> None:
    with DecreedCluster(without=("fails_for_cause",)) as cluster:
        cluster.stop()
        save_ballot(cluster.disks[NodeId("n1")], "/data/ballot", Ballot(Term(2**64 - 1), NodeId("n1"), NodeId("n1")))
        before = cluster.durable(NodeId("n1"))
        cluster.start("n1", wait=False)
        cluster.run_until(lambda: "n1" not in cluster.running)
        (failed,) = cluster.heard("n1", NodeFailed)
        assert "beyond which there is none" in failed.reason
        assert cluster.durable(NodeId("n1")) == before


def test_a_node_that_does_not_vote_makes_no_term_of_its_own_and_finds_the_leader_in_its_own() -> None:
    with_standby, other = "static:n1,n2", "static:n2,n1"
    with DecreedCluster() as cluster:
        cluster.stop(*NAMES)
        cluster.start_under(with_standby, *NAMES)
        cluster.run_for(3)
        term = cluster.status("n1").election.term
        # Of two changes that are taken back the leader never hears.
        for decree in (other, with_standby, other, with_standby):
            cluster.restart_under(decree, "n3")
            cluster.run_for(1)
        cluster.run_for(5)
        assert cluster.acknowledges("n1", b"after", "quorum")
        cluster.run_for(1)
        assert cluster.values("n3") == [b"after"]
        assert {cluster.status(name).election.term for name in NAMES} == {term}
        assert cluster.says_ready("n3")


def two_leaders_of_one_term(first: str, second: str, *under_first: str) -> DecreedCluster:
    """A cluster in which n3 had n2 for its leader, and n1 leads in that very term; the disk of n2 is gone."""
    cluster = DecreedCluster(without=("one_leader_a_term",)).__enter__()
    cluster.stop(*NAMES)
    cluster.start_under(second, *NAMES)
    cluster.run_for(3)
    cluster.stop(*NAMES)
    cluster.start_under(first, *under_first, force_lead=True)
    cluster.run_for(3)
    assert cluster.status("n3").election.leader_id == "n2"
    cluster.stop(*under_first)
    cluster.wipe("n2")
    cluster.start_under(second, *NAMES, force_lead=True)
    cluster.run_for(5)
    return cluster


def test_a_node_without_a_vote_follows_whom_it_is_told_to_also_in_a_term_in_which_it_followed_another() -> None:
    with contextlib.closing(two_leaders_of_one_term("static:n2,n1", "static:n1,n2", "n2", "n3")) as cluster:
        assert cluster.acknowledges("n1", b"after", "quorum")
        cluster.run_for(1)
        assert cluster.values("n3") == [b"after"]
        assert {cluster.status(name).election.term for name in NAMES} == {4}
        assert cluster.says_ready("n3")


def test_a_node_that_voted_for_another_leader_in_that_very_term_says_so_and_follows_in_the_next() -> None:
    with contextlib.closing(two_leaders_of_one_term("static:n2,n3", "static:n1,n2", "n3")) as cluster:
        assert "does not follow n1 in term 4, in which n2 led before" in cluster.warnings("n3")
        assert not cluster.says_ready("n3")
        cluster.stop("n1")
        cluster.start_under("static:n1,n2", "n1", force_lead=True)
        cluster.run_for(5)
        assert cluster.acknowledges("n1", b"after", "quorum")
        cluster.run_for(1)
        assert cluster.values("n3") == [b"after"]
        assert cluster.says_ready("n3")
