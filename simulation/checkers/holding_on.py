"""A node that hears of its leader is not led away by others (Raft dissertation section 4.2.3)."""

from __future__ import annotations

from typing import ClassVar, Final

from ourolog.actors.messages.election import HigherTermSeen, LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import LeaderChanged, MemberFailed, MemberLeft
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    BeginTermRequest,
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.store import SaveBallot
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.types import NodeId, Term

HOLDS_ON_FOR: Final = 0.9
"""Election timeouts: one by the node's own clock, which may be fast."""

SILENT_AFTER: Final = 0.45
"""Election timeouts: half of one by the node's own clock, which may be fast. Then gossip may say that it has failed."""

LEAVES: Final = CALL_KINDS[EndTermRequest].name


class LedVotersHoldOn(EventChecker):
    """Follows when each election was told that its leader has answered, and what it answers candidates since."""

    name: ClassVar[str] = "led_voters_hold_on"
    statement: ClassVar[str] = (
        "A node whose leader has answered it within the last election timeout grants no vote and no pre-vote, and goes "
        "to no other term because it is asked for one, unless the leader has asked for another one or is known to be "
        "gone; nor does a leader grant one that has asked nobody to take over: who was cut off cannot depose a leader "
        "that works (Raft dissertation section 4.2.3)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent}
        self.on_told = {
            LeaderAnswered: self._on_leader_answered,
            LeaderUnreachable: lambda told: self._on_lost(told, told.message.leader_id),
            MemberFailed: self._on_member_failed,
            MemberLeft: lambda told: self._on_lost(told, told.message.member.node_id),
            HigherTermSeen: lambda told: self._note_term(told, told.message.term),
            CallReturned: self._on_returned,
            CallReceived: self._on_asked,
            CallAnswer: self._on_answer,
            LeaderChanged: self._on_leader_changed,
            SaveBallot: self._on_save,
        }
        self._heard: dict[NodeId, tuple[Term, float]] = {}
        self._asked: dict[tuple[NodeId, int], tuple[VoteRequest, Term, float]] = {}
        # What each was told of terms otherwise than by candidates that it should refuse.
        self._told: dict[NodeId, Term] = {}
        self._led: dict[NodeId, Term] = {}
        self._has_left: set[tuple[NodeId, Term]] = set()

    def _on_started(self, event: NodeStarted) -> None:
        for of_node in (self._heard, self._told, self._led):
            of_node.pop(event.node_id, None)
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

    def _on_lost(self, told: MessageTold, lost_id: NodeId) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "election" and self.model.node(node_id).ballot.leader_id == lost_id:
            self._heard.pop(node_id, None)

    def _on_member_failed(self, told: MessageTold) -> None:
        failed, node = told.message, self.model.receiver_of(told)
        assert isinstance(failed, MemberFailed)
        heard = self._heard.get(node.node_id) if node is not None else None
        if node is None or heard is None:
            return
        is_silent = told.time_s >= heard[1] + SILENT_AFTER * election_timeout_s(node)
        # Who is held up looks at the clock later.
        if is_silent or self.model.hindrances.is_held_up(node.node_id, told.time_s):
            self._on_lost(told, failed.member.node_id)

    def _note_term(self, told: MessageTold, term: Term) -> None:
        node_id = self.model.place(told.receiver)[0]
        self._told[node_id] = max(term, self._told.get(node_id, Term(0)))

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        if isinstance(returned.response, VoteResponse | TermResponse):
            self._note_term(told, returned.response.term)

    # ------------------------------------------------------------ leaders

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._led.pop(node_id, None)
            if changed.leader_id == node_id:
                self._led[node_id] = changed.term

    def _on_sent(self, event: PacketSent) -> None:
        if event.what == LEAVES and event.source in self._led:
            self._has_left.add((event.source, self._led[event.source]))

    def _on_save(self, told: MessageTold) -> None:
        asked = told.message
        assert isinstance(asked, SaveBallot)
        node_id = self.model.place(told.receiver)[0]
        led = self._led.get(node_id)
        if led is not None and asked.candidate is not None and (node_id, led) not in self._has_left:
            raise self.violated(
                f"{node_id} leads term {led}, has asked nobody to take over, and is about to vote for "
                f"{asked.ballot.voted_for} in term {asked.ballot.term}"
            )

    # ------------------------------------------------------------ candidates

    def _on_asked(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        node_id = self.model.place(told.receiver)[0]
        if isinstance(received.request, VoteRequest):
            heard = self._heard.get(node_id)
            node = self.model.nodes.get(node_id)
            if heard is not None and node is not None and node.ballot.term == heard[0]:
                self._asked[node_id, received.request_id] = received.request, *heard
                is_led = not (received.request.by_leave or self._is_long_ago(node, heard[1]))
            else:
                is_led = False
            if not is_led:
                self._note_term(told, received.request.term)
        elif isinstance(received.request, BeginTermRequest):
            self._note_term(told, received.request.term)
        elif isinstance(received.request, EndTermRequest):
            self._heard.pop(node_id, None)
            self._note_term(told, received.request.term)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        if node is None:
            return
        request, term, heard_s = self._asked.pop((node.node_id, answer.request_id), (None, Term(0), 0.0))
        response = answer.response
        if not isinstance(response, VoteResponse):
            return
        if response.granted and node.node_id in self._led:
            raise self.violated(f"{node.node_id} leads term {self._led[node.node_id]}, and would vote for another node")
        if request is None or request.by_leave or self._is_long_ago(node, heard_s):
            return
        if not response.granted and response.term > max(term, self._told.get(node.node_id, term)):
            raise self.violated(
                f"{node.node_id} goes to term {response.term} because {request.node_id} asks for its vote, and its "
                f"leader in term {term} had answered it at {heard_s:.3f} s"
            )
        if response.granted:
            raise self.violated(
                f"{node.node_id} grants {request.node_id} a {'pre-vote' if request.is_pre_vote else 'vote'} in term "
                f"{request.term}, and its leader had answered it at {heard_s:.3f} s"
            )

    def _is_long_ago(self, node: NodeModel, heard_s: float) -> bool:
        return self.time_s >= heard_s + HOLDS_ON_FOR * election_timeout_s(node)
