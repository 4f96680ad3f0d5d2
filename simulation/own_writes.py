"""A client that writes, and reads at once what it has written, from whichever node."""

from __future__ import annotations

from random import Random

from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.clients import TIMEOUT_S, Pace
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId, Offset

READS_MOST = 3
"""How often, at most, it reads after each write."""

UNSEEN_SHARE = 0.05
"""How often it claims to have seen more than there is: whoever is asked must not wait for ever."""

PATIENT_SHARE = 0.2
"""How often it waits at the end of the log for more."""


class OwnReader:
    """Says with every read what it was acknowledged and has read, and goes to the leader that a node names.

    It asks for a quorum: what only the leader has may be lost, and nobody should wait for that.
    """

    def __init__(self, name: str, runtime: SimulatedRuntime, calls: ClientCalls, rng: Random, pace: Pace) -> None:
        self.name = name
        self.node_ids: tuple[NodeId, ...] = ()
        self._runtime = runtime
        self._calls = calls
        self._rng = rng
        self._pace = pace
        self._number = 0
        self._leader_id: NodeId | None = None
        self._seen_end = Offset(0)

    def start(self, node_ids: tuple[NodeId, ...]) -> None:
        """Ask these nodes from now on."""
        self.node_ids = node_ids
        self._rest()

    def _rest(self) -> None:
        pause_s = self._pace.pause_s()
        if pause_s is not None:
            self._runtime.call_later(pause_s, self._write)

    def _write(self) -> None:
        self._number += 1
        value = f"{self.name}/{self._number}/".encode()
        node_id = self._leader_id if self._leader_id in self.node_ids else self._rng.choice(self.node_ids)
        assert node_id is not None

        def returned(result: OperationResult, leader_id: NodeId | None) -> None:
            self._leader_id = leader_id or (node_id if result.outcome is Outcome.OK else None)
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
