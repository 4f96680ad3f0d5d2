"""How much of what clients send and read may be in memory at once, and how it is shared among them.

Every bound here is divided by one rule, the dynamic threshold of shared buffers (Choudhury and
Hahne, 1998): a client may take more as long as it then holds at most twice of what is still
free. One greedy client gets two thirds, and each further one leaves a part of what is left, so
that whoever comes last and asks for little finds room. A client is a connection.

Everything here lives on one asyncio loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ourolog.rpc.errors import overloaded

MAX_PRODUCES: Final = 4096
MAX_PRODUCE_BYTES: Final = 64 * 1024 * 1024
MAX_HELD_BYTES: Final = 96 * 1024 * 1024
STALLED_AFTER_S: Final = 1.0
TIMES_WHAT_IS_FREE: Final = 2
# What is read is in memory as it came from the store, cut out of that, decoded, in its message, encoded, and in gRPC.
READ_COPIES: Final = 6
# What of that is left of a message that is on its way when all else is dropped.
IN_FLIGHT_COPIES: Final = 3


class Shares:
    """A number of things and their bytes, in all and by client. `take` and `give_back` in pairs."""

    def __init__(self, max_count: int, max_bytes: int, max_count_each: int | None = None) -> None:
        """max_count_each: how many things one client may hold, however many are free."""
        self.max_count = max_count
        self.max_count_each = max_count if max_count_each is None else max_count_each
        self.max_bytes = max_bytes
        self.count = 0
        self.size_bytes = 0
        self._by_client: dict[str, tuple[int, int]] = {}

    @property
    def clients(self) -> int:
        """How many clients hold something."""
        return len(self._by_client)

    def of(self, client: str) -> tuple[int, int]:
        """How many things this client holds, and their bytes."""
        return self._by_client.get(client, (0, 0))

    def has_room(self, client: str, size_bytes: int) -> bool:
        # Into an empty room anything may go, or what is larger than the bound would wait for ever.
        if not self.count:
            return True
        count, held_bytes = self.of(client)
        free_count = self.max_count - self.count - 1
        free_bytes = self.max_bytes - self.size_bytes - size_bytes
        if free_count < 0 or free_bytes < 0 or count >= self.max_count_each:
            return False
        fair_count = count + 1 <= TIMES_WHAT_IS_FREE * free_count
        return fair_count and held_bytes + size_bytes <= TIMES_WHAT_IS_FREE * free_bytes

    def take(self, client: str, size_bytes: int) -> None:
        count, held_bytes = self.of(client)
        self._by_client[client] = (count + 1, held_bytes + size_bytes)
        self.count += 1
        self.size_bytes += size_bytes

    def give_back(self, client: str, size_bytes: int) -> None:
        count, held_bytes = self._by_client[client]
        assert count >= 1
        assert held_bytes >= size_bytes
        if count == 1:
            assert held_bytes == size_bytes
            del self._by_client[client]
        else:
            self._by_client[client] = (count - 1, held_bytes - size_bytes)
        self.count -= 1
        self.size_bytes -= size_bytes


class ProduceLimiter:
    """Counts produces between their arrival and their answer, and their bytes.

    Beyond the bounds a single call is refused at once with RESOURCE_EXHAUSTED, and a stream is
    not read any further, so that HTTP/2 flow control slows its client down.
    """

    def __init__(self, max_requests: int = MAX_PRODUCES, max_bytes: int = MAX_PRODUCE_BYTES) -> None:
        self.shares = Shares(max_requests, max_bytes)
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}

    def enter_or_refuse(self, client: str, size_bytes: int) -> None:
        """Raises ServiceError (RESOURCE_EXHAUSTED, with when to retry) when there is no room."""
        if not self.shares.has_room(client, size_bytes):
            shares = self.shares
            mine, _ = shares.of(client)
            raise overloaded(
                f"this node has {shares.count} produces of {shares.size_bytes} bytes under way, {mine} of them by this "
                f"client; it takes {shares.max_count} and {shares.max_bytes} bytes at once, shared among its clients. "
                "Nothing was appended; retry shortly"
            )
        self.shares.take(client, size_bytes)

    async def room(self, client: str, size_bytes: int) -> None:
        """Returns when there is room for so much, which is not taken."""
        while not self.shares.has_room(client, size_bytes):
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[free] = (client, size_bytes)
            try:
                await free
            finally:
                del self._waiting[free]

    async def enter(self, client: str, size_bytes: int, within_s: float) -> None:
        """Take room as soon as there is some. Raises ServiceError (RESOURCE_EXHAUSTED) when there is none in time."""
        try:
            async with asyncio.timeout(within_s):
                await self.room(client, size_bytes)
        except TimeoutError:
            pass
        self.enter_or_refuse(client, size_bytes)

    def leave(self, client: str, size_bytes: int) -> None:
        """Once for each admission."""
        self.shares.give_back(client, size_bytes)
        for free, (waiting, size) in self._waiting.items():
            if not free.done() and self.shares.has_room(waiting, size):
                free.set_result(None)


class Share:
    """What one consuming stream holds in memory. `drop` lets go of it, when the budget says so.

    in_flight_bytes: the part of it that is being written to the client, which cannot be dropped.
    """

    def __init__(self, client: str, drop: Callable[[], None]) -> None:
        self.client = client
        self.drop = drop
        self.size_bytes = 0
        self.in_flight_bytes = 0
        self.progress = 0
        self.progress_seen = -1


class ReadBudget:
    """How many bytes all that is read holds which clients have not taken yet, copies counted.

    A client that does not read would hold its share for ever. When others wait for room, shares
    whose clients took nothing for a while are dropped; such a stream reads again from where its
    client is, once that goes on reading. What stays, and stays counted, is the one message that
    is stuck in its connection: gRPC has no way for a server in Python to take that back, or to
    end such a call. So that those who do not read do not keep others from reading, as much again
    is set aside for clients that hold nothing yet.
    """

    def __init__(self, max_bytes: int = MAX_HELD_BYTES, stalled_after_s: float = STALLED_AFTER_S) -> None:
        self.stalled_after_s = stalled_after_s
        self.shares = Shares(2**31, max_bytes)
        self._holding: dict[Share, None] = {}
        self._waiting: dict[asyncio.Future[None], tuple[Share, int]] = {}
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def max_bytes(self) -> int:
        return self.shares.max_bytes

    @property
    def held_bytes(self) -> int:
        return self.shares.size_bytes

    async def room(self, share: Share, size_bytes: int) -> None:
        """Returns when so much is set aside for what this stream is about to read; at most a quarter of all."""
        assert not share.size_bytes, "one chunk at a time"
        size_bytes = self._reasonable(size_bytes)
        if not self._waiting and self._has_room(share.client, size_bytes):
            self._take(share, size_bytes)
            return
        loop = asyncio.get_running_loop()
        if self._sweep is None:
            self._sweep = loop.call_later(self.stalled_after_s, self._drop_stalled)
        room: asyncio.Future[None] = loop.create_future()
        self._waiting[room] = (share, size_bytes)
        self._let_in()
        try:
            await room
        except asyncio.CancelledError:
            if not self._waiting.pop(room, None):
                self.give_back(share)
            raise

    def hold(self, share: Share, size_bytes: int) -> bool:
        """Count what was read for this stream, instead of what was set aside; False, and nothing, if there is no room.

        It may be more than there is room for, by one read: batches come whole.
        """
        if share.size_bytes >= size_bytes:
            self._shrink(share, size_bytes)
            return True
        had_its_turn = share.size_bytes >= self._reasonable(size_bytes)
        if share.size_bytes:
            self.shares.give_back(share.client, share.size_bytes)
            share.size_bytes = 0
        if had_its_turn or self._has_room(share.client, self._reasonable(size_bytes)):
            self._take(share, size_bytes)
            return True
        self.give_back(share)
        return False

    def give_back(self, share: Share) -> None:
        """The stream holds nothing any more. May be called when it does not."""
        share.in_flight_bytes = 0
        self._shrink(share, 0)

    def _reasonable(self, size_bytes: int) -> int:
        return min(size_bytes, self.max_bytes // 4)

    def free_bytes(self) -> int:
        """How much of what is shared by all is not held."""
        return max(0, self.max_bytes - self.held_bytes)

    def _has_room(self, client: str, size_bytes: int) -> bool:
        if self.shares.of(client) == (0, 0):
            return not self.held_bytes or self.held_bytes + size_bytes <= 2 * self.max_bytes
        return self.shares.has_room(client, size_bytes)

    def _shrink(self, share: Share, size_bytes: int) -> None:
        if share.size_bytes > size_bytes:
            self.shares.give_back(share.client, share.size_bytes)
            if size_bytes:
                self.shares.take(share.client, size_bytes)
            share.size_bytes = size_bytes
        if not share.size_bytes:
            self._holding.pop(share, None)
        self._let_in()

    def _take(self, share: Share, size_bytes: int) -> None:
        self.shares.take(share.client, size_bytes)
        share.size_bytes = size_bytes
        self._holding[share] = None

    def _let_in(self) -> None:
        """In their order, as far as there is room for each; what it gets is set aside at once."""
        for room, (share, wanted) in list(self._waiting.items()):
            if self._has_room(share.client, wanted):
                del self._waiting[room]
                if not room.done():
                    self._take(share, wanted)
                    room.set_result(None)

    def _drop_stalled(self) -> None:
        self._sweep = None
        for share in list(self._holding):
            if share.progress == share.progress_seen and share.size_bytes > share.in_flight_bytes:
                share.drop()
                self._shrink(share, share.in_flight_bytes)
            share.progress_seen = share.progress
        if self._waiting:
            self._sweep = asyncio.get_running_loop().call_later(self.stalled_after_s, self._drop_stalled)
