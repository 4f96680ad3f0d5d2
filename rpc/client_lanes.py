"""Produces that are stored once: lanes of numbered batches, each with a producer's id of its own.

A lane has at most one call in flight. When it is not known what became of that call, the lane sends the same bytes
under the same number again, to whoever leads, until it is known or the time is up: the log remembers what it has and
answers as it did the first time (docs/api.md, each batch once). A produce that finds all lanes busy waits, and goes
with the others that wait in one batch; nobody waits for company.

Where it stays unknown to the end, the lane is given up, since its next number is not known, and what comes next goes
under a new id. What is of unknown outcome is never sent under another one: it could be stored twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from dataclasses import dataclass
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client_attempts import LEAST_ATTEMPT_S, Attempts
from ourolog.rpc.client_calls import MAX_HINTS_IN_A_ROW, Call, ClientCalls
from ourolog.rpc.client_errors import LogError, client_closed
from ourolog.rpc.client_producers import (
    EXPIRED_AFTER_S,
    GATHERED_BYTES,
    GATHERED_RECORDS,
    MAX_SEQUENCE,
    ProducerIds,
)
from ourolog.rpc.client_types import Acknowledgement
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import encode_record

LANES: Final = 4
# The lane itself says what was missing, if it gets to it.
_SETTLED_WITHIN_S: Final = 0.2

Response = pb.ProduceResponse | pb.ProduceBatchResponse


@dataclass(slots=True, eq=False)
class _Waiting:
    """A produce whose caller waits.

    payload: its records, encoded.
    record_count: how many they are.
    value: the one record that was given as such, None if a batch was.
    acks: what is asked for.
    give_up_at_s: until when it may last, by the loop's clock.
    answer: what its caller waits for.
    was_sent: whether a call with it has been made.
    said: what the last call with it failed with.
    """

    payload: bytes
    record_count: int
    value: bytes | None
    acks: Acks
    give_up_at_s: float
    answer: asyncio.Future[Acknowledgement]
    was_sent: bool = False
    said: str = ""

    def fail(self, error: LogError) -> None:
        """Tell the caller, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(copy(error))


class _Lane:
    """A producer's id, the number of its next batch, and whether a call is in flight."""

    __slots__ = ("is_lost", "producer_id", "sequence")

    def __init__(self) -> None:
        self.producer_id = 0
        self.sequence = 0
        self.is_lost = False


