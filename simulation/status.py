"""The status of a node, asked of its actors as the edge would ask."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from ourolog.actors.actor import Envelope
from ourolog.actors.messages.status import (
    ElectionStatus,
    MembershipStatus,
    ReplicatorStatus,
    ReportStatus,
    StatusReported,
    StoreStatus,
)
from ourolog.actors.node import Node
from ourolog.simulation.runtime import SimulatedRuntime


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One part from each actor that has one."""

    store: StoreStatus
    membership: MembershipStatus
    replicator: ReplicatorStatus
    election: ElectionStatus


CONSOLE = "console"
WATCH_INTERVAL_S = 2.0


class _Answers:
    """Collects the answers, which everybody who watches the runtime sees, too."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self.parts: list[Any] = []
        self._runtime = runtime

    def tell(self, message: StatusReported) -> None:
        runtime = self._runtime
        if runtime.tap is not None:
            runtime.tap(Envelope(runtime.current(), CONSOLE, message))
        self.parts.append(message.status)


class StatusRequests:
    """Asks nodes for their status."""

    def __init__(self, runtime: SimulatedRuntime) -> None:
        self._runtime = runtime
        self._ids = itertools.count(1)

    def ask(self, node: Node, timeout_s: float = 10.0) -> NodeStatus:
        """Let time pass until all have answered. Raises StepLimitError if the node does not in time."""
        answers = _Answers(self._runtime)
        request = ReportStatus(next(self._ids), answers)
        asked = (node.store, node.membership, node.replicator, node.election)
        for ref in asked:
            ref.tell(request)
        self._runtime.run_until(lambda: len(answers.parts) == len(asked), timeout_s)
        by_kind = {type(part): part for part in answers.parts}
        return NodeStatus(
            by_kind[StoreStatus], by_kind[MembershipStatus], by_kind[ReplicatorStatus], by_kind[ElectionStatus]
        )

    def ask_replicator(self, node: Node) -> None:
        """Ask without waiting: the answer is in the stream of events."""
        node.replicator.tell(ReportStatus(next(self._ids), _Answers(self._runtime)))
