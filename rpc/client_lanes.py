"""The produces of a client, gathered into batches that are stored once.

What is produced while nothing is on its way goes at once. What comes meanwhile waits, and goes with the others that
wait in one batch as soon as there is an answer: nobody waits for company, and the busier the client is, the larger
its batches are. A batch that is full waits for no answer, so a few of them may be on their way together.

There is a lane for each kind of acknowledgement, since what has to be on all disks must not hold up the rest. A lane
keeps the order in which it was called. Its batches are numbered, under a producer's id of its own: when it is not
known what became of one, the same bytes are sent again under the same number, until it is known or the time is up;
the log remembers what it has, and answers as it did the first time (docs/api.md, each batch once).

The limits: `max_pending_bytes` for all that was called and is not answered. Who calls beyond that waits in line, and
nothing of it is copied meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client_batches import RECORD_COSTS_BYTES, OpenBatches, Placed
from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_compression import Compression, checked_compression
from ourolog.rpc.client_errors import LogError, client_closed
from ourolog.rpc.client_lane import Lane
from ourolog.rpc.client_producers import ProducerIds
from ourolog.rpc.errors import OUTCOME_UNKNOWN

MAX_PENDING_BYTES: Final = 32 * 1024 * 1024
"""How much may be called and not answered, if the client's owner says nothing else."""

# The lane itself says what was missing, if it gets to it.
_SETTLED_WITHIN_S: Final = 0.2
# Deadlines are looked after this often at the most: looking costs time for each produce that waits.
_SWEEP_EVERY_S: Final = 0.005
_NEVER_S: Final = float("inf")


@dataclass(slots=True)
class _InLine:
    """A produce that waits for room.

    answer: what its caller waits for.
    values: its records; None if it has encoded them.
    payload: its records, encoded, if it has.
    record_count: how many they are.
    size_bytes: of their values, or of the payload.
    acks: what is asked for.
    compression: how they are to be compressed.
    is_alone: whether they go by themselves.
    give_up_at_s: until when it may last, by the loop's clock.
    """

    answer: asyncio.Future[Placed]
    values: Sequence[bytes] | None
    payload: bytes
    record_count: int
    size_bytes: int
    acks: Acks
    compression: Compression
    is_alone: bool
    give_up_at_s: float

    @property
    def held_bytes(self) -> int:
        return self.size_bytes + RECORD_COSTS_BYTES * self.record_count