class ProducerLanes:
    """The lanes of one client; made when they are first needed."""

    def __init__(self, calls: ClientCalls, ids: ProducerIds) -> None:
        self._calls = calls
        self._ids = ids
        self._queue: deque[_Waiting] = deque()
        self._idle: list[_Lane] = []
        self._running: dict[asyncio.Task[None], list[_Waiting]] = {}
        self._is_closed = False

    async def close(self) -> None:
        """End all calls; what waits fails."""
        self._is_closed = True
        open_calls = [waiting for group in self._running.values() for waiting in group] + list(self._queue)
        self._queue.clear()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for waiting in open_calls:
            waiting.fail(client_closed(self._calls.nodes.current_addr))

    async def produce(self, value: bytes, acks: Acks, timeout_s: float | None) -> Acknowledgement:
        """Append one record, once. Raises LogError."""
        return await self._produce(encode_record(value), 1, value, acks, timeout_s)

    async def produce_batch(
        self, payload: bytes, record_count: int, acks: Acks, timeout_s: float | None
    ) -> Acknowledgement:
        """Append these records, encoded, once. Raises LogError."""
        return await self._produce(payload, record_count, None, acks, timeout_s)

    async def _produce(
        self, payload: bytes, record_count: int, value: bytes | None, acks: Acks, timeout_s: float | None
    ) -> Acknowledgement:
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + (self._calls.timeout_s if timeout_s is None else timeout_s)
        waiting = _Waiting(payload, record_count, value, acks, give_up_at_s, loop.create_future())
        if acks is Acks.LEADER or not self._ids.can_be_had(loop.time()):
            return await self._produce_plainly(waiting)
        timer = loop.call_at(give_up_at_s + _SETTLED_WITHIN_S, self._expire, waiting)
        self._queue.append(waiting)
        self._start()
        try:
            # A caller that is cancelled cancels its answer, and not the lane's call.
            return await waiting.answer
        finally:
            timer.cancel()

    def _expire(self, waiting: _Waiting) -> None:
        """The time of a produce is up, and its lane is busy with others."""
        before = f"; before that: {waiting.said}" if waiting.said else ""
        error = LogError(
            f"not acknowledged in time{before}",
            "DEADLINE_EXCEEDED",
            addr=self._calls.nodes.leader_addr or self._calls.nodes.current_addr,
            outcome_unknown=waiting.was_sent,
        )
        if waiting.was_sent and OUTCOME_UNKNOWN not in str(error):
            error.args = (f"{str(error).rstrip('.')}. {OUTCOME_UNKNOWN}",)
        waiting.fail(error)

    # ------------------------------------------------------------ lanes

    def _start(self) -> None:
        """Let a lane send what waits, if there is one that sends nothing."""
        if not self._queue or self._is_closed or len(self._running) >= LANES:
            return
        lane = self._idle.pop() if self._idle else _Lane()
        group: list[_Waiting] = []
        task = asyncio.create_task(self._run(lane, group))
        self._running[task] = group
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._start()  # a lane that is lost leaves what waits to another one
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error  # a bug: the loop's exception handler tells of it

    async def _run(self, lane: _Lane, group: list[_Waiting]) -> None:
        while not lane.is_lost:
            group[:] = self._take()
            if not group:
                self._idle.append(lane)
                return
            await self._send(lane, group)

    def _take(self) -> list[_Waiting]:
        """What goes next, in one batch: the first that waits, and those behind it that ask for the same."""
        group: list[_Waiting] = []
        records = size_bytes = 0
        while self._queue:
            waiting = self._queue[0]
            records += waiting.record_count
            size_bytes += len(waiting.payload)
            is_too_much = records > GATHERED_RECORDS or size_bytes > GATHERED_BYTES
            if group and (waiting.acks is not group[0].acks or is_too_much):
                break
            self._queue.popleft()
            if waiting.answer.done():  # its caller has gone: nothing of it was sent
                records -= waiting.record_count
                size_bytes -= len(waiting.payload)
            else:
                group.append(waiting)
        return group

    # ------------------------------------------------------------ one batch

    async def _send(self, lane: _Lane, group: list[_Waiting]) -> None:
        """Send a group as one batch until it is known what became of it, or its time is up."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        sending = _Sending(group, Attempts(now_s, max(waiting.give_up_at_s for waiting in group) - now_s))
        while sending.has_somebody_waiting or sending.is_unknown:
            now_s = loop.time()
            left_s = sending.left_s(now_s)
            if not lane.producer_id:
                failure = await self._register(lane, left_s)
                if failure is None and not lane.producer_id:
                    await asyncio.gather(*(self._answer_plainly(waiting) for waiting in sending.waiting))
                    return
                if failure is not None:
                    sending.attempts.note(failure)
                    # It was tried for as long as whoever has the least time can wait.
                    is_over = not sending.fail_those_over(failure, now_s + left_s)
                    if is_over or not failure.may_pass:
                        sending.fail(failure)
                        return
                    continue
            addr = self._calls.produce_addr
            try:
                response = await self._calls.attempt(addr, sending.call(lane), left_s, is_produce=True)
            except LogError as error:
                failure = error
            else:
                lane.sequence += 1
                lane.is_lost = lane.sequence > MAX_SEQUENCE
                sending.acknowledge(response)
                return
            if not await self._after(failure, addr, lane, sending):
                lane.is_lost = lane.is_lost or sending.is_unknown
                return

    async def _after(self, failure: LogError, addr: str, lane: _Lane, sending: _Sending) -> bool:
        """Decide what follows a call that failed. Returns whether to send the batch again."""
        loop = asyncio.get_running_loop()
        sending.note(failure)
        is_named = self._calls.route(failure, addr)
        if failure.is_expired and not sending.is_unknown:
            lane.producer_id = 0
            return True
        may_repeat = failure.may_retry or failure.is_not_leader or (failure.outcome_unknown and failure.may_pass)
        if failure.is_expired:
            # Whoever says so may have been replaced without knowing, and lack what later leaders know.
            may_repeat = sending.expired_for_s(loop.time()) < EXPIRED_AFTER_S
        if not may_repeat:
            lane.is_lost = sending.is_unknown or failure.is_of_sequence
            if failure.is_of_content and not lane.is_lost and len(sending.waiting) > 1:
                await self._send_apart(lane, sending.waiting)
            else:
                sending.fail(failure)
            return False
        if is_named and not failure.is_expired:
            sending.hints += 1
            if sending.hints % MAX_HINTS_IN_A_ROW and loop.time() < sending.attempts.give_up_at_s:
                return True
        wait_s = self._calls.wait_s(sending.attempts, failure, addr, to_leader=True)
        if wait_s is None:
            sending.fail(failure)
            return False
        if not sending.fail_those_over(failure, loop.time() + wait_s) and not sending.is_unknown:
            return False
        self._calls.on_retry(failure)
        await asyncio.sleep(wait_s)
        return True

    async def _send_apart(self, lane: _Lane, waiting: list[_Waiting]) -> None:
        """Something in the batch was refused, and nothing of it was appended: send each by itself."""
        for one in waiting:
            one.was_sent, one.said = False, ""
        for at, one in enumerate(waiting):
            if lane.is_lost:
                self._queue.extendleft(reversed(waiting[at:]))
                return
            await self._send(lane, [one])

    async def _register(self, lane: _Lane, within_s: float) -> LogError | None:
        """Give the lane an id; none if there are none here. Returns why it did not work."""
        try:
            lane.producer_id, lane.sequence = await self._ids.register(within_s), 0
        except LogError as error:
            return error
        return None

    # ------------------------------------------------------------ without an id

    async def _produce_plainly(self, waiting: _Waiting) -> Acknowledgement:
        waiting.was_sent = True
        within_s = max(0.0, waiting.give_up_at_s - asyncio.get_running_loop().time())
        call = _Sending([waiting], Attempts(0.0, 0.0)).call(_Lane())
        response = await self._calls.call(call, within_s, to_leader=True, repeat_unknown=False)
        return Acknowledgement(_first_offset(response), waiting.record_count, tuple(response.replicas))

    async def _answer_plainly(self, waiting: _Waiting) -> None:
        try:
            acknowledgement = await self._produce_plainly(waiting)
        except LogError as error:
            waiting.fail(error)
        else:
            if not waiting.answer.done():
                waiting.answer.set_result(acknowledgement)


class _Sending:
    """A batch on its way: the same bytes in every call.

    attempts: the calls so far.
    is_unknown: whether a call may have stored it, and none has said so yet.
    hints: how often a node has named another one as the leader.
    """

    def __init__(self, group: list[_Waiting], attempts: Attempts) -> None:
        self.attempts = attempts
        self.is_unknown = False
        self.hints = 0
        self._group = list(group)
        self._payload = b"".join(waiting.payload for waiting in group)
        self._record_count = sum(waiting.record_count for waiting in group)
        self._expired_since_s: float | None = None

    @property
    def waiting(self) -> list[_Waiting]:
        """Those whose callers still wait."""
        return [waiting for waiting in self._group if not waiting.answer.done()]

    @property
    def has_somebody_waiting(self) -> bool:
        return any(not waiting.answer.done() for waiting in self._group)

    def left_s(self, now_s: float) -> float:
        """How long the next call may take: whoever has the least time is to hear what was missing."""
        at_s = min((waiting.give_up_at_s for waiting in self.waiting), default=self.attempts.give_up_at_s)
        return max(0.0, at_s - now_s)

    def call(self, lane: _Lane) -> Call[Response]:
        """The call that sends it in that lane; without a number if the lane has no id."""
        for waiting in self._group:
            waiting.was_sent = True
        first, *others = self._group
        acks = pb.Acks.ValueType(int(first.acks))
        if first.value is not None and not others:
            # A refusal of this one says what is wrong with the record, and not with a batch that nobody made.
            one = pb.ProduceRequest(
                record=pb.Record(value=first.value),
                acks=acks,
                producer_id=lane.producer_id,
                sequence=lane.sequence,
            )
            return lambda stub, left_s: stub.Produce(one, timeout=left_s)
        many = pb.ProduceBatchRequest(
            records=self._payload,
            record_count=self._record_count,
            acks=acks,
            producer_id=lane.producer_id,
            sequence=lane.sequence,
        )
        return lambda stub, left_s: stub.ProduceBatch(many, timeout=left_s)

    def acknowledge(self, response: Response) -> None:
        """It is stored: tell each caller its own part."""
        replicas, base_offset = tuple(response.replicas), _first_offset(response)
        for waiting in self._group:
            if not waiting.answer.done():
                waiting.answer.set_result(Acknowledgement(base_offset, waiting.record_count, replicas))
            base_offset += waiting.record_count

    def note(self, failure: LogError) -> None:
        """A call has failed so."""
        if failure.outcome_unknown and not failure.reason:
            failure.args = (f"{str(failure).rstrip('.')}. {OUTCOME_UNKNOWN}",)
        self.attempts.note(failure)
        self.is_unknown = self.is_unknown or failure.outcome_unknown
        for waiting in self._group:
            waiting.said = str(failure)

    def expired_for_s(self, now_s: float) -> float:
        """For how long nodes have been saying that the producer is forgotten."""
        if self._expired_since_s is None:
            self._expired_since_s = now_s
        return now_s - self._expired_since_s

    def fail(self, failure: LogError) -> None:
        """Tell all callers that it came to nothing, or may have."""
        error = self.attempts.conclusion(failure)
        error.outcome_unknown = self.is_unknown
        for waiting in self.waiting:
            waiting.fail(error)

    def fail_those_over(self, failure: LogError, at_s: float) -> bool:
        """Tell the callers whose time is up by then. Returns whether others still wait."""
        over = [waiting for waiting in self.waiting if waiting.give_up_at_s <= at_s + LEAST_ATTEMPT_S]
        if over:
            error = self.attempts.conclusion(copy(failure))
            error.outcome_unknown = self.is_unknown
            for waiting in over:
                waiting.fail(error)
        return self.has_somebody_waiting


def _first_offset(response: Response) -> int:
    return response.offset if isinstance(response, pb.ProduceResponse) else response.base_offset
