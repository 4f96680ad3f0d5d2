"""The gate: requests arrive when there is room for them, and a burst is answered, not dropped."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from rpc.receiving import Gate
from rpc.v1 import log_pb2 as pb
from rpc.v1 import log_pb2_grpc as pb_grpc

PRODUCE = "/log.v1.Log/Produce"


def record(value: bytes) -> pb.ProduceRequest:
    return pb.ProduceRequest(record=pb.Record(value=value))


async def test_a_request_is_not_read_while_the_gate_is_full(edge: Any) -> None:
    async with edge(gate=Gate(arriving_at_once=1)) as e:
        # On the wire, a unary call whose message is yet to come.
        stalled = e.channel.stream_unary(
            PRODUCE,
            request_serializer=pb.ProduceRequest.SerializeToString,
            response_deserializer=pb.ProduceResponse.FromString,
        )()
        await stalled.wait_for_connection()
        await e.stub.GetServers(pb.GetServersRequest())  # what came before it has reached its handler by now
        behind = asyncio.ensure_future(e.stub.Produce(record(b"behind")))
        await e.stub.GetServers(pb.GetServersRequest())
        assert e.server.batches == []
        await stalled.write(record(b"first"))
        await stalled.done_writing()
        assert (await stalled).offset == 0
        assert (await behind).offset == 1


async def test_whoever_sends_nothing_loses_the_place(edge: Any) -> None:
    async with edge(gate=Gate(arriving_at_once=1, arrive_within_s=0.2)) as e:
        stalled = e.channel.stream_unary(PRODUCE, response_deserializer=pb.ProduceResponse.FromString)()
        await stalled.wait_for_connection()
        assert (await e.stub.Produce(record(b"behind"))).offset == 0
        assert await stalled.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_client_that_goes_away_in_the_gate_leaves_its_place_to_others(edge: Any) -> None:
    async with edge(gate=Gate(arriving_at_once=1)) as e:
        stalled = e.channel.stream_unary(PRODUCE, response_deserializer=pb.ProduceResponse.FromString)()
        await stalled.wait_for_connection()
        await e.stub.GetServers(pb.GetServersRequest())
        stalled.cancel()
        assert (await e.stub.Produce(record(b"behind"))).offset == 0


async def test_a_call_that_ends_without_a_request_is_refused_as_one_without_a_record(edge: Any) -> None:
    async with edge() as e:
        call = e.channel.stream_unary(PRODUCE, response_deserializer=pb.ProduceResponse.FromString)()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "carries no record" in await call.details()


async def test_in_a_burst_nobody_is_dropped_at_random(node: Any) -> None:
    async with node() as n, grpc.aio.insecure_channel(n.rpc_addr) as channel:
        stub = pb_grpc.LogStub(channel)
        calls = [stub.Produce(record(b"v"), timeout=50) for _ in range(5000)]
        codes = {await call.code() for call in calls}
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