class ProducerLanes:
    """The lanes of one client; made when they are first needed."""

    def __init__(
        self,
        calls: ClientCalls,
        ids: ProducerIds,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        compression: Compression = "none",
        on_stored: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare.

        max_pending_bytes: how much may be called and not answered, in bytes; each record counts 64 more than its value.
        compression: how what is gathered is compressed.
        on_stored: called with the offset after each batch that was acknowledged by more than the leader.
        """
        self._calls = calls
        self._ids = ids
        self._max_pending_bytes = max_pending_bytes
        self._compression: Compression = compression
        self._on_stored = on_stored
        self._open = OpenBatches(self._admit)
        self._lanes: dict[Acks, Lane] = {}
        self._in_line: deque[_InLine] = deque()
        self._sweep_at_s = _NEVER_S
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def pending_bytes(self) -> int:
        """How much was called, has found room, and is not answered."""
        return self._open.pending_bytes

    async def close(self) -> None:
        """End all calls; what waits fails."""
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for lane in self._lanes.values():
            await lane.close()
        for batch in self._open:
            batch.fail(self._closed(was_sent=batch.was_sent))
        for waiting in self._in_line:
            if not waiting.answer.done():
                waiting.answer.set_exception(self._closed(was_sent=False))

    def produce(self, value: bytes, acks: Acks, timeout_s: float | None) -> asyncio.Future[Placed]:
        """Append one record, once. The future raises LogError; who cancels it does not take back what was sent."""
        if type(value) is not bytes:
            value = _checked(value)
        loop = self._loop or self._running_loop()
        give_up_at_s = loop.time() + (self._calls.timeout_s if timeout_s is None else timeout_s)
        answer: asyncio.Future[Placed] = loop.create_future()
        pending_bytes = self._open.pending_bytes + len(value) + RECORD_COSTS_BYTES
        if pending_bytes > self._max_pending_bytes or self._in_line or self._is_closed:
            self._line_up(_InLine(answer, (value,), b"", 1, len(value), acks, self._compression, False, give_up_at_s))
        else:
            self._open.pending_bytes = pending_bytes
            (self._lanes.get(acks) or self._lane(acks)).add(answer, value, give_up_at_s)
        if give_up_at_s < self._sweep_at_s:
            self._sweep_by(give_up_at_s)
        return answer

    def produce_batch(
        self, values: Sequence[bytes], acks: Acks, compression: Compression | None, timeout_s: float | None
    ) -> asyncio.Future[Placed]:
        """Append these records, once, all or none. `compression`: None for the client's."""
        if not {bytes}.issuperset(map(type, values)):
            values = [_checked(value) for value in values]
        return self._produce(tuple(values), b"", len(values), sum(map(len, values)), acks, compression, timeout_s)

    def produce_payload(
        self, payload: bytes, record_count: int, acks: Acks, compression: Compression | None, timeout_s: float | None
    ) -> asyncio.Future[Placed]:
        """Append these records, encoded, once, all or none."""
        return self._produce(None, _checked(payload), record_count, len(payload), acks, compression, timeout_s)

    def _produce(
        self,
        values: Sequence[bytes] | None,
        payload: bytes,
        record_count: int,
        size_bytes: int,
        acks: Acks,
        compression: Compression | None,
        timeout_s: float | None,
    ) -> asyncio.Future[Placed]:
        loop = self._loop or self._running_loop()
        give_up_at_s = loop.time() + (self._calls.timeout_s if timeout_s is None else timeout_s)
        how = self._compression if compression is None else checked_compression(compression)
        answer: asyncio.Future[Placed] = loop.create_future()
        is_alone = compression is not None
        self._line_up(_InLine(answer, values, payload, record_count, size_bytes, acks, how, is_alone, give_up_at_s))
        if give_up_at_s < self._sweep_at_s:
            self._sweep_by(give_up_at_s)
        return answer

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        # Kept, since to ask for it takes longer than to append to four lists. A client's connections are of one loop.
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _lane(self, acks: Acks) -> Lane:
        on_stored = (lambda _: None) if acks is Acks.LEADER else self._on_stored
        lane = self._lanes[acks] = Lane(acks, self._compression, self._calls, self._ids, self._open, on_stored)
        return lane

    # ------------------------------------------------------------ room

    def _has_room(self, held_bytes: int) -> bool:
        pending_bytes = self._open.pending_bytes
        return not pending_bytes or pending_bytes + held_bytes <= self._max_pending_bytes

    def _line_up(self, waiting: _InLine) -> None:
        if self._is_closed:
            waiting.answer.set_exception(self._closed(was_sent=False))
            return
        self._in_line.append(waiting)
        self._admit()

    def _admit(self) -> None:
        """Let go to their lanes those for whom there is room, in order."""
        while self._in_line and self._has_room((waiting := self._in_line[0]).held_bytes):
            self._in_line.popleft()
            self._open.pending_bytes += waiting.held_bytes
            lane = self._lanes.get(waiting.acks) or self._lane(waiting.acks)
            answer, compression, give_up_at_s = waiting.answer, waiting.compression, waiting.give_up_at_s
            if waiting.values is None:
                lane.add_encoded(answer, waiting.payload, waiting.record_count, give_up_at_s, compression)
            else:
                is_alone, size_bytes = waiting.is_alone, waiting.size_bytes
                lane.add_many(answer, waiting.values, size_bytes, give_up_at_s, compression, is_alone=is_alone)

    def _closed(self, *, was_sent: bool) -> LogError:
        error = client_closed(self._calls.nodes.current_addr)
        error.outcome_unknown = was_sent
        return error

    # ------------------------------------------------------------ deadlines

    def _sweep_by(self, at_s: float) -> None:
        """Look after the deadlines then; sooner, if that was to be sooner."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._sweep_at_s = at_s
        self._sweeping = asyncio.get_running_loop().call_at(at_s + _SETTLED_WITHIN_S, self._sweep)

    def _sweep(self) -> None:
        """Tell those whose time is up. One timer for all, since most are answered long before."""
        over_s = asyncio.get_running_loop().time() - _SETTLED_WITHIN_S
        next_s = _NEVER_S
        for batch in self._open:
            at_s = batch.first_give_up_at_s(_NEVER_S)
            if at_s <= over_s:
                batch.fail(self._late(batch.said, was_sent=batch.was_sent), over_s)
                at_s = batch.first_give_up_at_s(_NEVER_S)
            next_s = min(next_s, at_s)
        for waiting in self._in_line:
            if waiting.answer.done():
                continue
            if waiting.give_up_at_s <= over_s:
                said = f"{self._open.pending_bytes} bytes of this client were on their way, as many as may be"
                waiting.answer.set_exception(self._late(said, was_sent=False))
            else:
                next_s = min(next_s, waiting.give_up_at_s)
        self._sweeping, self._sweep_at_s = None, _NEVER_S
        if next_s < _NEVER_S:
            self._sweep_by(max(next_s, over_s + _SWEEP_EVERY_S))

    def _late(self, said: str, *, was_sent: bool) -> LogError:
        """The error of a produce whose time is up, and whose lane is busy with others."""
        before = f"; before that: {said}" if said else ""
        addr = self._calls.produce_addr
        error = LogError(f"not acknowledged in time{before}", "DEADLINE_EXCEEDED", addr=addr, outcome_unknown=was_sent)
        if was_sent and OUTCOME_UNKNOWN not in str(error):
            error.args = (f"{str(error).rstrip('.')}. {OUTCOME_UNKNOWN}",)
        return error


def _checked(value: object) -> bytes:
    """The value as bytes that nobody changes. Raises TypeError."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"a record is bytes, not {type(value).__name__}")
    return bytes(value)
