"""Reads of the latest state at the edge: what a client asks for, waits for, and is told; and over whole nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb  # type: ignore[import-untyped]

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.server import CONFIRMS_WITHIN_S, CancelRequest, Consume, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.actors.occupants import parse_election
from ourolog.rpc import client as client_module
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.consume_handler import MAX_CONCURRENT_READS
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record

STATIC = parse_election("static:n1,n2,n3")


def filled(e: Any, *values: bytes) -> None:
    for value in values:
        e.server.append(NewBatch(encode_record(value), 1))


class Unconfirmed:
    """Keeps a scripted server from confirming: whoever reads the latest state waits."""

    def __init__(self, server: Any) -> None:
        self.waiting: list[Consume] = []
        self._tell = server.tell
        server.tell = self.tell

    def tell(self, message: Any) -> None:
        if isinstance(message, Consume) and message.read is ReadLevel.LATEST:
            self.waiting.append(message)
        else:
            self._tell(message)


def levels(e: Any) -> list[ReadLevel]:
    return [consume.read for consume in e.server.all(Consume)]


# ---------------------------------------------------------------- the edge


async def test_a_read_of_the_latest_state_is_confirmed_and_then_served_like_any_other(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        filled(e, b"a", b"b")
        assert (await client.consume(1, read=ReadLevel.LATEST)).value == b"b"
        assert levels(e) == [ReadLevel.LATEST, ReadLevel.COMMITTED]
        assert (await client.consume(1)).value == b"b"
        assert levels(e)[2:] == [ReadLevel.COMMITTED]


async def test_a_stream_is_confirmed_once_where_it_begins(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        filled(e, b"a", b"b")
        got = [record.value async for record in client.consume_stream(read=ReadLevel.LATEST, stop_at_end=True)]
        assert got == [b"a", b"b"]
        assert levels(e).count(ReadLevel.LATEST) == 1
        assert levels(e)[0] is ReadLevel.LATEST
        stream = e.stub.ConsumeStream(pb.ConsumeRequest(offset=1, read=pb.READ_LATEST))
        assert (await stream.read()).record.value == b"b"
        filled(e, b"c")
        assert (await stream.read()).record.value == b"c"
        stream.cancel()
        assert levels(e).count(ReadLevel.LATEST) == 2


async def test_what_is_not_confirmed_is_unavailable_says_why_and_may_be_asked_again(edge: Any, details_of: Any) -> None:
    async with edge() as e:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_CONFIRMED, "no word of n2, n3")
        with pytest.raises(grpc.aio.AioRpcError, match="no word of n2, n3") as raised:
            await e.stub.Consume(pb.ConsumeRequest(read=pb.READ_LATEST))
        assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
        assert details_of(raised.value, details_pb.ErrorInfo).reason == "NOT_CONFIRMED"
        assert details_of(raised.value, details_pb.RetryInfo).retry_delay.ToMicroseconds() > 0
        with pytest.raises(grpc.aio.AioRpcError, match="no word of n2, n3"):
            await e.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(read=pb.READ_LATEST)).read()


async def test_the_client_asks_again_until_it_is_confirmed(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        filled(e, b"a")
        left = [2]

        def refuse(request_id: int) -> RequestRefused:
            left[0] -= 1
            if not left[0]:
                e.server.refuse = None
            return RequestRefused(request_id, Refusal.NOT_CONFIRMED, "not now")

        e.server.refuse = refuse
        assert (await client.consume(0, read=ReadLevel.LATEST)).value == b"a"


async def test_a_stream_that_nobody_confirms_ends_once_the_time_is_up_however_long_each_refusal_takes(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_WORKED_AFTER_S", 0.0)
    async with edge() as e, LogClient(e.address, timeout_s=0.5) as client:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOT_CONFIRMED, "no word of n2, n3")
        with pytest.raises(LogError, match="no word of n2, n3"):
            await asyncio.wait_for(anext(client.consume_batches(read=ReadLevel.LATEST)), 10.0)


async def test_where_nobody_is_elected_it_is_a_failed_precondition_and_not_asked_again(edge: Any) -> None:
    async with edge() as e, LogClient(e.address) as client:
        e.server.refuse = lambda request_id: RequestRefused(request_id, Refusal.NOBODY_ELECTED, "nobody leads")
        with pytest.raises(LogError, match="nobody leads") as raised:
            await client.consume(0, read=ReadLevel.LATEST)
        assert (raised.value.code, raised.value.reason) == ("FAILED_PRECONDITION", "NOBODY_ELECTED")
        assert len(e.server.all(Consume)) == 1


async def test_a_level_that_there_is_not_is_invalid(edge: Any) -> None:
    async with edge() as e:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await e.stub.Consume(pb.ConsumeRequest(read=7))  # type: ignore[arg-type]
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert e.server.all(Consume) == []


async def test_a_confirmation_may_take_as_long_as_the_client_waits_and_no_longer_than_a_few_seconds(edge: Any) -> None:
    async with edge() as e:
        filled(e, b"a")
        for timeout_s in (None, 100.0, 2.0):
            await e.stub.Consume(pb.ConsumeRequest(read=pb.READ_LATEST), timeout=timeout_s)
        patience_s = [consume.timeout_s for consume in e.server.all(Consume) if consume.read is ReadLevel.LATEST]
        assert patience_s[:2] == [CONFIRMS_WITHIN_S, CONFIRMS_WITHIN_S]
        assert 0 < patience_s[2] < 2.0 - 0.25


async def test_reads_that_wait_for_a_confirmation_keep_no_other_read_waiting(edge: Any) -> None:
    async with edge() as e:
        filled(e, b"a")
        unconfirmed = Unconfirmed(e.server)
        calls = [e.stub.Consume(pb.ConsumeRequest(read=pb.READ_LATEST)) for _ in range(2 * MAX_CONCURRENT_READS)]
        tasks = [asyncio.ensure_future(call) for call in calls]
        while len(unconfirmed.waiting) < len(calls):  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        assert (await e.stub.Consume(pb.ConsumeRequest())).record.value == b"a"
        for call in calls[1:]:
            call.cancel()
        await e.server.until(lambda: len(e.server.all(CancelRequest)) == len(calls) - 1)
        waiting = unconfirmed.waiting
        given_up = {cancel.request_id for cancel in e.server.all(CancelRequest)}
        (left,) = [consume for consume in waiting if consume.request_id not in given_up]
        left.reply_to.tell(RequestRefused(left.request_id, Refusal.OUT_OF_RANGE, "nothing there"))
        assert (await tasks[0]).record.value == b"a"
        await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert e.service.pending_requests == 0


# ---------------------------------------------------------------- whole nodes


async def test_every_node_reads_what_was_acknowledged_before_and_says_so_when_it_cannot_know(node: Any) -> None:
    async with node("n1", election=STATIC, ready=False) as n1:
        joined: dict[str, Any] = {"election": STATIC, "join": (n1.gossip_addr,)}
        async with node("n2", ready=False, **joined) as n2, node("n3", ready=False, **joined) as n3:
            for each in (n1, n2, n3):
                await each.until(lambda event: isinstance(event, LeaderChanged) and event.leader_id == "n1")
            async with (
                LogClient(n1.rpc_addr) as leader,
                LogClient(n2.rpc_addr) as second,
                LogClient(n3.rpc_addr) as third,
            ):
                for number in range(30):
                    value = str(number).encode()
                    offset = await leader.produce(value, acks=Acks.QUORUM)
                    for client in (third, second, leader):
                        assert (await client.consume(offset, read=ReadLevel.LATEST)).value == value
                read = [record async for record in third.consume_stream(stop_at_end=True, read=ReadLevel.LATEST)]
                assert len(read) == 30
                await n2.server.stop(0.0)
                assert (await third.consume(0, read=ReadLevel.LATEST)).value == b"0"
                await n3.server.stop(0.0)
                with pytest.raises(LogError, match="no majority of the voters has confirmed that n1 still leads"):
                    await leader.consume(0, read=ReadLevel.LATEST, timeout_s=1.5)
                assert (await leader.consume(0)).value == b"0"
