"""What all checkers want to know of the cluster, kept from the events once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from actors.config import Cycle, Fsync, NodeConfig
from actors.messages import BatchAppended, CommitAdvanced, LogOpened, LogTruncated
from simulation.checker import World
from simulation.checkers.hindrances import HINDERING, Hindrances
from simulation.checkers.log_model import Entry, LogModel
from simulation.checkers.numbers import Numbers
from simulation.events import (
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
from simulation.faults import SPOILING
from storage.checkpoint import CHECKPOINT_NAME
from storage.types import START, Index, NodeId, Position

CHANGING: Final[tuple[type, ...]] = (FileAppended, FileRewritten, FileTruncated, FileRemoved, MessageTold)
"""The kinds of event after which a log may be another."""

MODELLED: Final[tuple[type, ...]] = (*CHANGING, FileReplaced, FileSynced, *HINDERING)
MODELLED_MESSAGES: Final[tuple[type, ...]] = (CommitAdvanced, BatchAppended, LogOpened, LogTruncated)
"""All that the model is made from; of messages only these."""


@dataclass(slots=True)
class NodeModel:
    """One node.

    committed: as its replicator said last in this life; with nobody elected, what its store said is
    on disk if that is more. life: how often it was started.
    opened: what its store said when it had opened the log, in this life.
    spoiled: the faults that took back, or may yet take back, what was durable on its disk; empty
    again when it has been started since, and with a leader has all again that it had.
    was_spoiled: whether that ever happened. disks: how many were lost. is_rotten: whether bits of
    its disk flipped, which changes what can be read, not what was written. is_blind: such faults
    have made it impossible to follow its log.
    seen: the batches that are in its log or were until retention took them, see `key_of`.
    is_up: it was started and has not ended since. is_resetting: its checkpoint says that the log is to
    be emptied; must_reset: it did when the node was started last.
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
    spoiled: set[str] = field(default_factory=set)
    was_spoiled: bool = False
    disks: int = 0
    is_rotten: bool = False
    is_blind: bool = False
    spoiled_in_life: int = 0
    whole_at: Index = Index(0)
    seen: dict[tuple[NodeId, int], Numbers] = field(default_factory=dict)

    def key_of(self, entry: Entry) -> tuple[tuple[NodeId, int], int]:
        """By what a batch is known in this log: its identity, or where it was copied from."""
        if self.is_cycle_allowed and len(entry.path) > 1:
            # A source is named with a mark that no node's own batches have.
            return (NodeId(f"<{entry.path[-2]}"), entry.source_epoch), entry.source_index
        return (entry.path[0], entry.origin_epoch), entry.origin_sequence

    @property
    def is_elected(self) -> bool:
        return self.config is not None and self.config.election.kind != "none"

    @property
    def is_lead_passed_on(self) -> bool:
        """Whether somebody else may come to lead, who does not have what only this disk has."""
        return self.is_elected and self.config is not None and self.config.election.kind != "static"

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
        """Take in an event; a second call with the same one does nothing."""
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
        else:
            hinder = self._hindering.get(kind)
            if hinder is not None:
                hinder(event)
            handler = self._handlers.get(kind)
            if handler is not None:
                handler(event)

    # ------------------------------------------------------------ looking

    def node(self, node_id: NodeId) -> NodeModel:
        if node_id not in self.nodes:
            self.nodes[node_id] = NodeModel(node_id, LogModel(node_id))
        return self.nodes[node_id]

    def place(self, name: str) -> tuple[NodeId, str]:
        """Node and actor of a mailbox's name; the actor is empty for what is no actor's."""
        place = self._places.get(name)
        if place is None:
            node_id, _, actor = name.rpartition(".")
            place = self._places[name] = (NodeId(node_id), actor) if node_id else (NodeId(name), "")
        return place

    def receiver_of(self, told: MessageTold) -> NodeModel | None:
        return self.nodes.get(self.place(told.receiver)[0])

    def sender_of(self, told: MessageTold) -> NodeModel | None:
        return self.nodes.get(self.place(told.sender)[0])

    @property
    def up(self) -> Iterable[NodeModel]:
        return (node for node in self.nodes.values() if node.is_up and node.opened is not None)

    def first_kept_index(self) -> int:
        """Below it no node has any entry left."""
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
        node.is_up = node.log.opened = False

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind not in SPOILING:
            return
        node = self.node(NodeId(event.where))
        if event.kind == "bit_rot":
            node.is_rotten = True
            return
        node.spoiled.add(event.kind)
        node.was_spoiled = True
        node.disks += event.kind == "disk_lost"
        node.spoiled_in_life = node.life
        node.whole_at = node.log.highest_durable_index

    def _on_opened(self, told: MessageTold, opened: LogOpened, world: World) -> None:
        node = self.receiver_of(told)
        if node is None or node.opened is not None:
            return
        node.opened = opened
        node.committed = opened.committed
        durable = node.log.durable_index
        log = node.log
        trusts = not (node.spoiled or node.is_blind)
        gone, fresh = log.reopened(world.durable(node.node_id), opened.start, trusts=trusts)
        node.is_blind = bool((node.spoiled or node.is_rotten) and (log.damage or log.gap))
        if node.is_blind:
            self._lose_sight(node)
            return
        self._change(node, gone, fresh)
        self.is_reopened = True
        first = node.log.start.index
        self.dropped = [entry for entry in gone if first <= entry.index < durable]
        if node.must_reset and node.log.start == node.log.end:
            self.dropped = []  # it was asked to, and has finished what a crash had interrupted

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
        """Once started again, and whole again where there is a leader, a disk is as good as another."""
        is_whole = not node.is_elected or node.log.durable_index >= node.whole_at
        if node.spoiled and node.log.opened and node.life > node.spoiled_in_life and is_whole:
            node.spoiled.clear()

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

    def _on_truncated(self, event: FileTruncated) -> None:
        node = self.node(event.node_id)
        if node.log.opened:
            gone, is_oldest = node.log.truncated(event.path, event.size)
            self._change(node, gone, [], is_retention=is_oldest)

    def _on_replaced(self, event: FileReplaced) -> None:
        if event.path.rpartition("/")[2] == CHECKPOINT_NAME:
            self.node(event.node_id).is_resetting = b'"resetting":true' in event.content

    def _on_rewritten(self, event: FileRewritten) -> None:
        """A log that is open is only added to; before, its end may be written once more."""
        node = self.node(event.node_id)
        if node.log.opened:
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
