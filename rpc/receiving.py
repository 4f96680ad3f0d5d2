"""The gate before the door: how many produces may be arriving at once.

gRPC reads the message of a unary call before it calls the handler, so a burst of large records
would all be in memory before the door counted the first. On the wire a unary call is a client
stream of one message. Served as that, a produce gets its handler first, which asks for the
message when it is its turn; until then HTTP/2 flow control keeps it with the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from rpc.errors import ServiceError

ARRIVING_AT_ONCE: Final = 32
# Long enough for the largest message over a slow line; whoever sends nothing holds a place for so long.
ARRIVE_WITHIN_S: Final = 30.0

Context = grpc.aio.ServicerContext[Any, Any]
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class Gate:
    """First come, first served. Lives on one asyncio loop."""

    def __init__(self, arriving_at_once: int = ARRIVING_AT_ONCE, arrive_within_s: float = ARRIVE_WITHIN_S) -> None:
        self._places = asyncio.Semaphore(arriving_at_once)
        self._arrive_within_s = arrive_within_s

    def handler(
        self, method: Callable[[Req, Context], Awaitable[Res]], request_class: type[Req], response_class: type[Res]
    ) -> grpc.RpcMethodHandler[Req, Res]:
        """A unary method behind this gate, for the server's registration."""

        async def handle(_: Any, context: Context) -> Res:
            request = await self._receive(context, request_class)
            return await method(request, context)

        return grpc.stream_unary_rpc_method_handler(
            handle,
            request_deserializer=request_class.FromString,
            response_serializer=response_class.SerializeToString,
        )

    async def _receive(self, context: Context, request_class: type[Req]) -> Req:
        try:
            async with self._places, asyncio.timeout(self._arrive_within_s):
                received = await context.read()
        except TimeoutError:
            late = f"the request did not arrive within {self._arrive_within_s:g} s. Nothing was appended"
            await ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_SLOW", late).abort(context)
        # A client that ends its half without a message has sent what an empty one would mean.
        return received if isinstance(received, request_class) else request_class()
