"""An observer of the event stream that keeps what a report needs, in bounded memory."""

from __future__ import annotations

from collections import deque
from heapq import merge
from typing import Final, TypeVar, assert_never

from ourolog.actors.config import Cycle
from ourolog.actors.message_names import message_name
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import CycleSeen, NodeFailed, NodeReady, NodeWarned, PullStarted, PullStopped
from ourolog.simulation.events import (
    DATAGRAM,
    ClientInvoked,
    ClientReturned,
    ClusterRecovered,
    DiskRestored,
    Event,
    FaultInjected,
    FileAppended,
    FileRemoved,
    FileReplaced,
    FileRewritten,
    FileSynced,
    FileTruncated,
    LeaderDecided,
    MessageHandled,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    PacketDelivered,
    PacketLost,
    PacketSent,
    PartitionHealed,
    PartitionMade,
    PhaseBegan,
)
from ourolog.simulation.report.copies import copies_in
from ourolog.simulation.report.leads import LeadRecorder
from ourolog.simulation.report.rows import LANDMARKS, Copy, NodeChange, Row, RowKind, Window
from ourolog.simulation.report.summary import GOSSIP_MESSAGES, describe, describe_operation, describe_result
from ourolog.storage.types import NodeId

K = TypeVar("K")
V = TypeVar("V")

_OPEN_MOST: Final = 20_000
_SENT_BY_ACTORS = frozenset({RowKind.PACKET, RowKind.GOSSIP, RowKind.DISK})
_NOTES = (CycleSeen, LeaderChanged, NodeFailed, NodeReady, NodeWarned, PullStarted, PullStopped)


