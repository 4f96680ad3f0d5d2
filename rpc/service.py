"""The `log.v1.Log` service: what clients call, over the actors of one node.

Every handler is a coroutine on the node's loop. It checks what came, tells an actor, and awaits
one future; nothing here blocks, and nobody holds a thread. Those of streams write to their
context, gRPC's other way to answer a stream, which the generated base class does not foresee.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from actors.messages import ListServers, Mailbox, ServerMessage, ServersListed
from rpc import reading
from rpc.admission import Door, ReadBudget
from rpc.consuming import Reads, Streams
from rpc.errors import ServiceError, unavailable
from rpc.mailbox import Outbox, Requests
from rpc.producing import Producer
from rpc.receiving import Gate
from rpc.records import Limits, many_records, one_record
from rpc.status import StatusSources, gather_status
from rpc.v1 import log_pb2 as pb
from rpc.v1 import log_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]
Request = TypeVar("Request")
Response = TypeVar("Response")
Handler = Callable[["LogService", Request, Context], Coroutine[Any, Any, Response]]


def _aborting(handler: Handler[Request, Response]) -> Handler[Request, Response]:
    """A handler whose ServiceErrors become the status of the call."""

    @functools.wraps(handler)
    async def handle(self: LogService, request: Request, context: Context) -> Response:
        try:
            return await handler(self, request, context)
        except ServiceError as error:
            await error.abort(context)

    return handle


@dataclass(frozen=True, slots=True)
class Admission:
    """The bounds of one node's gate and door, of what its consumers hold, and of how many streams there are."""

    door: Door
    reads: ReadBudget
    max_streams: int
    gate: Gate = field(default_factory=Gate)


class LogService(pb_grpc.LogServicer):
    """See the module. `end` frees everybody who waits, once the node is to stop."""

    def __init__(
        self,
        server: Mailbox[ServerMessage],
        status: StatusSources,
        limits: Limits,
        admission: Admission,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._requests = Requests(loop)
        self._server: Outbox[ServerMessage] = Outbox(loop, server, lambda: len(self._requests))
        self._gate = admission.gate
        self._status = status
        self._limits = limits
        self._producer = Producer(self._requests, self._server, admission.door)
        self._reads = Reads(self._requests, self._server)
        self._streams = Streams(self._reads, admission.reads, admission.max_streams)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods, before the server is started."""
        pb_grpc.add_LogServicer_to_server(self, server)
        handler = self._gate.handler
        gated: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Produce": handler(self.Produce, pb.ProduceRequest, pb.ProduceResponse),
            "ProduceBatch": handler(self.ProduceBatch, pb.ProduceBatchRequest, pb.ProduceBatchResponse),
        }
        server.add_registered_method_handlers(pb.DESCRIPTOR.services_by_name["Log"].full_name, gated)

    @property
    def waiting(self) -> int:
        """How many requests await an actor's answer."""
        return len(self._requests)

    @property
    def open_streams(self) -> int:
        """How many consume streams are open."""
        return self._streams.open_count

    def drain(self) -> None:
        """Streams that wait for records to come are told to go elsewhere; all else goes on."""
        self._reads.end(unavailable("STOPPING", "this node is stopping; read on from another one"))

    def end(self, error: ServiceError) -> None:
        """The actors are gone: everything open, and everything that comes, fails with `error`."""
        self._reads.end(error)
        self._requests.close(error)

    @_aborting
    async def Produce(self, request: pb.ProduceRequest, context: Context) -> pb.ProduceResponse:  # noqa: N802
        batch = one_record(request, self._limits)
        produced = await self._producer.produce(batch, request.acks, context)
        return pb.ProduceResponse(offset=produced.base_offset)

    @_aborting
    async def ProduceBatch(  # noqa: N802
        self, request: pb.ProduceBatchRequest, context: Context
    ) -> pb.ProduceBatchResponse:
        batch = many_records(request, self._limits)
        produced = await self._producer.produce(batch, request.acks, context)
        return pb.ProduceBatchResponse(base_offset=produced.base_offset, record_count=batch.record_count)

    @_aborting
    async def ProduceStream(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ProduceRequest], context: Context
    ) -> None:
        await self._producer.pipeline(
            request_iterator,
            lambda request: one_record(request, self._limits),
            lambda produced, _: pb.ProduceResponse(offset=produced.base_offset),
            context,
        )

    @_aborting
    async def ProduceBatchStream(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ProduceBatchRequest], context: Context
    ) -> None:
        await self._producer.pipeline(
            request_iterator,
            lambda request: many_records(request, self._limits),
            lambda produced, count: pb.ProduceBatchResponse(base_offset=produced.base_offset, record_count=count),
            context,
        )

    @_aborting
    async def Consume(self, request: pb.ConsumeRequest, context: Context) -> pb.ConsumeResponse:  # noqa: ARG002, N802
        # One byte: just the batch that holds the record, since at least one comes.
        read = await self._reads.read(request.offset, max_bytes=1)
        response = reading.record_at(read.batches, request.offset, provenance=request.provenance)
        if response is None:
            raise unavailable("READ_STALLED", f"the log holds no readable record at offset {request.offset}; try again")
        return response

    @_aborting
    async def ConsumeStream(self, request: pb.ConsumeRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._streams.records(request, context)

    @_aborting
    async def ConsumeBatchStream(self, request: pb.ConsumeBatchRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        await self._streams.batches(request, context)

    @_aborting
    async def GetServers(  # noqa: N802
        self,
        request: pb.GetServersRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.GetServersResponse:
        request_id, future = self._requests.open()
        self._server.tell(ListServers(request_id, self._requests))
        try:
            listed: ServersListed = await future
        finally:
            self._requests.forget(request_id)
        return pb.GetServersResponse(
            servers=[
                pb.Server(id=member.node_id, rpc_addr=member.rpc_addr, is_leader=member.node_id == listed.leader_id)
                for member in listed.servers
            ]
        )

    @_aborting
    async def GetStatus(  # noqa: N802
        self,
        request: pb.GetStatusRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.GetStatusResponse:
        return await gather_status(self._requests, self._status, context.time_remaining())
