"""A node that hears of its leader is not led away by others (Raft dissertation section 4.2.3)."""

from __future__ import annotations

from typing import ClassVar, Final

from ourolog.actors.messages.election import LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import MemberFailed, MemberLeft
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, EndTermRequest, VoteRequest, VoteResponse
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import NodeId, Term

HOLDS_ON_FOR: Final = 0.9
"""Election timeouts: one by the node's own clock, which may be fast."""


class LedVotersHoldOn(EventChecker):
    """Follows when each election was told that its leader has answered, and what it answers candidates since."""

    name: ClassVar[str] = "led_voters_hold_on"
    statement: ClassVar[str] = (
        "A node whose leader has answered it within the last election timeout grants no vote and no pre-vote, unless "
        "the leader has asked for another one or is known to be gone: who was cut off cannot depose a leader that "
        "works (Raft dissertation section 4.2.3)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LeaderAnswered: self._on_leader_answered,
            LeaderUnreachable: self._on_lost,
            MemberFailed: self._on_lost,
            MemberLeft: self._on_lost,
            CallReceived: self._on_asked,
            CallAnswer: self._on_answer,
        }
        self._heard: dict[NodeId, tuple[Term, float]] = {}
        self._asked: dict[tuple[NodeId, int], tuple[VoteRequest, float]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._heard.pop(event.node_id, None)
        for key in [key for key in self._asked if key[0] == event.node_id]:
            del self._asked[key]

    def _on_leader_answered(self, told: MessageTold) -> None:
        answered, node = told.message, self.model.receiver_of(told)
        assert isinstance(answered, LeaderAnswered)
        if node is None or (node.ballot.term, node.ballot.leader_id) != (answered.term, answered.leader_id):
            return
        # Who is held up may know that the answer is older than it seems.
        if not self.model.hindrances.is_held_up(node.node_id, told.time_s):
            self._heard[node.node_id] = answered.term, told.time_s

    def _on_lost(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "election":
            self._heard.pop(node_id, None)

    def _on_asked(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        node_id = self.model.place(told.receiver)[0]
        if isinstance(received.request, VoteRequest):
            heard = self._heard.get(node_id)
            node = self.model.nodes.get(node_id)
            if heard is not None and node is not None and node.ballot.term == heard[0]:
                self._asked[node_id, received.request_id] = received.request, heard[1]
        elif isinstance(received.request, EndTermRequest):
            self._heard.pop(node_id, None)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        if node is None:
            return
        request, heard_s = self._asked.pop((node.node_id, answer.request_id), (None, 0.0))
        response = answer.response
        if request is None or request.by_leave or not isinstance(response, VoteResponse) or not response.granted:
            return
        if self.time_s < heard_s + HOLDS_ON_FOR * election_timeout_s(node):
            raise self.violated(
                f"{node.node_id} grants {request.node_id} a {'pre-vote' if request.is_pre_vote else 'vote'} in term "
                f"{request.term}, and its leader had answered it at {heard_s:.3f} s"
            )
