"""How calls end: each with a status of ours that says whether it may have appended something, and quietly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb

from ourolog.actors.messages.server import Produce, Produced, Refusal, RequestRefused
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import LogError, to_log_error
from ourolog.rpc.errors import unavailable
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.types import Index, Term

METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["Log"].methods]
FAILED = unavailable("NODE_FAILED", "n1 has failed: the disk is full")


def record(value: bytes, **more: Any) -> pb.ProduceRequest:
    return pb.ProduceRequest(record=pb.Record(value=value), **more)


async def end_of(call: Any) -> LogError:
    """How a unary call or a stream ended, which was not by its own client."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return to_log_error(error, "n1")
    raise AssertionError("it ended well")


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what is waited for has no event of its own
        await asyncio.sleep(0)


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument_and_nobody_is_told_of_it(
    edge: Any, details_of: Any, logged: Callable[[], list[str]], method: str
) -> None:
    async with edge() as e:
        for junk in (b"\xff\xff\xff\xff garbage", b"\x0a\xff", b"\x07", b"\x0a\x05ab"):
            call = e.channel.unary_unary(f"/log.v1.Log/{method}")
            with pytest.raises(grpc.aio.AioRpcError, match="not an encoded log") as raised:
                await call(junk)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert details_of(raised.value, details_pb.BadRequest).field_violations[0].field == "request"
            assert "Error" not in raised.value.details()
        assert not e.server.received
        await until(lambda: e.service.open_calls == 0)
    assert logged() == []


async def test_junk_in_the_middle_of_a_stream_ends_it_after_those_before_it_were_answered(edge: Any) -> None:
    async with edge() as e:
        call = e.channel.stream_stream("/log.v1.Log/ProduceStream")()
        await call.write(record(b"good").SerializeToString())
        await call.write(b"\xff\xff\xff garbage")
        assert pb.ProduceResponse.FromString(await call.read()).offset == 0
        ended = await end_of(call)
        assert (ended.code, ended.outcome_unknown) == ("INVALID_ARGUMENT", False)
        await until(lambda: e.service.open_calls == e.service.pending_requests == 0)
        assert (await e.stub.Produce(record(b"still serves"))).offset == 1


async def test_when_the_node_fails_whatever_may_have_been_appended_says_so_and_all_else_that_it_was_not(
    edge: Any,
) -> None:
    async with edge(arrivals=ArrivalLimiter(max_arriving=3, patience_s=60.0)) as e:
        e.server.hold = True
        told = [e.stub.Produce(record(b"told"))]
        stream = e.stub.ProduceStream()
        await stream.write(record(b"told, too"))
        told.append(stream)
        await e.server.until(lambda: len(e.server.all(Produce)) == 2)
        silent = [e.channel.stream_unary("/log.v1.Log/Produce")() for _ in range(3)]
        await until(lambda: e.admission.arrivals.arriving == 3)
        behind = e.stub.Produce(record(b"waits for a place"))
        await until(lambda: e.admission.arrivals.waiting == 1)
        ends = [asyncio.create_task(end_of(call)) for call in [*told, *silent, behind]]
        await asyncio.sleep(0)
        e.service.end(FAILED)
        ended = await asyncio.gather(*ends)
        assert {(error.code, error.reason) for error in ended} == {("UNAVAILABLE", "NODE_FAILED")}
        assert [error.outcome_unknown for error in ended] == [True, True, False, False, False, False]
        late = await end_of(e.stub.Produce(record(b"too late")))
        assert (late.reason, late.outcome_unknown) == ("NODE_FAILED", False)
        await until(lambda: e.service.open_calls == 0)


async def test_a_stop_whose_grace_is_over_ends_everything_with_a_status_of_ours(edge: Any) -> None:
    async with edge() as e:
        e.server.hold = True
        produce = e.stub.Produce(record(b"told"))
        await e.server.until(lambda: bool(e.server.all(Produce)))
        silent = e.channel.stream_unary("/log.v1.Log/Produce")()
        await until(lambda: e.service.open_calls == 2)
        ends = [asyncio.create_task(end_of(call)) for call in (produce, silent)]
        e.service.drain()
        await e.service.stop(0.05)
        told, unsent = await asyncio.gather(*ends)
        assert (told.code, told.reason, told.outcome_unknown) == ("UNAVAILABLE", "STOPPING", True)
        assert (unsent.code, unsent.reason, unsent.outcome_unknown) == ("UNAVAILABLE", "STOPPING", False)


