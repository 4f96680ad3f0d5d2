"""The Python client of a log cluster, on asyncio.

It may be given any node's address. Where a produce is answered "not the leader", it goes to the
leader that the answer names; where a node is not there, it tries again, and the other nodes it
was given, until its time is up. A produce whose outcome is unknown is not repeated unless asked
for, since it might be stored twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc

from actors.messages import Acks
from rpc.channels import open_channel
from rpc.client_errors import LogError, to_log_error
from rpc.client_types import LogBatch, LogRecord, Provenance, ServerInfo, provenance_from
from rpc.cluster_status import cluster_status, node_status
from rpc.records import decode_values, encode_records
from rpc.v1 import log_pb2 as pb
from rpc.v1 import log_pb2_grpc as pb_grpc

__all__ = ["Acks", "LogBatch", "LogClient", "LogError", "LogRecord", "Provenance", "ServerInfo", "cluster_status"]

_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 1.0
_HINTS_AT_ONCE: Final = 3

T = TypeVar("T")
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)
Call = Callable[["pb_grpc.LogAsyncStub", float], Awaitable[T]]  # quoted: only the typed stubs know the name


class LogClient:
    """A client of one cluster; use it as an async context manager.

    addresses: HOST:PORT of any node, or several to fall back on. timeout_s: how long one call
    may take, all its attempts together; streams are not bounded by it.

    Every method raises LogError.
    """

    def __init__(self, addresses: str | Sequence[str] = "127.0.0.1:8400", *, timeout_s: float = 30.0) -> None:
        self._addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        if not self._addresses:
            raise ValueError("the address of at least one node is needed")
        self._timeout_s = timeout_s
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._at = 0
        self._leader_addr = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    # ------------------------------------------------------------ produce

    async def produce(
        self,
        value: bytes,
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """Append one record and return its offset.

        repeat_unknown: try again even if the record may have been stored, so it may be twice.
        """
        request = pb.ProduceRequest(record=pb.Record(value=value), acks=_acks(acks))
        response = await self._call(
            lambda stub, left_s: stub.Produce(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=repeat_unknown,
        )
        return response.offset

    async def produce_batch(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """Append many records with one call, all or none, and return the first's offset; the others follow on."""
        return await self.produce_payload(
            encode_records(list(values)), len(values), acks=acks, timeout_s=timeout_s, repeat_unknown=repeat_unknown
        )

    async def produce_payload(
        self,
        payload: bytes,
        record_count: int,
        *,
        acks: Acks = Acks.DEFAULT,
        timeout_s: float | None = None,
        repeat_unknown: bool = False,
    ) -> int:
        """The same with an encoded `log.v1.RecordSet`, see `rpc.records.encode_records`."""
        request = pb.ProduceBatchRequest(records=payload, record_count=record_count, acks=_acks(acks))
        response = await self._call(
            lambda stub, left_s: stub.ProduceBatch(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=repeat_unknown,
        )
        return response.base_offset

    async def produce_stream(
        self, values: AsyncIterable[bytes] | Iterable[bytes], *, acks: Acks = Acks.DEFAULT
    ) -> AsyncGenerator[int, None]:
        """Append records as they come and give the offset of each, in order.

        When it fails, what was not answered has an unknown outcome. The leader must be known
        before, so this asks for it first.
        """
        wanted = _acks(acks)
        addr = await self._find_leader()
        requests = _mapped(values, lambda value: pb.ProduceRequest(record=pb.Record(value=value), acks=wanted))
        call = self._stub(addr).ProduceStream(requests)
        try:
            async for response in call:
                yield response.offset
        except grpc.aio.AioRpcError as error:
            raise to_log_error(error, addr) from error
        finally:
            call.cancel()

    async def produce_batch_stream(
        self, batches: AsyncIterable[Sequence[bytes]] | Iterable[Sequence[bytes]], *, acks: Acks = Acks.DEFAULT
    ) -> AsyncGenerator[int, None]:
        """Append batches as they come, pipelined, and give the first offset of each, in order. See produce_stream."""
        wanted = _acks(acks)
        addr = await self._find_leader()
        requests = _mapped(
            batches,
            lambda values: pb.ProduceBatchRequest(
                records=encode_records(list(values)), record_count=len(values), acks=wanted
            ),
        )
        call = self._stub(addr).ProduceBatchStream(requests)
        try:
            async for response in call:
                yield response.base_offset
        except grpc.aio.AioRpcError as error:
            raise to_log_error(error, addr) from error
        finally:
            call.cancel()

    # ------------------------------------------------------------ consume

    async def consume(self, offset: int, *, provenance: bool = False, timeout_s: float | None = None) -> LogRecord:
        """The record at `offset`, from the first node that answers. OUT_OF_RANGE if there is none yet."""
        request = pb.ConsumeRequest(offset=offset, provenance=provenance)
        response = await self._call(lambda stub, left_s: stub.Consume(request, timeout=left_s), timeout_s)
        record = response.record
        return LogRecord(
            record.offset,
            record.value,
            provenance_from(response.provenance) if response.HasField("provenance") else None,
        )

    async def consume_stream(
        self, offset: int = 0, *, provenance: bool = False, stop_at_end: bool = False
    ) -> AsyncGenerator[LogRecord, None]:
        """Every record from `offset` on; waits at the end for more unless stop_at_end. See consume_batches."""
        batches = self.consume_batches(offset, provenance=provenance, stop_at_end=stop_at_end)
        try:
            async for batch in batches:
                for at, value in enumerate(batch.values, batch.base_offset):
                    if at >= offset:
                        yield LogRecord(at, value, batch.provenance)
        finally:
            await batches.aclose()

    async def consume_batches(
        self, offset: int = 0, *, provenance: bool = False, stop_at_end: bool = False, max_bytes: int = 0
    ) -> AsyncGenerator[LogBatch, None]:
        """The records from `offset` on by the batch, much faster than one by one.

        When the connection breaks it goes on where it was, for as long as timeout_s without
        an answer. max_bytes: how much one message may hold; 0 for the server's choice.
        """
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + self._timeout_s
        backoff_s = _FIRST_BACKOFF_S
        while True:
            addr = self._addresses[self._at]
            request = pb.ConsumeBatchRequest(
                offset=offset, max_bytes=max_bytes, stop_at_end=stop_at_end, provenance=provenance
            )
            call = self._stub(addr).ConsumeBatchStream(request)
            try:
                async for response in call:
                    for batch in response.batches:
                        origin = provenance_from(batch.provenance) if batch.HasField("provenance") else None
                        yield LogBatch(batch.base_offset, decode_values(batch.records), origin)
                        offset = batch.base_offset + batch.record_count
                    give_up_at_s = loop.time() + self._timeout_s
                    backoff_s = _FIRST_BACKOFF_S
                return
            except grpc.aio.AioRpcError as error:
                failure = to_log_error(error, addr)
                if failure.code not in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"} or loop.time() >= give_up_at_s:
                    raise failure from error
            finally:
                call.cancel()
            self._try_next_address()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    # ------------------------------------------------------------ the cluster

    async def get_servers(self, *, timeout_s: float | None = None) -> list[ServerInfo]:
        """Who is alive in the cluster, sorted by name, and who leads."""
        request = pb.GetServersRequest()
        response = await self._call(lambda stub, left_s: stub.GetServers(request, timeout=left_s), timeout_s)
        return [ServerInfo(server.id, server.rpc_addr, server.is_leader) for server in response.servers]

    async def status(self, *, timeout_s: float | None = None) -> dict[str, object]:
        """What the node that answers knows of itself: an entry of `nodes` in `cluster_status`."""
        request = pb.GetStatusRequest()
        response = await self._call(lambda stub, left_s: stub.GetStatus(request, timeout=left_s), timeout_s)
        return node_status(response)

    async def _find_leader(self) -> str:
        """Where to produce to: the leader's address, or the first node's where nobody is elected."""
        servers = await self.get_servers()
        for server in servers:
            if server.is_leader:
                self._leader_addr = server.rpc_addr
                return server.rpc_addr
        return self._addresses[self._at]

    # ------------------------------------------------------------ attempts

    async def _call(
        self, call: Call[T], timeout_s: float | None, *, to_leader: bool = False, repeat_unknown: bool = True
    ) -> T:
        loop = asyncio.get_running_loop()
        give_up_at_s = loop.time() + (self._timeout_s if timeout_s is None else timeout_s)
        backoff_s = _FIRST_BACKOFF_S
        hints = 0
        before = ""
        while True:
            addr = (self._leader_addr if to_leader else "") or self._addresses[self._at]
            try:
                return await call(self._stub(addr), max(0.0, give_up_at_s - loop.time()))
            except grpc.aio.AioRpcError as error:
                failure = to_log_error(error, addr)
                cause = error
            if failure.code == "DEADLINE_EXCEEDED" and before:
                failure.args = (f"{failure}; before that: {before}",)
            before = str(failure)
            if failure.is_not_leader and failure.leader_addr and failure.leader_addr != addr:
                self._leader_addr = failure.leader_addr
                hints += 1
                if hints % _HINTS_AT_ONCE:
                    continue
            elif failure.code == "UNAVAILABLE":
                self._leader_addr = ""
                self._try_next_address()
            wait_s = failure.retry_after_s if failure.retry_after_s is not None else backoff_s
            wait_s = max(wait_s, backoff_s)
            worth_it = failure.may_retry or failure.is_not_leader or (failure.outcome_unknown and repeat_unknown)
            if not worth_it or loop.time() + wait_s >= give_up_at_s:
                raise failure from cause
            await asyncio.sleep(wait_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    def _try_next_address(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)

    def _stub(self, addr: str) -> pb_grpc.LogAsyncStub:
        channel = self._channels.get(addr)
        if channel is None:
            channel = self._channels[addr] = open_channel(addr)
        return pb_grpc.LogStub(channel)


def _acks(acks: Acks) -> pb.Acks.ValueType:
    return pb.Acks.ValueType(int(acks))


async def _mapped(items: AsyncIterable[T] | Iterable[T], make: Callable[[T], Req]) -> AsyncIterator[Req]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield make(item)
    else:
        for item in items:
            yield make(item)
