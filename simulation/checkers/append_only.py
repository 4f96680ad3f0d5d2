"""A leader only adds to its log."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import FaultInjected, MessageTold
from ourolog.storage.types import NodeId, Term


class LeaderAppendOnly(EventChecker):
    """Remembers in which term each disk was led from last, and looks at what leaves its log in that term."""

    name: ClassVar[str] = "leader_append_only"
    statement: ClassVar[str] = (
        "A node drops nothing of its log in a term that it leads or has led (Raft section 5.3, the leader append-only "
        "property): nobody else writes entries of that term that it could have to make room for."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FaultInjected: self._on_fault}
        self.on_told = {LeaderChanged: self._on_leader_changed}
        self.on_log = self._on_log_changed
        self._led: dict[NodeId, Term] = {}

    def _on_fault(self, event: FaultInjected) -> None:
        """Forget what another disk was led from; an old one may not remember it."""
        if event.kind in ("disk_lost", "old_disk"):
            self._led.pop(NodeId(event.where), None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator" and changed.leader_id == node_id:
            self._led[node_id] = changed.term

    def _on_log_changed(self, node: NodeModel) -> None:
        model = self.model
        if not model.dropped or model.is_reopened or node.spoiled or not node.is_elected:
            return
        if self._led.get(node.node_id) == node.ballot.term:
            raise self.violated(
                f"{node.node_id} dropped {model.dropped[0]} in term {node.ballot.term}, in which it leads or has led"
            )
