"""The gRPC port of a node, which goes on serving when grpcio's server loop ends.

grpcio (1.85) decodes the path of every call to a method that was not registered inside the loop
that accepts calls. One path that is not UTF-8 ends that loop: the port is closed, open calls go
on, and nobody is told. So there are two defences. All methods of a node are registered, and calls
to any other are answered UNIMPLEMENTED here, before the loop sees them. If the loop ends
nevertheless, for whatever reason, a second server takes over the port at once, open calls go on
on the first, and the owner is told. If the port cannot be bound again the owner must stop.

And it is made cheaper: grpcio's loop waits for the next call to each of its methods at once, and takes up all those
waits and lays them down again for every call, which with the methods of a node is a third of what an empty call costs
(docs/performance.md). Here each method has a task that waits for its next call, and hands it to what grpcio's loop
would hand it to.

All of it needs names that are private to grpcio; tests/rpc/test_listener.py notices when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ourolog.actors.addresses import join_address, split_address
from ourolog.rpc.errors import ServiceError, no_such_method, unavailable
from ourolog.rpc.listen_addresses import check_listenable

Options: TypeAlias = list[tuple[str, int]]

# Enough for accidents; if somebody makes the loop end more often, the port is closed for a while in between.
RESTARTS_AT_ONCE: Final = 10
RESTARTS_PER_S: Final = 5.0
BIND_WITHIN_S: Final = 5.0
_BIND_AGAIN_S: Final = 0.02
# Servers whose loop has ended, with calls that are still open. For one more the calls of the oldest are ended.
MAX_RETIRED: Final = 4


class _WatchedServer(cygrpc.AioServer):  # type: ignore[misc]
    """grpcio's server, with a task for each method that takes its calls; it also reports the end of its loop.

    on_end: called with the reason.
    tasks: those that take calls and serve them. asyncio itself holds its tasks by weak references alone.
    refusals: those that refuse calls.
    """

    on_end: Callable[[str], None] | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tasks: set[asyncio.Task[None]] = set()
        self.refusals: set[asyncio.Task[None]] = set()
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    def add_registered_method_handlers(self, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        super().add_registered_method_handlers(handlers)
        self._handlers.update(handlers)

    def _serving_task_crash_handler(self, task: asyncio.Task[None]) -> None:
        """Called by grpcio when the loop has ended. Its own handler logs a traceback and shuts down."""
        if task.cancelled():
            self._ended("cancelled")
        elif (error := task.exception()) is not None:
            self._ended(f"{type(error).__name__}: {error}")

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        """What the loop waits for: with a method, that no call to it can be taken any more; else a call to any other.

        The loop cancels what it waits for when it ends by an error. gRPC knows nothing of that, and would later write
        into memory that is free by then; so what is cancelled is never the request for a call itself.
        """
        awaited = asyncio.get_running_loop().create_future()
        if method is not None:
            _start(self._take_calls(method, awaited), self.tasks)
        else:
            requested: asyncio.Task[Any] = super()._make_request_call_future(None)
            requested.add_done_callback(lambda _: self._hand_over(requested, awaited))
        return awaited

    def _hand_over(self, requested: asyncio.Task[Any], awaited: asyncio.Future[Any]) -> None:
        if requested.cancelled():
            awaited.cancel()
        elif (error := requested.exception()) is not None:
            _fail(awaited, error)
        elif not awaited.done():
            awaited.set_result(requested.result())
        else:
            self._refuse(requested.result(), _just_ended())

    async def _take_calls(self, method: bytes, awaited: asyncio.Future[Any]) -> None:
        """Have every call to that method served, until the server stops or its loop has ended."""
        name = method.decode()
        handler = self._handlers[name]
        serve = cygrpc._handle_stream_stream_rpc if handler.response_streaming else cygrpc._handle_stream_unary_rpc  # noqa: SLF001
        loop = asyncio.get_running_loop()
        while not awaited.done():
            try:
                state = await self._request_registered_call(method)
            except Exception as error:
                _fail(awaited, error)
                return
            if awaited.done():
                self._refuse(state, _just_ended())
                return
            _start(cygrpc._schedule_rpc_coro(serve(handler, state, loop), state, loop, name), self.tasks)  # noqa: SLF001

    async def _request_call(self) -> None:
        """Calls to methods that are not registered; they never get to the loop, see the module."""
        while True:
            state = await super()._request_call()
            self._refuse(state, no_such_method())

    def _refuse(self, state: Any, error: ServiceError) -> None:
        _start(_abort(state, error), self.refusals)

    def _ended(self, reason: str) -> None:
        if self.on_end is not None:
            self.on_end(reason)


def _start(work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    among.add(task)
    task.add_done_callback(among.discard)


def _fail(awaited: asyncio.Future[Any], error: BaseException) -> None:
    """Let the loop know that there will be no call, and why."""
    if not awaited.done():
        awaited.set_exception(error)


def _just_ended() -> ServiceError:
    return unavailable("NOT_READY", "this server has just ended; try again")


async def _abort(state: Any, error: ServiceError) -> None:
    context = cygrpc._ServicerContext(state, None, None, asyncio.get_running_loop())  # noqa: SLF001
    # Abort raises when it has done its work, and when the caller has gone already.
    with contextlib.suppress(Exception):
        await error.abort(context)


class RpcListener:
    """One gRPC port. `bind`, `start`, `stop`, once each, on the same running loop.

    options: gRPC's options for its servers.
    on_restart: called with the reason why the last server ended, when the next one serves.
    on_lost: called with the reason, when the port cannot be bound again.
    """

    def __init__(self, options: Options, on_restart: Callable[[str], None], on_lost: Callable[[str], None]) -> None:
        self._options = options
        self._on_restart = on_restart
        self._on_lost = on_lost
        self._register: Callable[[grpc.aio.Server], None] = lambda _: None
        self._address = ""
        self._server: grpc.aio.Server | None = None
        self._retired: list[_Retired] = []
        self._restarting: asyncio.Task[None] | None = None
        self._tokens = float(RESTARTS_AT_ONCE)
        self._tokens_at_s = 0.0
        self._stopping = False

    def bind(self, address: str) -> str:
        """Bind the port; returns HOST:PORT, the port resolved. Raises OSError."""
        host, port = split_address(address)
        server = _make_server(self._options)
        try:
            bound = server.add_insecure_port(join_address(host, port))
        except RuntimeError as error:
            # The port was taken since it was checked, or gRPC sees a problem that a plain socket does not.
            raise OSError(f"cannot listen for gRPC on {address}: {error}") from error
        self._server = server
        self._address = join_address(host, bound)
        return self._address

    async def start(self, register: Callable[[grpc.aio.Server], None]) -> None:
        """Serve.

        register: adds the services to a server, all methods by `add_registered_method_handlers`.
            Called again for every server that takes over.
        """
        assert self._server is not None, "bound before it is started"
        self._register = register
        self._tokens_at_s = asyncio.get_running_loop().time()
        await self._start(self._server)

    async def stop(self, grace_s: float | None) -> None:
        """No new calls; open ones get `grace_s` seconds to end. May be called again, with less patience."""
        self._stopping = True
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.wait((self._restarting,))
        stops = [retired.end(grace_s) for retired in self._retired]
        if self._server is not None:
            stops.append(self._server.stop(grace_s))
        await asyncio.gather(*stops, return_exceptions=True)

    async def _start(self, server: grpc.aio.Server) -> None:
        self._register(server)
        _inner(server).on_end = self._loop_ended
        await server.start()

    def _loop_ended(self, reason: str) -> None:
        if self._stopping or self._server is None:
            return
        self._retire(self._server)
        self._server = None
        self._restarting = asyncio.create_task(self._restart(reason))

    def _retire(self, server: grpc.aio.Server) -> None:
        retired = _Retired(server)
        self._retired.append(retired)
        retired.drained.add_done_callback(lambda _: self._retired.remove(retired))
        if len(self._retired) > MAX_RETIRED:
            self._retired[0].end_now()

    async def _restart(self, reason: str) -> None:
        await asyncio.sleep(self._pause_s())
        loop = asyncio.get_running_loop()
        until_s = loop.time() + BIND_WITHIN_S
        while True:
            try:
                # The ended server closes its port on a thread of gRPC's own.
                await check_listenable(self._address)
                self.bind(self._address)
                break
            except OSError as error:
                if loop.time() > until_s:
                    self._on_lost(
                        f"grpcio's server loop ended ({reason}), and its port cannot be bound again "
                        f"within {BIND_WITHIN_S:g} s: {error}"
                    )
                    return
            await asyncio.sleep(_BIND_AGAIN_S)
        assert self._server is not None, "it was bound"
        await self._start(self._server)
        self._on_restart(reason)

    def _pause_s(self) -> float:
        """A token bucket: how long to wait before the next server is started."""
        now_s = asyncio.get_running_loop().time()
        self._tokens = min(float(RESTARTS_AT_ONCE), self._tokens + (now_s - self._tokens_at_s) * RESTARTS_PER_S)
        self._tokens_at_s = now_s
        self._tokens -= 1.0
        return max(0.0, -self._tokens / RESTARTS_PER_S)


class _Retired:
    """A server whose loop has ended: it takes no new calls, and its open ones go on until they end by themselves."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.drained = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        # Shutting down fails, as its loop did, once the port is closed; asked again, it waits for open calls.
        await self.end(_LONG_S)
        await self.end(_LONG_S)

    async def end(self, grace_s: float | None) -> None:
        with contextlib.suppress(Exception):
            await self._server.stop(grace_s)

    def end_now(self) -> None:
        # Kept, since asyncio itself holds its tasks by weak references alone.
        self._ending = asyncio.create_task(self.end(None))


_LONG_S: Final = 365 * 86_400.0


def _make_server(options: Options) -> grpc.aio.Server:
    """A server that reports the end of its loop. grpcio offers no other way to pass in a class of one's own."""
    plain = cygrpc.AioServer
    cygrpc.AioServer = _WatchedServer
    try:
        return grpc.aio.server(options=options)
    finally:
        cygrpc.AioServer = plain


def _inner(server: grpc.aio.Server) -> _WatchedServer:
    inner = server._server  # type: ignore[attr-defined]  # noqa: SLF001
    assert isinstance(inner, _WatchedServer)
    return inner