async def test_a_drain_ends_produce_streams_that_are_idle_and_lets_the_others_finish(edge: Any) -> None:
    async with edge() as e:
        idle = e.stub.ProduceStream()
        await idle.write(record(b"answered"))
        assert (await idle.read()).offset == 0
        e.server.hold = True
        busy = e.stub.ProduceStream()
        await busy.write(record(b"under way"))
        await e.server.until(lambda: len(e.server.all(Produce)) == 2)
        e.service.drain()
        ended = await end_of(idle)
        assert (ended.reason, ended.outcome_unknown) == ("STOPPING", False)
        e.server.hold = False
        e.server.tell(e.server.all(Produce)[1])
        assert (await busy.read()).offset == 1
        ended = await end_of(busy)
        assert (ended.reason, ended.outcome_unknown) == ("STOPPING", False)


async def test_a_streams_outcome_is_unknown_if_one_behind_the_refused_may_be_in_the_log(edge: Any) -> None:
    for told_of_both, unknown in ((False, True), (True, False)):
        async with edge() as e:
            e.server.hold = True
            call = e.stub.ProduceStream()
            await call.write(record(b"refused"))
            await call.write(record(b"behind"))
            await e.server.until(lambda e=e: len(e.server.all(Produce)) == 2)
            first, second = e.server.all(Produce)
            if told_of_both:
                second.reply_to.tell(RequestRefused(second.request_id, Refusal.NOT_READY, "not now"))
            first.reply_to.tell(RequestRefused(first.request_id, Refusal.NOT_READY, "not now"))
            ended = await end_of(call)
            assert (ended.reason, ended.outcome_unknown) == ("NOT_READY", unknown)


async def test_a_bug_is_answered_without_the_names_of_our_classes_and_logged(
    edge: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with edge() as e:
        monkeypatch.setattr("ourolog.rpc.produce_handler.from_refusal", lambda _: 1 / 0)
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.DEPOSED, "?", outcome_unknown=True)
        ended = await end_of(e.stub.Produce(record(b"v")))
        assert (ended.code, ended.reason, ended.outcome_unknown) == ("INTERNAL", "BUG", True)
        assert "ZeroDivision" not in ended.message
    assert [entry.levelname for entry in caplog.records if entry.name == "ourolog.rpc.server_calls"] == ["ERROR"]


async def test_clients_that_go_away_in_the_middle_of_anything_are_no_news(
    edge: Any, logged: Callable[[], list[str]]
) -> None:
    async with edge() as e:
        for n in range(50):
            e.server.append(_batch(bytes([n]) * 500))
        for after in range(40):
            async with open_channel(e.address) as channel:
                calls = [channel.stream_stream(f"/log.v1.Log/{method}")() for method in METHODS]
                for number, call in enumerate(calls):
                    if (after + number) % 3:
                        await call.write(record(b"v").SerializeToString() if "Produce" in METHODS[number] else b"")
                for _ in range(after):
                    await asyncio.sleep(0)
                for call in calls[after % 2 :]:
                    call.cancel()
            # The channel is closed under what is left.
        await until(lambda: e.service.open_calls == 0)
        assert e.service.pending_requests == 0
        assert e.admission.arrivals.arriving == 0
    assert logged() == []


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63, 2**64 - 1])
async def test_the_largest_offsets_are_out_of_range_and_not_a_fault(edge: Any, offset: int) -> None:
    async with edge() as e:
        e.server.append(_batch(b"v"))
        assert (await end_of(e.stub.Consume(pb.ConsumeRequest(offset=offset)))).code == "OUT_OF_RANGE"
        batches = pb.ConsumeBatchRequest(offset=offset, max_bytes=2**32 - 1, stop_at_end=True)
        assert (await end_of(e.stub.ConsumeBatchStream(batches))).code == "OUT_OF_RANGE"
        waits = e.stub.ConsumeStream(pb.ConsumeRequest(offset=offset))
        await e.server.until(lambda: bool(e.server.tailing))
        e.server.append(_batch(b"not yet"))
        await e.server.until(lambda: bool(e.server.tailing))
        waits.cancel()


