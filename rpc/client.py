"""The Python client of a log cluster, on asyncio.

It may be given any node's address, or several; from the nodes it learns of the others. It remembers up to where it
has seen the log, and reads from no node that has less. When a node answers a produce with "not the leader", the client
goes to the leader that the answer names. When a node cannot be reached, does not answer, or knows of no leader, it asks
another one, until its time is up. What it produces is numbered, so that the log stores it once although it is sent
again when it is not known what became of it, and gathered into batches while something is on its way
(`ourolog.rpc.client_lanes`, `ourolog.rpc.client_streams`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from google.protobuf.message import DecodeError

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client_attempts import Attempts
from ourolog.rpc.client_batches import Placed
from ourolog.rpc.client_calls import Call, ClientCalls
from ourolog.rpc.client_compression import Compression, checked_compression, unfolded
from ourolog.rpc.client_errors import LogError, no_records, not_understood
from ourolog.rpc.client_lanes import MAX_PENDING_BYTES, ProducerLanes
from ourolog.rpc.client_liveness import STREAM_SILENT_AFTER_S
from ourolog.rpc.client_nodes import ClientNodes
from ourolog.rpc.client_producers import ProducerIds
from ourolog.rpc.client_requests import UnansweredRequests
from ourolog.rpc.client_streams import ProduceStreams
from ourolog.rpc.client_types import (
    Acknowledgement,
    LeaderTransfer,
    LogBatch,
    LogRecord,
    ServerInfo,
    VotersChange,
    provenance_from,
)
from ourolog.rpc.cluster_status import node_status
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc
from ourolog.storage.record_set import encode_record, encode_records, equal_values

T = TypeVar("T")

# Of so few records it costs more to find out that they are equally long.
_FEW: Final = 16

# A stream that was open for this long counts as one that worked.
_WORKED_AFTER_S: Final = 2.0


class LogClient:
    """A client of one cluster; use it as an async context manager.

    addresses: HOST:PORT of any node, or several: a sequence, or a text with commas between.
    timeout_s: how long one call may take, all its attempts together; streams are not bounded by it.
    on_retry: called with what an attempt failed with, each time before another one is made.
    seen_end: the offset after the last record that is known to be acknowledged or was read before: what another
        client's `seen_end` was, for instance.
    max_pending_bytes: how much may be produced and not be acknowledged yet, in bytes; each record counts 64 more than
        its value. Who produces beyond that waits in line, within the time that the call has.
    compression: "zstd" to compress what is produced, each batch by itself, where that makes it smaller; nodes keep it
        as it is, and readers unfold it.

    Every method raises LogError.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:8400",
        *,
        timeout_s: float = 30.0,
        on_retry: Callable[[LogError], None] = lambda _: None,
        seen_end: int = 0,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        compression: Compression = "none",
    ) -> None:
        given = [addr.strip() for addr in addresses.split(",")] if isinstance(addresses, str) else list(addresses)
        if not given or "" in given:
            raise ValueError("the address of at least one node is needed, and none may be empty")
        self._nodes = ClientNodes(given)
        self._calls = ClientCalls(self._nodes, timeout_s, on_retry)
        ids = ProducerIds(self._calls)
        self._compression = checked_compression(compression)
        self._lanes = ProducerLanes(self._calls, ids, max_pending_bytes, self._compression, self._note_stored)
        self._streams = ProduceStreams(self._calls, ids)
        self._seen_end = seen_end

    @property
    def seen_end(self) -> int:
        """The offset after the last record that this client was acknowledged, or has read.

        Every read says it, so that whichever node is asked has all below it, or lets another one answer. What was
        acknowledged by the leader alone (acks=leader) may be lost, and does not count. Where nobody is elected each
        node has offsets of its own, and nodes take no notice.
        """
        return self._seen_end

    @property
    def pending_bytes(self) -> int:
        """How much this client was given to produce that is not acknowledged yet, see `max_pending_bytes`.

        What waits in line for room does not count.
        """
        return self._lanes.pending_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        await self._lanes.close()
        await self._calls.close()

    # ------------------------------------------------------------ produce

    async def produce(self, value: bytes, *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None) -> int:
        """Append one record and return its offset.

        It goes at once while nothing else is on its way, else in one batch with all that waits; those with the same
        acks stand in the log in the order of the calls. It is stored once, however often it has to be sent, where
        somebody is elected and acks is not LEADER. With `outcome_unknown` in the error it may be stored.
        """
        return (await self._lanes.produce(value, acks, timeout_s))[0]

    def enqueue(
        self, value: bytes, *, acks: Acks = Acks.DEFAULT, timeout_s: float | None = None
    ) -> asyncio.Future[Placed]:
        """As produce, and does not wait: the record goes with what is called before the loop runs on.

        The future brings the offset, and the replicas that have the record; it raises LogError.
        """
        return self._lanes.produce(value, acks, timeout_s)

    async def produce_batch(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        compression: Compression | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Append many records, all or none, and return the first's offset; the others follow on. See produce.

        compression: of this batch, which then goes by itself; None for the client's.
        """
        return (await self._lanes.produce_batch(values, acks, compression, timeout_s))[0]

    async def produce_acknowledged(
        self,
        values: Sequence[bytes],
        *,
        acks: Acks = Acks.DEFAULT,
        compression: Compression | None = None,
        timeout_s: float | None = None,
    ) -> Acknowledgement:
        """As produce_batch, and says which replicas have the records on disk."""
        base_offset, replicas = await self._lanes.produce_batch(values, acks, compression, timeout_s)
        return Acknowledgement(base_offset, len(values), replicas)

    async def produce_payload(
        self,
        payload: bytes,
        record_count: int,
        *,
        acks: Acks = Acks.DEFAULT,
        compression: Compression | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """As produce_batch, with an encoded `log.v1.RecordSet`, see `ourolog.encode_records`. It goes by itself."""
        return (await self._lanes.produce_payload(payload, record_count, acks, compression, timeout_s))[0]

    def produce_stream(
        self, values: AsyncIterable[bytes] | Iterable[bytes], *, acks: Acks = Acks.DEFAULT
    ) -> AsyncGenerator[int, None]:
        """Append records as they come and yield the offset of each, in order.

        When the leader changes, the stream goes on at the new one with all that was not answered, and each record is
        stored once. Where nobody is elected, and with acks=LEADER, it goes on only if it is known that none of that
        was appended; else it fails, and the outcome of what was not answered is unknown.
        """
        return self._stream(values, lambda value: (encode_record(value), 1), acks)

    def produce_batch_stream(
        self, batches: AsyncIterable[Sequence[bytes]] | Iterable[Sequence[bytes]], *, acks: Acks = Acks.DEFAULT
    ) -> AsyncGenerator[int, None]:
        """Append batches as they come, pipelined, and yield the first offset of each, in order. See produce_stream."""
        return self._stream(batches, lambda values: (encode_records(values), len(values)), acks)

    async def _stream(
        self, items: AsyncIterable[T] | Iterable[T], encode: Callable[[T], tuple[bytes, int]], acks: Acks
    ) -> AsyncGenerator[int, None]:
        """The first offset of each item's records."""
        requests = UnansweredRequests(items, encode, _acks(acks), self._compression)
        answers = self._streams.answers(requests, is_numbered=acks is not Acks.LEADER)
        async with aclosing(answers):
            async for offset, counts in answers:
                for count in counts:
                    if acks is not Acks.LEADER:
                        self._note_stored(offset + count)
                    yield offset
                    offset += count

    def _note_stored(self, end: int) -> None:
        self._seen_end = max(self._seen_end, end)

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
        request = pb.ConsumeRequest(offset=offset, provenance=provenance, read=_READS[read], seen_end=self._seen_end)
        try:
            response = await self._calls.call(lambda stub, left_s: stub.Consume(request, timeout=left_s), timeout_s)
        except LogError as error:
            if error.is_out_of_range and read is ReadLevel.LATEST:
                self._seen_end = max(self._seen_end, error.end_offset or 0)
            raise
        record = response.record
        self._seen_end = max(self._seen_end, record.offset + 1)
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
                for record in batch.records_from(offset):
                    yield record
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
        attempts: Attempts | None = None
        first_offset = offset
        while True:
            addr = self._nodes.current_addr
            request = pb.ConsumeBatchRequest(
                offset=offset,
                max_bytes=max_bytes,
                stop_at_end=stop_at_end,
                provenance=provenance,
                read=_READS[read],
                seen_end=self._seen_end,
                accept_zstd=True,
            )
            began_s = loop.time()
            responses = self._calls.responses(
                addr, partial(_consume, request=request), self._calls.liveness.stream_failure, STREAM_SILENT_AFTER_S
            )
            try:
                async with aclosing(responses):
                    async for response in responses:
                        attempts = None
                        for batch in _batches(response, addr):
                            if batch.end_offset > offset:
                                self._seen_end = max(self._seen_end, batch.end_offset)
                                yield batch
                                offset = batch.end_offset
                        began_s = loop.time()
                return
            except LogError as error:
                failure = error
            now_s = loop.time()
            # A stream that was open for a while has worked, whether or not there was anything to send; not so one
            # that only waited for somebody to confirm what the latest state is.
            has_worked = now_s - began_s > _WORKED_AFTER_S and not (failure.never_sent or failure.is_not_confirmed)
            if attempts is None or has_worked:
                attempts = Attempts(now_s, self._calls.timeout_s)
            attempts.note(failure)
            # Of two nodes one may have less than the other, for a while.
            is_behind = failure.is_out_of_range and first_offset < offset and offset > (failure.end_offset or 0)
            self._calls.route(failure, addr)
            if is_behind:
                self._nodes.leave(addr, now_s)
            wait_s = self._calls.wait_s(attempts, failure, addr)
            if not (failure.may_pass or is_behind) or wait_s is None:
                raise attempts.conclusion(failure)
            self._calls.on_retry(failure)
            await asyncio.sleep(wait_s)

    # ------------------------------------------------------------ the cluster

    async def get_servers(self, *, timeout_s: float | None = None) -> list[ServerInfo]:
        """Who is alive in the cluster, sorted by name, and who leads."""
        return await self._calls.get_servers(timeout_s)

    async def status(self, *, timeout_s: float | None = None) -> dict[str, object]:
        """What the node that answers knows of itself: an entry of `nodes` in `cluster_status`."""
        request = pb.GetStatusRequest()
        response = await self._calls.call(lambda stub, left_s: stub.GetStatus(request, timeout=left_s), timeout_s)
        return node_status(response)

    async def transfer_leader(self, to: str | None = None, *, timeout_s: float | None = None) -> LeaderTransfer:
        """Let another node lead, and return once it does.

        to: the node that is to lead; None for whichever voter is best.
        """
        request = pb.TransferLeaderRequest(node_id=to or "")
        response = await self._calls.call(
            lambda stub, left_s: stub.TransferLeader(request, timeout=left_s),
            timeout_s,
            to_leader=True,
            repeat_unknown=False,
            if_unknown="Whether another node leads now is not known: look at the status before you ask again",
        )
        self._nodes.leader_addr = ""
        return LeaderTransfer(response.leader, response.term, response.previous_leader)

    async def add_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a node vote that copies, and return once that is committed."""
        request = pb.AddVoterRequest(node_id=node_id)
        return await self._change_voters(lambda stub, left_s: stub.AddVoter(request, timeout=left_s), timeout_s)

    async def remove_voter(self, node_id: str, *, timeout_s: float | None = None) -> VotersChange:
        """Have a voter vote no more, and return once that is committed. It goes on copying."""
        request = pb.RemoveVoterRequest(node_id=node_id)
        return await self._change_voters(lambda stub, left_s: stub.RemoveVoter(request, timeout=left_s), timeout_s)

    async def _change_voters(self, call: Call[pb.ChangeVotersResponse], timeout_s: float | None) -> VotersChange:
        response = await self._calls.call(
            call,
            timeout_s,
            to_leader=True,
            repeat_unknown=False,
            if_unknown="Whether the voters are changed is not known: look at the status before you ask again",
        )
        return VotersChange(tuple(response.voters), response.term)


def _consume(stub: pb_grpc.LogAsyncStub, *, request: pb.ConsumeBatchRequest) -> Any:
    return stub.ConsumeBatchStream(request)


_READS: Final = {ReadLevel.COMMITTED: pb.READ_COMMITTED, ReadLevel.LATEST: pb.READ_LATEST}


def _acks(acks: Acks) -> pb.Acks.ValueType:
    return pb.Acks.ValueType(int(acks))


def _batches(response: pb.ConsumeBatchResponse | None, addr: str) -> Iterator[LogBatch]:
    if response is None:
        raise not_understood(addr)
    for batch in response.batches:
        provenance = provenance_from(batch.provenance) if batch.HasField("provenance") else None
        yield LogBatch(batch.base_offset, _values(batch, addr), provenance)


def _values(batch: pb.RecordBatch, addr: str) -> list[bytes]:
    payload = unfolded(batch, addr)
    if batch.record_count > _FEW:
        values = equal_values(payload, batch.record_count)
        if values is not None:
            return values
    try:
        values = [record.value for record in pb.RecordSet.FromString(payload).records]
    except DecodeError as error:
        raise no_records(addr, batch.base_offset) from error
    if len(values) != batch.record_count:
        raise no_records(addr, batch.base_offset)
    return values
