"""Unary calls with an operation less: how many there are, who hears that a client has gone, and how calls end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ourolog.rpc import listener, unary_calls
from ourolog.rpc.channels import open_channel

METHOD = "/a.Service/Call"


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0.001)


@dataclass
class Server:
    """A server of one unary method, what it has been asked for, and how its calls have ended so far."""

    channel: grpc.aio.Channel
    listener: listener.RpcListener
    inner: Any
    begun: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    ends: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def call(self, request: bytes = b"") -> Any:
        return self.channel.unary_unary(METHOD)(request)

    async def until_gone(self) -> None:
        """Until nothing is left of any call."""
        unary = self.unary
        # The task that takes calls stays.
        await until(lambda: len(self.inner.tasks) <= 1 and not (unary._young or unary._aging))

    @property
    def unary(self) -> unary_calls.UnaryCalls:
        unary: unary_calls.UnaryCalls = self.inner._unary
        return unary

    async def handle(self, _: Any, context: Any) -> bytes:
        request = await context.read()
        self.begun.put_nowait(request)
        try:
            match request:
                case b"wait":
                    await self.release.wait()
                case b"refuse":
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")
                case b"fail":
                    raise ZeroDivisionError
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("answered")
        return bytes(request)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    listening = listener.RpcListener([("grpc.so_reuseport", 0)], lambda _: None, lambda _: None)
    addr = listening.bind("127.0.0.1:0")
    async with open_channel(addr) as channel:
        server = Server(channel, listening, listener._inner(listening._server))  # type: ignore[arg-type]
        handler = grpc.stream_unary_rpc_method_handler(server.handle, response_serializer=bytes)
        await listening.start(lambda to: to.add_registered_method_handlers("a.Service", {"Call": handler}))
        yield server
        await listening.stop(None)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The operations that servers have asked gRPC for, batch by batch; those of clients send a request or a close."""
    asked: list[list[str]] = []
    execute: Callable[..., Awaitable[None]] = cygrpc.execute_batch

    async def counted(call: Any, operations: tuple[Any, ...], loop: Any) -> None:
        names = [type(operation).__name__.removesuffix("Operation") for operation in operations]
        if type(call).__name__ == "RPCState":
            asked.append(names)
        await execute(call, operations, loop)

    monkeypatch.setattr(cygrpc, "execute_batch", counted)
    return asked


async def test_an_answer_and_the_end_of_the_call_are_one_operation(batches: list[list[str]]) -> None:
    async with serving() as server:
        for number in range(20):
            assert await server.call(b"%d" % number) == b"%d" % number
        await server.until_gone()
    answers = [names for names in batches if names != ["ReceiveMessage"]]
    assert answers == [["SendInitialMetadata", "SendMessage", "SendStatusFromServer", "ReceiveCloseOnServer"]] * 20


async def test_a_call_that_is_open_for_long_is_watched_and_answered_without_a_second_watch(
    batches: list[list[str]],
) -> None:
    async with serving() as server:
        call = server.call(b"wait")
        await server.begun.get()
        await until(lambda: ["ReceiveCloseOnServer"] in batches)
        server.release.set()
        assert await call == b"wait"
        await server.until_gone()
    assert batches[-1] == ["SendInitialMetadata", "SendMessage", "SendStatusFromServer"]
    assert batches.count(["ReceiveCloseOnServer"]) == 1


@pytest.mark.parametrize("is_watched", [False, True])
async def test_a_call_whose_client_goes_is_cancelled(is_watched: bool, batches: list[list[str]]) -> None:
    async with serving() as server:
        call = server.call(b"wait")
        await server.begun.get()
        await until(lambda: not is_watched or ["ReceiveCloseOnServer"] in batches)
        call.cancel()
        await until(lambda: bool(server.ends))
        assert server.ends == ["CancelledError"]
        await server.until_gone()
        assert await server.call(b"next") == b"next"


async def test_a_client_that_goes_while_it_is_answered_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        for _ in range(50):
            call = server.call(b"quick")
            await server.begun.get()
            call.cancel()
        assert await server.call(b"next") == b"next"
        await server.until_gone()
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_a_refused_call_has_its_status_and_nothing_is_left_of_it(batches: list[list[str]]) -> None:
    async with serving() as server:
        for _ in range(5):
            with pytest.raises(grpc.aio.AioRpcError, match="not now") as raised:
                await server.call(b"refuse")
            assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        await server.until_gone()
        assert server.ends == ["AbortError"] * 5
    assert batches.count(["ReceiveCloseOnServer"]) == 5, "gRPC is asked for the end of each, or it would cancel it"


async def test_a_call_that_outlives_its_server_is_not_answered(batches: list[list[str]]) -> None:
    async with serving() as server:
        call = server.call(b"wait")
        await server.begun.get()
        await server.listener.stop(0.0)
        server.release.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await until(lambda: bool(server.ends))
        await server.until_gone()
    assert [names for names in batches if "SendMessage" in names] == []


async def test_a_handler_that_fails_ends_its_call_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await server.call(b"fail")
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert await server.call(b"next") == b"next"
        await server.until_gone()
    assert "a bug" in caplog.text


def test_grpcio_has_what_unary_calls_are_served_with() -> None:
    """Whoever raises grpcio's version reads unary_calls.py first."""
    assert callable(cygrpc.execute_batch)
    assert issubclass(cygrpc.ExecuteBatchError, cygrpc.InternalError)
    assert callable(cygrpc._ServicerContext.read)
    for operation in ("SendInitialMetadata", "SendMessage", "SendStatusFromServer", "ReceiveCloseOnServer"):
        assert hasattr(cygrpc, f"{operation}Operation")
