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
from ourolog.rpc.errors import ServiceError
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


class Arrivals:
    """Calls to a limiter whose messages come when a test says so."""

    def __init__(self, limiter: ArrivalLimiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []

    async def silent(self, client: str, calls: int = 1) -> list[asyncio.Task[Any]]:
        """So many calls whose messages never come, and which have got as far as they can."""
        return await self._begin([self.limiter.arrive(client, asyncio.Event().wait) for _ in range(calls)])

    async def prompt(self, *clients: str) -> list[asyncio.Task[Any]]:
        """A call of each of them, whose messages are there; `order` tells when they were read."""

        async def read(client: str) -> None:
            self.order.append(client)

        return await self._begin(
            [self.limiter.arrive(client, lambda client=client: read(client)) for client in clients]
        )  # type: ignore[misc]

    async def _begin(self, calls: list[Any]) -> list[asyncio.Task[Any]]:
        began = [asyncio.create_task(call) for call in calls]
        self.tasks += began
        await asyncio.sleep(0)
        return began


@contextlib.asynccontextmanager
async def arrivals(max_arriving: int, **times: float) -> AsyncIterator[Arrivals]:
    made = Arrivals(ArrivalLimiter(max_arriving, **times))
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        assert (made.limiter.arriving, made.limiter.waiting) == (0, 0)


async def too_late(task: asyncio.Task[Any]) -> str:
    with pytest.raises(ServiceError) as raised:
        await task
    return str(raised.value.message)


async def test_whose_time_is_up_is_ended_however_often_nobody_was_there_before() -> None:
    async with arrivals(2, arrive_within_s=0.01) as a:
        for _ in range(3):
            (call,) = await a.silent("a")
            assert "did not arrive within 0.01 s" in await too_late(call)


async def test_half_of_the_places_change_hands_at_once_and_the_oldest_keep_the_others() -> None:
    async with arrivals(4, patience_s=0.01, long_patience_s=60.0) as a:
        oldest = await a.silent("a", 2)
        began_s = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > began_s)
        younger = await a.silent("a", 2)
        behind = await a.silent("a", 6)
        for call in (*younger, *behind[:4]):
            assert "others wait for its place" in await too_late(call)
        assert not any(call.done() for call in oldest)


async def test_the_other_half_is_for_those_that_take_a_little_longer() -> None:
    async with arrivals(4, patience_s=0.01, long_patience_s=0.02) as a:
        first = await a.silent("a", 4)
        await a.silent("a", 12)
        for call in first:
            assert "others wait for its place" in await too_late(call)


async def test_no_more_make_room_than_there_are_waiting_and_first_those_with_the_most_places() -> None:
    async with arrivals(4, patience_s=0.01, long_patience_s=0.02) as a:
        crowd_of_one = await a.silent("a", 3)
        (alone,) = await a.silent("b")
        (call,) = await a.prompt("c")
        await call
        assert len([ended for ended in crowd_of_one if ended.done()]) == 1
        assert not alone.done()


async def test_whoever_was_late_is_served_every_so_many_turns_however_many_others_come() -> None:
    async with arrivals(1, patience_s=0.01, long_patience_s=0.01) as a:
        (late,) = await a.silent("late")
        calls = await a.prompt("in time 0")
        await too_late(late)
        await asyncio.wait(calls)
        (blocking,) = await a.silent("blocks")
        calls = await a.prompt("late", *(f"in time {number}" for number in range(1, 3 * LATE_TURN)))
        await asyncio.wait((blocking, *calls))
        assert 1 < a.order.index("late") <= LATE_TURN + 1
        assert len(a.order) == 3 * LATE_TURN + 1


async def test_what_a_late_client_has_waiting_waits_behind_all_others() -> None:
    async with arrivals(1, patience_s=0.01, long_patience_s=0.01) as a:
        (late,) = await a.silent("late")
        calls = await a.prompt("late")
        (blocking,) = await a.silent("blocks")
        await too_late(late)
        calls += await a.prompt("b", "c")
        blocking.cancel()
        await asyncio.wait(calls)
        assert a.order == ["b", "c", "late"]


async def test_who_was_late_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ourolog.rpc.arrival_limiter.LATE_FOR_S", 0.001)
    async with arrivals(1, patience_s=0.01, long_patience_s=0.01) as a:
        for number in range(5):
            (late,) = await a.silent(f"late {number}")
            (waiting,) = await a.prompt("in time")
            await too_late(late)
            await waiting
        assert len(a.limiter._late_until_s) == 1


async def test_who_has_to_make_room_before_it_has_begun_to_read_is_told() -> None:
    async with arrivals(1, arrive_within_s=3600.0, patience_s=0.0, long_patience_s=0.0) as a:
        a.limiter._arm = lambda: None  # type: ignore[method-assign]  # the test says when
        (first,) = await a.silent("a")
        (second,) = await a.silent("b")
        await a.silent("c")
        first.cancel()
        await until(first.done)  # by which the second has the place, and has not run yet
        a.limiter._make_room()
        assert "others wait for its place" in await too_late(second)


async def test_who_is_cancelled_is_cancelled_and_who_is_late_is_not() -> None:
    async with arrivals(1, patience_s=0.01, long_patience_s=0.01) as a:
        (call,) = await a.silent("a")
        call.cancel()
        await asyncio.wait((call,))
        assert call.cancelled()

        both, *_ = await a.silent("b")
        await a.silent("c")
        (place,) = [place for place in a.limiter._arriving if place.client == "b"]
        place.end()
        both.cancel()
        await asyncio.wait((both,))
        assert both.cancelled()


async def test_who_is_late_can_go_on_with_other_work() -> None:
    async with arrivals(1, arrive_within_s=0.01) as a:
        with pytest.raises(ServiceError):
            await a.limiter.arrive("a", asyncio.Event().wait)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


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
    """Notes how many others were let in while a client waited. Whoever is silent may be so for ever.

    honest: a client that sends at once; that its message comes late on a busy machine is not its fault.
    """

    def __init__(self) -> None:
        super().__init__(arrive_within_s=3600.0)
        self.honest = ""
        self.waits: dict[str, list[int]] = {}
        self._let_in_at: dict[Any, int] = {}

    def _displace(self, place: Any, now_s: float) -> None:
        if place.client != self.honest:
            super()._displace(place, now_s)

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
        arrivals.honest = honest
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
