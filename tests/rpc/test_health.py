"""The health service: what is asked, what watchers hear, and watchers that do not listen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.channels import open_channel
from ourolog.rpc.health import HealthService
from ourolog.rpc.server_calls import OpenCalls
from tests.raw_http2 import INITIAL_WINDOW_SIZE, call

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
UNKNOWN = pb.HealthCheckResponse.SERVICE_UNKNOWN


@contextlib.asynccontextmanager
async def serving(health: HealthService) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def watch(channel: grpc.aio.Channel, service: str = "") -> Any:
    return pb_grpc.HealthStub(channel).Watch(pb.HealthCheckRequest(service=service))


async def test_a_check_answers_for_known_names_and_not_found_for_others() -> None:
    health = HealthService(OpenCalls(ArrivalLimiter()), "", "s")
    async with serving(health) as addr, open_channel(addr) as channel:
        stub = pb_grpc.HealthStub(channel)
        assert (await stub.Check(pb.HealthCheckRequest(service="s"))).status == NOT_SERVING
        health.set_serving(True)
        assert (await stub.Check(pb.HealthCheckRequest())).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Check(pb.HealthCheckRequest(service="t"))
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_every_change_and_the_end() -> None:
    health = HealthService(OpenCalls(ArrivalLimiter()), "")
    async with serving(health) as addr, open_channel(addr) as channel:
        call, stranger = watch(channel), watch(channel, "t")
        assert (await stranger.read()).status == UNKNOWN
        for serving_now, status in ((False, NOT_SERVING), (True, SERVING), (False, NOT_SERVING), (True, SERVING)):
            health.set_serving(serving_now)
            assert (await call.read()).status == status
        health.end()
        health.set_serving(True)
        assert (await call.read()).status == NOT_SERVING
        assert await call.read() == grpc.aio.EOF
        assert await stranger.read() == grpc.aio.EOF


async def test_there_are_as_many_watchers_as_there_is_room_for() -> None:
    health = HealthService(OpenCalls(ArrivalLimiter(), 1), "")
    async with serving(health) as addr, open_channel(addr) as channel:
        first = watch(channel)
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watch(channel).read()
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


async def test_a_watcher_that_does_not_read_keeps_a_node_from_nothing(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        host, _, port = n.rpc_addr.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        # It lets the server send no byte of any message.
        writer.write(call(b"/grpc.health.v1.Health/Watch", b"", (INITIAL_WINDOW_SIZE, 0)))
        await writer.drain()
        while not len(n.server._auxiliary_calls):  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        honest = watch(channel)
        assert (await honest.read()).status == SERVING
        stopping = asyncio.create_task(n.server.stop(0.1))
        assert (await honest.read()).status == NOT_SERVING
        await stopping
        writer.close()


@pytest.mark.parametrize(
    "method",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_bytes_that_are_no_message_are_invalid_and_log_nothing(
    node: Any, method: str, logged: Callable[[], list[str]]
) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.stream_stream(method)(iter([b"\xff\xff\xff"])).read()
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        abandoned = channel.stream_stream(method)()
        await abandoned.write(b"")
        abandoned.cancel()
        await n.server.stop(0.0)
    assert logged() == []
