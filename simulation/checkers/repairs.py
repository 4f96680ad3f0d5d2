"""What repairs promise: the same bytes again and no others, on disk, only of what is committed, and in time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced, LogOpened
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallReturned, FetchResponse, RepairResponse
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairAbandoned, RepairBatch
from ourolog.actors.messages.store import BatchesRead, LogTruncated
from ourolog.actors.replication.repairs import ASK_AGAIN_AFTER_S
from ourolog.actors.storing.scrubber import LEAST_PAUSE_S
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CLOCKS_DIFFER
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.disks.rot import Rotted
from ourolog.simulation.events import (
    DiskRestored,
    FaultInjected,
    FileRemoved,
    FileRewritten,
    FileTruncated,
    MessageTold,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
)
from ourolog.storage.batch import read_head, scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.segment import LOG_SUFFIX
from ourolog.storage.types import Index, NodeId

REPAIRED_WITHIN_S: Final = 10.0
"""One call that is never answered, the longest back-off, and a round in which all answer."""

_SCRUB_SLACK_S: Final = 3.0
_INDEX: Final = re.compile(r"\((?:from )?index (\d+)")
"""Which entry a warning of damage, or of its repair, is about."""


class RepairedEqual(EventChecker):
    """Compares what is written over with what had been there, and looks whether it is on disk when it counts."""

    name: ClassVar[str] = "repaired_equal"
    statement: ClassVar[str] = (
        "A batch that is repaired is again what was written there, but for its frame, no other byte of the file is "
        "written, and it is on disk before it is said to be repaired."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FileRewritten: self._on_rewritten}
        self.on_told = {BatchRepaired: self._on_repaired}

    def _on_rewritten(self, event: FileRewritten) -> None:
        node = self.model.node(event.node_id)
        if not node.is_elected or not node.log.opened or not event.path.endswith(LOG_SUFFIX):
            return
        where = f"{event.node_id} wrote over {event.path} at byte {event.position}"
        entry = node.log.entry_at(event.path, event.position)
        if entry is None:
            raise self.violated(f"{where}, where no batch begins")
        try:
            heads = list(scan(event.data))
        except CorruptBatchError as error:
            raise self.violated(f"{where} with what is no batch: {error}") from error
        if [head.crc for head in heads] != [entry.crc] or entry.end_byte != event.position + len(event.data):
            raise self.violated(f"{where}, and not with {entry} as it was")
        if heads[0].synced > event.position:
            raise self.violated(f"{where}; the batch claims that {heads[0].synced} bytes before it are on disk")

    def _on_repaired(self, told: MessageTold) -> None:
        assert isinstance(told.message, BatchRepaired)
        node, index = self.model.sender_of(told), told.message.index
        if node is None or node.spoiled or not node.log.opened or index >= node.log.durable_index:
            return
        entry, extent = node.log.entry(index), node.log.extent_of(index)
        if entry is None or extent is None:
            return
        assert self.world is not None
        path, begin, end = extent
        try:
            crcs = [head.crc for head in scan(self.world.durable(node.node_id).get(path, b"")[begin:end])]
        except CorruptBatchError:
            crcs = []
        if crcs != [entry.crc]:
            raise self.violated(
                f"{node.node_id} said that entry {index}, at byte {begin} of {path}, is repaired, and it is not on "
                "its disk"
            )


class RepairsCommittedOnly(EventChecker):
    """Looks at each entry that is sent or written to repair another copy, and at what the two nodes have committed."""

    name: ClassVar[str] = "repairs_committed_only"
    statement: ClassVar[str] = "An entry is repaired only if it is committed, as both nodes know."

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            CommitAdvanced: self._on_committed,
            LogOpened: self._on_opened,
            RepairBatch: self._on_repair,
            CallReturned: self._on_returned,
        }
        self._committed: dict[NodeId, Index] = {}

    def _on_committed(self, told: MessageTold) -> None:
        assert isinstance(told.message, CommitAdvanced)
        self._note(told, told.message.committed.index)

    def _on_opened(self, told: MessageTold) -> None:
        assert isinstance(told.message, LogOpened)
        self._note(told, told.message.committed.index)

    def _note(self, told: MessageTold, committed: Index) -> None:
        node_id = self.model.place(told.receiver)[0]
        self._committed[node_id] = max(self._committed.get(node_id, Index(0)), committed)

    def _on_repair(self, told: MessageTold) -> None:
        repair = told.message
        assert isinstance(repair, RepairBatch)
        self._check(self.model.place(told.receiver)[0], repair.index, "was to repair")

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        if isinstance(returned.response, RepairResponse) and returned.response.batch:
            try:
                head = read_head(returned.response.batch)
            except CorruptBatchError:
                return
            if head is not None:
                self._check(returned.peer_id, head.index, "sent, to repair another copy,")

    def _check(self, node_id: NodeId, index: Index, what: str) -> None:
        committed = self._committed.get(node_id, Index(0))
        if index >= committed:
            raise self.violated(f"{node_id} {what} entry {index}, and has committed what is below {committed}")


class DamageNeverServed(EventChecker):
    """Checks every batch that a log is read for, whoever asked."""

    name: ClassVar[str] = "damage_never_served"
    statement: ClassVar[str] = (
        "No reader, no follower and nobody who repairs a copy is given a batch that is not what was written."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {BatchesRead: self._on_read, CallReturned: self._on_returned}

    def _on_read(self, told: MessageTold) -> None:
        read = told.message
        assert isinstance(read, BatchesRead)
        node = self.model.sender_of(told)
        self._check(read.batches, f"{told.sender} gave {told.receiver}", node)

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        match returned.response:
            case FetchResponse(batches=batches) | RepairResponse(batch=batches):
                # What the peer's disk holds by now may be something else.
                self._check(batches, f"{returned.peer_id} gave {told.receiver}", None)

    def _check(self, batches: bytes, what: str, node: NodeModel | None) -> None:
        try:
            heads = list(scan(batches))
        except CorruptBatchError as error:
            raise self.violated(f"{what} a damaged batch: {error}") from error
        if node is None or not node.log.opened or node.spoiled:
            return
        for head in heads:
            entry = node.log.entry(head.index)
            if entry is not None and entry.crc != head.crc:
                raise self.violated(f"{what} another entry {head.index} than was written")


class RepairedInTime(EventChecker):
    """For each damaged entry that a node knows of, expects it repaired while another node has it and can be reached."""

    name: ClassVar[str] = "repaired_in_time"
    statement: ClassVar[str] = (
        f"A damaged batch that was found is repaired {REPAIRED_WITHIN_S:g} s later if all nodes could be reached in "
        "that time and one of them had it for committed; and it is not given up then."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            DamageFound: self._on_found,
            BatchRepaired: self._on_repaired,
            RepairAbandoned: self._on_abandoned,
            LogTruncated: self._on_truncated,
            ProbeDue: self._look,
        }
        self._found_s: dict[NodeId, dict[Index, float]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._found_s.pop(event.node_id, None)

    def _on_found(self, told: MessageTold) -> None:
        assert isinstance(told.message, DamageFound)
        found_s = self._found_s.setdefault(self.model.place(told.receiver)[0], {})
        found_s[told.message.index] = told.time_s

    def _on_repaired(self, told: MessageTold) -> None:
        assert isinstance(told.message, BatchRepaired)
        self._found_s.get(self.model.place(told.receiver)[0], {}).pop(told.message.index, None)

    def _on_truncated(self, told: MessageTold) -> None:
        self._found_s.pop(self.model.place(told.receiver)[0], None)

    def _on_abandoned(self, told: MessageTold) -> None:
        abandoned, node = told.message, self.model.receiver_of(told)
        assert isinstance(abandoned, RepairAbandoned)
        if node is None:
            return
        found_s = self._found_s.get(node.node_id, {}).pop(abandoned.index, None)
        if found_s is None or abandoned.again_after_s < ASK_AGAIN_AFTER_S:
            return
        has_it = self._who_has(node, abandoned.index, found_s)
        if has_it is not None:
            raise self.violated(
                f"{node.node_id} gave up the repair of entry {abandoned.index} ({abandoned.reason}), and {has_it} "
                "has it"
            )

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None:
            return
        for index, found_s in self._found_s.get(node.node_id, {}).items():
            since_s = told.time_s - REPAIRED_WITHIN_S * CLOCKS_DIFFER
            if found_s > since_s or index >= node.committed.index or not self._are_all_clear(node, since_s):
                continue
            has_it = self._who_has(node, index, since_s)
            if has_it is not None:
                raise self.violated(
                    f"{node.node_id} has found entry {index} damaged at {found_s:.3f} s, {has_it} has it, and it is "
                    "not repaired"
                )

    def _are_all_clear(self, node: NodeModel, since_s: float) -> bool:
        hindrances = self.model.hindrances
        return node.opened is not None and all(
            other is node
            or (other.opened is not None and hindrances.pair_clear_s(node.node_id, other.node_id, rots=False) < since_s)
            for other in self.model.nodes.values()
        )

    def _who_has(self, node: NodeModel, index: Index, since_s: float) -> NodeId | None:
        """A node that could be reached since then, and has had the entry good and for committed all the while.

        Another entry at that index, as a second decree may leave behind, is of no use.
        """
        mine = node.log.entry(index)
        for other in self.model.nodes.values():
            is_good = other.log.opened and not (other.spoiled or other.is_rotten or other.is_blind or other.lost)
            if (
                other is not node
                and is_good
                and other.opened is not None
                and index < min(other.committed.index, other.log.durable_index)
                and (entry := other.log.entry(index)) is not None
                and (mine is None or entry.crc == mine.crc)
                and self.model.hindrances.pair_clear_s(node.node_id, other.node_id, rots=False) < since_s
            ):
                return other.node_id
        return None


@dataclass(frozen=True, slots=True)
class _Rot:
    rotted: Rotted
    time_s: float


class ScrubFindsRot(EventChecker):
    """For each byte that rots in a segment at rest, expects that the node says so soon enough."""

    name: ClassVar[str] = "scrub_finds_rot"
    statement: ClassVar[str] = (
        "What rots in a segment while its node runs is found within two intervals of the scrub, wherever it is."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            FaultInjected: self._on_fault,
            NodeSaid: self._on_said,
            DiskRestored: self._on_over,
            NodeCrashed: self._on_over,
            NodeStopped: self._on_over,
            FileTruncated: self._on_changed,
            FileRemoved: self._on_changed,
            FileRewritten: self._on_changed,
            NodeStarted: self._on_started,
        }
        self.on_told = {ProbeDue: self._look}
        self._rots: dict[NodeId, _Rot] = {}
        self._open: dict[NodeId, dict[str, str]] = {}

    def _on_over(self, event: DiskRestored | NodeCrashed | NodeStopped) -> None:
        self._rots.pop(event.node_id, None)

    def _on_started(self, event: NodeStarted) -> None:
        self._open.pop(event.node_id, None)

    def _on_fault(self, event: FaultInjected) -> None:
        rotted = Rotted.told(event.detail) if event.kind == "bit_rot" else None
        if rotted is None:
            return
        node = self.model.node(NodeId(event.where))
        if not rotted.path.endswith(LOG_SUFFIX) or not node.log.opened or node.spoiled:
            return
        # What lies behind the last entry on disk is not read yet; a place is warned of again once it was repaired.
        segment_bytes = node.log.durable_bytes(rotted.path)
        is_open = any(rotted.path in reason for reason in self._open.get(node.node_id, {}).values())
        if rotted.position + rotted.size <= segment_bytes and not is_open:
            self._rots[node.node_id] = _Rot(rotted, event.time_s)

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case NodeWarned(kind=WarningKind.DAMAGED | WarningKind.REPAIRED as kind, reason=reason):
                place = _INDEX.search(reason)
                if place is not None:
                    places = self._open.setdefault(event.node_id, {})
                    places.pop(place[1], None)
                    if kind is WarningKind.DAMAGED:
                        places[place[1]] = reason
                rot = self._rots.get(event.node_id)
                if rot is not None and rot.rotted.path in reason:
                    del self._rots[event.node_id]

    def _on_changed(self, event: FileTruncated | FileRemoved | FileRewritten) -> None:
        rot = self._rots.get(event.node_id)
        if rot is not None and rot.rotted.path == event.path:
            del self._rots[event.node_id]

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        rot = self._rots.get(node.node_id) if node is not None else None
        if node is None or rot is None or node.config is None or not node.config.scrub_interval_s:
            return
        steps_s = LEAST_PAUSE_S * (1 + len(node.log.segments))
        interval_s = max(node.config.scrub_interval_s, steps_s)
        clear_s = max(rot.time_s, self.model.hindrances.node_clear_s(node.node_id, rots=False))
        if told.time_s > clear_s + (2 * interval_s + _SCRUB_SLACK_S) * CLOCKS_DIFFER:
            raise self.violated(
                f"{node.node_id} has not found what rotted at {rot.time_s:.3f} s at byte {rot.rotted.position} of "
                f"{rot.rotted.path}, and reads its log once in {node.config.scrub_interval_s:g} s"
            )
