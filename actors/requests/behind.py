"""Reads of clients that have seen more than this node has committed: they wait until it has, or their time is up."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from ourolog.actors.messages.server import CancelRequest, Consume
from ourolog.storage.types import Offset


class BehindReads:
    """The consumes that wait until everything is committed here that their clients have seen, the lowest first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Offset, int, float, Consume]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Consume]:
        return (consume for _, _, _, consume in self._waiting)

    def add(self, consume: Consume, deadline_s: float) -> None:
        """Let a consume wait.

        deadline_s: until when, by the monotonic clock.
        """
        heapq.heappush(self._waiting, (consume.seen_end, next(self._order), deadline_s, consume))

    def take(self, end: Offset) -> Consume | None:
        """Remove and return one whose client has seen no more than what is committed below `end`, if there is one."""
        if self._waiting and self._waiting[0][0] <= end:
            return heapq.heappop(self._waiting)[3]
        return None

    def take_all(self) -> list[Consume]:
        """Remove and return all of them."""
        taken, self._waiting = self._waiting, []
        return [consume for _, _, _, consume in taken]

    def expired(self, now_s: float) -> list[Consume]:
        """Remove and return those whose time is up."""
        over = [entry for entry in self._waiting if entry[2] <= now_s]
        if over:
            self._waiting = [entry for entry in self._waiting if entry[2] > now_s]
            heapq.heapify(self._waiting)
        return [consume for _, _, _, consume in over]

    @property
    def next_deadline_s(self) -> float | None:
        """When the next one's time is up, by the monotonic clock; None if none waits."""
        return min((deadline_s for _, _, deadline_s, _ in self._waiting), default=None)

    def cancel(self, cancel: CancelRequest) -> bool:
        """Forget a consume. Returns whether it waited here."""
        for at, (_, _, _, consume) in enumerate(self._waiting):
            if consume.request_id == cancel.request_id and consume.reply_to is cancel.reply_to:
                del self._waiting[at]
                heapq.heapify(self._waiting)
                return True
        return False
