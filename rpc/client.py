"""The Python client of a log cluster, on asyncio.

It may be given any node's address. When a node answers a produce with "not the leader", the client
goes to the leader that the answer names. When a node cannot be reached, it tries again, and the
other nodes that it was given, until its time is up. A produce whose outcome is unknown is not
repeated unless asked for, since it might be stored twice. The outcome is unknown unless the server
itself says that nothing was appended, or the call never left this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import grpc
from google.protobuf.message import DecodeError

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import LogError, client_closed, no_records, not_understood, to_log_error
from ourolog.rpc.client_requests import CountedRequests
from ourolog.rpc.client_types import LogBatch, LogRecord, ServerInfo, provenance_from
from ourolog.rpc.cluster_status import node_status
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.record_set import encode_records

_FIRST_BACKOFF_S: Final = 0.05
_MAX_BACKOFF_S: Final = 1.0
_MAX_HINTS_IN_A_ROW: Final = 3
# A stream that was open for this long counts as one that worked.
_WORKED_AFTER_S: Final = 2.0

T = TypeVar("T")
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)
Res = TypeVar("Res", pb.ProduceResponse, pb.ProduceBatchResponse)
Call = Callable[["pb_grpc.LogAsyncStub", float], Awaitable[T]]  # quoted: only the typed stubs know the name


class LogClient:
    """A client of one cluster; use it as an async context manager.

    addresses: HOST:PORT of any node, or several to fall back on.
    timeout_s: how long one call may take, all its attempts together; streams are not bounded by it.
    on_retry: called with what an attempt failed with, each time before another one is made.

    Every method raises LogError.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:8400",
        *,
        timeout_s: float = 30.0,
        on_retry: Callable[[LogError], None] = lambda _: None,
    ) -> None:
        self._addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        if not self._addresses:
            raise ValueError("the address of at least one node is needed")
        self._timeout_s = timeout_s
        self._on_retry = on_retry
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._at = 0
        self._leader_addr = ""
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        self._closed = True
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
            encode_records(values), len(values), acks=acks, timeout_s=timeout_s, repeat_unknown=repeat_unknown
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
        """As produce_batch, with an encoded `log.v1.RecordSet`, see `ourolog.encode_records`."""
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
        """Append records as they come and yield the offset of each, in order.

        When it fails, the outcome of what was not answered is unknown. The stream goes to one node,
        so the leader is asked for first.
        """
        wanted = _acks(acks)
        addr = await self._find_leader()
        requests = CountedRequests(values, lambda value: pb.ProduceRequest(record=pb.Record(value=value), acks=wanted))
        call = self._stub(addr).ProduceStream(requests.messages())
        async for response in self._answers(call, addr, requests):
            yield response.offset

    async def produce_batch_stream(
        self, batches: AsyncIterable[Sequence[bytes]] | Iterable[Sequence[bytes]], *, acks: Acks = Acks.DEFAULT
    ) -> AsyncGenerator[int, None]:
        """Append batches as they come, pipelined, and yield the first offset of each, in order. See produce_stream."""
        wanted = _acks(acks)
        addr = await self._find_leader()
        requests = CountedRequests(
            batches,
            lambda values: pb.ProduceBatchRequest(
                records=encode_records(values), record_count=len(values), acks=wanted
            ),
        )
        call = self._stub(addr).ProduceBatchStream(requests.messages())
        async for response in self._answers(call, addr, requests):
            yield response.base_offset

    async def _answers(
        self, call: grpc.aio.StreamStreamCall[Req, Res], addr: str, requests: CountedRequests[Any, Req]
    ) -> AsyncGenerator[Res, None]:
        answered = 0
        try:
            async for response in call:
                if response is None:  # its bytes were no message
                    raise not_understood(addr)
                answered += 1
                yield response
            if requests.error is not None:
                raise requests.error
            if answered != requests.count:
                message = f"{addr} answered {answered} of {requests.count} produces and ended the stream"
                raise LogError(message, "INTERNAL", addr=addr, outcome_unknown=True)
        except grpc.aio.AioRpcError as error:
            raise to_log_error(error, addr) from error
        except grpc.aio.UsageError as error:
            raise client_closed(addr) from error
        except asyncio.CancelledError:
            if requests.error is not None:  # gRPC cancels the call of a source that fails
                raise requests.error from None
            if self._closed and not _is_cancelled():
                raise client_closed(addr) from None
            raise
        finally:
            call.cancel()

    # ------------------------------------------------------------ consume

    async def consume(
        self,
        offset: int,
        *,
        provenance: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
        timeout_s: float | None = None,
    ) -> LogRecord:
        """The record at `offset`, from the first node that answers. OUT_OF_RANGE if there is none yet.

        read: with LATEST, OUT_OF_RANGE says that no quorum had acknowledged a record there when this was called.
        """
        request = pb.ConsumeRequest(offset=offset, provenance=provenance, read=_READS[read])
        response = await self._call(lambda stub, left_s: stub.Consume(request, timeout=left_s), timeout_s)
        record = response.record
        return LogRecord(
            record.offset,
            record.value,
            provenance_from(response.provenance) if response.HasField("provenance") else None,
        )

    async def consume_stream(
        self,
        offset: int = 0,
        *,
        provenance: bool = False,
        stop_at_end: bool = False,
        read: ReadLevel = ReadLevel.COMMITTED,
    ) -> AsyncGenerator[LogRecord, None]:
        """Every record from `offset` on; waits at the end for more unless stop_at_end. See consume_batches."""
        batches = self.consume_batches(offset, provenance=provenance, stop_at_end=stop_at_end, read=read)
        try:
            async for batch in batches:
                for at, value in enumerate(batch.values, batch.base_offset):
                    if at >= offset:
                        yield LogRecord(at, value, batch.provenance)
        finally:
            await batches.aclose()

    async def consume_batches(
        self,
        offset: int = 0,
        *,
        provenance: bool = False,
        stop_at_end: bool = False,
        max_bytes: int = 0,
        read: ReadLevel = ReadLevel.COMMITTED,
    ) -> AsyncGenerator[LogBatch, None]:
        """The records from `offset` on by the batch, much faster than one by one.

        When the connection breaks, or a leader does not know yet where its log ends, it goes on
        where it was, for as long as timeout_s without a success. Where the log holds something else
        than records it ends with a LogError of code DATA_LOSS.

        max_bytes: how much one message may hold; 0 for the server's choice.
        read: with LATEST, it holds at least all that a quorum had acknowledged when it was called; what comes after
            that is as recent as the node that is read from.
        """
        loop = asyncio.get_running_loop()
        failing_since_s: float | None = None
        backoff_s = _FIRST_BACKOFF_S
        while True:
            addr = self._addresses[self._at]
            request = pb.ConsumeBatchRequest(
                offset=offset,
                max_bytes=max_bytes,
                stop_at_end=stop_at_end,
                provenance=provenance,
                read=_READS[read],
            )
            began_s = loop.time()
            try:
                call = self._stub(addr).ConsumeBatchStream(request)
                try:
                    async for response in call:
                        failing_since_s = None
                        backoff_s = _FIRST_BACKOFF_S
                        for batch in _batches(response, addr):
                            if batch.end_offset > offset:
                                yield batch
                                offset = batch.end_offset
                        began_s = loop.time()
                    return
                finally:
                    call.cancel()
            except LogError as error:
                failure = error
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
                failure = self._failure(error, addr)
            now_s = loop.time()
            # A stream that was open for a while has worked, whether or not there was anything to send.
            if failing_since_s is None or (now_s - began_s > _WORKED_AFTER_S and not failure.never_sent):
                failing_since_s = now_s
            if not failure.may_pass or now_s + backoff_s >= failing_since_s + self._timeout_s:
                raise failure
            self._on_retry(failure)
            if not failure.is_end_unknown:  # another node may have less, and report that as the end
                self._try_next_address()
            await asyncio.sleep(max(backoff_s, failure.retry_after_s or 0.0))
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
                response = await call(self._stub(addr), max(0.0, give_up_at_s - loop.time()))
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
                failure = self._failure(error, addr)
            else:
                if response is not None:
                    return response
                failure = not_understood(addr)
            if to_leader and failure.outcome_unknown and not failure.reason:
                failure.args = (f"{str(failure).rstrip('.')}. {OUTCOME_UNKNOWN}",)
            if failure.code == "DEADLINE_EXCEEDED" and before:
                failure.args = (f"{failure}; before that: {before}",)
            before = str(failure)
            if failure.is_not_leader and failure.leader_addr and failure.leader_addr != addr:
                self._leader_addr = failure.leader_addr
                hints += 1
                if hints % _MAX_HINTS_IN_A_ROW and loop.time() < give_up_at_s:
                    continue
            elif failure.code in {"UNAVAILABLE", "ABORTED"} and not failure.is_end_unknown:
                self._leader_addr = ""
                self._try_next_address()
            wait_s = failure.retry_after_s if failure.retry_after_s is not None else backoff_s
            wait_s = max(wait_s, backoff_s)
            worth_it = failure.may_retry or failure.is_not_leader or (repeat_unknown and failure.may_pass)
            if not worth_it or loop.time() + wait_s >= give_up_at_s:
                raise failure
            self._on_retry(failure)
            await asyncio.sleep(wait_s)
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    def _failure(self, error: BaseException, addr: str) -> LogError:
        """What an attempt ended with. Raises CancelledError when it was this task that was cancelled."""
        if isinstance(error, grpc.aio.AioRpcError):
            failure = to_log_error(error, addr)
        elif isinstance(error, grpc.aio.UsageError) or (self._closed and not _is_cancelled()):
            failure = client_closed(addr)
        else:
            raise error
        failure.__cause__ = error
        return failure

    def _try_next_address(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)

    def _stub(self, addr: str) -> pb_grpc.LogAsyncStub:
        channel = self._channels.get(addr)
        if channel is None:
            channel = self._channels[addr] = open_channel(addr)
        return pb_grpc.LogStub(channel)


_READS: Final = {ReadLevel.COMMITTED: pb.READ_COMMITTED, ReadLevel.LATEST: pb.READ_LATEST}


def _acks(acks: Acks) -> pb.Acks.ValueType:
    return pb.Acks.ValueType(int(acks))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _batches(response: pb.ConsumeBatchResponse | None, addr: str) -> Iterator[LogBatch]:
    if response is None:
        raise not_understood(addr)
    for batch in response.batches:
        try:
            values = [record.value for record in pb.RecordSet.FromString(batch.records).records]
        except DecodeError as error:
            raise no_records(addr, batch.base_offset) from error
        if len(values) != batch.record_count:
            raise no_records(addr, batch.base_offset)
        provenance = provenance_from(batch.provenance) if batch.HasField("provenance") else None
        yield LogBatch(batch.base_offset, values, provenance)
