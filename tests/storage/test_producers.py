from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.checkpoint import load_checkpoint
from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.log import Log, Placed
from ourolog.storage.producers import (
    EXPIRES_AFTER_MS,
    MAX_ENCODED_BYTES,
    MAX_PRODUCERS,
    REMEMBERED_BATCHES,
    ProducerBatch,
    ProducerMemory,
    ProducerProblem,
    ProducerRefusal,
    payload_checksum,
)
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk, killed, power_cut

SEGMENTS = {"segment_bytes": 700, "index_interval_bytes": 200, "checkpoint_interval_bytes": 1000}
REGISTRATION = NewBatch(encode_control(ProducerRegistered()), record_count=0, kind=Kind.CONTROL)


def batch(sequence: int, index: int, offset: int = 0, count: int = 1, checksum: int = 5) -> ProducerBatch:
    return ProducerBatch(sequence, count, Index(index), Offset(offset), checksum)


def problem(verdict: object) -> ProducerProblem:
    assert isinstance(verdict, ProducerRefusal), verdict
    return verdict.problem


# ---------------------------------------------------------------- the memory alone


def test_a_producers_batches_are_taken_in_order_and_each_once() -> None:
    memory = ProducerMemory()
    memory.registered(Index(7), 100)
    assert problem(memory.judge(7, 1, 1, 5)) is ProducerProblem.GAP
    assert memory.judge(7, 0, 1, 5) is None
    memory.appended(7, batch(0, 9, offset=30), 100)
    assert memory.judge(7, 0, 1, 5) == batch(0, 9, offset=30)
    assert memory.judge(7, 1, 1, 5) is None
    assert problem(memory.judge(7, 2, 1, 5)) is ProducerProblem.GAP


def test_the_same_number_with_other_records_is_refused() -> None:
    memory = ProducerMemory()
    memory.registered(Index(7), 100)
    memory.appended(7, batch(0, 9, count=2), 100)
    assert problem(memory.judge(7, 0, 2, 6)) is ProducerProblem.REUSED
    assert problem(memory.judge(7, 0, 1, 5)) is ProducerProblem.REUSED


def test_an_id_that_is_not_remembered_is_expired_whatever_the_number() -> None:
    memory = ProducerMemory()
    assert problem(memory.judge(3, 0, 1, 5)) is ProducerProblem.EXPIRED
    memory.appended(3, batch(0, 9), 100)
    assert problem(memory.judge(3, 0, 1, 5)) is problem(memory.judge(3, 1, 1, 5)) is ProducerProblem.EXPIRED


def test_what_is_older_than_the_window_was_stored_and_is_never_taken_as_new() -> None:
    memory = ProducerMemory()
    memory.registered(Index(1), 100)
    for sequence in range(REMEMBERED_BATCHES + 1):
        memory.appended(1, batch(sequence, 2 + sequence, offset=sequence), 100)
    assert problem(memory.judge(1, 0, 1, 5)) is ProducerProblem.FORGOTTEN
    assert memory.judge(1, 1, 1, 5) == batch(1, 3, offset=1)


def test_the_producer_whose_last_entry_is_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    memory = ProducerMemory()
    for index in range(1, MAX_PRODUCERS + 1):
        memory.registered(Index(index), 100)
    memory.appended(1, batch(0, MAX_PRODUCERS + 1), 100)
    memory.registered(Index(MAX_PRODUCERS + 2), 100)
    assert len(memory) == MAX_PRODUCERS
    assert memory.judge(1, 1, 1, 5) is None
    assert problem(memory.judge(2, 0, 1, 5)) is ProducerProblem.EXPIRED


def test_a_producer_expires_by_the_highest_timestamp_of_the_log_and_that_never_goes_back() -> None:
    memory = ProducerMemory()
    memory.registered(Index(1), 1_000)
    memory.passed(500)
    memory.registered(Index(2), 500)  # at 1,000 by the log's clock
    memory.passed(1_000 + EXPIRES_AFTER_MS)
    assert memory.judge(1, 0, 1, 5) is memory.judge(2, 0, 1, 5) is None
    memory.passed(1_001 + EXPIRES_AFTER_MS)
    assert len(memory) == 0


