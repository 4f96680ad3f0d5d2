"""Admission control: how much of what clients send and read is in memory at once, shared fairly among them.

Every limit here is divided by one rule, the dynamic threshold of shared buffers (Choudhury and
Hahne, 1998): a client may take more as long as it then holds at most twice as much as is still
free. One greedy client gets two thirds. Each further one leaves part of what is left, so that a
client that comes last and asks for little finds room. A client is a connection.

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
MAX_SHARE_OF_FREE: Final = 2
# Copies of what is read that are in memory at once, at the most: as it came from the store, decoded, its part of a
# batch that has to go in parts, in its message, and in gRPC.
READ_COPIES: Final = 5
# How many of them remain for a message that is being written, when all else is dropped.
IN_FLIGHT_COPIES: Final = 2


class FairLimit:
    """A limit on a number of things and on their bytes, shared fairly among clients.

    Every `take` is followed by one `release` of the same size.
    """

    def __init__(self, max_count: int, max_bytes: int, max_count_each: int | None = None) -> None:
        """Prepare a limit of which nothing is taken.

        max_count_each: how many things one client may hold, however many are free.
        """
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

    def held_by(self, client: str) -> tuple[int, int]:
        """How many things this client holds, and their bytes."""
        return self._by_client.get(client, (0, 0))

    def has_room(self, client: str, size_bytes: int) -> bool:
        """Whether this client may take one more thing of that size now."""
        # When nothing is held, anything is admitted; otherwise what is larger than the limit would wait for ever.
        if not self.count:
            return True
        count, held_bytes = self.held_by(client)
        free_count = self.max_count - self.count - 1
        free_bytes = self.max_bytes - self.size_bytes - size_bytes
        if free_count < 0 or free_bytes < 0 or count >= self.max_count_each:
            return False
        fair_count = count + 1 <= MAX_SHARE_OF_FREE * free_count
        return fair_count and held_bytes + size_bytes <= MAX_SHARE_OF_FREE * free_bytes

    def take(self, client: str, size_bytes: int) -> None:
        count, held_bytes = self.held_by(client)
        self._by_client[client] = (count + 1, held_bytes + size_bytes)
        self.count += 1
        self.size_bytes += size_bytes

    def release(self, client: str, size_bytes: int) -> None:
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
    """Limits the produces that are between their arrival and their answer.

    Beyond the limit a single call is refused at once with RESOURCE_EXHAUSTED, and a stream is
    not read any further, so that HTTP/2 flow control slows its client down.
    """

    def __init__(self, max_requests: int = MAX_PRODUCES, max_bytes: int = MAX_PRODUCE_BYTES) -> None:
        self.limit = FairLimit(max_requests, max_bytes)
        self._waiting: dict[asyncio.Future[None], tuple[str, int]] = {}

    def admit_or_refuse(self, client: str, size_bytes: int) -> None:
        """Take room now. Raises ServiceError (RESOURCE_EXHAUSTED, with when to retry) when there is none."""
        if not self.limit.has_room(client, size_bytes):
            limit = self.limit
            mine, _ = limit.held_by(client)
            raise overloaded(
                f"this node has {limit.count} produces of {limit.size_bytes} bytes under way, {mine} of them by this "
                f"client; it takes {limit.max_count} and {limit.max_bytes} bytes at once, shared among its clients. "
                "Nothing was appended; retry shortly"
            )
        self.limit.take(client, size_bytes)

    async def wait_for_room(self, client: str, size_bytes: int) -> None:
        """Return once there is room for this many bytes. Nothing is taken."""
        while not self.limit.has_room(client, size_bytes):
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[free] = (client, size_bytes)
            try:
                await free
            finally:
                del self._waiting[free]

    async def admit(self, client: str, size_bytes: int, within_s: float) -> None:
        """Take room as soon as there is some. Raises ServiceError (RESOURCE_EXHAUSTED) when there is none in time."""
        try:
            async with asyncio.timeout(within_s):
                await self.wait_for_room(client, size_bytes)
        except TimeoutError:
            pass
        self.admit_or_refuse(client, size_bytes)

    def release(self, client: str, size_bytes: int) -> None:
        """Give the room of one admitted produce back, and let in those who wait for it."""
        self.limit.release(client, size_bytes)
        for free, (waiting, size) in self._waiting.items():
            if not free.done() and self.limit.has_room(waiting, size):
                free.set_result(None)


class ReadReservation:
    """What one consume holds of the read budget.

    client: the connection that it counts for.
    drop: called by the budget when this consume must let go of what it holds.
    size_bytes: how much it holds, copies counted.
    in_flight_bytes: the part of it that is being written to the client, which cannot be dropped.
    progress: how many messages its client has taken; raised by the consume.
    progress_seen: what `progress` was when the budget looked last.
    """

    def __init__(self, client: str, drop: Callable[[], None]) -> None:
        self.client = client
        self.drop = drop
        self.size_bytes = 0
        self.in_flight_bytes = 0
        self.progress = 0
        self.progress_seen = -1


class ReadBudget:
    """A limit on what has been read for clients and not been taken by them yet, in bytes, copies counted.

    A client that does not read would hold its part for ever. When others wait for room, the
    reservations of clients that took nothing for a while are dropped; such a stream reads again
    from where its client is, once the client goes on reading. What remains, and remains counted,
    is the one message that is stuck in its connection: gRPC offers a server in Python no way to
    take that back, or to end such a call. So that clients that do not read do not keep others
    from reading, the same amount again is set aside for clients that hold nothing yet.
    """

    def __init__(self, max_bytes: int = MAX_HELD_BYTES, stalled_after_s: float = STALLED_AFTER_S) -> None:
        self.stalled_after_s = stalled_after_s
        self.limit = FairLimit(2**31, max_bytes)
        self._reservations: dict[ReadReservation, None] = {}
        self._waiting: dict[asyncio.Future[None], tuple[ReadReservation, int]] = {}
        self._stall_check: asyncio.TimerHandle | None = None

    @property
    def max_bytes(self) -> int:
        return self.limit.max_bytes

    @property
    def held_bytes(self) -> int:
        return self.limit.size_bytes

    async def reserve(self, reservation: ReadReservation, size_bytes: int) -> None:
        """Return once this many bytes are reserved for what is about to be read; at most a quarter of all."""
        assert not reservation.size_bytes, "one chunk at a time"
        size_bytes = self._capped(size_bytes)
        if not self._waiting and self._has_room(reservation.client, size_bytes):
            self._take(reservation, size_bytes)
            return
        loop = asyncio.get_running_loop()
        if self._stall_check is None:
            self._stall_check = loop.call_later(self.stalled_after_s, self._drop_stalled)
        admitted: asyncio.Future[None] = loop.create_future()
        self._waiting[admitted] = (reservation, size_bytes)
        self._admit_waiting()
        try:
            await admitted
        except asyncio.CancelledError:
            if not self._waiting.pop(admitted, None):
                self.release(reservation)
            raise

    def resize(self, reservation: ReadReservation, size_bytes: int) -> bool:
        """Count what was actually read instead of what was reserved. False, and nothing is held, if there is no room.

        It may exceed the budget by one read, since batches come whole.
        """
        if reservation.size_bytes >= size_bytes:
            self._shrink(reservation, size_bytes)
            return True
        had_reserved_it = reservation.size_bytes >= self._capped(size_bytes)
        if reservation.size_bytes:
            self.limit.release(reservation.client, reservation.size_bytes)
            reservation.size_bytes = 0
        if had_reserved_it or self._has_room(reservation.client, self._capped(size_bytes)):
            self._take(reservation, size_bytes)
            return True
        self.release(reservation)
        return False

    def release(self, reservation: ReadReservation) -> None:
        """The consume holds nothing any more. May be called when it holds nothing already."""
        reservation.in_flight_bytes = 0
        self._shrink(reservation, 0)

    def _capped(self, size_bytes: int) -> int:
        return min(size_bytes, self.max_bytes // 4)

    def free_bytes(self) -> int:
        """How many bytes of the budget are not held."""
        return max(0, self.max_bytes - self.held_bytes)

    def _has_room(self, client: str, size_bytes: int) -> bool:
        if self.limit.held_by(client) == (0, 0):
            return not self.held_bytes or self.held_bytes + size_bytes <= 2 * self.max_bytes
        return self.limit.has_room(client, size_bytes)

    def _shrink(self, reservation: ReadReservation, size_bytes: int) -> None:
        if reservation.size_bytes > size_bytes:
            self.limit.release(reservation.client, reservation.size_bytes)
            if size_bytes:
                self.limit.take(reservation.client, size_bytes)
            reservation.size_bytes = size_bytes
        if not reservation.size_bytes:
            self._reservations.pop(reservation, None)
        self._admit_waiting()

    def _take(self, reservation: ReadReservation, size_bytes: int) -> None:
        self.limit.take(reservation.client, size_bytes)
        reservation.size_bytes = size_bytes
        self._reservations[reservation] = None

    def _admit_waiting(self) -> None:
        """Reserve for those who wait, in their order, as far as there is room for each."""
        for admitted, (reservation, wanted) in list(self._waiting.items()):
            if self._has_room(reservation.client, wanted):
                del self._waiting[admitted]
                if not admitted.done():
                    self._take(reservation, wanted)
                    admitted.set_result(None)

    def _drop_stalled(self) -> None:
        self._stall_check = None
        for reservation in list(self._reservations):
            if (
                reservation.progress == reservation.progress_seen
                and reservation.size_bytes > reservation.in_flight_bytes
            ):
                reservation.drop()
                self._shrink(reservation, reservation.in_flight_bytes)
            reservation.progress_seen = reservation.progress
        if self._waiting:
            self._stall_check = asyncio.get_running_loop().call_later(self.stalled_after_s, self._drop_stalled)
