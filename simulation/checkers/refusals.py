"""A vote is not withheld without a cause: else a majority that has lost its leader would wait for another one."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.election import LeaderAnswered
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallCancelled,
    CallReceived,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.store import BallotSaved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.votes import last_of
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import Index, NodeId, Term

LETS_GO_AFTER: Final = 1.1
"""Election timeouts: one by the node's own clock, which may be slow."""


class RefusesForCause(EventChecker):
    """Follows when each voter has heard of a leader, and how its log ends from each question to its answer.

    A voter is judged as it is when it answers: until then it has decided nothing, or has had its store decide.
    """

    name: ClassVar[str] = "refuses_for_cause"
    statement: ClassVar[str] = (
        f"A voter that neither leads nor has heard of a leader of its term for {LETS_GO_AFTER:g} election timeouts, "
        "with nothing holding it up, goes to the term of whoever asks for its vote in a later one, and refuses a vote "
        "or a pre-vote of its own term only if its log ends later, or, of votes, if it has voted for another node or "
        "knows that another one leads (Raft section 5.2, dissertation sections 4.2.3 and 9.6)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LeaderChanged: self._on_leader_changed,
            LeaderAnswered: self._on_leader_answered,
            BallotSaved: self._on_saved,
            CallReceived: self._on_call,
            CallCancelled: self._on_cancelled,
            CallAnswer: self._on_answer,
        }
        self.on_log = self._on_log_changed
        self._leads: set[NodeId] = set()
        self._heard: dict[NodeId, tuple[Term, float]] = {}
        # Questions under way at each node, each with the most that its log has had since, None if that is not known.
        self._asked: dict[NodeId, dict[int, tuple[VoteRequest, tuple[Term, Index] | None]]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._leads.discard(event.node_id)
        self._heard.pop(event.node_id, None)
        self._asked.pop(event.node_id, None)

    # ------------------------------------------------------------ leaders

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator":
            return
        if changed.leader_id == node_id:
            self._leads.add(node_id)
        else:
            self._leads.discard(node_id)

    def _on_leader_answered(self, told: MessageTold) -> None:
        answered = told.message
        assert isinstance(answered, LeaderAnswered)
        self._hear(self.model.place(told.receiver)[0], answered.term)

    def _hear(self, node_id: NodeId, term: Term) -> None:
        if term >= self._heard.get(node_id, (Term(0), -inf))[0]:
            self._heard[node_id] = term, self.time_s

    def _on_saved(self, told: MessageTold) -> None:
        """Who has been told by a leader that it leads has heard of it when that is on disk."""
        saved = told.message
        assert isinstance(saved, BallotSaved)
        node_id = self.model.place(told.sender)[0]
        heard_in = self._heard.get(node_id, (None, 0.0))[0]
        if saved.ballot.leader_id is not None and saved.ballot.term == heard_in:
            self._hear(node_id, heard_in)

    # ------------------------------------------------------------ questions and answers

    def _on_call(self, told: MessageTold) -> None:
        received, node = told.message, self.model.receiver_of(told)
        assert isinstance(received, CallReceived)
        request = received.request
        if node is None:
            return
        if isinstance(request, BeginTermRequest):
            self._hear(node.node_id, request.term)
        elif isinstance(request, VoteRequest):
            self._asked.setdefault(node.node_id, {})[received.request_id] = request, last_of(node)

    def _on_log_changed(self, node: NodeModel) -> None:
        asked = self._asked.get(node.node_id)
        if asked:
            end = last_of(node)
            for request_id, (request, most) in asked.items():
                asked[request_id] = request, None if end is None or most is None else max(most, end)

    def _on_cancelled(self, told: MessageTold) -> None:
        cancelled = told.message
        assert isinstance(cancelled, CallCancelled)
        self._asked.get(self.model.place(told.receiver)[0], {}).pop(cancelled.request_id, None)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        if node is None:
            return
        request, most = self._asked.get(node.node_id, {}).pop(answer.request_id, (None, None))
        response = answer.response
        if request is None or not isinstance(response, VoteResponse) or response.granted or node.spoiled:
            return
        if node.node_id in self._leads or self._is_led(node, response.term) or response.term > request.term:
            return
        what = f"{'pre-' if request.is_pre_vote else ''}vote in term {request.term}"
        unled = f"{node.node_id} has heard of no leader of term {response.term} for {LETS_GO_AFTER:g} election timeouts"
        if response.term < request.term:
            if request.is_pre_vote or request.last.term < request.term:
                raise self.violated(f"{unled}, and is in that term still when it refuses {request.node_id} its {what}")
        elif most is not None and most <= (request.last.term, request.last.index) and self._is_free(node, request):
            raise self.violated(
                f"{unled}, and refuses {request.node_id} its {what}, whose log ends at index {request.last.index} in "
                f"term {request.last.term}, and its own at index {most[1]} in term {most[0]}"
            )

    def _is_led(self, node: NodeModel, term: Term) -> bool:
        """Whether it has heard of its leader lately, or something holds it up that may have made it hear late."""
        heard_in, heard_s = self._heard.get(node.node_id, (term, -inf))
        since_s = max(heard_s if heard_in == term else -inf, self.model.hindrances.node_clear_s(node.node_id))
        return self.time_s <= since_s + LETS_GO_AFTER * election_timeout_s(node)

    def _is_free(self, node: NodeModel, request: VoteRequest) -> bool:
        """Whether nothing that the node has promised forbids this vote; a pre-vote promises nothing."""
        ballot = node.ballot
        return request.is_pre_vote or (
            request.last.term < request.term
            and ballot.vote in (None, request.key)
            and ballot.leader_id in (None, request.node_id)
        )
