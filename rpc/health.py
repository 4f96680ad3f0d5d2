"""The standard health service of gRPC (grpc.health.v1), for one node.

Not the one of grpcio-health-checking: that one writes to a watcher while it holds the lock that a
change of status needs, so one watcher that does not read would keep the node from saying anything,
and from stopping.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2 as pb  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from rpc.errors import overloaded

Context = grpc.aio.ServicerContext[Any, Any]
MAX_WATCHERS: Final = 1024

SERVING: Final[int] = pb.HealthCheckResponse.SERVING
NOT_SERVING: Final[int] = pb.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN: Final[int] = pb.HealthCheckResponse.SERVICE_UNKNOWN


class HealthService(pb_grpc.HealthServicer):  # type: ignore[misc]
    """NOT_SERVING at first. All names have one status: a node serves, or it does not.

    names: the services that are asked about; "" is the node itself.
    """

    def __init__(self, *names: str, max_watchers: int = MAX_WATCHERS) -> None:
        self._names = frozenset(names)
        self._max_watchers = max_watchers
        self._watchers = 0
        self._status = NOT_SERVING
        self._changed = asyncio.Event()
        self._final = False

    @property
    def is_serving(self) -> bool:
        return self._status == SERVING

    def set_serving(self, serving: bool) -> None:
        status = SERVING if serving else NOT_SERVING
        if self._final or status == self._status:
            return
        self._status = status
        self._tell_watchers()

    def end(self) -> None:
        """NOT_SERVING from now on, whatever is set. Watchers are told, and then their streams end."""
        self._status = NOT_SERVING
        self._final = True
        self._tell_watchers()

    def _tell_watchers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: Context) -> Any:  # noqa: N802
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"this node has no service {request.service!r}")
        return pb.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: Context) -> None:  # noqa: N802
        if self._watchers >= self._max_watchers:
            await overloaded(f"{self._watchers} watch this node's health already", 1.0).abort(context)
        self._watchers += 1
        told = None
        try:
            while True:
                # What changes while this is written sets that very event.
                changed, is_last = self._changed, self._final
                status = self._status if request.service in self._names else _SERVICE_UNKNOWN
                if status != told:
                    await context.write(pb.HealthCheckResponse(status=status))
                    told = status
                if is_last:
                    return
                await changed.wait()
        finally:
            self._watchers -= 1
