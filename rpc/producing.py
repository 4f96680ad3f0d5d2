"""Produces: admitted at the door, handed to the Server actor, and awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, assert_never

import grpc

from actors.messages import (
    Acks,
    CancelRequest,
    Produce,
    Produced,
    Refusal,
    RequestRefused,
    ServerMessage,
)
from rpc.admission import Door
from rpc.errors import from_refusal, invalid
from rpc.mailbox import Outbox, Requests
from rpc.v1 import log_pb2 as pb
from storage.batch import NewBatch

DEFAULT_TIMEOUT_S: Final = 30.0
MAX_TIMEOUT_S: Final = 300.0
STREAM_REQUESTS: Final = 1024
STREAM_BYTES: Final = 16 * 1024 * 1024
# A client is answered somewhat before its own deadline, so that it hears what became of its record.
_MARGIN_PART: Final = 0.1
_MAX_MARGIN_S: Final = 0.5
# A produce that was given up may still be on its way to the disk, and no answer tells when it has
# got there; its bytes are counted for that much longer.
GIVEN_UP_COUNTS_S: Final = 1.0

Context = grpc.aio.ServicerContext[Any, Any]
Req = TypeVar("Req", pb.ProduceRequest, pb.ProduceBatchRequest)
Res = TypeVar("Res", pb.ProduceResponse, pb.ProduceBatchResponse)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A produce that the Server actor has been told."""

    request_id: int
    answer: asyncio.Future[Produced | RequestRefused]
    record_count: int


class Producer:
    """The produces of one node, of all clients. Lives on one asyncio loop."""

    def __init__(
        self,
        requests: Requests,
        server: Outbox[ServerMessage],
        door: Door,
        given_up_counts_s: float = GIVEN_UP_COUNTS_S,
    ) -> None:
        self._requests = requests
        self._server = server
        self._door = door
        self._given_up_counts_s = given_up_counts_s

    async def produce(self, batch: NewBatch, acks: int, context: Context) -> Produced:
        """One call's produce, refused at once when the door is shut. Raises ServiceError."""
        wanted = _acks(acks)
        self._door.enter_or_refuse(len(batch.payload))
        sent = self._send(batch, wanted, context.time_remaining())
        try:
            return _produced(await sent.answer)
        except asyncio.CancelledError:
            self._cancel(sent)
            raise

    async def pipeline(
        self,
        requests: AsyncIterator[Req],
        check: Callable[[Req], NewBatch],
        respond: Callable[[Produced, int], Res],
        context: Context,
    ) -> None:
        """Answer a stream of produces in order, reading ahead as far as the door allows.

        The first that is refused ends the stream with its status, after those before it were
        answered; what was sent after it has an unknown outcome. Raises ServiceError.
        """
        window = Door(STREAM_REQUESTS, STREAM_BYTES)
        sent: asyncio.Queue[_Sent | Exception | None] = asyncio.Queue(STREAM_REQUESTS)
        reader = asyncio.create_task(self._read(requests, check, window, sent, context))
        current: _Sent | Exception | None = None
        try:
            while (current := await sent.get()) is not None:
                if isinstance(current, Exception):
                    raise current
                produced = _produced(await current.answer)
                await context.write(respond(produced, current.record_count))
            await reader
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            while True:
                if isinstance(current, _Sent):
                    self._cancel(current)
                if sent.empty():
                    break
                current = sent.get_nowait()

    async def _read(
        self,
        requests: AsyncIterator[Req],
        check: Callable[[Req], NewBatch],
        window: Door,
        sent: asyncio.Queue[_Sent | Exception | None],
        context: Context,
    ) -> None:
        try:
            async for request in requests:
                batch = check(request)
                acks = _acks(request.acks)
                size = len(batch.payload)
                await window.enter(size)
                await self._door.enter(size)
                produce = self._send(batch, acks, context.time_remaining())
                produce.answer.add_done_callback(functools.partial(_leave, window, size))
                await sent.put(produce)
            await sent.put(None)
        except Exception as error:  # raised again by whoever takes it from the queue
            await sent.put(error)

    def _send(self, batch: NewBatch, acks: Acks, remaining_s: float | None) -> _Sent:
        """Tell the Server actor. The door is left when the answer is there."""
        size = len(batch.payload)
        try:
            request_id, answer = self._requests.open()
        except BaseException:
            self._door.leave(size)
            raise
        timeout_s = DEFAULT_TIMEOUT_S
        if remaining_s is not None:
            margin_s = min(remaining_s * _MARGIN_PART, _MAX_MARGIN_S)
            timeout_s = max(0.0, min(remaining_s - margin_s, MAX_TIMEOUT_S))
            # The Server looks for expired produces four times a second; a deadline is kept here to the millisecond.
            loop = asyncio.get_running_loop()
            timer = loop.call_later(timeout_s, self._expire, request_id, answer, acks, timeout_s)
            answer.add_done_callback(lambda _: timer.cancel())
        answer.add_done_callback(lambda future: self._answered(future, size))
        self._server.tell(Produce(request_id, batch, acks, timeout_s, self._requests))
        return _Sent(request_id, answer, batch.record_count)

    def _answered(self, answer: asyncio.Future[Any], size: int) -> None:
        given_up = answer.cancelled() or (
            answer.exception() is None
            and isinstance(answer.result(), RequestRefused)
            and answer.result().outcome_unknown
        )
        if given_up:
            asyncio.get_running_loop().call_later(self._given_up_counts_s, self._door.leave, size)
        else:
            self._door.leave(size)

    def _cancel(self, sent: _Sent) -> None:
        """The client is gone."""
        sent.answer.cancel()
        if self._requests.forget(sent.request_id):
            self._server.tell(CancelRequest(sent.request_id, self._requests))

    def _expire(self, request_id: int, answer: asyncio.Future[Any], acks: Acks, timeout_s: float) -> None:
        if answer.done() or not self._requests.forget(request_id):
            return
        self._server.tell(CancelRequest(request_id, self._requests))
        by = "as this node's --acks wants" if acks is Acks.DEFAULT else f"by {acks.name.lower()}"
        answer.set_result(
            RequestRefused(
                request_id,
                Refusal.TIMED_OUT,
                f"the record was not acknowledged {by} within the deadline of {timeout_s:.3g} s",
                outcome_unknown=True,
            )
        )


def _leave(window: Door, size: int, _: asyncio.Future[Any]) -> None:
    window.leave(size)


def _acks(wanted: int) -> Acks:
    try:
        return Acks(wanted)
    except ValueError as error:
        raise invalid(
            "acks", "is unknown", f"acks {wanted} is unknown to this node; use leader (1), quorum (2) or all (3)"
        ) from error


def _produced(answer: Produced | RequestRefused) -> Produced:
    match answer:
        case Produced():
            return answer
        case RequestRefused():
            raise from_refusal(answer)
        case _:
            assert_never(answer)
