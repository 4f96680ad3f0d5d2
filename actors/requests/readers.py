"""Tailing readers: consumes that wait at the end of the log for more."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

from ourolog.actors.messages.server import CancelRequest, Consume
from ourolog.storage.types import Offset


class TailingReaders:
    """The waiting readers, those of the lowest offset first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Offset, int, Consume]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Consume]:
        return (consume for _, _, consume in self._waiting)

    def add(self, consume: Consume) -> None:
        heapq.heappush(self._waiting, (consume.offset, next(self._order), consume))

    def take(self, is_answerable: Callable[[Offset], bool]) -> Consume | None:
        """Remove and return the reader of the lowest offset, if it can be answered."""
        if self._waiting and is_answerable(self._waiting[0][0]):
            return heapq.heappop(self._waiting)[2]
        return None

    def cancel(self, cancel: CancelRequest) -> bool:
        """Forget a reader. Returns whether it waited here."""
        before = len(self._waiting)
        self._waiting = [
            entry
            for entry in self._waiting
            if entry[2].request_id != cancel.request_id or entry[2].reply_to is not cancel.reply_to
        ]
        if len(self._waiting) == before:
            return False
        heapq.heapify(self._waiting)
        return True
