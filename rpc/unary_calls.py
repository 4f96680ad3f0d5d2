"""Unary calls of a gRPC server, each with one operation less than grpcio gives it.

grpcio asks its core four things for a unary call: for the call, for its message, to be told when its client is gone,
and to send the answer. Each of them wakes two threads, which costs more than most of what a node does with the call
(docs/performance.md). Most calls are answered long before it matters whether the client is still there. So that is
asked for together with sending the answer, and apart only for a call that is open for longer: from then on it is
cancelled when its client goes.

It needs names that are private to grpcio; tests/rpc/test_unary_calls.py notices when they change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

WATCHED_AFTER_S: Final = 0.05
"""After how long an open call is watched, at the earliest, in seconds; at twice that at the latest."""

_LOG: Final = logging.getLogger(__name__)
_NO_FLAGS: Final = 0


class _Call:
    """One call.

    state: grpcio's.
    is_answered: whether the answer is on its way; until then the call can be cancelled.
    """

    __slots__ = ("is_answered", "state", "task")

    def __init__(self, state: Any) -> None:
        self.state = state
        self.task = asyncio.current_task()
        self.is_answered = False


class UnaryCalls:
    """The open unary calls of one server. Lives on one asyncio loop.

    start: runs a coroutine as a task, and keeps it until it ends.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._start = start
        self._young: dict[_Call, None] = {}
        self._aging: dict[_Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """The server is gone: its calls may not be answered any more."""
        self._is_stopped = True

    async def serve(self, handler: grpc.RpcMethodHandler[Any, Any], state: Any) -> None:
        """Serve a call from its arrival to its end.

        handler: of a method with one response; it takes its request from the context.
        """
        call = _Call(state)
        self._young[call] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, self._look)
        context = cygrpc._ServicerContext(state, None, None, asyncio.get_running_loop())  # noqa: SLF001
        try:
            try:
                response = handler.response_serializer(await handler.stream_unary(None, context))  # type: ignore[misc, arg-type]
            except (asyncio.CancelledError, grpc.aio.BaseError):
                raise
            except Exception:  # services of ours let nothing through
                _LOG.exception("a call failed in a way that was not foreseen; this is a bug")
                await context.abort(grpc.StatusCode.INTERNAL, "this node failed at answering, by a bug")
            if not self._is_stopped:
                await self._answer(call, response)
        except (asyncio.CancelledError, grpc.aio.BaseError):
            pass  # it has been answered with an error, or its client or the connection is gone
        finally:
            call.is_answered = True
            if self._forget(call) and not self._is_stopped:
                self._start(self._watch(call))

    async def _answer(self, call: _Call, response: bytes) -> None:
        call.is_answered = True
        operations: tuple[Any, ...] = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.SendMessageOperation(response, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation((), grpc.StatusCode.OK.value[0], "", _NO_FLAGS),
        )
        if self._forget(call):
            operations = (*operations, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        await cygrpc.execute_batch(call.state, operations, asyncio.get_running_loop())

    def _forget(self, call: _Call) -> bool:
        """Have the call watched no more; whether it was not yet."""
        if call in self._young:
            del self._young[call]
        elif call in self._aging:
            del self._aging[call]
        else:
            return False
        return True

    def _look(self) -> None:
        """Watch the calls that were open the last time already."""
        self._timer = None
        for call in self._aging:
            self._start(self._watch(call))
        self._aging, self._young = self._young, {}
        if self._aging:
            self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, self._look)

    async def _watch(self, call: _Call) -> None:
        """Cancel the call when its client goes before it is answered; returns when it has ended."""
        closed = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        try:
            await cygrpc.execute_batch(call.state, (closed,), asyncio.get_running_loop())
        except cygrpc.InternalError:
            return  # the connection is gone, which the call itself is told
        if closed.cancelled() and not call.is_answered and call.task is not None:
            call.task.cancel()
