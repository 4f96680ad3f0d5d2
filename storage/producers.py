"""What a log remembers of its producers, so that a batch which is sent again stands in it once.

A producer is registered by an entry of the log, and its id is the index of that entry. So an id that is not
remembered is one that was forgotten, never one that is still to come: a batch under it is refused, and nothing is
stored a second time (Ongaro's dissertation, section 6.3). A producer numbers its batches from 0, without gaps.

The memory is a function of the log's entries alone, and so the same on every node that has them: it moves on with
each entry that is appended, committed or not; a truncation goes back to an older one and replays; snapshots keep it
where retention has removed the entries; a log that is begun anew gets that of its leader.

It is bounded. Of each producer the last REMEMBERED_BATCHES batches are kept, which is more than a client may have
under way. When there are more than MAX_PRODUCERS producers, those whose last entry is the oldest are forgotten, and
so are those whose last entry is more than EXPIRES_AFTER_MS older than the log's clock. That clock is the highest
timestamp of the entries so far: it needs no node's clock, and never goes back. All three numbers belong to the
format of the log, since nodes that differ in them would not remember the same.

Only entries that a node made, or that a leader's replica copied as they are, count. What was copied with nobody
elected has two nodes or more in its path, and belongs to the memory of another log.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

from ourolog.storage.batch_limits import LATEST_MS, LIMIT
from ourolog.storage.types import Index, Offset, Position

REMEMBERED_BATCHES: Final = 64
"""How many batches are remembered of one producer."""

MAX_PRODUCERS: Final = 1024
"""How many producers are remembered."""

EXPIRES_AFTER_MS: Final = 24 * 60 * 60 * 1000
"""How long a producer is remembered after its last entry, by the log's clock."""

MAX_SEQUENCE: Final = 2**32 - 1
"""The last number that a batch of a producer can have; who needs more registers again."""

_VERSION: Final = 1
_HEADER: Final = Struct("<BQH")
_PRODUCER: Final = Struct("<QQB")
_BATCH: Final = Struct("<IIQQI")

MAX_ENCODED_BYTES: Final = _HEADER.size + MAX_PRODUCERS * (_PRODUCER.size + REMEMBERED_BATCHES * _BATCH.size)
"""The size of the largest memory, encoded."""


def payload_checksum(payload: bytes) -> int:
    """The checksum by which a batch that is sent again is known: CRC32C (RFC 3720) of the payload as it is stored."""
    return int(google_crc32c.value(payload))


class ProducerBatch(NamedTuple):
    """A batch of a producer that stands, or stood, in the log.

    sequence: the producer's count of its batches.
    record_count: how many records it holds.
    index: of its entry.
    base_offset: the offset of its first record.
    checksum: of its payload, see `payload_checksum`.
    """

    sequence: int
    record_count: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    base_offset: Offset
    checksum: int

    @property
    def end(self) -> Position:
        """The position after it."""
        return Position(Index(self.index + 1), Offset(self.base_offset + self.record_count))


class ProducerProblem(StrEnum):
    """Why a batch of a producer is not appended.

    EXPIRED: its producer is not remembered. Whether the batch was stored before is not known.
    FORGOTTEN: it was stored before, and where is not remembered any more.
    GAP: batches of the producer before it are missing.
    REUSED: another batch was stored under its number.
    """

    EXPIRED = "producer expired"
    FORGOTTEN = "sequence forgotten"
    GAP = "sequence gap"
    REUSED = "sequence reused"


@dataclass(frozen=True, slots=True)
class ProducerRefusal:
    """A batch of a producer that must not be appended.

    problem: why, for a program.
    reason: why, as a sentence for a person.
    """

    problem: ProducerProblem
    reason: str


