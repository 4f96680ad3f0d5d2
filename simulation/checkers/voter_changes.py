"""Changes of voters: one key at a time, by a leader that may make them, of nodes that keep up; and who leaves then."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.election import AddVoter, RemoveVoter
from ourolog.actors.messages.events import LeaderChanged, LogAppended
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.store import SaveBallot
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.waiting import SOON_S
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId, Term

LEAVES_WITHIN: Final = 6.0
"""How many election timeouts a leader without a vote may take to hand over, or to resign if nobody takes over."""
KEEPS_UP_WITHIN: Final = 3.0
"""What was in the leader's log so many election timeouts ago, who is added has: two rounds, and an answer late."""
REPLACED_WITHIN_S: Final = 8.0
"""How long it may take, beside `replace_after_s`, until gossip has missed a voter and its place is taken."""

ASKED_WITHIN_S: Final = 15.0
"""How long what a person has asked for may take."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set of voters in a log, read without the code under test.

    index, term: of the entry.
    keys: the voters.
    removed: the disks that a person has removed.
    """

    index: Index
    term: Term
    keys: frozenset[VoterKey]
    removed: frozenset[VoterKey] = frozenset()


def set_in(entry: Entry) -> NamedSet | None:
    """The voters that an entry names, None if it names none."""
    if not entry.control:
        return None
    value = json.loads(entry.control)
    if value["type"] != "voters-set":
        return None
    keys = frozenset(VoterKey(NodeId(voter[0]), voter[1]) for voter in value["voters"])
    removed = frozenset(VoterKey(NodeId(key[0]), key[1]) for key in value.get("removed", ()))
    return NamedSet(entry.index, entry.term, keys, removed)


def is_own(node: NodeModel, entry: Entry) -> bool:
    """Whether the node wrote the entry itself, with the disk that it has now and in its present term."""
    return (entry.path, entry.origin_epoch, entry.term) == ((node.node_id,), node.epoch, node.ballot.term)


