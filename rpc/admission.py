"""The door: how much of what clients send and read may be in memory at once.

Beyond the bounds a single call is refused at once with RESOURCE_EXHAUSTED, and a stream is not
read any further, so that HTTP/2 flow control slows its client down. Everything here lives on
one asyncio loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from rpc.errors import overloaded

MAX_REQUESTS: Final = 4096
MAX_REQUEST_BYTES: Final = 64 * 1024 * 1024
MAX_HELD_BYTES: Final = 32 * 1024 * 1024
STALLED_AFTER_S: Final = 1.0


class Door:
    """Counts produces between their arrival and their answer, and their bytes."""

    def __init__(self, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_REQUEST_BYTES) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.size_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def enter_or_refuse(self, size_bytes: int) -> None:
        """Raises ServiceError (RESOURCE_EXHAUSTED, with when to retry) when there is no room."""
        if self._waiting or not self._has_room(size_bytes):
            raise overloaded(
                f"this node has {self.requests} produces of {self.size_bytes} bytes under way, as many as it takes "
                f"at once ({self.max_requests} and {self.max_bytes} bytes). Nothing was appended; retry shortly"
            )
        self._admit(size_bytes)

    async def enter(self, size_bytes: int) -> None:
        """Returns when there is room, first come first served."""
        if not self._waiting and self._has_room(size_bytes):
            self._admit(size_bytes)
            return
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.leave(size_bytes)
            else:
                # Whoever stood behind this one may fit where it did not.
                self._let_in()
            raise

    def leave(self, size_bytes: int) -> None:
        """Once for each admission."""
        self.requests -= 1
        self.size_bytes -= size_bytes
        assert self.requests >= 0
        assert self.size_bytes >= 0
        self._let_in()

    def _has_room(self, size_bytes: int) -> bool:
        # Into an empty room anything may go, or what is larger than the bound would wait for ever.
        return not self.requests or (
            self.requests < self.max_requests and self.size_bytes + size_bytes <= self.max_bytes
        )

    def _admit(self, size_bytes: int) -> None:
        self.requests += 1
        self.size_bytes += size_bytes

    def _let_in(self) -> None:
        while self._waiting:
            size_bytes, admitted = self._waiting[0]
            if not admitted.done():
                if not self._has_room(size_bytes):
                    return
                self._admit(size_bytes)
                admitted.set_result(None)
            self._waiting.popleft()


class Share:
    """What one consuming stream holds in memory. `drop` lets go of it, when the budget says so."""

    def __init__(self, drop: Callable[[], None]) -> None:
        self.drop = drop
        self.size_bytes = 0
        self.progress = 0
        self.progress_seen = -1


class ReadBudget:
    """How many bytes all consuming streams hold that their clients have not taken yet.

    A client that does not read would hold its share for ever. When others wait for room, shares
    whose clients took nothing for a while are dropped; such a stream reads again from where its
    client is, once that goes on reading. What stays is the one message that is stuck in its
    connection: gRPC has no way for a server in Python to take that back, or to end such a call.
    """

    def __init__(self, max_bytes: int = MAX_HELD_BYTES, stalled_after_s: float = STALLED_AFTER_S) -> None:
        self.max_bytes = max_bytes
        self.stalled_after_s = stalled_after_s
        self.held_bytes = 0
        self._holding: dict[Share, None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._sweep: asyncio.TimerHandle | None = None

    async def room(self) -> None:
        """Returns when less than the whole budget is held."""
        while self.held_bytes >= self.max_bytes:
            loop = asyncio.get_running_loop()
            if self._sweep is None:
                self._sweep = loop.call_later(self.stalled_after_s, self._drop_stalled)
            room: asyncio.Future[None] = loop.create_future()
            self._waiting.append(room)
            await room

    def hold(self, share: Share, size_bytes: int) -> bool:
        """Count what was read for this stream; False, and nothing counted, when the budget is used up.

        The last to be counted may exceed the budget by its size: batches come whole.
        """
        assert not share.size_bytes, "one chunk at a time"
        if self.held_bytes >= self.max_bytes:
            return False
        self.held_bytes += size_bytes
        share.size_bytes = size_bytes
        self._holding[share] = None
        return True

    def give_back(self, share: Share) -> None:
        """The stream holds nothing any more. May be called when it does not."""
        self.held_bytes -= share.size_bytes
        share.size_bytes = 0
        self._holding.pop(share, None)
        if self.held_bytes < self.max_bytes:
            waiting, self._waiting = self._waiting, []
            for room in waiting:
                if not room.done():
                    room.set_result(None)

    def _drop_stalled(self) -> None:
        self._sweep = None
        for share in list(self._holding):
            if share.progress == share.progress_seen:
                share.drop()
                self.give_back(share)
            share.progress_seen = share.progress
        if any(not room.done() for room in self._waiting):
            self._sweep = asyncio.get_running_loop().call_later(self.stalled_after_s, self._drop_stalled)
