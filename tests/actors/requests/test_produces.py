"""Produces on their way to the log: merged, limited, refused, and given up by their clients."""

from __future__ import annotations

import sys
import weakref

import pytest

from ourolog.actors.messages.events import CommitAdvanced, CommitKnown, LeaderChanged, NobodyElected, ReleaseProduces
from ourolog.actors.messages.server import CancelRequest, Produce, Produced, Refusal, RequestRefused
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended
from ourolog.actors.messages.values import Acks
from ourolog.actors.requests.produces import (
    GATHERED_BYTES,
    MAX_ENTRIES_UNDER_WAY,
    MAX_UNWRITTEN_BYTES,
    MERGED_MAX_BYTES,
)
from ourolog.actors.server import GATHERS_AT_MOST_S
from ourolog.storage.batch import Codec, NewBatch
from ourolog.storage.types import Index, Offset, Term
from tests.actors.server_stage import N1, N2, Stage, at, numbered


def test_produces_that_wait_together_become_one_batch_with_consecutive_offsets() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), (2, b"b"), (3, b"c"), acks=Acks.LEADER)
    (append,) = stage.store.all(AppendBatch)
    assert append.batch == NewBatch(b"abc", 3)
    stage.appended(7, 4)
    assert stage.client.received == [Produced(i, Offset(6 + i), Term(1), Index(4), (N1,)) for i in (1, 2, 3)]


def test_a_compressed_or_numbered_batch_is_never_merged() -> None:
    stage = Stage()
    stage.lead()
    plain, packed = NewBatch(b"a", 1), NewBatch(b"zz", 5, codec=Codec.ZSTD)
    batches = (plain, packed, numbered(0), numbered(1), plain)
    stage.tell(*(Produce(i, batch, Acks.QUORUM, 5.0, stage.client) for i, batch in enumerate(batches)))
    assert tuple(append.batch for append in stage.store.all(AppendBatch)) == batches


def test_a_merged_batch_stays_small() -> None:
    stage = Stage()
    stage.lead()
    half = b"x" * (MERGED_MAX_BYTES // 2 + 1)
    stage.produce((1, half), (2, half), (3, b"y"))
    assert [append.batch.record_count for append in stage.store.all(AppendBatch)] == [1, 2]


def test_a_leader_that_loses_the_lead_refuses_what_waits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.appended(0, 1)
    stage.produce((2, b"b"))
    stage.runtime.run_for(GATHERS_AT_MOST_S)
    stage.tell(LeaderChanged(Term(2), N2))
    refused = stage.client.all(RequestRefused)
    assert [(refusal.request_id, refusal.refusal) for refusal in refused] == [
        (1, Refusal.DEPOSED),
        (2, Refusal.DEPOSED),
    ]
    stage.appended(1, 2)
    assert stage.client.all(Produced) == []


def test_an_append_that_the_store_refused_is_refused_for_certain() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(AppendRefused(stage.store.last(AppendBatch).request_id, Term(2), "term 1 is over"))
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.DEPOSED, False)


def test_a_cancelled_produce_is_not_answered() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(CancelRequest(1, stage.client))
    stage.appended(0, 1)
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.received == []


def test_a_produce_that_is_cancelled_in_time_is_never_appended() -> None:
    stage = Stage()
    stage.lead()
    batch = NewBatch(b"a", 1)
    stage.tell(Produce(1, batch, Acks.LEADER, 5.0, stage.client))
    stage.store.take()
    stage.ref.tell(Produce(2, batch, Acks.LEADER, 5.0, stage.client))
    stage.ref.tell(CancelRequest(2, stage.client))
    stage.runtime.run_until_idle()
    assert stage.store.all(AppendBatch) == []


def under_way(entries: int) -> Stage:
    """A leader with so many entries on this disk that nobody else has, each of one record."""
    stage = Stage()
    stage.lead()
    for number in range(entries):
        stage.produce((number, b"v"))
        stage.appended(number, 1 + number)
    stage.store.take()
    return stage


def test_a_produce_with_nothing_before_it_is_appended_at_once() -> None:
    for entries in range(MAX_ENTRIES_UNDER_WAY):
        stage = under_way(entries)
        stage.produce((10, b"a"))
        assert [append.batch.payload for append in stage.store.all(AppendBatch)] == [b"a"]


