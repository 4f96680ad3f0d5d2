"""The produce calls of the Log service: admitted by the limiter, passed to the Server actor, and awaited.

`ServerCall.unsettled` alone decides what the end of a produce means. From the moment the Server
actor is told of it until it is refused for certain or its client has the offset, its outcome is
unknown (see docs/api.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, assert_never

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import CancelRequest, Produce, Produced, Refusal, RequestRefused, ServerMessage
from ourolog.actors.messages.values import Acks
from ourolog.rpc.admission import FairLimit, ProduceLimiter
from ourolog.rpc.errors import ServiceError, from_refusal, invalid, overloaded, unavailable
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.server_calls import ServerCall
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import NewBatch

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 300.0
STREAM_REQUESTS: Final = 1024
MAX_PRODUCE_STREAMS: Final = 192
# A stream whose messages have been no larger than this is read without taking a place for arriving messages.
SMALL_BYTES: Final = 1024 * 1024
# How long a stream's message that has arrived waits for room before it is refused as a single call's is.
ROOM_WITHIN_S: Final = 1.0
# A client is answered somewhat before its own deadline, so that it learns what became of its record: by the Server
# actor, which can say what is missing, and if that is busy, by this handler when half of that margin is over.
_MARGIN_FRACTION: Final = 0.1
_MAX_MARGIN_S: Final = 0.5
# An abandoned produce may still be on its way to the disk, and no answer tells when it has got
# there; its bytes are counted for this much longer.
ABANDONED_COUNTS_S: Final = 1.0

Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)
Res = TypeVar("Res", pb.ProduceResponse, pb.ProduceBatchResponse)


@dataclass(frozen=True, slots=True)
class CheckedProduce:
    """A produce whose request was found valid.

    batch: what to append.
    acks: what the client wants to have happened before it is answered.
    timeout_s: how long it may take by its own word; None for as long as its call.
    """

    batch: NewBatch
    acks: Acks
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class _PendingProduce:
    """A produce that the Server actor has been told of."""

    request_id: int
    answer: asyncio.Future[Produced | RequestRefused]
    record_count: int


_PendingQueue = asyncio.Queue[_PendingProduce | Exception | None]


class ProduceHandler:
    """Carries out the produces of all clients of one node. Lives on one asyncio loop."""

    def __init__(
        self,
        requests: PendingRequests,
        server: Mailbox[ServerMessage],
        limiter: ProduceLimiter,
        max_streams: int = MAX_PRODUCE_STREAMS,
        abandoned_counts_s: float = ABANDONED_COUNTS_S,
    ) -> None:
        self._requests = requests
        self._server = server
        self._limiter = limiter
        self._streams = FairLimit(max_streams, 0)
        self._readers: set[asyncio.Task[None]] = set()
        self._drained = False
        self._abandoned_counts_s = abandoned_counts_s

    @property
    def open_streams(self) -> int:
        """How many produce streams are open."""
        return self._streams.count

    async def produce(self, checked: CheckedProduce, call: ServerCall[Any]) -> tuple[Produced, int]:
        """Carry out a single produce; the answer and the number of records. Raises ServiceError."""
        self._limiter.admit_or_refuse(call.client, len(checked.batch.payload))
        sent = self._send(checked, call)
        del checked  # only the actor holds it from here on, until it is written
        try:
            return _produced(await sent.answer), sent.record_count
        except asyncio.CancelledError:
            self._cancel(sent)
            raise

    async def pipeline(
        self, call: ServerCall[Req], check: Callable[[Req], CheckedProduce], respond: Callable[[Produced, int], Res]
    ) -> None:
        """Answer a stream of produces in order, reading ahead as far as the limiter allows.

        check: turns a request into a produce, or raises ServiceError.
        respond: makes the response of an acknowledged produce, given its number of records.

        The first that is refused ends the stream with its status, after those before it were
        answered. The outcome of a stream is unknown when any of those that were not answered
        may have been appended. Raises ServiceError.
        """
        if self._drained:
            raise _stopping()
        if not self._streams.has_room(call.client, 0):
            open_streams = self._streams.count
            raise overloaded(f"{open_streams} produce streams are open on this node, as many as it serves", 1.0)
        self._streams.take(call.client, 0)
        sent: _PendingQueue = asyncio.Queue()
        slots = asyncio.Semaphore(STREAM_REQUESTS)
        reader = asyncio.create_task(self._read(call, check, sent, slots))
        self._readers.add(reader)
        current: _PendingProduce | Exception | None = None
        try:
            while (current := await sent.get()) is not None:
                if isinstance(current, Exception):
                    raise current
                produced = _produced(await current.answer)
                await call.write(respond(produced, current.record_count))
                call.unsettled -= 1
                slots.release()
        finally:
            self._streams.release(call.client, 0)
            self._readers.discard(reader)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            while True:
                if isinstance(current, _PendingProduce):
                    self._cancel(current)
                if sent.empty():
                    break
                current = sent.get_nowait()
            del current  # an error holds this frame by its traceback, which would hold the error

    def drain(self) -> None:
        """Read nothing more from any stream: each ends once what it has sent is answered."""
        self._drained = True
        for reader in list(self._readers):
            reader.cancel()

    async def _read(
        self,
        call: ServerCall[Req],
        check: Callable[[Req], CheckedProduce],
        sent: _PendingQueue,
        slots: asyncio.Semaphore,
    ) -> None:
        largest = 0
        first = True
        try:
            while True:
                await slots.acquire()
                await self._limiter.wait_for_room(call.client, largest)
                # How large the messages of a stream are is not known before its first.
                request = await call.receive(small=not first and largest <= SMALL_BYTES)
                if request is None:
                    sent.put_nowait(None)
                    return
                checked = check(request)
                del request
                first = False
                size = len(checked.batch.payload)
                largest = max(largest, size)
                await self._limiter.admit(call.client, size, ROOM_WITHIN_S)
                produce = self._send(checked, call)
                del checked
                sent.put_nowait(produce)
        except asyncio.CancelledError:
            sent.put_nowait(_stopping())  # if anybody is still to hear it, then because of `drain`
            raise
        except Exception as error:  # raised again by whoever takes it from the queue
            sent.put_nowait(error)

    def _send(self, checked: CheckedProduce, call: ServerCall[Any]) -> _PendingProduce:
        """Tell the Server actor. The room is released once it has answered."""
        client, size = call.client, len(checked.batch.payload)
        try:
            request_id, answer = self._requests.open()
        except BaseException:
            self._limiter.release(client, size)
            raise
        remaining_s = call.context.time_remaining()
        if checked.timeout_s is not None:
            remaining_s = min(checked.timeout_s, remaining_s) if remaining_s is not None else checked.timeout_s
        timeout_s = answered_within_s(remaining_s)
        if remaining_s is not None:
            margin_s = _margin_s(remaining_s)
            loop = asyncio.get_running_loop()
            timer = loop.call_later(timeout_s + margin_s / 2, self._expire, request_id, answer, checked.acks, timeout_s)
            answer.add_done_callback(lambda _: timer.cancel())
        call.unsettled += 1
        answer.add_done_callback(lambda future: self._answered(future, call, size))
        self._server.tell(Produce(request_id, checked.batch, checked.acks, timeout_s, self._requests))
        return _PendingProduce(request_id, answer, checked.batch.record_count)

    def _answered(self, answer: asyncio.Future[Any], call: ServerCall[Any], size: int) -> None:
        written = not answer.cancelled() and answer.exception() is None
        if written and isinstance(refused := answer.result(), RequestRefused):
            written = not refused.outcome_unknown
            # One that was appended stays unsettled until its client was told: the node may fail in between.
            call.unsettled -= written
        if written:
            self._limiter.release(call.client, size)
        else:
            asyncio.get_running_loop().call_later(self._abandoned_counts_s, self._limiter.release, call.client, size)

    def _cancel(self, sent: _PendingProduce) -> None:
        """Cancel a produce whose answer nobody waits for any more."""
        sent.answer.cancel()
        if self._requests.forget(sent.request_id):
            self._server.tell(CancelRequest(sent.request_id, self._requests))

    def _expire(self, request_id: int, answer: asyncio.Future[Any], acks: Acks, timeout_s: float) -> None:
        if answer.done() or not self._requests.forget(request_id):
            return
        self._server.tell(CancelRequest(request_id, self._requests))
        by = "as this node's --acks wants" if acks is Acks.DEFAULT else f"by {acks.name.lower()}"
        detail = f"the record was not acknowledged {by} within the deadline of {timeout_s:.3g} s"
        answer.set_result(RequestRefused(request_id, Refusal.TIMED_OUT, detail, outcome_unknown=True))


def answered_within_s(remaining_s: float | None) -> float:
    """How long a call that a client waits for so long may take, in seconds; None is a call without a deadline."""
    if remaining_s is None:
        return DEFAULT_TIMEOUT_S
    return max(0.0, min(remaining_s - _margin_s(remaining_s), MAX_TIMEOUT_S))


def _margin_s(remaining_s: float) -> float:
    return min(remaining_s * _MARGIN_FRACTION, _MAX_MARGIN_S)


def checked_acks(wanted: int) -> Acks:
    """The acks that a request asks for. Raises ServiceError for a number that means nothing."""
    try:
        return Acks(wanted)
    except ValueError as error:
        raise invalid(
            "acks", "is unknown", f"acks {wanted} is unknown to this node; use leader (1), quorum (2) or all (3)"
        ) from error


def _stopping() -> ServiceError:
    return unavailable("STOPPING", "this node is stopping; produce to another one")


def _produced(answer: Produced | RequestRefused) -> Produced:
    match answer:
        case Produced():
            return answer
        case RequestRefused():
            raise from_refusal(answer)
        case _:
            assert_never(answer)
