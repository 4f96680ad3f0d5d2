"""Pulls go on: one fetch at a time, again after every fault, and what the leader commits spreads at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from ourolog.actors.message_names import message_name
from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    VotersChanged,
)
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    EMPTY_FETCH,
    Answerer,
    CallFailed,
    CallReturned,
    FetchOutcome,
    FetchResponse,
    ReadIndexRequest,
    RepairRequest,
)
from ourolog.actors.messages.store import PulledAppended, TruncateLog
from ourolog.actors.replication.latest_reads import FIRST_READ_INDEX_ID
from ourolog.actors.replication.repairs import FIRST_REPAIR_ID
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped, PacketSent
from ourolog.storage.types import Index, NodeId, Position, Term

FOLLOWS_WITHIN_S: Final = 15.0
"""A fetch whose answer never comes is given up after its long poll and 5 s; then there is a pause of up to 2 s.
Both can happen twice: with the old connection, and in the middle of learning who leads."""

SPREADS_WITHIN_S: Final = 0.25
"""Half a long poll: a follower that learns of it only when the poll expires is too late."""

Pair = tuple[NodeId, NodeId]


_READ_INDEX: Final = CALL_KINDS[ReadIndexRequest].name
_REPAIR: Final = CALL_KINDS[RepairRequest].name

_ASKED_BY: Final = {kind.name: str(kind.answered_by) for kind in CALL_KINDS.values()} | {
    _READ_INDEX: _READ_INDEX,
    _REPAIR: _REPAIR,
    EMPTY_FETCH: EMPTY_FETCH,
}
"""The actor of the calling node by the name of the call: the one that answers such calls also makes them. The
replicator's questions for a read index, its repairs, and its fetches that want no batches, are told from its other
fetches."""


class OneFetchAtATime(EventChecker):
    """Counts the calls that leave each actor of a node, and what becomes of them."""

    name: ClassVar[str] = "one_fetch_at_a_time"
    statement: ClassVar[str] = (
        "A node has at most one fetch under way to each peer, and one that wants no batches, and no call to a peer "
        "comes to more than one end: an answer or a failure."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {PacketSent: self._on_sent, NodeStarted: self._on_started}
        self.on_told = {CallReturned: self._on_end, CallFailed: self._on_end}
        self._open: dict[tuple[NodeId, str, NodeId], int] = {}

    def _on_started(self, event: NodeStarted) -> None:
        for key in self._open:
            if key[0] == event.node_id:
                self._open[key] = 0

    def _on_sent(self, event: PacketSent) -> None:
        actor = _ASKED_BY.get(event.what)
        if actor is not None:
            key = event.source, actor, event.target
            self._open[key] = self._open.get(key, 0) + 1
            if actor in (Answerer.REPLICATOR, EMPTY_FETCH) and self._open[key] > 1:
                what = "fetches" if actor == Answerer.REPLICATOR else "fetches for no batches"
                raise self.violated(f"{event.source} has {self._open[key]} {what} to {event.target} under way")

    def _on_end(self, told: MessageTold) -> None:
        ended = told.message
        assert isinstance(ended, CallReturned | CallFailed)
        node_id, actor = self.model.place(told.receiver)
        if ended.request_id >= FIRST_REPAIR_ID:
            actor = _REPAIR
        elif ended.request_id >= FIRST_READ_INDEX_ID:
            actor = _READ_INDEX
        elif actor == Answerer.REPLICATOR and ended.request_id < 0:
            actor = EMPTY_FETCH
        key = node_id, actor, ended.peer_id
        self._open[key] = self._open.get(key, 0) - 1
        if self._open[key] < 0:
            what = message_name(ended)
            raise self.violated(f"{told.receiver} was told {what} of {ended.peer_id}, and no call was open")


@dataclass(slots=True)
class _Pull:
    """What is known of one arrow of the pull graph. Times are when it was last so, -inf for never.

    answered_s: a fetch brought batches, or the news that there are none.
    came_s: the same of a fetch that wanted batches; others may be answered while its packet is lost.
    broken_s: a fetch failed or was turned down.
    position: how far the pull has got in the source's log.
    mark: where the source's log ended at `marked_s`.
    """

    answered_s: float = -inf
    came_s: float = -inf
    broken_s: float = -inf
    position: Index = Index(0)
    mark: Index = Index(0)
    marked_s: float = -inf


class _Pulling(EventChecker):
    """Keeps what both claims need: which node should pull from which, and since when nothing has been in the way."""

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_started,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
        }
        self.on_told = {
            MemberJoined: self._on_member,
            MemberUpdated: self._on_member,
            MemberFailed: self._on_member_gone,
            MemberLeft: self._on_member_gone,
            VotersChanged: self._on_voters,
            NobodyElected: self._on_nobody,
            LeaderChanged: self._on_leader,
            CallReturned: self._on_returned,
            CallFailed: self._on_failed,
            PulledAppended: self._on_pulled,
        }
        self.pulls: dict[Pair, _Pull] = {}
        self._known_s: dict[Pair, float] = {}
        self._voters_s: dict[Pair, float] = {}
        self.leaders: dict[NodeId, tuple[Term, NodeId | None]] = {}
        self.led_s: dict[NodeId, float] = {}
        self._peers: dict[NodeId, float] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._forget(event.node_id)

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        self._forget(event.node_id)

    def _forget(self, node_id: NodeId) -> None:
        for of_pairs in (self.pulls, self._known_s, self._voters_s):
            for pair in [pair for pair in of_pairs if pair[0] == node_id]:
                del of_pairs[pair]
        self.leaders.pop(node_id, None)
        self._peers.pop(node_id, None)

    def _on_member(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._known_s[node_id, told.message.member.node_id] = told.time_s  # type: ignore[attr-defined]

    def _on_member_gone(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._known_s.pop((node_id, told.message.member.node_id), None)  # type: ignore[attr-defined]

    def _on_voters(self, told: MessageTold) -> None:
        """Note whose address is on a node's disk, so that it needs no gossip to find them."""
        changed = told.message
        assert isinstance(changed, VotersChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            for voter in changed.peer_addr_by_voter:
                self._voters_s.setdefault((node_id, voter), told.time_s)

    def _on_nobody(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._peers[node_id] = told.time_s

    def _on_leader(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        if actor == "replicator":
            before = self.leaders.get(node_id)
            if before is None or before[1] != changed.leader_id:
                self.led_s[node_id] = told.time_s
            self.leaders[node_id] = changed.term, changed.leader_id

    def _pull(self, told: MessageTold, source_id: NodeId) -> _Pull:
        pair = self.model.place(told.receiver)[0], source_id
        pull = self.pulls.get(pair)
        if pull is None:
            pull = self.pulls[pair] = _Pull()
        return pull

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        response = returned.response
        if not isinstance(response, FetchResponse):
            return
        pull = self._pull(told, returned.peer_id)
        if response.outcome is FetchOutcome.BATCHES:
            pull.answered_s = told.time_s
            if returned.request_id >= 0:
                pull.came_s = told.time_s
        else:
            pull.broken_s = told.time_s

    def _on_failed(self, told: MessageTold) -> None:
        failed = told.message
        assert isinstance(failed, CallFailed)
        if self.model.place(told.receiver)[1] == "replicator" and failed.request_id < FIRST_READ_INDEX_ID:
            self._pull(told, failed.peer_id).broken_s = told.time_s

    def _on_pulled(self, told: MessageTold) -> None:
        pulled = told.message
        assert isinstance(pulled, PulledAppended)
        self._pull(told, pulled.source_id).position = pulled.next_index

    def clear_s(self, node: NodeModel, source: NodeModel) -> float:
        """Since when this node should be pulling from that one with nothing in the way; inf if it should not now."""
        pair = node.node_id, source.node_id
        known_s = self._known_s.get(pair, self._voters_s.get(pair))
        if known_s is None or node.opened is None or source.opened is None:
            return inf
        if node.spoiled or source.spoiled or node.is_rotten or source.is_rotten:
            return inf  # it may have a reason not to follow
        if node.is_elected:
            mine, theirs = self.leaders.get(pair[0]), self.leaders.get(pair[1])
            if mine is None or theirs is None or mine[1] != pair[1] or theirs[1] != pair[1]:
                return inf
            agreed_s = max(self.led_s[pair[0]], self.led_s[pair[1]])
        else:
            agreed_s = max(self._peers.get(pair[0], inf), self._peers.get(pair[1], inf))
        return max(known_s, agreed_s, self.model.hindrances.pair_clear_s(*pair))


class FollowersFollow(_Pulling):
    """Checks each arrow that should be in the pull graph, and what went over it lately."""

    name: ClassVar[str] = "followers_follow"
    statement: ClassVar[str] = (
        f"Where for {FOLLOWS_WITHIN_S:g} s nothing was in the way, a pull has been answered in that time, and has "
        "brought all that was in the source's log at its beginning."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told |= {ProbeDue: self._look}

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None:
            return
        now_s = self.time_s
        for source in self.model.nodes.values():
            pair = node.node_id, source.node_id
            if source is node:
                continue
            clear_s = self.clear_s(node, source)
            if clear_s > now_s:
                continue
            pull = self.pulls.setdefault(pair, _Pull())
            if max(pull.answered_s, clear_s) < now_s - FOLLOWS_WITHIN_S:
                raise self.violated(
                    f"{node.node_id} should pull from {source.node_id}, nothing is in the way since {clear_s:.3f} s, "
                    f"and no fetch was answered since {pull.answered_s:.3f} s"
                )
            if now_s >= pull.marked_s + FOLLOWS_WITHIN_S:
                if pull.marked_s >= clear_s:
                    self._check_reached(node, source, pull)
                pull.marked_s, pull.mark = now_s, source.log.durable_index

    def _check_reached(self, node: NodeModel, source: NodeModel, pull: _Pull) -> None:
        reached = node.log.end.index if node.is_elected else pull.position
        known = reached >= pull.mark or not (node.log.opened and source.log.opened)
        if not known and (node.is_elected or pull.position):
            raise self.violated(
                f"{node.node_id} has got to index {reached} of {source.node_id}'s log, which ended at {pull.mark} "
                f"{self.time_s - pull.marked_s:.3f} s ago"
            )


class CommitSpreads(_Pulling):
    """For each position that a leader commits, expects it at each follower that has it on disk and pulls steadily."""

    name: ClassVar[str] = "commit_spreads"
    statement: ClassVar[str] = (
        f"What a leader has committed, every follower holds for committed {SPREADS_WITHIN_S:g} s later, if it had it "
        "and its pull was steady all the while."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told |= {CommitAdvanced: self._on_committed, TruncateLog: self._on_truncate, ProbeDue: self._look}
        self._expected: dict[Pair, deque[tuple[float, Position]]] = {}

    def _on_truncate(self, told: MessageTold) -> None:
        node_id = self.model.place(told.receiver)[0]
        for pair, expected in self._expected.items():
            if pair[0] == node_id:
                expected.clear()

    def _on_committed(self, told: MessageTold) -> None:
        advanced, node = told.message, self.model.receiver_of(told)
        assert isinstance(advanced, CommitAdvanced)
        if node is None or not node.is_elected:
            return
        node_id = node.node_id
        for pair, expected in self._expected.items():
            if pair[0] == node_id:
                while expected and expected[0][1] <= advanced.committed:
                    self._check(pair, *expected.popleft())
        if self.leaders.get(node_id, (0, None))[1] == node_id:
            for other in self.model.nodes.values():
                if (
                    other is not node
                    and other.log.durable_index >= advanced.committed.index > other.committed.index
                    and self._is_steady(other, node, told.time_s)
                ):
                    expected = self._expected.setdefault((other.node_id, node_id), deque())
                    expected.append((told.time_s, advanced.committed))

    def _is_steady(self, node: NodeModel, source: NodeModel, since_s: float) -> bool:
        """Whether its fetches were answered, before `since_s` and ever since."""
        pull = self.pulls.get((node.node_id, source.node_id))
        mine, theirs = self.leaders.get(node.node_id), self.leaders.get(source.node_id)
        return (
            pull is not None
            and mine == theirs
            and self.clear_s(node, source) < since_s
            and pull.broken_s < since_s
            and pull.came_s > max(pull.broken_s, self.clear_s(node, source))
        )

    def _check(self, pair: Pair, since_s: float, position: Position) -> None:
        nodes = self.model.nodes
        if self.time_s > since_s + SPREADS_WITHIN_S and self._is_steady(nodes[pair[0]], nodes[pair[1]], since_s):
            raise self.violated(
                f"{pair[1]} committed {position} at {since_s:.3f} s, which {pair[0]} had on disk; it pulled all the "
                f"while, and did not hold it for committed within {SPREADS_WITHIN_S:g} s"
            )

    def _look(self, told: MessageTold) -> None:
        node_id = self.model.place(told.receiver)[0]
        for pair, expected in self._expected.items():
            if pair[0] == node_id:
                while expected and expected[0][0] + SPREADS_WITHIN_S < self.time_s:
                    self._check(pair, *expected.popleft())