def test_produces_gather_behind_others_until_those_are_committed_and_make_one_batch() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    for number in range(3):
        stage.produce((10 + number, b"abc"[number : number + 1]))
    assert not stage.store.all(AppendBatch)
    stage.tell(CommitAdvanced(at(2, 1)))
    assert [append.batch.payload for append in stage.store.all(AppendBatch)] == [b"abc"]
    stage.runtime.run_for(10 * GATHERS_AT_MOST_S)
    assert len(stage.store.all(AppendBatch)) == 1


def test_produces_gather_behind_what_the_disk_has_not_taken_yet() -> None:
    stage = Stage()
    stage.lead()
    for number in range(MAX_ENTRIES_UNDER_WAY):
        stage.produce((number, b"v"))
    stage.produce((10, b"a"))
    stage.produce((11, b"b"))
    first, *others = stage.store.all(AppendBatch)
    assert len(others) == MAX_ENTRIES_UNDER_WAY - 1
    stage.tell(AppendRefused(first.request_id, Term(1), "refused"))
    assert stage.store.last(AppendBatch).batch.payload == b"ab"


def test_a_produce_waits_for_company_only_so_long_though_nothing_is_committed() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.produce((10, b"a"))
    stage.runtime.run_for(0.9 * GATHERS_AT_MOST_S)
    assert not stage.store.all(AppendBatch)
    stage.produce((11, b"b"))
    stage.runtime.run_for(0.1 * GATHERS_AT_MOST_S)
    assert [append.batch.payload for append in stage.store.all(AppendBatch)] == [b"ab"]
    stage.produce((12, b"c"))
    stage.runtime.run_for(GATHERS_AT_MOST_S)
    assert stage.store.last(AppendBatch).batch.payload == b"c"


