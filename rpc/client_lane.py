"""A lane: what is produced with one kind of acknowledgement, gathered into batches and sent in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client_batches import Batch, OpenBatches, Placed
from ourolog.rpc.client_calls import ClientCalls
from ourolog.rpc.client_compression import Compression
from ourolog.rpc.client_errors import LogError, late_answer, not_understood
from ourolog.rpc.client_lane_calls import BatchCalls
from ourolog.rpc.client_liveness import PRODUCE_SILENT_AFTER_S
from ourolog.rpc.client_nodes import NodeConnection
from ourolog.rpc.client_producers import Producer, ProducerIds
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb

WINDOW: Final = 4
"""How many batches may be on their way together, all but the first of them full."""

STREAM_IDLE_S: Final = 1.0
"""After how long without a produce a stream is ended: a node has room for 192 of them."""

_STREAM_AGAIN_AFTER_S: Final = 5.0


class Lane:
    """Sends one batch after another; each batch has what came while those before it were on their way.

    The first goes by a call of its own. Once that has worked the next ones go by a stream, which costs less. When
    anything goes wrong with the stream, all that it has not answered goes by calls again, one by one, under the
    numbers that it had; calls alone decide what an error means (`ourolog.rpc.client_lane_calls`).
    """

    def __init__(
        self,
        acks: Acks,
        compression: Compression,
        calls: ClientCalls,
        ids: ProducerIds,
        open_batches: OpenBatches,
        on_stored: Callable[[int], None],
    ) -> None:
        """Begin with nothing to send.

        compression: how what is gathered is compressed.
        open_batches: where its batches are counted.
        on_stored: called with the offset after each batch that is stored.
        """
        self._acks = acks
        self._compression = compression
        self._calls = calls
        self._ids = ids
        self._open = open_batches
        self._on_stored = on_stored
        self._producer = Producer()
        self._batch_calls = BatchCalls(calls, ids, open_batches, on_stored)
        self._queue: deque[Batch] = deque()
        self._in_flight: deque[Batch] = deque()
        self._stream: _Stream | None = None
        self._may_stream = False
        self._stream_again_at_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # ------------------------------------------------------------ what is to be sent

    def add(self, answer: asyncio.Future[Placed], value: bytes, give_up_at_s: float) -> None:
        """A caller wants to have this record appended."""
        queue = self._queue
        if not queue or not (batch := queue[-1]).has_room(1, len(value)):
            batch = self._begin(self._compression)
        batch.add(answer, value, give_up_at_s)
        if batch.is_closed or len(batch.answers) == 1:
            self._look()

    def add_many(
        self,
        answer: asyncio.Future[Placed],
        values: Sequence[bytes],
        size_bytes: int,
        give_up_at_s: float,
        compression: Compression,
        *,
        is_alone: bool,
    ) -> None:
        """A caller wants to have these records appended, together; with no others, if that is said."""
        if is_alone or not self._queue or not (batch := self._queue[-1]).has_room(len(values), size_bytes):
            batch = self._begin(compression)
        batch.add_many(answer, values, size_bytes, give_up_at_s)
        batch.is_closed = batch.is_closed or is_alone
        self._look()

    def add_encoded(
        self,
        answer: asyncio.Future[Placed],
        payload: bytes,
        record_count: int,
        give_up_at_s: float,
        compression: Compression,
    ) -> None:
        """A caller wants to have these records appended, which it has encoded: alone."""
        self._begin(compression).add_encoded(answer, payload, record_count, give_up_at_s)
        self._look()

    def _begin(self, compression: Compression) -> Batch:
        batch = self._open.begin(self._acks, compression)
        self._queue.append(batch)
        return batch

    def _look(self) -> None:
        """There is something to send, or fewer are on their way."""
        if self._task is None:
            if self._queue:
                self._task = asyncio.create_task(self._run())
                self._task.add_done_callback(self._ended)
        elif self._stream is not None and self._stream.news is not None and self._is_ready():
            self._stream.wake()

    def _is_ready(self) -> bool:
        """Whether something is to be sent now."""
        return bool(self._queue) and (not self._in_flight or len(self._queue) > 1 or self._queue[0].is_closed)

    def _take(self) -> Batch | None:
        """What goes next, without those whose callers have gone: nothing of it was sent."""
        while self._queue:
            batch = self._queue.popleft()
            waiting = batch.without_gone()
            if waiting is not batch:
                self._open.replace(batch, [waiting])
            if waiting.answers:
                return waiting
            self._open.end(waiting)
        return None

    # ------------------------------------------------------------ sending

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            self._look()
            if (error := task.exception()) is not None:
                raise error  # a bug: the loop's exception handler tells of it

    async def _run(self) -> None:
        while self._queue:
            if self._producer.is_spent:
                self._producer = Producer()
            if self._may_go_by_stream():
                await self._send_by_stream()
            elif (batch := self._take()) is not None:
                await self._send([batch])
                # Those who have just been answered may have more, and that goes together.
                await asyncio.sleep(0)

    def _may_go_by_stream(self) -> bool:
        return (
            self._may_stream
            and self._producer.producer_id != 0
            and not self._producer.is_spent
            and asyncio.get_running_loop().time() >= self._stream_again_at_s
        )

    async def _send(self, batches: Sequence[Batch], failure: LogError | None = None) -> None:
        """Send these by calls, one after another, before all that waits. `failure`: what the first has failed with."""
        rest = deque(batches)
        while rest:
            batch = rest.popleft()
            was_unknown = batch.is_unknown
            until_s = max((other.last_give_up_at_s for other in rest), default=0.0)
            left_over = await self._batch_calls.send(batch, self._producer, until_s, failure)
            failure = None
            if was_unknown and not batch.is_unknown:
                # It was refused when the stream brought it, and so nothing behind it was stored.
                for other in rest:
                    other.is_unknown = False
            self._may_stream = self._producer.producer_id != 0
            if self._producer.is_lost:
                self._producer = Producer()
                for other in rest:
                    if other.is_unknown:
                        # Under another id it could be stored twice.
                        other.fail(_unknown(other))
                        self._open.end(other)
                    else:
                        left_over.append(other)
                self._queue.extendleft(reversed(left_over))
                return

    # ------------------------------------------------------------ by a stream

    async def _send_by_stream(self) -> None:
        """Send what there is, and what comes, until nothing comes for a while or something goes wrong."""
        stream = self._stream = _Stream()
        addr = self._calls.produce_addr
        has_worked = False
        failure: LogError | None = None

        async def check(connection: NodeConnection) -> tuple[LogError | None, float]:
            if not self._in_flight:
                return None, PRODUCE_SILENT_AFTER_S
            left_s = self._in_flight[0].last_give_up_at_s - asyncio.get_running_loop().time()
            if left_s <= 0.0:
                # A node that knows of `timeout_ms` has answered by then, if it answers at all.
                return late_answer(addr), 0.0
            failure, after_s = await self._calls.liveness.produce_failure(connection)
            return failure, min(after_s, left_s)

        responses = self._calls.responses(
            addr, lambda stub: stub.ProduceBatchStream(self._messages(stream)), check, PRODUCE_SILENT_AFTER_S
        )
        idle = asyncio.create_task(self._end_idle(stream))
        try:
            async with aclosing(responses):
                async for response in responses:
                    if not self._in_flight:
                        raise not_understood(addr)
                    has_worked = True
                    batch = self._in_flight.popleft()
                    self._calls.nodes.acknowledged(addr)
                    batch.acknowledge(response.base_offset, tuple(response.replicas))
                    self._on_stored(response.base_offset + batch.record_count)
                    self._open.end(batch)
                    self._look()
                    if stream.is_for_large and not self._in_flight:
                        stream.wake()
        except LogError as error:
            failure = error
        finally:
            self._stream = None
            idle.cancel()
            stream.wake()
        if failure is None and self._in_flight:
            failure = LogError(f"{addr} ended the stream before it had answered", "INTERNAL", outcome_unknown=True)
        if failure is not None:
            if not has_worked:
                self._stream_again_at_s = asyncio.get_running_loop().time() + _STREAM_AGAIN_AFTER_S
            failure.addr = addr
            await self._go_on_without(failure)

    async def _go_on_without(self, failure: LogError) -> None:
        """The stream has ended so: send by calls what it has not answered."""
        self._may_stream = False
        batches = list(self._in_flight)
        self._in_flight.clear()
        if not batches:
            self._calls.route(failure, failure.addr)
            return
        self._producer.sequence = batches[0].sequence
        may_be_stored = 0
        if failure.is_of_content and not failure.reason:
            # One is too large, and the connection has ended with all of them. Whichever it was, the largest is too
            # large as well, and so neither that one was appended nor any behind it.
            sizes = [batch.sent_bytes for batch in batches]
            may_be_stored = sizes.index(max(sizes))
        for at, batch in enumerate(batches):
            batch.is_unknown = failure.outcome_unknown or at < may_be_stored
            batch.unknown_at = failure.addr if failure.end_is_hidden else ""
            batch.said = str(failure)
        # What is refused for what is in it is told to its caller in the words of a call, and so is what gRPC hides.
        await self._send(batches, None if failure.is_of_content or failure.end_is_hidden else failure)

    async def _messages(self, stream: _Stream) -> AsyncIterator[pb.ProduceBatchRequest]:
        # gRPC may ask for one more message of a call that has ended.
        while self._stream is stream:
            if self._is_ready() and len(self._in_flight) < WINDOW:
                if not self._may_go_by_stream():
                    return
                if (batch := self._take()) is not None:
                    batch.sequence = self._producer.sequence
                    self._producer.sequence += 1
                    self._in_flight.append(batch)
                    stream.was_used = True
                    stream.is_for_large = stream.is_for_large or batch.is_large
                    left_s = min(batch.give_up_at_s) - asyncio.get_running_loop().time()
                    yield batch.message(self._producer.producer_id, left_s)
            elif stream.is_idle or (stream.is_for_large and not self._queue and not self._in_flight):
                return
            else:
                await stream.wait()

    async def _end_idle(self, stream: _Stream) -> None:
        """End the stream once nothing has been sent on it for a while."""
        while stream.was_used or self._in_flight:
            stream.was_used = False
            await asyncio.sleep(STREAM_IDLE_S)
        stream.is_idle = True
        stream.wake()


class _Stream:
    """An open stream.

    was_used: whether something was sent on it lately.
    is_idle: whether it is to be ended, since nothing was.
    is_for_large: whether a message was larger than what is gathered. The node keeps a place for the next one then, so
        it is ended as soon as nothing is on its way.
    news: what it waits for while there is nothing to send.
    """

    def __init__(self) -> None:
        self.was_used = True
        self.is_idle = False
        self.is_for_large = False
        self.news: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for `wake`."""
        self.news = asyncio.get_running_loop().create_future()
        try:
            await self.news
        finally:
            self.news = None

    def wake(self) -> None:
        """There is something to send, or the stream is over."""
        if self.news is not None and not self.news.done():
            self.news.set_result(None)


def _unknown(batch: Batch) -> LogError:
    message = f"a batch before it was given up: {batch.said.rstrip('.')}"
    if OUTCOME_UNKNOWN not in message:
        message = f"{message}. {OUTCOME_UNKNOWN}"
    return LogError(message, "UNAVAILABLE", outcome_unknown=True)
