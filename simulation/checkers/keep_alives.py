"""A follower calls its leader again and again: neither a slow disk nor a lost connection makes it fall silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged, MemberFailed, MemberJoined, MemberLeft, MemberUpdated
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    EMPTY_FETCH,
    Answerer,
    CallFailed,
    CallReturned,
    FetchRequest,
)
from ourolog.actors.replication.latest_reads import FIRST_READ_INDEX_ID
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CLOCKS_DIFFER
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import (
    FaultInjected,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeStarted,
    NodeStopped,
    PacketSent,
)
from ourolog.storage.types import NodeId

LATE_S: Final = 0.1
"""How much later than half an election timeout a call may come."""

_SLOW_NODE_S: Final = 9.1
"""For how long a node may be slow after it is said to be."""

_FETCHES: Final = (CALL_KINDS[FetchRequest].name, EMPTY_FETCH)


@dataclass(slots=True)
class _Follower:
    """What is known of a node. Times are virtual seconds.

    clear_s: since when it runs and is neither paused nor slow in everything; inf while it is.
    leader_id: whom it follows, None if nobody.
    led_s: since when.
    known_s: since when it knows where another node is.
    called_s: when a fetch to that node began or ended last.
    open: how many fetches to each node are under way.
    """

    clear_s: float = inf
    leader_id: NodeId | None = None
    led_s: float = inf
    known_s: dict[NodeId, float] = field(default_factory=dict)
    called_s: dict[NodeId, float] = field(default_factory=dict)
    open: dict[NodeId, int] = field(default_factory=dict)


class FollowersCall(EventChecker):
    """Looks at each follower, and at when it has called its leader last."""

    name: ClassVar[str] = "followers_call"
    statement: ClassVar[str] = (
        "A follower that knows where its leader is, and is not held up itself, has a fetch to it under way, or had one "
        f"half an election timeout and {LATE_S:g} s ago or later, however long its disk takes."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_started,
            NodeResumed: self._on_resumed,
            NodePaused: self._on_held,
            NodeStopped: self._on_held,
            NodeCrashed: self._on_held,
            FaultInjected: self._on_fault,
            PacketSent: self._on_sent,
        }
        self.on_told = {
            LeaderChanged: self._on_leader,
            MemberJoined: self._on_member,
            MemberUpdated: self._on_member,
            MemberFailed: self._on_member_gone,
            MemberLeft: self._on_member_gone,
            CallReturned: self._on_end,
            CallFailed: self._on_end,
            ProbeDue: self._look,
        }
        self._followers: dict[NodeId, _Follower] = {}

    def _follower(self, node_id: NodeId) -> _Follower:
        return self._followers.setdefault(node_id, _Follower())

    def _replicator_of(self, told: MessageTold) -> _Follower | None:
        node_id, actor = self.model.place(told.receiver)
        return self._follower(node_id) if actor == Answerer.REPLICATOR else None

    def _on_started(self, event: NodeStarted) -> None:
        self._followers[event.node_id] = _Follower(event.time_s)

    def _on_resumed(self, event: NodeResumed) -> None:
        self._follower(event.node_id).clear_s = event.time_s

    def _on_held(self, event: NodePaused | NodeStopped | NodeCrashed) -> None:
        self._follower(event.node_id).clear_s = inf

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind == "slow_node":
            follower = self._follower(NodeId(event.where))
            follower.clear_s = max(follower.clear_s, event.time_s + _SLOW_NODE_S)

    def _on_leader(self, told: MessageTold) -> None:
        changed, follower = told.message, self._replicator_of(told)
        assert isinstance(changed, LeaderChanged)
        if follower is not None:
            node_id = self.model.place(told.receiver)[0]
            follower.leader_id = changed.leader_id if changed.leader_id != node_id else None
            follower.led_s = told.time_s

    def _on_member(self, told: MessageTold) -> None:
        follower = self._replicator_of(told)
        assert isinstance(told.message, MemberJoined | MemberUpdated)
        if follower is not None:
            follower.known_s[told.message.member.node_id] = told.time_s

    def _on_member_gone(self, told: MessageTold) -> None:
        follower = self._replicator_of(told)
        assert isinstance(told.message, MemberFailed | MemberLeft)
        if follower is not None:
            follower.known_s.pop(told.message.member.node_id, None)

    def _on_sent(self, event: PacketSent) -> None:
        if event.what in _FETCHES:
            follower = self._follower(event.source)
            follower.open[event.target] = follower.open.get(event.target, 0) + 1
            follower.called_s[event.target] = event.time_s

    def _on_end(self, told: MessageTold) -> None:
        end, follower = told.message, self._replicator_of(told)
        assert isinstance(end, CallReturned | CallFailed)
        if follower is not None and end.request_id < FIRST_READ_INDEX_ID:
            follower.open[end.peer_id] = follower.open.get(end.peer_id, 0) - 1
            follower.called_s[end.peer_id] = told.time_s

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.config is None:
            return
        follower = self._follower(node.node_id)
        leader_id = follower.leader_id
        if leader_id is None or follower.open.get(leader_id):
            return
        since_s = max(
            follower.clear_s,
            follower.led_s,
            follower.known_s.get(leader_id, inf),
            follower.called_s.get(leader_id, -inf),
        )
        if self.time_s > since_s + CLOCKS_DIFFER * node.config.election_timeout_s / 2 + LATE_S:
            raise self.violated(
                f"{node.node_id} follows {leader_id}, and has not called it since {since_s:.3f} s, though nothing "
                "holds it up"
            )
