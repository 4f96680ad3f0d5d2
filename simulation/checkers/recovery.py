"""What a crash may do to a node."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.observer import FailureKind, NameClashed, NodeFailed
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import FaultInjected, NodeSaid, NodeStarted
from ourolog.storage.recovering import is_unfinished
from ourolog.storage.types import NodeId

_DISK_FAULTS = frozenset(("disk_full", "io_error", "fsync_fails", "fsync_lies", "bit_rot", "disk_lost"))


class RestartKeeps(EventChecker):
    """Compares the log that a node opens with the one that it had on disk when it ended."""

    name: ClassVar[str] = "restart_keeps"
    statement: ClassVar[str] = "Whatever was on disk when a node ended is in the log that it opens next."

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        model = self.model
        if not model.is_reopened or node.spoiled:
            return
        replaced = {entry.index for entry in model.fresh}
        for entry in model.dropped:
            how = "with another entry in its place" if entry.index in replaced else "without it"
            raise self.violated(f"{node.node_id} had {entry} on disk and came back {how}")
        opened = node.opened
        assert opened is not None, "it was just opened"
        if (opened.start, opened.end) != (node.log.start, node.log.end):
            raise self.violated(
                f"{node.node_id} says that its log is [{opened.start}, {opened.end}); on its disk is "
                f"[{node.log.start}, {node.log.end})"
            )


class FailsForCause(EventChecker):
    """Compares every NodeFailed with the faults that the node's disk has had."""

    name: ClassVar[str] = "fails_for_cause"
    statement: ClassVar[str] = (
        "A node gives up only when its disk has failed, lied or rotted, or was recovered by halves; no actor ends by "
        "an exception that nobody handled, and no crash leaves a log that cannot be opened."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FaultInjected: self._on_fault, NodeSaid: self._on_said, NodeStarted: self._on_started}
        self._faults: dict[NodeId, set[str]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        """Forget faults that fail once; a spoiled disk stays spoiled."""
        self._faults[event.node_id] = {"bit_rot"} if self.model.node(event.node_id).is_rotten else set()

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind in _DISK_FAULTS:
            self._faults.setdefault(NodeId(event.where), set()).add(event.kind)

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case NodeFailed(actor=actor, kind=FailureKind.BUG, reason=reason):
                raise self.violated(f"a bug ended {event.node_id}'s {actor}: {reason}")
            case NodeFailed(kind=FailureKind.REFUSED_TO_RUN) if self._is_half_recovered(event.node_id):
                pass
            case NodeFailed(actor=actor, reason=reason):
                node = self.model.node(event.node_id)
                if not (node.spoiled or node.is_rotten or self._faults.get(event.node_id)):
                    raise self.violated(f"{event.node_id}'s {actor} gave up although nothing was wrong: {reason}")
            case NameClashed():
                raise self.violated(f"{event.node_id} found its own name taken by {event.event.gossip_addr}")
            case _:
                pass

    def _is_half_recovered(self, node_id: NodeId) -> bool:
        """Whether people have begun to recover a cluster from its disk, and have not finished."""
        opened = self.model.node(node_id).opened
        return opened is not None and opened.founding is not None and is_unfinished(opened.founding, opened.voters)
