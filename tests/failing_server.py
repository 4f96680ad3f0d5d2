"""A server that fails at every point, as its script says, attempt by attempt.

It appends to a list, and fails before it has read, after, after it has appended; by a status of any code with and
without our details, by bytes that are nothing, by silence, by closing the connection.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from hypothesis import strategies as st

from ourolog.rpc.errors import ServiceError
from ourolog.rpc.v1 import log_pb2 as pb

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@dataclass(frozen=True)
class Failure:
    """appended: before it fails. how: "foreign" is a status without our details, "certain" and
    "unknown" are ours, and may lie in one direction only: what says certain was not appended."""

    how: str
    appended: bool = False
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE

    @property
    def is_legal(self) -> bool:
        return not (self.how == "certain" and self.appended)


failures = st.builds(
    Failure,
    st.sampled_from(["foreign", "certain", "unknown", "garbage", "silence", "before reading", "hang up"]),
    st.booleans(),
    st.sampled_from(CODES),
).filter(lambda failure: failure.is_legal)


@dataclass(frozen=True)
class Sent:
    """What a call or a message brings."""

    values: list[bytes]
    producer_id: int
    sequence: int


def one_of(raw: bytes) -> Sent:
    request = pb.ProduceRequest.FromString(raw)
    return Sent([request.record.value], request.producer_id, request.sequence)


def many_of(raw: bytes) -> Sent:
    request = pb.ProduceBatchRequest.FromString(raw)
    values = [record.value for record in pb.RecordSet.FromString(request.records).records]
    return Sent(values, request.producer_id, request.sequence)


@dataclass
class FailingServer:
    """`async with`: serves Produce, ProduceBatch and ProduceBatchStream on `address`.

    numbers: whether it registers producers, and stores once what they number.
    """

    script: list[Failure | None]
    log: list[bytes] = field(default_factory=list)
    numbers: bool = False
    # Where the batches of each producer are.
    producers: dict[int, list[int]] = field(default_factory=dict)
    # How many streams were opened, and how many messages came by them.
    streams: int = 0
    streamed: int = 0
    # How long the client still waited as each attempt came.
    left_s: list[float] = field(default_factory=list)
    address: str = ""
    # Whether each stream ends well after its first answer.
    ends_streams: bool = False

    async def __aenter__(self) -> FailingServer:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Produce": grpc.stream_unary_rpc_method_handler(self._produce),
            "ProduceBatch": grpc.stream_unary_rpc_method_handler(self._produce_batch),
            "ProduceBatchStream": grpc.stream_stream_rpc_method_handler(self._produce_stream),
            "GetServers": grpc.stream_unary_rpc_method_handler(self._get_servers),
        }
        if self.numbers:
            handlers["RegisterProducer"] = grpc.stream_unary_rpc_method_handler(self._register)
        self._server.add_registered_method_handlers("log.v1.Log", handlers)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._proxy = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._proxy.sockets[0].getsockname()[1]}"
        self._connections: list[asyncio.StreamWriter] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self._proxy.close()
        self._hang_up()
        await self._server.stop(None)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._connections += [writer, other_writer]

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))

    def _hang_up(self) -> None:
        """A reset: not even what was sent before is sure to arrive."""
        for writer in self._connections:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._connections.clear()

    async def _get_servers(self, _: Any, context: Any) -> bytes:
        await context.read()
        return pb.GetServersResponse().SerializeToString()

    async def _register(self, _: Any, context: Any) -> bytes:
        await context.read()
        producer_id = len(self.producers) + 1
        self.producers[producer_id] = []
        return pb.RegisterProducerResponse(producer_id=producer_id).SerializeToString()

    async def _produce(self, _: Any, context: Any) -> bytes:
        offset = await self._one(context, one_of)
        return offset if isinstance(offset, bytes) else pb.ProduceResponse(offset=offset).SerializeToString()

    async def _produce_batch(self, _: Any, context: Any) -> bytes:
        offset = await self._one(context, many_of)
        return offset if isinstance(offset, bytes) else pb.ProduceBatchResponse(base_offset=offset).SerializeToString()

    async def _produce_stream(self, _: Any, context: Any) -> None:
        self.streams += 1
        while (raw := await context.read()) is not grpc.aio.EOF:
            self.streamed += 1
            offset = await self._append(context, many_of(raw))
            await context.write(
                offset if isinstance(offset, bytes) else pb.ProduceBatchResponse(base_offset=offset).SerializeToString()
            )
            if self.ends_streams:
                return

    async def _one(self, context: Any, sent_by: Callable[[bytes], Sent]) -> int | bytes:
        self.left_s.append(context.time_remaining())
        failure = self.script[0] if self.script else None
        if failure is not None and failure.how == "before reading":
            self.script.pop(0)
            await context.abort(failure.code, "?")
        return await self._append(context, sent_by(await context.read()))

    async def _append(self, context: Any, sent: Sent) -> int | bytes:
        failure = self.script.pop(0) if self.script else None
        offset = len(self.log)
        earlier = self.producers.get(sent.producer_id, []) if sent.producer_id else []
        if sent.producer_id and sent.sequence > len(earlier):
            await ServiceError(grpc.StatusCode.ABORTED, "SEQUENCE_GAP", "not in order").abort(context)
        if sent.sequence < len(earlier):
            offset = earlier[sent.sequence]
            assert self.log[offset : offset + len(sent.values)] == sent.values, "another batch under that number"
        elif failure is None or failure.appended:
            self.log += sent.values
            earlier.append(offset)
        if failure is None:
            return offset
        match failure.how:
            case "foreign" | "before reading":
                await context.abort(failure.code, "debug_error_string <class 'x'>" if failure.appended else "")
            case "certain" | "unknown":
                await ServiceError(failure.code, "SCRIPTED", "not now", outcome_unknown=failure.how == "unknown").abort(
                    context
                )
            case "garbage":
                return b"\xff\xff\xff"
            case "hang up":
                self._hang_up()
        await asyncio.Event().wait()
        raise AssertionError
