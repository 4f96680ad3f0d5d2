"""While its log is busy, a follower calls its leader by fetches that want no batches."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import HigherTermSeen, LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, MemberJoined, NobodyElected
from ourolog.actors.messages.peer_calls import FetchOutcome, FetchRequest
from ourolog.actors.messages.store import FetchedAppended, LogTruncated, ResetLog, TruncateLog
from ourolog.actors.testing.testkit import OpenCall
from ourolog.storage.types import START, Index, Term
from tests.replicator_stage import N2, N3, STATIC, Stage, at, history, member, place, response

APPENDED = FetchedAppended(N2, Term(1), at(9))


def appending(**config: object) -> Stage:
    """n1, which follows n2 in term 1 with a log up to index 5, and whose store has just been told to append more."""
    stage = Stage(election=STATIC, **config)
    stage.open(at(5), history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"more", end=at(9), committed=at(4)))
    stage.runtime.run_until_idle()
    return stage


def sent(stage: Stage) -> list[FetchRequest]:
    return [call.request for call in stage.network.open]


def keep_alive(stage: Stage) -> OpenCall:
    """The one open call, which is a keep-alive; it is then no longer open."""
    (request,) = sent(stage)
    assert (request.max_bytes, request.max_wait_s) == (0, 0.0)
    return stage.network.take(N2)


def test_nothing_is_sent_while_the_log_is_busy_for_a_short_time() -> None:
    stage = appending()
    stage.runtime.run_for(0.24)
    assert sent(stage) == []
    stage.tell(APPENDED)
    stage.runtime.run_for(0.24)
    assert [request.max_bytes > 0 for request in sent(stage)] == [True]
    stage.runtime.run_for(5.0)
    assert len(sent(stage)) == 1


def test_while_an_append_takes_long_the_leader_is_called_every_quarter_of_the_election_timeout() -> None:
    stage = appending(election_timeout_s=2.0)
    for number in range(1, 5):
        stage.runtime.run_for(0.49)
        assert sent(stage) == []
        stage.runtime.run_for(0.01)
        call = keep_alive(stage)
        assert (call.request.term, call.request.next_index, call.request.last) == (1, 5, place(1))
        assert call.request.committed == (0 if number == 1 else 5)  # no more than it has
        assert call.request.read_round == number - 1
        call.answer(response(term=Term(1), end=at(9), committed=at(4 + number), read_round=number))
        stage.runtime.run_until_idle()
    stage.tell(LogAppended((at(9),), history((1, 0))), APPENDED)
    (request,) = sent(stage)
    assert (request.max_bytes > 0, request.next_index, request.read_round) == (True, 9, 4)


def test_what_a_keep_alive_brings_is_as_good_as_from_any_fetch() -> None:
    stage = appending()
    stage.runtime.run_for(0.25)
    stage.election.take()
    keep_alive(stage).answer(response(term=Term(1), end=at(12), committed=at(11)))
    stage.runtime.run_until_idle()
    assert stage.election.all(LeaderAnswered) == [LeaderAnswered(Term(1), N2, 0.25)]
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(5))]
    assert stage.status().pulls[0].lag == 7
    stage.tell(LogAppended((at(9),), history((1, 0))), APPENDED)
    assert stage.server.all(CommitAdvanced)[-1] == CommitAdvanced(at(9))


@pytest.mark.parametrize("outcome", [FetchOutcome.NOT_LEADER, FetchOutcome.STALE_TERM, FetchOutcome.REFUSED])
def test_what_else_the_leader_says_the_next_fetch_hears_again(outcome: FetchOutcome) -> None:
    stage = appending()
    stage.runtime.run_for(0.25)
    stage.election.take()
    keep_alive(stage).answer(response(outcome, term=Term(2), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == [HigherTermSeen(Term(2), N3, N2)]
    stage.runtime.run_for(0.25)
    keep_alive(stage)
    stage.tell(APPENDED)
    assert [request.max_bytes > 0 for request in sent(stage)] == [True]


def test_a_keep_alive_without_an_answer_is_the_only_one_and_does_not_hold_up_the_next_fetch() -> None:
    stage = appending()
    stage.runtime.run_for(2.0)
    late = keep_alive(stage)
    stage.tell(LogAppended((at(9),), history((1, 0))), APPENDED)
    assert [request.next_index for request in sent(stage)] == [9]
    stage.network.take(N2).answer(response(term=Term(1), batches=b"more", end=at(12)))
    stage.runtime.run_for(2.0)
    assert sent(stage) == []
    late.answer(response(term=Term(1), end=at(12)))
    stage.runtime.run_for(0.25)
    assert keep_alive(stage).request.next_index == 9


def test_a_keep_alive_that_broke_is_sent_again_at_once_but_once_only() -> None:
    stage = appending()
    stage.runtime.run_for(0.25)
    keep_alive(stage).fail()
    stage.runtime.run_until_idle()
    keep_alive(stage).fail()
    stage.runtime.run_until_idle()
    assert sent(stage) == []
    stage.runtime.run_for(0.25)
    keep_alive(stage).fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert stage.election.all(LeaderUnreachable) == [LeaderUnreachable(Term(1), N2)]
    stage.tell(APPENDED)
    stage.network.take(N2).fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert len(stage.election.all(LeaderUnreachable)) == 1


@pytest.mark.parametrize(
    ("answer", "work"),
    [
        (response(FetchOutcome.DIVERGED, term=Term(1), diverged=place(1), diverged_at=Index(3)), TruncateLog),
        (response(FetchOutcome.OUT_OF_RANGE, term=Term(1), start=at(8), end=at(9)), ResetLog),
    ],
)
def test_while_a_cut_takes_long_the_leader_is_called_too_and_nothing_is_committed_by_its_answer(
    answer: object, work: type
) -> None:
    stage = Stage(election=STATIC)
    stage.open(at(5), history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(answer)
    stage.runtime.run_until_idle()
    assert stage.store.all(work)
    for _ in range(2):
        stage.runtime.run_for(0.25)
        call = keep_alive(stage)
        assert call.request.next_index == 5
        call.answer(response(term=Term(1), end=at(9), committed=at(9)))
        stage.runtime.run_until_idle()
    assert stage.server.all(CommitAdvanced) == []
    stage.tell(LogTruncated(START, at(3), history((1, 0)), None))
    (request,) = sent(stage)
    assert (request.max_bytes > 0, request.next_index) == (True, 3)


def test_a_pull_that_begins_while_an_old_append_is_under_way_lets_its_leader_know() -> None:
    stage = appending()
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N2))
    assert sent(stage) == []
    stage.runtime.run_for(0.25)
    assert keep_alive(stage).request.term == 2
    stage.tell(LeaderChanged(Term(3), N3))
    assert [request.max_bytes > 0 for request in sent(stage)] == [True]
    stage.runtime.run_for(1.0)
    assert len(sent(stage)) == 1


def test_a_pull_that_has_ended_sends_no_keep_alives_and_hears_of_none() -> None:
    stage = appending()
    stage.runtime.run_for(0.25)
    late = keep_alive(stage)
    stage.tell(LeaderChanged(Term(2), None))
    stage.election.take()
    late.answer(response(FetchOutcome.NOT_LEADER, term=Term(7)))
    late.fail(is_refused=True)
    stage.runtime.run_for(5.0)
    assert stage.election.received == []
    assert [request.term for request in sent(stage)] == [2]  # it asks who leads


def test_with_nobody_elected_nobody_needs_keep_alives() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"some"))
    stage.runtime.run_for(10.0)
    assert sent(stage) == []


# ---------------------------------------------------------------- answers of the leader, as news


def test_an_election_is_told_of_the_first_answer_and_then_ten_times_a_timeout_at_most() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    for _ in range(100):
        stage.network.take(N2).answer(response(term=Term(1)))
        stage.runtime.run_for(0.01)
    told_s = [answered.at_s for answered in stage.election.all(LeaderAnswered)]
    assert told_s[0] == 0.0
    assert 9 <= len(told_s) <= 10
    stage.tell(LeaderChanged(Term(2), N2))
    stage.network.take(N2)
    stage.network.take(N2).answer(response(term=Term(2)))
    stage.runtime.run_until_idle()
    assert stage.election.all(LeaderAnswered)[-1].term == 2
