"""Consume streams: they read ahead in chunks, wait at the tail, and are slowed by their clients.

A stream is one coroutine; waiting at the tail it is one future and no thread. Streams that wait
at the same offset share one request and its answer, so a thousand followers of the tail cost
the actors as much as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar, assert_never

import grpc

from actors.messages import BatchesRead, CancelRequest, Consume, ReadRefused, RequestRefused, ServerMessage
from rpc import reading
from rpc.admission import ReadBudget, Share
from rpc.errors import OutOfRangeError, ServiceError, from_read_refused, from_refusal, overloaded, unavailable
from rpc.mailbox import Outbox, Requests
from rpc.v1 import log_pb2 as pb
from storage.types import Offset

CHUNK_BYTES: Final = 1024 * 1024
LEAST_CHUNK_BYTES: Final = 64 * 1024
# Each may have one message stuck in its connection, which no budget can free.
MAX_STREAMS: Final = 1024
READS_AT_ONCE: Final = 32
_EMPTY_READS: Final = 100

R = TypeVar("R")
Context = grpc.aio.ServicerContext[Any, Any]


class _Tail:
    """One request that waits at the end of the log, and how many streams wait for its answer."""

    __slots__ = ("future", "request_id", "waiters")

    def __init__(self, request_id: int, future: asyncio.Future[Any]) -> None:
        self.request_id = request_id
        self.future = future
        self.waiters = 0


class Reads:
    """Reads of the log on behalf of all consumers."""

    def __init__(self, requests: Requests, server: Outbox[ServerMessage]) -> None:
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
    """The consume streams of one node."""

    def __init__(self, reads: Reads, budget: ReadBudget, max_streams: int = MAX_STREAMS) -> None:
        self._reads = reads
        self._budget = budget
        self._max_streams = max_streams
        self.open_count = 0

    async def records(self, request: pb.ConsumeRequest, context: Context) -> None:
        """ConsumeStream. Ends by cancellation, or with ServiceError."""

        def messages(batches: bytes, offset: int) -> Iterator[tuple[pb.ConsumeResponse, int]]:
            for message in reading.records(batches, offset, provenance=request.provenance):
                yield message, message.record.offset + 1

        await self._stream(request.offset, CHUNK_BYTES, messages, context, stop_at_end=False)

    async def batches(self, request: pb.ConsumeBatchRequest, context: Context) -> None:
        """ConsumeBatchStream. Ends at the end of the log if asked to, by cancellation, or with ServiceError."""
        max_bytes = min(request.max_bytes or CHUNK_BYTES, CHUNK_BYTES)

        def messages(batches: bytes, offset: int) -> Iterator[tuple[pb.ConsumeBatchResponse, int]]:
            gathered: list[pb.RecordBatch] = []
            size = 0
            for head in reading.data_heads(batches, offset):
                batch = reading.record_batch(
                    batches, head, provenance=request.provenance, accept_zstd=request.accept_zstd
                )
                # Decompressed batches are larger than the store's count of them.
                if gathered and size + len(batch.records) > max_bytes:
                    yield _response(gathered)
                    gathered, size = [], 0
                gathered.append(batch)
                size += len(batch.records)
            if gathered:
                yield _response(gathered)

        await self._stream(request.offset, max_bytes, messages, context, stop_at_end=request.stop_at_end)

    async def _stream(
        self,
        offset: int,
        max_bytes: int,
        messages: Callable[[bytes, int], Iterator[tuple[R, int]]],
        context: Context,
        *,
        stop_at_end: bool,
    ) -> None:
        """Write everything from `offset` on. `messages` gives each message with the offset after it."""
        if self.open_count >= self._max_streams:
            raise overloaded(f"{self.open_count} consume streams are open on this node, as many as it serves", 1.0)
        chunk: _Chunk[R] = _Chunk(iter(()))
        share = Share(lambda: chunk.drop())  # noqa: PLW0108  # `chunk` is another one later
        self.open_count += 1
        at_end = False
        empty_reads = 0
        try:
            while True:
                await self._budget.room()
                chunk_bytes = min(max_bytes, self._chunk_bytes())
                try:
                    # Only the last resort waits: at the tail nothing is held, however long it takes.
                    ask = self._reads.wait if at_end else self._reads.read
                    batches = (await ask(offset, chunk_bytes)).batches
                except OutOfRangeError as error:
                    if offset < error.end or offset < error.first or at_end:
                        raise
                    if stop_at_end:
                        if offset > error.end:
                            raise
                        return
                    at_end = True
                    continue
                if not self._budget.hold(share, len(batches)):
                    continue
                # Less than was asked for: there was probably no more.
                at_end = len(batches) < chunk_bytes and not stop_at_end
                chunk = _Chunk(messages(batches, offset))
                del batches
                before = offset
                for message, next_offset in chunk:
                    await context.write(message)
                    offset = next_offset
                    share.progress += 1
                self._budget.give_back(share)
                if chunk.dropped:
                    at_end = False
                empty_reads = empty_reads + 1 if offset == before else 0
                if empty_reads > _EMPTY_READS:
                    raise unavailable("READ_STALLED", f"the log holds no readable record at offset {offset}; try again")
        finally:
            self.open_count -= 1
            self._budget.give_back(share)

    def _chunk_bytes(self) -> int:
        """A stream's part of the budget, within reason."""
        part = self._budget.max_bytes // max(1, self.open_count)
        return max(LEAST_CHUNK_BYTES, min(CHUNK_BYTES, part))


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
