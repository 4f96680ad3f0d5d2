"""The `log.v1.Log` service: the calls that clients make, answered by the actors of one node.

Every method is a coroutine on the node's loop. It checks the request, tells an actor, and awaits
one future; nothing here blocks or occupies a thread. How calls begin and end is in `ourolog.rpc.server_calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import ListServers, Produced, ServerMessage, ServersListed
from ourolog.rpc.admission import ProduceLimiter, ReadBudget
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.consume_handler import MAX_STREAMS, ConsumeHandler, LogReader
from ourolog.rpc.errors import ServiceError, unavailable
from ourolog.rpc.leader_transfer import LeaderTransferHandler
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.node_status import StatusSources, gather_status
from ourolog.rpc.produce_handler import MAX_PRODUCE_STREAMS, CheckedProduce, ProduceHandler, checked_acks
from ourolog.rpc.record_checks import RecordLimits, checked_batch, checked_record
from ourolog.rpc.register_handler import RegisterHandler
from ourolog.rpc.server_calls import MAX_OPEN_CALLS, OpenCalls, ServerCall
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.voter_changes import VoterChangeHandler

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["Log"].full_name
_LATE_CALLS_WAIT_S: Final = 1.0
_QUIET_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits on what all clients of one node may do at once.

    produces: between arrival and answer.
    reads: bytes read and not yet taken by clients.
    arrivals: messages that are arriving.
    max_streams: open consume streams.
    max_produce_streams: open produce streams.
    max_calls: open calls of any kind.
    """

    produces: ProduceLimiter = field(default_factory=ProduceLimiter)
    reads: ReadBudget = field(default_factory=ReadBudget)
    arrivals: ArrivalLimiter = field(default_factory=ArrivalLimiter)
    max_streams: int = MAX_STREAMS
    max_produce_streams: int = MAX_PRODUCE_STREAMS
    max_calls: int = MAX_OPEN_CALLS


