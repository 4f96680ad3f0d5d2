"""Villains that are well-formed gRPC clients: greedy, impatient, or sending nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.record_set import encode_records
from torture.villains.target import Target, Wrong, villain

BATCH_BYTES: Final = 8 * 1024 * 1024 - 64
_RECORDS_A_BATCH: Final = 8
_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Log"]


def raw_call(channel: grpc.aio.Channel, method: str, payload: bytes, timeout_s: float = 10.0) -> Any:
    """Call any method, with requests and answers as bytes: on the wire all four kinds of call are streams."""
    method_of: Any = channel.stream_stream(method)
    return method_of(iter([payload]), timeout=timeout_s)


async def code_of(call: Any) -> str:
    """Read a call to its end. Returns the name of its status."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    code: grpc.StatusCode = await call.code()
    return code.name


@villain
async def greedy_streams(target: Target) -> None:
    """100 produce streams with batches of 8 MiB, which wait for every voter's disk while one is away."""
    records = encode_records([b"villain" + bytes(BATCH_BYTES // _RECORDS_A_BATCH - 64)] * _RECORDS_A_BATCH)
    request = pb.ProduceBatchRequest(records=records, record_count=_RECORDS_A_BATCH, acks=pb.ACKS_ALL)

    async def hold() -> None:
        async with open_channel(target.leader.rpc_addr) as channel:

            async def requests() -> AsyncIterator[pb.ProduceBatchRequest]:
                target.count("greedy streams")
                yield request
                await asyncio.sleep(target.left_s)

            try:
                async for _ in pb_grpc.LogStub(channel).ProduceBatchStream(requests()):
                    target.count("acknowledged")
            except grpc.aio.AioRpcError as error:
                target.count(f"greedy streams, {error.code().name}")

    await target.until_over(*(hold() for _ in range(100)))


@villain
async def greedy_calls(target: Target) -> None:
    """200 clients at once, each with batches of 8 MiB by single calls, again and again, at most 2 GiB in all."""
    records = encode_records([b"villain" + bytes(BATCH_BYTES // _RECORDS_A_BATCH - 64)] * _RECORDS_A_BATCH)
    request = pb.ProduceBatchRequest(records=records, record_count=_RECORDS_A_BATCH)
    left = 256

    async def produce() -> None:
        nonlocal left
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.LogStub(channel)
            while not target.is_over and left > 0:
                left -= 1
                try:
                    await stub.ProduceBatch(request, timeout=30)
                    target.count("large batches")
                except grpc.aio.AioRpcError as error:
                    target.count(f"large batches, {error.code().name}")
                    await asyncio.sleep(0.1)

    await target.until_over(*(produce() for _ in range(200)))


@villain
async def undecodable(target: Target) -> None:
    """Bytes that are no message, on every method of every service."""
    names = [f"/{_SERVICE.full_name}/{method.name}" for method in _SERVICE.methods]
    names += [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]
    payloads = (b"\xff" * 20, b"\x0a\x7f", b"\x0a\x02\x08", b"\x0b" * 100)

    async def send(name: str) -> None:
        at = 0
        async with open_channel(target.leader.rpc_addr) as channel:
            while not target.is_over:
                code = await code_of(raw_call(channel, name, payloads[at % len(payloads)]))
                target.count("undecodable messages")
                if code in {"UNKNOWN", "INTERNAL"}:
                    target.count(f"{code} from {name}")
                    target.count(Wrong.BROKE)
                at += 1
                await asyncio.sleep(0.02)

    await target.until_over(*(send(name) for name in names))


@villain
async def cancel_storm(target: Target) -> None:
    """Calls of every kind, cancelled within a few milliseconds of their beginning."""
    rng = random.Random(3)
    record = pb.Record(value=b"villain" + bytes(1000))
    many = encode_records([b"villain" + bytes(1000)] * 100)

    async def storm() -> None:
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.LogStub(channel)
            while not target.is_over:
                calls: list[Any] = [
                    stub.Produce(pb.ProduceRequest(record=record)),
                    stub.ProduceBatch(pb.ProduceBatchRequest(records=many, record_count=100)),
                    stub.ProduceStream(iter([pb.ProduceRequest(record=record)] * 3)),
                    stub.Consume(pb.ConsumeRequest(offset=rng.randrange(1000))),
                    stub.ConsumeStream(pb.ConsumeRequest(offset=0)),
                    stub.ConsumeBatchStream(pb.ConsumeBatchRequest(offset=2**40)),
                    stub.GetStatus(pb.GetStatusRequest()),
                    stub.GetServers(pb.GetServersRequest()),
                ]
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.002, 0.02)))
                for call in calls:
                    call.cancel()
                target.count("cancelled calls", len(calls))
                await asyncio.sleep(0.01)

    await target.until_over(*(storm() for _ in range(8)))


@villain
async def impatient_produces(target: Target) -> None:
    """20,000 produces whose deadline ends before they can be acknowledged."""
    request = pb.ProduceRequest(record=pb.Record(value=b"villain"), acks=pb.ACKS_ALL)
    left = 20_000

    async def produce() -> None:
        nonlocal left
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.LogStub(channel)
            while not target.is_over and left > 0:
                left -= 1
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.Produce(request, timeout=0.05)
                target.count("impatient produces")

    await target.until_over(*(produce() for _ in range(200)))


@villain
async def absurd_requests(target: Target) -> None:
    """Well-formed requests that make no sense: numbers at their limits, lies about counts, bombs."""
    rng = random.Random(4)
    records = encode_records([b"villain"])
    zeros = _zstd_of_zeros(64 * 1024 * 1024)
    numbers = (0, 1, 2**31, 2**32 - 1, 2**53, 2**63, 2**64 - 1)

    async def ask() -> None:
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.LogStub(channel)
            while not target.is_over:
                number = rng.choice(numbers)
                size = min(number, 2**32 - 1)
                calls: list[Any] = [
                    stub.Consume(pb.ConsumeRequest(offset=number), timeout=5),
                    stub.ConsumeStream(pb.ConsumeRequest(offset=number), timeout=0.05),
                    stub.ConsumeBatchStream(
                        pb.ConsumeBatchRequest(offset=number, max_bytes=size, stop_at_end=True), timeout=5
                    ),
                    stub.Produce(pb.ProduceRequest(record=pb.Record(offset=number), acks=pb.ACKS_ALL), timeout=5),
                    stub.ProduceBatch(pb.ProduceBatchRequest(records=records, record_count=size or 2), timeout=5),
                    stub.ProduceBatch(pb.ProduceBatchRequest(records=os.urandom(50), record_count=1), timeout=5),
                    stub.ProduceBatch(
                        pb.ProduceBatchRequest(records=zeros, record_count=1, codec=pb.CODEC_ZSTD), timeout=5
                    ),
                    stub.ProduceBatch(
                        pb.ProduceBatchRequest(records=records, record_count=1, checksum=size), timeout=5
                    ),
                    raw_call(channel, "/log.v1.Log/Produce", b"\x50\xff\xff\xff\xff\x0f", 5),
                ]
                for call in calls:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        if hasattr(call, "__await__"):
                            await call
                        else:
                            async for _ in call:
                                break
                    call.cancel()
                    target.count("absurd requests")

    await target.until_over(*(ask() for _ in range(4)))


def _zstd_of_zeros(size_bytes: int) -> bytes:
    from ourolog.storage.compression import compress

    return compress(bytes(size_bytes))
