"""Batches of produces that go together: gathered while others are on their way, encoded once, answered one by one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from itertools import accumulate
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client_calls import Call
from ourolog.rpc.client_compression import Compression, compressed
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import encode_records

GATHERED_RECORDS: Final = 4000
"""How many records of several callers go together: a batch costs the nodes as much as thousands of records."""

MESSAGE_BYTES: Final = 1024 * 1024
"""How large a message of a stream may be that is kept while nothing is sent: once there was a larger one, a node that
waits for the next keeps a place for it."""

# What is before a value takes so much at the most, up to 2 MiB.
_HEAD_BYTES: Final = 8

GATHERED_BYTES: Final = MESSAGE_BYTES - _HEAD_BYTES * GATHERED_RECORDS
"""How many bytes of values of several callers go together: as much as fits into a message."""

RECORD_COSTS_BYTES: Final = 64
"""What a record that waits costs beside its value, at the least."""

Response = pb.ProduceResponse | pb.ProduceBatchResponse

Placed = tuple[int, tuple[str, ...]]
"""Where a caller's first record is, and which replicas have it."""

_NAMED_RECORD: Final = re.compile(r"records\[(\d+)\]")


class Batch:
    """Produces that are sent together, in the order in which they were called.

    Lists, and no object for each produce: a client makes hundreds of thousands of them a second.

    acks: what is asked for.
    compression: how they are compressed, together.
    answers: what each caller waits for.
    counts: how many records each has.
    give_up_at_s: until when each may last, by the loop's clock.
    values: the records of all, in order; empty if the caller has encoded them.
    record_count: how many records there are in all.
    size_bytes: of their values.
    is_closed: whether nothing else may go with them, so that to wait for more would be of no use.
    sequence: the number under which they were sent, if they were.
    was_sent: whether a call may have brought them to a node.
    is_unknown: whether one may have stored them, and none has said so yet.
    unknown_at: the one node that may have stored them, if it is known that no other has: where that one refuses them
        for what they are, it has done so before.
    said: what the last call with them failed with.
    """

    __slots__ = (
        "_codec",
        "_encoded",
        "_sent",
        "acks",
        "answers",
        "compression",
        "counts",
        "give_up_at_s",
        "is_closed",
        "is_unknown",
        "record_count",
        "said",
        "sequence",
        "size_bytes",
        "unknown_at",
        "values",
        "was_sent",
    )

    def __init__(self, acks: Acks, compression: Compression = "none") -> None:
        self.acks = acks
        self.compression = compression
        self.answers: list[asyncio.Future[Placed]] = []
        self.counts: list[int] = []
        self.give_up_at_s: list[float] = []
        self.values: list[bytes] = []
        self.record_count = 0
        self.size_bytes = 0
        self.is_closed = False
        self.sequence = 0
        self.was_sent = False
        self.is_unknown = False
        self.unknown_at = ""
        self.said = ""
        self._encoded = b""
        self._sent = b""
        self._codec = pb.CODEC_NONE

    def add(self, answer: asyncio.Future[Placed], value: bytes, give_up_at_s: float) -> None:
        """A caller wants to have this record appended."""
        self.answers.append(answer)
        self.counts.append(1)
        self.give_up_at_s.append(give_up_at_s)
        self.values.append(value)
        self.record_count = record_count = self.record_count + 1
        self.size_bytes = size_bytes = self.size_bytes + len(value)
        if record_count >= GATHERED_RECORDS or size_bytes >= GATHERED_BYTES:
            self.is_closed = True

    def add_many(
        self, answer: asyncio.Future[Placed], values: Sequence[bytes], size_bytes: int, give_up_at_s: float
    ) -> None:
        """A caller wants to have these records appended, together."""
        self.answers.append(answer)
        self.counts.append(len(values))
        self.give_up_at_s.append(give_up_at_s)
        self.values += values
        self.record_count += len(values)
        self.size_bytes += size_bytes
        self.is_closed = not values or self.record_count >= GATHERED_RECORDS or self.size_bytes >= GATHERED_BYTES

    def add_encoded(
        self, answer: asyncio.Future[Placed], payload: bytes, record_count: int, give_up_at_s: float
    ) -> None:
        """A caller wants to have these records appended, which it has encoded: they go alone."""
        self.answers.append(answer)
        self.counts.append(record_count)
        self.give_up_at_s.append(give_up_at_s)
        self.record_count, self.size_bytes, self._encoded = record_count, len(payload), payload
        self.is_closed = True

    def has_room(self, record_count: int, size_bytes: int) -> bool:
        """Whether so much may be added. What has no records goes alone, and is refused."""
        return (
            not self.is_closed
            and self.size_bytes + size_bytes <= GATHERED_BYTES
            and 0 < record_count <= GATHERED_RECORDS - self.record_count
        )

    @property
    def is_large(self) -> bool:
        """Whether a caller has made it larger than what is gathered."""
        return self.size_bytes + _HEAD_BYTES * self.record_count > MESSAGE_BYTES

    @property
    def held_bytes(self) -> int:
        """How much of the client's room they take."""
        return self.size_bytes + RECORD_COSTS_BYTES * self.record_count

    # ------------------------------------------------------------ who waits

    @property
    def has_somebody_waiting(self) -> bool:
        return not all(map(asyncio.Future.done, self.answers))

    @property
    def last_give_up_at_s(self) -> float:
        """Until when whoever has the most time waits, gone or not."""
        return max(self.give_up_at_s)

    def first_give_up_at_s(self, if_nobody_s: float) -> float:
        """Until when whoever has the least time waits."""
        waiting = (at_s for answer, at_s in zip(self.answers, self.give_up_at_s, strict=True) if not answer.done())
        return min(waiting, default=if_nobody_s)

    def without_gone(self) -> Batch:
        """Nothing of it was sent: the same without those whose callers have gone."""
        if not any(map(asyncio.Future.done, self.answers)):
            return self
        return self._part([at for at, answer in enumerate(self.answers) if not answer.done()])

    def parts(self, refusal: LogError) -> list[Batch]:
        """Something in it was refused, and nothing of it was appended: smaller batches, with those who still wait.

        A node that has looked into the batch names the record; else it was too large, and is halved.
        """
        waiting = [at for at, answer in enumerate(self.answers) if not answer.done()]
        if len(waiting) < 2:
            return [self]
        named = next((found for field in refusal.fields if (found := _NAMED_RECORD.match(field))), None)
        if named is not None:
            ends = list(accumulate(self.counts))
            bad = next((at for at, end in enumerate(ends) if int(named[1]) < end), 0)
            groups = [[at for at in waiting if at < bad], [bad], [at for at in waiting if at > bad]]
        else:
            middle = len(waiting) // 2
            groups = [waiting[:middle], waiting[middle:]]
        return [self._part(group) for group in groups if group]

    def _part(self, chosen: Sequence[int]) -> Batch:
        part = Batch(self.acks, self.compression)
        ends = list(accumulate(self.counts))
        for at in chosen:
            values = self.values[ends[at] - self.counts[at] : ends[at]]
            part.add_many(self.answers[at], values, sum(map(len, values)), self.give_up_at_s[at])
        part.is_closed = True
        return part

    # ------------------------------------------------------------ what is sent

    def _payload(self) -> bytes:
        """What is sent of the records: the same bytes each time."""
        if not self._sent:
            encoded = self._encoded or encode_records(self.values)
            self._sent, self._codec = compressed(encoded, self.compression)
        return self._sent

    @property
    def sent_bytes(self) -> int:
        """How much was sent of the records, as it was sent."""
        return len(self._sent)

    def message(self, producer_id: int, left_s: float) -> pb.ProduceBatchRequest:
        """The message of a stream with it. `left_s`: how long it may take, in seconds."""
        self.was_sent = True
        return pb.ProduceBatchRequest(
            records=self._payload(),
            record_count=self.record_count,
            codec=self._codec,
            acks=pb.Acks.ValueType(int(self.acks)),
            producer_id=producer_id,
            sequence=self.sequence,
            timeout_ms=max(1, int(left_s * 1000)),
        )

    def call(self, producer_id: int, sequence: int) -> Call[Response]:
        """A call with it. `producer_id`: 0 for one without a number."""
        self.was_sent = True
        acks = pb.Acks.ValueType(int(self.acks))
        payload = self._payload()
        if self._codec == pb.CODEC_NONE and len(self.values) == len(self.answers) == self.record_count == 1:
            # A refusal of this one says what is wrong with the record, and not with a batch that nobody made.
            one = pb.ProduceRequest(
                record=pb.Record(value=self.values[0]), acks=acks, producer_id=producer_id, sequence=sequence
            )
            return lambda stub, left_s: stub.Produce(one, timeout=left_s)
        many = pb.ProduceBatchRequest(
            records=payload,
            record_count=self.record_count,
            codec=self._codec,
            acks=acks,
            producer_id=producer_id,
            sequence=sequence,
        )
        return lambda stub, left_s: stub.ProduceBatch(many, timeout=left_s)

    # ------------------------------------------------------------ what became of it

    def acknowledge(self, base_offset: int, replicas: tuple[str, ...]) -> None:
        """It is stored: tell each caller its own part."""
        for answer, count in zip(self.answers, self.counts, strict=True):
            if not answer.done():
                answer.set_result((base_offset, replicas))
            base_offset += count

    def fail(self, error: LogError, by_s: float | None = None) -> None:
        """Tell those who still wait why it came to nothing, or may have.

        by_s: only those whose time is up by then; None for all.
        """
        for answer, at_s in zip(self.answers, self.give_up_at_s, strict=True):
            if not answer.done() and (by_s is None or at_s <= by_s):
                answer.set_exception(copy(error))


class OpenBatches:
    """The batches of a client that are not answered, and how much they hold.

    pending_bytes: of all that was called and is not answered; each record counts 64 more than its value.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        """Begin without any. `on_room`: called when they hold less than before."""
        self._batches: dict[Batch, None] = {}
        self._on_room = on_room
        self.pending_bytes = 0

    def __iter__(self) -> Iterator[Batch]:
        return iter(list(self._batches))

    def begin(self, acks: Acks, compression: Compression) -> Batch:
        """A new batch. Whoever adds to it counts that among what is pending."""
        batch = Batch(acks, compression)
        self._batches[batch] = None
        return batch

    def replace(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """These have now those of its callers that still wait."""
        for part in parts:
            self._batches[part] = None
            self.pending_bytes += part.held_bytes
        self.end(batch)

    def end(self, batch: Batch) -> None:
        """Its callers have been told, or have gone."""
        del self._batches[batch]
        self.pending_bytes -= batch.held_bytes
        self._on_room()


def first_offset(response: Response) -> int:
    """Where its first record is."""
    return response.offset if isinstance(response, pb.ProduceResponse) else response.base_offset
