"""The messages of a produce stream, made from the caller's items and kept until they are answered.

Items that are there already go in one batch, as what waits for a lane does; nobody waits for company. So a stream of
single records is stored in batches as large as its source is ahead of the answers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from ourolog.rpc.client_compression import Compression, compressed
from ourolog.rpc.client_producers import GATHERED_BYTES, GATHERED_RECORDS, MAX_UNANSWERED
from ourolog.rpc.v1 import log_pb2 as pb

T = TypeVar("T")
TAKES_S: Final = 0.001
"""For how long items are taken from an iterator that nobody can wait for, until what there is goes."""


class _Batch:
    """Items that go together.

    payloads: each item's records, encoded.
    counts: how many records each item has.
    record_count, size_bytes: of all of them.
    """

    __slots__ = ("_sent", "counts", "payloads", "record_count", "size_bytes")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.counts: list[int] = []
        self.record_count = 0
        self.size_bytes = 0
        self._sent: tuple[bytes, pb.Codec.ValueType] | None = None

    def sent(self, compression: Compression) -> tuple[bytes, pb.Codec.ValueType]:
        """What is sent of them, the same bytes each time, and how to read it."""
        if self._sent is None:
            self._sent = compressed(b"".join(self.payloads), compression)
        return self._sent

    def halves(self) -> list[_Batch]:
        """Split the items into two batches, as far as there are several."""
        halves = [_Batch(), _Batch()]
        for at, (payload, count) in enumerate(zip(self.payloads, self.counts, strict=True)):
            halves[2 * at >= len(self.counts)].add(payload, count)
        return [half for half in halves if half.counts]

    def add(self, payload: bytes, count: int) -> None:
        self.payloads.append(payload)
        self.counts.append(count)
        self.record_count += count
        self.size_bytes += len(payload)


class UnansweredRequests(Generic[T]):
    """The messages of a produce stream, in order; those that are not answered can be sent again, on another call.

    items: what the caller wants to have appended.
    encode: an item's records, encoded, and how many they are.
    acks: what is asked for.
    compression: how what goes together is compressed.

    answered: how many messages were answered.
    sent: how many of them the present call may have sent, those that were answered before it included.
    producer_id: under which they are numbered, 0 if they are not.
    error: what the caller's own iterator failed with, if it did.
    """

    def __init__(
        self,
        items: AsyncIterable[T] | Iterable[T],
        encode: Callable[[T], tuple[bytes, int]],
        acks: pb.Acks.ValueType,
        compression: Compression = "none",
    ) -> None:
        self._items: AsyncIterator[T] | Iterator[T] = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._encode = encode
        self._acks = acks
        self._compression: Compression = compression
        self._unanswered: deque[_Batch] = deque()
        self._gathered: deque[_Batch] = deque()
        self._gathers_bytes = GATHERED_BYTES
        self._taking: asyncio.Task[None] | None = None
        self._is_at_end = False
        self._calls = 0
        self.answered = 0
        self.sent = 0
        self.producer_id = 0
        self.error: BaseException | None = None
        self._first = 0
        self._unknown_below = 0
        self._lost_below = 0
        self._lost_at = ""
        self._paced_below = 0
        self._changed = asyncio.Event()

    @property
    def outstanding(self) -> int:
        """How many messages were sent on the present call and are not answered."""
        return self.sent - self.answered

    @property
    def made(self) -> int:
        """How many messages there are so far, the answered ones included."""
        return self.answered + len(self._unanswered)

    @property
    def is_done(self) -> bool:
        """Whether all items are answered, and there are no more."""
        return self._is_at_end and not self._unanswered and not self._gathered

    @property
    def unanswered_items(self) -> int:
        """How many items were sent, on any call, and are not answered."""
        return sum(len(batch.counts) for batch in self._unanswered)

    @property
    def is_unknown(self) -> bool:
        """Whether some that are not answered may have been stored."""
        return self.answered < max(self._unknown_below, self._lost_below)

    def note_unknown(self) -> None:
        """What the present call has sent, and is not answered, may have been stored."""
        self._unknown_below = max(self._unknown_below, self.sent)

    def number(self, producer_id: int) -> None:
        """Number from now on all that are not answered, from 0 on, under this producer's id; 0 for none."""
        self.producer_id, self._first = producer_id, self.answered

    def messages(self) -> AsyncIterator[pb.ProduceBatchRequest]:
        """The messages of a new call: first those that are not answered, then those of further items.

        They end where the items raise; `error` says what.
        """
        self.sent = self.answered
        self._calls += 1
        self._changed.set()
        return self._messages(self._calls)

    def note_answer(self) -> list[int]:
        """The first message of those that were not answered is. Returns how many records each of its items has."""
        self.answered += 1
        self._changed.set()
        return self._unanswered.popleft().counts

    def send_one_by_one(self) -> None:
        """It is not known for which of those that it has sent the call has ended: let each wait for the one before it.

        So the next call ends with the first that is refused, and says why.
        """
        self._paced_below = self.sent

    def note_too_large(self, addr: str) -> None:
        """One of those that the call has sent is too large for connections to that node; others may be stored."""
        if addr != self._lost_at:  # what this node will say tells nothing of what the other one may have stored
            self._unknown_below = max(self._unknown_below, self._lost_below)
        self._lost_below, self._lost_at = self.sent, addr

    def take_apart(self, too_large_for: str = "") -> bool:
        """The first that is not answered was refused for what is in it, with all behind it: send smaller ones.

        too_large_for: the address of the node for whose connections it is too large; then it was so before, too.
        Returns whether there were several items in it.
        """
        if too_large_for and too_large_for == self._lost_at:
            self._lost_below = 0
        refused = self._unanswered[0]
        if len(refused.counts) < 2:
            return False
        # If it was too large, neither those as large behind it nor those to come shall be.
        self._gathers_bytes = refused.size_bytes // 2
        parts = (batch.halves() if batch.size_bytes >= refused.size_bytes else [batch] for batch in self._unanswered)
        self._unanswered = deque(part for halves in parts for part in halves)
        return True

    async def close(self) -> None:
        """Wait for no further item."""
        self._calls += 1
        self._changed.set()
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    # ------------------------------------------------------------ messages

    async def _messages(self, call: int) -> AsyncIterator[pb.ProduceBatchRequest]:
        # gRPC may ask for one more message of a call that has been given up.
        while call == self._calls:
            if self.outstanding >= (1 if self.answered < self._paced_below else MAX_UNANSWERED):
                await self._change()
            elif self.sent < self.made:
                request = self._message(self._unanswered[self.outstanding])
                self.sent += 1
                yield request
            elif self._is_at_end and not self._gathered:
                return
            else:
                await self._gather()
                if self._gathered:
                    self._unanswered.append(self._gathered.popleft())
                elif not self._is_at_end:
                    await self._change()

    async def _gather(self) -> None:
        """Take what there is, as far as there is room for it."""
        if self._is_at_end or len(self._gathered) > 1:
            return
        if not isinstance(self._items, AsyncIterator):
            self._take_now(self._items)
        elif self._taking is None or self._taking.done():
            # A task of its own, which goes on when the call that waits for it is given up: else the item would be lost,
            # and the caller's generator would be cancelled.
            self._taking = asyncio.create_task(self._take(self._items))
            await asyncio.sleep(0)  # it takes what need not be waited for

    async def _change(self) -> None:
        """Wait for an item, an answer, the end, or another call."""
        self._changed.clear()
        await self._changed.wait()

    def _message(self, batch: _Batch) -> pb.ProduceBatchRequest:
        records, codec = batch.sent(self._compression)
        request = pb.ProduceBatchRequest(records=records, record_count=batch.record_count, codec=codec, acks=self._acks)
        if self.producer_id:
            request.producer_id, request.sequence = self.producer_id, self.sent - self._first
        return request

    # ------------------------------------------------------------ items

    async def _take(self, items: AsyncIterator[T]) -> None:
        try:
            turn_s = time.monotonic()
            while self._add(await anext(items)):
                if time.monotonic() - turn_s >= TAKES_S:
                    await asyncio.sleep(TAKES_S)  # what there is goes meanwhile: the source may never wait itself
                    turn_s = time.monotonic()
        except StopAsyncIteration:
            self._is_at_end = True
        except (Exception, asyncio.CancelledError) as error:  # raised again where the answers are read
            self.error, self._is_at_end = error, True
        finally:
            self._changed.set()

    def _take_now(self, items: Iterator[T]) -> None:
        until_s = time.monotonic() + TAKES_S
        try:
            while self._add(next(items)) and time.monotonic() < until_s:
                pass
        except StopIteration:
            self._is_at_end = True
        except Exception as error:  # as above
            self.error, self._is_at_end = error, True

    def _add(self, item: T) -> bool:
        """Put the item to those that go next. Returns whether there is room for another."""
        payload, count = self._encode(item)
        if not self._gathered or not self._has_room(self._gathered[-1], payload, count):
            self._gathered.append(_Batch())
        batch = self._gathered[-1]
        batch.add(payload, count)
        self._changed.set()
        return len(self._gathered) == 1 and self._has_room(batch, b"", 1)

    def _has_room(self, batch: _Batch, payload: bytes, count: int) -> bool:
        """Whether that item may go with those of the batch; one without records goes alone, and is refused."""
        is_small = batch.record_count + count <= GATHERED_RECORDS
        is_short = batch.size_bytes + len(payload) <= self._gathers_bytes
        return is_small and is_short and count > 0 and batch.record_count > 0
