"""A client that writes, and reads at once what it has written, from whichever node."""

from __future__ import annotations

from random import Random

from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.paced_clients import TIMEOUT_S, Pace, PacedWriter
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId, Offset

READS_MOST = 3
"""How often, at most, it reads after each write."""

UNSEEN_SHARE = 0.05
"""How often it claims to have seen more than there is: whoever is asked must not wait for ever."""

PATIENT_SHARE = 0.2
"""How often it waits at the end of the log for more."""


class OwnReader(PacedWriter):
    """Says with every read what it was acknowledged and has read, and goes to the leader that a node names.

    It asks for a quorum: what only the leader has may be lost, and nobody should wait for that.
    """

    def __init__(self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace) -> None:
        super().__init__(name, runtime, calls, rng, pace)
        self._seen_end = Offset(0)

    def _begin(self) -> None:
        value, node_id = self._value(is_padded=False), self._node()

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            self._heard(node_id, result, leader_id)
            if result.outcome is Outcome.OK:
                self._see(Offset(result.offset + 1))
                self._read(self._rng.randrange(1, READS_MOST + 1), None)
            self._rest()

        operation = Operation(OperationKind.PRODUCE, value=value, acks="quorum")
        self._calls.produce(self.name, node_id, operation, TIMEOUT_S, returned)

    def _read(self, times: int, node_id: NodeId | None) -> None:
        node_id = node_id if node_id in self.node_ids else self._rng.choice(self.node_ids)
        assert node_id is not None
        is_patient = self._rng.random() < PATIENT_SHARE
        offset = self._seen_end if is_patient else Offset(max(0, self._seen_end - 1))
        seen_end = Offset(2**40) if self._rng.random() < UNSEEN_SHARE else self._seen_end

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            if result.outcome is Outcome.OK:
                self._see(Offset(offset + 1))
            if times > 1:
                self._read(times - 1, leader_id)

        operation = Operation(OperationKind.CONSUME, offset=offset, seen_end=seen_end)
        self._calls.consume(self.name, node_id, operation, TIMEOUT_S, returned, wait=is_patient)

    def _see(self, end: Offset) -> None:
        self._seen_end = max(self._seen_end, end)
