"""Linearizable produce and consume, while the run goes on and with bounded memory.

`ourolog.simulation.linearizability` says why offsets make this easy. Here calls come in the order in which
they return, so each record needs one comparison: between the number of records that were known to be in the
log when its produce began, and the offset that it got.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ourolog.actors.messages.events import LeaderChanged
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import (
    ClientInvoked,
    ClientReturned,
    FaultInjected,
    MessageTold,
    NodeStarted,
    OperationKind,
    OperationResult,
    Outcome,
)
from ourolog.simulation.history import Call
from ourolog.simulation.linearizability import check
from ourolog.storage.types import NodeId, Offset, Term

_MAX_REMEMBERED = 10_000
_MAX_CALLS = 5_000


@dataclass(slots=True)
class _Log:
    """What clients know of one log.

    length: how many records some client has proof of.
    acknowledged: how many of these were to be on more disks than their leader's.
    calls: all calls, while they are few.
    """

    length: int = 0
    acknowledged: int = 0
    values: OrderedDict[Offset, bytes] = field(default_factory=OrderedDict)
    offsets: OrderedDict[bytes, Offset] = field(default_factory=OrderedDict)
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """An invocation that has not returned.

    length: how many records were known when it began.
    readable: how many of them the node that was asked had acknowledged itself, in its present life and on its
        present disk.
    life, disks: how often that node had been started, and how many disks it had lost.
    leads: whether that node was the newest leader there was.
    acknowledged: how many records were known then to be on more disks than one.
    """

    at: int
    event: ClientInvoked
    length: int
    readable: int
    life: int
    disks: int
    leads: bool
    acknowledged: int


class Linearizable(EventChecker):
    """Checks each call as it returns, and at the end the whole history if it is short.

    With a leader all nodes are one log. A follower may be behind in it, so the end that it reports
    proves nothing. The end that the newest leader reports does, whichever run or leader
    acknowledged what is there. With nobody elected each node is a log of its own, which other nodes'
    records join.
    """

    name: ClassVar[str] = "linearizable"
    statement: ClassVar[str] = (
        "Produces and consumes are linearizable: the order of offsets never contradicts real time, a record has one "
        "offset and an offset one record, nothing is read that was not written, and what was acknowledged by a node "
        "(with more than its own disk, if somebody leads) can be read from it at once."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            ClientInvoked: self._on_invoked,
            ClientReturned: self._on_returned,
            FaultInjected: self._on_fault,
            NodeStarted: self._on_started,
        }
        self.on_told = {LeaderChanged: self._on_leader_changed}
        self._newest_term = Term(0)
        self._leading: dict[NodeId, Term] = {}
        self._at = 0
        self._logs: dict[NodeId, _Log] = {}
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._floors: OrderedDict[bytes, tuple[NodeId, int]] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._readable: dict[tuple[NodeId, int], int] = {}
        # An application may append the same bytes again, and then they do not identify one record.
        self._repeated: set[bytes] = set()
        self._has_forgotten = False
        # Of batches that a producer numbered: their first attempts, and which of them have an answer.
        self._first: dict[bytes, _Open] = {}
        self._done: set[bytes] = set()

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "server":
            self._newest_term = max(self._newest_term, changed.term)
            # What others say is not enough: it may have been started again since, and lead no more.
            self._leading.pop(node_id, None)
            if changed.leader_id == node_id:
                self._leading[node_id] = changed.term

    def _on_started(self, event: NodeStarted) -> None:
        self._leading.pop(event.node_id, None)

    def _is_newest_leader(self, node_id: NodeId) -> bool:
        return self._leading.get(node_id) == self._newest_term

    def _on_fault(self, event: FaultInjected) -> None:
        """With nobody elected, a node with a new disk has a new log, whose offsets begin again."""
        node_id = NodeId(event.where)
        if event.kind == "disk_lost" and self._log_id(node_id):
            self._logs.pop(node_id, None)
            for value in [value for value, (asked, _) in self._floors.items() if asked == node_id]:
                self._floors[value] = (node_id, 0)

    # ------------------------------------------------------------ calls begin

    def _on_invoked(self, event: ClientInvoked) -> None:
        self._at += 1
        node = self.model.nodes.get(event.node_id)
        log_id = self._log_id(event.node_id)
        length = self._logs[log_id].length if log_id in self._logs else 0
        life = node.life if node is not None else 0
        readable = self._readable.get((event.node_id, life), 0)
        self._open[event.operation_id] = _Open(
            self._at,
            event,
            length,
            readable,
            life,
            node.disks if node is not None else 0,
            self._is_newest_leader(event.node_id),
            self._logs[log_id].acknowledged if log_id in self._logs else 0,
        )
        if event.operation.kind is OperationKind.PRODUCE:
            value = event.operation.value
            self._refused.pop(value, None)
            if event.operation.producer_id and value in self._first:
                return  # another attempt to send the same batch: all of them are one call
            if event.operation.producer_id:
                self._first[value] = self._open[event.operation_id]
                self._floors[value] = (event.node_id, length)
            elif value in self._floors:
                self._repeated.add(value)
            else:
                self._floors[value] = (event.node_id, length)
            self._bound(self._floors)
        self._bound(self._open)

    def _bound(self, remembered: OrderedDict[Any, Any]) -> None:
        if len(remembered) > _MAX_REMEMBERED:
            remembered.popitem(last=False)
            self._has_forgotten = True

    def _log_id(self, node_id: NodeId) -> NodeId:
        node = self.model.nodes.get(node_id)
        return NodeId("") if node is not None and node.is_elected else node_id

    # ------------------------------------------------------------ calls end

    def _on_returned(self, event: ClientReturned) -> None:
        self._at += 1
        began = self._open.pop(event.operation_id, None)
        node = self.model.nodes.get(event.node_id)
        if began is None or node is None:
            return
        if not node.is_elected and (node.spoiled or node.disks != began.disks):
            return  # its log has begun anew, with other records at the same offsets
        log = self._logs.setdefault(self._log_id(event.node_id), _Log())
        result = event.result
        if event.operation.kind is OperationKind.REGISTER:
            return
        if event.operation.producer_id:
            self._on_numbered_returned(node, log, began, event)
            return
        if event.operation.kind is OperationKind.PRODUCE:
            if result.outcome is Outcome.REFUSED and event.operation.value in self._repeated:
                return
            if result.outcome is Outcome.REFUSED:
                self._refused[event.operation.value] = None
                self._floors.pop(event.operation.value, None)
                self._bound(self._refused)
                return
            if result.outcome is Outcome.OK and event.operation.acks == "leader" and node.is_lead_passed_on:
                # The next leader may overwrite its one copy, as if nobody knew what became of it.
                result = OperationResult(Outcome.UNKNOWN)
                event = replace(event, result=result)
            if result.outcome is Outcome.OK:
                self._pair(node, log, event, result.offset, event.operation.value)
                self._promise_readable(node, began, event)
                if event.operation.acks != "leader":
                    log.acknowledged = max(log.acknowledged, result.offset + 1)
        elif result.outcome is Outcome.OK:
            self._pair(node, log, event, result.offset, result.value)
            log.acknowledged = max(log.acknowledged, result.offset + 1)
        elif result.end_offset is not None:
            self._check_end(node, began, event)
            return
        self._record(log, began, event)

    def _on_numbered_returned(self, node: NodeModel, log: _Log, began: _Open, event: ClientReturned) -> None:
        """Note an attempt to send a numbered batch: the call began with the first, and ends with the first answer."""
        if event.result.outcome is not Outcome.OK:
            return
        value = event.operation.value
        self._pair(node, log, event, event.result.offset, value)
        self._promise_readable(node, began, event)
        log.acknowledged = max(log.acknowledged, event.result.offset + 1)
        first = self._first.get(value)
        if first is not None and value not in self._done:
            self._done.add(value)
            self._record(log, first, event)

    def _pair(self, node: NodeModel, log: _Log, event: ClientReturned, offset: Offset, value: bytes) -> None:
        """Note that some client knows that `value` is at `offset`."""
        what = f"{event.client}'s {event.operation.kind} {event.operation_id} on {event.node_id}"
        known = log.values.get(offset)
        if known is not None and known != value:
            detail = f"{what} shows {value!r} at offset {offset}, where {known!r} was seen before"
            raise self.violated(detail, value, known)
        if not node.is_cycle_allowed and value not in self._repeated:
            elsewhere = log.offsets.get(value)
            if elsewhere is not None and elsewhere != offset:
                detail = f"{what} shows {value!r} at offset {offset}; it was at offset {elsewhere} before"
                raise self.violated(detail, value)
        if known is None:
            self._check_floor(node, what, offset, value)
            log.values[offset] = value
            log.offsets[value] = offset
            self._bound(log.values)
            self._bound(log.offsets)
        log.length = max(log.length, offset + 1)

    def _check_floor(self, node: NodeModel, what: str, offset: Offset, value: bytes) -> None:
        floor = self._floors.get(value)
        if floor is None:
            if value in self._refused:
                raise self.violated(f"{what} shows {value!r} at offset {offset}, although that was refused", value)
            if not self._has_forgotten:
                raise self.violated(f"{what} shows {value!r} at offset {offset}, which nobody ever wrote", value)
            return
        asked, length = floor
        is_the_same_log = node.is_elected or (asked == node.node_id and value not in self._repeated)
        if is_the_same_log and offset < length:
            raise self.violated(
                f"{what} shows {value!r} at offset {offset}, and when it was sent, offset {length - 1} was known "
                "to be there",
                value,
            )

    # ------------------------------------------------------------ the end of the log

    def _promise_readable(self, node: NodeModel, began: _Open, event: ClientReturned) -> None:
        """Note that this node, as long as it runs, answers reads of that record from now on."""
        if node.life != began.life or (node.is_elected and event.operation.acks == "leader"):
            return
        key = node.node_id, node.life
        self._readable[key] = max(self._readable.get(key, 0), event.result.offset + 1)

    def _check_end(self, node: NodeModel, began: _Open, event: ClientReturned) -> None:
        end = event.result.end_offset
        assert end is not None
        if node.life == began.life and end < began.readable:
            raise self.violated(
                f"{event.client} was told by {node.node_id} that its log ends at {end}, after that node had "
                f"acknowledged offset {began.readable - 1}"
            )
        # A leader has what others acknowledged before it, and what it acknowledged in an earlier life.
        is_whole = node.syncs_always and not node.spoiled
        is_newest = began.leads and self._is_newest_leader(node.node_id) and node.life == began.life
        if node.is_elected and is_whole and is_newest and end < began.acknowledged:
            raise self.violated(
                f"{event.client} was told by the leader {node.node_id} that the log ends at {end}, after offset "
                f"{began.acknowledged - 1} had been acknowledged"
            )

    # ------------------------------------------------------------ the whole history

    def _record(self, log: _Log, began: _Open, event: ClientReturned) -> None:
        if len(log.calls) <= _MAX_CALLS:
            log.calls.append(Call(event.operation_id, event.node_id, event.operation, began.at, self._at, event.result))

    def at_end(self) -> None:
        log = self._logs.get(NodeId(""))
        if log is None or len(log.calls) > _MAX_CALLS or self._has_forgotten or self._repeated:
            return
        plain = [began for began in self._open.values() if not began.event.operation.producer_id]
        numbered = [first for value, first in self._first.items() if value not in self._done]
        open_calls = (
            Call(began.event.operation_id, began.event.node_id, began.event.operation, began.at)
            for began in (*plain, *numbered)
            if began.event.operation.kind is not OperationKind.REGISTER
        )
        violation = check([*log.calls, *open_calls])
        if violation is not None:
            raise self.violated(violation.detail, *violation.records)