@pytest.mark.parametrize("acks", [-1, 4, 2**31 - 1, -(2**31)])
async def test_acks_that_nobody_knows_are_refused_by_name(edge: Any, acks: int) -> None:
    async with edge() as e:
        refused = await end_of(e.stub.Produce(record(b"v", acks=acks)))
        assert list(refused.fields) == ["acks"]
        batch = pb.ProduceBatchRequest(records=b"\x0a\x03\x0a\x01v", record_count=1, acks=acks)  # type: ignore[arg-type]
        assert list((await end_of(e.stub.ProduceBatch(batch))).fields) == ["acks"]
        assert not e.server.received


@pytest.mark.parametrize("timeout_s", [-5.0, 0.0, 1e-9, 1e9])
async def test_whatever_the_deadline_a_produce_has_one_answer(edge: Any, timeout_s: float) -> None:
    async with edge() as e:
        call = e.stub.Produce(record(b"v"), timeout=timeout_s)
        code = await call.code()
        assert code in {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
        await until(lambda: e.service.open_calls == 0)
        for produce in e.server.all(Produce):
            assert 0.0 <= produce.timeout_s <= 300.0


async def test_waiting_for_an_offset_that_is_still_to_come_costs_as_much_as_waiting_for_the_next(edge: Any) -> None:
    async with edge() as e:
        streams = [e.stub.ConsumeStream(pb.ConsumeRequest(offset=offset)) for offset in range(20)]
        await until(lambda: e.service.open_calls == 20 and e.service.pending_requests == 1)
        assert len(e.server.tailing) == 1
        for n in range(20):
            e.server.append(_batch(b"%d" % n))
            assert (await streams[n].read()).record == pb.Record(value=b"%d" % n, offset=n)
        for stream in streams:
            stream.cancel()


def _batch(value: bytes) -> Any:
    from ourolog.storage.batch import NewBatch
    from ourolog.storage.record_set import encode_record

    return NewBatch(encode_record(value), 1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_node_that_fails_between_an_append_and_its_answer_does_not_deny_it(edge: Any, streamed: bool) -> None:
    async with edge() as e:
        e.server.hold = True
        call = e.stub.ProduceStream() if streamed else e.stub.Produce(record(b"v"))
        if streamed:
            await call.write(record(b"v"))
        ended = asyncio.create_task(end_of(call))
        await e.server.until(lambda: bool(e.server.all(Produce)))
        (produce,) = e.server.all(Produce)
        # The answer and the news of the failure come in one turn of the loop, in this order.
        produce.reply_to.tell(Produced(produce.request_id, e.server.append(produce.batch), Term(1), Index(0)))
        asyncio.get_running_loop().call_soon(e.service.end, FAILED)
        assert (await ended).outcome_unknown


async def test_calls_that_come_after_the_end_are_answered_once_the_port_is_closed(edge: Any) -> None:
    async with edge() as e:
        e.service.drain()
        assert (await end_of(e.stub.Produce(record(b"while others end")))).reason == "STOPPING"
        await e.service.stop(0.0)
        late = asyncio.create_task(end_of(e.stub.Produce(record(b"late"))))
        stream = asyncio.create_task(end_of(e.stub.ProduceStream()))
        await until(lambda: e.service.late_calls == 2)
        gone = e.stub.Produce(record(b"gone"))
        await until(lambda: e.service.late_calls == 3)
        gone.cancel()
        await until(lambda: e.service.late_calls == 2)
        assert not late.done()
        assert not stream.done()
        e.service.refuse_late_calls()
        for ended in (await late, await stream):
            assert (ended.code, ended.reason, ended.outcome_unknown) == ("UNAVAILABLE", "STOPPING", False)
        assert not e.server.received
