"""The gRPC port goes on serving when grpcio's server loop ends, and what would end it never reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ourolog.actors.messages.events import MemberJoined
from ourolog.actors.messages.observer import NodeFailed, NodeWarned
from ourolog.actors.occupants import parse_election
from ourolog.rpc import listener
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError, to_log_error
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from tests.raw_http2 import call

NOT_UTF8 = b"/log.v1.Log/\xff\xfe"
PRODUCE = pb.ProduceRequest(record=pb.Record(value=b"v"))


async def send(addr: str, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = addr.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    await writer.drain()
    return reader, writer


async def answer_to(addr: str, raw: bytes) -> bytes:
    """All that comes back up to gRPC's status, or the end of the connection."""
    reader, writer = await send(addr, raw)
    got = b""
    while b"grpc-status" not in got:
        piece = await reader.read(4096)
        if not piece:
            break
        got += piece
    writer.close()
    return got


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """grpcio as it comes: a path that is not UTF-8 ends its loop."""
    monkeypatch.delattr(listener._WatchedServer, "_request_call")


@contextlib.asynccontextmanager
async def open_work(addr: str) -> AsyncIterator[Any]:
    """A consume stream and a produce stream beside; the function inside makes both move."""
    async with open_channel(addr) as channel:
        stub = pb_grpc.LogStub(channel)
        consume = stub.ConsumeStream(pb.ConsumeRequest())
        produce = stub.ProduceStream()

        async def both_move() -> None:
            await produce.write(PRODUCE)
            offset = (await produce.read()).offset
            while (await consume.read()).record.offset < offset:
                pass

        await both_move()
        yield both_move
        consume.cancel()
        produce.cancel()


async def test_a_path_that_is_not_utf8_is_unimplemented_and_harms_nobody(node: Any) -> None:
    async with node() as n, open_work(n.rpc_addr) as both_move, LogClient(n.rpc_addr) as client:
        for _ in range(20):
            assert b"12" in await answer_to(n.rpc_addr, call(NOT_UTF8))
            await both_move()
            await client.produce(b"v")
        assert not [event for event in n.events if isinstance(event, NodeWarned | NodeFailed)]