class LogService:
    """The Log service of one node.

    It stops in this order: `drain`, `stop`, then `refuse_late_calls` once the port is closed. `end` alone is for
    a node that has failed.
    """

    def __init__(
        self,
        server: Mailbox[ServerMessage],
        status: StatusSources,
        limits: RecordLimits,
        client_limits: ClientLimits,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._requests = PendingRequests(loop)
        self._server = server
        self._calls = OpenCalls(client_limits.arrivals, client_limits.max_calls)
        self._status = status
        self._limits = limits
        self._produces = ProduceHandler(
            self._requests, self._server, client_limits.produces, client_limits.max_produce_streams
        )
        self._registers = RegisterHandler(self._requests, self._server, client_limits.produces)
        self._transfer = LeaderTransferHandler(status.config, self._requests, status.election, self._server)
        self._voter_changes = VoterChangeHandler(status.config, self._requests, status.election, self._server)
        self._reader = LogReader(self._requests, self._server)
        self._consumes = ConsumeHandler(self._reader, client_limits.reads, client_limits.max_streams)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods, before the server is started."""
        server.add_registered_method_handlers(SERVICE_NAME, self.handlers())

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        """All methods, by name."""
        unary, stream = self._calls.unary, self._calls.stream
        # What consumers get has been encoded before it is written (consume_responses).
        return {
            "Produce": unary(self._produce, pb.ProduceRequest, pb.ProduceResponse),
            "ProduceBatch": unary(self._produce_batch, pb.ProduceBatchRequest, pb.ProduceBatchResponse),
            "ProduceStream": stream(self._produce_stream, pb.ProduceRequest, pb.ProduceResponse),
            "ProduceBatchStream": stream(self._produce_batch_stream, pb.ProduceBatchRequest, pb.ProduceBatchResponse),
            "Consume": stream(self._consume, pb.ConsumeRequest, None),
            "ConsumeStream": stream(self._consume_stream, pb.ConsumeRequest, None),
            "ConsumeBatchStream": stream(self._consume_batch_stream, pb.ConsumeBatchRequest, None),
            "GetServers": unary(self._get_servers, pb.GetServersRequest, pb.GetServersResponse),
            "GetStatus": unary(self._get_status, pb.GetStatusRequest, pb.GetStatusResponse),
            "RegisterProducer": unary(self._register_producer, pb.RegisterProducerRequest, pb.RegisterProducerResponse),
            "TransferLeader": unary(self._transfer_leader, pb.TransferLeaderRequest, pb.TransferLeaderResponse),
            "AddVoter": unary(self._change_voters, pb.AddVoterRequest, pb.ChangeVotersResponse),
            "RemoveVoter": unary(self._change_voters, pb.RemoveVoterRequest, pb.ChangeVotersResponse),
        }

    @property
    def pending_requests(self) -> int:
        """How many requests await an actor's answer."""
        return len(self._requests)

    @property
    def open_streams(self) -> int:
        """How many consume streams are open."""
        return self._consumes.open_count

    @property
    def open_produce_streams(self) -> int:
        """How many produce streams are open."""
        return self._produces.open_streams

    @property
    def open_calls(self) -> int:
        """How many calls are open, whatever they wait for."""
        return len(self._calls)

    @property
    def late_calls(self) -> int:
        """How many calls that came after the end wait for `refuse_late_calls`."""
        return self._calls.late_count

    def drain(self) -> None:
        """Send new calls, and streams that wait at the end of the log, to other nodes; everything else goes on."""
        self._calls.refuse_new(unavailable("STOPPING", "this node is stopping; try another one"))
        self._reader.end(unavailable("STOPPING", "this node is stopping; read on from another one"))
        self._produces.drain()

    def end(self, error: ServiceError) -> None:
        """End everything that is open, and everything that comes, with `error`: the actors are gone."""
        self._calls.end(error)
        self._reader.end(error)
        self._requests.close(error)

    async def stop(self, within_s: float) -> None:
        """After `drain`: give open calls `within_s` seconds to end, then end them, each with a status of this node's.

        Calls that come afterwards are left unanswered until `refuse_late_calls`.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._calls.wait_idle()
        self.end(unavailable("STOPPING", "this node stopped before this was done; try another one"))
        self._calls.hold_late()
        # Bounded, since a client that reads nothing never takes its status, and new clients may keep coming.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LATE_CALLS_WAIT_S):
                await self._calls.wait_quiet(_QUIET_S)

    def refuse_late_calls(self) -> None:
        """The port is closed: refuse the calls that came after the end, so that they go to other nodes."""
        self._calls.refuse_late()

    async def _produce(self, call: ServerCall[pb.ProduceRequest]) -> pb.ProduceResponse:
        produced, _ = await self._produces.produce(self._check_one(await call.request()), call)
        return _one(produced, 1)

    async def _produce_batch(self, call: ServerCall[pb.ProduceBatchRequest]) -> pb.ProduceBatchResponse:
        produced, count = await self._produces.produce(self._check_many(await call.request()), call)
        return _many(produced, count)

    async def _produce_stream(self, call: ServerCall[pb.ProduceRequest]) -> None:
        await self._produces.pipeline(call, self._check_one, _one)

    async def _produce_batch_stream(self, call: ServerCall[pb.ProduceBatchRequest]) -> None:
        await self._produces.pipeline(call, self._check_many, _many)

    async def _register_producer(self, call: ServerCall[pb.RegisterProducerRequest]) -> pb.RegisterProducerResponse:
        await call.request()
        return pb.RegisterProducerResponse(producer_id=await self._registers.register(call))

    def _check_one(self, request: pb.ProduceRequest) -> CheckedProduce:
        return CheckedProduce(checked_record(request, self._limits), checked_acks(request.acks))

    def _check_many(self, request: pb.ProduceBatchRequest) -> CheckedProduce:
        timeout_s = request.timeout_ms / 1000 if request.timeout_ms else None
        return CheckedProduce(checked_batch(request, self._limits), checked_acks(request.acks), timeout_s)

    async def _consume(self, call: ServerCall[pb.ConsumeRequest]) -> None:
        await self._consumes.consume_record(await call.request(), call)

    async def _consume_stream(self, call: ServerCall[pb.ConsumeRequest]) -> None:
        await self._consumes.stream_records(await call.request(), call)

    async def _consume_batch_stream(self, call: ServerCall[pb.ConsumeBatchRequest]) -> None:
        await self._consumes.stream_batches(await call.request(), call)

    async def _get_servers(self, call: ServerCall[pb.GetServersRequest]) -> pb.GetServersResponse:
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

    async def _get_status(self, call: ServerCall[pb.GetStatusRequest]) -> pb.GetStatusResponse:
        await call.request()
        return await gather_status(self._requests, self._status, call.context.time_remaining())

    async def _transfer_leader(self, call: ServerCall[pb.TransferLeaderRequest]) -> pb.TransferLeaderResponse:
        return await self._transfer.transfer(await call.request(), call.context.time_remaining())

    async def _change_voters(
        self, call: ServerCall[pb.AddVoterRequest] | ServerCall[pb.RemoveVoterRequest]
    ) -> pb.ChangeVotersResponse:
        return await self._voter_changes.change(await call.request(), call.context.time_remaining())


def _one(produced: Produced, _: int) -> pb.ProduceResponse:
    return pb.ProduceResponse(offset=produced.base_offset, replicas=produced.replicas)


def _many(produced: Produced, count: int) -> pb.ProduceBatchResponse:
    return pb.ProduceBatchResponse(base_offset=produced.base_offset, record_count=count, replicas=produced.replicas)
