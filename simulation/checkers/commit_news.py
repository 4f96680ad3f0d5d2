"""Whoever waits at a leader hears soon that more is committed, also if nothing follows."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest
from ourolog.actors.messages.store import BatchesGathered
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CATCHES_UP_WITHIN_S, CLOCKS_DIFFER, IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import Index, NodeId, Term

TOLD_WITHIN_S: Final = 0.005


@dataclass(slots=True)
class _Waiting:
    """A fetch that has no answer yet.

    request: the fetch.
    came_s: when it came, in virtual seconds.
    disk_index: below which index its sender has everything on disk, as it has said last.
    due_s: since when it knows less than the leader; inf if it does not, or is owed batches.
    """

    request: FetchRequest
    came_s: float
    disk_index: Index
    due_s: float = inf


@dataclass(slots=True)
class _Leader:
    """A leader in one term.

    end: where its log ends, or will, as far as its store has said.
    committed: its commit index.
    waiting: the fetches that it has not answered, by the number of the call.
    """

    term: Term
    end: Index
    committed: Index
    waiting: dict[int, _Waiting]


class CommitToldSoon(EventChecker):
    """Follows the fetches that wait at each leader, and what it says is committed."""

    name: ClassVar[str] = "commit_told_soon"
    statement: ClassVar[str] = (
        "A fetch that waits at a leader, of somebody who has more on disk that is committed than it knows, is "
        f"answered within {TOLD_WITHIN_S * 1000:g} ms."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {
            LogOpened: self._on_opened,
            LeaderChanged: self._on_leader,
            BatchesGathered: self._on_end_moved,
            LogAppended: self._on_end_moved,
            CommitAdvanced: self._on_committed,
            CallReceived: self._on_call,
            CallCancelled: self._on_cancelled,
            CallAnswer: self._on_answer,
            ProbeDue: self._look,
        }
        self._ends: dict[NodeId, tuple[Index, Index]] = {}
        self._leaders: dict[NodeId, _Leader] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leaders.pop(event.node_id, None)

    def _on_opened(self, told: MessageTold) -> None:
        assert isinstance(told.message, LogOpened)
        self._ends[self.model.place(told.receiver)[0]] = told.message.end.index, told.message.committed.index

    def _on_leader(self, told: MessageTold) -> None:
        changed, (node_id, actor) = told.message, self.model.place(told.receiver)
        assert isinstance(changed, LeaderChanged)
        if actor == "replicator":
            self._leaders.pop(node_id, None)
            if changed.leader_id == node_id:
                self._leaders[node_id] = _Leader(changed.term, *self._ends.get(node_id, (Index(0), Index(0))), {})

    def _on_end_moved(self, told: MessageTold) -> None:
        moved, (node_id, actor) = told.message, self.model.place(told.receiver)
        assert isinstance(moved, BatchesGathered | LogAppended)
        end = moved.end.index if isinstance(moved, BatchesGathered) else moved.ends[-1].index
        if actor == "replicator":
            self._ends[node_id] = end, self._ends.get(node_id, (Index(0), Index(0)))[1]
            leader = self._leaders.get(node_id)
            if leader is not None:
                leader.end = max(leader.end, end)
                for waiting in leader.waiting.values():
                    self._judge(leader, waiting)

    def _on_committed(self, told: MessageTold) -> None:
        advanced, (node_id, _) = told.message, self.model.place(told.receiver)
        assert isinstance(advanced, CommitAdvanced)
        self._ends[node_id] = self._ends.get(node_id, (Index(0), Index(0)))[0], advanced.committed.index
        leader = self._leaders.get(node_id)
        if leader is not None:
            leader.committed = advanced.committed.index
            for waiting in leader.waiting.values():
                self._judge(leader, waiting)

    # ------------------------------------------------------------ who waits

    def _on_call(self, told: MessageTold) -> None:
        received, leader = told.message, self._leaders.get(self.model.place(told.receiver)[0])
        assert isinstance(received, CallReceived)
        request = received.request
        if leader is not None and isinstance(request, FetchRequest) and request.term == leader.term:
            for other in leader.waiting.values():
                is_same_disk = (request.node_id, request.log_epoch) == (other.request.node_id, other.request.log_epoch)
                if is_same_disk and request.disk_index > other.disk_index:
                    other.disk_index = request.disk_index
                    self._judge(leader, other)
            waiting = leader.waiting[received.request_id] = _Waiting(request, told.time_s, request.disk_index)
            self._judge(leader, waiting)

    def _on_cancelled(self, told: MessageTold) -> None:
        assert isinstance(told.message, CallCancelled)
        leader = self._leaders.get(self.model.place(told.receiver)[0])
        if leader is not None:
            leader.waiting.pop(told.message.request_id, None)

    def _judge(self, leader: _Leader, waiting: _Waiting) -> None:
        """Note since when it should hear of a commit; batches that are there may take a while to be read."""
        if waiting.request.next_index < leader.end:
            waiting.due_s = inf
        elif waiting.request.committed < min(leader.committed, waiting.disk_index):
            waiting.due_s = min(waiting.due_s, self.time_s)

    # ------------------------------------------------------------ who is answered

    def _on_answer(self, told: MessageTold) -> None:
        assert isinstance(told.message, CallAnswer)
        node_id = self.model.place(told.sender)[0]
        leader = self._leaders.get(node_id)
        waiting = leader.waiting.pop(told.message.request_id, None) if leader is not None else None
        if waiting is not None:
            self._check(node_id, waiting)

    def _look(self, _: MessageTold) -> None:
        for node_id, leader in self._leaders.items():
            for waiting in leader.waiting.values():
                self._check(node_id, waiting)

    def _check(self, node_id: NodeId, waiting: _Waiting) -> None:
        """Check a fetch that waits, or has waited until now."""
        is_late = self.time_s > waiting.due_s + TOLD_WITHIN_S * CLOCKS_DIFFER + IN_FLIGHT_S
        if is_late and self.model.hindrances.process_clear_s(node_id) <= waiting.came_s - CATCHES_UP_WITHIN_S:
            raise self.violated(
                f"{node_id} knows since {waiting.due_s:.4f} s at the latest that more is committed than index "
                f"{waiting.request.committed}, and lets the fetch of {waiting.request.node_id} wait, which came at "
                f"{waiting.came_s:.4f} s"
            )
