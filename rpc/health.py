"""The standard health service of gRPC (grpc.health.v1), for one node.

The one of grpcio-health-checking is not used: it writes to a watcher while it holds the lock that a
change of status needs, so one watcher that does not read would keep the node from reporting anything,
and from stopping.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]

from ourolog.rpc.errors import ServiceError
from ourolog.rpc.server_calls import OpenCalls, ServerCall

HEALTH_SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Health"].full_name
SERVING: Final[int] = pb.HealthCheckResponse.SERVING
NOT_SERVING: Final[int] = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final[int] = pb.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """The health service of one node: NOT_SERVING at first, and the same status under all names.

    calls: where its open calls are kept.
    names: the services that may be asked about; "" is the node itself.
    """

    def __init__(self, calls: OpenCalls, *names: str) -> None:
        self._calls = calls
        self._names = frozenset(names)
        self._status = NOT_SERVING
        self._changed = asyncio.Event()
        self._final = False

    def set_serving(self, serving: bool) -> None:
        """Change the status; nothing happens after `end`."""
        status = SERVING if serving else NOT_SERVING
        if self._final or status == self._status:
            return
        self._status = status
        self._notify_watchers()

    def end(self) -> None:
        """NOT_SERVING from now on, whatever is set. Watchers are sent that, and then their streams end."""
        self._status = NOT_SERVING
        self._final = True
        self._notify_watchers()

    def _notify_watchers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register both methods, before the server is started."""
        handlers = {
            "Check": self._calls.unary(self._check, pb.HealthCheckRequest, pb.HealthCheckResponse),
            "Watch": self._calls.stream(self._watch, pb.HealthCheckRequest, pb.HealthCheckResponse),
        }
        server.add_registered_method_handlers(HEALTH_SERVICE, handlers)

    async def _check(self, call: ServerCall[Any]) -> Any:
        request = await call.request()
        if request.service not in self._names:
            what = f"this node has no service {request.service!r}"
            raise ServiceError(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SERVICE", what)
        return pb.HealthCheckResponse(status=self._status)

    async def _watch(self, call: ServerCall[Any]) -> None:
        request = await call.request()
        sent_status = None
        while True:
            # A change while this is being written sets this very event.
            changed, is_last = self._changed, self._final
            status = self._status if request.service in self._names else _SERVICE_UNKNOWN
            if status != sent_status:
                await call.write(pb.HealthCheckResponse(status=status))
                sent_status = status
            if is_last:
                return
            await changed.wait()
