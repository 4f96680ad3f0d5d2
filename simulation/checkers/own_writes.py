"""Reads of clients that say what they have seen."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.server import CancelRequest, Consume, Refusal, RequestRefused
from ourolog.actors.messages.store import ReadBatches
from ourolog.actors.messages.values import ReadLevel
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CLOCKS_DIFFER
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.checkers.waiting import SOON_S
from ourolog.simulation.events import (
    ClientReturned,
    MessageTold,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    OperationKind,
)
from ourolog.storage.types import NodeId, Offset

_OUT_OF_RANGE: Final = Refusal.OUT_OF_RANGE.value


@dataclass(slots=True)
class _Waiting:
    """A read that a server was told of and has neither handed to its store nor refused.

    seen_end: what its client says that it has seen.
    asked_s: when it was told.
    within_s: how long its client waits, by the node's clock.
    due_s: when it must be answered, since so much is committed; inf before that.
    is_patient: whether it waits at the end of the log, for longer than its time.
    """

    seen_end: Offset
    asked_s: float
    within_s: float
    due_s: float = inf
    is_patient: bool = False


class ReadYourWrites(EventChecker):
    """Compares what a client says that it has seen with what the node that answers it has committed."""

    name: ClassVar[str] = "read_your_writes"
    statement: ClassVar[str] = (
        "Where somebody is elected, a node that has committed less than a client has seen reads nothing for it and "
        f"claims no end of the log. It answers within {SOON_S:g} s once it has as much, and when the client's time is "
        "up it says that it is behind."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            ClientReturned: self._on_returned,
            NodeStarted: self._forget,
            NodeStopped: self._forget,
            NodeCrashed: self._forget,
            NodeSaid: self._on_said,
        }
        self.on_told = {
            Consume: self._on_consume,
            ReadBatches: self._on_read,
            RequestRefused: self._on_refused,
            CancelRequest: self._on_cancel,
            CommitAdvanced: self._on_committed,
            ProbeDue: self._look,
        }
        self._waiting: dict[NodeId, OrderedDict[int, _Waiting]] = {}

    def _forget(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._drop_all(event.node_id)

    def _on_said(self, event: NodeSaid) -> None:
        if isinstance(event.event, NodeFailed):
            self._drop_all(event.node_id)

    def _drop_all(self, node_id: NodeId) -> None:
        self._waiting.pop(node_id, None)

    # ------------------------------------------------------------ what is read

    def _on_consume(self, told: MessageTold) -> None:
        consume, node = told.message, self.model.receiver_of(told)
        assert isinstance(consume, Consume)
        # When a read of the latest state is confirmed, nothing that is told to a client says.
        if consume.seen_end and consume.read is ReadLevel.COMMITTED and node is not None and node.is_elected:
            within_s = consume.timeout_s * CLOCKS_DIFFER
            waiting = _Waiting(consume.seen_end, told.time_s, within_s, is_patient=consume.wait)
            if node.committed.offset >= consume.seen_end:
                waiting.due_s = told.time_s + SOON_S
            self._waiting.setdefault(node.node_id, OrderedDict())[consume.request_id] = waiting

    def _on_read(self, told: MessageTold) -> None:
        """The server hands a read to its store."""
        read, node = told.message, self.model.sender_of(told)
        assert isinstance(read, ReadBatches)
        if node is None or self.model.place(told.sender)[1] != "server":
            return
        waiting = self._waiting.get(node.node_id, OrderedDict()).pop(read.request_id, None)
        if waiting is not None and node.committed.offset < waiting.seen_end:
            raise self.violated(
                f"{node.node_id} reads for a client that has seen all below {waiting.seen_end}, and has committed what "
                f"is below {node.committed.offset}"
            )

    def _on_refused(self, told: MessageTold) -> None:
        refused, node = told.message, self.model.sender_of(told)
        assert isinstance(refused, RequestRefused)
        if node is None:
            return
        waiting = self._waiting.get(node.node_id, OrderedDict()).pop(refused.request_id, None)
        if waiting is None:
            return
        if refused.refusal is Refusal.OUT_OF_RANGE and refused.end < waiting.seen_end:
            raise self.violated(
                f"{node.node_id} says that its log ends at {refused.end} to a client that has seen all below "
                f"{waiting.seen_end}"
            )
        clear_s = self.model.hindrances.node_clear_s(node.node_id) + SOON_S
        if refused.refusal is Refusal.BEHIND and self.time_s > max(waiting.due_s, clear_s):
            raise self.violated(
                f"{node.node_id} says that it is behind a client that has seen all below {waiting.seen_end}, and has "
                f"committed what is below {node.committed.offset} since {waiting.due_s - SOON_S:.3f} s"
            )

    def _on_cancel(self, told: MessageTold) -> None:
        cancel = told.message
        assert isinstance(cancel, CancelRequest)
        self._waiting.get(self.model.place(told.receiver)[0], OrderedDict()).pop(cancel.request_id, None)

    def _on_returned(self, event: ClientReturned) -> None:
        operation, result = event.operation, event.result
        node = self.model.nodes.get(event.node_id)
        if operation.kind is not OperationKind.CONSUME or node is None or not node.is_elected:
            return
        if result.detail == _OUT_OF_RANGE and result.end_offset is not None and result.end_offset < operation.seen_end:
            raise self.violated(
                f"{event.client} has seen all below {operation.seen_end}, and {event.node_id} told it that the log "
                f"ends at {result.end_offset}"
            )

    # ------------------------------------------------------------ how long it takes

    def _on_committed(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or self.model.place(told.receiver)[1] != "server":
            return
        for waiting in self._waiting.get(node.node_id, OrderedDict()).values():
            if waiting.due_s == inf and node.committed.offset >= waiting.seen_end:
                waiting.due_s = told.time_s + SOON_S

    def _look(self, _: MessageTold) -> None:
        for node_id, by_request in self._waiting.items():
            clear_s = self.model.hindrances.node_clear_s(node_id)
            for request_id, waiting in by_request.items():
                if waiting.is_patient and waiting.due_s < inf:
                    continue  # it waits at the end of the log now, for as long as it takes
                until_s = max(waiting.asked_s, clear_s) + waiting.within_s
                over_s = min(max(waiting.due_s, clear_s + SOON_S), until_s + SOON_S)
                if self.time_s > over_s:
                    raise self.violated(
                        f"{node_id} has not answered read {request_id} of a client that has seen all below "
                        f"{waiting.seen_end}, which was due at {over_s:.3f} s"
                    )
