"""What the replicator tells an election, and how a node finds the leader of its term."""

from __future__ import annotations

import pytest

from ourolog.actors.election.news import NewsFilter
from ourolog.actors.messages.election import (
    ClaimReceived,
    HigherTermSeen,
    LeaderAnswered,
    LeaderHinted,
    VoterFetched,
)
from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    LogAppended,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    VotersChanged,
)
from ourolog.actors.messages.observer import PullStarted
from ourolog.actors.messages.peer_calls import FetchOutcome
from ourolog.actors.messages.values import ElectionClaim, Member
from ourolog.actors.replication.commit import LeaderCommit
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, member, response

VOTERS = VotersChanged((N1, N2, N3))


def leaderless() -> Stage:
    """n1 in term 1, where somebody leads, and nobody has said who."""
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(VOTERS, MemberJoined(member(N2)), MemberJoined(member(N3)), LeaderChanged(Term(1), None))
    return stage


def asked(stage: Stage) -> list[NodeId]:
    return [call.peer.node_id for call in stage.network.open]


def until_asked(stage: Stage) -> None:
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=5)


def all_asked(stage: Stage) -> set[NodeId]:
    """Who is asked in the next six questions, none of which is answered."""
    seen = set()
    for _ in range(6):
        until_asked(stage)
        (node_id, *_) = asked(stage)
        seen.add(node_id)
        stage.network.take(node_id).fail()
    return seen


def test_who_does_not_know_the_leader_asks_the_voters_in_turn_and_one_at_a_time_while_they_answer() -> None:
    stage = leaderless()
    seen = []
    for number in range(6):
        until_asked(stage)
        (voter,) = asked(stage)
        seen.append(voter)
        call = stage.network.take(voter)
        assert (call.request.max_bytes, call.request.max_wait_s, call.request.term) == (0, 0.0, 1)
        if number % 2:
            call.fail()
        else:
            call.answer(response(FetchOutcome.NOT_LEADER, term=Term(1)))
    assert seen == [N2, N3, N2, N3, N2, N3]
    assert stage.observer.all(PullStarted) == []
    assert stage.election.received == []


def test_who_led_in_this_term_is_asked_too_though_it_is_no_voter_that_this_node_knows() -> None:
    n4 = NodeId("n4")
    stage = leaderless()
    stage.tell(MemberJoined(Member(n4, "n4:1", "n4:2")), LeaderChanged(Term(1), n4), LeaderChanged(Term(1), None))
    assert all_asked(stage) == {N2, N3, n4}
    stage.tell(LeaderChanged(Term(2), None))
    assert all_asked(stage) == {N2, N3}


def test_a_cluster_in_which_nobody_leads_is_asked_ever_more_rarely() -> None:
    stage = leaderless()
    times = []
    for _ in range(20):
        until_asked(stage)
        times.append(stage.runtime.now_s)
        stage.network.take(asked(stage)[0]).fail()
    assert times[1] - times[0] < 0.2
    assert 0.9 < times[-1] - times[-2] <= 2.0


def test_a_voter_that_does_not_answer_holds_up_no_other_question() -> None:
    stage = leaderless()
    assert asked(stage) == [N2]
    stage.runtime.run_for(0.24)
    assert asked(stage) == [N2]
    stage.runtime.run_for(0.01)
    assert asked(stage) == [N2, N3]
    for number in range(3):
        stage.network.take(N3).answer(response(FetchOutcome.NOT_LEADER, term=Term(1)))
        stage.runtime.run_until(lambda: len(stage.network.open) == 2, timeout_s=0.2 * 2**number)
        assert asked(stage) == [N2, N3]
    stage.network.take(N3)
    stage.network.take(N2).answer(response(FetchOutcome.NOT_LEADER, term=Term(1), leader_id=N3))
    stage.runtime.run_for(5.0)
    assert stage.election.received == [LeaderHinted(Term(1), N3, N2)]
    assert asked(stage) == [N2]  # the question to n3 has no answer yet


def test_who_does_not_know_the_voters_asks_all_members_and_awaits_five_answers_at_most() -> None:
    names = [NodeId(f"m{number}") for number in range(10, 19)]
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(*(MemberJoined(Member(name, f"{name}:1", "")) for name in names), LeaderChanged(Term(1), None))
    stage.runtime.run_for(1.0)
    assert asked(stage) == names[:5]
    stage.runtime.run_for(10.0)
    assert asked(stage) == names[:5]
    for name in names[:4]:
        stage.network.take(name).fail("no answer in time")
    stage.runtime.run_for(1.0)
    assert asked(stage) == names[4:]


def test_the_end_of_an_old_question_does_not_put_off_the_next_one() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(*(MemberJoined(Member(NodeId(name), f"{name}:1", "")) for name in "abcd"))
    stage.tell(LeaderChanged(Term(1), None))
    stage.runtime.run_for(0.4)
    assert asked(stage) == ["a", "b"]
    stage.network.take("a").fail("no answer in time")
    stage.runtime.run_for(0.1)
    assert asked(stage) == ["b", "c"]


