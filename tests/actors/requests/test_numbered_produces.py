"""Batches that producers number, and what is said of one that was sent again."""

from __future__ import annotations

from ourolog.actors.messages.events import CommitAdvanced, NobodyElected
from ourolog.actors.messages.server import CancelRequest, Produce, Produced, Refusal, RegisterProducer
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended
from ourolog.actors.messages.values import Acks
from ourolog.actors.server import GATHERS_AT_MOST_S
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.producers import ProducerProblem
from ourolog.storage.types import Index, Offset, Term
from tests.actors.server_stage import N1, Stage, at, numbered

REGISTRATION = NewBatch(encode_control(ProducerRegistered()), 0, Kind.CONTROL)


def test_a_registration_is_an_entry_of_its_own_and_its_index_is_the_id_once_a_majority_has_it() -> None:
    stage = Stage(acks=Acks.LEADER)
    stage.lead()
    stage.tell(
        Produce(1, NewBatch(b"a", 1), Acks.LEADER, 5.0, stage.client),
        RegisterProducer(2, 5.0, stage.client),
        Produce(3, NewBatch(b"b", 1), Acks.LEADER, 5.0, stage.client),
    )
    plain, register, other = stage.store.all(AppendBatch)
    assert (plain.batch, register.batch, other.batch) == (NewBatch(b"a", 1), REGISTRATION, NewBatch(b"b", 1))
    stage.tell(BatchAppended(register.request_id, Offset(1), Index(6), Term(1), at(7, 1)))
    assert stage.client.received == []
    stage.tell(CommitAdvanced(at(7, 1)))
    assert stage.client.received == [Produced(2, Offset(1), Term(1), Index(6), (N1,))]


def test_what_was_sent_again_is_acknowledged_when_the_entry_that_it_stands_in_is_and_counts_as_nothing_more() -> None:
    stage = Stage(max_uncommitted_entries=2)
    stage.lead()

    def append(client: Probe, request_id: int, sequence: int, index: int, *, is_duplicate: bool = False) -> None:
        stage.tell(Produce(request_id, numbered(sequence), Acks.DEFAULT, 5.0, client))
        stage.runtime.run_for(GATHERS_AT_MOST_S)
        append_id = stage.store.last(AppendBatch).request_id
        end = at(index + 1, index + 1)
        stage.tell(BatchAppended(append_id, Offset(index), Index(index), Term(1), end, is_duplicate))

    first, later, again = Probe(), Probe(), Probe()
    append(first, 1, 0, 4)
    stage.tell(CancelRequest(1, first))
    for request_id in (2, 3):
        append(again, request_id, 0, 4, is_duplicate=True)
    append(later, 4, 1, 5)  # which is still taken: there is one entry that a majority lacks
    assert again.received == later.received == []
    stage.tell(CommitAdvanced(at(5, 5)))
    assert again.received == [Produced(request_id, Offset(4), Term(1), Index(4), (N1,)) for request_id in (2, 3)]
    assert later.received == []


def test_what_was_sent_again_does_not_wait_for_entries_behind_its_own() -> None:
    stage = Stage()
    stage.lead()
    later, again = Probe(), Probe()
    for client, index in ((later, 5), (again, 4)):
        stage.tell(Produce(1, numbered(index - 4), Acks.DEFAULT, 5.0, client))
        stage.runtime.run_for(GATHERS_AT_MOST_S)
        append_id = stage.store.last(AppendBatch).request_id
        end = at(index + 1, index + 1)
        stage.tell(BatchAppended(append_id, Offset(index), Index(index), Term(1), end, is_duplicate=client is again))
    stage.tell(CommitAdvanced(at(5, 5)))
    assert (again.received, later.received) == ([Produced(1, Offset(4), Term(1), Index(4), (N1,))], [])
    stage.tell(CommitAdvanced(at(6, 6)))
    assert later.received == [Produced(1, Offset(5), Term(1), Index(5), (N1,))]


def test_what_is_wrong_with_a_numbered_batch_is_said_and_this_attempt_has_appended_nothing() -> None:
    stage = Stage()
    stage.lead()
    for request_id, problem in enumerate(ProducerProblem):
        stage.tell(Produce(request_id, numbered(3), Acks.DEFAULT, 5.0, stage.client))
        append = stage.store.last(AppendBatch)
        stage.tell(AppendRefused(append.request_id, Term(1), f"why {problem}", problem))
        assert (stage.refused().detail, stage.refused().outcome_unknown) == (f"why {problem}", False)
    assert list(stage.refusals().values()) == [
        Refusal.PRODUCER_EXPIRED,
        Refusal.SEQUENCE_FORGOTTEN,
        Refusal.SEQUENCE_GAP,
        Refusal.SEQUENCE_REUSED,
    ]


def test_a_numbered_batch_is_never_acknowledged_by_the_leader_alone() -> None:
    stage = Stage(acks=Acks.LEADER)
    stage.lead()
    stage.tell(Produce(1, numbered(0), Acks.LEADER, 5.0, stage.client))
    assert (stage.refused().refusal, stage.store.all(AppendBatch)) == (Refusal.ACKS_TOO_WEAK, [])
    stage.tell(Produce(2, numbered(0), Acks.DEFAULT, 5.0, stage.client))
    stage.appended(0, 1)
    assert stage.client.all(Produced) == []
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.all(Produced) == [Produced(2, Offset(0), Term(1), Index(1), (N1,))]


def test_with_nobody_elected_there_are_no_producers() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), RegisterProducer(1, 5.0, stage.client))
    stage.tell(Produce(2, numbered(0), Acks.DEFAULT, 5.0, stage.client))
    assert stage.refusals() == {1: Refusal.NOBODY_ELECTED, 2: Refusal.NOBODY_ELECTED}
    assert stage.store.all(AppendBatch) == []
