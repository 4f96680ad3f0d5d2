"""Clients of a simulated cluster that run all the time, and retry as real ones would.

A producer tries again what was certainly refused, at another node or at the leader. What may
have happened it does not try again, since the log cannot tell a retry from a new record yet:
it goes on with the next. A consumer reads one offset after the other, and never skips one. A watcher asks one node
for the latest end of the log, as somebody does who must not act on what is out of date.
"""

from __future__ import annotations

from random import Random

from ourolog.actors.messages.values import ReadLevel
from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.paced_clients import BACKOFF_S, TIMEOUT_S, Pace, PacedClient, PacedWriter
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId, Offset

ATTEMPTS = 8

BEYOND = Offset(2**62)
BEYOND_SHARE = 0.7
WAIT_SHARE = 0.1
TWICE_SHARE = 0.5
TWICE_WITHIN_S = 0.005
ASKS_WITHIN_S = 0.5
"""How soon a watcher asks that was told to, in seconds; mostly it is much sooner."""


class Producer(PacedWriter):
    """Appends values, each in a batch of its own, and goes on with the next when one may have been stored."""

    def __init__(
        self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace, acks: tuple[str, ...]
    ) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self.acks = acks
        self.produced = 0

    def _begin(self) -> None:
        value = self._value(is_padded=True)
        self._try(Operation(OperationKind.PRODUCE, value=value, acks=self._rng.choice(self.acks)), ATTEMPTS)

    def _try(self, operation: Operation, attempts: int) -> None:
        node_id = self._node()

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            self._leader_id = leader_id or (node_id if result.outcome is Outcome.OK and self._leader_id else None)
            if result.outcome is Outcome.OK:
                self.produced += 1
            if result.outcome is Outcome.REFUSED and attempts > 1:
                wait_s = 0.01 if leader_id is not None else BACKOFF_S * (0.5 + self._rng.random())
                self._runtime.call_later(wait_s, lambda: self._try(operation, attempts - 1))
            else:
                self._rest()

        self._calls.produce(self.name, node_id, operation, TIMEOUT_S, returned)


class Consumer(PacedClient):
    """Reads from the first offset on, of one node for as long as that answers.

    may_move: whether another node has the same offsets, as in elected modes.
    """

    def __init__(
        self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace, *, may_move: bool
    ) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self._may_move = may_move
        self._node_id: NodeId | None = None
        self._positions: dict[NodeId | None, Offset] = {}

    def _begin(self) -> None:
        if self._node_id not in self.node_ids:
            self._node_id = self._rng.choice(self.node_ids)
        node_id = self._node_id
        assert node_id is not None
        log = None if self._may_move else node_id
        offset = self._positions.get(log, Offset(0))

        def returned(result: OperationResult, _: NodeId | None) -> None:
            if result.outcome is Outcome.OK:
                self._positions[log] = Offset(offset + 1)
            elif result.end_offset is not None:
                if result.offset > offset:
                    self._positions[log] = result.offset  # retention removed the records before
                elif self._rng.random() < 0.1:
                    self._node_id = None
            else:
                self._node_id = None
            self._rest()

        operation = Operation(OperationKind.CONSUME, offset=offset)
        self._calls.consume(self.name, node_id, operation, TIMEOUT_S, returned, wait=self._rng.random() < 0.5)


class Watcher(PacedClient):
    """Asks one node again and again where the log ends, by reads of the latest state.

    Each node has its own, so that one that is cut off, or has been replaced as leader without knowing, is asked, too,
    while it is among those that the watcher was started with. A watcher does not wait for an answer before it asks
    again, often in quick succession, and besides at its pace it can be told to ask soon: shortly after a change of
    leader an answer is most likely to be wrong.
    """

    def __init__(
        self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace, node_id: NodeId
    ) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self._node_id = node_id
        self._end = Offset(0)

    def ask_soon(self) -> None:
        """Ask once more than its pace says, soon."""
        if not self._is_stopped:
            self._runtime.call_later(ASKS_WITHIN_S * self._rng.random() ** 2, self._ask)

    def _begin(self) -> None:
        self._ask()
        self._rest()

    def _ask(self) -> None:
        if self._node_id in self.node_ids:
            self._read()
            if self._rng.random() < TWICE_SHARE:
                self._runtime.call_later(TWICE_WITHIN_S * self._rng.random(), self._read)

    def _read(self) -> None:
        # Mostly beyond any end, so that the answer is the end; otherwise where the log ended when it was asked last.
        offset = BEYOND if self._rng.random() < BEYOND_SHARE else self._end

        def returned(result: OperationResult, _: NodeId | None) -> None:
            if result.end_offset is not None:
                self._end = max(self._end, result.end_offset)
            elif result.outcome is Outcome.OK:
                self._end = Offset(offset + 1)

        operation = Operation(OperationKind.CONSUME, offset=offset, read=ReadLevel.LATEST)
        is_patient = offset < BEYOND and self._rng.random() < WAIT_SHARE
        self._calls.consume(self.name, self._node_id, operation, TIMEOUT_S, returned, wait=is_patient)
