"""A client that registers, numbers its batches, and sends one again until it knows what became of it.

It does so as no careful client would have to: two attempts at once, at two nodes or in one packet; the next batch
before the last one is answered; all that is under way, and what was acknowledged last, at whoever begins to lead, which
does not know yet what of it is committed; an attempt long after, or once more what was acknowledged long ago; now and
then a hundred batches without a pause, so that the log forgets the first of them; and now and then more registrations
than the log remembers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from ourolog.actors.messages.server import Refusal
from ourolog.simulation.calls import ClientCalls, Returned
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.network import Call
from ourolog.simulation.paced_clients import BACKOFF_S, TIMEOUT_S, Pace, PacedWriter
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.producers import MAX_PRODUCERS, REMEMBERED_BATCHES
from ourolog.storage.types import NodeId

ATTEMPTS: Final = 40
TWICE_SHARE: Final = 0.25
TWICE_WITHIN_S: Final = 0.01
NEXT_AT_ONCE_SHARE: Final = 0.2
LONG_AFTER_SHARE: Final = 0.1
LONG_AFTER_S: Final = 10.0
ONCE_MORE_SHARE: Final = 0.3
BURST_SHARE: Final = 0.02
BURST: Final = REMEMBERED_BATCHES + 16
STRANGER_SHARE: Final = 0.03
CROWD_SHARE: Final = 0.12
CROWD_WITHIN_S: Final = 15.0
CROWD: Final = MAX_PRODUCERS + 8
CROWD_AT_ONCE: Final = 32
ACKNOWLEDGED: Final = 2 * REMEMBERED_BATCHES


@dataclass(slots=True, eq=False)
class _Batch:
    """A batch on its way. `attempts_left` counts down; `is_over` is whether the client knows what became of it."""

    operation: Operation
    attempts_left: int = ATTEMPTS
    is_over: bool = False


class NumberedProducer(PacedWriter):
    """Appends values that are unique in the run, each in a batch of its own, however often it is sent.

    stored: how many of them were acknowledged.
    """

    def __init__(
        self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace, acks: tuple[str, ...]
    ) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self.acks = acks
        self.stored = 0
        self._producer_id = 0
        self._next = 0
        self._entry = 0
        self._under_way: set[_Batch] = set()
        self._acknowledged: deque[Operation] = deque(maxlen=ACKNOWLEDGED)
        self._burst = 0
        self._crowd = 0

    def start(self, node_ids: tuple[NodeId, ...]) -> None:
        super().start(node_ids)
        if self._rng.random() < CROWD_SHARE:
            self._runtime.call_later(CROWD_WITHIN_S * self._rng.random(), self._begin_crowd)

    def leader_begun(self, node_id: NodeId) -> None:
        """That node begins to lead: send it at once what is under way, and once more what was acknowledged last."""
        if not self._is_stopped and node_id in self.node_ids:
            self._runtime.call_later(0.0, lambda: self._ask_new_leader(node_id))

    def _ask_new_leader(self, node_id: NodeId) -> None:
        for batch in sorted(self._under_way, key=lambda batch: batch.operation.sequence):
            self._attempt(batch, is_extra=True, at=node_id)
        if self._acknowledged:
            self._produce(node_id, self._acknowledged[-1], lambda *_: None)

    def _pause_s(self) -> float | None:
        pause_s = super()._pause_s()
        if pause_s is None or not self._burst:
            return pause_s
        self._burst -= 1
        return 0.0

    # ------------------------------------------------------------ registrations

    def _register(self) -> None:
        node_id = self._node()

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            self._heard(node_id, result, leader_id)
            if result.outcome is Outcome.OK:
                self._producer_id, self._next = result.index, 0
            self._rest()

        self._calls.register(self.name, node_id, TIMEOUT_S, returned)

    def _begin_crowd(self) -> None:
        for _ in range(CROWD_AT_ONCE):
            self._register_one_more()

    def _register_one_more(self) -> None:
        """Register a producer that nobody is, again and again, until the log has forgotten everybody else.

        Where there is no room for more that wait, others need what there is.
        """
        if self._is_stopped or self._crowd >= CROWD:
            return

        def returned(result: OperationResult, _: NodeId | None) -> None:
            if result.outcome is Outcome.OK:
                self._crowd += 1
                self._register_one_more()
            elif result.detail != Refusal.OVERLOADED.value:
                self._runtime.call_later(BACKOFF_S * (0.5 + self._rng.random()), self._register_one_more)

        self._calls.register(self.name, self._node(), TIMEOUT_S, returned)

    # ------------------------------------------------------------ batches

    def _begin(self) -> None:
        if not self._producer_id:
            self._register()
            return
        if not self._burst and self._rng.random() < BURST_SHARE:
            self._burst = BURST
        self._send_next()
        if self._rng.random() < NEXT_AT_ONCE_SHARE:
            self._send_next()
        if self._entry and self._rng.random() < STRANGER_SHARE:
            # The index of an entry that holds records: so no registration has it.
            operation = self._operation(self._entry, self._rng.randrange(3))
            self._produce(self._node(), operation, lambda *_: None)

    def _operation(self, producer_id: int, sequence: int) -> Operation:
        value = self._value(is_padded=not self._burst)
        acks = self._rng.choice(self.acks)
        return Operation(OperationKind.PRODUCE, value=value, acks=acks, producer_id=producer_id, sequence=sequence)

    def _send_next(self) -> None:
        batch = _Batch(self._operation(self._producer_id, self._next))
        self._next += 1
        self._under_way.add(batch)
        call = self._attempt(batch)
        if self._rng.random() < TWICE_SHARE:
            wait_s = TWICE_WITHIN_S * max(0.0, self._rng.random() - 0.5)
            if wait_s:
                at = self._rng.choice(self.node_ids) if self._rng.random() < 0.5 else None
                self._attempt_later(batch, wait_s, is_extra=True, at=at)
            else:
                # Nothing is written between the two.
                self._attempt(batch, is_extra=True, at=call.target, beside=call)

    def _attempt(
        self, batch: _Batch, *, is_extra: bool = False, at: NodeId | None = None, beside: Call | None = None
    ) -> Call:
        """Send a batch. After an extra attempt there is no other: whoever sends it in earnest does that.

        at: the node to send it to; None for the one that leads, as far as the client knows.
        beside: a call just begun in whose packet it travels.
        """
        node_id = at or self._node()

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            self._heard(node_id, result, leader_id)
            if batch.is_over:
                return
            if result.outcome is Outcome.OK:
                self.stored += 1
                self._entry = result.index
                self._acknowledged.append(batch.operation)
                self._over(batch)
            elif result.detail == Refusal.SEQUENCE_FORGOTTEN.value:
                self._over(batch)
            elif result.detail == Refusal.PRODUCER_EXPIRED.value:
                self._give_up(batch)
            elif not is_extra:
                self._try_again(batch, has_hint=leader_id is not None)

        return self._produce(node_id, batch.operation, returned, beside)

    def _try_again(self, batch: _Batch, *, has_hint: bool) -> None:
        batch.attempts_left -= 1
        if batch.attempts_left <= 0 or self._is_stopped:
            self._give_up(batch)
            return
        if self._rng.random() < LONG_AFTER_SHARE:
            wait_s = LONG_AFTER_S * self._rng.random()
        else:
            wait_s = 0.01 if has_hint else BACKOFF_S * (0.1 + self._rng.random())
        self._attempt_later(batch, wait_s)

    def _attempt_later(self, batch: _Batch, wait_s: float, *, is_extra: bool = False, at: NodeId | None = None) -> None:
        def due() -> None:
            if not batch.is_over:
                self._attempt(batch, is_extra=is_extra, at=at)

        self._runtime.call_later(wait_s, due)

    def _give_up(self, batch: _Batch) -> None:
        """The next batch could never be stored without this one: go on as another producer."""
        if batch.operation.producer_id == self._producer_id:
            self._producer_id = 0
        self._over(batch)

    def _over(self, batch: _Batch) -> None:
        batch.is_over = True
        self._under_way.discard(batch)
        if self._acknowledged and self._rng.random() < ONCE_MORE_SHARE:
            self._runtime.call_later(LONG_AFTER_S * self._rng.random() ** 2, self._once_more)
        if not self._under_way:
            self._rest()

    def _once_more(self) -> None:
        """Send again what was acknowledged, recently or long ago: its answer came, or so the client might not know."""
        if not self._is_stopped and self._acknowledged:
            operation = self._acknowledged[int(len(self._acknowledged) * self._rng.random() ** 2)]
            self._produce(self._node(), operation, lambda *_: None)

    def _produce(self, node_id: NodeId, operation: Operation, returned: Returned, beside: Call | None = None) -> Call:
        """Send it, also if it was to wait for all copies before and nobody is to do that any more."""
        if operation.acks not in self.acks:
            operation = replace(operation, acks=self.acks[0])
        return self._calls.produce(self.name, node_id, operation, TIMEOUT_S, returned, beside=beside)
