"""Arriving messages: read when there is room for them, and nobody who is silent keeps others out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from ourolog.rpc.arrival_limiter import LATE_TURN, ArrivalLimiter
from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

PRODUCE = "/log.v1.Log/Produce"


def record(value: bytes) -> pb.ProduceRequest:
    return pb.ProduceRequest(record=pb.Record(value=value))


def silent_call(channel: grpc.aio.Channel, method: str = PRODUCE) -> Any:
    """On the wire a unary call whose message is yet to come."""
    return channel.stream_unary(method, response_deserializer=pb.ProduceResponse.FromString)()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # a limiter is no place for an event that only tests wait for
        await asyncio.sleep(0)


async def test_a_request_is_not_read_while_all_places_are_taken(edge: Any) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=1, patience_s=60.0)) as e:
        stalled = silent_call(e.channel)
        await until(lambda: e.admission.arrivals.arriving == 1)
        behind = asyncio.ensure_future(e.stub.Produce(record(b"behind")))
        await until(lambda: e.admission.arrivals.waiting == 1)
        assert e.server.batches == []
        await stalled.write(record(b"first").SerializeToString())
        await stalled.done_writing()
        assert (await stalled).offset == 0
        assert (await behind).offset == 1


async def test_whoever_sends_nothing_for_long_loses_the_place(edge: Any) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=1, arrive_within_s=0.05, patience_s=60.0)) as e:
        stalled = silent_call(e.channel)
        await until(lambda: e.admission.arrivals.arriving == 1)
        e.admission.arrivals._arrive_within_s = 60.0  # for whoever comes now, on a slow machine, too
        assert (await e.stub.Produce(record(b"behind"))).offset == 0
        assert await stalled.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_whoever_is_slow_makes_room_for_others_and_is_told_when_to_retry(edge: Any, details_of: Any) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=1, patience_s=0.01)) as e:
        stalled = silent_call(e.channel)
        await until(lambda: e.admission.arrivals.arriving == 1)
        assert (await e.stub.Produce(record(b"behind"))).offset == 0
        with pytest.raises(grpc.aio.AioRpcError, match="Nothing of it was appended") as raised:
            await stalled
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details_of(raised.value, details_pb.ErrorInfo).metadata == {}
        assert details_of(raised.value, details_pb.RetryInfo).retry_delay.ToMilliseconds() > 0


async def test_nobody_has_to_make_room_while_nobody_waits(edge: Any) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=2, patience_s=0.001, long_patience_s=0.001)) as e:
        stalled = silent_call(e.channel)
        for _ in range(50):
            await e.stub.Produce(record(b"v"))
        assert not stalled.done()
        stalled.cancel()


async def test_a_client_that_goes_away_leaves_its_place_to_others(edge: Any) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=1, patience_s=60.0)) as e:
        stalled = silent_call(e.channel)
        await until(lambda: e.admission.arrivals.arriving == 1)
        stalled.cancel()
        assert (await e.stub.Produce(record(b"behind"))).offset == 0


async def test_a_call_that_ends_without_a_request_is_refused_as_one_without_a_record(edge: Any) -> None:
    async with edge() as e:
        call = silent_call(e.channel)
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "carries no record" in await call.details()


async def test_who_is_cancelled_in_the_turn_of_its_admission_gives_the_place_back() -> None:
    limiter = ArrivalLimiter(max_arriving=1)
    first_is_there = asyncio.Event()
    first = asyncio.create_task(limiter.arrive("a", first_is_there.wait))
    second, third = (asyncio.create_task(limiter.arrive(client, asyncio.Event().wait)) for client in ("b", "c"))
    await until(lambda: limiter.waiting == 2)
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)
    assert limiter.waiting == 1
    first_is_there.set()
    await until(first.done)  # by which the second has the place, and has not run yet
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert (limiter.arriving, limiter.waiting) == (0, 0)


@contextlib.asynccontextmanager
async def crowd(address: str, connections: int, calls: int, method: str = PRODUCE) -> AsyncIterator[None]:
    """So many clients that each keep so many calls open and send nothing; who is refused comes again at once."""

    async def keep_silent(channel: grpc.aio.Channel) -> None:
        while True:
            call = silent_call(channel, method)
            await call.code()
            await asyncio.sleep(0.02)

    async with contextlib.AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(address)) for _ in range(connections)]
        tasks = [asyncio.create_task(keep_silent(channel)) for channel in channels for _ in range(calls)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class CountingLimiter(ArrivalLimiter):
    """Notes how many others were let in while a client waited. Whoever is silent may be so for ever."""

    def __init__(self) -> None:
        super().__init__(arrive_within_s=3600.0)
        self.waits: dict[str, list[int]] = {}
        self._let_in_at: dict[Any, int] = {}

    async def _place(self, client: str) -> Any:
        before = self._turns
        place = await super()._place(client)
        self.waits.setdefault(client, []).append(self._let_in_at.pop(place) - before)
        return place

    def _take(self, client: str) -> Any:
        place = super()._take(client)
        self._let_in_at[place] = self._turns
        return place


@pytest.mark.parametrize(("connections", "calls"), [(1, 200), (40, 5)])
@pytest.mark.parametrize("method", [PRODUCE, "/log.v1.Log/Consume", "/log.v1.Log/ProduceStream"])
async def test_silent_callers_however_many_do_not_keep_an_honest_one_waiting(
    edge: Any, connections: int, calls: int, method: str
) -> None:
    arrivals = CountingLimiter()
    async with edge(arrivals=arrivals) as e:
        await e.stub.Produce(record(b"honest"))
        (honest,) = arrivals.waits
        async with crowd(e.address, connections, calls, method):
            await until(lambda: arrivals.waiting > 20)
            for expected in range(1, 11):
                assert (await e.stub.Produce(record(b"honest"))).offset == expected
        # One of each other client that was in time, and every so many-th for one that was late.
        assert max(arrivals.waits[honest]) <= 2 + connections * LATE_TURN / (LATE_TURN - 1), arrivals.waits[honest]
        assert len(arrivals.waits[honest]) == 11


async def test_in_a_burst_nobody_is_dropped_at_random(node: Any) -> None:
    async with node() as n, grpc.aio.insecure_channel(n.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        calls = [stub.Produce(record(b"v"), timeout=50) for _ in range(5000)]
        codes = {await call.code() for call in calls}
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
