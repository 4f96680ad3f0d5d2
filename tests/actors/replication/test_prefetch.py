"""A follower asks on while its disk is busy: what it asks for, what it claims, and how much it takes at once."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, MemberJoined
from ourolog.actors.messages.peer_calls import FetchOutcome, FetchRequest
from ourolog.actors.messages.store import (
    AppendFetched,
    FetchedAppended,
    FetchedRejected,
    FetchedTaken,
    LogTruncated,
    TruncateLog,
)
from ourolog.actors.replication.pulls import ASKS_ON_FROM_BYTES
from ourolog.actors.testing.testkit import OpenCall
from ourolog.storage.types import START, Term
from tests.replicator_stage import N2, N3, STATIC, Stage, at, history, member, place, response


def follower() -> Stage:
    """n1 follows n2 in term 1, and its log ends at index 5."""
    stage = Stage(election=STATIC)
    stage.open(at(5), history((1, 0)))
    stage.follow()
    return stage


def sent(stage: Stage) -> list[FetchRequest]:
    """What is open, those that want batches first."""
    return sorted((call.request for call in stage.network.open), key=lambda request: -request.max_bytes)


def come(stage: Stage, end: int, batches: bytes = b"more", committed: int = 0) -> None:
    """The leader answers the fetch that is open; its log ends there."""
    call = next(call for call in stage.network.open if call.request.max_bytes)
    stage.network.open.remove(call)
    call.answer(response(term=Term(1), batches=batches, end=at(end), committed=at(committed)))
    stage.runtime.run_until_idle()


def taken(stage: Stage, end: int, term: int = 1) -> None:
    stage.tell(FetchedTaken(N2, Term(term), at(end), place(1)))


def written(stage: Stage, end: int) -> None:
    stage.tell(LogAppended((at(end),), history((1, 0))), FetchedAppended(N2, Term(1), at(end)))


def told_of_the_disk() -> tuple[Stage, OpenCall]:
    """What has come waits for the store, so it asks for no more, and tells in a call of its own that it has up to 7."""
    stage = follower()
    come(stage, 20)
    taken(stage, 7)
    come(stage, 20)
    written(stage, 7)
    return stage, next(call for call in stage.network.open if not call.request.max_bytes)


def test_once_the_store_has_taken_what_came_the_next_fetch_goes_and_claims_only_what_is_on_disk() -> None:
    stage = follower()
    come(stage, 9)
    assert stage.store.last(AppendFetched).expected == 9
    assert sent(stage) == []
    taken(stage, 7)
    (request,) = sent(stage)
    assert (request.next_index, request.last, request.disk_index) == (7, place(1), 5)


def test_what_is_large_is_followed_up_though_the_leader_had_no_more() -> None:
    stage = follower()
    come(stage, 9, b"x" * ASKS_ON_FROM_BYTES)
    assert stage.store.last(AppendFetched).expected == 10


def test_of_one_record_at_a_time_the_next_fetch_tells_all() -> None:
    stage = follower()
    come(stage, 6)
    written(stage, 6)
    (request,) = sent(stage)
    assert (request.next_index, request.disk_index, request.max_bytes > 0) == (6, 6, True)


def test_while_the_next_fetch_waits_what_is_on_disk_is_told_apart() -> None:
    stage = follower()
    come(stage, 9)
    taken(stage, 7)
    written(stage, 7)
    waiting, told = sent(stage)
    assert (waiting.next_index, waiting.disk_index) == (7, 5)
    assert (told.next_index, told.disk_index, told.max_bytes, told.max_wait_s) == (7, 7, 0, 0.0)
    come(stage, 7, b"")
    assert [request.max_bytes > 0 for request in sent(stage)] == [True, False]


def test_no_more_than_two_unwritten_answers_are_with_the_store_and_no_fetch_is_under_way_then() -> None:
    stage = follower()
    come(stage, 20)
    taken(stage, 7)
    come(stage, 20)
    assert sent(stage) == []
    assert len(stage.store.all(AppendFetched)) == 2
    written(stage, 7)
    assert all(not request.max_bytes for request in sent(stage)), "the disk is told apart"
    taken(stage, 9)
    assert (sent(stage)[0].next_index, sent(stage)[0].disk_index) == (9, 7)


def test_what_the_store_has_written_and_not_synced_keeps_nothing_back() -> None:
    stage = follower()
    for end in (7, 9, 11, 13):
        come(stage, 20)
        taken(stage, end)
        (request,) = sent(stage)
        assert (request.next_index, request.disk_index) == (end, 5)
    written(stage, 13)
    assert [(request.max_bytes > 0, request.disk_index) for request in sent(stage)] == [(True, 5), (False, 13)]


def test_what_waits_untaken_is_not_asked_beyond_and_the_disk_is_told() -> None:
    stage, _ = told_of_the_disk()
    (request,) = sent(stage)
    assert (request.max_bytes, request.disk_index) == (0, 7)


def test_more_on_disk_by_the_time_that_was_told_is_told_after_it() -> None:
    stage, told = told_of_the_disk()
    taken(stage, 9)
    written(stage, 9)
    assert sum(not request.max_bytes for request in sent(stage)) == 1
    stage.network.open.remove(told)
    told.answer(response(term=Term(1), end=at(20), committed=at(8)))
    stage.runtime.run_until_idle()
    assert sent(stage)[-1].disk_index == 9
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(8))


def test_a_commit_that_comes_early_goes_no_further_than_the_disk() -> None:
    stage = follower()
    come(stage, 9, committed=9)
    taken(stage, 7)
    come(stage, 9, b"", committed=9)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(5))
    written(stage, 7)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(7))


@pytest.mark.parametrize("outcome", [FetchOutcome.DIVERGED, FetchOutcome.OUT_OF_RANGE])
def test_a_log_that_is_being_written_is_not_cut(outcome: FetchOutcome) -> None:
    stage = follower()
    come(stage, 9)
    taken(stage, 7)
    stage.network.take(N2).answer(response(outcome, term=Term(1), end=at(4), diverged=place(1), diverged_at=4))
    stage.runtime.run_until_idle()
    assert stage.store.all(TruncateLog) == []
    assert sent(stage) == []
    written(stage, 7)
    assert [request.next_index for request in sent(stage)] == [7]


def test_what_follows_a_rejected_append_is_asked_for_from_the_disk() -> None:
    stage = follower()
    come(stage, 20)
    taken(stage, 7)
    come(stage, 20)
    stage.tell(FetchedRejected(N2, Term(1), "damaged"))
    stage.runtime.run_for(2.0)
    assert all(not request.max_bytes for request in sent(stage)), "the first answer is still written"
    written(stage, 7)
    stage.runtime.run_for(2.0)
    assert (sent(stage)[0].next_index, sent(stage)[0].disk_index) == (7, 7)


def test_with_another_leader_nothing_is_left_of_it() -> None:
    stage = follower()
    come(stage, 9)
    taken(stage, 7)
    old = stage.network.take(N2)
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    (request,) = sent(stage)
    assert (request.term, request.next_index, request.disk_index) == (2, 5, 5)
    old.answer(response(term=Term(1), batches=b"late", end=at(9)))
    taken(stage, 8)
    stage.runtime.run_until_idle()
    assert len(stage.store.all(AppendFetched)) == 1
    assert len(sent(stage)) == 1


def test_what_stands_before_the_next_entry_may_be_of_a_later_term_than_what_is_on_disk() -> None:
    stage = follower()
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    stage.network.take(N3).answer(response(term=Term(2), batches=b"more", end=at(9)))
    stage.runtime.run_until_idle()
    stage.tell(FetchedTaken(N3, Term(2), at(7), place(2)))
    request = next(request for request in sent(stage) if request.term == 2)
    assert (request.next_index, request.last) == (7, place(2))


def test_after_a_cut_nothing_is_asked_for_beyond_what_is_left() -> None:
    stage = follower()
    come(stage, 9)
    taken(stage, 7)
    written(stage, 7)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(1), end=at(9), diverged=place(1), diverged_at=6)
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(TruncateLog).index == 6
    stage.tell(LogTruncated(START, at(6), history((1, 0))))
    assert [request.next_index for request in sent(stage) if request.max_bytes] == [6]


def test_a_follower_that_writes_for_long_behind_a_log_that_has_parted_lets_its_leader_know() -> None:
    stage = follower()
    come(stage, 9)
    taken(stage, 7)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(1), end=at(4), diverged=place(1), diverged_at=4)
    )
    stage.runtime.run_for(0.25)
    assert [(request.max_bytes, request.disk_index) for request in sent(stage)] == [(0, 5)]


def test_what_is_on_disk_is_told_again_when_nobody_heard_of_it() -> None:
    stage, told = told_of_the_disk()
    taken(stage, 9)
    written(stage, 9)
    stage.network.open.remove(told)
    told.fail()
    stage.runtime.run_until_idle()
    assert sorted(request.disk_index for request in sent(stage)) == [7, 9]
