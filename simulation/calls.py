"""The requests of clients, as calls over the simulated network, each recorded when it begins and ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import (
    CONFIRMS_WITHIN_S,
    CancelRequest,
    Consume,
    Produce,
    Produced,
    Refusal,
    RegisterProducer,
    RequestRefused,
)
from ourolog.actors.messages.store import BatchesRead, ReadProblem, ReadRefused
from ourolog.actors.messages.values import Acks
from ourolog.actors.node import Node
from ourolog.simulation.events import (
    ClientInvoked,
    ClientReturned,
    Event,
    Operation,
    OperationKind,
    OperationResult,
    Outcome,
)
from ourolog.simulation.network import Call, Network
from ourolog.simulation.records import records_in
from ourolog.storage.batch import NewBatch, path_of
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import NodeId, Offset

CALL_MARGIN_S = 1.0
"""How much longer than the server a client waits before it considers the connection dead."""

READ_BYTES = 64 * 1024

Returned = Callable[[OperationResult, NodeId | None], None]
"""Called with the result, and with the leader as far as the refusing node knows."""


class _ProduceCallee:
    def receive(self, node: Node, call: Call, reply_to: Mailbox[Produced | RequestRefused]) -> None:
        operation, timeout_s = call.request
        batch = NewBatch(
            encode_record(operation.value),
            1,
            producer_id=operation.producer_id,
            producer_sequence=operation.sequence,
        )
        node.server.tell(Produce(call.call_id, batch, _ACKS[operation.acks], timeout_s, reply_to))

    def cancel(self, node: Node, call: Call) -> None:
        assert call.reply_to is not None
        node.server.tell(CancelRequest(call.call_id, call.reply_to))


class _RegisterCallee(_ProduceCallee):
    def receive(self, node: Node, call: Call, reply_to: Mailbox[Produced | RequestRefused]) -> None:
        _, timeout_s = call.request
        node.server.tell(RegisterProducer(call.call_id, timeout_s, reply_to))


class _ConsumeCallee:
    def receive(self, node: Node, call: Call, reply_to: Mailbox[BatchesRead | ReadRefused | RequestRefused]) -> None:
        operation, (wait, timeout_s) = call.request
        consume = Consume(
            call.call_id,
            operation.offset,
            READ_BYTES,
            wait,
            reply_to,
            operation.read,
            timeout_s,
            operation.seen_end,
        )
        node.server.tell(consume)

    def cancel(self, node: Node, call: Call) -> None:
        assert call.reply_to is not None
        node.server.tell(CancelRequest(call.call_id, call.reply_to))


_ACKS = {"default": Acks.DEFAULT, "leader": Acks.LEADER, "quorum": Acks.QUORUM, "all": Acks.ALL}


class ClientCalls:
    """Begins operations and reports how they ended. Each has an id that is unique in the run."""

    _produce_callee = _ProduceCallee()
    _register_callee = _RegisterCallee()
    _consume_callee = _ConsumeCallee()

    def __init__(self, network: Network, emit: Callable[[Event], None]) -> None:
        self._network = network
        self._emit = emit
        self._operation_ids = itertools.count(1)

    def produce(
        self,
        client: str,
        node_id: NodeId,
        operation: Operation,
        timeout_s: float,
        returned: Returned,
        *,
        beside: Call | None = None,
    ) -> Call:
        """Append operation.value at that node.

        beside: a call just begun in whose packet the request travels.
        """
        callee = self._produce_callee
        return self._begin("produce", client, node_id, operation, timeout_s, callee, timeout_s, returned, beside=beside)

    def register(self, client: str, node_id: NodeId, timeout_s: float, returned: Returned) -> Call:
        """Register a producer at that node."""
        operation = Operation(OperationKind.REGISTER)
        callee = self._register_callee
        return self._begin("register", client, node_id, operation, timeout_s, callee, timeout_s, returned)

    def consume(
        self, client: str, node_id: NodeId, operation: Operation, timeout_s: float, returned: Returned, *, wait: bool
    ) -> Call:
        """Read the record at operation.offset.

        wait: whether to wait, at the end of the log, for more, up to timeout_s.
        """
        extra = wait, min(timeout_s, CONFIRMS_WITHIN_S)
        return self._begin("consume", client, node_id, operation, timeout_s, self._consume_callee, extra, returned)

    def _begin(
        self,
        kind: str,
        client: str,
        node_id: NodeId,
        operation: Operation,
        timeout_s: float,
        callee: Any,
        extra: float | tuple[bool, float],
        returned: Returned,
        *,
        beside: Call | None = None,
    ) -> Call:
        network, emit = self._network, self._emit
        operation_id = next(self._operation_ids)
        source = NodeId(client)
        emit(ClientInvoked(network.runtime.now_s, client, operation_id, node_id, operation))

        def finish(result: OperationResult, leader_id: NodeId | None = None) -> None:
            emit(ClientReturned(network.runtime.now_s, client, operation_id, node_id, operation, result))
            returned(result, leader_id)

        def on_answer(answer: Any) -> None:
            leader_id = answer.leader_id if isinstance(answer, RequestRefused) else None
            finish(result_of(operation, answer), leader_id)

        def on_failed(reason: str, certain: bool) -> None:
            is_read = operation.kind is OperationKind.CONSUME
            finish(OperationResult(Outcome.REFUSED if certain or is_read else Outcome.UNKNOWN, detail=reason))

        return network.call(
            kind,
            source,
            node_id,
            callee,
            (operation, extra),
            timeout_s + CALL_MARGIN_S,
            on_answer,
            on_failed,
            beside=beside,
        )


def result_of(operation: Operation, answer: Any) -> OperationResult:
    """An answer as its client understands it."""
    match answer:
        case Produced():
            return OperationResult(Outcome.OK, offset=answer.base_offset, index=answer.index)
        case RequestRefused(refusal=Refusal.OUT_OF_RANGE):
            return OperationResult(
                Outcome.REFUSED, offset=answer.first, end_offset=answer.end, detail=Refusal.OUT_OF_RANGE.value
            )
        case RequestRefused():
            outcome = Outcome.UNKNOWN if answer.outcome_unknown else Outcome.REFUSED
            return OperationResult(outcome, detail=answer.refusal.value)
        case ReadRefused(problem=problem) if problem is not ReadProblem.OUT_OF_RANGE:
            return OperationResult(Outcome.REFUSED, detail=problem.value)
        case ReadRefused():
            return OperationResult(
                Outcome.REFUSED,
                offset=answer.first.offset,
                end_offset=answer.end.offset,
                detail=answer.problem.value,
            )
        case BatchesRead():
            for offset, value, head in records_in(answer.batches):
                if offset == operation.offset:
                    return OperationResult(Outcome.OK, offset=offset, value=value, path=path_of(answer.batches, head))
            return OperationResult(Outcome.REFUSED, offset=Offset(answer.next.offset), detail="nothing there yet")
        case _:
            raise AssertionError(f"no answer to a client: {answer}")
