"""The calls with which a lane's batches are appended: each until it is known what became of it, or its time is up.

Where it stays unknown to the end, the lane's id is given up, since its next number is not known, and what comes next
goes under a new one. What is of unknown outcome is never sent under another id: it could be stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client_attempts import LEAST_ATTEMPT_S, Attempts
from ourolog.rpc.client_batches import Batch, OpenBatches, Response, first_offset
from ourolog.rpc.client_calls import MAX_HINTS_IN_A_ROW, ClientCalls
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_producers import EXPIRED_AFTER_S, Producer, ProducerIds
from ourolog.rpc.errors import OUTCOME_UNKNOWN


class BatchCalls:
    """Makes the calls of one lane."""

    def __init__(
        self, calls: ClientCalls, ids: ProducerIds, open_batches: OpenBatches, on_stored: Callable[[int], None]
    ) -> None:
        self._calls = calls
        self._ids = ids
        self._open = open_batches
        self._on_stored = on_stored

    async def send(
        self, batch: Batch, producer: Producer, until_s: float = 0.0, failure: LogError | None = None
    ) -> list[Batch]:
        """Send a batch until it is known what became of it, or its time is up.

        until_s: for how long to find that out at least, by the loop's clock, since others depend on it.
        failure: what it has failed with already.

        Returns what is left to be sent under another id, where this one is lost.
        """
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        sending = _Sending(batch, Attempts(now_s, max(batch.last_give_up_at_s, until_s) - now_s))
        if failure is not None and not await self._goes_on(failure, failure.addr, producer, sending):
            return await self._give_up(sending, producer, failure)
        while batch.has_somebody_waiting or batch.is_unknown:
            batch = sending.batch = self._without_gone(batch)
            now_s = loop.time()
            left_s = sending.left_s(now_s)
            if not producer.producer_id:
                if batch.acks is Acks.LEADER or not self._ids.can_be_had(now_s):
                    await self._send_plainly(batch)
                    return []
                if (error := await self._register(producer, left_s)) is not None:
                    sending.attempts.note(error)
                    # It was tried for as long as whoever has the least time can wait.
                    is_over = not sending.fail_those_over(error, now_s + left_s)
                    if is_over or not error.may_pass:
                        sending.fail(error)
                        break
                continue
            addr = self._calls.produce_addr
            call = batch.call(producer.producer_id, producer.sequence)
            try:
                response = await self._calls.attempt(addr, call, left_s, is_produce=True)
            except LogError as error:
                failure = error
            else:
                producer.sequence += 1
                producer.is_lost = producer.is_spent
                self._acknowledge(batch, response)
                return []
            if not await self._goes_on(failure, addr, producer, sending):
                return await self._give_up(sending, producer, failure)
        self._open.end(batch)
        return []

    async def _goes_on(self, failure: LogError, addr: str, producer: Producer, sending: _Sending) -> bool:
        """Decide what follows a failure, and wait as long as need be. Returns whether to send the batch again."""
        loop, batch = asyncio.get_running_loop(), sending.batch
        sending.note(failure)
        is_named = self._calls.route(failure, addr)
        if failure.is_expired and not batch.is_unknown:
            producer.producer_id = 0
            return True
        may_repeat = failure.may_retry or failure.is_not_leader or (failure.outcome_unknown and failure.may_pass)
        if failure.is_expired:
            # Whoever says so may have been replaced without knowing, and lack what later leaders know.
            may_repeat = sending.expired_for_s(loop.time()) < EXPIRED_AFTER_S
        if not may_repeat:
            return False
        if is_named and not failure.is_expired:
            sending.hints += 1
            if sending.hints % MAX_HINTS_IN_A_ROW and loop.time() < sending.attempts.give_up_at_s:
                return True
        wait_s = self._calls.wait_s(sending.attempts, failure, addr, to_leader=True)
        if wait_s is None:
            return False
        if not sending.fail_those_over(failure, loop.time() + wait_s) and not batch.is_unknown:
            return False
        self._calls.on_retry(failure)
        await asyncio.sleep(wait_s)
        return True

    async def _give_up(self, sending: _Sending, producer: Producer, failure: LogError) -> list[Batch]:
        """Nothing is sent again as it is: tell the callers, or send each part of it by itself."""
        batch = sending.batch
        producer.is_lost = batch.is_unknown or failure.is_of_sequence
        parts = batch.parts(failure) if failure.is_of_content and not producer.is_lost else [batch]
        if len(parts) < 2:
            sending.fail(failure)
            self._open.end(batch)
            return []
        self._open.replace(batch, parts)
        for at, part in enumerate(parts):
            if producer.is_lost:
                return parts[at:]
            left_over = await self.send(part, producer)
            if left_over:
                return left_over + parts[at + 1 :]
        return []

    def _without_gone(self, batch: Batch) -> Batch:
        """The batch for those who still wait, where nothing of it is stored.

        The others have been told so, or have gone.
        """
        waiting = batch if batch.is_unknown else batch.without_gone()
        if waiting is not batch:
            self._open.replace(batch, [waiting])
        return waiting

    async def _register(self, producer: Producer, within_s: float) -> LogError | None:
        """Give the lane an id; none if there are none here. Returns why it did not work."""
        try:
            producer.producer_id, producer.sequence = await self._ids.register(within_s), 0
        except LogError as error:
            return error
        return None

    async def _send_plainly(self, batch: Batch) -> None:
        """Send it without a number: not again, if it may be stored."""
        within_s = max(0.0, batch.last_give_up_at_s - asyncio.get_running_loop().time())
        try:
            response: Response = await self._calls.call(
                batch.call(0, 0), within_s, to_leader=True, repeat_unknown=False
            )
        except LogError as error:
            is_refused = error.is_of_content and not error.outcome_unknown
            parts = batch.parts(error) if is_refused else [batch]
            if len(parts) < 2:
                batch.fail(error)
                self._open.end(batch)
                return
            self._open.replace(batch, parts)
            for part in parts:
                if part.has_somebody_waiting:
                    await self._send_plainly(self._without_gone(part))
                else:
                    self._open.end(part)
        else:
            self._acknowledge(batch, response)

    def _acknowledge(self, batch: Batch, response: Response) -> None:
        base_offset = first_offset(response)
        batch.acknowledge(base_offset, tuple(response.replicas))
        self._on_stored(base_offset + batch.record_count)
        self._open.end(batch)


class _Sending:
    """A batch on its way by calls: the same bytes in each of them.

    attempts: the calls so far.
    hints: how often a node has named another one as the leader.
    """

    def __init__(self, batch: Batch, attempts: Attempts) -> None:
        self.batch = batch
        self.attempts = attempts
        self.hints = 0
        self._expired_since_s: float | None = None

    def left_s(self, now_s: float) -> float:
        """How long the next call may take: whoever has the least time is to hear what was missing."""
        return max(0.0, self.batch.first_give_up_at_s(self.attempts.give_up_at_s) - now_s)

    def note(self, failure: LogError) -> None:
        """A call has failed so."""
        if failure.outcome_unknown and not failure.reason:
            failure.args = (f"{str(failure).rstrip('.')}. {OUTCOME_UNKNOWN}",)
        self.attempts.note(failure)
        if failure.outcome_unknown:
            self.batch.is_unknown, self.batch.unknown_at = True, ""
        elif failure.reason == "INVALID" and failure.addr == self.batch.unknown_at:
            self.batch.is_unknown = False
        self.batch.said = str(failure)

    def expired_for_s(self, now_s: float) -> float:
        """For how long nodes have been saying that the producer is forgotten."""
        if self._expired_since_s is None:
            self._expired_since_s = now_s
        return now_s - self._expired_since_s

    def fail(self, failure: LogError) -> None:
        """Tell all callers that it came to nothing, or may have."""
        error = self.attempts.conclusion(failure)
        error.outcome_unknown = self.batch.is_unknown
        self.batch.fail(error)

    def fail_those_over(self, failure: LogError, at_s: float) -> bool:
        """Tell the callers whose time is up by then. Returns whether others still wait."""
        at_s += LEAST_ATTEMPT_S
        if self.batch.first_give_up_at_s(at_s + 1.0) <= at_s:
            error = self.attempts.conclusion(copy(failure))
            error.outcome_unknown = self.batch.is_unknown
            self.batch.fail(error, at_s)
        return self.batch.has_somebody_waiting
