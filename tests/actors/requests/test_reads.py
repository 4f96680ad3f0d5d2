"""Reads: what is committed, those that wait at the end, and those of the latest state."""

from __future__ import annotations

from ourolog.actors.messages.events import CommitAdvanced, CommitKnown, LeaderChanged, LogStartMoved, NobodyElected
from ourolog.actors.messages.observer import NodeNotReady, NodeReady
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.server import CancelRequest, Consume, Produced, Refusal, RequestRefused
from ourolog.actors.messages.store import ReadBatches
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.types import Offset, Term
from tests.actors.server_stage import N1, N2, Stage, at


def test_only_what_is_committed_is_read() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)))
    stage.tell(Consume(1, Offset(29), 1000, False, stage.client))
    read = stage.store.last(ReadBatches)
    assert (read.offset, read.until, read.max_bytes, read.reply_to) == (29, 3, 1000, stage.client)
    stage.tell(Consume(2, Offset(30), 1000, False, stage.client))
    refused = stage.refused()
    assert (refused.refusal, refused.first, refused.end) == (Refusal.OUT_OF_RANGE, 0, 30)


def test_below_the_first_offset_even_one_who_would_wait_is_refused() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)), LogStartMoved(at(2, 20)))
    stage.tell(Consume(1, Offset(19), 1000, True, stage.client))
    assert (stage.refused().refusal, stage.refused().first) == (Refusal.OUT_OF_RANGE, 20)


def test_a_leader_claims_no_end_before_an_entry_of_its_own_term_is_committed() -> None:
    """Raft section 8: what its predecessor acknowledged may lie beyond what it knows to be committed."""
    stage = Stage()
    stage.open(end=at(9, 90), committed=at(3, 30), start=at(1, 10))
    stage.tell(LeaderChanged(Term(2), N1))
    assert "does not know how far" in stage.observer.last(NodeNotReady).reason
    assert stage.observer.all(NodeReady) == []
    stage.tell(Consume(1, Offset(29), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).request_id == 1
    for request_id, offset in ((2, 30), (3, 95), (4, 5)):
        stage.tell(Consume(request_id, Offset(offset), 1000, False, stage.client))
        assert stage.refused().refusal is Refusal.COMMIT_UNKNOWN
    stage.tell(Consume(5, Offset(30), 1000, True, stage.client), Consume(6, Offset(5), 1000, True, stage.client))
    assert [refused.request_id for refused in stage.client.all(RequestRefused)] == [2, 3, 4]
    stage.tell(CommitAdvanced(at(10, 90)), CommitKnown(Term(2)))
    assert stage.store.last(ReadBatches).request_id == 5
    assert (stage.refused().request_id, stage.refused().refusal) == (6, Refusal.OUT_OF_RANGE)
    assert stage.observer.last(NodeReady) == NodeReady(N1)
    stage.tell(Consume(7, Offset(90), 1000, False, stage.client))
    assert (stage.refused().refusal, stage.refused().end) == (Refusal.OUT_OF_RANGE, 90)
    stage.tell(LeaderChanged(Term(3), N1))
    stage.tell(Consume(8, Offset(90), 1000, False, stage.client))
    assert stage.refused().refusal is Refusal.COMMIT_UNKNOWN


def test_one_who_waits_at_the_end_is_answered_when_the_commit_position_passes() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(Consume(1, Offset(0), 1000, True, stage.client), Consume(2, Offset(5), 1000, True, stage.client))
    stage.tell(CommitAdvanced(at(2, 5)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1]
    stage.tell(CommitAdvanced(at(3, 6)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1, 2]


def test_one_who_waited_and_went_away_is_forgotten() -> None:
    stage = Stage()
    stage.lead()
    other = Probe()
    stage.tell(Consume(1, Offset(0), 1000, True, stage.client), Consume(1, Offset(0), 1000, True, other))
    stage.tell(CancelRequest(1, stage.client), CommitAdvanced(at(2, 1)))
    assert [read.reply_to for read in stage.store.all(ReadBatches)] == [other]


def test_a_read_of_the_latest_state_is_confirmed_before_anything_is_read() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)))
    stage.read_latest(1, 29)
    assert (stage.asked().timeout_s, stage.asked().reply_to) == (2.5, stage.ref)
    assert stage.store.all(ReadBatches) == []
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    read = stage.store.last(ReadBatches)
    assert (read.request_id, read.offset, read.until) == (1, 29, 4)
    assert len(stage.replicator.received) == 1