class _Producer:
    """One producer: its last batches, oldest first, and the log's clock at its last entry. `encoded` is a cache."""

    __slots__ = ("batches", "encoded", "last_ms", "producer_id")

    def __init__(self, producer_id: int, last_ms: int) -> None:
        self.producer_id = producer_id
        self.last_ms = last_ms
        self.batches: deque[ProducerBatch] = deque(maxlen=REMEMBERED_BATCHES)
        self.encoded: bytes | None = None

    @property
    def next_sequence(self) -> int:
        return self.batches[-1].sequence + 1 if self.batches else 0

    @property
    def last_index(self) -> int:
        return self.batches[-1].index if self.batches else self.producer_id

    def encode(self) -> bytes:
        if self.encoded is None:
            head = _PRODUCER.pack(self.producer_id, self.last_ms, len(self.batches))
            self.encoded = head + b"".join([_BATCH.pack(*batch) for batch in self.batches])
        return self.encoded


class ProducerMemory:
    """The memory of one log at one position. It moves forward entry by entry; to go back, start from an older one."""

    def __init__(self) -> None:
        self._clock_ms = 0
        self._producers: OrderedDict[int, _Producer] = OrderedDict()  # whose last entry is the oldest comes first

    def __len__(self) -> int:
        """How many producers are remembered."""
        return len(self._producers)

    def __iter__(self) -> Iterator[tuple[int, tuple[ProducerBatch, ...]]]:
        """Each producer's id and its remembered batches, oldest first; the producer longest silent comes first."""
        return iter([(producer.producer_id, tuple(producer.batches)) for producer in self._producers.values()])

    # ------------------------------------------------------------ before an append

    def judge(
        self, producer_id: int, sequence: int, record_count: int, checksum: int
    ) -> ProducerBatch | ProducerRefusal | None:
        """What is to become of a batch of a producer at the end of this log.

        The batch under which it stands there already; why it must not be appended; or None: it is the next one.
        """
        producer = self._producers.get(producer_id)
        if producer is None:
            return ProducerRefusal(
                ProducerProblem.EXPIRED,
                f"producer {producer_id} is not known any more, if it ever was: the log remembers the last "
                f"{MAX_PRODUCERS} producers, each for {EXPIRES_AFTER_MS // 3_600_000} h. Nothing was appended now; "
                f"whether batch {sequence} was, when it was sent before, the log does not know. Register again",
            )
        if sequence == producer.next_sequence:
            return None
        if sequence > producer.next_sequence:
            return ProducerRefusal(
                ProducerProblem.GAP,
                f"batch {sequence} of producer {producer_id} cannot be appended before batch "
                f"{producer.next_sequence}, which is not in the log; nothing was appended: send the batches in order",
            )
        for batch in producer.batches:
            if batch.sequence == sequence:
                if (batch.record_count, batch.checksum) == (record_count, checksum):
                    return batch
                return ProducerRefusal(
                    ProducerProblem.REUSED,
                    f"batch {sequence} of producer {producer_id} is in the log with other records; nothing was "
                    "appended: a batch that is sent again must be the same byte for byte, another one has the next "
                    "number",
                )
        return ProducerRefusal(
            ProducerProblem.FORGOTTEN,
            f"batch {sequence} of producer {producer_id} was stored before, its offset is no longer remembered: only "
            f"those of the last {REMEMBERED_BATCHES} batches are. Nothing was appended now",
        )

    # ------------------------------------------------------------ at an append

    def registered(self, index: Index, timestamp_ms: int) -> None:
        """Move on past the entry at `index`, which registers a producer."""
        self._advance(timestamp_ms)
        if index > 0:  # 0 is no producer's id
            self._producers[index] = _Producer(index, self._clock_ms)
            if len(self._producers) > MAX_PRODUCERS:
                self._producers.popitem(last=False)
        self._expire()

    def appended(self, producer_id: int, batch: ProducerBatch, timestamp_ms: int) -> None:
        """Move on past a batch of a producer; that of one that is not remembered changes nothing but the clock."""
        self._advance(timestamp_ms)
        producer = self._producers.get(producer_id)
        if producer is not None and batch.sequence >= producer.next_sequence:
            producer.batches.append(batch)
            producer.last_ms = self._clock_ms
            producer.encoded = None
            self._producers.move_to_end(producer_id)
        self._expire()

    def passed(self, timestamp_ms: int) -> None:
        """Move on past any other entry."""
        if timestamp_ms > self._clock_ms:
            self._advance(timestamp_ms)
            self._expire()

    def _advance(self, timestamp_ms: int) -> None:
        self._clock_ms = max(self._clock_ms, min(timestamp_ms, LATEST_MS))

    def _expire(self) -> None:
        while self._producers:
            oldest = next(iter(self._producers.values()))
            if oldest.last_ms >= self._clock_ms - EXPIRES_AFTER_MS:
                break
            del self._producers[oldest.producer_id]

    # ------------------------------------------------------------ as bytes

    def encode(self) -> bytes:
        """The memory as bytes; equal memories give equal bytes, and that of an empty log b""."""
        if not self._clock_ms and not self._producers:
            return b""
        parts = [_HEADER.pack(_VERSION, self._clock_ms, len(self._producers))]
        parts += [producer.encode() for producer in self._producers.values()]
        return b"".join(parts)

    @classmethod
    def decode(cls, encoded: bytes, below: Position | None = None) -> ProducerMemory:
        """The memory that was encoded. Raises ValueError for anything that no log remembers.

        below: where the log stands whose memory it is; all that it names must lie below. None if that is not known.
        """
        memory = cls()
        if not encoded:
            return memory
        if len(encoded) < _HEADER.size or len(encoded) > MAX_ENCODED_BYTES:
            raise ValueError(f"a memory of producers has no {len(encoded)} bytes")
        version, memory._clock_ms, count = _HEADER.unpack_from(encoded)
        if version != _VERSION or memory._clock_ms > LATEST_MS or count > MAX_PRODUCERS:
            raise ValueError(f"a memory of {count} producers in version {version} is none that this software reads")
        at, last_index, last_ms = _HEADER.size, 0, 0
        for _ in range(count):
            producer, at = _decode_producer(encoded, at)
            is_in_order = last_index < producer.last_index and last_ms <= producer.last_ms <= memory._clock_ms
            if not is_in_order or producer.last_ms < memory._clock_ms - EXPIRES_AFTER_MS:
                raise ValueError(f"producer {producer.producer_id} does not stand where it should")
            if producer.producer_id in memory._producers:
                raise ValueError(f"producer {producer.producer_id} is there twice")
            if producer.batches and below is not None and producer.batches[-1].end.offset > below.offset:
                raise ValueError(f"a batch of producer {producer.producer_id} ends above offset {below.offset}")
            last_index, last_ms = producer.last_index, producer.last_ms
            memory._producers[producer.producer_id] = producer
        if at != len(encoded):
            raise ValueError(f"there are {len(encoded) - at} bytes behind the last producer")
        if below is not None and count and last_index >= below.index:
            raise ValueError(f"entry {last_index} does not stand below index {below.index}")
        return memory


def _decode_producer(encoded: bytes, at: int) -> tuple[_Producer, int]:
    """The producer at that byte and where it ends. Raises ValueError."""
    if len(encoded) < at + _PRODUCER.size:
        raise ValueError("a producer is cut off")
    producer_id, last_ms, count = _PRODUCER.unpack_from(encoded, at)
    begins_at, at = at, at + _PRODUCER.size
    end = at + count * _BATCH.size
    if not 0 < producer_id < LIMIT or count > REMEMBERED_BATCHES or end > len(encoded):
        raise ValueError(f"producer {producer_id} with {count} batches is cut off, or is none")
    producer = _Producer(producer_id, last_ms)
    index, offset, sequence = producer_id, 0, -1
    for fields in _BATCH.iter_unpack(encoded[at:end]):
        batch = ProducerBatch._make(fields)
        if (
            not index < batch.index < LIMIT
            or not offset <= batch.base_offset < LIMIT
            or batch.sequence <= sequence
            or not batch.record_count
        ):
            raise ValueError(f"batch {batch.sequence} of producer {producer_id} does not stand where it should")
        index, offset, sequence = batch.index, batch.end.offset, batch.sequence
        producer.batches.append(batch)
    producer.encoded = encoded[begins_at:end]
    return producer, end
