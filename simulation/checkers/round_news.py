"""A round of reads spreads at once: whoever waits at the leader for more is told of it, and can echo it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged, LogAppended, VotersChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest, FetchResponse
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CATCHES_UP_WITHIN_S, IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import Index, NodeId, Term


@dataclass(slots=True)
class _Waiting:
    """A fetch that has no answer yet.

    node_id: who fetches.
    next_index: the first entry that it wants.
    came_s: when it came, in virtual seconds.
    due_s: since when it should have been answered; inf for not at all.
    number: the round of which it should have been told.
    """

    node_id: NodeId
    next_index: Index
    came_s: float
    due_s: float = inf
    number: int = 0


class RoundsSpread(EventChecker):
    """Follows the fetches that wait at each node, and the numbers of rounds in what leaders answer.

    The first answer with a number shows that the round is open, and that nobody can have echoed it. Of a leader that
    votes alone it shows nothing: its rounds end where they begin.
    """

    name: ClassVar[str] = "rounds_spread"
    statement: ClassVar[str] = (
        "When a leader gives the number of a round of reads to anybody, all fetches that wait at the end of its log "
        "are answered at once, so that a read waits for the network and not for a long poll (Raft dissertation "
        "section 6.4)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {
            VotersChanged: self._on_voters,
            LeaderChanged: self._on_leader,
            LogAppended: self._on_appended,
            CallReceived: self._on_call,
            CallCancelled: self._on_cancelled,
            CallAnswer: self._on_answer,
            ProbeDue: self._look,
        }
        self._alone: dict[NodeId, bool] = {}
        self._votes_with_others_since_s: dict[NodeId, float] = {}
        self._ends: dict[NodeId, Index] = {}
        self._numbers: dict[NodeId, tuple[Term, int]] = {}
        self._waiting: dict[NodeId, dict[int, _Waiting]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        for of_node in (self._alone, self._votes_with_others_since_s, self._ends, self._numbers, self._waiting):
            of_node.pop(event.node_id, None)

    def _on_voters(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, VotersChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            was_alone = self._alone.get(node_id, True)
            self._alone[node_id] = len(changed.voters) < 2
            if was_alone and not self._alone[node_id]:
                self._votes_with_others_since_s[node_id] = told.time_s

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._numbers.pop(node_id, None)
            if changed.leader_id == node_id:
                self._numbers[node_id] = changed.term, 0

    # ------------------------------------------------------------ who waits

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request, node_id = received.request, self.model.place(told.receiver)[0]
        if isinstance(request, FetchRequest):
            waiting = _Waiting(request.node_id, request.next_index, told.time_s)
            self._waiting.setdefault(node_id, {})[received.request_id] = waiting

    def _on_cancelled(self, told: MessageTold) -> None:
        cancelled = told.message
        assert isinstance(cancelled, CallCancelled)
        self._waiting.get(self.model.place(told.receiver)[0], {}).pop(cancelled.request_id, None)

    def _on_appended(self, told: MessageTold) -> None:
        appended, (node_id, actor) = told.message, self.model.place(told.receiver)
        assert isinstance(appended, LogAppended)
        if actor == "replicator":
            self._ends[node_id] = appended.ends[-1].index

    # ------------------------------------------------------------ who is answered

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        node_id, actor = self.model.place(told.sender)
        response = answer.response
        if not isinstance(response, FetchResponse):
            return
        ended = self._waiting.get(node_id, {}).pop(answer.request_id, None)
        if ended is not None:
            self._check(node_id, ended)
        term, number = self._numbers.get(node_id, (Term(-1), 0))
        if response.term == term and response.read_round > number:
            self._numbers[node_id] = term, response.read_round
            # What the store answers was made ready some time ago.
            if actor == "replicator" and not self._alone.get(node_id, True):
                self._expect(node_id, response.read_round)

    def _expect(self, node_id: NodeId, number: int) -> None:
        """Everybody who waits at that node should be told of that round now, unless there are batches to be read.

        Who began to wait while the leader was the only voter need not be: no echo was needed then, and the round may
        be of that time.
        """
        since_s = self._votes_with_others_since_s.get(node_id, inf)
        for waiting in self._waiting.get(node_id, {}).values():
            if waiting.came_s < since_s:
                continue
            if waiting.due_s == inf and waiting.next_index >= self._ends.get(node_id, inf):
                waiting.due_s, waiting.number = self.time_s, number

    def _look(self, _: MessageTold) -> None:
        for node_id, waiting in self._waiting.items():
            for one in waiting.values():
                self._check(node_id, one)

    def _check(self, node_id: NodeId, waiting: _Waiting) -> None:
        """Check a fetch that waits, or has waited until now."""
        is_late = self.time_s > waiting.due_s + IN_FLIGHT_S
        if is_late and self.model.hindrances.process_clear_s(node_id) <= waiting.came_s - CATCHES_UP_WITHIN_S:
            raise self.violated(
                f"{node_id} gave the number {waiting.number} of a round of reads to another node at "
                f"{waiting.due_s:.3f} s, and let the fetch of {waiting.node_id} wait on, which had come at "
                f"{waiting.came_s:.3f} s"
            )