async def test_a_method_that_is_not_there_is_unimplemented(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        for path in ("/log.v1.Log/Nope", "/nobody.Knows/It"):
            with pytest.raises(grpc.aio.AioRpcError, match="no such method") as raised:
                await channel.unary_unary(path)(b"")
            assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
            error = to_log_error(raised.value, n.rpc_addr)
            assert (error.reason, error.outcome_unknown) == ("NO_SUCH_METHOD", False)
            assert (
                error.message
                == f"{n.rpc_addr} does not know this call: it is no ourolog node, or one of another version"
            )


async def test_callers_of_unknown_methods_who_vanish_leave_nothing_behind(
    node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with node() as n:
        for _ in range(50):
            _, writer = await send(n.rpc_addr, call(NOT_UTF8))
            writer.transport.abort()
        async with LogClient(n.rpc_addr) as client:
            await client.produce(b"v")
        inner = listener._inner(n.server._listener._server)
        while inner.refusals:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


@pytest.mark.usefixtures("unguarded")
async def test_a_server_loop_that_ends_is_replaced_20_times_in_a_row_and_open_calls_go_on(
    node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with node() as n, open_work(n.rpc_addr) as both_move, LogClient(n.rpc_addr) as client:
        n.server._listener._tokens = 20.0
        for ended in range(1, 21):
            _, writer = await send(n.rpc_addr, call(NOT_UTF8))
            await n.until(lambda _, ended=ended: len(restarts(n.events)) >= ended)
            # What goes out by the old connection before gRPC has said goodbye there is cut off with it.
            with contextlib.suppress(LogError):
                await client.produce(b"may be cut off")
            await client.produce(b"v")
            if ended <= listener.MAX_RETIRED:
                await both_move()
            writer.close()
        assert not n.server.failed.done()
        async with open_channel(n.rpc_addr) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.SERVING
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.getMessage()]


@pytest.mark.usefixtures("unguarded")
async def test_a_follower_goes_on_pulling_from_a_leader_whose_server_loop_ended(node: Any) -> None:
    election = parse_election("static:n1,n2")
    async with node("n1", election=election) as n1, node("n2", election=election, join=(n1.gossip_addr,)) as n2:
        await n2.until(lambda event: isinstance(event, MemberJoined))
        async with LogClient(n1.rpc_addr) as client:
            await client.produce(b"before")
            _, writer = await send(n1.rpc_addr, call(NOT_UTF8))
            await n1.until(lambda event: isinstance(event, NodeWarned))
            assert await client.produce(b"by quorum") == 1
            writer.close()


@pytest.mark.usefixtures("unguarded")
async def test_a_flood_of_ends_is_slowed_and_the_node_serves_when_it_is_over(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "RESTARTS_AT_ONCE", 2)
    async with node() as n:
        n.server._listener._tokens = 2.0
        host, _, port = n.rpc_addr.rpartition(":")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while (took_s := loop.time() - began_s) < 1.0:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.write(call(NOT_UTF8))
                writer.close()
        assert 2 <= len(restarts(n.events)) <= 3 + listener.RESTARTS_PER_S * took_s
        async with LogClient(n.rpc_addr) as client:
            await client.produce(b"v")


@pytest.mark.usefixtures("unguarded")
async def test_a_port_that_cannot_be_had_again_fails_the_node_loudly(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "BIND_WITHIN_S", 0.1)
    look, is_taken = listener.check_listenable, asyncio.Event()

    async def look_when_taken(addr: str) -> None:
        await is_taken.wait()
        await look(addr)

    async with node() as n:
        monkeypatch.setattr(listener, "check_listenable", look_when_taken)
        _, writer = await send(n.rpc_addr, call(NOT_UTF8))
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                with contextlib.suppress(OSError):
                    taken.bind(("127.0.0.1", int(n.rpc_addr.rpartition(":")[2])))
                    taken.listen()
                    break
                await asyncio.sleep(0)
            is_taken.set()
            failed = await n.until(lambda event: isinstance(event, NodeFailed))
        assert "cannot be bound again" in failed.reason
        assert n.server.failed.done()
        writer.close()


@pytest.mark.usefixtures("unguarded")
async def test_a_stop_ends_servers_whose_loop_has_ended_as_well(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        stuck = pb_grpc.LogStub(channel).ProduceStream()
        await stuck.write(PRODUCE)
        await stuck.read()
        _, writer = await send(n.rpc_addr, call(NOT_UTF8))
        await n.until(lambda event: isinstance(event, NodeWarned))
        await n.server.stop(0.1)
        assert n.server._listener._retired == []
        writer.close()
        stuck.cancel()


@pytest.mark.usefixtures("unguarded")
async def test_a_server_that_has_ended_with_open_calls_is_kept_until_they_end(node: Any) -> None:
    async with node() as n, open_work(n.rpc_addr) as both_move:
        _, writer = await send(n.rpc_addr, call(NOT_UTF8))
        await n.until(lambda event: isinstance(event, NodeWarned))
        for _ in range(3):
            await both_move()
            assert len(n.server._listener._retired) == 1
        writer.close()


@pytest.mark.usefixtures("unguarded")
async def test_of_many_servers_that_have_ended_the_oldest_ends_its_calls(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_RETIRED", 1)
    async with node() as n, contextlib.AsyncExitStack() as stack:
        streams = []
        for ended in range(1, 3):
            channel = await stack.enter_async_context(open_channel(n.rpc_addr))
            streams.append(pb_grpc.LogStub(channel).ProduceStream())
            await streams[-1].write(PRODUCE)
            await streams[-1].read()
            _, writer = await send(n.rpc_addr, call(NOT_UTF8))
            await n.until(lambda _, ended=ended: len(restarts(n.events)) >= ended)
            writer.close()
        assert await streams[0].code() is not grpc.StatusCode.OK
        await streams[1].write(PRODUCE)
        assert (await streams[1].read()).offset == 2
        streams[1].cancel()


@pytest.mark.usefixtures("unguarded")
async def test_a_call_that_comes_to_a_wait_that_was_given_up_is_refused(node: Any) -> None:
    async with node() as n, open_channel(n.rpc_addr) as channel:
        inner = listener._inner(n.server._listener._server)
        waits = [inner._make_request_call_future(method) for method in (None, b"/log.v1.Log/Produce")]
        await asyncio.sleep(0)  # by which they have asked for a call
        for wait in waits:
            wait.cancel()
        stub = pb_grpc.LogStub(channel)

        async def code_of(awaited: Any) -> grpc.StatusCode:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await awaited
            return await awaited.code()  # type: ignore[no-any-return]

        unknown = [await code_of(channel.unary_unary("/nobody.Knows/It")(b"")) for _ in range(2)]
        assert sorted(unknown, key=str) == [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED]
        known = [await code_of(stub.Produce(PRODUCE)) for _ in range(3)]
        assert sorted(known, key=str) == [grpc.StatusCode.OK] * 2 + [grpc.StatusCode.UNAVAILABLE]


async def test_a_method_whose_calls_cannot_be_taken_any_more_ends_the_server_and_another_takes_over(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = listener._WatchedServer._request_registered_call
    failures = ["no more calls"]

    async def fail_once(server: Any, method: bytes) -> Any:
        if method == b"/log.v1.Log/Produce" and failures:
            raise RuntimeError(failures.pop())
        return await request(server, method)

    monkeypatch.setattr(listener._WatchedServer, "_request_registered_call", fail_once, raising=False)
    async with node() as n, LogClient(n.rpc_addr) as client:
        warned = await n.until(lambda event: isinstance(event, NodeWarned))
        assert "no more calls" in str(warned)
        assert await client.produce(b"v") == 0


def alone() -> listener.RpcListener:
    """A listener whose node has nothing to say."""
    return listener.RpcListener([("grpc.so_reuseport", 0)], lambda _: None, lambda _: None)


async def test_a_listener_that_stops_is_not_started_again() -> None:
    stopped_first, ended_first = alone(), alone()
    for each in (stopped_first, ended_first):
        each.bind("127.0.0.1:0")
        await each.start(lambda _: None)
    ended_first._tokens = -1_000_000.0  # it would be long before it starts again
    ended_first._loop_ended("an error")
    assert ended_first._restarting is not None
    await ended_first.stop(None)
    assert ended_first._restarting.cancelled()
    await stopped_first.stop(None)
    stopped_first._loop_ended("cancelled")
    assert stopped_first._restarting is None


async def test_however_long_all_was_well_only_so_many_ends_are_forgiven_at_once() -> None:
    made = alone()
    made._tokens_at_s = asyncio.get_running_loop().time() - 86_400.0
    pauses = [made._pause_s() for _ in range(listener.RESTARTS_AT_ONCE + 2)]
    assert [pause_s > 0 for pause_s in pauses] == [False] * listener.RESTARTS_AT_ONCE + [True] * 2


def restarts(events: list[Any]) -> list[NodeWarned]:
    return [event for event in events if isinstance(event, NodeWarned) and event.actor == "rpc"]


def test_grpcio_has_what_the_listener_watches() -> None:
    """Without these the listener would be deaf. Whoever raises grpcio's version reads listener.py first."""
    from grpc._cython import cygrpc

    assert callable(cygrpc.AioServer._serving_task_crash_handler)
    assert callable(cygrpc.AioServer._request_call)
    assert callable(cygrpc.AioServer._request_registered_call)
    assert callable(cygrpc.AioServer._make_request_call_future)
    assert callable(cygrpc._ServicerContext.abort)
    assert callable(cygrpc._schedule_rpc_coro)
    assert callable(cygrpc._handle_stream_stream_rpc)
    assert callable(cygrpc._handle_stream_unary_rpc)