class Recorder:
    """Keeps the last `limit` rows of traffic, as many of gossip, and the last `limit` landmarks.

    Landmarks are crashes, faults, partitions and the like; copies of records are bounded the same
    way. Nothing of a message is kept but its description, once it has been handled.

    A row's cause is found as the stream goes by: whatever a node does between two handled messages
    was caused by the second one. What a port or a client tells first after a packet arrived, or an
    operation was invoked, was caused by that.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self.now_s = 0.0
        self.produced = 0
        self.stored = 0
        self._multiplies = False
        self._steps = 0
        self._ids = 0
        self._kept = 0
        self._traffic: deque[Row] = deque(maxlen=limit)
        self._gossip: deque[Row] = deque(maxlen=limit)
        self._landmarks: deque[Row] = deque(maxlen=limit)
        self._copies: deque[Copy] = deque(maxlen=limit)
        self._nodes: dict[NodeId, None] = {}
        self._pulls: dict[tuple[NodeId, NodeId], None] = {}
        self._clients: dict[str, None] = {}
        self._untold: dict[tuple[str, int], tuple[Row, object]] = {}
        self._packets: dict[int, Row] = {}
        self._operations: dict[int, Row] = {}
        self._doing: list[tuple[Row, str]] = []
        self._answering: list[tuple[Row, str]] = []
        self._arrived: Row | None = None
        self._leads = LeadRecorder(limit)

    def see(self, event: Event) -> None:
        """Called for every event, in order."""
        self._steps += 1
        self.now_s = event.time_s
        self._leads.see(event)
        match event:
            case MessageTold():
                self._told(event)
            case MessageHandled():
                self._handled(event)
            case PacketSent() | PacketDelivered() | PacketLost():
                self._packet(event)
            case FileAppended() | FileRewritten() | FileSynced() | FileTruncated() | FileReplaced() | FileRemoved():
                self._disk(event)
            case ClientInvoked() | ClientReturned():
                self._client(event)
            case NodeStarted() | NodeStopped() | NodeCrashed() | NodePaused() | NodeResumed():
                self._node(event)
            case NodeSaid():
                if isinstance(event.event, PullStarted):
                    self._pulls[event.event.source_id, event.node_id] = None
                if isinstance(event.event, _NOTES):
                    name = type(event.event).__name__
                    self._by(event.node_id, self._add(RowKind.NOTE, event.node_id, name, describe(event.event)))
            case FaultInjected():
                node = event.where.partition(">")[0]
                self._by(
                    node,
                    self._add(RowKind.FAULT, node, event.kind, f"{event.where} {event.detail or event.packet}".strip()),
                )
            case DiskRestored():
                self._by(event.node_id, self._add(RowKind.NOTE, event.node_id, "disk restored", f"after {event.kind}"))
            case ClusterRecovered():
                what = f"generation {event.generation}, from term {event.term} on"
                self._by(event.node_id, self._add(RowKind.NOTE, event.node_id, "cluster recovered", what))
            case PartitionMade():
                links = ", ".join(f"{a}→{b}" for a, b in event.blocked)
                self._add(RowKind.NETWORK, "", f"partition: {event.shape}", links)
            case PartitionHealed():
                self._add(RowKind.NETWORK, "", "healed")
            case LeaderDecided():
                voters = f"of {', '.join(event.voters)}, in term {event.term}"
                self._by(event.leader_id, self._add(RowKind.NOTE, event.leader_id, "leader decided", voters))
            case PhaseBegan():
                self._add(RowKind.PHASE, "", str(event.phase), f"core {', '.join(event.core)}" if event.core else "")
            case _:
                assert_never(event)

    __call__ = see

    def window(self) -> Window:
        """What there is to show now."""
        rows = list(merge(self._traffic, self._gossip, self._landmarks, key=lambda row: row.row_id))
        window = Window(
            rows=rows,
            copies=list(self._copies),
            dropped=self._kept - len(rows),
            nodes=list(self._nodes),
            clients=list(self._clients),
            end_s=self.now_s,
            produced=self.produced,
            stored=self.stored,
            multiplies=self._multiplies,
            pulls=sorted(self._pulls),
        )
        self._leads.fill(window)
        return window

    # ------------------------------------------------------------ one event each

    def _told(self, event: MessageTold) -> None:
        name = message_name(event.message)
        if name in GOSSIP_MESSAGES:
            kind = RowKind.GOSSIP
        elif event.by_timer:
            kind = RowKind.TIMER
        else:
            kind = RowKind.MESSAGE
        is_handled_later = "." in event.receiver  # what is told to a whole node is an answer, on its way as a packet
        target = event.receiver if is_handled_later else ""
        row = self._add(kind, event.sender, name, describe(event.message), target=target)
        if event.sender:
            self._doing.append((row, event.sender))
        elif self._arrived is not None:
            row.cause = self._arrived.row_id
            if _node_of(event.receiver) == self._arrived.target:
                self._arrived.target = event.receiver
        self._arrived = None
        if is_handled_later:
            _remember(self._untold, (event.receiver, id(event.message)), (row, event.message))

    def _handled(self, event: MessageHandled) -> None:
        told = self._untold.pop((event.receiver, id(event.message)), None)
        node = _node_of(event.receiver)
        doing, self._doing = self._doing, []
        answering, self._answering = self._answering, []
        self._arrived = None
        if told is None:
            return
        row = told[0]
        row.end_s, row.end_step = event.time_s, self._steps
        for done, by in doing:
            if done is row or by not in (event.receiver, node):
                continue
            done.cause = done.cause or row.row_id
            if done.kind in _SENT_BY_ACTORS and done.source == node:
                done.source = event.receiver
        for done, by in answering:
            if by == node:
                done.end_cause = row.row_id

    def _packet(self, event: PacketSent | PacketDelivered | PacketLost) -> None:
        row = self._packets.get(event.packet_id)
        match event:
            case PacketSent():
                kind = RowKind.GOSSIP if _is_gossip(event.what) else RowKind.PACKET
                row = self._add(kind, event.source, event.what, target=event.target)
                if self._arrived is not None and self._arrived.source == event.source:
                    row.cause = self._arrived.row_id
                self._by(event.source, row)
                _remember(self._packets, event.packet_id, row)
                return
            case PacketDelivered():
                if row is None or row.end_s is not None:
                    kind = RowKind.GOSSIP if _is_gossip(event.what) else RowKind.PACKET
                    again = self._add(kind, event.source, event.what, "delivered once more", target=event.target)
                    if row is not None:
                        again.start_s, again.step, again.cause = row.start_s, row.step, row.cause
                    row = again
                self._arrived = row
            case PacketLost():
                if row is None or row.end_s is not None:
                    return
                row.is_lost, row.end_detail = True, str(event.cause)
            case _:
                assert_never(event)
        row.end_s, row.end_step = event.time_s, self._steps

    def _disk(
        self, event: FileAppended | FileRewritten | FileSynced | FileTruncated | FileReplaced | FileRemoved
    ) -> None:
        node, lane = event.node_id, f"{event.node_id}.disk"
        match event:
            case FileAppended():
                row = self._instant(
                    RowKind.DISK, node, "write", f"{event.path} +{len(event.data)} B at {event.position}", target=lane
                )
                for copy in copies_in(event, self._steps, row.row_id):
                    self._copies.append(copy)
                    self.stored += copy.count
                    self.produced += copy.count if copy.is_original else 0
            case FileRewritten():
                row = self._instant(
                    RowKind.DISK,
                    node,
                    "write again",
                    f"{event.path}, {len(event.data)} B at {event.position}",
                    target=lane,
                )
            case FileSynced():
                row = self._instant(RowKind.DISK, node, "sync", f"{event.path} durable to {event.size}", target=lane)
            case FileTruncated():
                row = self._instant(RowKind.DISK, node, "truncate", f"{event.path} to {event.size}", target=lane)
            case FileReplaced():
                row = self._instant(RowKind.DISK, node, "replace", f"{event.path}, {len(event.content)} B", target=lane)
            case FileRemoved():
                row = self._instant(RowKind.DISK, node, "remove", event.path, target=lane)
            case _:
                assert_never(event)
        self._by(event.node_id, row)

    def _client(self, event: ClientInvoked | ClientReturned) -> None:
        self._clients.setdefault(event.client)
        match event:
            case ClientInvoked():
                row = self._add(
                    RowKind.CLIENT,
                    event.client,
                    event.operation.kind.value,
                    describe_operation(event.operation),
                    target=event.node_id,
                )
                row.record = event.operation.value
                _remember(self._operations, event.operation_id, row)
                self._arrived = row
            case ClientReturned():
                row_or_none = self._operations.pop(event.operation_id, None)
                if row_or_none is None:
                    return
                row = row_or_none
                row.end_s, row.end_step = event.time_s, self._steps
                row.end_detail = describe_result(event.operation, event.result)
                row.outcome = event.result.outcome
                row.record = row.record or event.result.value
                if self._arrived is not None:
                    row.end_cause = self._arrived.row_id
                else:
                    self._answering.append((row, event.node_id))
            case _:
                assert_never(event)

    def _node(self, event: NodeStarted | NodeStopped | NodeCrashed | NodePaused | NodeResumed) -> None:
        match event:
            case NodeStarted():
                label = NodeChange.RESTARTED if event.node_id in self._nodes else NodeChange.STARTED
                self._nodes.setdefault(event.node_id)
                if event.config.cycle is Cycle.ALLOW and not event.config.election.elects:
                    self._multiplies = True
                detail = f"election {event.config.election}, cycle {event.config.cycle}"
            case NodeStopped():
                label, detail = NodeChange.STOPPED, ""
            case NodeCrashed():
                self._doing, self._answering = [], []
                label, detail = (
                    NodeChange.CRASHED,
                    "power lost" if event.power_lost else "process ended, disk as it was",
                )
            case NodePaused():
                label, detail = NodeChange.PAUSED, ""
            case NodeResumed():
                label, detail = NodeChange.RESUMED, ""
            case _:
                assert_never(event)
        self._add(RowKind.NODE, event.node_id, label, detail)

    # ------------------------------------------------------------ rows

    def _add(self, kind: RowKind, source: str, label: str, detail: str = "", *, target: str = "") -> Row:
        self._ids += 1
        self._kept += 1
        row = Row(self._ids, kind, self.now_s, self._steps, source, target, label, detail)
        if kind in LANDMARKS:
            self._landmarks.append(row)
        elif kind is RowKind.GOSSIP:
            self._gossip.append(row)
        else:
            self._traffic.append(row)
        if not target:
            row.end_s, row.end_step = row.start_s, row.step
        return row

    def _instant(self, kind: RowKind, source: str, label: str, detail: str, *, target: str) -> Row:
        row = self._add(kind, source, label, detail, target=target)
        row.end_s, row.end_step = row.start_s, row.step
        return row

    def _by(self, who: str, row: Row) -> None:
        """Note that the node, or actor, did this while handling a message."""
        self._doing.append((row, who))


def _remember(open_ones: dict[K, V], key: K, value: V) -> None:
    """Keep a bounded number of messages: those to dead actors are never handled, so the oldest are dropped."""
    open_ones[key] = value
    while len(open_ones) > _OPEN_MOST:
        del open_ones[next(iter(open_ones))]


def _node_of(actor: str) -> str:
    return actor.rpartition(".")[0] or actor


def _is_gossip(what: str) -> bool:
    return what == DATAGRAM
