"""The consume calls of the Log service, which read in chunks, wait at the end of the log, and adapt to their clients.

A stream is one coroutine; while it waits at the end of the log it is one future and no thread.
Streams that wait at the same offset share one request and its answer, so a thousand of them cost
the actors as much as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final, assert_never

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import (
    CONFIRMS_WITHIN_S,
    CancelRequest,
    Consume,
    Refusal,
    RequestRefused,
    ServerMessage,
)
from ourolog.actors.messages.store import BatchesRead, ReadRefused
from ourolog.actors.messages.values import ReadLevel
from ourolog.actors.replication.latest_reads import EXPIRY_CHECK_S
from ourolog.rpc import consume_responses
from ourolog.rpc.admission import IN_FLIGHT_COPIES, READ_COPIES, FairLimit, ReadBudget, ReadReservation
from ourolog.rpc.errors import (
    RETRY_AFTER_S,
    OutOfRangeError,
    ServiceError,
    from_read_refused,
    from_refusal,
    invalid,
    overloaded,
    unavailable,
)
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.server_calls import ServerCall
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, BatchHead, Codec
from ourolog.storage.types import Offset

CHUNK_BYTES: Final = 1024 * 1024
MIN_CHUNK_BYTES: Final = 64 * 1024
# Each may have one message stuck in its connection, which no budget can free.
MAX_STREAMS: Final = 1024
MAX_CONCURRENT_READS: Final = 16
MAX_STREAMS_SHARING: Final = 32
_MAX_EMPTY_READS: Final = 100
# No log has a record there.
_BEYOND: Final = Offset(2**64 - 1)
# How much of a client's time may go by until it is known what the latest state is.
_CONFIRM_PART: Final = 0.9
SEEN_WITHIN_S: Final = 2.0
"""How long a node that has committed less than a client has seen waits at the most before it names the leader. A
follower that fetches is behind for milliseconds."""
# How much of a client's time may go by meanwhile: it must have enough left to ask the leader.
_SEEN_PART: Final = 0.5


class _TailRead:
    """One request that waits at the end of the log, and how many streams wait for its answer."""

    __slots__ = ("future", "request_id", "waiters")

    def __init__(self, request_id: int, future: asyncio.Future[Any]) -> None:
        self.request_id = request_id
        self.future = future
        self.waiters = 0


class LogReader:
    """Reads the log on behalf of all consumers of one node."""

    def __init__(self, requests: PendingRequests, server: Mailbox[ServerMessage]) -> None:
        self._requests = requests
        self._server = server
        self._tails: dict[int, _TailRead] = {}
        # Bounds the answers that arrive together, before a budget can count them.
        self._concurrent = asyncio.Semaphore(MAX_CONCURRENT_READS)
        self._ended: ServiceError | None = None
        self._committed_end = 0
        self._has_offsets_of_its_own = False

    def has_seen(self, end: int) -> bool:
        """Whether all below that offset is known to be committed here, or no client's offsets mean anything here."""
        return end <= self._committed_end or self._has_offsets_of_its_own

    async def read(self, offset: int, max_bytes: int) -> BatchesRead:
        """The batch that holds `offset`, and more up to max_bytes. Raises ServiceError."""
        async with self._concurrent:
            request_id, future = self._requests.open()
            self._server.tell(Consume(request_id, Offset(offset), max_bytes, wait=False, reply_to=self._requests))
            try:
                return self._read(await future)
            finally:
                if self._requests.forget(request_id):
                    self._server.tell(CancelRequest(request_id, self._requests))

    async def confirm(self, level: ReadLevel, seen_end: int, timeout_s: float) -> None:
        """Have this node commit what a client has seen, and with LATEST all that was committed anywhere, so that it is
        read from here on. Raises ServiceError.

        It holds no place among the reads, since it may take long, and its answer is small.

        seen_end: the offset after the last record that the client has seen.
        timeout_s: how long it may take.
        """
        request_id, future = self._requests.open()
        self._server.tell(
            Consume(
                request_id,
                _BEYOND,
                max_bytes=1,
                wait=False,
                reply_to=self._requests,
                read=level,
                timeout_s=timeout_s,
                seen_end=Offset(seen_end),
            )
        )
        try:
            _batches(await future)
        except OutOfRangeError as error:
            # As expected: there is nothing at that offset, and the end of the log is known.
            self._committed_end = max(self._committed_end, error.end)
            # Where somebody is elected it would have waited.
            self._has_offsets_of_its_own = error.end < seen_end
        except ServiceError as error:
            # A leader that does not know yet where the committed part of its log ends has committed so much.
            if error.reason != Refusal.COMMIT_UNKNOWN.name or level is not ReadLevel.COMMITTED:
                raise
            self._committed_end = max(self._committed_end, seen_end)
        finally:
            if self._requests.forget(request_id):
                self._server.tell(CancelRequest(request_id, self._requests))

    async def read_or_wait(self, offset: int, max_bytes: int) -> BatchesRead:
        """As `read`, but at the end of the log it waits for more. Raises ServiceError."""
        if self._ended is not None:
            raise self._ended
        tail = self._tails.get(offset)
        if tail is None:
            tail = self._tails[offset] = _TailRead(*self._requests.open())
            self._server.tell(Consume(tail.request_id, Offset(offset), max_bytes, wait=True, reply_to=self._requests))
        tail.waiters += 1
        try:
            # Shielded: when one client goes, the others still want the answer.
            return self._read(await asyncio.shield(tail.future))
        finally:
            tail.waiters -= 1
            if self._tails.get(offset) is tail and (tail.future.done() or not tail.waiters):
                del self._tails[offset]
                if self._requests.forget(tail.request_id):
                    self._server.tell(CancelRequest(tail.request_id, self._requests))

    def _read(self, answer: BatchesRead | ReadRefused | RequestRefused) -> BatchesRead:
        read = _batches(answer)
        self._committed_end = max(self._committed_end, read.next.offset)
        return read

    async def pause(self) -> None:
        """Wait before asking again whether the end of the log is known. Raises ServiceError."""
        if self._ended is not None:
            raise self._ended
        await asyncio.sleep(RETRY_AFTER_S)

    def end(self, error: ServiceError) -> None:
        """End all waits, and all later ones, with `error`: the node stops."""
        self._ended = error
        for tail in list(self._tails.values()):
            if not tail.future.done():
                tail.future.set_exception(error)


