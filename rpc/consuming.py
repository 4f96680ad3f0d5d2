"""Consume streams: they read ahead in chunks, wait at the tail, and are slowed by their clients.

A stream is one coroutine; waiting at the tail it is one future and no thread. Streams that wait
at the same offset share one request and its answer, so a thousand followers of the tail cost
the actors as much as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar, assert_never

from google.protobuf.message import Message

from ourolog.actors.messages.server import CancelRequest, Consume, Refusal, RequestRefused, ServerMessage
from ourolog.actors.messages.store import BatchesRead, ReadRefused
from ourolog.rpc import consumed_records as reading
from ourolog.rpc.admission import IN_FLIGHT_COPIES, READ_COPIES, ReadBudget, Share, Shares
from ourolog.rpc.calls import Call
from ourolog.rpc.errors import (
    RETRY_AFTER_S,
    OutOfRangeError,
    ServiceError,
    from_read_refused,
    from_refusal,
    overloaded,
    unavailable,
)
from ourolog.rpc.mailbox import BurstMailbox, PendingRequests
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, BatchHead, Codec
from ourolog.storage.types import Offset

CHUNK_BYTES: Final = 1024 * 1024
LEAST_CHUNK_BYTES: Final = 64 * 1024
# Each may have one message stuck in its connection, which no budget can free.
MAX_STREAMS: Final = 1024
READS_AT_ONCE: Final = 16
SHARED_BY: Final = 32
_EMPTY_READS: Final = 100

R = TypeVar("R", bound=Message)


class _Tail:
    """One request that waits at the end of the log, and how many streams wait for its answer."""

    __slots__ = ("future", "request_id", "waiters")

    def __init__(self, request_id: int, future: asyncio.Future[Any]) -> None:
        self.request_id = request_id
        self.future = future
        self.waiters = 0


class Reads:
    """Reads of the log on behalf of all consumers."""

    def __init__(self, requests: PendingRequests, server: BurstMailbox[ServerMessage]) -> None:
        self._requests = requests
        self._server = server
        self._tails: dict[int, _Tail] = {}
        # Bounds the answers that arrive at once, before a budget can count them.
        self._at_once = asyncio.Semaphore(READS_AT_ONCE)
        self._ended: ServiceError | None = None

    async def read(self, offset: int, max_bytes: int) -> BatchesRead:
        """The batch that holds `offset`, and more up to max_bytes. Raises ServiceError."""
        async with self._at_once:
            request_id, future = self._requests.open()
            self._server.tell(Consume(request_id, Offset(offset), max_bytes, wait=False, reply_to=self._requests))
            try:
                return _batches(await future)
            finally:
                if self._requests.forget(request_id):
                    self._server.tell(CancelRequest(request_id, self._requests))

    async def wait(self, offset: int, max_bytes: int) -> BatchesRead:
        """The same, but at the end of the log it waits for more. Raises ServiceError."""
        if self._ended is not None:
            raise self._ended
        tail = self._tails.get(offset)
        if tail is None:
            tail = self._tails[offset] = _Tail(*self._requests.open())
            self._server.tell(Consume(tail.request_id, Offset(offset), max_bytes, wait=True, reply_to=self._requests))
        tail.waiters += 1
        try:
            # Shielded, since the others' answer must not go with the one of us whose client went.
            return _batches(await asyncio.shield(tail.future))
        finally:
            tail.waiters -= 1
            if self._tails.get(offset) is tail and (tail.future.done() or not tail.waiters):
                del self._tails[offset]
                if self._requests.forget(tail.request_id):
                    self._server.tell(CancelRequest(tail.request_id, self._requests))

    async def pause(self) -> None:
        """Until it is worth while to ask again whether the end of the log is known. Raises ServiceError."""
        if self._ended is not None:
            raise self._ended
        await asyncio.sleep(RETRY_AFTER_S)

    def end(self, error: ServiceError) -> None:
        """Nobody waits at the tail any more: the node stops. Whoever waits gets `error`."""
        self._ended = error
        for tail in list(self._tails.values()):
            if not tail.future.done():
                tail.future.set_exception(error)


class _Chunk(Generic[R]):
    """Messages yet to be written, which can be dropped while a write is stuck."""

    def __init__(self, messages: Iterator[tuple[R, int]]) -> None:
        self._messages = messages
        self.dropped = False

    def __iter__(self) -> Iterator[tuple[R, int]]:
        return self

    def __next__(self) -> tuple[R, int]:
        return next(self._messages)

    def drop(self) -> None:
        self._messages = iter(())
        self.dropped = True


class Streams:
    """The consumes of one node, streams and single ones."""

    def __init__(self, reads: Reads, budget: ReadBudget, max_streams: int = MAX_STREAMS) -> None:
        self._reads = reads
        self._budget = budget
        self._open = Shares(max_streams, 0)
        self._last_record_bytes = 0

    @property
    def open_count(self) -> int:
        return self._open.count

    async def record(self, request: pb.ConsumeRequest, call: Call[Any]) -> None:
        """Consume: one record. Raises ServiceError."""
        share = Share(call.client, lambda: None)
        # How large it is is known when it has been read; most are like the last one.
        wanted_bytes = max(READ_COPIES * LEAST_CHUNK_BYTES, self._last_record_bytes)
        try:
            # Room first: whoever does not read what it asked for waits here, with nothing in memory and out of
            # the way of those that read.
            while True:
                await self._budget.room(share, wanted_bytes)
                # One byte: just the batch that holds the record, since at least one comes.
                read = await self._reads.read(request.offset, max_bytes=1)
                response = reading.record_at(read.batches, request.offset, provenance=request.provenance)
                del read
                if response is None:
                    stalled = f"the log holds no readable record at offset {request.offset}; try again"
                    raise unavailable("READ_STALLED", stalled)
                wanted_bytes = self._last_record_bytes = IN_FLIGHT_COPIES * response.ByteSize()
                if self._budget.hold(share, wanted_bytes):
                    share.in_flight_bytes = wanted_bytes
                    await call.write(response)
                    return
                del response
        finally:
            self._budget.give_back(share)

    async def records(self, request: pb.ConsumeRequest, call: Call[Any]) -> None:
        """ConsumeStream. Ends by cancellation, or with ServiceError."""

        def messages(
            batches: bytes, heads: list[BatchHead], offset: int, _: int
        ) -> Iterator[tuple[pb.ConsumeResponse, int]]:
            for message in reading.records(batches, heads, offset, provenance=request.provenance):
                yield message, message.record.offset + 1

        await self._stream(request.offset, CHUNK_BYTES, messages, call, stop_at_end=False)

    async def batches(self, request: pb.ConsumeBatchRequest, call: Call[Any]) -> None:
        """ConsumeBatchStream. Ends at the end of the log if asked to, by cancellation, or with ServiceError."""
        max_bytes = min(request.max_bytes or CHUNK_BYTES, CHUNK_BYTES)

        def messages(
            batches: bytes, heads: list[BatchHead], offset: int, chunk_bytes: int
        ) -> Iterator[tuple[pb.ConsumeBatchResponse, int]]:
            # What the client asked for bounds a message of several batches; one batch comes whole up to the server's.
            part_bytes = max(chunk_bytes, self._chunk_bytes())
            gathered: list[pb.RecordBatch] = []
            size = 0
            for head in heads:
                for batch in reading.record_batches(
                    batches, head, offset, part_bytes, provenance=request.provenance, accept_zstd=request.accept_zstd
                ):
                    if gathered and size + len(batch.records) > max_bytes:
                        yield _response(gathered)
                        gathered, size = [], 0
                    gathered.append(batch)
                    size += len(batch.records)
            if gathered:
                yield _response(gathered)

        await self._stream(request.offset, max_bytes, messages, call, stop_at_end=request.stop_at_end)

    async def _stream(
        self,
        offset: int,
        max_bytes: int,
        messages: Callable[[bytes, list[BatchHead], int, int], Iterator[tuple[R, int]]],
        call: Call[Any],
        *,
        stop_at_end: bool,
    ) -> None:
        """Write everything from `offset` on. `messages` gives each message with the offset after it."""
        if not self._open.has_room(call.client, 0):
            raise overloaded(f"{self.open_count} consume streams are open on this node, as many as it serves", 1.0)
        chunk: _Chunk[R] = _Chunk(iter(()))
        share = Share(call.client, lambda: chunk.drop())  # noqa: PLW0108  # `chunk` is another one later
        self._open.take(call.client, 0)
        tail: int | None = None
        wanted_bytes = 0
        empty_reads = 0
        try:
            while True:
                chunk_bytes = min(max_bytes, self._chunk_bytes())
                self._budget.give_back(share)
                try:
                    # Only the last resort waits: at the tail nothing is held, however long it takes.
                    if tail is None:
                        await self._budget.room(share, max(wanted_bytes, READ_COPIES * chunk_bytes))
                        read = await self._reads.read(offset, chunk_bytes)
                    else:
                        read = await self._reads.wait(tail, chunk_bytes)
                except OutOfRangeError as error:
                    if tail is not None and tail < offset:
                        tail = None  # the log has moved on from where this one waited
                        continue
                    if offset < error.end or offset < error.first or tail is not None:
                        raise
                    if stop_at_end:
                        if offset > error.end:
                            raise
                        return
                    # Whoever waits for an offset that is still to come waits for the next one with the others.
                    tail = error.end
                    continue
                except ServiceError as error:
                    # Whoever follows waits anyhow; who wants to stop at the end must hear that none is known.
                    if error.reason != Refusal.COMMIT_UNKNOWN.name or stop_at_end:
                        raise
                    await self._reads.pause()
                    continue
                if read.next.offset <= offset and tail is not None:
                    tail = read.next.offset
                    del read
                    continue
                batches = read.batches
                del read
                heads = list(reading.data_heads(batches, offset))
                # One batch at a time is unfolded, and how much it comes to is known only then.
                unfolded = MAX_BODY_BYTES if any(head.codec is not Codec.NONE for head in heads) else 0
                wanted_bytes = READ_COPIES * max(len(batches), unfolded)
                held = self._budget.hold(share, wanted_bytes)
                if held:
                    wanted_bytes = 0
                    # Less than was asked for: there was probably no more.
                    at_end = len(batches) < chunk_bytes and not stop_at_end
                    chunk = _Chunk(messages(batches, heads, offset, chunk_bytes))
                tail = None
                # Whatever this frame holds, it holds for as long as the client reads nothing.
                del batches, heads
                if not held:
                    continue
                before = offset
                offset = await _write_all(chunk, share, call, offset)
                if at_end and not chunk.dropped:
                    tail = offset
                empty_reads = empty_reads + 1 if offset == before else 0
                if empty_reads > _EMPTY_READS:
                    raise unavailable("READ_STALLED", f"the log holds no readable record at offset {offset}; try again")
        finally:
            self._open.give_back(call.client, 0)
            self._budget.give_back(share)

    def _chunk_bytes(self) -> int:
        """A stream's part of what is free, within reason: the fuller it is, the less at a time."""
        part = self._budget.free_bytes() // (READ_COPIES * min(SHARED_BY, max(1, self.open_count)))
        return max(LEAST_CHUNK_BYTES, min(CHUNK_BYTES, part))


async def _write_all(chunk: _Chunk[R], share: Share, call: Call[Any], offset: int) -> int:
    """Write what a chunk holds, unless it is dropped meanwhile; the offset after what was written."""
    for message, next_offset in chunk:
        share.in_flight_bytes = IN_FLIGHT_COPIES * message.ByteSize()
        await call.write(message)
        offset = next_offset
        share.progress += 1
    return offset


def _response(batches: list[pb.RecordBatch]) -> tuple[pb.ConsumeBatchResponse, int]:
    last = batches[-1]
    return pb.ConsumeBatchResponse(batches=batches), last.base_offset + last.record_count


def _batches(answer: BatchesRead | ReadRefused | RequestRefused) -> BatchesRead:
    match answer:
        case BatchesRead():
            return answer
        case ReadRefused():
            raise from_read_refused(answer)
        case RequestRefused():
            raise from_refusal(answer)
        case _:
            assert_never(answer)
