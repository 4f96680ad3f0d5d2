"""The client: whom it asks, when it asks again, and when it had better not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from ourolog.actors.messages.server import Produce, Refusal, RegisterProducer, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_types import Acknowledgement
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records
from ourolog.storage.types import NodeId


def refusing(times: int, refusal: Refusal, **more: Any) -> Callable[[Any], Callable[[int], RequestRefused]]:
    """Refuses so often, then serves."""

    def install(server: Any) -> Callable[[int], RequestRefused]:
        left = [times]

        def refuse(request_id: int) -> RequestRefused:
            left[0] -= 1
            if not left[0]:
                server.refuse = None
            return RequestRefused(request_id, refusal, "not now", **more)

        return refuse

    return install


async def test_a_hint_leads_the_client_to_the_leader_and_it_stays_there(edge: Any) -> None:
    async with edge() as follower, edge() as leader, LogClient(follower.address) as client:
        follower.server.refuse = lambda request_id: RequestRefused(
            request_id, Refusal.NOT_LEADER, "n2 leads", leader_addr=leader.address
        )
        assert [await client.produce(b"a"), await client.produce_batch([b"b", b"c"])] == [0, 1]
        assert len(follower.server.all(RegisterProducer)) == 1
        assert follower.server.all(Produce) == []
        assert len(leader.server.all(Produce)) == 2


async def test_two_nodes_that_point_at_each_other_do_not_keep_the_client_for_ever(edge: Any) -> None:
    async with edge() as one, edge() as two, LogClient(one.address, timeout_s=0.4) as client:
        for here, there in ((one, two), (two, one)):
            here.server.refuse = lambda request_id, there=there: RequestRefused(
                request_id, Refusal.NOT_LEADER, "the other leads", leader_addr=there.address
            )
        with pytest.raises(LogError, match="the other leads"):
            await client.produce(b"a")
        # With pauses: without them it would be thousands.
        assert len(one.server.all(Produce)) + len(two.server.all(Produce)) < 50


@pytest.mark.parametrize("refusal", [Refusal.NOT_READY, Refusal.LEADER_UNKNOWN, Refusal.OVERLOADED])
async def test_what_passes_is_waited_for(edge: Any, refusal: Refusal) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.refuse = refusing(2, refusal)(e.server)
        assert await client.produce(b"a") == 0
        assert len(e.server.all(RegisterProducer)) == 3
        e.server.refuse = refusing(2, refusal)(e.server)
        assert await client.produce(b"b") == 1
        numbers = [produce.batch.producer_sequence for produce in e.server.all(Produce)]
        assert numbers == [0, 1, 1, 1], "what was certainly not appended has used up no number"


async def test_a_wait_that_would_end_after_the_deadline_is_not_begun(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ourolog.rpc.errors.RETRY_AFTER_S", 3600.0)
    async with edge() as e, LogClient(e.address) as client:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.OVERLOADED, "full")
        with pytest.raises(LogError, match="full"):
            await client.produce(b"a")


async def test_an_unknown_outcome_is_not_repeated_where_the_log_does_not_remember_what_it_has(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.refuse = refusing(1, Refusal.STOPPING, outcome_unknown=True)(e.server)
        with pytest.raises(LogError, match="outcome is unknown") as raised:
            await client.produce(b"a", acks=Acks.LEADER)
        assert raised.value.outcome_unknown
        assert len(e.server.all(Produce)) == 1


async def test_the_client_says_which_replicas_have_what_it_produced(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.replicas = (NodeId("n1"), NodeId("n3"))
        await client.produce(b"a")
        assert await client.produce_acknowledged([b"b", b"c"]) == Acknowledgement(1, 2, ("n1", "n3"))


async def test_a_bad_record_is_not_repeated_and_names_its_field(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        with pytest.raises(LogError) as raised:
            await client.produce(b"")
        assert raised.value.fields == {"record.value": "must not be empty"}
        assert not raised.value.outcome_unknown


async def test_a_node_that_is_not_there_is_said_to_be_and_another_is_asked(edge: Any) -> None:
    async with edge() as e:
        async with LogClient(["127.0.0.1:1", e.address]) as client:
            assert await client.produce(b"a") == 0
            assert (await client.consume(0)).value == b"a"
        async with LogClient("127.0.0.1:1", timeout_s=0.3) as client:
            with pytest.raises(LogError, match=r"cannot reach 127\.0\.0\.1:1") as raised:
                await client.produce(b"a")
            assert not raised.value.outcome_unknown


async def test_a_connection_that_breaks_during_a_produce_leaves_the_outcome_unknown() -> None:
    class Breaking(pb_grpc.LogServicer):
        async def Produce(self, request: Any, context: Any) -> pb.ProduceResponse:  # noqa: N802
            stopped.append(asyncio.create_task(server.stop(None)))
            await asyncio.Event().wait()
            raise AssertionError

    stopped: list[asyncio.Task[None]] = []
    server = grpc.aio.server()
    pb_grpc.add_LogServicer_to_server(Breaking(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with LogClient(f"127.0.0.1:{port}", timeout_s=5) as client:
        with pytest.raises(LogError) as raised:
            await client.produce(b"a")
        assert raised.value.outcome_unknown
    await asyncio.gather(*stopped)


@pytest.mark.parametrize(
    ("records", "count"),
    [(b"\xff" * 50, 1), (encode_records([b"a"]), 5), (encode_records([b"a", b"b"]), 1)],
)
async def test_a_batch_that_holds_something_else_than_its_records_ends_a_stream_at_its_offset_and_at_once(
    records: bytes, count: int
) -> None:
    class Poisoned(pb_grpc.LogServicer):
        async def ConsumeBatchStream(self, request: Any, context: Any) -> AsyncIterator[pb.ConsumeBatchResponse]:  # noqa: N802
            asked.append(request.offset)
            good = pb.RecordBatch(base_offset=0, record_count=1, records=encode_records([b"good"]))
            bad = pb.RecordBatch(base_offset=1, record_count=count, records=records)
            yield pb.ConsumeBatchResponse(batches=[good, bad])

    asked: list[int] = []
    server = grpc.aio.server()
    pb_grpc.add_LogServicer_to_server(Poisoned(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with LogClient(f"127.0.0.1:{port}", timeout_s=20) as client:
        batches = client.consume_batches(stop_at_end=True)
        assert (await anext(batches)).values == [b"good"]
        with pytest.raises(LogError, match="offset 1 ") as raised:
            await anext(batches)
    await server.stop(None)
    assert (raised.value.code, raised.value.outcome_unknown, asked) == ("DATA_LOSS", False, [0])


async def test_something_that_is_no_node_is_said_to_be() -> None:
    async with _empty_server() as addr, LogClient(addr) as client:
        with pytest.raises(LogError, match="no ourolog node"):
            await client.produce(b"a")


@contextlib.asynccontextmanager
async def _empty_server() -> AsyncIterator[str]:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_streams_give_offsets_records_and_batches(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        assert [offset async for offset in client.produce_stream(b"%d" % n for n in range(5))] == list(range(5))
        assert [base async for base in client.produce_batch_stream([[b"5", b"6"], [b"7"]])] == [5, 7]
        records = [record async for record in client.consume_stream(2, stop_at_end=True)]
        assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(2, 8)]
        batches = [batch async for batch in client.consume_batches(6, stop_at_end=True, provenance=True)]
        assert [(batch.base_offset, batch.values) for batch in batches] == [(5, [b"5", b"6", b"7"])]
        assert batches[0].provenance is not None
        assert batches[0].provenance.path == ("n1",)


async def test_a_consume_stream_goes_on_where_it_was_when_its_node_drains(edge: Any) -> None:
    async with edge() as one, edge() as two:
        for e in (one, two):
            e.server.append(NewBatch(encode_records([b"a", b"b"]), 2))
        two.server.append(NewBatch(encode_records([b"c"]), 1))
        async with LogClient([one.address, two.address]) as client:
            records = client.consume_stream(0)
            got = [await anext(records), await anext(records)]
            await one.server.until(lambda: bool(one.server.tailing))
            one.service.drain()
            got.append(await anext(records))
            assert [(record.offset, record.value) for record in got] == [(0, b"a"), (1, b"b"), (2, b"c")]
            await records.aclose()


async def test_a_client_that_stops_consuming_frees_its_stream(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.append(NewBatch(encode_records([b"a"]), 1))
        records = client.consume_stream(0)
        await anext(records)
        await e.server.until(lambda: bool(e.server.tailing))
        await records.aclose()
        await e.server.until(lambda: not e.server.tailing)
        while e.service.pending_requests:  # noqa: ASYNC110  # freed in a later turn of the loop, for which there is no event
            await asyncio.sleep(0)


def pass_time(seconds: float) -> None:
    """The running loop's clock, which is the client's, jumps; gRPC's own does not."""
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + seconds  # type: ignore[method-assign]


