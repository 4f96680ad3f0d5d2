"""The messages of a produce stream, made from the caller's items."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Generic, TypeVar

from ourolog.rpc.v1 import log_pb2 as pb

T = TypeVar("T")
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)


class CountedRequests(Generic[T, Req]):
    """The messages of a produce stream, counted.

    count: how many there were so far.
    error: what the caller's own iterator failed with, if it did.
    """

    def __init__(self, items: AsyncIterable[T] | Iterable[T], make: Callable[[T], Req]) -> None:
        self._items = items
        self._make: Callable[[T], Req] = make
        self.count = 0
        self.error: Exception | None = None

    async def messages(self) -> AsyncIterator[Req]:
        """One message for each item. Raises whatever the items raise."""
        try:
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    self.count += 1
                    yield self._make(item)
            else:
                for item in self._items:
                    self.count += 1
                    yield self._make(item)
        except Exception as error:
            self.error = error
            raise
