"""Calls to other nodes over gRPC: the PeerNetwork port of a production node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import grpc

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    CallFailed,
    CallReturned,
    FetchRequest,
    FetchResponse,
    PeerRequest,
    is_bulk,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc import port_probe
from ourolog.rpc.fetched_batches import readable_prefix
from ourolog.rpc.loop_mailboxes import LoopMailbox
from ourolog.rpc.open_files import max_peers
from ourolog.rpc.peer_codec import CODECS, PeerCodec
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES, PeerCodecError, clipped
from ourolog.rpc.v1 import peer_pb2_grpc as pb_grpc
from ourolog.storage.types import NodeId

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer behind a dead link is noticed within these, not after TCP's quarter of an hour.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The actors decide when to try again; gRPC must not wait for longer by itself.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Nodes of one process (tests do that) must not share connections, nor calls wait behind batches.
    ("grpc.use_local_subchannel_pool", 1),
    # Nodes talk to each other directly; a proxy of the environment is for other things.
    ("grpc.enable_http_proxy", 0),
)

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that an actor has asked for."""

    peer: Peer
    request_id: int
    request: PeerRequest[Any]
    reply_to: Mailbox[CallReturned[Any] | CallFailed]

    def __str__(self) -> str:
        return f"{self.peer.node_id} at {self.peer.rpc_addr}"

    def answer(self, response: Any) -> None:
        self.reply_to.tell(CallReturned(self.peer.node_id, self.request_id, response))

    def fail(self, reason: str, *, is_refused: bool = False, is_declined: bool = False) -> None:
        self.reply_to.tell(CallFailed(self.peer.node_id, self.request_id, reason, is_refused, is_declined))


@dataclass(frozen=True, slots=True)
class _Forget:
    """An actor no longer pulls from that peer."""

    peer_id: NodeId


Lane = tuple[NodeId, bool]
"""What shares a connection: the calls to one peer, and whether they are bulk."""


class _Connection:
    """One channel to one address, and the calls that are open on it.

    lane: which calls those are.
    rpc_addr: the address.
    has_failed: whether a call failed since the channel had no connection.
    """

    def __init__(self, lane: Lane, rpc_addr: str) -> None:
        self.lane = lane
        self.rpc_addr = rpc_addr
        self.has_failed = False
        self.channel = grpc.aio.insecure_channel(rpc_addr, options=CHANNEL_OPTIONS)
        self.stub = pb_grpc.PeerStub(self.channel)
        self.open: dict[asyncio.Task[None], _Call] = {}


