"""How a leader lets another node take over: not to one that lacks something, and not before it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CALL_KINDS, CallReceived, EndTermRequest
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeSaid, NodeStarted, PacketSent
from ourolog.storage.types import Index, NodeId, Term

QUESTION: Final = CALL_KINDS[EndTermRequest].name


@dataclass(frozen=True, slots=True)
class _Asked:
    """How things stood when a leader asked another node to take over.

    term: in which term the asker led; None if it led in none.
    asker_end, successor_end: where the log of each ended, on disk; None where that is not known.
    """

    term: Term | None
    asker_end: Index | None
    successor_end: Index | None


class HandsOverWhole(EventChecker):
    """Looks at both logs when a leader asks another node to take over."""

    name: ClassVar[str] = "hands_over_whole"
    statement: ClassVar[str] = (
        "A leader that hands over leads until another node does: it asks while it leads. Whom it asks are its voters, "
        "with the disks that vote, and the first one has all of its log on disk, unless the leader's own disk has "
        "failed (Raft dissertation section 3.10)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent, NodeSaid: self._on_said}
        self.on_told = {LeaderChanged: self._on_leader_changed, CallReceived: self._on_call}
        self._led: dict[NodeId, Term] = {}
        self._given_up: set[tuple[NodeId, Term]] = set()
        self._asked: dict[tuple[NodeId, NodeId], _Asked] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._led.pop(event.node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._led.pop(node_id, None)
            if changed.leader_id == node_id:
                self._led[node_id] = changed.term

    def _on_said(self, event: NodeSaid) -> None:
        warned = event.event
        if isinstance(warned, NodeWarned) and warned.kind is WarningKind.LEAD_GIVEN_UP:
            node = self.model.nodes[event.node_id]
            self._given_up.add((node.node_id, node.ballot.term))

    def _on_sent(self, event: PacketSent) -> None:
        if event.what != QUESTION:
            return
        asker, successor = self.model.nodes[event.source], self.model.nodes.get(event.target)
        term = self._led.get(asker.node_id)
        self._asked[asker.node_id, event.target] = _Asked(
            term,
            _end_of(asker),
            _end_of(successor) if successor is not None and successor.ballot.term <= asker.ballot.term else None,
        )

    def _on_call(self, told: MessageTold) -> None:
        received, node = told.message, self.model.receiver_of(told)
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, EndTermRequest) or node is None:
            return
        asked = self._asked.get((request.node_id, node.node_id))
        asker = self.model.nodes.get(request.node_id)
        # One whose disk has failed has no time to see to anything.
        if asked is None or asker is None or (asker.node_id, request.term) in self._given_up:
            return
        if asked.term is not None and asked.term > request.term:
            return  # it comes late: the same node has led and asked once more since
        if asked.term != request.term:
            raise self.violated(f"{asker.node_id} asks {node.node_id} to take over term {request.term} without a lead")
        if request.voter not in self.model.voters_of(asker):
            raise self.violated(f"{asker.node_id} asks {node.node_id} to take over, which has no vote")
        if request.successors[0] != request.voter:
            return
        ends = asked.asker_end, asked.successor_end
        if None not in ends and ends[1] < ends[0]:  # type: ignore[operator]
            raise self.violated(
                f"{asker.node_id} asks {node.node_id} to take over, whose log ends at index {ends[1]} on disk, and its "
                f"own at {ends[0]}"
            )


def _end_of(node: NodeModel) -> Index | None:
    """Where a log ends on disk; None where that cannot be known."""
    if not node.log.opened or node.spoiled or node.is_blind or node.is_rotten:
        return None
    return Index(node.log.durable_index)
