"""Who is told of a later term goes there, whatever it is in its own (Raft section 5.1)."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from pykka.messages import _ActorStop

from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallReceived,
    CallReturned,
    TermResponse,
    VoteResponse,
)
from ourolog.actors.messages.store import BallotSaved, StoreFailed
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CATCHES_UP_WITHIN_S
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeSaid, NodeStarted, NodeStopped
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term

WITHIN_S: Final = CATCHES_UP_WITHIN_S
"""A ballot is asked for as soon as no other one is under way, and nothing takes time on a disk that is not slow."""


class LaterTermsEntered(EventChecker):
    """Follows what the election of each voter is told of later terms by other voters, until its store has saved one.

    What a candidate asks for is not among it: who has just heard of its leader does not let itself be led away
    (Raft dissertation section 4.2.3).
    """

    name: ClassVar[str] = "later_terms_entered"
    statement: ClassVar[str] = (
        "A voter that another voter tells of a later term, in an answer, by a fetch or as its leader, has that term, "
        f"or a later one, on its disk within {WITHIN_S:g} s, also if it leads (Raft section 5.1), unless its disk "
        "has failed."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_ended,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            NodeSaid: self._on_said,
        }
        self.on_told = {
            LeaderChanged: self._on_leader_changed,
            HigherTermSeen: self._on_seen,
            CallReturned: self._on_returned,
            CallReceived: self._on_call,
            BallotSaved: self._on_saved,
            StoreFailed: self._on_store_failed,
            _ActorStop: self._on_actor_stop,
            ProbeDue: self._look,
        }
        self._elects: set[NodeId] = set()
        self._failed: set[NodeId] = set()
        self._told: dict[NodeId, tuple[Term, NodeId, float]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._forget(event.node_id)
        self._failed.discard(event.node_id)

    def _on_store_failed(self, told: MessageTold) -> None:
        """A node whose disk has failed saves nothing any more; it stops when another one leads."""
        node_id = self.model.place(told.receiver)[0]
        self._forget(node_id)
        self._failed.add(node_id)

    def _on_said(self, event: NodeSaid) -> None:
        if isinstance(event.event, NodeFailed):
            self._forget(event.node_id)

    def _on_actor_stop(self, told: MessageTold) -> None:
        self._forget(self.model.place(told.receiver)[0])

    def _forget(self, node_id: NodeId) -> None:
        self._elects.discard(node_id)
        self._told.pop(node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        """Note that a node takes part: once it has started, and its cluster is founded."""
        node_id, actor = self.model.place(told.sender)
        if actor == "election" and node_id not in self._failed and told.message.term > 0:  # type: ignore[attr-defined]
            self._elects.add(node_id)

    # ------------------------------------------------------------ told

    def _on_seen(self, told: MessageTold) -> None:
        seen = told.message
        assert isinstance(seen, HigherTermSeen)
        self._hear(told, seen.peer_id, seen.term)

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        response: Any = returned.response
        if isinstance(response, VoteResponse | TermResponse):
            self._hear(told, returned.peer_id, response.term)

    def _on_call(self, told: MessageTold) -> None:
        received, node = told.message, self.model.receiver_of(told)
        assert isinstance(received, CallReceived)
        request = received.request
        if isinstance(request, BeginTermRequest) and node is not None and request.voter == node.key:
            self._hear(told, request.node_id, request.term)

    def _hear(self, told: MessageTold, peer_id: NodeId, term: Term) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.node_id not in self._elects or not node.is_vote_of_disk or term <= node.ballot.term:
            return
        voters = self.model.voters_of(node)
        peer = self.model.nodes.get(peer_id)
        if node.key not in voters or peer is None or VoterKey(peer_id, peer.epoch) not in voters:
            return
        # Whose disk is busy may drop what it will be told again.
        if self.model.hindrances.is_held_up(node.node_id, self.time_s):
            return
        before = self._told.get(node.node_id)
        if before is None or before[0] < term:
            self._told[node.node_id] = term, peer_id, self.time_s

    # ------------------------------------------------------------ entered

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        node_id = self.model.place(told.sender)[0]
        heard = self._told.get(node_id)
        if heard is not None and saved.ballot.term >= heard[0]:
            self._check(node_id)
            del self._told[node_id]

    def _look(self, _: MessageTold) -> None:
        for node_id in self._told:
            self._check(node_id)

    def _check(self, node_id: NodeId) -> None:
        term, peer_id, heard_s = self._told[node_id]
        clear_s = self.model.hindrances.node_clear_s(node_id)
        if self.time_s > max(heard_s, clear_s) + WITHIN_S:
            raise self.violated(
                f"{node_id} was told by {peer_id} of term {term} at {heard_s:.3f} s, and had not saved it on its disk "
                f"{WITHIN_S:g} s later"
            )
