"""A node that knows of no leader asks those who may."""

from __future__ import annotations

from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import (
    LeaderChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    VotersChanged,
)
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CALL_KINDS, FetchRequest
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.types import NodeId

ASKS_WITHIN_S: Final = 1.0
"""Once it may: no timer runs before the first question."""

_FETCH: Final = CALL_KINDS[FetchRequest].name


class VotersAskedForLeader(EventChecker):
    """Looks at each node that knows of no leader, and at whom it has asked since."""

    name: ClassVar[str] = "voters_asked_for_leader"
    statement: ClassVar[str] = (
        f"A node that knows of no leader where there is one to be asks a voter that it has heard of within "
        f"{ASKS_WITHIN_S:g} s, unless something holds it up, and never the same one twice in a row while it knows "
        "another."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent}
        self.on_told = {
            MemberJoined: self._on_member,
            MemberUpdated: self._on_member,
            MemberFailed: self._on_member_gone,
            MemberLeft: self._on_member_gone,
            VotersChanged: self._on_voters,
            LeaderChanged: self._on_leader,
            ProbeDue: self._look,
        }
        self._seeks_s: dict[NodeId, float] = {}
        self._known_s: dict[tuple[NodeId, NodeId], float] = {}
        self._asked: dict[NodeId, tuple[float, NodeId]] = {}
        self._know_voters: set[NodeId] = set()

    def _on_started(self, event: NodeStarted) -> None:
        node_id = event.node_id
        self._seeks_s.pop(node_id, None)
        self._asked.pop(node_id, None)
        self._know_voters.discard(node_id)
        for pair in [pair for pair in self._known_s if pair[0] == node_id]:
            del self._known_s[pair]

    def _on_sent(self, event: PacketSent) -> None:
        node_id = event.source
        since_s = self._seeks_s.get(node_id)
        if event.what != _FETCH or since_s is None:
            return
        before = self._asked.get(node_id)
        self._asked[node_id] = event.time_s, event.target
        hindrances = self.model.hindrances
        # The first may still be of the pull that ends.
        if before is None or before[0] <= since_s + IN_FLIGHT_S:
            return
        if before[1] != event.target or hindrances.node_clear_s(node_id) >= before[0]:
            return
        for other in self._others(self.model.node(node_id)):
            if other != event.target and self._known_s.get((node_id, other), inf) < before[0]:
                raise self.violated(
                    f"{node_id} knows of no leader since {since_s:.3f} s, and asked {event.target} at "
                    f"{before[0]:.3f} s and once more, though it knows {other}"
                )

    def _on_member(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._known_s.setdefault((node_id, told.message.member.node_id), told.time_s)  # type: ignore[attr-defined]

    def _on_member_gone(self, told: MessageTold) -> None:
        """Forget it where the node has not been told yet who votes: it remembers nobody else that is gone."""
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator" and node_id not in self._know_voters:
            self._known_s.pop((node_id, told.message.member.node_id), None)  # type: ignore[attr-defined]

    def _on_voters(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, VotersChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator" and changed.voters:
            self._know_voters.add(node_id)

    def _on_leader(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        if actor != "replicator":
            return
        if changed.leader_id is not None:
            self._seeks_s.pop(node_id, None)
            self._asked.pop(node_id, None)
        else:
            self._seeks_s.setdefault(node_id, told.time_s)

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        since_s = self._seeks_s.get(node.node_id) if node is not None else None
        if node is None or since_s is None or node.node_id in self._asked:
            return
        known_s = min((self._known_s.get((node.node_id, voter), inf) for voter in self._others(node)), default=inf)
        latest_s = max(since_s, known_s, self.model.hindrances.node_clear_s(node.node_id))
        if latest_s < self.time_s - ASKS_WITHIN_S:
            raise self.violated(
                f"{node.node_id} knows of no leader since {since_s:.3f} s and has asked no voter, though it knows one "
                f"and nothing is in its way since {latest_s:.3f} s"
            )

    def _others(self, node: NodeModel) -> list[NodeId]:
        """The other voters."""
        voters = node.config.election.voters if node.config is not None else ()
        return [voter for voter in voters if voter != node.node_id]
