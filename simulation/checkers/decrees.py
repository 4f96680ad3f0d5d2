"""What must hold whoever is decreed to lead, even a node without the data."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.acknowledged import AcknowledgedKept
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import ClientReturned, MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId


class KnownCommittedKept(EventChecker):
    """Compares every entry that a node drops with the commit position that the node itself knows."""

    name: ClassVar[str] = "known_committed_kept"
    statement: ClassVar[str] = (
        "With somebody elected no node drops what it knows to be committed, whoever comes to lead: it rather does not "
        "follow."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        model = self.model
        if not model.dropped or model.is_reopened or not node.is_elected or node.spoiled:
            return
        # A log that retention has overtaken at the leader starts again where the leader's does.
        overtaken = max(other.log.start.index for other in model.nodes.values())
        for entry in model.dropped:
            if overtaken <= entry.index < node.committed.index:
                raise self.violated(f"{node.node_id} dropped {entry}, and holds {node.committed} for committed")


class AcknowledgedKeptAsDecreed(AcknowledgedKept):
    """Gives up what a decreed leader does not have: that decree was a mistake, or a choice.

    What remains is checked on every disk, as usual.
    """

    name: ClassVar[str] = "acknowledged_kept_as_decreed"
    statement: ClassVar[str] = (
        "What was acknowledged with more than one disk, and was on the disk of everybody who came to lead since, is "
        "never lost: no crash, truncation or restart takes it from a disk that had it, and it is there in the end."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on |= {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {LeaderChanged: self._on_leader_changed}
        self._leading: dict[NodeId, None] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leading.pop(event.node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator":
            return
        self._leading.pop(node_id, None)
        if changed.leader_id == node_id:
            self._leading[node_id] = None
            self._forget_what_is_not_on(self.model.node(node_id))

    def _on_returned(self, event: ClientReturned) -> None:
        if event.operation.acks != "leader":
            super()._on_returned(event)
            for node_id in self._leading:
                if node_id != event.node_id:
                    self._forget_what_is_not_on(self.model.node(node_id))

    def _forget_what_is_not_on(self, node: NodeModel) -> None:
        values = self._values.get(NodeId(""), {})
        for offset in [offset for offset in values if offset >= node.log.start.offset]:
            if node.log.value_at(offset) != values[offset]:
                del values[offset]
