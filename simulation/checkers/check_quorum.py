"""A leader that has lost its majority gives up, so that its clients look for another one."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term

GIVES_UP_AFTER: Final = 3.0
"""Election timeouts: twice what a leader waits by its own clock."""


class Contacts:
    """Which nodes lead, and when each voter last fetched from them in their term."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._led: dict[NodeId, tuple[Term, float]] = {}
        self._fetched: dict[NodeId, dict[VoterKey, float]] = {}

    @property
    def leaders(self) -> dict[NodeId, Term]:
        """Who leads, and in which term."""
        return {node_id: term for node_id, (term, _) in self._led.items()}

    def forget(self, node_id: NodeId) -> None:
        """The node does not lead any more."""
        self._led.pop(node_id, None)
        self._fetched.pop(node_id, None)

    def note_leader(self, told: MessageTold) -> None:
        """Note a LeaderChanged, by what the replicator of the node is told."""
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self._model.place(told.receiver)
        if actor != "replicator" or self._led.get(node_id, (None, 0.0))[0] == changed.term != 0:
            if actor == "replicator" and changed.leader_id != node_id:
                self.forget(node_id)
            return
        self.forget(node_id)
        if changed.leader_id == node_id:
            self._led[node_id] = changed.term, told.time_s

    def note_call(self, told: MessageTold) -> None:
        """Note a fetch, if it is of a term in which the node that it came to leads."""
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, FetchRequest) or not request.elected:
            return
        node_id = self._model.place(told.receiver)[0]
        led = self._led.get(node_id)
        if led is not None and led[0] == request.term:
            key = VoterKey(request.node_id, request.log_epoch)
            self._fetched.setdefault(node_id, {})[key] = told.time_s

    def majority_s(self, leader: NodeModel) -> float:
        """When the leader last had heard from a majority of its voters, itself among them; inf if it is one alone.

        A leader that has just begun has heard from those that voted for it.
        """
        voters = self._model.voters_of(leader)
        needed = len(voters) // 2 + 1 - (leader.key in voters)
        if needed <= 0:
            return inf
        fetched = self._fetched.get(leader.node_id, {})
        times_s = sorted((fetched.get(voter, -inf) for voter in voters if voter != leader.key), reverse=True)
        return max(self._led[leader.node_id][1], times_s[needed - 1])


class CheckQuorum(EventChecker):
    """Follows the fetches that come to each leader, by the disks that they name."""

    name: ClassVar[str] = "check_quorum"
    statement: ClassVar[str] = (
        f"A leader from which no majority of the voters has fetched for {GIVES_UP_AFTER:g} election timeouts, with "
        "nothing holding it up, stops leading (Raft dissertation section 6.2)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._contacts = Contacts(self.model)
        self.on = {NodeStarted: self._on_changed, NodeStopped: self._on_changed, NodeCrashed: self._on_changed}
        self.on_told = {
            LeaderChanged: self._contacts.note_leader,
            CallReceived: self._contacts.note_call,
            ProbeDue: self._look,
        }

    def _on_changed(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._contacts.forget(event.node_id)

    def _look(self, _: MessageTold) -> None:
        for node_id, term in self._contacts.leaders.items():
            leader = self.model.nodes[node_id]
            heard_s = self._contacts.majority_s(leader)
            since_s = max(heard_s, self.model.hindrances.node_clear_s(node_id))
            if self.time_s > since_s + GIVES_UP_AFTER * election_timeout_s(leader):
                raise self.violated(
                    f"{node_id} still leads term {term}, and has not heard from a majority of its voters since "
                    f"{heard_s:.3f} s"
                )


def election_timeout_s(node: NodeModel) -> float:
    """The node's election timeout, in seconds."""
    assert node.config is not None, "it has started"
    return node.config.election_timeout_s
