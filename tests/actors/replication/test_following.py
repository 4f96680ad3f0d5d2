"""The replicator of a follower: whom it pulls from, what it cuts, and where it begins anew."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    LogAppended,
    LogStartMoved,
    MemberJoined,
    MemberUpdated,
    NobodyElected,
    VotersChanged,
)
from ourolog.actors.messages.observer import NodeWarned, PullStopped, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallReceived,
    FetchOutcome,
)
from ourolog.actors.messages.store import (
    AppendFetched,
    FetchedAppended,
    FetchedRejected,
    LogTruncated,
    NoteCommitted,
    PullRejected,
    ReadBatches,
    ReadProblem,
    ReadRefused,
    ResetLog,
    TruncateLog,
)
from ourolog.actors.messages.values import Member
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, member, place, response


def test_a_follower_pulls_from_the_leader_and_from_nobody_else() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(MemberJoined(member(N3)))
    stage.follow()
    assert [call.peer.node_id for call in stage.network.open] == [N2]
    request = stage.network.take(N2).request
    assert (request.elected, request.term, request.next_index, request.last) == (True, 1, 0, None)


def test_a_follower_finds_the_leader_where_its_disk_says_until_gossip_knows_better() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(LeaderChanged(Term(1), N2))
    assert stage.network.open == []
    stage.tell(VotersChanged((N1, N2, N3), peer_addrs=("n1:1", "logged:2", "n3:3")))
    assert [(call.peer.node_id, call.peer.addr) for call in stage.network.open] == [(N2, "logged:2")]
    stage.tell(MemberJoined(member(N2)))
    assert stage.network.open[-1].peer.addr == member(N2).peer_addr


def test_a_follower_that_hears_of_the_same_leader_again_goes_on_with_its_fetch() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    (fetch,) = stage.network.open
    stage.tell(LeaderChanged(Term(1), N2, "what was missing is there"))
    assert stage.network.open == [fetch]
    assert stage.observer.all(PullStopped) == []


def test_a_follower_fetches_from_its_own_end_with_its_last_term() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(7), terms=history((1, 0), (3, 5)))
    stage.follow(term=3)
    request = stage.network.take(N2).request
    assert (request.next_index, request.last, request.term) == (7, place(3), 3)


def test_a_follower_learns_the_commit_position_with_what_it_has_on_disk() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"three", committed=at(5, 50), end=at(5, 50)))
    stage.runtime.run_until_idle()
    assert stage.store.last(AppendFetched).batches == b"three"
    assert stage.server.all(CommitAdvanced) == []
    stage.tell(
        LogAppended((at(2, 20), at(3, 30)), history((1, 0))),
        FetchedAppended(N2, Term(1), at(3, 30)),
    )
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(3, 30))]
    request = stage.network.take(N2).request
    assert (request.next_index, request.committed) == (3, 3)


def test_a_follower_with_a_longer_stale_log_truncates_before_it_fetches() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(1), diverged_at=Index(6))
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(TruncateLog).index == 6
    assert stage.network.open == []
    stage.tell(LogTruncated(START, at(6), history((1, 0))))
    request = stage.network.take(N2).request
    assert (request.next_index, request.last) == (6, place(1))


def test_a_follower_asks_nothing_while_its_log_is_cut_though_its_leader_has_another_address() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    diverged = response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(1), diverged_at=Index(6))
    stage.network.take(N2).answer(diverged)
    stage.runtime.run_until_idle()
    stage.tell(MemberUpdated(Member(N2, "127.0.0.1:99", "gossip-n2")))
    assert stage.network.open == []
    stage.tell(LogTruncated(START, at(6), history((1, 0))))
    request = stage.network.take(N2).request
    assert (request.next_index, request.last) == (6, place(1))
    assert len(stage.store.all(TruncateLog)) == 1


def test_when_the_leader_has_nothing_of_the_last_term_there_all_of_that_term_goes() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(2), diverged_at=Index(20))
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(TruncateLog).index == 6


def test_a_follower_never_drops_what_was_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0)), committed=at(8))
    stage.follow(term=2)
    stage.network.take(N2).answer(response(FetchOutcome.DIVERGED, term=Term(2), diverged=None, diverged_at=Index(1)))
    stage.runtime.run_until_idle()
    assert stage.store.all(TruncateLog) + stage.store.all(ResetLog) == []
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.KEEPS_ITS_COPY
    assert "keeps its copy" in warned.reason
    assert "keeps its copy" in stage.status().pulls[0].detail


def test_a_follower_that_retention_has_overtaken_starts_again_at_the_leaders_first_entry() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(FetchOutcome.OUT_OF_RANGE, term=Term(1), start=at(8, 80)))
    stage.runtime.run_until_idle()
    assert stage.store.last(ResetLog).start == at(8, 80)
    stage.tell(LogTruncated(at(8, 80), at(8, 80), TermHistory()))
    assert stage.network.take(N2).request.next_index == 8


def test_a_rejected_append_is_said_and_fetched_again_after_a_pause() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"rotten"))
    stage.runtime.run_until_idle()
    stage.tell(FetchedRejected(N2, Term(1), "the checksum does not hold"))
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.PULL_NOT_APPENDED
    assert "checksum" in warned.reason
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=5)


def test_a_rejected_copy_is_said_and_pulled_again_after_a_pause() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"rotten"))
    stage.runtime.run_until_idle()
    stage.tell(PullRejected(N2, "the checksum does not hold"))
    warned = stage.observer.last(NodeWarned)
    assert (warned.kind, warned.about) == (WarningKind.PULL_NOT_APPENDED, N2)
    assert "checksum" in warned.reason
    assert stage.network.open == []
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=5)
    assert stage.network.take(N2).request.next_index == 0


@pytest.mark.parametrize("outcome", [FetchOutcome.STALE_TERM, FetchOutcome.NOT_LEADER])
def test_a_higher_term_in_an_answer_reaches_the_election(outcome: FetchOutcome) -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(outcome, term=Term(6), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == [HigherTermSeen(Term(6), N3, N2)]


def test_a_follower_answers_a_fetch_with_who_leads() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.fetch(1, N3, 0)
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.leader_id, answer.term) == (FetchOutcome.NOT_LEADER, N2, 1)


def test_the_commit_position_is_noted_for_the_next_start() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), committed=at(2)))
    stage.runtime.run_for(1.1)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2))]
    stage.runtime.run_for(3.0)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2))]
    stage.network.take(N2).answer(response(term=Term(1), committed=at(3)))
    stage.runtime.run_for(1.1)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2)), NoteCommitted(at(3))]


# ---------------------------------------------------------------- a log that was begun anew


RESET = history((1, 39))
"""Of a log that begins at index 40, behind an entry of term 1."""


def test_a_log_that_was_begun_anew_knows_what_stood_before_it_and_that_it_was_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    out_of_range = response(
        FetchOutcome.OUT_OF_RANGE,
        term=Term(1),
        start=at(40, 400),
        before_start=place(1),
        producers_before_start=b"memory",
    )
    stage.network.take(N2).answer(out_of_range)
    stage.runtime.run_until_idle()
    reset = stage.store.last(ResetLog)
    assert (reset.before, reset.producers) == (place(1), b"memory")
    stage.tell(LogTruncated(at(40, 400), at(40, 400), RESET))
    assert stage.server.received == [LogStartMoved(at(40, 400)), CommitAdvanced(at(40, 400))]
    request = stage.network.take(N2).request
    assert (request.next_index, request.last, request.committed) == (40, place(1), 40)


@pytest.mark.parametrize("leaders_start", [0, 39, 40, 60])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_follower_that_begins_anywhere_follows_a_leader_that_begins_anywhere(
    leaders_start: int, is_empty: bool
) -> None:
    leader = Stage(N1, election=STATIC)
    terms = history((1, 0), (4, 80))
    leader.open(start=at(leaders_start), end=at(80), terms=history((1, 0)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1), LogAppended((at(81),), terms))
    follower = Stage(N2, election=STATIC)
    end = 40 if is_empty else 50
    follower.open(start=at(40), end=at(end), terms=RESET, committed=at(40))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    answer = leader.answer_to(1)
    if leaders_start <= end:
        assert answer is None
        assert leader.store.last(ReadBatches).index == end
    else:
        assert answer is not None
        fetch.answer(answer)
        follower.runtime.run_until_idle()
        assert follower.store.last(ResetLog).start == at(leaders_start)
    assert follower.observer.all(NodeWarned) == [] or leaders_start > end


def test_an_empty_log_that_does_not_know_what_stood_before_it_is_served() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(80), terms=history((1, 0)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    stage.fetch(1, N2, 40, term=Term(4), last=None)
    assert stage.store.last(ReadBatches).index == 40


def test_a_leader_that_does_not_know_what_stood_before_its_start_lets_others_begin_there() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    leader.fetch(1, N2, 40, term=Term(4), last=place(1))
    answer = leader.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.before_start) == (FetchOutcome.OUT_OF_RANGE, None)


def test_who_has_all_as_committed_up_to_the_leaders_start_is_served_whatever_the_leader_knows_of_before() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(40))
    follower.follow(term=4, leader=N1)
    leader.tell(CallReceived(1, follower.network.take(N1).request, leader.edge))
    assert leader.answer_to(1) is None
    assert leader.store.last(ReadBatches).index == 40


def test_who_stands_at_the_leaders_start_and_cannot_be_compared_is_told_why_it_begins_anew() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(39))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    answer = leader.answer_to(1)
    assert answer is not None
    fetch.answer(answer)
    follower.runtime.run_until_idle()
    assert follower.store.last(ResetLog).start == at(40)
    warned = follower.observer.last(NodeWarned)
    assert warned.kind is WarningKind.LOG_BEGUN_ANEW
    reason = warned.reason
    assert "n1 no longer knows which entry stood before its first one" in reason
    assert "n2 drops its entries [0, 40)" in reason


def test_a_read_that_retention_overtook_brings_nothing_and_the_next_fetch_is_told_where_the_log_begins() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((1, 0)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(40))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    leader.tell(LogStartMoved(at(60)))
    leader.store.last(ReadBatches).reply_to.tell(ReadRefused(0, ReadProblem.OUT_OF_RANGE, "", at(60), at(80)))
    leader.runtime.run_until_idle()
    answer = leader.answer_to(1)
    assert answer is not None
    fetch.answer(answer)
    follower.runtime.run_until_idle()
    assert follower.store.all(ResetLog) == []
    leader.tell(CallReceived(2, follower.network.take(N1).request, leader.edge))
    told = leader.answer_to(2)
    assert told is not None
    assert (told.outcome, told.start) == (FetchOutcome.OUT_OF_RANGE, at(60))


def test_a_copy_that_begins_above_all_that_a_leader_has_is_kept() -> None:
    stage = Stage(election=STATIC)
    stage.open(start=at(40), end=at(40), terms=RESET, committed=at(40))
    stage.follow()
    diverged = response(FetchOutcome.DIVERGED, term=Term(1), diverged=place(1), diverged_at=Index(10), end=at(10))
    stage.network.take(N2).answer(diverged)
    stage.runtime.run_until_idle()
    assert stage.store.all(ResetLog) == []
    assert stage.observer.last(NodeWarned).kind is WarningKind.KEEPS_ITS_COPY
