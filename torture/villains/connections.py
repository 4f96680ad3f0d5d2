"""Villains below gRPC: sockets that are silent, slow, full of noise, or gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import Final

from ourolog.rpc.v1 import log_pb2 as pb
from torture.villains.http2 import (
    DATA,
    GOAWAY,
    LARGEST_WINDOW,
    PREFACE,
    RST_STREAM,
    Connection,
    Header,
    frame,
    grpc_headers,
    settings,
    tcp,
)
from torture.villains.target import Target, villain

PRODUCE: Final = b"/log.v1.Log/Produce"
PRODUCE_BATCH: Final = b"/log.v1.Log/ProduceBatch"
CONSUME_STREAM: Final = b"/log.v1.Log/ConsumeStream"
CONSUME_BATCH_STREAM: Final = b"/log.v1.Log/ConsumeBatchStream"
_TLS_HELLO: Final = bytes.fromhex("160301020001000001fc0303")
_SILENT_CALLS: Final = 96
_CALLS_A_CONNECTION: Final = 32
_UNREAD_STREAMS: Final = 1_500
_STREAMS_A_CONNECTION: Final = 50


@villain
async def silent_produces(target: Target) -> None:
    """Produce calls whose message never comes; one that is given up is followed by another."""

    async def hold() -> None:
        connection = await Connection.open(target.leader.rpc_addr)

        def begin(number: int) -> None:
            connection.request(grpc_headers(PRODUCE if number % 2 else PRODUCE_BATCH), end=False)
            target.count("calls without a message")

        for number in range(_CALLS_A_CONNECTION):
            begin(number)
        async for came in connection.frames():
            if came.kind == RST_STREAM:
                begin(came.stream)

    await target.until_over(*(hold() for _ in range(_SILENT_CALLS // _CALLS_A_CONNECTION)))


@villain
async def a_byte_a_second(target: Target) -> None:
    """Connections that send everything, even the preface, at one byte a second, and calls whose message arrives so."""
    message = pb.ProduceRequest(record=pb.Record(value=b"villain")).SerializeToString()

    async def slow_message() -> None:
        connection = await Connection.open(target.leader.rpc_addr)
        stream = connection.request(grpc_headers(PRODUCE), end=False)
        target.count("slow calls")
        for byte in b"\x00\x00\x00\x10\x00" + message * 100:
            connection.data(stream, bytes((byte,)))
            await asyncio.sleep(1)

    async def slow_preface() -> None:
        _, writer = await tcp(target.leader.rpc_addr)
        target.count("slow connections")
        for byte in PREFACE:
            writer.write(bytes((byte,)))
            await asyncio.sleep(1)

    await target.until_over(*(slow_message() for _ in range(100)), *(slow_preface() for _ in range(100)))


@villain
async def unread_streams(target: Target) -> None:
    """1,500 consume streams that accept messages and never read them; half of them by the batch."""

    async def hold(path: bytes) -> None:
        connection = await Connection.open(target.leader.rpc_addr, window=LARGEST_WINDOW)
        connection.stop_reading()
        request = pb.ConsumeBatchRequest() if path == CONSUME_BATCH_STREAM else pb.ConsumeRequest()
        for _ in range(_STREAMS_A_CONNECTION):
            connection.request(grpc_headers(path), request.SerializeToString())
            target.count("streams")
        await asyncio.sleep(target.left_s)

    paths = (CONSUME_STREAM, CONSUME_BATCH_STREAM)
    await target.until_over(*(hold(paths[n % 2]) for n in range(_UNREAD_STREAMS // _STREAMS_A_CONNECTION)), wave=2)


@villain
async def idle_sockets(target: Target) -> None:
    """400 connections that say nothing at all; what is closed is opened again."""

    async def hold() -> None:
        while not target.is_over:
            try:
                reader, writer = await tcp(target.leader.rpc_addr)
            except OSError:
                target.count("not let in")
                await asyncio.sleep(0.5)
                continue
            target.count("sockets")
            with contextlib.suppress(OSError):
                while await reader.read(1024):
                    pass
            writer.close()
            await asyncio.sleep(0.2)

    await target.until_over(*(hold() for _ in range(400)))


@villain
async def noise(target: Target) -> None:
    """Garbage, half a preface, TLS that breaks off, HTTP/1.1, frames that cannot be."""
    rng = random.Random(1)
    good = PREFACE + settings(window=65_535)
    noises = (
        lambda: rng.randbytes(rng.randrange(1, 4096)),
        lambda: PREFACE[: rng.randrange(1, len(PREFACE))],
        lambda: _TLS_HELLO + rng.randbytes(rng.randrange(0, 500)),
        lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda: good + rng.randbytes(2048),
        lambda: good + frame(DATA, 0, 1, b"x" * 100),
        lambda: good + frame(1, 4, 0, b"\x82"),
        lambda: good + frame(1, 4, 1, rng.randbytes(300)),
        lambda: good + frame(1, 0, 1, b"\x82") + frame(9, 0, 3, b"\x84"),
        lambda: good + frame(8, 0, 0, b"\x00\x00\x00\x00") + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 3,
        lambda: good + frame(4, 0, 0, b"\x00\x04\xff\xff\xff\xff"),
        lambda: good + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        lambda: good + frame(6, 0, 0, b"12345678") * 500,
        lambda: good + b"".join(frame(3, 0, n, b"\x00\x00\x00\x08") for n in range(1, 999, 2)),
    )

    async def make(which: int) -> None:
        while not target.is_over:
            reader, writer = await tcp(target.leader.rpc_addr)
            writer.write(noises[which % len(noises)]())
            target.count("noisy connections")
            which += 1
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(reader.read(4096), 0.2)
            writer.close()

    await target.until_over(*(make(number) for number in range(40)))


@villain
async def absurd_metadata(target: Target) -> None:
    """Calls whose path is not UTF-8, or missing, and whose metadata no client would send."""
    cases: list[tuple[bytes, list[Header]]] = [
        (b"/log.v1.Log/\xff\xfe\x80", []),
        (b"\xc3\x28", []),
        (b"", []),
        (b"no slash", []),
        (b"/" + b"x" * 6000, []),
        (b"/log.v1.Log/Nothing", []),
        (PRODUCE, [(b"grpc-timeout", b"99999999999999999999S")]),
        (PRODUCE, [(b"grpc-timeout", b"-1S")]),
        (PRODUCE, [(b"grpc-timeout", b"0n")]),
        (PRODUCE, [(b"grpc-timeout", b"\xff\xff")]),
        (PRODUCE, [(b"grpc-encoding", b"\xff\xfe")]),
        (PRODUCE, [(b"grpc-encoding", b"gzip")]),
        (PRODUCE, [(b":authority", b"\xff\xfe\x00")]),
        (PRODUCE, [(b":method", b"BREW")]),
        (PRODUCE, [(b"content-type", b"\xf0\x28\x8c\x28")]),
        (PRODUCE, [(b"x-\xff", b"name")]),
        (PRODUCE, [(b"x-many", os.urandom(20))] * 200),
        (PRODUCE, [(b"x-bin", b"not base64 !!")]),
        (PRODUCE, [(b"user-agent", b"\xf0\x9f")]),
        (b"/grpc.health.v1.Health/\xff", []),
        (b"/ourolog.other.v1/\xe2\x28\xa1", []),
    ]
    message = pb.ProduceRequest().SerializeToString()

    async def call(which: int) -> None:
        while not target.is_over:
            path, extra = cases[which % len(cases)]
            which += 1
            try:
                connection = await Connection.open(target.leader.rpc_addr)
            except OSError:
                target.count("not let in")
                await asyncio.sleep(0.2)
                continue
            connection.request(grpc_headers(path, *extra), message)
            target.count("absurd calls")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for came in connection.frames():
                        if came.kind in {RST_STREAM, GOAWAY} or came.flags & 1:
                            break
            connection.writer.close()

    await target.until_over(*(call(number) for number in range(len(cases))))


@villain
async def vanishing(target: Target) -> None:
    """Clients that are gone, by RST, in the middle of a produce, a stream, a preface."""
    value = b"villain" + bytes(200_000)
    message = pb.ProduceRequest(record=pb.Record(value=value)).SerializeToString()
    rng = random.Random(2)

    async def come_and_go() -> None:
        while not target.is_over:
            connection = await Connection.open(target.leader.rpc_addr, window=1024 * 1024)
            match rng.randrange(4):
                case 0:
                    stream = connection.request(grpc_headers(PRODUCE), end=False)
                    connection.data(stream, b"\x00\x00\x03\x0d\x40" + message[: rng.randrange(16_000)])
                case 1:
                    connection.request(grpc_headers(PRODUCE), message[:10_000])
                case 2:
                    for _ in range(10):
                        connection.request(grpc_headers(CONSUME_BATCH_STREAM), b"")
                case _:
                    connection.writer.write(PREFACE)
            await asyncio.sleep(rng.uniform(0, 0.05))
            connection.vanish()
            target.count("vanished")

    await target.until_over(*(come_and_go() for _ in range(30)))


@villain
async def rapid_resets(target: Target) -> None:
    """Streams that are reset in the same write that opens them (CVE-2023-44487)."""
    paths = (PRODUCE, PRODUCE_BATCH, CONSUME_STREAM, CONSUME_BATCH_STREAM)

    async def storm() -> None:
        while not target.is_over:
            connection = await Connection.open(target.leader.rpc_addr)
            reading = asyncio.create_task(_drain(connection))
            while not (target.is_over or reading.done()):
                for path in paths * 5:
                    stream = connection.request(grpc_headers(path), b"")
                    connection.writer.write(frame(RST_STREAM, 0, stream, b"\x00\x00\x00\x08"))
                target.count("streams reset", len(paths) * 5)
                with contextlib.suppress(ConnectionError):
                    await connection.writer.drain()
                await asyncio.sleep(0.01)
            reading.cancel()
            connection.writer.close()

    await target.until_over(*(storm() for _ in range(10)))


async def _drain(connection: Connection) -> None:
    async for _ in connection.frames():
        pass
