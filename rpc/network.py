"""Calls to other nodes over gRPC: the PeerNetwork port of a production node."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import FetchRequest, FetchResponse
from ourolog.actors.messages.replicator import FetchFailed, FetchReturned
from ourolog.rpc.descriptors import max_peers
from ourolog.rpc.fetched_records import readable_part
from ourolog.rpc.mailbox import LoopMailbox
from ourolog.rpc.peer_codec import MAX_MESSAGE_BYTES, PeerCodecError, decode_response, encode_request
from ourolog.rpc.v1 import peer_pb2_grpc as pb_grpc
from ourolog.storage.types import NodeId

MARGIN_S: Final = 5.0
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer behind a dead link is noticed within these, not after TCP's quarter of an hour.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The Replicator decides when to try again; gRPC shall not sit out a longer pause of its own.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Nodes of one process (tests do that) must not share connections.
    ("grpc.use_local_subchannel_pool", 1),
    # Nodes talk to each other directly; a proxy of the environment is for other things.
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class _Fetch:
    peer_id: NodeId
    rpc_addr: str
    request_id: int
    request: FetchRequest
    reply_to: Mailbox[FetchReturned | FetchFailed]

    def fail(self, reason: str) -> None:
        self.reply_to.tell(FetchFailed(self.peer_id, self.request_id, reason))


@dataclass(frozen=True, slots=True)
class _Forget:
    peer_id: NodeId


class _Peer:
    """One channel to one address, and the fetches that are open on it."""

    def __init__(self, rpc_addr: str) -> None:
        self.rpc_addr = rpc_addr
        self.channel = grpc.aio.insecure_channel(rpc_addr, options=CHANNEL_OPTIONS)
        self.stub = pb_grpc.PeerStub(self.channel)
        self.open: set[asyncio.Task[None]] = set()


class GrpcPeerNetwork:
    """A PeerNetwork on an asyncio loop. `fetch` and `forget` may be called from any thread.

    Each fetch is answered exactly once, also when the network is closed meanwhile.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, margin_s: float = MARGIN_S, most_peers: int | None = None
    ) -> None:
        self._margin_s = margin_s
        self._most_peers = most_peers or max_peers()
        self._peers: dict[NodeId, _Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._inbox: LoopMailbox[_Fetch | _Forget] = LoopMailbox(loop, self._receive)

    def fetch(
        self,
        peer_id: NodeId,
        rpc_addr: str,
        request_id: int,
        request: FetchRequest,
        reply_to: Mailbox[FetchReturned | FetchFailed],
    ) -> None:
        """See PeerNetwork."""
        self._inbox.tell(_Fetch(peer_id, rpc_addr, request_id, request, reply_to))

    def forget(self, peer_id: NodeId) -> None:
        """See PeerNetwork."""
        self._inbox.tell(_Forget(peer_id))

    async def close(self) -> None:
        """On the loop: fail what is open and close every channel."""
        self._closed = True
        for peer_id in sorted(self._peers):
            self._drop(peer_id)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _receive(self, order: _Fetch | _Forget) -> None:
        match order:
            case _Fetch():
                self._start(order)
            case _Forget():
                self._drop(order.peer_id)

    def _start(self, fetch: _Fetch) -> None:
        if self._closed:
            fetch.fail("this node is stopping")
            return
        peer = self._peers.get(fetch.peer_id)
        if peer is not None and peer.rpc_addr != fetch.rpc_addr:
            # It restarted elsewhere.
            self._drop(fetch.peer_id)
            peer = None
        if peer is None and len(self._peers) >= self._most_peers:
            # Rumours of nodes that do not exist shall not cost the descriptors that the log needs.
            fetch.fail(f"this node calls {len(self._peers)} others already, as many as it has open files for")
            return
        if peer is None:
            peer = self._peers[fetch.peer_id] = _Peer(fetch.rpc_addr)
        task = asyncio.create_task(self._fetch(peer, fetch))
        peer.open.add(task)
        task.add_done_callback(lambda done: self._fetched(peer, fetch, done))

    def _fetched(self, peer: _Peer, fetch: _Fetch, task: asyncio.Task[None]) -> None:
        peer.open.discard(task)
        # A task that is cancelled before its first step never gets to say so itself.
        if task.cancelled():
            fetch.fail(f"the connection to {fetch.peer_id} at {fetch.rpc_addr} was dropped")
        elif (error := task.exception()) is not None:
            # Whatever it was, the pull must not wait for ever.
            fetch.fail(f"{fetch.peer_id} at {fetch.rpc_addr}: {error!r}")

    async def _fetch(self, peer: _Peer, fetch: _Fetch) -> None:
        answer: FetchReturned | FetchFailed
        try:
            response = await peer.stub.Fetch(
                encode_request(fetch.request), timeout=fetch.request.max_wait_s + self._margin_s
            )
            answer = await _returned(fetch, decode_response(response))
        except grpc.aio.AioRpcError as error:
            answer = FetchFailed(fetch.peer_id, fetch.request_id, _why(fetch, error))
        except (PeerCodecError, ValueError) as error:
            answer = FetchFailed(fetch.peer_id, fetch.request_id, f"{fetch.peer_id} at {fetch.rpc_addr}: {error}")
        fetch.reply_to.tell(answer)

    def _drop(self, peer_id: NodeId) -> None:
        peer = self._peers.pop(peer_id, None)
        if peer is None:
            return
        for task in list(peer.open):
            task.cancel()
        closing = asyncio.create_task(_close(peer))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)


async def _close(peer: _Peer) -> None:
    await asyncio.gather(*peer.open, return_exceptions=True)
    await peer.channel.close()


async def _returned(fetch: _Fetch, response: FetchResponse) -> FetchReturned:
    unreadable = ""
    if response.batches and not fetch.request.elected:
        batches, unreadable = await readable_part(response.batches, fetch.peer_id, fetch.request.next_index)
        response = replace(response, batches=batches)
    return FetchReturned(fetch.peer_id, fetch.request_id, response, unreadable)


def _why(fetch: _Fetch, error: grpc.aio.AioRpcError) -> str:
    who = f"{fetch.peer_id} at {fetch.rpc_addr}"
    details: Any = error.details() or ""
    match error.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"{who} does not answer fetches: it is no ourolog node, or one of another version"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{who} did not answer in time"
        case code:
            return f"{who}: {code.name}: {details}"
