"""What the tests of the edges share: coroutine tests, and a Server actor that follows a script."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from ourolog.actors.config import ElectionChoice, GossipConfig, NodeConfig
from ourolog.rpc import event_loops
from ourolog.rpc.admission import ProduceLimiter, ReadBudget
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.channels import open_channel
from ourolog.rpc.errors import status_of
from ourolog.rpc.log_service import ClientLimits, LogService
from ourolog.rpc.node_server import AdvertisedAddresses, NodeServer
from ourolog.rpc.node_status import StatusSources
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES
from ourolog.rpc.record_checks import RecordLimits
from ourolog.rpc.testing import ScriptedServer, SilentActor
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.types import NodeId

TEST_TIMEOUT_S = 60.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Tests that are coroutines run on a loop of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    event_loops.run(asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_TIMEOUT_S))
    return True


class Edge:
    """A LogService on a real port over a scripted Server actor, and a client's stub."""

    def __init__(self, server: ScriptedServer, service: LogService, admission: ClientLimits, address: str) -> None:
        self.server = server
        self.service = service
        self.admission = admission
        self.address = address
        self.channel = open_channel(address)
        self.stub = pb_grpc.LogStub(self.channel)


@pytest.fixture
def edge() -> Callable[..., contextlib.AbstractAsyncContextManager[Edge]]:
    """`async with edge(...) as e`: bounds by keyword. `election` is what was chosen, and who fills the slot."""

    @contextlib.asynccontextmanager
    async def running(
        *,
        max_record_bytes: int = 1000,
        max_batch_bytes: int = 100_000,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        produces: ProduceLimiter | None = None,
        reads: ReadBudget | None = None,
        arrivals: ArrivalLimiter | None = None,
        election: tuple[ElectionChoice, Any] = (ElectionChoice("none", elects=False), SilentActor()),
        **bounds: int,
    ) -> AsyncIterator[Edge]:
        scripted = ScriptedServer()
        admission = ClientLimits(
            produces or ProduceLimiter(), reads or ReadBudget(), arrivals or ArrivalLimiter(), **bounds
        )
        choice, occupant = election
        config = NodeConfig(NodeId("n1"), "/data", "127.0.0.1:1", "127.0.0.1:2", election=choice)
        silent = SilentActor()
        sources = StatusSources(config, "1", silent, silent, silent, occupant)
        service = LogService(scripted, sources, RecordLimits(max_record_bytes, max_batch_bytes), admission)
        received = ("grpc.max_receive_message_length", max_message_bytes)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0), received])
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


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """`logged()`: the lines from INFO on, in full.

    Not among them is what gRPC had still to say to the loop of an earlier test in this process. It
    has one queue of events for all loops: the next test's loop gets it, finds the other closed, and
    logs that. A node has one loop for its life.
    """
    format_entry = logging.Formatter("%(name)s %(levelname)s %(message)s").format

    def is_for_another_loop(entry: logging.LogRecord) -> bool:
        error = entry.exc_info[1] if entry.exc_info else None
        return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"

    def lines() -> list[str]:
        entries = [entry for entry in caplog.records if entry.levelno >= logging.INFO]
        return [format_entry(entry) for entry in entries if not is_for_another_loop(entry)]

    return lines


class RunningNode:
    """A whole node on this test's loop: what it is, where it is, and what it said."""

    def __init__(
        self, server: NodeServer, addresses: AdvertisedAddresses, events: list[Any], said: asyncio.Event
    ) -> None:
        self.server = server
        self.rpc_addr = addresses.rpc_addr
        self.gossip_addr = addresses.gossip_addr
        self.peer_addr = addresses.peer_addr
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
