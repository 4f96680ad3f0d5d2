"""What the tests of calls between nodes share: actors that follow a script, and both ends over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import grpc
from hypothesis import strategies as st

from ourolog.actors.messages.peer_calls import (
    Answerer,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    PeerRequest,
)
from ourolog.rpc.gossip_port import listen_for_peers
from ourolog.rpc.loop_mailboxes import LoopMailbox
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.listener import ListenerLimits, PeerListener
from ourolog.rpc.peer.network import TcpPeerNetwork
from ourolog.rpc.peer.service import PeerService
from ourolog.rpc.peer.testing import FrameClient
from ourolog.rpc.peer_codec import CODECS
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term

REQUEST = FetchRequest(
    "c",
    NodeId("n1"),
    5,
    False,
    Term(3),
    Index(4),
    Place(Term(2), (NodeId("n9"), 7)),
    99,
    Index(1),
    1000,
    0.25,
    disk_index=Index(3),
)
N2 = NodeId("n2")

u64 = st.integers(0, 2**64 - 1)
places = st.builds(lambda term, epoch: Place(Term(term), (NodeId("n3"), epoch)), u64, u64)
positions = st.builds(lambda index, offset: Position(Index(index), Offset(offset)), u64, u64)


def response(batches: bytes = b"") -> FetchResponse:
    end = Position(Index(5), Offset(6))
    return FetchResponse(FetchOutcome.BATCHES, Term(3), 99, Position(Index(0), Offset(0)), end, end, batches=batches)


def over_the_wire(kind: type[PeerRequest[Any]], answer: Any) -> Any:
    """An answer after it has crossed the wire."""
    codec = CODECS[kind]
    return codec.answer_from_wire(*codec.answer_to_wire(answer))


class Replicator:
    """Keeps fetches and their cancellations; answers when told to."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.changed = asyncio.Event()

    def tell(self, message: Any) -> None:
        self.received.append(message)
        self.changed.set()

    async def next(self, kind: type) -> Any:
        while True:
            for message in self.received:
                if isinstance(message, kind):
                    self.received.remove(message)
                    return message
            self.changed.clear()
            await self.changed.wait()


def service_of(replicator: Any, *voters: NodeId, **rooms: Any) -> PeerService:
    """A service whose replicator is the test."""
    return PeerService(N2, {Answerer.REPLICATOR: replicator}, voters, **rooms)


class Answers:
    """Where a network tells its answers."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.tell = LoopMailbox[Any](asyncio.get_running_loop(), self.queue.put_nowait).tell


@contextlib.asynccontextmanager
async def listening(
    service: PeerService, limits: ListenerLimits | None = None, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, PeerListener]]:
    """HOST:PORT of a service, and its listener."""
    listener = PeerListener(service, limits, ssl_context)
    sock = await listen_for_peers("127.0.0.1:0")
    listener.start(sock)
    try:
        yield f"127.0.0.1:{sock.getsockname()[1]}", listener
    finally:
        await listener.close()


@contextlib.asynccontextmanager
async def serving(service: PeerService) -> AsyncIterator[str]:
    """HOST:PORT of a service."""
    async with listening(service) as (addr, _):
        yield addr


@contextlib.asynccontextmanager
async def serving_grpc() -> AsyncIterator[str]:
    """HOST:PORT of a gRPC server: as somebody who is no node, or of a version that called others by gRPC."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def network(**options: Any) -> AsyncIterator[TcpPeerNetwork]:
    made = TcpPeerNetwork(asyncio.get_running_loop(), **options)
    try:
        yield made
    finally:
        await made.close()
        assert (made._connections, made._retired, made._checking) == ({}, {}, {})


@contextlib.asynccontextmanager
async def caller(addr: str, lane: Lane = Lane.URGENT, **options: Any) -> AsyncIterator[FrameClient]:
    """A connection on which a test sends what it likes."""
    client = await FrameClient.open(addr, lane, **options)
    try:
        yield client
    finally:
        await client.close()
