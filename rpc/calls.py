"""The calls of the Log service, each from its arrival to its end.

Every method is served as a client stream of raw bytes, also those that are unary: on the wire
that is the same. So nothing of a call is in memory before it is its turn (ourolog.rpc.arrival_limiter), bytes
that are no message are refused with a sentence, and one place decides how a call ends.

A call ends with a status of ours, whatever happens to the node: when the node stops or fails
while it is open, it ends with that, and whether it may have appended something is part of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ourolog.rpc.admission import Shares
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.errors import ServiceError, overloaded, unavailable, undecodable

MAX_OPEN_CALLS: Final = 4096
# What a call that waits for its turn may have in memory: HTTP/2's window, which a client fills unasked.
UNASKED_BYTES: Final = 64 * 1024

_LOG: Final = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class Call(Generic[Req]):
    """One open call.

    client: who asks, as gRPC names the connection. unsettled: how many of its produces were
    handed to the actors, and neither refused for certain nor acknowledged to the client.
    """

    def __init__(self, context: Context, request_class: type[Req], arrivals: ArrivalLimiter) -> None:
        self.context = context
        self.client: str = context.peer()
        self.unsettled = 0
        self._request_class = request_class
        self._arrivals = arrivals

    async def receive(self, *, small: bool = False) -> Req | None:
        """The next message; None when the client has ended its half. Raises ServiceError.

        small: no large message is expected, so that waiting for it need not take anybody's place.
        """
        read = self.context.read
        raw: Any = await (read() if small else self._arrivals.arrive(self.client, read))
        if raw is grpc.aio.EOF:
            return None
        try:
            return self._request_class.FromString(raw)
        except DecodeError:
            raise undecodable(self._request_class.DESCRIPTOR.full_name) from None

    async def request(self) -> Req:
        """The one message of a unary call. Raises ServiceError."""
        # A client that ends its half without a message has sent what an empty one would mean.
        return await self.receive() or self._request_class()

    async def write(self, message: Message) -> None:
        """Send one message of a stream; returns when gRPC has room for the next."""
        await self.context.write(message)


Unary = Callable[[Call[Req]], Awaitable[Res]]
Stream = Callable[[Call[Req]], Awaitable[None]]


class Calls:
    """All open calls of one service of a node, or of some of its methods."""

    def __init__(
        self, arrivals: ArrivalLimiter, max_open: int = MAX_OPEN_CALLS, max_open_each: int | None = None
    ) -> None:
        """max_open: in all. max_open_each: of one client; None for no more than a fair share of all."""
        self._arrivals = arrivals
        self._shares = Shares(max_open, 0, max_open_each)
        self._open: dict[Call[Any], asyncio.Task[Any]] = {}
        self._refusal: ServiceError | None = None
        self._ended: ServiceError | None = None
        self._released = asyncio.Event()
        self._released.set()
        self._late = 0
        self._max_open = max_open
        self._seen = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._open)

    def unary(
        self, method: Unary[Req, Res], request_class: type[Req], response_class: type[Res]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method that answers with one small message."""

        async def handle(_: Any, context: Context) -> Res:
            response: Res = await self._serve(method, Call(context, request_class, self._arrivals))
            return response

        return grpc.stream_unary_rpc_method_handler(handle, response_serializer=response_class.SerializeToString)

    def stream(
        self, method: Stream[Req], request_class: type[Req], response_class: type[Message]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method that writes its answers itself."""

        async def handle(_: Any, context: Context) -> None:
            await self._serve(method, Call(context, request_class, self._arrivals))

        return grpc.stream_stream_rpc_method_handler(handle, response_serializer=response_class.SerializeToString)

    def refuse(self, error: ServiceError) -> None:
        """Every later call ends with `error`; those that are open go on."""
        self._refusal = self._ended or error

    def end(self, error: ServiceError) -> None:
        """Every open call ends with `error`, and so does every later one. The first error given stays."""
        if self._ended is None:
            self._refusal = self._ended = error
        for task in list(self._open.values()):
            task.cancel()

    @property
    def late(self) -> int:
        """How many calls that came after the end wait for `release`."""
        return self._late

    def hold(self) -> None:
        """Calls that come from here on are not refused before `release`.

        A client that calls again as soon as it is refused would always have a call on its way, and
        the port can be closed for nobody then: gRPC ends what is on its way as CANCELLED. Whoever
        waits for an answer sends nothing.
        """
        self._released.clear()

    def release(self) -> None:
        """All that were held are refused now."""
        self._released.set()

    async def idle(self) -> None:
        """Returns once no call is open."""
        await self._idle.wait()

    async def quiet(self, for_s: float) -> None:
        """Returns once no call is open, and none has come for so long."""
        seen = -1
        while seen != self._seen:
            seen = self._seen
            await self._idle.wait()
            await asyncio.sleep(for_s)

    async def _serve(self, method: Callable[[Call[Req]], Awaitable[Any]], call: Call[Req]) -> Any:
        self._seen += 1
        if self._refusal is not None:
            if self._late < self._max_open:
                self._late += 1
                try:
                    await self._released.wait()
                finally:
                    self._late -= 1
            await self._refusal.abort(call.context)
        if not self._shares.has_room(call.client, 0):
            full = f"this node has {len(self._open)} calls open, as many as it serves. Nothing was done; retry shortly"
            await overloaded(full).abort(call.context)
        task = asyncio.current_task()
        assert task is not None, "gRPC runs handlers as tasks"
        self._shares.take(call.client, 0)
        self._open[call] = task
        self._idle.clear()
        try:
            return await self._answer(method, call)
        finally:
            del self._open[call]
            self._shares.give_back(call.client, 0)
            if not self._open:
                self._idle.set()

    async def _answer(self, method: Callable[[Call[Req]], Awaitable[Any]], call: Call[Req]) -> Any:
        try:
            return await method(call)
        except ServiceError as error:
            # Not the error itself: its traceback holds the frames it passed, and they what the client sent.
            failure = error.anew()
        except asyncio.CancelledError:
            # The client is gone, or `end` was called, or whoever runs this loop ends it.
            failure = self._ended or unavailable("STOPPING", "this node is stopping; try another one")
        except grpc.aio.BaseError:
            raise asyncio.CancelledError from None  # the connection broke: there is nobody to tell
        except Exception:
            _LOG.exception("a call failed in a way that was not foreseen; this is a bug")
            failure = ServiceError(
                grpc.StatusCode.INTERNAL, "BUG", "this node failed at answering, by a bug; its log has more"
            )
        try:
            await (failure.with_unknown_outcome() if call.unsettled else failure).abort(call.context)
        except grpc.aio.AbortError:
            raise
        except grpc.aio.BaseError:
            raise asyncio.CancelledError from None
