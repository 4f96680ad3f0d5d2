"""What the tests of the edges share: coroutine tests, and a Server actor that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from actors.config import GossipConfig, NodeConfig
from actors.messages import (
    BatchesRead,
    CancelRequest,
    Consume,
    ListServers,
    Member,
    Produce,
    Produced,
    Refusal,
    RequestRefused,
    ServersListed,
)
from rpc.admission import Door, ReadBudget
from rpc.channels import open_channel
from rpc.consuming import MAX_STREAMS
from rpc.errors import status_of
from rpc.receiving import Gate
from rpc.records import Limits
from rpc.server import Addresses, NodeServer
from rpc.service import Admission, LogService
from rpc.status import StatusSources
from rpc.v1 import log_pb2_grpc as pb_grpc
from storage.batch import Batch, Kind, NewBatch, encode_batch
from storage.types import Index, NodeId, Offset, Position, Term

TEST_TIMEOUT_S = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that are coroutines run on a loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_TIMEOUT_S))
    return True


class ScriptedServer:
    """A Server actor without actors: a log in memory, and refusals on demand.

    hold: produces are kept unanswered. refuse: every produce and consume is refused so.
    """

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.hold = False
        self.leader_id: NodeId | None = None
        self.refuse: Callable[[int], RequestRefused] | None = None
        self.batches: list[Batch] = []
        self.end = Position(Index(0), Offset(0))
        self.tailing: list[Consume] = []
        self.changed = asyncio.Event()

    def tell(self, message: Any) -> None:
        self.received.append(message)
        match message:
            case Produce() | Consume() if self.refuse is not None:
                message.reply_to.tell(self.refuse(message.request_id))
            case Produce():
                if not self.hold:
                    message.reply_to.tell(Produced(message.request_id, self.append(message.batch), Term(1)))
            case Consume():
                self._consume(message)
            case CancelRequest():
                self.tailing = [waiting for waiting in self.tailing if waiting.request_id != message.request_id]
            case ListServers():
                members = tuple(Member(NodeId(f"n{i}"), f"h{i}:1", f"h{i}:2") for i in (1, 2))
                message.reply_to.tell(ServersListed(message.request_id, members, self.leader_id))
        self.changed.set()

    def append(self, new: NewBatch, path: tuple[str, ...] = ("n1",)) -> Offset:
        base = self.end.offset
        batch = Batch(
            index=self.end.index,
            term=Term(1),
            base_offset=base,
            record_count=new.record_count,
            timestamp_ms=5,
            kind=new.kind,
            codec=new.codec,
            path=tuple(NodeId(name) for name in path),
            origin_epoch=7,
            origin_sequence=len(self.batches),
            payload=new.payload,
        )
        self.batches.append(batch)
        self.end = Position(Index(self.end.index + 1), batch.end_offset)
        tailing, self.tailing = self.tailing, []
        for consume in tailing:
            self._consume(consume)
        return base

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns once `holds`, which is looked at after every message."""
        while not holds():
            self.changed.clear()
            await self.changed.wait()

    def all(self, kind: type) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    def _consume(self, consume: Consume) -> None:
        if consume.offset >= self.end.offset:
            if consume.wait:
                self.tailing.append(consume)
                return
            detail = f"offset {consume.offset} is out of range: n1 has [0, {self.end.offset})"
            refused = RequestRefused(consume.request_id, Refusal.OUT_OF_RANGE, detail, end=self.end.offset)
            consume.reply_to.tell(refused)
            return
        parts: list[bytes] = []
        end = Position(Index(0), Offset(0))
        for batch in self.batches:
            if (batch.kind is Kind.CONTROL and not parts) or batch.end_offset <= consume.offset:
                continue
            encoded = encode_batch(batch)
            if parts and sum(map(len, parts)) + len(encoded) > consume.max_bytes:
                break
            parts.append(encoded)
            end = Position(Index(batch.index + 1), batch.end_offset)
        consume.reply_to.tell(BatchesRead(consume.request_id, b"".join(parts), end))