def test_a_new_term_is_asked_about_at_once() -> None:
    stage = leaderless()
    for _ in range(12):
        until_asked(stage)
        stage.network.take(asked(stage)[0]).fail()
    until_asked(stage)
    (before,) = asked(stage)
    stage.tell(LeaderChanged(Term(2), None))
    assert stage.network.forgotten == [before]
    assert [call.request.term for call in stage.network.open] == [1, 2]
    stage.network.take(before).answer(response(FetchOutcome.NOT_LEADER, term=Term(2), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == []
    stage.network.take(asked(stage)[0]).answer(response(FetchOutcome.NOT_LEADER, term=Term(2)))
    stage.runtime.run_for(0.051)
    assert len(stage.network.open) == 1


@pytest.mark.parametrize("outcome", [FetchOutcome.NOT_LEADER, FetchOutcome.BATCHES])
def test_whoever_knows_the_leader_of_the_same_term_gives_the_hint(outcome: FetchOutcome) -> None:
    stage = leaderless()
    stage.network.take(N2).answer(response(outcome, term=Term(1), leader_id=N3, batches=b"not for us"))
    stage.runtime.run_until_idle()
    assert stage.election.received == [LeaderHinted(Term(1), N3, N2)]
    assert stage.store.received == []
    stage.tell(LeaderChanged(Term(1), N3))
    assert asked(stage) == [N3]
    assert stage.network.take(N3).request.max_bytes > 0


def test_a_later_term_is_news_too() -> None:
    stage = leaderless()
    stage.network.take(N2).answer(response(FetchOutcome.STALE_TERM, term=Term(4), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == [HigherTermSeen(Term(4), N3, N2)]


def test_a_question_that_is_open_when_the_leader_is_found_is_dropped() -> None:
    stage = leaderless()
    late = stage.network.take(N2)
    stage.tell(LeaderChanged(Term(1), N3))
    assert stage.network.forgotten == [N2]
    late.answer(response(FetchOutcome.NOT_LEADER, term=Term(1), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == []
    assert asked(stage) == [N3]


def test_a_voter_is_asked_though_it_has_failed_or_left_and_found_late() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(VOTERS, LeaderChanged(Term(1), None))
    assert asked(stage) == []
    stage.tell(MemberJoined(member(N2)))
    assert asked(stage) == [N2]
    stage.network.take(N2).fail()
    stage.tell(MemberJoined(member(N3)), MemberFailed(member(N3)), MemberLeft(member(N2)))
    for voter in (N3, N2):
        until_asked(stage)
        stage.network.take(voter).fail()


def test_who_is_no_voter_is_not_asked() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(VOTERS, LeaderChanged(Term(1), None), MemberJoined(member(NodeId("n2"))))
    stage.network.take(N2).fail()
    stage.tell(MemberLeft(member(N2)))
    until_asked(stage)
    assert asked(stage) == [N2]


def test_the_hint_of_a_node_that_was_pulled_from_and_does_not_lead_is_handed_on() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(FetchOutcome.NOT_LEADER, term=Term(1), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == [LeaderHinted(Term(1), N3, N2)]


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [(outcome, outcome.name in ("BATCHES", "DIVERGED", "OUT_OF_RANGE")) for outcome in FetchOutcome],
)
def test_a_leader_has_answered_when_it_answers_as_one(outcome: FetchOutcome, counts: bool) -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.runtime.run_for(3.0)
    stage.network.take(N2).answer(response(outcome, term=Term(1)))
    stage.runtime.run_until_idle()
    assert stage.election.all(LeaderAnswered) == ([LeaderAnswered(Term(1), N2, 3.0)] if counts else [])


def test_an_answer_for_another_term_is_none_of_the_leader() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow(term=3)
    stage.network.take(N2).answer(response(term=Term(2)))
    stage.runtime.run_until_idle()
    assert stage.election.all(LeaderAnswered) == []


def test_a_leader_hears_which_voters_have_fetched_from_which_disk_and_how_far_they_are() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.runtime.run_for(2.0)
    stage.fetch(1, N2, 1, log_epoch=9)
    assert stage.election.all(VoterFetched) == [VoterFetched(N2, 9, Index(1), 2.0)]
    assert stage.election.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]
    stage.fetch(2, NodeId("n9"), 1)  # no voter
    stage.fetch(3, N3, 1, term=Term(7))  # not of this term
    stage.fetch(4, N3, 5)  # a log that does not fit
    assert len(stage.election.all(VoterFetched)) == 1


def test_a_late_fetch_of_a_disk_that_was_replaced_counts_for_nothing() -> None:
    commit = LeaderCommit(Term(1), (N1, N2, N3))
    assert commit.fetched(N2, 5, Index(10))
    assert commit.fetched(N2, 6, Index(0))
    assert not commit.fetched(N2, 5, Index(12))
    assert commit.on_disk[N2] == 0
    assert commit.fetched(N2, 6, Index(1))
    assert commit.fetched(N3, 5, Index(4))


def test_a_wiped_disk_commits_nothing_by_what_its_predecessor_had() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 0, log_epoch=6)
    stage.fetch(2, N2, 0, log_epoch=7)
    stage.fetch(3, N2, 1, log_epoch=6)
    assert stage.server.all(CommitAdvanced) == []
    stage.fetch(4, N2, 1, log_epoch=7)
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]


# ---------------------------------------------------------------- what an occupant hears


def test_an_occupant_is_told_the_news_that_it_hears_and_everything_that_is_none() -> None:
    occupant = Probe()
    news = NewsFilter(occupant, frozenset({CommitAdvanced}))
    claim = ClaimReceived(N2, ElectionClaim("none"))
    for message in (
        LogAppended((at(1),), TermHistory()),
        CommitAdvanced(at(1)),
        LeaderAnswered(Term(1), N2, 0.0),
        claim,
    ):
        news.tell(message)
    assert occupant.received == [CommitAdvanced(at(1)), claim]


def test_what_is_no_news_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="LeaderHinted is no news"):
        NewsFilter(Probe(), frozenset({LeaderHinted}))
