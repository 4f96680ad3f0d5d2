"""The `log.v1.Log` service: what clients call, over the actors of one node.

Every method is a coroutine on the node's loop. It checks what came, tells an actor, and awaits
one future; nothing here blocks, and nobody holds a thread. How calls begin and end is in `ourolog.rpc.calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import ListServers, ServerMessage, ServersListed
from ourolog.rpc.admission import ProduceLimiter, ReadBudget
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.calls import MAX_OPEN_CALLS, Call, Calls
from ourolog.rpc.consuming import MAX_STREAMS, Reads, Streams
from ourolog.rpc.errors import ServiceError, unavailable
from ourolog.rpc.mailbox import BurstMailbox, PendingRequests
from ourolog.rpc.producing import MAX_PRODUCE_STREAMS, Producer, Wanted, wanted_acks
from ourolog.rpc.record_checks import RecordLimits, checked_batch, checked_record
from ourolog.rpc.status import StatusSources, gather_status
from ourolog.rpc.v1 import log_pb2 as pb

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Log"].full_name
_LAST_WORDS_S: Final = 1.0
_QUIET_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Admission:
    """The bounds of one node's clients: what arrives, what is under way, what is read, and how much is open."""

    produces: ProduceLimiter = field(default_factory=ProduceLimiter)
    reads: ReadBudget = field(default_factory=ReadBudget)
    arrivals: ArrivalLimiter = field(default_factory=ArrivalLimiter)
    max_streams: int = MAX_STREAMS
    max_produce_streams: int = MAX_PRODUCE_STREAMS
    max_calls: int = MAX_OPEN_CALLS


class LogService:
    """See the module. `end` frees everybody who waits, once the node is to stop."""

    def __init__(
        self,
        server: Mailbox[ServerMessage],
        status: StatusSources,
        limits: RecordLimits,
        admission: Admission,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._requests = PendingRequests(loop)
        self._server: BurstMailbox[ServerMessage] = BurstMailbox(loop, server, lambda: len(self._requests))
        self._calls = Calls(admission.arrivals, admission.max_calls)
        self._status = status
        self._limits = limits
        self._producer = Producer(self._requests, self._server, admission.produces, admission.max_produce_streams)
        self._reads = Reads(self._requests, self._server)
        self._streams = Streams(self._reads, admission.reads, admission.max_streams)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods, before the server is started."""
        server.add_registered_method_handlers(SERVICE_NAME, self.handlers())

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """All methods, by name."""
        unary, stream = self._calls.unary, self._calls.stream
        return {
            "Produce": unary(self._produce, pb.ProduceRequest, pb.ProduceResponse),
            "ProduceBatch": unary(self._produce_batch, pb.ProduceBatchRequest, pb.ProduceBatchResponse),
            "ProduceStream": stream(self._produce_stream, pb.ProduceRequest, pb.ProduceResponse),
            "ProduceBatchStream": stream(self._produce_batch_stream, pb.ProduceBatchRequest, pb.ProduceBatchResponse),
            "Consume": stream(self._consume, pb.ConsumeRequest, pb.ConsumeResponse),
            "ConsumeStream": stream(self._consume_stream, pb.ConsumeRequest, pb.ConsumeResponse),
            "ConsumeBatchStream": stream(self._consume_batch_stream, pb.ConsumeBatchRequest, pb.ConsumeBatchResponse),
            "GetServers": unary(self._get_servers, pb.GetServersRequest, pb.GetServersResponse),
            "GetStatus": unary(self._get_status, pb.GetStatusRequest, pb.GetStatusResponse),
        }

    @property
    def waiting(self) -> int:
        """How many requests await an actor's answer."""
        return len(self._requests)

    @property
    def open_streams(self) -> int:
        """How many consume streams are open."""
        return self._streams.open_count

    @property
    def open_produce_streams(self) -> int:
        """How many produce streams are open."""
        return self._producer.open_streams

    @property
    def open_calls(self) -> int:
        """How many calls are open, whatever they wait for."""
        return len(self._calls)

    @property
    def late_calls(self) -> int:
        """How many calls that came after the end wait for `release`."""
        return self._calls.late

    def drain(self) -> None:
        """New calls, and streams that wait for what is to come, are told to go elsewhere; all else goes on."""
        self._calls.refuse(unavailable("STOPPING", "this node is stopping; try another one"))
        self._reads.end(unavailable("STOPPING", "this node is stopping; read on from another one"))
        self._producer.drain()

    def end(self, error: ServiceError) -> None:
        """Everything that is open ends with `error`, and so does everything that comes: the actors are gone."""
        self._calls.end(error)
        self._reads.end(error)
        self._requests.close(error)

    async def stop(self, within_s: float) -> None:
        """After `drain`: let open calls end, for so long, then end them. None is left without a status of ours.

        Calls that come afterwards are answered by `release`, which is for when the port is closed.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._calls.idle()
        self.end(unavailable("STOPPING", "this node stopped before this was done; try another one"))
        self._calls.hold()
        # What is not read by its client does not get there, and there may be ever new clients: not for ever, then.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._calls.quiet(_QUIET_S)

    def release(self) -> None:
        """The port is closed: who came after the end is told so, and goes elsewhere."""
        self._calls.release()

    async def _produce(self, call: Call[pb.ProduceRequest]) -> pb.ProduceResponse:
        produced, _ = await self._producer.produce(self._one(await call.request()), call)
        return pb.ProduceResponse(offset=produced.base_offset)

    async def _produce_batch(self, call: Call[pb.ProduceBatchRequest]) -> pb.ProduceBatchResponse:
        produced, count = await self._producer.produce(self._many(await call.request()), call)
        return pb.ProduceBatchResponse(base_offset=produced.base_offset, record_count=count)

    async def _produce_stream(self, call: Call[pb.ProduceRequest]) -> None:
        await self._producer.pipeline(
            call, self._one, lambda produced, _: pb.ProduceResponse(offset=produced.base_offset)
        )

    async def _produce_batch_stream(self, call: Call[pb.ProduceBatchRequest]) -> None:
        await self._producer.pipeline(
            call,
            self._many,
            lambda produced, count: pb.ProduceBatchResponse(base_offset=produced.base_offset, record_count=count),
        )

    def _one(self, request: pb.ProduceRequest) -> Wanted:
        return Wanted(checked_record(request, self._limits), wanted_acks(request.acks))

    def _many(self, request: pb.ProduceBatchRequest) -> Wanted:
        return Wanted(checked_batch(request, self._limits), wanted_acks(request.acks))

    async def _consume(self, call: Call[pb.ConsumeRequest]) -> None:
        await self._streams.record(await call.request(), call)

    async def _consume_stream(self, call: Call[pb.ConsumeRequest]) -> None:
        await self._streams.records(await call.request(), call)

    async def _consume_batch_stream(self, call: Call[pb.ConsumeBatchRequest]) -> None:
        await self._streams.batches(await call.request(), call)

    async def _get_servers(self, call: Call[pb.GetServersRequest]) -> pb.GetServersResponse:
        await call.request()
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

    async def _get_status(self, call: Call[pb.GetStatusRequest]) -> pb.GetStatusResponse:
        await call.request()
        return await gather_status(self._requests, self._status, call.context.time_remaining())
