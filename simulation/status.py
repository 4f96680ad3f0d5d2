"""What a node knows of itself, asked of its actors as the edge would."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from actors.messages import (
    ElectionStatus,
    MembershipStatus,
    ReplicatorStatus,
    ReportStatus,
    StatusReported,
    StoreStatus,
)
from actors.node import Node
from simulation.runtime import SimulatedRuntime


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One part from each actor that has one."""

    store: StoreStatus
    membership: MembershipStatus
    replicator: ReplicatorStatus
    election: ElectionStatus


class _Answers:
    def __init__(self) -> None:
        self.parts: list[Any] = []

    def tell(self, message: StatusReported) -> None:
        self.parts.append(message.status)


class StatusRequests:
    """Asks, and lets time pass until all have answered."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._ids = itertools.count(1)

    def ask(self, node: Node, timeout_s: float = 10.0) -> NodeStatus:
        """Raises StepLimitError if the node does not answer in time."""
        answers = _Answers()
        request = ReportStatus(next(self._ids), answers)
        asked = (node.store, node.membership, node.replicator, node.election)
        for ref in asked:
            ref.tell(request)
        self._runtime.run_until(lambda: len(answers.parts) == len(asked), timeout_s)
        by_kind = {type(part): part for part in answers.parts}
        return NodeStatus(
            by_kind[StoreStatus], by_kind[MembershipStatus], by_kind[ReplicatorStatus], by_kind[ElectionStatus]
        )
