"""The event loop of a process: uvloop where there is one, asyncio's own elsewhere."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from ourolog.rpc import event_loops
from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc


def test_uvloop_is_taken_where_it_is_installed() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is installed on Linux only")
    loop = event_loops.new_event_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)


@pytest.mark.usefixtures("without_uvloop")
def test_without_uvloop_asyncio_has_a_loop_of_its_own() -> None:
    async def kind() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert event_loops.run(kind()).startswith("asyncio.")


@pytest.mark.usefixtures("without_uvloop")
def test_a_node_serves_on_asyncios_own_loop(node: Any) -> None:
    async def serve() -> int:
        async with node() as n, open_channel(n.rpc_addr) as channel:
            stub = pb_grpc.LogStub(channel)
            for _ in range(3):
                produced = await stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"v")))
            return int(produced.offset)

    assert event_loops.run(serve()) == 2
