"""What a log should remember of its producers: read from its entries, as the documentation says it.

It shares only the bounds with `ourolog.storage.producers`, and the layout of the bytes. It is slow and plain: all
entries that a log ever had are kept, and after a cut the memory is made again from the first one on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import unpack_from
from typing import NamedTuple

from ourolog.simulation.checkers.log_model import Entry
from ourolog.storage.batch import Kind
from ourolog.storage.producers import EXPIRES_AFTER_MS, MAX_PRODUCERS, REMEMBERED_BATCHES
from ourolog.storage.types import Index

_REGISTERS = b'"producer-registered"'


class Known(NamedTuple):
    """A batch that is remembered: its number, how many records it has, and where it stands."""

    sequence: int
    record_count: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    base_offset: int


@dataclass(slots=True)
class Memory:
    """What is remembered below one place of a log.

    clock_ms: the highest timestamp so far.
    producers: by id, who registered or produced longest ago first; each with its clock then and its last batches.
    """

    clock_ms: int = 0
    producers: dict[int, tuple[int, tuple[Known, ...]]] = field(default_factory=dict)

    def next_of(self, producer_id: int) -> int | None:
        """Which batch of that producer comes next; None if it is not remembered."""
        known = self.producers.get(producer_id)
        if known is None:
            return None
        return known[1][-1].sequence + 1 if known[1] else 0

    def batch(self, producer_id: int, sequence: int) -> Known | None:
        _, batches = self.producers.get(producer_id, (0, ()))
        return next((batch for batch in batches if batch.sequence == sequence), None)

    def take(self, entry: Entry) -> None:
        """Move on past an entry."""
        if len(entry.path) != 1:
            return
        self.clock_ms = max(self.clock_ms, entry.timestamp_ms)
        if entry.kind is Kind.CONTROL and _REGISTERS in entry.control and entry.index > 0:
            self.producers[entry.index] = (self.clock_ms, ())
            if len(self.producers) > MAX_PRODUCERS:
                del self.producers[next(iter(self.producers))]
        elif entry.producer_id in self.producers and entry.kind is Kind.DATA:
            _, batches = self.producers.pop(entry.producer_id)
            count = entry.end_offset - entry.base_offset
            batch = Known(entry.producer_sequence, count, entry.index, entry.base_offset)
            self.producers[entry.producer_id] = (self.clock_ms, (*batches, batch)[-REMEMBERED_BATCHES:])
        while self.producers:
            oldest = next(iter(self.producers))
            if self.clock_ms - self.producers[oldest][0] <= EXPIRES_AFTER_MS:
                break
            del self.producers[oldest]


@dataclass(slots=True)
class ProducerModel:
    """The memory of one node's log, and what it is made from.

    base: what was remembered where `entries` begin, which a leader told where a log was begun anew.
    first: the index of the first of the entries.
    entries: all since then, also those that retention has removed.
    memory: what is remembered at their end.
    """

    base: Memory = field(default_factory=Memory)
    first: Index = Index(0)
    entries: list[Entry] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)

    @property
    def end(self) -> Index:
        return Index(self.first + len(self.entries))

    def entry(self, index: int) -> Entry | None:
        """The entry at that index; None if it is not among them."""
        return self.entries[index - self.first] if self.first <= index < self.end else None

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.memory.take(entry)

    def cut(self, index: int) -> None:
        """Forget the entries from that index on."""
        if index < self.end:
            del self.entries[max(0, index - self.first) :]
            self.memory = self.below(self.end)

    def below(self, index: int) -> Memory:
        """What is remembered below that index."""
        memory = Memory(self.base.clock_ms, dict(self.base.producers))
        for entry in self.entries[: max(0, index - self.first)]:
            memory.take(entry)
        return memory

    def begin_anew(self, first: Index, base: Memory) -> None:
        """The log was emptied, and begins again at that index, where that is remembered."""
        self.first, self.base, self.entries = first, base, []
        self.memory = self.below(first)


def decoded(encoded: bytes) -> Memory:
    """A memory in the bytes of `ourolog.storage.producers`, which are good."""
    memory = Memory()
    if not encoded:
        return memory
    _, memory.clock_ms, count = unpack_from("<BQH", encoded)
    at = 11
    for _ in range(count):
        producer_id, last_ms, batches = unpack_from("<QQB", encoded, at)
        at += 17
        known = []
        for _ in range(batches):
            sequence, record_count, index, base_offset, _checksum = unpack_from("<IIQQI", encoded, at)
            known.append(Known(sequence, record_count, index, base_offset))
            at += 28
        memory.producers[producer_id] = (last_ms, tuple(known))
    return memory
