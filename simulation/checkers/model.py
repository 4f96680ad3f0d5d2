"""What all checkers want to know of the cluster, derived from the events once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from ourolog.actors.config import Cycle, Fsync, NodeConfig
from ourolog.actors.messages.events import CommitAdvanced, LogAppended, LogCut, LogOpened, VotersLogged
from ourolog.actors.messages.store import BallotSaved, BatchAppended, LogTruncated
from ourolog.simulation.checker import World
from ourolog.simulation.checkers.hindrances import HINDERING, Hindrances
from ourolog.simulation.checkers.log_model import Entry, LogModel
from ourolog.simulation.checkers.numbers import Numbers
from ourolog.simulation.events import (
    DiskRestored,
    Event,
    FaultInjected,
    FileAppended,
    FileRemoved,
    FileReplaced,
    FileRewritten,
    FileSynced,
    FileTruncated,
    MessageTold,
    NodeCrashed,
    NodeStarted,
    NodeStopped,
)
from ourolog.simulation.faults import SPOILING
from ourolog.simulation.options import RAFT
from ourolog.storage.ballot import Ballot
from ourolog.storage.checkpoint import CHECKPOINT_NAME
from ourolog.storage.control import VoterKey, VoterSet
from ourolog.storage.types import START, Index, NodeId, Position, Term

CHANGING: Final[tuple[type, ...]] = (FileAppended, FileRewritten, FileTruncated, FileRemoved, MessageTold)
"""The kinds of event that may change a log."""

MODELLED: Final[tuple[type, ...]] = (*CHANGING, FileReplaced, FileSynced, DiskRestored, *HINDERING)
CHANGING_MESSAGES: Final[tuple[type, ...]] = (CommitAdvanced, BatchAppended, LogOpened, LogTruncated)
"""The messages that come with a change of a log, or of what is committed of it."""

MODELLED_MESSAGES: Final[tuple[type, ...]] = (*CHANGING_MESSAGES, LogAppended, LogCut, BallotSaved, VotersLogged)
"""The messages that the model is derived from, besides other events."""

LIES: Final = "fsync_lies"
LOST_TO_LIES: Final = "lost_to_lies"

ROT_IS_READ_WITHIN_S: Final = 5.0
"""By then everything that was read of a damaged file before its restoration has been answered."""


@dataclass(slots=True)
class NodeModel:
    """One node.

    node_id: its name.
    log: its log, as its disk shows it.
    committed: the commit position that its replicator reported last in this life; with nobody elected, what its store
        reported to be on disk if that is more.
    life: how often it was started.
    is_up: whether it was started and has not ended since.
    is_resetting: whether its checkpoint says that the log is to be emptied.
    must_reset: whether it said so when the node was started last.
    config: its configuration in this life.
    opened: what its store said when it had opened the log, in this life.
    ballot: the one that its store said last is on disk.
    voter_set: the voters that its log names last, as its store says; None if it names none.
    voters_before: the voters that it named before those, () if none are known.
    first_epoch, epoch: the epochs of its first log and of its last one, 0 before one was opened.
    lost_disks: by the epoch of each earlier log, the index below which everything was on that disk when it was lost.
    spoiled: the faults that took back, or may yet take back, what was durable on its disk. Empty again once the disk
        has written what it only claimed to have written, and otherwise once the log that was left is open: from there
        on it promises anew.
    was_spoiled: whether anything was ever taken.
    disks: how many disks it has lost.
    is_rotten: whether bits of its disk have flipped, which changes what can be read, not what was written.
    is_blind: whether such faults have made it impossible to follow its log.
    seen_since_s: since when its log is followed again, in virtual seconds; what it said before may still arrive.
    spoiled_in_life: the life in which its disk was last spoiled.
    lost: where the log ended (term of its last entry, next index) before such a fault took from it; until as much is
        there again, with somebody elected, others may count it for what it lacks.
    rot_over_s: when the flipped bit was restored, in virtual seconds; None if it was not.
    seen: the batches that are in its log or were until retention removed them, see `key_of`.
    """

    node_id: NodeId
    log: LogModel
    committed: Position = START
    life: int = 0
    is_up: bool = False
    is_resetting: bool = False
    must_reset: bool = False
    config: NodeConfig | None = None
    opened: LogOpened | None = None
    ballot: Ballot = field(default_factory=Ballot)
    voter_set: VoterSet | None = None
    voters_before: tuple[VoterKey, ...] = ()
    first_epoch: int = 0
    epoch: int = 0
    lost_disks: dict[int, Index] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    was_spoiled: bool = False
    disks: int = 0
    is_rotten: bool = False
    is_blind: bool = False
    seen_since_s: float = -inf
    spoiled_in_life: int = 0
    lost: tuple[Term, Index] | None = None
    rot_over_s: float | None = None
    seen: dict[tuple[NodeId, int], Numbers] = field(default_factory=dict)

    def key_of(self, entry: Entry) -> tuple[tuple[NodeId, int], int]:
        """The key by which a batch is known in this log: its identity, or where it was copied from."""
        if self.is_cycle_allowed and len(entry.path) > 1:
            # A source's key has a mark that no key of a node's own batches has.
            return (NodeId(f"<{entry.path[-2]}"), entry.source_epoch), entry.source_index
        return (entry.path[0], entry.origin_epoch), entry.origin_sequence

    def may_have_had(self, index: int) -> bool:
        """Whether an entry that the model does not see there may have been on its disk, or still is."""
        return self.is_blind or LIES in self.spoiled or (self.lost is not None and index < self.lost[1])

    @property
    def is_elected(self) -> bool:
        return self.config is not None and self.config.election.elects

    @property
    def is_lead_passed_on(self) -> bool:
        """Whether another node may become leader that does not have what only this disk has."""
        return self.is_elected and self.config is not None and not self.config.election.is_decreed

    @property
    def is_vote_of_disk(self) -> bool:
        """Whether a voter is a node with a certain disk, so that a node with a new disk has no vote."""
        return self.config is not None and self.config.election.name == RAFT

    @property
    def key(self) -> VoterKey:
        """The node with its present disk, or the last one that was opened."""
        return VoterKey(self.node_id, self.epoch)

    @property
    def syncs_always(self) -> bool:
        return self.config is None or self.config.fsync is Fsync.ALWAYS

    @property
    def is_cycle_allowed(self) -> bool:
        return not self.is_elected and self.config is not None and self.config.cycle is Cycle.ALLOW


class ClusterModel:
    """All nodes, by the order of their starting.

    For the last `event` that it was made from: `changed` is the node whose log that changed, `fresh`
    the entries that came to the log and `repeated` those of them that were in it already, `gone`
    those that left it, is_retention whether they were the oldest, is_reopened whether the log was
    compared with its disk after a start. `dropped` are those of the gone that the node itself gave
    up: not what retention took, nor what had not reached the disk when it crashed.
    hindrances: what is in whose way, and since when nothing is.
    """

    def __init__(self) -> None:
        self.nodes: dict[NodeId, NodeModel] = {}
        self.changed: NodeModel | None = None
        self.fresh: list[Entry] = []
        self.gone: list[Entry] = []
        self.dropped: list[Entry] = []
        self.is_retention = False
        self.is_reopened = False
        self.repeated: list[Entry] = []
        self.event: Event | None = None
        self.hindrances = Hindrances()
        self._hindering = self.hindrances.handlers
        self._places: dict[str, tuple[NodeId, str]] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            FileAppended: self._on_appended,
            FileRewritten: self._on_rewritten,
            FileReplaced: self._on_replaced,
            FileSynced: self._on_synced,
            FileTruncated: self._on_truncated,
            FileRemoved: self._on_removed,
            NodeStarted: self._on_started,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            FaultInjected: self._on_fault,
        }

    def see(self, event: Event, world: World) -> None:
        """Process an event; a second call with the same one does nothing."""
        if event is self.event:
            return
        self.event = event
        self.changed = None
        kind = type(event)
        if kind is MessageTold:
            assert isinstance(event, MessageTold)
            message = event.message
            if type(message) is CommitAdvanced:
                node = self.receiver_of(event)
                if node is not None:
                    node.committed = max(node.committed, message.committed)
            elif type(message) is BatchAppended:
                node = self.sender_of(event)
                if node is not None and not node.is_elected:
                    node.committed = max(node.committed, message.end)
            elif type(message) is LogTruncated:
                node = self.receiver_of(event)
                if node is not None and node.log.opened and not node.log.entries:
                    node.log.begin_at(message.start)
            elif type(message) is LogOpened:
                self._on_opened(event, message, world)
            elif isinstance(message, LogAppended | LogCut | BallotSaved):
                self._on_described(event, message)
            elif type(message) is VotersLogged:
                node = self.sender_of(event)
                if node is not None:
                    node.voter_set = message.voters
                    node.voters_before = self._voters_replaced(node, message.voters, message.replaced)
        else:
            hinder = self._hindering.get(kind)
            if hinder is not None:
                hinder(event)
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(event)
            elif kind is DiskRestored:
                assert isinstance(event, DiskRestored)
                self._on_restored(event, world)

    # ------------------------------------------------------------ looking

    def node(self, node_id: NodeId) -> NodeModel:
        if node_id not in self.nodes:
            self.nodes[node_id] = NodeModel(node_id, LogModel(node_id))
        return self.nodes[node_id]

    def place(self, name: str) -> tuple[NodeId, str]:
        """Node and actor of a mailbox's name; the actor is "" if it is no actor's."""
        place = self._places.get(name)
        if place is None:
            node_id, _, actor = name.rpartition(".")
            place = self._places[name] = (NodeId(node_id), actor) if node_id else (NodeId(name), "")
        return place

    def receiver_of(self, told: MessageTold) -> NodeModel | None:
        return self.nodes.get(self.place(told.receiver)[0])

    def sender_of(self, told: MessageTold) -> NodeModel | None:
        return self.nodes.get(self.place(told.sender)[0])

    def voters_of(self, node: NodeModel) -> tuple[VoterKey, ...]:
        """Who votes, as that node must know: what its log names last, before that those with whom the cluster began.

        Where any disk of a voter will do, that is its present one.
        """
        if node.is_vote_of_disk and node.voter_set is not None:
            return tuple(voter.key for voter in node.voter_set.voters)
        return self._first_voters_of(node)

    def quorums_of(self, node: NodeModel, index: int) -> tuple[tuple[VoterKey, ...], ...]:
        """The sets of voters of which one has committed what stands at that index, as that node may know.

        An entry that names voters, and what is behind it, only those that it names commit.
        """
        present = self.voters_of(node)
        is_behind = node.voter_set is None or index >= node.voter_set.index
        return (present,) if is_behind or not node.voters_before else (present, node.voters_before)

    def may_stand(self, node: NodeModel) -> bool:
        """Whether the node is a voter, or was one before the last change."""
        return node.key in self.voters_of(node) or node.key in node.voters_before

    def newest_voters(self) -> tuple[tuple[VoterKey, ...], ...]:
        """The last set of voters that any log names, and the one before it: without both nobody can be elected."""
        named = [node for node in self.nodes.values() if node.voter_set is not None]
        if not named:
            return ()
        newest = max(named, key=lambda node: (node.voter_set.term, node.voter_set.index) if node.voter_set else (0, 0))
        present = self.voters_of(newest)
        return (present, newest.voters_before) if newest.voters_before else (present,)

    def _voters_replaced(
        self, node: NodeModel, named: VoterSet | None, replaced: VoterSet | None
    ) -> tuple[VoterKey, ...]:
        """Who voted before the last set in the log, () if that is not known."""
        if replaced is not None:
            return replaced.keys
        return self._first_voters_of(node) if named is not None and node.is_vote_of_disk else ()

    def _first_voters_of(self, node: NodeModel) -> tuple[VoterKey, ...]:
        names = node.config.election.voters if node.config is not None else ()
        voters = [self.node(name) for name in names]
        return tuple(
            VoterKey(voter.node_id, voter.first_epoch) if node.is_vote_of_disk else voter.key for voter in voters
        )

    def first_kept_index(self) -> int:
        """The index below which no node has any entry left."""
        return min((node.log.start.index for node in self.nodes.values()), default=0)

    # ------------------------------------------------------------ taking in

    def _on_started(self, event: NodeStarted) -> None:
        node = self.node(event.node_id)
        config = event.config
        node.config = config
        node.life += 1
        node.is_up = True
        node.opened = None
        node.committed = START
        node.log.chains = node.is_elected
        node.log.opened = False
        node.must_reset = node.is_resetting

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        node = self.node(event.node_id)
        self._heal(node)
        if LIES in node.spoiled and isinstance(event, NodeCrashed) and event.power_lost:
            node.spoiled = node.spoiled - {LIES} | {LOST_TO_LIES}
            node.was_spoiled = True
            node.spoiled_in_life = node.life
        node.is_up = node.log.opened = False

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind not in SPOILING:
            return
        node = self.node(NodeId(event.where))
        if event.kind == "bit_rot":
            node.is_rotten, node.rot_over_s = True, None
            return
        node.spoiled_in_life = node.life
        node.spoiled.add(event.kind)
        if event.kind != LIES:
            # It is another disk, and neither lies nor rots as the one before did.
            node.spoiled.discard(LIES)
            node.is_rotten = False
            node.was_spoiled = True
        node.disks += event.kind == "disk_lost"

    def _on_restored(self, event: DiskRestored, world: World) -> None:
        node = self.node(event.node_id)
        if event.kind == "bit_rot":
            node.rot_over_s = event.time_s
            return
        if LIES not in node.spoiled:
            return
        node.spoiled.discard(LIES)
        if node.opened is not None and node.is_up:
            # If it was opened in the meantime, its disk had shown less than there was.
            log = node.log
            log.reopened(world.durable(node.node_id), log.start if log.opened else node.opened.start, trusts=False)
            was_blind, node.is_blind = node.is_blind, bool(log.damage or log.gap)
            if node.is_blind:
                self._lose_sight(node)
            else:
                node.seen_since_s = event.time_s if was_blind else node.seen_since_s
                self._see_again(node, [])

    def _on_opened(self, told: MessageTold, opened: LogOpened, world: World) -> None:
        node = self.receiver_of(told)
        if node is None or node.opened is not None:
            return
        node.opened = opened
        node.ballot, node.voter_set = opened.ballot, opened.voters
        if opened.log_epoch != node.epoch:
            node.first_epoch = node.first_epoch or opened.log_epoch
            node.lost_disks[node.epoch] = node.log.durable_index
            node.epoch = opened.log_epoch
        node.voters_before = self._voters_replaced(node, opened.voters, opened.voters_replaced)
        node.committed = opened.committed
        durable = node.log.durable_index
        log = node.log
        trusts = not (node.spoiled or node.is_blind)
        if node.spoiled - {LIES} and node.is_elected:
            # After two losses it must have again what it had at its best.
            term, index = log.durable_place
            before_term, before_index = node.lost or (term, index)
            node.lost = max(term, before_term), max(index, before_index)
        started = log.start.index
        gone, fresh = log.reopened(world.durable(node.node_id), opened.start, trusts=trusts)
        was_blind, node.is_blind = node.is_blind, bool((node.spoiled or node.is_rotten) and (log.damage or log.gap))
        if node.is_blind:
            self._lose_sight(node)
            return
        node.seen_since_s = told.time_s if was_blind else node.seen_since_s
        if node.spoiled - {LIES}:
            self._see_again(node, fresh)  # its earlier identities are forgotten, even those not on disk
        self._change(node, gone, fresh)
        # What retention had begun to remove may be back after a power cut.
        self.repeated = [entry for entry in self.repeated if entry.index >= started]
        self.is_reopened = True
        first = node.log.start.index
        self.dropped = [entry for entry in gone if first <= entry.index < durable]
        if node.must_reset and node.log.start == node.log.end:
            self.dropped = []  # it was asked to drop them, and has finished what a crash had interrupted

    def _on_described(self, told: MessageTold, described: LogAppended | LogCut | BallotSaved) -> None:
        node = self.sender_of(told)
        if node is not None:
            before, named = node.voter_set, described.voters
            if named is not None and (before is None or named.index > before.index):
                node.voters_before = self.voters_of(node)
            elif named is None or (before is not None and named.index < before.index):
                node.voters_before = ()
            node.voter_set = named
            if isinstance(described, BallotSaved):
                node.ballot = described.ballot

    def _on_appended(self, event: FileAppended) -> None:
        node = self.node(event.node_id)
        log = node.log
        if log.opened:
            fresh = log.appended(event)
            if node.spoiled and (log.damage or log.gap):
                # It lied about what it had when the node opened it.
                self._lose_sight(node)
                return
            self._change(node, [], fresh)

    def _heal(self, node: NodeModel) -> None:
        """Trust a spoiled disk again after a restart, unless it lies; a lost log counts as whole once it is as long."""
        if node.spoiled and node.log.opened and node.life > node.spoiled_in_life:
            node.spoiled &= {LIES}
        if node.lost is not None and node.log.opened:
            term, index = node.log.durable_place
            # What a later leader has follows all that was acknowledged before; without entries only places count.
            if index >= node.lost[1] if not node.log.entries else (term, index) >= node.lost:
                node.lost = None

    def _lose_sight(self, node: NodeModel) -> None:
        """What its disk showed is not what it has; nothing is known of its log until the next opening."""
        node.is_blind = True
        node.log.damage = node.log.gap = None
        node.log.opened = False

    def _on_synced(self, event: FileSynced) -> None:
        node = self.node(event.node_id)
        log = node.log
        if log.opened:
            log.synced(event.path, event.size)
            self._heal(node)
        if node.rot_over_s is not None and event.time_s > node.rot_over_s + ROT_IS_READ_WITHIN_S:
            node.is_rotten, node.rot_over_s = False, None

    def _on_truncated(self, event: FileTruncated) -> None:
        node = self.node(event.node_id)
        if node.log.opened:
            gone, is_oldest = node.log.truncated(event.path, event.size)
            self._change(node, gone, [], is_retention=is_oldest)

    def _on_replaced(self, event: FileReplaced) -> None:
        if event.path.rpartition("/")[2] == CHECKPOINT_NAME:
            self.node(event.node_id).is_resetting = b'"resetting":true' in event.content

    def _on_rewritten(self, event: FileRewritten) -> None:
        """A log that is open is only added to and repaired; before, its end may be written once more."""
        node = self.node(event.node_id)
        if node.log.opened and not node.is_elected:  # otherwise see RepairedEqual
            node.log.rewritten(event.path, event.position)
            self._change(node, [], [])

    def _on_removed(self, event: FileRemoved) -> None:
        node = self.node(event.node_id)
        if node.log.opened:
            gone, is_oldest = node.log.removed(event.path)
            self._change(node, gone, [], is_retention=is_oldest)

    def _change(self, node: NodeModel, gone: list[Entry], fresh: list[Entry], *, is_retention: bool = False) -> None:
        self.gone, self.fresh = gone, fresh
        self.dropped = [] if is_retention else gone
        self.is_retention = is_retention
        self.is_reopened = False
        self.changed = node
        if gone and not is_retention:
            self._see_again(node, fresh)
        seen = node.seen
        self.repeated = []
        for entry in fresh:
            group, number = node.key_of(entry)
            numbers = seen.get(group)
            if numbers is None:
                numbers = seen[group] = Numbers()
            elif number in numbers:
                self.repeated.append(entry)
            numbers.add(number)

    def _see_again(self, node: NodeModel, fresh: list[Entry]) -> None:
        """Begin again with what is left; what retention took before is forgotten then."""
        node.seen = {}
        new = {entry.index for entry in fresh}
        for entry in node.log.entries:
            if entry.index not in new:
                group, number = node.key_of(entry)
                node.seen.setdefault(group, Numbers()).add(number)
