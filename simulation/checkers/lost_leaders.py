"""What a follower tells its election of a leader whose process has ended: the truth, and once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.messages.election import LeaderUnreachable
from ourolog.actors.messages.events import LeaderChanged, MemberJoined, MemberUpdated
from ourolog.actors.messages.peer_calls import Answerer, CallFailed, CallReturned, FetchResponse
from ourolog.actors.replication.latest_reads import FIRST_READ_INDEX_ID
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import NodeId

TOLD_AFTER: Final = 4
"""So many refusals are enough: the last fetch and the last keep-alive of an earlier pull may be among them."""


@dataclass(slots=True)
class _Peer:
    """What one node has seen of another since it started.

    refusals: how many fetches it was refused since nobody listens there.
    beginnings: how often a loss may have begun: with each answer, and with each pull.
    told: how often its election was told that nobody listens there.
    untold: how many refusals came since the last beginning, none of them told; None if one was.
    """

    refusals: int = 0
    beginnings: int = 0
    told: int = 0
    untold: int | None = 0


class LostLeadersTold(EventChecker):
    """Compares what elections are told with how fetches ended."""

    name: ClassVar[str] = "lost_leaders_told"
    statement: ClassVar[str] = (
        "A follower's election is told that nobody listens where its leader was when a fetch has failed for that "
        f"reason, once for each time that the leader is lost, and at the latest when {TOLD_AFTER} have."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LeaderChanged: self._on_leader,
            MemberJoined: self._on_member,
            MemberUpdated: self._on_member,
            CallReturned: self._on_returned,
            CallFailed: self._on_failed,
            LeaderUnreachable: self._on_unreachable,
        }
        self._peers: dict[tuple[NodeId, NodeId], _Peer] = {}
        self._leaders: dict[NodeId, NodeId | None] = {}

    def _peer(self, node_id: NodeId, peer_id: NodeId) -> _Peer:
        return self._peers.setdefault((node_id, peer_id), _Peer())

    def _on_started(self, event: NodeStarted) -> None:
        self._leaders.pop(event.node_id, None)
        for pair in [pair for pair in self._peers if pair[0] == event.node_id]:
            del self._peers[pair]

    def _begin(self, told: MessageTold, peer_id: NodeId) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == Answerer.REPLICATOR:
            peer = self._peer(node_id, peer_id)
            peer.beginnings += 1
            peer.untold = 0

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == Answerer.REPLICATOR:
            self._leaders[node_id] = changed.leader_id
            if changed.leader_id is not None:
                self._begin(told, changed.leader_id)

    def _on_member(self, told: MessageTold) -> None:
        """Note that a node may be there again: it may be found lost once more, and need not be if it never answered."""
        assert isinstance(told.message, MemberJoined | MemberUpdated)
        node_id, actor = self.model.place(told.receiver)
        if actor == Answerer.REPLICATOR:
            self._peer(node_id, told.message.member.node_id).beginnings += 1

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        if isinstance(returned.response, FetchResponse):
            self._begin(told, returned.peer_id)

    def _on_failed(self, told: MessageTold) -> None:
        failed = told.message
        assert isinstance(failed, CallFailed)
        node_id, actor = self.model.place(told.receiver)
        if actor != Answerer.REPLICATOR or not failed.is_refused or failed.request_id >= FIRST_READ_INDEX_ID:
            return
        peer = self._peer(node_id, failed.peer_id)
        peer.refusals += 1
        if self._leaders.get(node_id) == failed.peer_id and peer.untold is not None:
            peer.untold += 1
            if peer.untold > TOLD_AFTER:
                raise self.violated(
                    f"{node_id} follows {failed.peer_id}, has found {peer.untold} times that nobody listens there, and "
                    "has not told its election"
                )

    def _on_unreachable(self, told: MessageTold) -> None:
        lost = told.message
        assert isinstance(lost, LeaderUnreachable)
        node_id = self.model.place(told.receiver)[0]
        peer = self._peer(node_id, lost.leader_id)
        peer.told += 1
        peer.untold = None
        if peer.told > peer.refusals:
            raise self.violated(
                f"the election of {node_id} was told that nobody listens at {lost.leader_id}, and no fetch was refused"
            )
        if peer.told > peer.beginnings:
            raise self.violated(
                f"the election of {node_id} was told {peer.told} times that nobody listens at {lost.leader_id}, which "
                f"cannot have been lost more often than {peer.beginnings} times"
            )
