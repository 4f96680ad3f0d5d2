"""The client against a server that fails at every point: nothing twice, nothing lost, no raw text, in time.

The server is `tests.failing_server.FailingServer`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable
from unittest.mock import patch

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ourolog.rpc import client_requests
from ourolog.rpc.blocking_client import BlockingLogClient
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from tests.failing_server import CODES, FailingServer, Failure, failures

RAW_TEXTS = ("debug_error_string", "StatusCode.", "AioRpcError", "Traceback", "grpc_", "<class", "RST_STREAM with")
DEADLINE_S = 0.6
# grpc-timeout is rounded up on its way.
ROUNDED = 1.02
# Between two attempts at the least, rounding allowed for.
PAUSE_S = 0.02


def check(server: FailingServer, value: bytes, outcome: int | LogError) -> None:
    """What the issue asks of one produce, whatever the server did."""
    assert server.log.count(value) <= 1, "stored twice"
    # "In time": no attempt waits for longer than what the first has left over. How long gRPC takes is its own.
    attempts, server.left_s = server.left_s, []
    assert all(left_s <= DEADLINE_S * ROUNDED for left_s in attempts), attempts
    assert all(later < earlier - PAUSE_S for earlier, later in itertools.pairwise(attempts)), attempts
    if isinstance(outcome, LogError):
        assert not any(text in str(outcome).split(" (")[0] for text in RAW_TEXTS), str(outcome)
        if not outcome.outcome_unknown:
            assert value not in server.log, "it was said that nothing was stored"
    else:
        assert server.log[outcome] == value


async def attempt(call: Awaitable[int]) -> int | LogError:
    try:
        return await call
    except LogError as error:
        return error


async def one_of_each(script: list[Failure]) -> None:
    async with FailingServer(list(script)) as server, LogClient(server.address, timeout_s=DEADLINE_S) as client:
        for value in (b"first", b"second"):
            check(server, value, await attempt(client.produce(value)))
        for value in (b"third", b"fourth"):
            check(server, value, await attempt(client.produce_batch([value])))


async def streamed(script: list[Failure], many: int = 4) -> None:
    values = [b"%d" % n for n in range(many)]
    async with FailingServer(list(script)) as server, LogClient(server.address, timeout_s=DEADLINE_S) as client:
        offsets: list[int] = []
        error: LogError | None = None
        try:
            # So that some go together, and some are behind those.
            with patch.object(client_requests, "GATHERED_RECORDS", 2):
                async with asyncio.timeout(DEADLINE_S):
                    offsets += [offset async for offset in client.produce_stream(values)]
        except TimeoutError:
            return  # a stream has no deadline of its own
        except LogError as raised:
            error = raised
        assert [server.log[offset] for offset in offsets] == values[: len(offsets)]
        for value in values:
            assert server.log.count(value) <= 1
        if error is None:
            assert len(offsets) == len(values)
        elif not error.outcome_unknown:
            assert not set(values[len(offsets) :]) & set(server.log)


EVERY = [
    Failure(how, appended, code)
    for how in ("foreign", "certain", "unknown")
    for appended in (False, True)
    for code in CODES
    if not (how == "certain" and appended)
] + [
    Failure(how, appended) for how in ("garbage", "silence", "before reading", "hang up") for appended in (False, True)
]


@pytest.mark.parametrize("failure", EVERY, ids=lambda f: f"{f.how}-{f.code.name}-{'appended' if f.appended else 'not'}")
async def test_no_failure_makes_the_client_store_twice_or_say_what_is_not_so(failure: Failure) -> None:
    await one_of_each([failure])
    await streamed([failure])
    await streamed([failure], 2)  # all of them in one message


@pytest.mark.parametrize(
    ("code", "goes_on"), [("UNAVAILABLE", True), ("DEADLINE_EXCEEDED", False), ("INTERNAL", False)]
)
async def test_a_stream_sends_again_what_was_not_stored_for_certain_where_a_single_produce_would(
    code: str, goes_on: bool
) -> None:
    failure = Failure("certain", code=grpc.StatusCode[code])
    async with FailingServer([failure, failure]) as server, LogClient(server.address, timeout_s=DEADLINE_S) as client:
        outcome = await attempt(client.produce(b"single"))
        assert isinstance(outcome, int) == goes_on
        assert [failure] * (not goes_on) == server.script
        server.script[:] = [failure]
        outcome = await attempt(anext(client.produce_stream([b"streamed"])))
        assert isinstance(outcome, int) == goes_on


async def test_the_time_of_a_stream_is_that_without_an_answer_and_not_that_of_all_its_failures() -> None:
    failure = Failure("certain")
    script = [failure, None] * 4
    async with FailingServer(script) as server, LogClient(server.address, timeout_s=1.0) as client:

        async def values() -> AsyncIterator[bytes]:
            for number in range(4):
                yield b"%d" % number
                await asyncio.sleep(0.4)

        assert [offset async for offset in client.produce_stream(values())] == [0, 1, 2, 3]
        assert not server.script


async def test_a_stream_that_a_server_ends_goes_on_where_it_was() -> None:
    ended = asyncio.Event()
    async with (
        FailingServer([], ends_streams=True) as server,
        LogClient(server.address, on_retry=lambda _: ended.set()) as client,
    ):

        async def values() -> AsyncIterator[bytes]:
            for number in range(3):
                yield b"%d" % number
                await ended.wait()
                ended.clear()

        assert [offset async for offset in client.produce_stream(values())] == [0, 1, 2]
        assert server.log == [b"0", b"1", b"2"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(failures, max_size=5))
def test_nor_does_any_series_of_failures(script: list[Failure]) -> None:
    asyncio.run(one_of_each(script))
    asyncio.run(streamed(script))


@pytest.mark.parametrize("failure", [f for f in EVERY if f.code is grpc.StatusCode.UNAVAILABLE], ids=str)
def test_nor_the_blocking_client(failure: Failure) -> None:
    loop = asyncio.new_event_loop()
    server = FailingServer([failure])
    from threading import Thread

    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        with BlockingLogClient(server.address, timeout_s=DEADLINE_S) as client:
            outcome: int | LogError
            try:
                outcome = client.produce(b"v")
            except LogError as error:
                outcome = error
            check(server, b"v", outcome)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