class Edge:
    """A LogService on a real port over a scripted Server actor, and a client's stub."""

    def __init__(self, server: ScriptedServer, service: LogService, admission: Admission, address: str) -> None:
        self.server = server
        self.service = service
        self.admission = admission
        self.address = address
        self.channel = open_channel(address)
        self.stub = pb_grpc.LogStub(self.channel)


@pytest.fixture
def edge() -> Callable[..., contextlib.AbstractAsyncContextManager[Edge]]:
    """`async with edge(...) as e`: bounds by keyword."""

    @contextlib.asynccontextmanager
    async def running(
        *,
        max_record_bytes: int = 1000,
        max_batch_bytes: int = 100_000,
        door: Door | None = None,
        reads: ReadBudget | None = None,
        max_streams: int = MAX_STREAMS,
        gate: Gate | None = None,
    ) -> AsyncIterator[Edge]:
        scripted = ScriptedServer()
        admission = Admission(door or Door(), reads or ReadBudget(), max_streams, gate or Gate())
        config = NodeConfig(NodeId("n1"), "", "", "")
        silent = Silent()
        sources = StatusSources(config, "1", silent, silent, silent, silent)
        service = LogService(scripted, sources, Limits(max_record_bytes, max_batch_bytes), admission)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service.add_to(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        running_edge = Edge(scripted, service, admission, f"127.0.0.1:{port}")
        try:
            yield running_edge
        finally:
            await running_edge.channel.close()
            await server.stop(None)

    return running


class Silent:
    """An actor that never answers."""

    def tell(self, message: Any) -> None:
        pass


@pytest.fixture
def details_of() -> Callable[[grpc.aio.AioRpcError, Any], Any]:
    """`details_of(error, LeaderHint)`: that detail of the error's rich status."""

    def find(error: grpc.aio.AioRpcError, kind: Any) -> Any:
        status = status_of(error)
        assert status is not None, "the error has no rich status"
        assert status.code == error.code().value[0]
        assert status.message == error.details()
        for packed in status.details:
            if packed.Is(kind.DESCRIPTOR):
                found = kind()
                packed.Unpack(found)
                return found
        raise AssertionError(f"no {kind.__name__} in {status}")

    return find


class RunningNode:
    """A whole node on this test's loop: what it is, where it is, and what it said."""

    def __init__(self, server: NodeServer, addresses: Addresses, events: list[Any], said: asyncio.Event) -> None:
        self.server = server
        self.rpc_addr = addresses.rpc_addr
        self.gossip_addr = addresses.gossip_addr
        self.events = events
        self._said = said

    async def until(self, holds: Callable[[Any], bool]) -> Any:
        """The first event, past ones included, for which `holds`."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if holds(event):
                    return event
            seen = len(self.events)
            self._said.clear()
            await self._said.wait()


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Callable[..., contextlib.AbstractAsyncContextManager[RunningNode]]:
    """`async with node("n1", join=...) as n`: ready and serving, in a directory of its own."""

    @contextlib.asynccontextmanager
    async def running(node_id: str = "n1", *, ready: bool = True, **replaced: Any) -> AsyncIterator[RunningNode]:
        advertise = {key: replaced.pop(key) for key in list(replaced) if key.startswith("advertise_")}
        config = NodeConfig(
            node_id=NodeId(node_id),
            data_dir=replaced.pop("data_dir", str(tmp_path / node_id)),
            rpc_addr=replaced.pop("rpc_addr", "127.0.0.1:0"),
            gossip_addr=replaced.pop("gossip_addr", "127.0.0.1:0"),
            gossip=GossipConfig(probe_interval_s=0.1, probe_timeout_s=0.05, suspicion_s=0.5, join_retry_s=0.1),
            **replaced,
        )
        events: list[Any] = []
        said = asyncio.Event()

        def hear(event: Any) -> None:
            events.append(event)
            said.set()

        server = NodeServer(config, hear, **advertise)
        addresses = await server.start()
        try:
            if ready:
                await server.wait_ready()
            yield RunningNode(server, addresses, events, said)
        finally:
            await server.stop(0.0)

    return running
