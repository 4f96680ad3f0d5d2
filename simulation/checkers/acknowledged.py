"""What an acknowledgement guarantees."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.server import Produce, Produced, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry, LogModel, records_of
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import (
    ClientInvoked,
    ClientReturned,
    FaultInjected,
    MessageTold,
    NodeStarted,
    OperationKind,
    Outcome,
)
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Offset, Term

_MAX_OPEN = 10_000


class AcknowledgedDurable(EventChecker):
    """Looks at the disks at the moment a server sends its acknowledgement."""

    name: ClassVar[str] = "acknowledged_durable"
    statement: ClassVar[str] = (
        "An acknowledged record stands at the offset it was given, on the disks that the acks promise: the leader's, "
        "a majority of the voters', or all of theirs, or as many as min_in_sync says (nobody elected: the node's own). "
        "With fsync interval what rests on one disk alone is only written, and a quorum is one of disks all the same. "
        "What is acknowledged again, and was committed in an earlier term, was on them then."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            Produce: self._on_produce,
            Produced: self._on_produced,
            RequestRefused: self._on_refused,
            LeaderChanged: self._on_leader,
        }
        self.on = {NodeStarted: self._on_started}
        self._open: OrderedDict[tuple[NodeId, int], tuple[Acks, tuple[bytes, ...]]] = OrderedDict()
        self._terms: dict[NodeId, Term] = {}

    def _on_started(self, event: NodeStarted) -> None:
        """Forget what the previous process was asked: it will never be answered."""
        for key in [key for key in self._open if key[0] == event.node_id]:
            del self._open[key]

    def _on_leader(self, told: MessageTold) -> None:
        assert isinstance(told.message, LeaderChanged)
        self._terms[self.model.place(told.receiver)[0]] = told.message.term

    def _on_produce(self, told: MessageTold) -> None:
        produce = told.message
        assert isinstance(produce, Produce)
        values = records_of(produce.batch.payload, produce.batch.record_count)
        self._open[self.model.place(told.receiver)[0], produce.request_id] = produce.acks, values
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)

    def _on_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, RequestRefused)
        self._open.pop((self.model.place(told.sender)[0], refused.request_id), None)

    def _on_produced(self, told: MessageTold) -> None:
        produced = told.message
        assert isinstance(produced, Produced)
        node_id = self.model.place(told.sender)[0]
        asked = self._open.pop((node_id, produced.request_id), None)
        node = self.model.nodes.get(node_id)
        if asked is None or node is None or node.spoiled or not node.log.opened:
            return
        entry = node.log.entry_with(produced.base_offset)
        where = f"offset {produced.base_offset} of {node_id}"
        if entry is None and produced.base_offset < node.log.start.offset:
            return  # retention removed it before the acknowledgement
        if entry is None:
            raise self.violated(f"a record was acknowledged at {where}, and its log ends at {node.log.end.offset}")
        acks, values = asked
        at = produced.base_offset - entry.base_offset
        if values and entry.values and entry.values[at : at + len(values)] != values:
            held = entry.values[at]
            detail = f"{values[0]!r} was acknowledged at {where}, where {entry} holds {held!r}"
            raise self.violated(detail, values[0], held)
        self._check_disks(node, entry, acks, where)

    def _check_disks(self, node: NodeModel, entry: Entry, asked: Acks, where: str) -> None:
        assert node.config is not None, "it has started"
        acks = node.config.acks if asked is Acks.DEFAULT else asked
        rests_on_one = not node.is_elected or acks is Acks.LEADER
        if (
            acks is Acks.QUORUM
            and entry.term < self._terms.get(node.node_id, Term(0))
            and entry.index < node.committed.index
        ):
            return  # it was sent again, and committed in an earlier term: who had it then may have another disk now
        if rests_on_one and not node.syncs_always:
            return  # it promises no more than that the node has written it
        if not is_on_disk(node, entry):
            raise self.violated(f"the record at {where} was acknowledged before it was on the node's own disk")
        if rests_on_one:
            return
        voters = self.model.voters_of(node)
        holders = [voter.node_id for voter in voters if is_on_disk_of(self.model, voter, entry)]
        is_enough = False
        for some in self.model.quorums_of(node, entry.index):
            needed = len(some) // 2 + 1
            if acks is Acks.ALL:
                needed = max(needed, node.config.min_in_sync or len(some))
            is_enough |= sum(is_on_disk_of(self.model, voter, entry) for voter in some) >= needed
        if not is_enough:
            raise self.violated(
                f"the record at {where} was acknowledged with acks={acks.name.lower()} while of the voters only "
                f"{', '.join(holders) or 'nobody'} had it on disk"
            )


def is_on_disk(node: NodeModel, entry: Entry) -> bool:
    """Whether the entry is on that node's disk, or was until a fault took it, which is not the node's doing."""
    held = node.log.entry(entry.index)
    if held is None and entry.index < node.log.start.index:
        return True
    if held is not None and held.crc == entry.crc and entry.index < node.log.durable_index:
        return True
    return node.may_have_had(entry.index)


def is_on_disk_of(model: ClusterModel, voter: VoterKey, entry: Entry) -> bool:
    """Whether the entry is on the disk that votes, or was when that disk was lost."""
    node = model.nodes.get(voter.node_id)
    if node is None or voter == node.key or not node.is_vote_of_disk:
        return node is not None and is_on_disk(node, entry)
    return entry.index < node.lost_disks.get(voter.log_epoch, 0)


class AcknowledgedKept(EventChecker):
    """Remembers what clients were told, and checks every entry that leaves a log, and all logs at the end."""

    name: ClassVar[str] = "acknowledged_kept"
    statement: ClassVar[str] = (
        "What was acknowledged is never lost: no crash, truncation or restart takes it from a disk that had it, "
        "unless retention did or that disk itself was destroyed, and it is there in the end."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            ClientInvoked: self._on_invoked,
            ClientReturned: self._on_returned,
            FaultInjected: self._on_fault,
        }
        self.on_log = self._on_log_changed
        self._disks: dict[int, int] = {}
        self._values: dict[NodeId, dict[Offset, bytes]] = {}
        # Of what its producer numbered: which entry was acknowledged. A copy that was cut before may be of its value.
        self._entries: dict[Offset, tuple[NodeId, int, int] | None] = {}

    def _log_of(self, node: NodeModel) -> NodeId:
        """The log that a node's offsets belong to: its own, or with a leader the one log of all."""
        return NodeId("") if node.is_elected else node.node_id

    def _copies_of(self, node: NodeModel) -> list[LogModel]:
        return [other.log for other in self.model.nodes.values() if self._log_of(other) == self._log_of(node)]

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind == "disk_lost":
            self._values.pop(NodeId(event.where), None)

    def _on_invoked(self, event: ClientInvoked) -> None:
        self._disks[event.operation_id] = self.model.node(event.node_id).disks

    def _on_returned(self, event: ClientReturned) -> None:
        operation, result = event.operation, event.result
        disks = self._disks.pop(event.operation_id, 0)
        if operation.kind is not OperationKind.PRODUCE or result.outcome is not Outcome.OK:
            return
        node = self.model.nodes.get(event.node_id)
        if node is None or not _is_kept(node, operation.acks):
            return
        if not node.is_elected and (node.spoiled or node.disks != disks):
            return  # with a leader it is the log of all, whatever happened to this copy since
        self._values.setdefault(self._log_of(node), {})[result.offset] = operation.value
        if operation.producer_id:
            entry = node.log.entry_with(result.offset) if node.log.opened else None
            self._entries[result.offset] = entry.identity if entry is not None else None
        if node.spoiled or node.lost is not None or node.disks != disks:
            return
        if node.log.opened and result.offset >= node.log.start.offset:
            held = node.log.value_at(result.offset)
            if held != operation.value:
                raise self.violated(
                    f"{operation.value!r} was acknowledged at offset {result.offset} of {node.node_id}, "
                    f"which holds {held!r}",
                    operation.value,
                )

    def _on_log_changed(self, node: NodeModel) -> None:
        model = self.model
        values = self._values.get(self._log_of(node))
        if not model.gone or not values:
            return
        if model.is_retention:
            first = min(log.start.offset for log in self._copies_of(node))
            while values and (oldest := next(iter(values))) < first:
                del values[oldest]
            return
        if node.spoiled:
            return
        floor = max(log.start.offset for log in self._copies_of(node))
        still_here = {entry.identity for entry in model.fresh}
        for entry in model.dropped:
            if (entry.end_offset <= floor and node.is_elected) or entry.identity in still_here:
                continue
            for at, value in enumerate(entry.values):
                offset = Offset(entry.base_offset + at)
                if offset in self._entries and self._entries[offset] != entry.identity:
                    continue
                if values.get(offset) == value:
                    raise self.violated(
                        f"{node.node_id} lost {value!r}, acknowledged at offset {entry.base_offset + at} ({entry})",
                        value,
                    )

    def at_end(self) -> None:
        for log, values in self._values.items():
            nodes = [node for node in self.model.nodes.values() if self._log_of(node) == log and node.log.opened]
            for offset, value in values.items():
                holders = [node for node in nodes if node.log.value_at(offset) == value]
                was_removed = any(offset < node.log.start.offset for node in nodes)
                is_excused = any(node.spoiled for node in nodes) and not nodes[0].is_elected
                if nodes and not holders and not was_removed and not is_excused:
                    raise self.violated(f"{value!r}, acknowledged at offset {offset}, is in no log in the end", value)


def _is_kept(node: NodeModel, acks: str) -> bool:
    """A single disk's word is enough where leadership cannot go to another one."""
    return acks != "leader" or not node.is_lead_passed_on
