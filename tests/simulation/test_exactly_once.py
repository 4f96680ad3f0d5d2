"""What is claimed of producers that number their batches, the rare states of them, and the client that sends again."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.server import Produce, Produced, RegisterProducer
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, LogTruncated, ResetLog, TruncateLog
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Options, Violation, simulate
from ourolog.simulation.checkers.producer_model import Memory, decoded
from ourolog.simulation.events import (
    ClusterRecovered,
    DiskRestored,
    FaultInjected,
    FileReplaced,
    MessageTold,
    NodeStarted,
    Operation,
    OperationKind,
    OperationResult,
    Outcome,
)
from ourolog.simulation.producer_states import PRODUCER_STATES, ProducerStates
from ourolog.storage.batch import Batch, Kind, NewBatch
from ourolog.storage.checkpoint import Checkpoint
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.log import Log
from ourolog.storage.producers import ProducerBatch, ProducerMemory, ProducerProblem
from ourolog.storage.record_set import encode_record
from ourolog.storage.state import LogState
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.scene import SEGMENT, Scene, batch, sized

N1, N2 = NodeId("n1"), NodeId("n2")
STATIC = "static:n1,n2,n3"
REGISTRATION = encode_control(ProducerRegistered())


def at(index: int, offset: int | None = None) -> Position:
    return Position(Index(index), Offset(index if offset is None else offset))


def registration(index: int, offset: int) -> Batch:
    return batch(index, "", kind=Kind.CONTROL, payload=REGISTRATION, record_count=0, base_offset=Offset(offset))


def numbered(index: int, sequence: int, value: str = "v", producer_id: int = 1) -> Batch:
    """Entry `index` of a log whose entry 1 registers producer 1."""
    return batch(index, value, base_offset=Offset(index - 1), producer_id=producer_id, producer_sequence=sequence)


def asked(sequence: int, value: str = "v", producer_id: int = 1) -> NewBatch:
    return NewBatch(encode_record(value.encode()), 1, producer_id=producer_id, producer_sequence=sequence)


class Leader:
    """n1 leads; its log holds a record and the registration of producer 1."""

    def __init__(self, claim: str) -> None:
        self.scene = Scene(claim)
        self.scene.start("n1", STATIC)
        self.scene.append("n1", batch(0, "first"), registration(1, 1))

    def answered(self, sequence: int, offset: int, by: str = "n1") -> None:
        operation = Operation(OperationKind.PRODUCE, b"v", producer_id=1, sequence=sequence)
        operation_id = self.scene.invoke(by, operation)
        result = OperationResult(Outcome.OK, Offset(offset), index=Index(offset + 1))
        self.scene.answer(by, operation_id, operation, result)

    def asks_to_append(self, append_id: int, new: NewBatch) -> None:
        self.scene.tell("n1.server", "n1.store", AppendBatch(append_id, new, Term(1), Probe()))

    def refused(self, append_id: int, problem: ProducerProblem) -> None:
        self.scene.tell("n1.store", "n1.server", AppendRefused(append_id, Term(1), "why", problem))

    def duplicate(self, append_id: int, index: int) -> None:
        told = BatchAppended(append_id, Offset(index - 1), Index(index), Term(1), at(index + 1, index), True)
        self.scene.tell("n1.store", "n1.server", told)


# ---------------------------------------------------------------- exactly_once


def test_a_batch_that_stands_twice_in_one_log_is_seen_also_when_retention_took_the_first_copy() -> None:
    of = Leader("exactly_once")
    of.scene.append("n1", numbered(2, 0), numbered(3, 1))
    with pytest.raises(Violation, match="batch 0 of producer 1 in entry 2 and again in entry 4"):
        of.scene.append("n1", numbered(4, 0))


def test_a_batch_may_stand_elsewhere_after_its_first_copy_was_cut() -> None:
    of = Leader("exactly_once")
    kept = len(of.scene.files[N1][next(iter(of.scene.files[N1]))])
    of.scene.append("n1", numbered(2, 0))
    of.scene.truncate("n1", kept)
    of.scene.append("n1", batch(2, "other", base_offset=Offset(1)), numbered(3, 0))


def test_only_what_a_recovery_has_lost_may_be_stored_anew() -> None:
    of = Leader("exactly_once")
    of.scene.append("n1", numbered(2, 0))
    of.answered(0, 1)
    of.answered(1, 7)
    recovered = ClusterRecovered(of.scene.tick(), N1, 8, 7, 7, 2, Term(3), 0, False)
    of.scene.see(recovered)
    of.scene.append("n1", numbered(3, 1))
    of.answered(1, 2)
    with pytest.raises(Violation, match="is at offset 5; it was told before that it is at offset 1"):
        of.answered(0, 5)


def test_survivors_that_are_recovered_apart_give_answers_of_their_own_until_they_meet() -> None:
    of = Leader("exactly_once")
    of.scene.start("n2", STATIC)
    of.scene.append("n1", numbered(2, 0))
    of.scene.append("n2", batch(0, "first"), registration(1, 1), numbered(2, 0))
    of.answered(0, 1)
    of.answered(1, 7)
    of.scene.see(ClusterRecovered(of.scene.tick(), N1, 8, 7, 7, 2, Term(3), 0, False))
    of.scene.see(ClusterRecovered(of.scene.tick(), N2, 9, 7, 7, 2, Term(3), 0, False))
    of.answered(1, 2)
    of.answered(1, 3, "n2")
    with pytest.raises(Violation, match=r"by n2 that batch 1 of .* is at offset 2; it was told before .* offset 3"):
        of.answered(1, 2, "n2")
    with pytest.raises(Violation, match=r"by n1 that batch 0 of .* is at offset 4; it was told before .* offset 1"):
        of.answered(0, 4)


def test_two_answers_for_one_batch_name_one_offset() -> None:
    of = Leader("exactly_once")
    of.answered(0, 1)
    of.answered(0, 1)
    of.answered(1, 2)
    with pytest.raises(Violation, match="is at offset 3; it was told before that it is at offset 1"):
        of.answered(0, 3)


def test_what_is_acknowledged_stands_in_the_log_under_its_number() -> None:
    of = Leader("exactly_once")
    of.scene.append("n1", numbered(2, 0), batch(3, "v", base_offset=Offset(2)))
    of.answered(0, 1)
    with pytest.raises(
        Violation, match=r"batch 1 of producer 1 is entry 3, and there is entry 3 .* without that number"
    ):
        of.answered(1, 2)


# ---------------------------------------------------------------- numbered_wait_for_commit


@pytest.mark.parametrize("is_registration", [True, False])
def test_neither_an_id_nor_a_batch_is_acknowledged_before_its_entry_is_committed(is_registration: bool) -> None:
    for committed in (3, 2):
        of = Leader("numbered_wait_for_commit")
        request: Any = Produce(7, asked(0), Acks.QUORUM, 5.0, Probe())
        of.scene.tell("c1", "n1.server", RegisterProducer(7, 5.0, Probe()) if is_registration else request)
        of.scene.commit("n1", committed)
        answer = Produced(7, Offset(1), Term(1), Index(2))
        if committed == 3:
            of.scene.tell("n1.server", "c1", answer)
        else:
            with pytest.raises(Violation, match="entry 2, and knew only what is below index 2 to be committed"):
                of.scene.tell("n1.server", "c1", answer)


# ---------------------------------------------------------------- producer_memory_true


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (numbered(3, 2), "has batch 1 to come next"),
        (numbered(3, 0), "has batch 1 to come next"),
        (numbered(3, 0, producer_id=2), "is not remembered"),
    ],
)
def test_what_is_appended_under_a_number_is_the_next_of_a_producer_that_the_log_knows(entry: Batch, why: str) -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0))
    with pytest.raises(Violation, match=why):
        of.scene.append("n1", entry)


def test_after_a_cut_the_model_goes_on_from_what_is_left() -> None:
    of = Leader("producer_memory_true")
    kept = len(of.scene.files[N1][next(iter(of.scene.files[N1]))])
    of.scene.append("n1", numbered(2, 0), numbered(3, 1))
    of.scene.truncate("n1", kept)
    with pytest.raises(Violation, match="has batch 0 to come next"):
        of.scene.append("n1", numbered(2, 1))


def test_what_a_lying_disk_wrote_after_all_is_known_though_nobody_was_told_of_it() -> None:
    of = Leader("producer_memory_true")
    scene = of.scene
    scene.append("n1", numbered(2, 0))
    scene.see(FaultInjected(scene.tick(), "fsync_lies", "n1"))
    hidden = scene.files[N1]
    scene.append("n1", numbered(3, 1), numbered(4, 2))
    scene.crash("n1", keep=True)
    whole, scene.files[N1] = scene.files[N1], hidden | {SEGMENT: scene.files[N1][SEGMENT][: -2 * sized(numbered(3, 1))]}
    scene.start("n1", STATIC)
    scene.files[N1], scene.synced[N1] = whole, {SEGMENT: len(whole[SEGMENT])}
    scene.see(DiskRestored(scene.tick(), N1, "fsync_lies"))
    scene.append("n1", numbered(5, 3))
    of.asks_to_append(7, asked(1))
    of.duplicate(7, 3)
    of.asks_to_append(8, asked(1))
    with pytest.raises(Violation, match="is entry 4, offset 3, of its log already, and it is entry 3, offset 2"):
        of.duplicate(8, 4)


@pytest.mark.parametrize(
    ("new", "problem", "is_true"),
    [
        (asked(3), ProducerProblem.GAP, True),
        (asked(1), ProducerProblem.GAP, False),
        (asked(0, producer_id=9), ProducerProblem.EXPIRED, True),
        (asked(1), ProducerProblem.EXPIRED, False),
        (asked(0), ProducerProblem.FORGOTTEN, False),
        (asked(0), ProducerProblem.REUSED, False),
        (asked(0, "other"), ProducerProblem.REUSED, True),
        (asked(1, "other"), ProducerProblem.REUSED, False),
        (asked(0, "other", producer_id=9), ProducerProblem.REUSED, False),
    ],
)
def test_a_refusal_gives_the_reason_that_there_is(new: NewBatch, problem: ProducerProblem, is_true: bool) -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0))
    of.asks_to_append(7, new)
    if is_true:
        of.refused(7, problem)
    else:
        with pytest.raises(Violation, match=f"{problem.value}"):
            of.refused(7, problem)


def test_what_is_about_to_be_written_stands_under_its_number_too() -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0))
    of.asks_to_append(7, asked(1, "other"))
    of.asks_to_append(8, asked(1))
    of.refused(8, ProducerProblem.REUSED)
    of.asks_to_append(9, asked(1, "other"))
    with pytest.raises(Violation, match="sequence reused"):
        of.refused(9, ProducerProblem.REUSED)


def test_what_was_remembered_where_a_log_begins_is_not_compared_by_its_records() -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0))
    model = of.scene.checker._models[N1]
    model.begin_anew(Index(3), model.memory)
    of.asks_to_append(7, asked(0))
    of.refused(7, ProducerProblem.REUSED)


def test_a_duplicate_is_answered_with_the_place_where_it_is() -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0), numbered(3, 1))
    of.asks_to_append(7, asked(0))
    of.duplicate(7, 2)
    of.asks_to_append(8, asked(0))
    with pytest.raises(Violation, match="is entry 3, offset 2, of its log already, and it is entry 2, offset 1"):
        of.duplicate(8, 3)


def memory(*sequences: int) -> ProducerMemory:
    """Of producer 1, which has appended these, one after the other from entry 2 on."""
    known = ProducerMemory()
    known.registered(Index(1), 5)
    for index, sequence in enumerate(sequences, start=2):
        known.appended(1, ProducerBatch(sequence, 1, Index(index), Offset(index - 1), 7), 5)
    return known


def checkpoint(index: int, known: ProducerMemory) -> bytes:
    state = LogState(N1, producers=known)
    return Checkpoint(at(index, index - 1), "00000000000000000000-00000000000000000000", 0, state, at(0)).encode()


@pytest.mark.parametrize("name", ["checkpoint", "00000000000000000002-00000000000000000003.state"])
def test_a_file_with_what_is_remembered_says_what_the_log_says(name: str) -> None:
    for index, known, is_true in [(4, memory(0, 1), True), (3, memory(0), True), (4, memory(0), False)]:
        of = Leader("producer_memory_true")
        of.scene.append("n1", numbered(2, 0), numbered(3, 1))
        event = FileReplaced(of.scene.tick(), N1, f"/data/log/{name}", checkpoint(index, known))
        if is_true:
            of.scene.see(event)
        else:
            with pytest.raises(Violation, match="something else than the log says: of producer 1"):
                of.scene.see(event)


def test_a_file_that_rotted_excuses_who_remembers_less_and_nobody_who_accepts_more() -> None:
    of = Leader("producer_memory_true")
    of.scene.append("n1", numbered(2, 0))
    of.scene.see(FaultInjected(of.scene.tick(), "bit_rot", "n2"))
    of.asks_to_append(7, asked(1))
    of.refused(7, ProducerProblem.EXPIRED)
    with pytest.raises(Violation, match="has batch 1 to come next"):
        of.scene.append("n1", numbered(3, 5))


def test_who_begins_anew_was_given_what_the_leader_remembers() -> None:
    for given, is_true in [(memory(0).encode(), True), (b"", False)]:
        of = Leader("producer_memory_true")
        scene = of.scene
        scene.append("n1", numbered(2, 0), numbered(3, 1))
        scene.commit("n1", 4)
        scene.start("n2", STATIC)
        scene.tell("n2.replicator", "n2.store", ResetLog(at(3, 2), None, None, Term(1), Probe(), given))
        truncated = LogTruncated(at(3, 2), at(3, 2), TermHistory())
        if is_true:
            scene.tell("n2.store", "n2.replicator", truncated)
        else:
            with pytest.raises(Violation, match="begins anew at index 3 and was given something else"):
                scene.tell("n2.store", "n2.replicator", truncated)


def test_the_bytes_of_a_memory_are_read_alike_by_model_and_log() -> None:
    known = memory(0, 1, 2)
    read = decoded(known.encode())
    assert [(producer_id, len(batches)) for producer_id, (_, batches) in read.producers.items()] == [(1, 3)]
    assert read.next_of(1) == 3
    assert read.batch(1, 2) == (2, 1, 4, 3)
    assert (read.clock_ms, decoded(b"")) == (5, Memory())


# ---------------------------------------------------------------- rare states


def states_of(*told: tuple[str, str, object]) -> set[str]:
    reached: set[str] = set()
    states = ProducerStates(reached.add)
    for sender, receiver, message in told:
        states.on_message[type(message)](MessageTold(1.0, sender, receiver, message))
    assert reached <= set(PRODUCER_STATES)
    return reached


def appends(append_id: int, new: NewBatch) -> tuple[str, str, object]:
    return "n1.server", "n1.store", AppendBatch(append_id, new, Term(2), Probe())


def appended(append_id: int, index: int, term: int = 2, *, again: bool = False) -> tuple[str, str, object]:
    told = BatchAppended(append_id, Offset(index), Index(index), Term(term), at(index + 1), again)
    return "n1.store", "n1.server", told


def test_the_rare_states_of_what_is_sent_again_are_seen() -> None:
    new = asked(0)
    assert states_of(appends(1, new), appends(2, new)) == {"retry_of_unwritten"}
    assert states_of(appends(1, new), appended(1, 5, again=True)) == {"retry_of_uncommitted"}
    cut = ("n1.replicator", "n1.store", TruncateLog(Index(5), Term(3), Probe()))
    again = appends(1, new), appended(1, 5), cut, appends(2, new), appended(2, 6)
    assert states_of(*again) == {"producers_rolled_back", "retry_of_cut"}
    register = NewBatch(REGISTRATION, 0, Kind.CONTROL)
    assert states_of(appends(1, register), appended(1, 5), cut) == {"registration_cut"}
    problems = {
        ProducerProblem.EXPIRED: {"retry_after_expiry"},
        ProducerProblem.FORGOTTEN: {"retry_after_window"},
        ProducerProblem.GAP: {"batch_before_its_turn"},
        ProducerProblem.REUSED: set[str](),
    }
    for problem, expected in problems.items():
        refused = AppendRefused(1, Term(2), "why", problem)
        assert states_of(appends(1, new), ("n1.store", "n1.server", refused)) == expected
    for producers, expected in [(memory().encode(), {"reset_with_producers"}), (b"", set())]:
        reset = ResetLog(at(9), None, None, Term(1), Probe(), producers)
        assert states_of(("n2.replicator", "n2.store", reset)) == expected


def test_what_a_process_was_asked_is_forgotten_with_it() -> None:
    scene = Scene("exactly_once")
    scene.start("n1", STATIC)
    reached: list[str] = []
    states = ProducerStates(reached.append)
    states.on_message[AppendBatch](MessageTold(1.0, *appends(1, asked(0))))
    states.forget(NodeStarted(2.0, N1, scene.configs[N1]))
    states.on_message[AppendBatch](MessageTold(3.0, *appends(1, asked(0))))
    assert reached == []


# ---------------------------------------------------------------- whole runs


BUSY: dict[str, Any] = {"nodes": 3, "election": "raft", "minutes": 0.2, "operations": 600}


def test_a_client_that_numbers_its_batches_sends_some_again_and_each_stands_once() -> None:
    states: set[str] = set()
    for seed in range(4):
        result = simulate(Options(seed, faults=("reply_lost", "kill"), **BUSY))
        assert result.violations == ()
        states |= set(result.states)
    assert {"retry_of_committed", "batch_before_its_turn"} <= states


def test_a_log_that_appends_what_is_sent_again_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Log, "judge", lambda *_: None)
    claims = {
        violation.claim
        for seed in range(4)
        for violation in simulate(Options(seed, faults=("reply_lost",), **BUSY)).violations
    }
    assert claims & {"exactly_once", "producer_memory_true"}
