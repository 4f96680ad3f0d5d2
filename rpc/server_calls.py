"""gRPC calls to this node's services, each from its arrival to its end.

Every method is served as a client stream of raw bytes, unary ones too: on the wire that is the
same. So no message of a call is in memory before its turn (ourolog.rpc.arrival_limiter), bytes
that are no message are refused with a sentence, and one place decides how a call ends.

A call always ends with a status of this module's, whatever happens to the node. When the node
stops or fails while a call is open, the status says so, and whether something may have been appended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from ourolog.rpc.admission import FairLimit
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.errors import ServiceError, overloaded, unavailable, undecodable

MAX_OPEN_CALLS: Final = 4096

_LOG: Final = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class ServerCall(Generic[Req]):
    """One open call.

    context: gRPC's context of it.
    client: the connection it came by, as gRPC names it.
    unsettled: how many of its produces were given to the actors and have neither been refused for
        certain nor acknowledged to the client.
    """

    def __init__(self, context: Context, request_class: type[Req], arrivals: ArrivalLimiter) -> None:
        self.context = context
        self.client: str = context.peer()
        self.unsettled = 0
        self._request_class = request_class
        self._arrivals = arrivals

    async def receive(self, *, small: bool = False) -> Req | None:
        """The next message; None when the client has ended its half. Raises ServiceError.

        small: no large message is expected, so waiting for it takes none of the places for arriving messages.
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

    async def write(self, message: Message | bytes) -> None:
        """Send one message of a stream; returns when gRPC has room for the next.

        message: of the method's response class; its bytes, where the method has none.
        """
        await self.context.write(message)


Unary = Callable[[ServerCall[Req]], Awaitable[Res]]
Stream = Callable[[ServerCall[Req]], Awaitable[None]]


class OpenCalls:
    """The open calls of a service, or of some of its methods: makes their handlers, ends them when the node stops."""

    def __init__(
        self, arrivals: ArrivalLimiter, max_open: int = MAX_OPEN_CALLS, max_open_each: int | None = None
    ) -> None:
        """Prepare a service without open calls.

        max_open: how many calls may be open in all.
        max_open_each: how many of one client; None for no more than a fair share of all.
        """
        self._arrivals = arrivals
        self._limit = FairLimit(max_open, 0, max_open_each)
        self._open: dict[ServerCall[Any], asyncio.Task[Any]] = {}
        self._refusal: ServiceError | None = None
        self._ended: ServiceError | None = None
        self._may_refuse_late = asyncio.Event()
        self._may_refuse_late.set()
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
            response: Res = await self._serve(method, ServerCall(context, request_class, self._arrivals))
            return response

        return grpc.stream_unary_rpc_method_handler(handle, response_serializer=response_class.SerializeToString)

    def stream(
        self, method: Stream[Req], request_class: type[Req], response_class: type[Message] | None
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method that writes its answers itself.

        response_class: of the messages that it writes; None where it writes messages that it has encoded itself.
        """

        async def handle(_: Any, context: Context) -> None:
            await self._serve(method, ServerCall(context, request_class, self._arrivals))

        # Without a serializer gRPC takes bytes, and sends them as they are.
        serializer = None if response_class is None else response_class.SerializeToString
        return grpc.stream_stream_rpc_method_handler(handle, response_serializer=serializer)

    def refuse_new(self, error: ServiceError) -> None:
        """End every later call with `error`; open ones go on."""
        self._refusal = self._ended or error

    def end(self, error: ServiceError) -> None:
        """End every open call with `error`, and every later one. The first error given stays."""
        if self._ended is None:
            self._refusal = self._ended = error
        for task in list(self._open.values()):
            task.cancel()

    @property
    def late_count(self) -> int:
        """How many calls that came after the end wait for `refuse_late`."""
        return self._late

    def hold_late(self) -> None:
        """From here on, leave calls that come after the end unanswered until `refuse_late`.

        A client that calls again as soon as it is refused would always have a call on its way, and
        the port could never be closed without gRPC ending that call as CANCELLED. A client that
        waits for an answer sends nothing.
        """
        self._may_refuse_late.clear()

    def refuse_late(self) -> None:
        """Refuse all calls that were held, and every later one at once."""
        self._may_refuse_late.set()

    async def wait_idle(self) -> None:
        """Return once no call is open."""
        await self._idle.wait()

    async def wait_quiet(self, for_s: float) -> None:
        """Return once no call is open and none has come for `for_s` seconds."""
        seen = -1
        while seen != self._seen:
            seen = self._seen
            await self._idle.wait()
            await asyncio.sleep(for_s)

    async def _serve(self, method: Callable[[ServerCall[Req]], Awaitable[Any]], call: ServerCall[Req]) -> Any:
        self._seen += 1
        if self._refusal is not None:
            if self._late < self._max_open:
                self._late += 1
                try:
                    await self._may_refuse_late.wait()
                finally:
                    self._late -= 1
            await self._refusal.abort(call.context)
        if not self._limit.has_room(call.client, 0):
            full = f"this node has {len(self._open)} calls open, as many as it serves. Nothing was done; retry shortly"
            await overloaded(full).abort(call.context)
        task = asyncio.current_task()
        assert task is not None, "gRPC runs handlers as tasks"
        self._limit.take(call.client, 0)
        self._open[call] = task
        self._idle.clear()
        try:
            return await self._answer(method, call)
        finally:
            del self._open[call]
            self._limit.release(call.client, 0)
            if not self._open:
                self._idle.set()

    async def _answer(self, method: Callable[[ServerCall[Req]], Awaitable[Any]], call: ServerCall[Req]) -> Any:
        try:
            return await method(call)
        except ServiceError as error:
            # Not the error itself: its traceback holds the frames it passed, and those hold what the client sent.
            failure = error.copy()
        except asyncio.CancelledError:
            # The client is gone, or `end` was called, or whoever runs this loop ends it.
            failure = self._ended or unavailable("STOPPING", "this node is stopping; try another one")
        except grpc.aio.BaseError:
            raise asyncio.CancelledError from None  # the connection broke: nobody is there to be answered
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