def test_who_comes_back_at_the_last_moment_is_kept_by_the_batch_that_it_brings() -> None:
    memory = ProducerMemory()
    memory.registered(Index(1), 1_000)
    assert memory.judge(1, 0, 1, 5) is None
    memory.appended(1, batch(0, 2), 9_000 + EXPIRES_AFTER_MS)
    assert memory.judge(1, 0, 1, 5) == batch(0, 2)


@pytest.mark.parametrize(
    "move_on",
    [
        lambda memory, late_ms: memory.registered(Index(9), late_ms),
        lambda memory, late_ms: memory.appended(2, batch(0, 9), late_ms),
        lambda memory, late_ms: memory.passed(late_ms),
    ],
)
def test_every_entry_moves_the_clock_and_who_was_silent_is_forgotten_at_once(move_on) -> None:  # type: ignore[no-untyped-def]
    memory = ProducerMemory()
    memory.registered(Index(1), 1_000)
    memory.registered(Index(2), 2_000)
    move_on(memory, 1_001 + EXPIRES_AFTER_MS)
    assert problem(memory.judge(1, 0, 1, 5)) is ProducerProblem.EXPIRED
    assert 2 in dict(memory)


def test_the_first_entry_of_a_log_registers_nobody() -> None:
    memory = ProducerMemory()
    memory.registered(Index(0), 100)
    assert len(memory) == 0


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    """What entries say: (what, which producer, by how much the time goes on)."""
    kinds = st.sampled_from(["register", "append", "append", "append", "other"])
    steps = st.sampled_from([0, 0, 1, 3_600_000, EXPIRES_AFTER_MS // 2, -5_000])
    return draw(st.lists(st.tuples(kinds, st.integers(0, 5), steps), max_size=80))


def replayed(history: list[tuple[str, int, int]]) -> tuple[ProducerMemory, Position]:
    memory, now_ms, ids, offset = ProducerMemory(), 10_000, [0], 0
    sequences: dict[int, int] = {}
    for index, (what, which, step_ms) in enumerate(history, start=1):
        now_ms = max(0, now_ms + step_ms)
        producer_id = ids[which % len(ids)]
        if what == "register":
            ids.append(index)
            memory.registered(Index(index), now_ms)
        elif what == "append":
            sequence = sequences.get(producer_id, 0)
            sequences[producer_id] = sequence + 1
            memory.appended(producer_id, batch(sequence, index, offset, count=2), now_ms)
            offset += 2
        else:
            memory.passed(now_ms)
    return memory, Position(Index(len(history) + 1), Offset(offset))


@given(histories(), st.data())
def test_a_memory_is_the_same_after_its_bytes_and_goes_on_the_same(
    history: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    memory, end = replayed(history)
    encoded = memory.encode()
    again = ProducerMemory.decode(encoded, below=end)
    assert again.encode() == encoded
    assert list(again) == list(memory)
    for one in (memory, again):
        one.registered(end.index, 20_000)
    assert again.encode() == memory.encode() != encoded


@given(histories(), st.data())
def test_no_bytes_make_a_memory_that_no_log_has(history: list[tuple[str, int, int]], data: st.DataObject) -> None:
    memory, end = replayed(history)
    encoded = bytearray(memory.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        if encoded:
            encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    spoiled = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    try:
        decoded = ProducerMemory.decode(spoiled, below=end)
    except ValueError:
        return
    assert decoded.encode() in (spoiled, b"")
    ends = [last.end for _, batches in decoded for last in batches]
    assert all(last <= Position(end.index, end.offset) and last.offset <= end.offset for last in ends)
    assert [producer_id for producer_id, _ in decoded if not 0 < producer_id < end.index] == []


def test_the_largest_memory_has_the_size_that_is_allowed_and_no_larger_one_is_read() -> None:
    memory = ProducerMemory()
    for index in range(1, MAX_PRODUCERS + 1):
        memory.registered(Index(index), 100)
    index = MAX_PRODUCERS + 1
    for sequence in range(REMEMBERED_BATCHES):
        for producer_id in range(1, MAX_PRODUCERS + 1):
            memory.appended(producer_id, batch(sequence, index, offset=index), 100)
            index += 1
    encoded = memory.encode()
    assert len(encoded) == MAX_ENCODED_BYTES
    assert ProducerMemory.decode(encoded).encode() == encoded
    with pytest.raises(ValueError, match="has no"):
        ProducerMemory.decode(encoded + b"x")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda good: good[:5], "has no 5 bytes"),
        (lambda good: b"\x09" + good[1:], "version 9"),
        (lambda good: good[:-1], "cut off"),
        (lambda good: good + b"x", "behind the last producer"),
        (lambda good: struct.pack("<BQH", 1, 100, 1025) + good[11:], "1025 producers"),
        (lambda good: good[:11] + bytes(8) + good[19:], "producer 0"),
        (lambda good: good[:19] + struct.pack("<Q", 101) + good[27:], "does not stand where it should"),
        (lambda good: good[:28] + good[28:32] + bytes(4) + good[36:], "does not stand where it should"),
    ],
)
def test_bytes_that_are_no_memory_are_refused_with_what_is_wrong(spoil, why: str) -> None:
    memory = ProducerMemory()
    memory.registered(Index(3), 100)
    memory.appended(3, batch(0, 4), 100)
    good = memory.encode()
    ProducerMemory.decode(good, below=Position(Index(5), Offset(1)))
    with pytest.raises(ValueError, match=why):
        ProducerMemory.decode(spoil(good))
    with pytest.raises(ValueError, match="below index 4"):
        ProducerMemory.decode(good, below=Position(Index(4), Offset(1)))
    with pytest.raises(ValueError, match="above offset 0"):
        ProducerMemory.decode(good, below=Position(Index(5), Offset(0)))


def test_two_batches_of_one_number_are_no_memory() -> None:
    memory = ProducerMemory()
    memory.registered(Index(3), 100)
    head = len(memory.encode())
    memory.appended(3, batch(0, 4), 100)
    second = len(memory.encode())
    memory.appended(3, batch(1, 5, offset=1), 100)
    good = memory.encode()
    assert good[second : second + 4] == struct.pack("<I", 1)
    with pytest.raises(ValueError, match="batch 0 of producer 3 does not stand where it should"):
        ProducerMemory.decode(good[:second] + good[head : head + 4] + good[second + 4 :])


# ---------------------------------------------------------------- the memory of a log


class Producing:
    """A log, and what two producers have put into it: the placed batch of each, and the memory below each index."""

    def __init__(self, bench, files: SimulatedDisk, **config: int) -> None:  # type: ignore[no-untyped-def]
        self.bench = bench
        self.config = {**SEGMENTS, **config}
        self.log: Log = bench.open(files, **self.config)
        self.files = files
        self.memories = [b""]
        self.placed: dict[tuple[int, int], Placed] = {}

    def append(self, new: NewBatch, now_ms: int) -> Placed:
        placed = self.log.append_new(new, Term(1), now_ms)
        self.memories.append(self.log.producers.encode())
        if new.producer_id:
            self.placed[new.producer_id, new.producer_sequence] = placed
        return placed

    def batch(self, producer_id: int, sequence: int) -> NewBatch:
        payload = b"%d %d" % (producer_id, sequence)
        return NewBatch(payload, 2, producer_id=producer_id, producer_sequence=sequence)

    def fill(self) -> None:
        self.append(NewBatch(b"plain", 1), 1_000)
        first = self.append(REGISTRATION, 1_001).index
        for at in range(6):
            self.append(self.batch(first, at), 1_002 + at)
        second = self.append(REGISTRATION, 1_020).index
        for at in range(20):
            self.append(self.batch(second, at), 1_030 + at)
            self.append(self.batch(first, 6 + at), 1_030 + at)
        self.log.commit()

    def reopen(self, files: SimulatedDisk) -> Log:
        return self.bench.open(files, **self.config)


@pytest.fixture
def producing(bench, files) -> Producing:
    filled = Producing(bench, files)
    filled.fill()
    return filled


def test_a_batch_that_is_only_appended_is_found_again_at_its_place(producing: Producing) -> None:
    log, (producer_id, sequence) = producing.log, max(producing.placed)
    assert log.judge(producing.batch(producer_id, sequence + 1)) is None
    placed = producing.append(producing.batch(producer_id, sequence + 1), 5_000)
    assert log.end.index <= placed.index
    assert log.judge(producing.batch(producer_id, sequence + 1)) == placed
    for key, there in producing.placed.items():
        assert log.judge(producing.batch(*key)) == there


@pytest.mark.parametrize("has_checkpoints", [True, False])
@pytest.mark.parametrize("crash", [killed, power_cut])
def test_what_is_opened_again_remembers_the_same(producing: Producing, crash, has_checkpoints: bool) -> None:
    files = crash(producing.files)
    if not has_checkpoints:
        for path in [path for path in producing.bench.paths(files) if path.endswith((".state", "checkpoint"))]:
            files.remove(path)
    assert producing.reopen(files).producers.encode() == producing.memories[-1]
    assert len(producing.bench.paths(files, ".log")) > 3


@pytest.mark.parametrize("index", range(49))
def test_a_truncation_takes_the_memory_back_to_what_it_was_there(bench, index: int) -> None:
    producing = Producing(bench, empty_disk())
    producing.fill()
    log = producing.log
    log.truncate(Index(index))
    assert log.producers.encode() == producing.memories[index]
    assert producing.reopen(power_cut(producing.files)).producers.encode() == producing.memories[index]
    for (producer_id, sequence), placed in producing.placed.items():
        verdict = log.judge(producing.batch(producer_id, sequence))
        if producer_id >= index:
            assert problem(verdict) is ProducerProblem.EXPIRED
        elif placed.index < index:
            assert verdict == placed
        else:
            assert verdict is None or problem(verdict) is ProducerProblem.GAP


def test_retention_takes_nothing_from_the_memory_and_says_what_it_was_at_the_start(bench, files) -> None:
    producing = Producing(bench, files, retention_bytes=1)
    producing.fill()
    log = producing.log
    assert log.retain(0)
    assert log.start.index > max(producer_id for producer_id, _ in producing.placed)
    assert log.producers.encode() == producing.memories[-1]
    assert log.producers_before_start == producing.memories[log.start.index] != b""
    again = producing.reopen(power_cut(files))
    assert again.producers.encode() == producing.memories[-1]
    assert again.producers_before_start == producing.memories[log.start.index]
    again.truncate(again.start.index)
    assert again.producers.encode() == producing.memories[log.start.index]


def test_a_log_that_begins_anew_goes_on_with_the_memory_that_it_is_given(bench, files, producing: Producing) -> None:
    leader, other = producing.log, bench.open(empty := empty_disk(), node="n2", epoch=8, **SEGMENTS)
    index = 30
    start = Position(Index(index), leader.read_from_index(Index(index - 1), 1, Index(index)).next.offset)
    other.reset(start, None, None, producing.memories[index])
    assert other.producers_before_start == other.producers.encode() == producing.memories[index]
    while other.appended_end != leader.end:
        other.append_raw(leader.read_from_index(other.appended_end.index, 1 << 20, leader.end.index).batches)
    other.commit()
    assert other.producers.encode() == producing.memories[-1]
    again = bench.open(power_cut(empty), node="n2", epoch=8, **SEGMENTS)
    assert again.producers.encode() == producing.memories[-1]
    assert again.producers_before_start == producing.memories[index]


def test_a_memory_that_cannot_be_of_that_place_is_refused_before_anything_is_dropped(producing: Producing) -> None:
    log = producing.log
    end = log.end
    with pytest.raises(ValueError, match="does not stand below index 5"):
        log.reset(Position(Index(5), Offset(500)), None, None, producing.memories[20])
    assert log.end == end
    assert log.producers.encode() == producing.memories[-1]


def test_copies_that_were_made_with_nobody_elected_are_no_producers_batches_here(bench, producing: Producing) -> None:
    other = bench.open(empty_disk(), node="n2", epoch=8)
    for copied in bench.everything(producing.log):
        other.append_copy(copied, 7)
    assert other.producers.encode() == b""


def test_a_checkpoint_of_a_version_without_producers_is_read(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    log.close()
    path = f"{bench.directory}/checkpoint"
    value = decode("log-checkpoint", 2, files.read_all(path), path)
    del value["state"]["producers"]
    files.replace(path, encode("log-checkpoint", 2, value))
    checkpoint = load_checkpoint(files, path, NodeId("n1"))
    assert checkpoint is not None
    assert (checkpoint.position.index, checkpoint.state.producers.encode()) == (3, b"")


def test_the_checksum_is_the_crc32c_of_the_stored_payload() -> None:
    assert payload_checksum(b"123456789") == 0xE3069283