def test_when_much_has_gathered_it_waits_for_nothing() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.produce((10, bytes(GATHERED_BYTES // 2)))
    assert not stage.store.all(AppendBatch)
    stage.produce((11, bytes(GATHERED_BYTES // 2)))
    assert [len(append.batch.payload) for append in stage.store.all(AppendBatch)] == [GATHERED_BYTES]
    stage.produce((12, bytes(GATHERED_BYTES)))
    assert len(stage.store.all(AppendBatch)) == 2


def test_what_was_committed_before_the_server_heard_of_it_is_not_waited_for() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    append = stage.store.last(AppendBatch)
    stage.tell(CommitAdvanced(at(2, 1)), BatchAppended(append.request_id, Offset(0), Index(1), Term(1), at(2, 1)))
    stage.produce((2, b"b"))
    assert stage.store.last(AppendBatch).batch.payload == b"b"


def test_an_entry_that_stands_where_the_committed_part_ends_is_waited_for() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.tell(CommitAdvanced(at(1, 0)))
    stage.produce((10, b"a"))
    assert not stage.store.all(AppendBatch)


def test_when_much_has_gone_what_comes_next_gathers_anew() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.produce((10, bytes(GATHERED_BYTES)))
    assert len(stage.store.all(AppendBatch)) == 1
    stage.produce((11, b"a"))
    assert len(stage.store.all(AppendBatch)) == 1


def test_where_nobody_is_elected_what_gathers_goes_when_the_disk_has_what_was_before_it() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected())
    for number in range(MAX_ENTRIES_UNDER_WAY):
        stage.produce((number, b"v"))
    appends = stage.store.all(AppendBatch)
    stage.produce((10, b"a"))
    assert len(stage.store.all(AppendBatch)) == len(appends)
    stage.tell(BatchAppended(appends[0].request_id, Offset(0), Index(0), Term(0), at(1, 1)))
    assert stage.store.last(AppendBatch).batch.payload == b"a"


def test_much_that_was_held_and_is_let_go_waits_for_nothing() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.hand_over()
    stage.produce((10, bytes(GATHERED_BYTES)))
    assert not stage.store.all(AppendBatch)
    stage.tell(ReleaseProduces())
    assert [len(append.batch.payload) for append in stage.store.all(AppendBatch)] == [GATHERED_BYTES]


def test_what_gathers_when_the_lead_is_lost_is_held_and_appended_in_the_next() -> None:
    stage = under_way(MAX_ENTRIES_UNDER_WAY)
    stage.produce((10, b"a"))
    stage.tell(LeaderChanged(Term(2), None))
    stage.runtime.run_for(10 * GATHERS_AT_MOST_S)
    assert not stage.store.all(AppendBatch)
    stage.tell(LeaderChanged(Term(3), N1), CommitKnown(Term(3)))
    assert [(append.batch.payload, append.term) for append in stage.store.all(AppendBatch)] == [(b"a", 3)]


@pytest.mark.parametrize("limit", [{"max_uncommitted_entries": 3}, {"max_uncommitted_bytes": 3 * (5 + 1024)}])
def test_a_leader_without_a_quorum_takes_only_so_much(limit: dict[str, int]) -> None:
    stage = Stage(**limit)
    stage.lead()
    for number in range(4):
        stage.produce((number, b"value"))
        stage.runtime.run_for(GATHERS_AT_MOST_S)
        if number < 3:
            stage.appended(number, 1 + number)
    assert (stage.refused().request_id, stage.refused().refusal) == (3, Refusal.OVERLOADED)
    assert "wait for a majority" in stage.refused().detail
    stage.tell(CommitAdvanced(at(3, 2)))
    stage.produce((4, b"value"))
    stage.runtime.run_for(GATHERS_AT_MOST_S)
    assert len(stage.store.all(AppendBatch)) == 4


@pytest.mark.parametrize("limit", [{"max_uncommitted_entries": 3}, {"max_uncommitted_bytes": 3 * (5 + 1024)}])
def test_what_is_on_its_way_to_the_disk_counts_towards_what_a_leader_takes(limit: dict[str, int]) -> None:
    stage = Stage(**limit)
    stage.lead()
    for number in range(5):
        stage.produce((number, b"value"))
    assert [refused.request_id for refused in stage.client.all(RequestRefused)] == [3, 4]


def test_what_an_old_leader_had_under_way_does_not_fill_its_next_lead() -> None:
    stage = Stage(max_uncommitted_entries=2)
    stage.lead()
    stage.produce((1, b"lost"))
    stage.tell(LeaderChanged(Term(2), N2))
    stage.appended(9, 9)
    # Its end is cut, it leads again, and gives out lower places once more.
    stage.tell(LeaderChanged(Term(3), N1), CommitKnown(Term(3)))
    for number in range(2, 5):
        stage.produce((number, b"value"))
        append = stage.store.last(AppendBatch)
        stage.tell(BatchAppended(append.request_id, Offset(number), Index(number), Term(3), at(number + 1, number + 1)))
        stage.tell(CommitAdvanced(at(number + 1, number + 1)))
    assert len(stage.store.all(AppendBatch)) == 4


def test_produces_that_were_given_up_are_not_kept_until_something_commits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"patient"))
    stage.appended(0, 1)
    gone = [weakref.ref(client) for client in stage.give_up(20)]
    stage.store.take()
    assert [client() for client in gone if client() is not None] == []


def test_what_a_disk_that_stands_still_has_not_written_is_bounded_though_its_clients_gave_up() -> None:
    stage = Stage()
    stage.lead()
    payload = bytes(1 << 20)
    for request_id in range(100):
        stage.produce((request_id, payload))
        stage.tell(CancelRequest(request_id, stage.client))
    waiting = stage.store.all(AppendBatch)
    assert sum(len(append.batch.payload) for append in waiting) <= MAX_UNWRITTEN_BYTES
    assert stage.refused().refusal is Refusal.OVERLOADED
    assert not stage.refused().outcome_unknown
    for append in waiting:
        stage.tell(BatchAppended(append.request_id, Offset(0), Index(1), Term(1), at(2, 1)))
    stage.store.take()
    stage.produce((1000, payload))
    assert len(stage.store.all(AppendBatch)) == 1


def test_the_outcome_is_unknown_from_the_moment_the_store_was_told_and_not_before() -> None:
    stage = Stage()
    stage.lead()
    batch = NewBatch(b"a", 1)
    stage.produce((1, b"in the store"))
    # Still in the inbox when the lead is lost: the store never hears of it.
    stage.ref.tell(Produce(2, batch, Acks.QUORUM, 5.0, stage.client))
    stage.tell(LeaderChanged(Term(2), N2))
    outcomes = {refused.request_id: refused.outcome_unknown for refused in stage.client.all(RequestRefused)}
    assert outcomes == {1: True, 2: False}
    assert stage.refusals() == {1: Refusal.DEPOSED, 2: Refusal.NOT_LEADER}
    assert len(stage.store.all(AppendBatch)) == 1


def test_a_produce_that_waits_for_other_disks_does_not_keep_its_payload() -> None:
    stage = Stage()
    stage.lead()
    payload = bytes(1000)
    mine = sys.getrefcount(payload)
    stage.produce((1, payload))
    assert sys.getrefcount(payload) > mine
    stage.appended(0, 1)
    stage.store.take()
    assert sys.getrefcount(payload) == mine
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.last(Produced).base_offset == 0
