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
from ourolog.actors.messages.peer_calls import EMPTY_FETCH, Answerer, CallFailed, CallReturned
from ourolog.actors.replication.leader_search import MAX_OPEN
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.types import NodeId

ASKS_WITHIN_S: Final = 1.0
"""Once it may: no timer runs before the first question, and a short one after a question without an answer."""


class VotersAskedForLeader(EventChecker):
    """Looks at each node that knows of no leader, and at whom it has asked since."""

    name: ClassVar[str] = "voters_asked_for_leader"
    statement: ClassVar[str] = (
        f"A node that knows of no leader where there is one to be asks a voter that it has heard of within "
        f"{ASKS_WITHIN_S:g} s, unless something holds it up, another one as long after a question without an answer, "
        "and never the same one twice in a row while it knows another whose answer it does not await."
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
            CallReturned: self._on_end,
            CallFailed: self._on_end,
            ProbeDue: self._look,
        }
        self._seeks_s: dict[NodeId, float] = {}
        self._known_s: dict[tuple[NodeId, NodeId], float] = {}
        self._asked: dict[NodeId, tuple[float, NodeId]] = {}
        self._know_voters: set[NodeId] = set()
        self._open: dict[tuple[NodeId, NodeId], int] = {}
        self._full_s: dict[NodeId, float] = {}
        self._ended_s: dict[tuple[NodeId, NodeId], float] = {}

    def _on_started(self, event: NodeStarted) -> None:
        node_id = event.node_id
        self._seeks_s.pop(node_id, None)
        self._asked.pop(node_id, None)
        self._full_s.pop(node_id, None)
        self._know_voters.discard(node_id)
        for of_pairs in (self._known_s, self._open, self._ended_s):
            for pair in [pair for pair in of_pairs if pair[0] == node_id]:
                del of_pairs[pair]

    def _on_sent(self, event: PacketSent) -> None:
        if event.what != EMPTY_FETCH:
            return
        node_id = event.source
        pair = node_id, event.target
        self._open[pair] = self._open.get(pair, 0) + 1
        since_s = self._seeks_s.get(node_id)
        if since_s is None:
            return
        before = self._asked.get(node_id)
        self._asked[node_id] = event.time_s, event.target
        hindrances = self.model.hindrances
        # The first may still be a keep-alive of the pull that ends.
        if before is None or before[0] <= since_s + IN_FLIGHT_S:
            return
        if before[1] != event.target or hindrances.node_clear_s(node_id) >= before[0]:
            return
        for other in self._others(self.model.node(node_id)):
            if other != event.target and self._free_since_s(node_id, other) < before[0]:
                raise self.violated(
                    f"{node_id} knows of no leader since {since_s:.3f} s, and asked {event.target} at "
                    f"{before[0]:.3f} s and once more, though it knows {other}"
                )

    def _on_end(self, told: MessageTold) -> None:
        end = told.message
        assert isinstance(end, CallReturned | CallFailed)
        node_id, actor = self.model.place(told.receiver)
        pair = node_id, end.peer_id
        if actor == Answerer.REPLICATOR and end.request_id < 0 and self._open.get(pair):
            if self._asks_all_it_may(node_id):
                self._full_s[node_id] = told.time_s
            self._open[pair] -= 1
            self._ended_s[pair] = told.time_s

    def _free_since_s(self, node_id: NodeId, other: NodeId) -> float:
        """Since when a node knows another one and awaits no answer from it; inf if it does not, or does await one."""
        pair = node_id, other
        if self._open.get(pair):
            return inf
        return max(self._known_s.get(pair, inf), self._ended_s.get(pair, -inf))

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
        if node is None or since_s is None:
            return
        asked = self._asked.get(node.node_id)
        clear_s = max(since_s, self.model.hindrances.node_clear_s(node.node_id))
        if asked is None:
            known_s = min((self._known_s.get((node.node_id, other), inf) for other in self._others(node)), default=inf)
            latest_s = max(clear_s, known_s)
            if latest_s < self.time_s - ASKS_WITHIN_S:
                raise self.violated(
                    f"{node.node_id} knows of no leader since {since_s:.3f} s and has asked no voter, though it knows "
                    f"one and nothing is in its way since {latest_s:.3f} s"
                )
        elif self._open.get((node.node_id, asked[1])):
            self._check_held_up(node, max(clear_s, asked[0]), asked[1])

    def _check_held_up(self, node: NodeModel, since_s: float, awaited: NodeId) -> None:
        node_id = node.node_id
        if self._asks_all_it_may(node_id):
            return
        since_s = max(since_s, self._full_s.get(node_id, -inf))
        for other in self._others(node):
            if max(since_s, self._free_since_s(node_id, other)) < self.time_s - ASKS_WITHIN_S:
                raise self.violated(
                    f"{node_id} knows of no leader and awaits an answer of {awaited} since {since_s:.3f} s or before, "
                    f"and has not asked {other} meanwhile, which it knows"
                )

    def _asks_all_it_may(self, node_id: NodeId) -> bool:
        return sum(count for pair, count in self._open.items() if pair[0] == node_id) >= MAX_OPEN

    def _others(self, node: NodeModel) -> list[NodeId]:
        """The other voters."""
        voters = [voter.node_id for voter in self.model.voters_of(node)]
        return [voter for voter in voters if voter != node.node_id]
