"""What must be true once the faults are over."""

from __future__ import annotations

from typing import ClassVar

from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import ClientInvoked, ClientReturned, OperationKind, Outcome, Phase, PhaseBegan
from ourolog.storage.types import NodeId


class Convergence(EventChecker):
    """Compares all logs at the end of the settled phase, whose length is the bound."""

    name: ClassVar[str] = "convergence"
    statement: ClassVar[str] = (
        "Within a bounded virtual time after all faults are over, the nodes agree: with somebody elected their logs "
        "and commit positions are the same, with the cycle broken they hold the same set of records, each once."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {PhaseBegan: self._on_phase}
        self._is_settled = False

    def _on_phase(self, event: PhaseBegan) -> None:
        self._is_settled = event.phase is Phase.SETTLED

    def at_end(self) -> None:
        if not self._is_settled:
            return
        nodes = [node for node in self.model.nodes.values() if node.is_up and node.log.opened]
        down = [node for node in self.model.nodes.values() if not node.is_up and not node.spoiled]
        if down:
            raise self.violated(f"{down[0].node_id} does not run in the end, although nothing destroyed its disk")
        elected = [node for node in nodes if node.is_elected]
        if elected:
            self._compare_logs(elected)
        peers = [node for node in nodes if not node.is_elected and not node.is_cycle_allowed]
        if peers:
            self._compare_sets(peers)

    def _compare_logs(self, nodes: list[NodeModel]) -> None:
        first = nodes[0]
        for node in nodes[1:]:
            if node.log.end != first.log.end:
                raise self.violated(
                    f"{node.node_id}'s log ends at {node.log.end}, {first.node_id}'s at {first.log.end}"
                )
            mine, theirs = node.log.entry(node.log.end.index - 1), first.log.entry(first.log.end.index - 1)
            if mine is not None and theirs is not None and mine.crc != theirs.crc:
                raise self.violated(f"{node.node_id}'s log ends with {mine}, {first.node_id}'s with {theirs}")
        for node in nodes:
            if node.committed.index < node.log.end.index:
                raise self.violated(f"{node.node_id} has committed {node.committed} of a log up to {node.log.end}")

    def _compare_sets(self, nodes: list[NodeModel]) -> None:
        lied = {node.node_id for node in self.model.nodes.values() if "fsync_lies" in node.spoiled}
        removed = any(node.log.start.index for node in nodes)
        everything = {entry.identity: node for node in nodes for entry in node.log.entries if entry.path[0] not in lied}
        for node in nodes:
            for identity, holder in everything.items():
                origin, epoch, sequence = identity
                numbers = node.seen.get((origin, epoch))
                if (numbers is None or sequence not in numbers) and not removed:
                    raise self.violated(
                        f"{node.node_id} does not have {origin}'s batch {sequence}, which {holder.node_id} has"
                    )


class Progress(EventChecker):
    """Counts what succeeded while a healthy core had the faults around it."""

    name: ClassVar[str] = "progress"
    statement: ClassVar[str] = (
        "A healthy core makes progress while the rest stays broken: of what clients ask it, produces and consumes "
        "succeed."
    )
    least_s: ClassVar[float] = 20.0
    """A shorter liveness phase shows nothing: timeouts and backoffs from before may fill it."""

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {PhaseBegan: self._on_phase, ClientInvoked: self._on_invoked, ClientReturned: self._on_returned}
        self._began_s: float | None = None
        self._core: frozenset[NodeId] = frozenset()
        self._asked = dict.fromkeys(OperationKind, 0)
        self._succeeded = dict.fromkeys(OperationKind, 0)

    def _on_phase(self, event: PhaseBegan) -> None:
        if event.phase is Phase.LIVENESS:
            self._began_s, self._core = event.time_s, frozenset(event.core)
        elif self._began_s is not None:
            if event.time_s - self._began_s >= self.least_s:
                self._check()
            self._began_s = None

    def _on_invoked(self, event: ClientInvoked) -> None:
        if self._began_s is not None and event.node_id in self._core:
            self._asked[event.operation.kind] += 1

    def _on_returned(self, event: ClientReturned) -> None:
        if self._began_s is not None and event.node_id in self._core:
            is_answer = event.result.outcome is Outcome.OK or event.result.end_offset is not None
            self._succeeded[event.operation.kind] += is_answer

    def _check(self) -> None:
        for kind, asked in self._asked.items():
            if asked >= 10 and not self._succeeded[kind]:
                raise self.violated(
                    f"of {asked} {kind}s asked of the healthy nodes {', '.join(sorted(self._core))} none succeeded"
                )
