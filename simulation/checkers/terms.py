"""Terms, leaders, and the commit position as each node reports them."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogOpened
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import START, NodeId, Position, Term


class OneLeaderATerm(EventChecker):
    """Compares all announcements, and which node wrote the batches of each term."""

    name: ClassVar[str] = "one_leader_a_term"
    statement: ClassVar[str] = (
        "At most one leader in a term (Raft section 5.2), terms that a node announces never fall while it runs, and "
        "all entries of a term are of its leader."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {LeaderChanged: self._on_changed}
        self.on_log = self._on_log_changed
        self._leaders: dict[Term, NodeId] = {}
        self._terms: dict[NodeId, Term] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._terms.pop(event.node_id, None)

    def _on_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id = self.model.place(told.sender)[0]
        before = self._terms.get(node_id, Term(0))
        if changed.term < before:
            raise self.violated(f"{node_id} announced term {changed.term} after term {before}")
        self._terms[node_id] = changed.term
        if changed.leader_id is not None:
            self._note(changed.term, changed.leader_id, f"{node_id} announced")

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        for entry in self.model.fresh:
            if entry.term:
                self._note(entry.term, entry.path[0], f"{node.node_id} has entries of")

    def _note(self, term: Term, leader_id: NodeId, how: str) -> None:
        known = self._leaders.setdefault(term, leader_id)
        if known != leader_id:
            raise self.violated(f"{how} {leader_id} as leader of term {term}, whose leader is {known}")


class CommitForward(EventChecker):
    """Follows what each replicator tells its server."""

    name: ClassVar[str] = "commit_forward"
    statement: ClassVar[str] = (
        "A node's commit position never falls while it runs, what it remembers of it after a restart was committed "
        "before, and with nobody elected it is never above what is on the node's disk."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {CommitAdvanced: self._on_committed, LogOpened: self._on_opened}
        self._highest: dict[NodeId, Position] = {}
        self._present: dict[NodeId, Position] = {}

    def _on_committed(self, told: MessageTold) -> None:
        advanced = told.message
        assert isinstance(advanced, CommitAdvanced)
        node = self.model.receiver_of(told)
        if node is None:
            return
        before = self._present.get(node.node_id, START)
        if advanced.committed < before:
            raise self.violated(f"{node.node_id}'s commit position fell from {before} to {advanced.committed}")
        self._present[node.node_id] = advanced.committed
        log = NodeId("") if node.is_elected else node.node_id
        self._highest[log] = max(self._highest.get(log, START), advanced.committed)
        if not node.is_elected and node.log.opened and advanced.committed.index > node.log.durable_index:
            raise self.violated(
                f"{node.node_id} commits up to {advanced.committed}, and what is below index {node.log.durable_index} "
                "is on its disk"
            )

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        node = self.model.receiver_of(told)
        if node is None:
            return
        self._present[node.node_id] = opened.committed
        if opened.committed > opened.end:
            raise self.violated(
                f"{node.node_id} came back with {opened.committed} committed and a log up to {opened.end}"
            )
        if node.is_elected and not node.spoiled:
            highest = max(self._highest.get(NodeId(""), START), opened.start)
            if opened.committed > highest:
                raise self.violated(
                    f"{node.node_id} came back with {opened.committed} committed, and nobody ever committed more "
                    f"than {highest}"
                )
