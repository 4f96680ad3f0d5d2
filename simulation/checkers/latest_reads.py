"""Reads of the latest state see everything that was committed anywhere before they began."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, ReadIndexRequest, ReadIndexResponse
from ourolog.actors.messages.replicator import ConfirmRead, ReadConfirmed
from ourolog.actors.messages.server import Refusal
from ourolog.actors.messages.store import ReadProblem
from ourolog.actors.messages.values import ReadLevel
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import ClientInvoked, ClientReturned, MessageTold, OperationKind, Outcome
from ourolog.storage.types import Index, NodeId

_MAX_OPEN: Final = 10_000
_OUT_OF_RANGE: Final = frozenset({Refusal.OUT_OF_RANGE.value, ReadProblem.OUT_OF_RANGE.value})


@dataclass(frozen=True, slots=True)
class _Bound:
    """An end below which all was committed, and who knew that first: what a later read must not be told less than."""

    end: int
    known_by: str


class LatestReadsLinearizable(EventChecker):
    """Compares what each read of the latest state is told with what was known to be committed when it began.

    That is known once a server has been told, which it is before it acknowledges anything, and once a reader has been
    told. Clients see offsets; between the actors, where a read is confirmed, it is the index that is compared: a new
    leader's first commit is of no record. That a read gets a record which nobody had written is for `linearizable`
    to find.
    """

    name: ClassVar[str] = "latest_reads_linearizable"
    statement: ClassVar[str] = (
        "A read of the latest state, on whichever node, misses nothing that any node knew to be committed before it "
        "began, nothing that any client had read or was acknowledged by a quorum, and no end that an earlier one saw."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {ClientInvoked: self._on_invoked, ClientReturned: self._on_returned}
        self.on_told = {
            CommitAdvanced: self._on_committed,
            ConfirmRead: lambda told: self._begin(told, "server"),
            CallReceived: self._on_call,
            ReadConfirmed: self._on_confirmed,
            CallAnswer: self._on_answer,
        }
        self._known = _Bound(0, "nobody")
        self._known_index = _Bound(0, "nobody")
        self._open: OrderedDict[int, _Bound] = OrderedDict()
        self._unconfirmed: OrderedDict[tuple[NodeId, str, int], _Bound] = OrderedDict()

    def _learn(self, end: int, known_by: str) -> None:
        if end > self._known.end:
            self._known = _Bound(end, known_by)

    def _on_committed(self, told: MessageTold) -> None:
        advanced = told.message
        assert isinstance(advanced, CommitAdvanced)
        self._learn(advanced.committed.offset, f"{told.receiver} was told so")
        if advanced.committed.index > self._known_index.end:
            self._known_index = _Bound(advanced.committed.index, told.receiver)

    # ------------------------------------------------------------ between the actors

    def _begin(self, told: MessageTold, asked_by: str) -> None:
        key = self.model.place(told.receiver)[0], asked_by, told.message.request_id  # type: ignore[attr-defined]
        self._unconfirmed[key] = self._known_index
        if len(self._unconfirmed) > _MAX_OPEN:
            self._unconfirmed.popitem(last=False)

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        if isinstance(received.request, ReadIndexRequest):
            self._begin(told, "call")

    def _on_confirmed(self, told: MessageTold) -> None:
        confirmed = told.message
        assert isinstance(confirmed, ReadConfirmed)
        self._compare(told, "server", confirmed.request_id, confirmed.committed.index)

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        response = answer.response
        if isinstance(response, ReadIndexResponse) and response.committed is not None:
            self._compare(told, "call", answer.request_id, response.committed)

    def _compare(self, told: MessageTold, asked_by: str, request_id: int, index: Index) -> None:
        bound = self._unconfirmed.pop((self.model.place(told.sender)[0], asked_by, request_id), None)
        if bound is not None and index < bound.end:
            raise self.violated(
                f"{told.sender} confirmed a read at index {index}, and when it was asked, {bound.known_by} had been "
                f"told that all below {bound.end} is committed"
            )

    # ------------------------------------------------------------ clients

    def _on_invoked(self, event: ClientInvoked) -> None:
        if event.operation.read is ReadLevel.LATEST and self._is_led(event.node_id):
            self._open[event.operation_id] = self._known
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)

    def _on_returned(self, event: ClientReturned) -> None:
        operation, result = event.operation, event.result
        bound = self._open.pop(event.operation_id, None)
        if not self._is_led(event.node_id):
            return
        if operation.kind is OperationKind.PRODUCE:
            if result.outcome is Outcome.OK and operation.acks in ("quorum", "all"):
                self._learn(result.offset + 1, f"{event.client} was acknowledged the last of them")
        elif operation.kind is OperationKind.REGISTER:
            pass
        elif result.outcome is Outcome.OK:
            self._learn(result.offset + 1, f"{event.client} had read the last of them")
        elif result.end_offset is not None and result.detail in _OUT_OF_RANGE:
            if bound is not None and result.end_offset < bound.end:
                raise self.violated(
                    f"{event.client} asked {event.node_id} for the latest state and was told that the log ends at "
                    f"{result.end_offset}; before it asked, all below {bound.end} was committed: {bound.known_by}"
                )
            self._learn(result.end_offset, f"{event.client} was told that the log ends there")

    def _is_led(self, node_id: NodeId) -> bool:
        node = self.model.nodes.get(node_id)
        return node is not None and node.is_elected
