"""The messages of a produce stream, made from the caller's items and kept until they are answered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Generic, TypeVar

from ourolog.rpc.client_producers import MAX_UNANSWERED
from ourolog.rpc.v1 import log_pb2 as pb

T = TypeVar("T")
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)


class UnansweredRequests(Generic[T, Req]):
    """The messages of a produce stream, in order; those that are not answered can be sent again, on another call.

    taken: how many items there were so far.
    answered: how many of them were answered.
    sent: how many of them the present call may have sent, those that were answered before it included.
    producer_id: under which they are numbered, 0 if they are not.
    error: what the caller's own iterator failed with, if it did.
    """

    def __init__(self, items: AsyncIterable[T] | Iterable[T], make: Callable[[T], Req]) -> None:
        self._items: AsyncIterator[T] | Iterator[T] = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._make: Callable[[T], Req] = make
        self._unanswered: deque[Req] = deque()
        self._taking: asyncio.Task[None] | None = None
        self._is_at_end = False
        self._calls = 0
        self.taken = 0
        self.answered = 0
        self.sent = 0
        self.producer_id = 0
        self.error: Exception | None = None
        self._first = 0
        self._unknown_below = 0
        self._room = asyncio.Event()

    @property
    def outstanding(self) -> int:
        """How many were sent on the present call and are not answered."""
        return self.sent - self.answered

    @property
    def unanswered(self) -> int:
        """How many were made and are not answered."""
        return self.taken - self.answered

    @property
    def is_unknown(self) -> bool:
        """Whether some that are not answered may have been stored."""
        return self.answered < self._unknown_below

    def note_unknown(self) -> None:
        """What the present call has sent, and is not answered, may have been stored."""
        self._unknown_below = max(self._unknown_below, self.sent)

    def number(self, producer_id: int) -> None:
        """Number from now on all that are not answered, from 0 on, under this producer's id; 0 for none."""
        self.producer_id, self._first = producer_id, self.answered

    def messages(self) -> AsyncIterator[Req]:
        """The messages of a new call: first those that are not answered, then one for each further item.

        They end where the items raise; `error` says what.
        """
        self.sent = self.answered
        self._calls += 1
        return self._messages(self._calls)

    def note_answer(self) -> None:
        """The first of those that were not answered is."""
        self._unanswered.popleft()
        self.answered += 1
        self._room.set()

    async def close(self) -> None:
        """Wait for no further item."""
        self._calls += 1
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    async def _messages(self, call: int) -> AsyncIterator[Req]:
        # gRPC may ask for one more message of a call that has been given up.
        while call == self._calls:
            if self.producer_id and self.outstanding >= MAX_UNANSWERED:
                self._room.clear()
                await self._room.wait()
            elif self.sent < self.taken:
                request = self._unanswered[self.sent - self.answered]
                if self.producer_id:
                    request.producer_id, request.sequence = self.producer_id, self.sent - self._first
                self.sent += 1
                yield request
            elif self._is_at_end:
                return
            elif isinstance(self._items, AsyncIterator):
                await self._take(self._items)
            else:
                self._take_now(self._items)

    async def _take(self, items: AsyncIterator[T]) -> None:
        # A task of its own, which goes on when the call that waits for it is given up: else the item would be lost,
        # and the caller's generator would be cancelled.
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take_one(items))
        await asyncio.shield(self._taking)

    async def _take_one(self, items: AsyncIterator[T]) -> None:
        try:
            self._add(await anext(items))
        except StopAsyncIteration:
            self._is_at_end = True
        except Exception as error:  # raised again where the answers are read
            self._end_with(error)

    def _take_now(self, items: Iterator[T]) -> None:
        try:
            self._add(next(items))
        except StopIteration:
            self._is_at_end = True
        except Exception as error:  # as above
            self._end_with(error)

    def _add(self, item: T) -> None:
        self._unanswered.append(self._make(item))
        self.taken += 1

    def _end_with(self, error: Exception) -> None:
        self.error = error
        self._is_at_end = True