class GrpcPeerNetwork:
    """A PeerNetwork on an asyncio loop. `call` and `forget` may be called from any thread.

    Each call is answered exactly once, also when the network is closed meanwhile. All calls but those that bring
    batches share a connection of their own to each peer, so that they never wait behind batches.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout_s: Callable[[PeerRequest[Any]], float] = lambda request: CALL_KINDS[type(request)].timeout_s(request),
        most_connections: int | None = None,
    ) -> None:
        """Prepare a network without connections.

        timeout_s: how long a call may take, in seconds.
        most_connections: how many there may be at once; None for as many as there are open files for.
        """
        self._timeout_s = timeout_s
        self._most_connections = most_connections or max_peers()
        self._connections: dict[Lane, _Connection] = {}
        self._closing: dict[asyncio.Task[None], _Connection] = {}
        self._closed = False
        self._inbox: LoopMailbox[_Call | _Forget] = LoopMailbox(loop, self._receive)

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[A], reply_to: Mailbox[CallReturned[A] | CallFailed]
    ) -> None:
        """Ask a peer, as `PeerNetwork.call` says."""
        self._inbox.tell(_Call(peer, request_id, request, reply_to))

    def forget(self, peer_id: NodeId) -> None:
        """Close the connection for batches from that peer, and end its other fetches, as `PeerNetwork.forget` says."""
        self._inbox.tell(_Forget(peer_id))

    async def close(self) -> None:
        """On the loop: fail what is open and close every channel."""
        self._closed = True
        for lane in sorted({*self._connections, *(retired.lane for retired in self._closing.values())}):
            self._drop(lane)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _receive(self, order: _Call | _Forget) -> None:
        match order:
            case _Call():
                self._start(order)
            case _Forget():
                self._drop((order.peer_id, True))
                self._end_calls((order.peer_id, False), FetchRequest)

    def _start(self, call: _Call) -> None:
        if self._closed:
            call.fail("this node is stopping")
            return
        lane = call.peer.node_id, is_bulk(call.request)
        connection = self._connections.get(lane)
        if connection is not None and connection.rpc_addr != call.peer.rpc_addr:
            # It restarted elsewhere.
            self._drop(lane)
            connection = None
        elif connection is not None and connection.has_failed:
            # A channel waits for longer and longer before it connects again; when to try is up to the actors.
            self._retire(lane)
            connection = None
        if connection is None:
            if not self._has_room():
                # Made-up nodes shall not cost the descriptors that the log needs.
                many = len(self._connections)
                call.fail(f"this node has {many} connections to others already, as many as it has open files for")
                return
            connection = self._connections[lane] = _Connection(lane, call.peer.rpc_addr)
        task = asyncio.create_task(self._carry(connection, call))
        connection.open[task] = call
        task.add_done_callback(lambda done: _ended(connection, call, done))

    def _has_room(self) -> bool:
        """Whether there may be another connection; an idle one of calls that are not bulk makes room."""
        if len(self._connections) < self._most_connections:
            return True
        for lane, connection in self._connections.items():
            if not lane[1] and not connection.open:
                self._drop(lane)
                return True
        return False

    async def _carry(self, connection: _Connection, call: _Call) -> None:
        request = call.request
        codec = CODECS[type(request)]
        try:
            method = getattr(connection.stub, codec.method)
            raw = await method(codec.encode_request(request), timeout=self._timeout_s(request))
            response = codec.decode_response(raw)
            if isinstance(request, FetchRequest) and response.batches and not request.elected:
                response = await _readable(response, call.peer.node_id, request)
        except grpc.aio.AioRpcError as error:
            is_refused = False
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                connection.has_failed = True
                is_refused = await port_probe.is_refused(connection.rpc_addr)
            is_declined = error.code() is grpc.StatusCode.FAILED_PRECONDITION
            call.fail(_why(call, codec, error), is_refused=is_refused, is_declined=is_declined)
        except (PeerCodecError, ValueError) as error:
            call.fail(f"{call}: {error}")
        else:
            call.answer(response)

    def _drop(self, lane: Lane) -> None:
        """Close the connection of that lane, and end the calls on it and on those before it."""
        self._retire(lane)
        self._end_calls(lane, PeerRequest)

    def _end_calls(self, lane: Lane, kind: type[PeerRequest[Any]]) -> None:
        """End the calls of that kind in that lane, also those on connections that are being closed."""
        present = self._connections.get(lane)
        for connection in (*self._closing.values(), *([present] if present else [])):
            if connection.lane == lane:
                for task, call in list(connection.open.items()):
                    if isinstance(call.request, kind):
                        task.cancel()

    def _retire(self, lane: Lane) -> None:
        """Close the connection of that lane once the calls on it have ended."""
        connection = self._connections.pop(lane, None)
        if connection is not None:
            closing = asyncio.create_task(_close(connection))
            self._closing[closing] = connection
            closing.add_done_callback(self._closing.pop)


def _ended(connection: _Connection, call: _Call, task: asyncio.Task[None]) -> None:
    connection.open.pop(task)
    # A task that is cancelled before its first step cannot report that itself.
    if task.cancelled():
        call.fail(f"the connection to {call} was dropped")
    elif (error := task.exception()) is not None:
        # Whatever the error was, the caller must not wait for ever.
        call.fail(f"{call}: {error!r}")


async def _close(connection: _Connection) -> None:
    await asyncio.gather(*connection.open, return_exceptions=True)
    await connection.channel.close()


async def _readable(response: FetchResponse, peer_id: NodeId, request: FetchRequest) -> FetchResponse:
    batches, unreadable = await readable_prefix(response.batches, peer_id, request.next_index)
    return replace(response, batches=batches, unreadable=unreadable)


def _why(call: _Call, codec: PeerCodec, error: grpc.aio.AioRpcError) -> str:
    details: Any = error.details() or ""
    match error.code():
        case grpc.StatusCode.FAILED_PRECONDITION:
            return clipped(details) or f"{call} refused"  # with a sentence of its own
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{call} does not know the call {codec.method}: it is no ourolog node, or one of another version"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{call} did not answer in time"
        case code:
            return f"{call}: {code.name}: {clipped(details)}"