def test_the_end_that_a_read_of_the_latest_state_is_told_is_not_below_the_confirmed_one() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), N2))
    stage.read_latest(1, 40)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert (stage.refused().refusal, stage.refused().end) == (Refusal.OUT_OF_RANGE, 40)


def test_a_read_of_the_latest_state_that_waits_at_the_end_is_confirmed_once() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 40, wait=True)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert stage.client.received == []
    stage.tell(CommitAdvanced(at(5, 41)))
    assert stage.store.last(ReadBatches).request_id == 1
    assert len(stage.replicator.received) == 1


def test_what_is_not_confirmed_is_refused_with_what_is_missing() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 0)
    stage.tell(ReadNotConfirmed(stage.asked().request_id, "no word of n2, n3"))
    assert stage.refused() == RequestRefused(1, Refusal.NOT_CONFIRMED, "no word of n2, n3")
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert len(stage.client.received) == 1


def test_each_read_has_its_own_confirmation_whatever_ids_clients_choose() -> None:
    stage = Stage()
    stage.lead()
    other = Probe()
    stage.read_latest(1, 0)
    stage.read_latest(1, 0, client=other)
    first, second = stage.replicator.all(ConfirmRead)
    stage.tell(ReadConfirmed(second.request_id, at(4, 40)))
    assert [read.reply_to for read in stage.store.all(ReadBatches)] == [other]
    stage.tell(CancelRequest(1, stage.client))
    assert stage.replicator.last(ForgetRead) == ForgetRead(first.request_id)
    stage.tell(ReadConfirmed(first.request_id, at(4, 40)))
    assert len(stage.store.all(ReadBatches)) == 1


def test_reads_that_wait_for_a_confirmation_share_the_room_of_readers_that_wait() -> None:
    stage = Stage(max_waiting_requests=2)
    stage.lead()
    stage.read_latest(1, 0)
    stage.tell(Consume(2, Offset(0), 1000, True, stage.client))
    stage.read_latest(3, 0)
    stage.tell(Consume(4, Offset(0), 1000, True, stage.client))
    assert [(refused.request_id, refused.refusal) for refused in stage.client.all(RequestRefused)] == [
        (3, Refusal.OVERLOADED),
        (4, Refusal.OVERLOADED),
    ]


def test_with_nobody_elected_the_latest_state_is_refused_and_what_is_committed_is_not() -> None:
    stage = Stage()
    stage.open(end=at(1, 10), committed=at(1, 10))
    stage.tell(NobodyElected())
    stage.read_latest(1, 0)
    assert stage.refused().refusal is Refusal.NOBODY_ELECTED
    assert "no latest state" in stage.refused().detail
    assert stage.replicator.received == []
    stage.tell(Consume(2, Offset(0), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).request_id == 2


def test_stopping_answers_reads_that_wait_for_a_confirmation() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 0)
    stage.runtime.stop(stage.ref)
    assert stage.refused().refusal is Refusal.STOPPING


def test_with_nobody_elected_a_record_can_be_read_the_moment_it_is_acknowledged() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected())
    stage.produce((1, b"v"))
    stage.appended(0, 0)
    assert stage.client.last(Produced).base_offset == 0
    stage.tell(Consume(2, Offset(0), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).offset == 0
    stage.tell(CommitAdvanced(at(0, 0)), Consume(3, Offset(0), 1000, False, stage.client))
    assert len(stage.store.all(ReadBatches)) == 2
