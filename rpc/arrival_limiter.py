"""A limit on the messages that are arriving at once: who gets a place, and who must give one up when it is slow.

gRPC reads the message of a unary call before it calls the handler, so a burst of large messages
would all be in memory before anybody counted the first. On the wire a unary call is a client
stream of one message. Served as that, a call gets its handler first, which asks for the message
when it is its turn; until then HTTP/2 flow control keeps all but 64 KiB of it with the client.

gRPC in Python does not say how much of a message has arrived, and a message that was asked for
cannot be refused any more. So each that is asked for counts as the largest that a client may send,
and only time tells who sends from who does not: a small message is there at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import grpc

from ourolog.rpc.errors import ServiceError, overloaded

MAX_ARRIVING: Final = 20  # times the largest message of 9 MiB: 180 MiB
# Long enough for the largest message over a slow line, while nobody else waits.
ARRIVE_WITHIN_S: Final = 30.0
# While others wait, half of the places are for messages that arrive within this time,
PATIENCE_S: Final = 0.1
# and the other half for messages that take up to this long.
LONG_PATIENCE_S: Final = 2.0
# For this long a client that had to give up its place is served after all others,
LATE_FOR_S: Final = 10.0
# except that every eighth place goes to one of those, so that they are served at all.
LATE_TURN: Final = 8

_LEAST_WAIT_S: Final = 0.001

T = TypeVar("T")


class _Arrival:
    """A message that was asked for and has not arrived yet.

    until_s: when it is too late.
    displaced: whether it has to make room for others.
    ended: whether its read was ended for being late.
    reader: the task that reads it, None before that begins.
    """

    __slots__ = ("client", "displaced", "ended", "reader", "since_s", "until_s")

    def __init__(self, client: str, since_s: float, until_s: float) -> None:
        self.client = client
        self.since_s = since_s
        self.until_s = until_s
        self.displaced = self.ended = False
        self.reader: asyncio.Task[object] | None = None

    def end(self) -> None:
        """End its read, if that has begun."""
        if self.reader is not None and not self.ended:
            self.ended = True
            self.reader.cancel()


class ArrivalLimiter:
    """Places for messages that are arriving. Lives on one asyncio loop.

    While there are places, everybody gets one, for `arrive_within_s`. When somebody has to wait,
    clients (connections) take turns, those that were late before after all others. Then reads that
    take long are ended with RESOURCE_EXHAUSTED and when to retry, those of the client with the most
    places first. Half of the places change hands within `patience_s`, so a client that sends its
    message at once waits for a fraction of a second, however many others send nothing.
    """

    def __init__(
        self,
        max_arriving: int = MAX_ARRIVING,
        arrive_within_s: float = ARRIVE_WITHIN_S,
        patience_s: float = PATIENCE_S,
        long_patience_s: float = LONG_PATIENCE_S,
    ) -> None:
        self._max_arriving = max_arriving
        self._arrive_within_s = arrive_within_s
        self._patience_s = patience_s
        self._long_patience_s = long_patience_s
        self._arriving: dict[_Arrival, None] = {}
        self._by_client: Counter[str] = Counter()
        # The waiting calls, by client in the order of their turns: clients that were in time so far, and late ones.
        self._in_time: OrderedDict[str, deque[asyncio.Future[_Arrival]]] = OrderedDict()
        self._late: OrderedDict[str, deque[asyncio.Future[_Arrival]]] = OrderedDict()
        self._late_until_s: OrderedDict[str, float] = OrderedDict()
        self._turns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._late_timer: asyncio.TimerHandle | None = None

    @property
    def arriving(self) -> int:
        """How many messages were asked for and have not arrived."""
        return len(self._arriving)

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return sum(len(calls) for queue in (self._in_time, self._late) for calls in queue.values())

    async def arrive(self, client: str, read: Callable[[], Awaitable[T]]) -> T:
        """Call `read` once there is a place for its message. Raises ServiceError when it takes too long."""
        place = await self._place(client)
        try:
            if place.displaced:  # between its admission and this line
                raise self._too_late(place)
            # One timer ends whatever is late: a timeout for each message costs more than most of them.
            place.reader = reader = asyncio.current_task()
            return await read()
        except asyncio.CancelledError:
            if place.ended and reader is not None and not reader.uncancel():
                raise self._too_late(place) from None
            raise
        finally:
            self._leave(place)

    async def _place(self, client: str) -> _Arrival:
        if len(self._arriving) < self._max_arriving:  # nobody waits then
            return self._take(client)
        turn: asyncio.Future[_Arrival] = asyncio.get_running_loop().create_future()
        queue = self._late if self._is_late(client) else self._in_time
        queue.setdefault(client, deque()).append(turn)
        self._arm()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(turn.result())
            else:
                self._forget(client, turn)
            raise

    def _forget(self, client: str, turn: asyncio.Future[_Arrival]) -> None:
        for queue in (self._in_time, self._late):
            calls = queue.get(client)
            if calls is not None and turn in calls:
                calls.remove(turn)
                if not calls:
                    del queue[client]

    def _take(self, client: str) -> _Arrival:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        place = _Arrival(client, now_s, now_s + self._arrive_within_s)
        self._arriving[place] = None
        if self._late_timer is None:
            self._late_timer = loop.call_at(place.until_s, self._end_late)
        self._by_client[client] += 1
        return place

    def _end_late(self) -> None:
        """End the reads whose time is up, and look again when that of the next one is."""
        self._late_timer = None
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for place in list(self._arriving):
            if place.until_s <= now_s:
                place.end()
        later = [place.until_s for place in self._arriving if not place.ended]
        if later:
            self._late_timer = loop.call_at(max(min(later), now_s + _LEAST_WAIT_S), self._end_late)

    def _leave(self, place: _Arrival) -> None:
        del self._arriving[place]
        self._by_client[place.client] -= 1
        if not self._by_client[place.client]:
            del self._by_client[place.client]
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        while len(self._arriving) < self._max_arriving:
            self._turns += 1
            late_turn = self._turns % LATE_TURN == 0
            queue = self._late if self._late and (late_turn or not self._in_time) else self._in_time
            if not queue:
                return
            client, calls = queue.popitem(last=False)
            while calls:
                turn = calls.popleft()
                if not turn.done():
                    turn.set_result(self._take(client))
                    break
            if calls:  # behind the other clients
                queue[client] = calls

    def _arm(self) -> None:
        if self._timer is None and (self._in_time or self._late):
            self._timer = asyncio.get_running_loop().call_later(self._patience_s / 2, self._make_room)

    def _make_room(self) -> None:
        """Somebody waits: end the slowest reads, as many as there are waiting."""
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        slow = [place for place in self._arriving if now_s - place.since_s >= self._patience_s]
        slow.sort(key=lambda place: (-self._by_client[place.client], not self._is_late(place.client), -place.since_s))
        surplus = max(0, len(slow) - self._max_arriving // 2)
        overdue = [place for place in slow[surplus:] if now_s - place.since_s >= self._long_patience_s]
        for place in [*slow[:surplus], *overdue][: self.waiting]:
            self._displace(place, now_s)
        self._arm()

    def _displace(self, place: _Arrival, now_s: float) -> None:
        if place.displaced:
            return
        place.displaced = True
        self._late_until_s.pop(place.client, None)
        self._late_until_s[place.client] = now_s + LATE_FOR_S
        while next(iter(self._late_until_s.values())) <= now_s:
            self._late_until_s.popitem(last=False)
        if (calls := self._in_time.pop(place.client, None)) is not None:
            self._late.setdefault(place.client, deque()).extend(calls)
        place.end()

    def _is_late(self, client: str) -> bool:
        return self._late_until_s.get(client, 0.0) > asyncio.get_running_loop().time()

    def _too_late(self, place: _Arrival) -> ServiceError:
        if place.displaced:
            return overloaded(
                "the message did not arrive at once, and others wait for its place. Nothing of it was appended; "
                "retry shortly"
            )
        late = f"the message did not arrive within {self._arrive_within_s:g} s. Nothing of it was appended"
        return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_SLOW", late)