class OneChangeAtATime(EventChecker):
    """Reads every entry that names voters, in every log, and compares it with the one before it."""

    name: ClassVar[str] = "one_change_at_a_time"
    statement: ClassVar[str] = (
        "Two sets of voters that follow each other in a log differ by one voter, and a leader appends one only when it "
        "knows that an entry of its own term and the set before are committed (Raft section 6; Ongaro 2015)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        if self.model.is_reopened or not node.is_vote_of_disk or node.spoiled or node.is_blind:
            return
        for entry in self.model.fresh:
            named = set_in(entry)
            if named is not None:
                self._check(node, entry, named)

    def _check(self, node: NodeModel, entry: Entry, named: NamedSet) -> None:
        before = self._before(node, entry)
        if before is None:
            return  # the first leader writes down with whom the cluster was founded
        changed = named.keys ^ before.keys
        if len(changed) != 1:
            raise self.violated(
                f"{entry} in the log of {node.node_id} names {_listed(named.keys)} as voters, and entry {before.index} "
                f"before it {_listed(before.keys)}"
            )
        if not is_own(node, entry):
            return
        last = node.log.entry(node.committed.index - 1)
        if last is None or last.term != entry.term:
            raise self.violated(
                f"{node.node_id} changes the voters by {entry}, and knows of no entry of its term that is committed: "
                f"only of what is below index {node.committed.index}"
            )
        if before.index >= node.committed.index:
            raise self.violated(
                f"{node.node_id} changes the voters by {entry}, and entry {before.index}, which named those before, is "
                f"not committed: only what is below index {node.committed.index}"
            )

    def _before(self, node: NodeModel, entry: Entry) -> NamedSet | None:
        log = node.log
        at = entry.index - log.start.index - 1
        named = (set_in(log.entries[earlier]) for earlier in range(min(at, len(log.entries) - 1), -1, -1))
        known = next((one for one in named if one is not None), None)
        if known is None and node.voter_set is not None and node.voter_set.index < entry.index:
            said = node.voter_set
            known = NamedSet(said.index, said.term, frozenset(said.keys), frozenset(said.removed))
        return known


class AddedOnceCaughtUp(EventChecker):
    """Compares the disk of a node that is added as a voter with the leader's log of a little while ago."""

    name: ClassVar[str] = "added_once_caught_up"
    statement: ClassVar[str] = (
        f"A node that a leader adds as a voter has on its disk what the leader had {KEEPS_UP_WITHIN:g} election "
        "timeouts before (D section 4.2.1), and so does not hold up what is to be committed."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed
        self.on_told = {LogAppended: self._on_appended}
        self._ends: dict[NodeId, deque[tuple[float, Index]]] = {}

    def _on_appended(self, told: MessageTold) -> None:
        appended, node = told.message, self.model.receiver_of(told)
        assert isinstance(appended, LogAppended)
        if node is not None:
            ends = self._ends.setdefault(node.node_id, deque(maxlen=4096))
            ends.append((told.time_s, appended.ends[-1].index))

    def _on_log_changed(self, node: NodeModel) -> None:
        if self.model.is_reopened or not node.is_vote_of_disk or node.spoiled or node.is_blind:
            return
        before = self.model.voters_of(node)
        for entry in self.model.fresh:
            named = set_in(entry)
            if named is None or not is_own(node, entry) or node.voter_set is None:
                continue
            for key in sorted(named.keys - set(before)):
                self._check(node, key)

    def _check(self, node: NodeModel, key: VoterKey) -> None:
        added = self.model.nodes.get(key.node_id)
        if added is None or added.key != key or added.spoiled or added.is_blind or added.is_rotten:
            return
        hindrances = self.model.hindrances
        if any(hindrances.is_held_up(one, self.time_s) for one in (node.node_id, key.node_id)):
            return
        since_s = self.time_s - KEEPS_UP_WITHIN * election_timeout_s(node) - SOON_S
        then = max((end for at_s, end in self._ends.get(node.node_id, ()) if at_s <= since_s), default=Index(0))
        if added.log.durable_index < then:
            raise self.violated(
                f"{node.node_id} adds {key.node_id} as a voter, whose log ends at index {added.log.durable_index} on "
                f"disk, and had itself all below index {then} at {since_s:.3f} s"
            )


class VotersStand(EventChecker):
    """Looks at each ballot by which a node votes for itself."""

    name: ClassVar[str] = "voters_stand"
    statement: ClassVar[str] = (
        "Nobody stands for election but a voter, or a node that the last set of voters in its log has left out and the "
        "one before had in (D section 4.2.2): a node that stands by does not."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {SaveBallot: self._on_save}

    def _on_save(self, told: MessageTold) -> None:
        asked, node = told.message, self.model.receiver_of(told)
        assert isinstance(asked, SaveBallot)
        if node is None or node.opened is None or not node.is_vote_of_disk or asked.ballot.vote != node.key:
            return
        if asked.ballot.term > node.ballot.term and not self.model.may_stand(node):
            raise self.violated(
                f"{node.node_id} stands in term {asked.ballot.term} with a disk that has no vote: the voters are "
                f"{_listed(self.model.voters_of(node))}"
            )


class RemovedLeadersLeave(EventChecker):
    """Watches leaders whose log names other voters."""

    name: ClassVar[str] = "removed_leaders_leave"
    statement: ClassVar[str] = (
        f"A leader that votes no more, and knows that this is committed, leads for {LEAVES_WITHIN:g} election timeouts "
        "at the most, with nothing holding it up: it hands over, or resigns."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {LeaderChanged: self._on_leader_changed, ProbeDue: self._look}
        self._leads: dict[NodeId, float | None] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leads.pop(event.node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._leads.pop(node_id, None)
            if changed.leader_id == node_id:
                self._leads[node_id] = None

    def _look(self, _: MessageTold) -> None:
        for node_id, since_s in list(self._leads.items()):
            node = self.model.nodes[node_id]
            named = node.voter_set
            if not node.is_vote_of_disk or named is None or node.key in named.keys:
                self._leads[node_id] = None
            elif named.index < node.committed.index and since_s is None:
                self._leads[node_id] = self.time_s
            elif since_s is not None:
                from_s = max(since_s, self.model.hindrances.node_clear_s(node_id))
                if self.time_s > from_s + LEAVES_WITHIN * election_timeout_s(node) + SOON_S:
                    raise self.violated(
                        f"{node_id} still leads, and votes no more since entry {named.index}, which it knows to be "
                        f"committed since {since_s:.3f} s"
                    )


class RemovedStayRemoved(EventChecker):
    """Follows what people ask for, and who is added."""

    name: ClassVar[str] = "removed_stay_removed"
    statement: ClassVar[str] = (
        "A voter that a person has removed votes again only when a person adds it, and no leader removes a voter by "
        "itself that has fetched from it within half of `--replace-after`."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed
        self.on_told = {AddVoter: self._on_asked, RemoveVoter: self._on_asked, CallReceived: self._on_call}
        self._asked_s: dict[tuple[NodeId, bool], float] = {}
        self._fetched_s: dict[tuple[NodeId, VoterKey], float] = {}

    def _on_asked(self, told: MessageTold) -> None:
        asked = told.message
        assert isinstance(asked, AddVoter | RemoveVoter)
        self._asked_s[asked.node_id, isinstance(asked, AddVoter)] = told.time_s

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if isinstance(request, FetchRequest) and request.elected:
            leader = self.model.receiver_of(told)
            if leader is not None and request.term == leader.ballot.term:
                key = VoterKey(request.node_id, request.log_epoch)
                self._fetched_s[leader.node_id, key] = told.time_s

    def _on_log_changed(self, node: NodeModel) -> None:
        if self.model.is_reopened or not node.is_vote_of_disk or node.spoiled or node.is_blind:
            return
        before, named_before = self.model.voters_of(node), node.voter_set
        for entry in self.model.fresh:
            named = set_in(entry)
            if named is None or not is_own(node, entry) or named_before is None:
                continue
            for key in sorted(named.keys - set(before)):
                self._check_added(node, key, frozenset(named_before.removed))
            for key in sorted(set(before) - named.keys):
                self._check_removed(node, key)

    def _was_asked(self, node_id: NodeId, *, is_addition: bool) -> bool:
        return self.time_s < self._asked_s.get((node_id, is_addition), -inf) + ASKED_WITHIN_S

    def _check_added(self, node: NodeModel, key: VoterKey, removed: frozenset[VoterKey]) -> None:
        if key in removed and not self._was_asked(key.node_id, is_addition=True):
            raise self.violated(f"{node.node_id} adds {key.node_id} as a voter, which a person had removed")

    def _check_removed(self, node: NodeModel, key: VoterKey) -> None:
        if self._was_asked(key.node_id, is_addition=False):
            return
        assert node.config is not None, "it has started"
        within_s = node.config.replace_after_s / 2
        fetched_s = self._fetched_s.get((node.node_id, key), -inf)
        if key == node.key or self.time_s < fetched_s + within_s:
            raise self.violated(
                f"{node.node_id} removes {key.node_id} by itself, which fetched from it at {fetched_s:.3f} s"
            )


class ReplacedInTime(EventChecker):
    """Watches, on each leader, the voters that are gone for good and the nodes that could take their place."""

    name: ClassVar[str] = "replaced_in_time"
    statement: ClassVar[str] = (
        f"A voter whose disk is gone votes no more {REPLACED_WITHIN_S:g} s and `--replace-after` later, if nothing is "
        "in the way of the leader, of the other voters and of a node that stands by; and while fewer vote than "
        "`--replicas` says, that node votes as soon."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {LeaderChanged: self._on_leader_changed, ProbeDue: self._look}
        self._leads_s: dict[NodeId, float] = {}
        self._since: dict[NodeId, tuple[frozenset[VoterKey], float]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leads_s.pop(event.node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._leads_s.pop(node_id, None)
            if changed.leader_id == node_id:
                self._leads_s[node_id] = told.time_s

    def _look(self, told: MessageTold) -> None:
        leader = self.model.receiver_of(told)
        if leader is None or leader.node_id not in self._leads_s or leader.voter_set is None:
            return
        if not leader.is_vote_of_disk or leader.config is None:
            return
        keys = frozenset(leader.voter_set.keys)
        known, since_s = self._since.get(leader.node_id, (frozenset(), self.time_s))
        if known != keys:
            since_s = self.time_s
            self._since[leader.node_id] = keys, since_s
        nodes = self.model.nodes
        dead = {key for key in keys if key.node_id in nodes and nodes[key.node_id].epoch != key.log_epoch}
        wanted = max(leader.config.replicas, len(leader.config.election.voters))
        if leader.key not in keys or not (dead or len(keys) < wanted):
            return
        living = sorted(key.node_id for key in keys - dead if key != leader.key)
        standbys = [
            node
            for node in self.model.nodes.values()
            if node.key not in leader.voter_set.removed and node.node_id not in {key.node_id for key in keys}
        ]
        hindrances = self.model.hindrances
        for standby in standbys:
            pairs = [hindrances.pair_clear_s(leader.node_id, one, gossip=True) for one in (*living, standby.node_id)]
            from_s = max(since_s, self._leads_s[leader.node_id], *pairs)
            after_s = leader.config.replace_after_s if dead else 0.0
            if standby.is_up and self.time_s > from_s + 1.1 * after_s + REPLACED_WITHIN_S:
                raise self.violated(
                    f"{leader.node_id} leads, {_listed(dead) or 'nobody'} of its voters {_listed(keys)} has lost its "
                    f"disk, {standby.node_id} stands by, and nothing has been in the way since {from_s:.3f} s"
                )


def _listed(keys: frozenset[VoterKey] | set[VoterKey] | tuple[VoterKey, ...]) -> str:
    return ", ".join(key.node_id for key in sorted(keys))
