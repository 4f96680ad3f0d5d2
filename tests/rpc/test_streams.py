"""Produce and consume streams over a scripted Server actor: order, flow control, and their ends."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc import error_details_pb2 as details_pb

from ourolog.actors.messages.server import CancelRequest, Consume, Produce, Refusal, RequestRefused
from ourolog.rpc.admission import IN_FLIGHT_COPIES, READ_COPIES, ProduceLimiter, ReadBudget
from ourolog.rpc.consume_handler import MIN_CHUNK_BYTES
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records
from tests.raw_http2 import INITIAL_WINDOW_SIZE, calls


def record(value: bytes) -> pb.ProduceRequest:
    return pb.ProduceRequest(record=pb.Record(value=value))


async def read_all(call: Any) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """What a stream brought, and the error it ended with."""
    responses = []
    try:
        async for response in call:
            responses.append(response)
    except grpc.aio.AioRpcError as error:
        return responses, error
    return responses, None


async def test_a_produce_stream_is_answered_in_order(edge: Any) -> None:
    async with edge() as e:

        async def requests() -> AsyncIterator[pb.ProduceRequest]:
            for n in range(300):
                yield record(b"%d" % n)

        responses, error = await read_all(e.stub.ProduceStream(requests()))
        assert error is None
        assert [response.offset for response in responses] == list(range(300))


async def test_a_produce_stream_is_pipelined(edge: Any) -> None:
    async with edge() as e:
        e.server.hold = True
        call = e.stub.ProduceStream()
        for n in range(3):
            await call.write(record(b"%d" % n))
        await e.server.until(lambda: len(e.server.all(Produce)) == 3)
        e.server.hold = False
        for held in reversed(e.server.all(Produce)):
            e.server.tell(held)
        await call.done_writing()
        responses, _ = await read_all(call)
        # Answered in the order in which they were asked, whatever order the answers came in.
        assert [response.offset for response in responses] == [2, 1, 0]


async def test_a_bad_record_ends_a_produce_stream_after_those_before_it_were_answered(
    edge: Any, details_of: Any
) -> None:
    async with edge() as e:

        async def requests() -> AsyncIterator[pb.ProduceRequest]:
            yield record(b"a")
            yield record(b"b")
            yield record(b"")
            yield record(b"never")

        responses, error = await read_all(e.stub.ProduceStream(requests()))
        assert [response.offset for response in responses] == [0, 1]
        assert error is not None
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert details_of(error, details_pb.BadRequest).field_violations[0].field == "record.value"
        assert len(e.server.all(Produce)) == 2


async def test_a_refused_produce_ends_its_stream_with_that_status(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_LEADER, "n2 leads", None, "h:1")
        call = e.stub.ProduceStream()
        await call.write(record(b"a"))
        responses, error = await read_all(call)
        assert responses == []
        assert error is not None
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert details_of(error, pb.LeaderHint).leader_addr == "h:1"


async def test_a_batch_stream_is_answered_in_order_and_refuses_a_wrong_count(edge: Any) -> None:
    async with edge() as e:

        async def requests() -> AsyncIterator[pb.ProduceBatchRequest]:
            yield pb.ProduceBatchRequest(records=encode_records([b"a", b"b"]), record_count=2)
            yield pb.ProduceBatchRequest(records=encode_records([b"c"]), record_count=1)
            yield pb.ProduceBatchRequest(records=encode_records([b"d", b"e"]), record_count=1)

        responses, error = await read_all(e.stub.ProduceBatchStream(requests()))
        assert [(response.base_offset, response.record_count) for response in responses] == [(0, 2), (2, 1)]
        assert error is not None
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_full_server_stops_reading_a_stream_instead_of_failing_it(edge: Any) -> None:
    async with edge(produces=ProduceLimiter(max_requests=3)) as e:
        e.server.hold = True
        call = e.stub.ProduceStream()
        for n in range(5):
            await call.write(record(b"%d" % n))
        await call.done_writing()
        await e.server.until(lambda: len(e.server.all(Produce)) == 2)
        # A unary call goes all the way through the service: the stream had its chance to read on.
        await e.stub.GetServers(pb.GetServersRequest())
        assert len(e.server.all(Produce)) == 2
        e.server.hold = False
        for held in e.server.all(Produce):
            e.server.tell(held)
        responses, error = await read_all(call)
        assert error is None
        assert [response.offset for response in responses] == list(range(5))
        assert e.admission.produces.limit.count == 0


async def test_a_cancelled_produce_stream_frees_everything_it_had_open(edge: Any) -> None:
    async with edge() as e:
        e.server.hold = True
        call = e.stub.ProduceStream()
        for n in range(10):
            await call.write(record(b"%d" % n))
        await e.server.until(lambda: len(e.server.all(Produce)) == 10)
        call.cancel()
        await e.server.until(lambda: len(e.server.all(CancelRequest)) == 10)
        assert e.service.pending_requests == 0


async def test_a_consume_stream_reads_on_and_then_waits_at_the_tail(edge: Any) -> None:
    async with edge() as e:
        for n in range(5):
            e.server.append(NewBatch(encode_records([b"%d-%d" % (n, i) for i in range(3)]), 3))
        stream = e.stub.ConsumeStream(pb.ConsumeRequest(offset=4))
        for offset in range(4, 15):
            response = await stream.read()
            value = b"%d-%d" % divmod(offset, 3)
            assert response == pb.ConsumeResponse(record=pb.Record(value=value, offset=offset))
        await e.server.until(lambda: len(e.server.tailing) == 1)
        e.server.append(NewBatch(encode_records([b"new"]), 1))
        assert (await stream.read()).record.value == b"new"
        stream.cancel()


async def test_reading_ahead_asks_the_actor_once_for_many_records(edge: Any) -> None:
    async with edge() as e:
        e.server.append(NewBatch(encode_records([b"v"] * 1000), 1000))
        stream = e.stub.ConsumeStream(pb.ConsumeRequest())
        for _ in range(1000):
            await stream.read()
        await e.server.until(lambda: bool(e.server.tailing))
        assert len(e.server.all(Consume)) == 2
        stream.cancel()


async def test_streams_at_the_tail_share_one_request_and_the_last_to_leave_cancels_it(edge: Any) -> None:
    async with edge() as e:
        streams = [e.stub.ConsumeStream(pb.ConsumeRequest()) for _ in range(3)]
        await e.server.until(lambda: len(e.server.all(Consume)) == 4)
        waits = [consume for consume in e.server.all(Consume) if consume.wait]
        assert len(waits) == 1
        streams[0].cancel()
        while e.service.open_streams > 2:
            await e.stub.GetServers(pb.GetServersRequest())
        e.server.append(NewBatch(encode_records([b"for all"]), 1))
        for stream in streams[1:]:
            assert (await stream.read()).record.value == b"for all"
        await e.server.until(lambda: len(e.server.tailing) == 1)
        for stream in streams[1:]:
            stream.cancel()
        await e.server.until(lambda: not e.server.tailing)
        assert e.service.pending_requests == 0


async def test_a_stream_below_the_log_is_out_of_range(edge: Any) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.OUT_OF_RANGE, "gone", first=5, end=9)
        _, error = await read_all(e.stub.ConsumeStream(pb.ConsumeRequest(offset=2)))
        assert error is not None
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE


async def test_a_batch_stream_that_stops_at_the_end_does(edge: Any) -> None:
    async with edge() as e:
        for n in range(4):
            e.server.append(NewBatch(encode_records([b"x" * 100] * (n + 1)), n + 1))
        request = pb.ConsumeBatchRequest(offset=2, stop_at_end=True, max_bytes=150)
        responses, error = await read_all(e.stub.ConsumeBatchStream(request))
        assert error is None
        assert [b.base_offset for response in responses for b in response.batches] == [1, 3, 6]
        request.offset = 10
        assert await read_all(e.stub.ConsumeBatchStream(request)) == ([], None)
        request.offset = 11
        _, error = await read_all(e.stub.ConsumeBatchStream(request))
        assert error is not None
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE


async def test_too_many_consume_streams_are_refused(edge: Any) -> None:
    async with edge(max_streams=1) as e:
        first = e.stub.ConsumeStream(pb.ConsumeRequest())
        await e.server.until(lambda: bool(e.server.tailing))
        _, error = await read_all(e.stub.ConsumeStream(pb.ConsumeRequest()))
        assert error is not None
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


async def test_a_client_that_never_reads_holds_little_and_nothing_once_others_wait(edge: Any) -> None:
    budget = ReadBudget(max_bytes=200_000, stalled_after_s=0.01)
    async with edge(max_batch_bytes=2_000_000, reads=budget) as e:
        for _ in range(40):
            e.server.append(NewBatch(encode_records([bytes(1000)] * 100), 100))
        idle = [e.stub.ConsumeStream(pb.ConsumeRequest()) for _ in range(4)]
        await e.server.until(lambda: len(e.server.all(Consume)) >= 2)
        reader = e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(stop_at_end=True))
        responses, error = await read_all(reader)
        assert error is None
        assert sum(batch.record_count for response in responses for batch in response.batches) == 4000
        # Bounded: never more than the budget and one chunk beyond it.
        assert budget.held_bytes <= 200_000 + 1_200_000
        # And those who were dropped read on from where they were, without a gap.
        for stream in idle:
            assert [(await stream.read()).record.offset for _ in range(4000)] == list(range(4000))
            stream.cancel()


async def test_draining_ends_those_who_wait_at_the_tail_with_unavailable(edge: Any) -> None:
    async with edge() as e:
        stream = e.stub.ConsumeStream(pb.ConsumeRequest())
        await e.server.until(lambda: bool(e.server.tailing))
        e.service.drain()
        _, error = await read_all(stream)
        assert error is not None
        assert error.code() == grpc.StatusCode.UNAVAILABLE


async def test_hostile_bytes_in_a_stream_end_that_stream_only(edge: Any) -> None:
    async with edge() as e:
        call = e.channel.stream_stream("/log.v1.Log/ProduceStream")()
        await call.write(record(b"good").SerializeToString())
        await call.write(b"\xff\xff\xff garbage")
        _, error = await read_all(call)
        assert error is not None
        assert e.service.pending_requests == 0
        assert (await e.stub.Produce(record(b"still serves"))).offset == 1


async def test_what_was_refused_is_not_kept_in_memory(edge: Any) -> None:
    limiter = ProduceLimiter(max_bytes=100_000)
    async with edge(produces=limiter, max_batch_bytes=2_000_000, max_record_bytes=2_000_000) as e:
        e.server.hold = True
        first = e.stub.ProduceStream()
        await first.write(record(b"holds some of the room"))
        await e.server.until(lambda: bool(e.server.all(Produce)))
        gc.collect()
        gc.disable()
        try:
            call = e.stub.ProduceStream()
            await call.write(record(b"\xab" * 1_000_000))
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            while e.service.open_calls > 1:  # noqa: ASYNC110  # the client hears of it first
                await asyncio.sleep(0)
            large = [held for held in gc.get_objects() if isinstance(held, NewBatch) and len(held.payload) > 500_000]
            kept = [held for held in large if b"\xab" in held.payload]  # other tests of this process had theirs
            assert kept == []
        finally:
            gc.enable()
            first.cancel()


async def test_streams_for_which_there_is_no_room_wait_without_reading_again_and_again_and_hold_nothing(
    edge: Any,
) -> None:
    class SweptBudget(ReadBudget):
        sweeps = 0

        def _drop_stalled(self) -> None:
            self.sweeps += 1
            super()._drop_stalled()

    budget = SweptBudget(max_bytes=3_000_000, stalled_after_s=0.05)
    async with edge(max_batch_bytes=2_000_000, reads=budget) as e:
        e.server.append(NewBatch(encode_records([bytes(1000)] * 300), 300))
        size = len(e.server.batches[0].payload)
        streams = [e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest()) for _ in range(30)]
        while e.service.open_streams < 20:  # noqa: ASYNC110  # as many as one client may have open, or nearly
            await asyncio.sleep(0.01)
        # Those that have got all wait at the end, together.
        while budget.held_bytes or not e.server.tailing:
            assert budget.held_bytes <= budget.max_bytes + READ_COPIES * 2 * size
            await asyncio.sleep(0.01)
        # Each reads what there is, looks once more where the batch was larger than its share, and waits at the
        # end; each sweep may let every one of them read again.
        assert len(e.server.all(Consume)) <= len(streams) * (3 + budget.sweeps)
        held = sum(
            sys.getsizeof(found) for found in gc.get_objects() if isinstance(found, bytes) and len(found) >= size
        )
        assert held <= budget.max_bytes
        for stream in streams:
            stream.cancel()


async def test_single_consumes_that_nobody_reads_are_bounded_in_bytes_and_keep_nobody_waiting(edge: Any) -> None:
    budget = ReadBudget(max_bytes=20_000_000, stalled_after_s=60.0)
    async with edge(max_record_bytes=2_000_000, max_batch_bytes=2_000_000, reads=budget) as e:
        e.server.append(NewBatch(encode_records([b"\xab" * 1_000_000]), 1))
        host, _, port = e.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        request = pb.ConsumeRequest(offset=0).SerializeToString()
        writer.write(calls(b"/log.v1.Log/Consume", request, 200, (INITIAL_WINDOW_SIZE, 0)))
        while e.service.open_calls < 200:  # noqa: ASYNC110  # there is no event for that
            await asyncio.sleep(0)
        # One that reads is not behind those that do not, though all came before it.
        assert len((await e.stub.Consume(pb.ConsumeRequest(offset=0))).record.value) == 1_000_000
        # What was read for them, whether it is held or was dropped again for want of room: a part of the 200.
        assert len(e.server.all(Consume)) <= budget.max_bytes // (READ_COPIES * MIN_CHUNK_BYTES)
        assert IN_FLIGHT_COPIES * 1_000_000 <= budget.held_bytes <= budget.max_bytes
        writer.close()