class _Chunk:
    """Encoded messages that are still to be written, and can be dropped while a write is stuck."""

    def __init__(self, messages: Iterator[tuple[bytes, int]]) -> None:
        self._messages = messages
        self.dropped = False

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return self

    def __next__(self) -> tuple[bytes, int]:
        return next(self._messages)

    def drop(self) -> None:
        self._messages = iter(())
        self.dropped = True


class ConsumeHandler:
    """Carries out the consumes of all clients of one node, single ones and streams. Lives on one asyncio loop."""

    def __init__(self, reader: LogReader, budget: ReadBudget, max_streams: int = MAX_STREAMS) -> None:
        self._reader = reader
        self._budget = budget
        self._open = FairLimit(max_streams, 0)
        self._last_record_bytes = 0

    @property
    def open_count(self) -> int:
        """How many consume streams are open."""
        return self._open.count

    async def consume_record(self, request: pb.ConsumeRequest, call: ServerCall[Any]) -> None:
        """Consume: one record. Raises ServiceError."""
        reservation = ReadReservation(call.client, lambda: None)
        # Its size is known only once it has been read; most records are like the last one.
        wanted_bytes = max(READ_COPIES * MIN_CHUNK_BYTES, self._last_record_bytes)
        await self._confirm(request.read, request.seen_end, call)
        try:
            # Room first: a client that does not read what it asked for waits here, with nothing in memory and out
            # of the way of those that do.
            while True:
                await self._budget.reserve(reservation, wanted_bytes)
                # One byte: at least one batch always comes, so this is just the one that holds the record.
                read = await self._reader.read(request.offset, max_bytes=1)
                response = consume_responses.record_at(read.batches, request.offset, provenance=request.provenance)
                del read
                if response is None:
                    stalled = f"the log holds no readable record at offset {request.offset}; try again"
                    raise unavailable("READ_STALLED", stalled)
                wanted_bytes = self._last_record_bytes = IN_FLIGHT_COPIES * len(response)
                if self._budget.resize(reservation, wanted_bytes):
                    reservation.in_flight_bytes = wanted_bytes
                    await call.write(response)
                    return
                del response
        finally:
            self._budget.release(reservation)

    async def stream_records(self, request: pb.ConsumeRequest, call: ServerCall[Any]) -> None:
        """ConsumeStream. Ends by cancellation, or with ServiceError."""

        def messages(batches: bytes, heads: list[BatchHead], offset: int, _: int) -> Iterator[tuple[bytes, int]]:
            return consume_responses.records(batches, heads, offset, provenance=request.provenance)

        await self._stream(request, CHUNK_BYTES, messages, call, stop_at_end=False, accept_zstd=False)

    async def stream_batches(self, request: pb.ConsumeBatchRequest, call: ServerCall[Any]) -> None:
        """ConsumeBatchStream. Ends at the end of the log if asked to, by cancellation, or with ServiceError."""
        max_bytes = min(request.max_bytes or CHUNK_BYTES, CHUNK_BYTES)

        def messages(
            batches: bytes, heads: list[BatchHead], offset: int, chunk_bytes: int
        ) -> Iterator[tuple[bytes, int]]:
            # The client's bound is on a message of several batches; one batch comes whole up to the server's bound.
            part_bytes = max(chunk_bytes, self._fair_chunk_bytes())
            gathered: list[consume_responses.EncodedRecordBatch] = []
            size = 0
            for head in heads:
                for batch in consume_responses.record_batches(
                    batches, head, offset, part_bytes, provenance=request.provenance, accept_zstd=request.accept_zstd
                ):
                    if gathered and size + len(batch.payload) > max_bytes:
                        yield consume_responses.batch_response(gathered), gathered[-1].end_offset
                        gathered, size = [], 0
                    gathered.append(batch)
                    size += len(batch.payload)
            if gathered:
                yield consume_responses.batch_response(gathered), gathered[-1].end_offset

        await self._stream(
            request, max_bytes, messages, call, stop_at_end=request.stop_at_end, accept_zstd=request.accept_zstd
        )

    async def _stream(
        self,
        request: pb.ConsumeRequest | pb.ConsumeBatchRequest,
        max_bytes: int,
        messages: Callable[[bytes, list[BatchHead], int, int], Iterator[tuple[bytes, int]]],
        call: ServerCall[Any],
        *,
        stop_at_end: bool,
        accept_zstd: bool,
    ) -> None:
        """Write everything from its offset on. `messages` gives each message, encoded, with the offset after it."""
        offset = request.offset
        if not self._open.has_room(call.client, 0):
            raise overloaded(f"{self.open_count} consume streams are open on this node, as many as it serves", 1.0)
        chunk = _Chunk(iter(()))
        reservation = ReadReservation(call.client, lambda: chunk.drop())  # noqa: PLW0108  # `chunk` is another one later
        self._open.take(call.client, 0)
        tail: int | None = None
        wanted_bytes = 0
        empty_reads = 0
        try:
            await self._confirm(request.read, request.seen_end, call)
            while True:
                chunk_bytes = min(max_bytes, self._fair_chunk_bytes())
                self._budget.release(reservation)
                try:
                    # At the end of the log nothing is reserved, however long the wait.
                    if tail is None:
                        await self._budget.reserve(reservation, max(wanted_bytes, READ_COPIES * chunk_bytes))
                        read = await self._reader.read(offset, chunk_bytes)
                    else:
                        read = await self._reader.read_or_wait(tail, chunk_bytes)
                except OutOfRangeError as error:
                    if tail is not None and tail < offset:
                        tail = None  # the log has grown past the offset that was waited for
                        continue
                    if offset < error.end or offset < error.first or tail is not None:
                        raise
                    if stop_at_end:
                        if offset > error.end:
                            raise
                        return
                    # A stream that asked for a later offset waits for the next one together with the others.
                    tail = error.end
                    continue
                except ServiceError as error:
                    # A stream that follows the log waits anyway; one that stops there must be told that none is known.
                    if error.reason != Refusal.COMMIT_UNKNOWN.name or stop_at_end:
                        raise
                    await self._reader.pause()
                    continue
                if read.next.offset <= offset and tail is not None:
                    tail = read.next.offset
                    del read
                    continue
                batches = read.batches
                del read
                heads = list(consume_responses.data_heads(batches, offset))
                # One batch at a time is decompressed, and its size is known only then. None is, where the client does
                # it and no batch has to go in parts.
                stays_whole = accept_zstd and len(batches) <= chunk_bytes
                is_compressed = any(head.codec is not Codec.NONE for head in heads)
                decompressed = MAX_BODY_BYTES if is_compressed and not stays_whole else 0
                wanted_bytes = READ_COPIES * max(len(batches), decompressed)
                held = self._budget.resize(reservation, wanted_bytes)
                if held:
                    wanted_bytes = 0
                    # Less came than was asked for: there is probably no more.
                    at_end = len(batches) < chunk_bytes and not stop_at_end
                    chunk = _Chunk(messages(batches, heads, offset, chunk_bytes))
                tail = None
                # This frame would hold them for as long as the client reads nothing.
                del batches, heads
                if not held:
                    continue
                before = offset
                offset = await _write_all(chunk, reservation, call, offset)
                if at_end and not chunk.dropped:
                    tail = offset
                empty_reads = empty_reads + 1 if offset == before else 0
                if empty_reads > _MAX_EMPTY_READS:
                    raise unavailable("READ_STALLED", f"the log holds no readable record at offset {offset}; try again")
        finally:
            self._open.release(call.client, 0)
            self._budget.release(reservation)

    async def _confirm(self, read: pb.Read.ValueType, seen_end: int, call: ServerCall[Any]) -> None:
        """Wait until what is read from now on is as recent as was asked for. Raises ServiceError."""
        remaining_s = call.context.time_remaining()
        if read == pb.READ_COMMITTED:
            if not self._reader.has_seen(seen_end):
                timeout_s = SEEN_WITHIN_S if remaining_s is None else min(SEEN_WITHIN_S, _SEEN_PART * remaining_s)
                await self._reader.confirm(ReadLevel.COMMITTED, seen_end, timeout_s)
            return
        if read != pb.READ_LATEST:
            raise invalid("read", "is none of the levels there are", f"{read} is no level of this version's reads")
        timeout_s = CONFIRMS_WITHIN_S
        if remaining_s is not None:
            # So that the client is told what was missing, and not only that its time is up.
            timeout_s = max(0.0, min(timeout_s, _CONFIRM_PART * remaining_s - EXPIRY_CHECK_S))
        await self._reader.confirm(ReadLevel.LATEST, seen_end, timeout_s)

    def _fair_chunk_bytes(self) -> int:
        """How much a stream reads at a time: a part of what is free, within bounds."""
        part = self._budget.free_bytes() // (READ_COPIES * min(MAX_STREAMS_SHARING, max(1, self.open_count)))
        return max(MIN_CHUNK_BYTES, min(CHUNK_BYTES, part))


async def _write_all(chunk: _Chunk, reservation: ReadReservation, call: ServerCall[Any], offset: int) -> int:
    """Write the messages of a chunk until it is dropped; the offset after what was written."""
    for message, next_offset in chunk:
        reservation.in_flight_bytes = IN_FLIGHT_COPIES * len(message)
        await call.write(message)
        offset = next_offset
        reservation.progress += 1
    return offset


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
