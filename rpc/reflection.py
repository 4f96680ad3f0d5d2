"""The server reflection service of gRPC (grpc.reflection.v1alpha), which grpcurl and similar tools use.

grpcio answers; the calls are `server_calls`, so that bytes that are no message are refused with a
sentence and what arrives is bounded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection_pb2 as pb  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection import aio  # type: ignore[import-untyped]

from ourolog.rpc.server_calls import OpenCalls, ServerCall

REFLECTION_SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["ServerReflection"].full_name


class ReflectionService:
    """The reflection service of one node.

    calls: where its open calls are kept.
    names: the services that it lists.
    """

    def __init__(self, calls: OpenCalls, names: Iterable[str]) -> None:
        self._calls = calls
        self._answers = aio.ReflectionServicer((*names, REFLECTION_SERVICE))

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the one method, before the server is started."""
        handler = self._calls.stream(self._info, pb.ServerReflectionRequest, pb.ServerReflectionResponse)
        server.add_registered_method_handlers(REFLECTION_SERVICE, {"ServerReflectionInfo": handler})

    async def _info(self, call: ServerCall[Any]) -> None:
        async def requests() -> AsyncIterator[Any]:
            while (request := await call.receive()) is not None:
                yield request

        async for response in self._answers.ServerReflectionInfo(requests(), call.context):
            await call.write(response)
