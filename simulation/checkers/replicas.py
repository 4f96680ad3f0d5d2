"""Who has what is acknowledged: the replicas that an answer names, and those that acks=all waits for."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced, ReplicasAdvanced
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallReceived
from ourolog.actors.messages.server import Produced
from ourolog.actors.replication.in_sync import IN_SYNC_ELECTIONS
from ourolog.simulation.checkers.acknowledged import is_on_disk, is_on_disk_of
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CLOCKS_DIFFER
from ourolog.simulation.checkers.leading import CountsHonestly
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term


class ReplicasTrue(EventChecker):
    """Looks at the disks of the nodes that an answer to a produce names."""

    name: ClassVar[str] = "replicas_true"
    statement: ClassVar[str] = (
        "Every node that an acknowledgement names has the record on its disk at that moment. Nobody is named twice, "
        "and with fsync always whoever acknowledges is named."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {Produced: self._on_produced}

    def _on_produced(self, told: MessageTold) -> None:
        produced = told.message
        assert isinstance(produced, Produced)
        node = self.model.sender_of(told)
        if node is None or node.spoiled or not node.log.opened:
            return
        entry = node.log.entry(produced.index)
        if len(set(produced.replicas)) < len(produced.replicas):
            raise self.violated(f"{node.node_id} names a replica twice: {', '.join(produced.replicas)}")
        if node.syncs_always and node.node_id not in produced.replicas:
            raise self.violated(f"{node.node_id} acknowledges entry {produced.index} and does not name itself")
        if entry is None:
            return  # retention removed it before the acknowledgement
        voters = {voter.node_id: voter for voter in self.model.voters_of(node)}
        for name in produced.replicas:
            voter = voters.get(name)
            other = self.model.nodes.get(name)
            has_it = (
                is_on_disk_of(self.model, voter, entry) if voter else other is not None and is_on_disk(other, entry)
            )
            if not has_it:
                raise self.violated(
                    f"{node.node_id} acknowledges {entry} and names {', '.join(produced.replicas)}, and {name} does "
                    "not have it on disk"
                )


class InSyncWaitedFor(CountsHonestly):
    """Counts again, from their fetches, which voters are in sync and what they have."""

    name: ClassVar[str] = "in_sync_waited_for"
    statement: ClassVar[str] = (
        "With min_in_sync N a leader says that all have something only if N voters have it by their last fetches, and "
        "every voter that has fetched lately; and it says so once voters that are silent are all that lack it."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._forget}
        del self.on_told[CommitAdvanced]
        self.on_told |= {ReplicasAdvanced: self._on_news, CallReceived: self._on_fetch, ProbeDue: self._look}
        self._said: dict[NodeId, ReplicasAdvanced] = {}
        self._calls: dict[tuple[NodeId, VoterKey, Term], float] = {}
        self._late_since_s: dict[NodeId, tuple[int, float]] = {}

    def _forget(self, event: NodeStarted) -> None:
        self._on_started(event)
        self._said.pop(event.node_id, None)
        self._late_since_s.pop(event.node_id, None)
        for key in [key for key in self._calls if key[0] == event.node_id]:
            del self._calls[key]

    def _on_fetch(self, told: MessageTold) -> None:
        self._on_call(told)
        for key, fetches in self._fetched.items():
            if fetches and fetches[-1][0] == told.time_s and key[0] == self.model.place(told.receiver)[0]:
                self._calls[key] = told.time_s

    def _silent_after_s(self, leader: NodeModel) -> float:
        assert leader.config is not None, "it has started"
        return IN_SYNC_ELECTIONS * leader.config.election_timeout_s

    def _on_news(self, told: MessageTold) -> None:
        news, leader = told.message, self.model.receiver_of(told)
        assert isinstance(news, ReplicasAdvanced)
        if leader is None or leader.config is None or leader.config.min_in_sync is None:
            return
        before = self._said.get(leader.node_id)
        self._said[leader.node_id] = news
        if before is not None and before.term == news.term and news.index <= before.index:
            return
        voters = self._voters_of(leader)
        if {voter.node_id for voter in voters} != {node_id for node_id, _ in news.ends}:
            return  # others vote now, and the leader has not counted by them yet
        if not voters or not news.index or self.model.hindrances.is_held_up(leader.node_id, self.time_s):
            return
        have = {voter: self._reached(leader, voter, news.term) for voter in voters}
        wanted = leader.config.min_in_sync
        if sum(end >= news.index for end in have.values()) < wanted:
            raise self.violated(
                f"{leader.node_id} says that all have what is below index {news.index}, {wanted} voters must, and by "
                f"their last fetches they have {_listed(have)}"
            )
        recent_s = self.time_s - self._silent_after_s(leader) / CLOCKS_DIFFER
        for voter, end in have.items():
            if end < leader.log.start.index:
                continue  # what it asks for is gone: such a fetch is refused, and counts for nothing
            last_s = self._calls.get((leader.node_id, voter, news.term), -inf)
            if voter.node_id != leader.node_id and end < news.index and recent_s < last_s < self.time_s:
                raise self.violated(
                    f"{leader.node_id} says that all have what is below index {news.index}, and {voter.node_id}, which "
                    f"has fetched {self.time_s - last_s:.3f} s ago, has {end:g}"
                )

    def _look(self, _: MessageTold) -> None:
        """Whoever waits for a voter that is silent waits too long."""
        for node_id, said in self._said.items():
            leader = self.model.nodes[node_id]
            if (
                leader.config is None
                or not leader.is_up
                or self._led.get(node_id, [(0.0, Term(0))])[-1][1] != said.term
            ):
                continue
            led_s = self._led[node_id][-1][0]
            voters, wanted = self._voters_of(leader), leader.config.min_in_sync or 0
            silent_s = self._silent_after_s(leader) * CLOCKS_DIFFER + 2 * leader.config.election_timeout_s
            clear_s = max(led_s, self.model.hindrances.node_clear_s(node_id))
            have = dict(said.ends)
            if {voter.node_id for voter in voters} != set(have):
                continue
            counted = [
                have.get(voter.node_id, 0)
                for voter in voters
                if voter.node_id == node_id
                or max(self._calls.get((node_id, voter, said.term), -inf), clear_s) > self.time_s - silent_s
            ]
            ends = sorted((have.get(voter.node_id, 0) for voter in voters), reverse=True)
            due = min(*counted, ends[wanted - 1]) if counted and 0 < wanted <= len(ends) else 0
            since = self._late_since_s.get(node_id)
            if due <= said.index:
                self._late_since_s.pop(node_id, None)
            elif since is None or since[0] <= said.index:
                self._late_since_s[node_id] = int(due), self.time_s
            elif self.time_s > max(since[1], clear_s) + leader.config.election_timeout_s * 2 + 1.0:
                raise self.violated(
                    f"{node_id} says that all have what is below index {said.index}, and everybody that is not silent "
                    f"has had what is below {since[0]} since {since[1]:.3f} s"
                )


def _listed(have: dict[VoterKey, float]) -> str:
    return ", ".join(f"{voter.node_id} {max(end, 0):g}" for voter, end in have.items())