def after(times: int, then: Callable[[], None]) -> Callable[[object], None]:
    """Called so many times it does that, once."""
    left = itertools.count(times, -1)
    return lambda _: then() if next(left) == 1 else None


async def test_until_a_leader_knows_the_end_of_its_log_reads_of_one_record_are_retried(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.append(NewBatch(encode_records([b"a"]), 1))
        e.server.refuse = refusing(2, Refusal.COMMIT_UNKNOWN)(e.server)
        assert (await client.consume(0)).value == b"a"
        in_the_third_attempt = after(3, lambda: pass_time(31.0))

        def never_known(request_id: int) -> RequestRefused:
            in_the_third_attempt(None)
            return RequestRefused(request_id, Refusal.COMMIT_UNKNOWN, "not known yet")

        e.server.refuse = never_known
        with pytest.raises(LogError, match="not known yet") as raised:
            await client.consume(0, timeout_s=30.0)
        assert raised.value.is_end_unknown
        assert raised.value.retry_after_s is not None


async def test_a_stream_does_not_stop_at_an_end_that_is_not_known(edge: Any) -> None:
    failures: list[LogError] = []
    async with edge() as leader, edge() as behind, LogClient([leader.address, behind.address], timeout_s=5.0) as client:
        client._calls.on_retry = failures.append
        for value in (b"a", b"b"):
            leader.server.append(NewBatch(encode_records([value]), 1))
        behind.server.append(NewBatch(encode_records([b"a"]), 1))
        leader.server.refuse = refusing(3, Refusal.COMMIT_UNKNOWN)(leader.server)
        assert [record.value async for record in client.consume_stream(0, stop_at_end=True)] == [b"a", b"b"]
        assert [failure.reason for failure in failures] == ["COMMIT_UNKNOWN"] * 3
        # And when it never is, the end is an error.
        leader.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.COMMIT_UNKNOWN, "not known yet")
        impatient = LogClient(leader.address, timeout_s=30.0, on_retry=after(3, lambda: pass_time(31.0)))
        with pytest.raises(LogError, match="not known yet"):
            [record async for record in impatient.consume_stream(0, stop_at_end=True)]
        await impatient.close()


async def test_whoever_follows_waits_on_the_server_until_the_end_is_known(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.append(NewBatch(encode_records([b"a"]), 1))
        e.server.refuse = refusing(3, Refusal.COMMIT_UNKNOWN)(e.server)
        records = client.consume_stream(0)
        assert (await anext(records)).value == b"a"
        await e.server.until(lambda: bool(e.server.tailing))
        await records.aclose()


async def test_a_stream_that_waited_for_long_is_taken_up_again_when_its_node_comes_back(
    edge: Any,
) -> None:
    async with edge() as one, edge() as two, LogClient([one.address, two.address], timeout_s=30.0) as client:
        records = client.consume_stream(0)
        first = asyncio.ensure_future(anext(records))
        await one.server.until(lambda: bool(one.server.tailing))
        pass_time(31.0)  # longer than it may take without a success
        two.server.append(NewBatch(encode_records([b"a"]), 1))
        one.service.drain()
        assert (await first).value == b"a"
        await records.aclose()
