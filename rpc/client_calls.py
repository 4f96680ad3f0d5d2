"""The calls of a client: whom to ask, how long to wait for one node, and when to ask another.

What is told apart here: a node that names the leader, one that cannot be reached, one that says nothing, and one that
refuses. Whether a call may be made again is for the caller to say, who knows what it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import grpc

from ourolog.rpc.client_attempts import Attempts
from ourolog.rpc.client_errors import LogError, client_closed, not_understood, to_log_error
from ourolog.rpc.client_liveness import PRODUCE_SILENT_AFTER_S, Liveness
from ourolog.rpc.client_nodes import ClientNodes, NodeConnection
from ourolog.rpc.client_types import ServerInfo
from ourolog.rpc.errors import OUTCOME_UNKNOWN
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

MAX_HINTS_IN_A_ROW: Final = 3
# How long a node may take to accept a connection while there are others, and one that was named as the leader.
_CONNECTS_WITHIN_S: Final = 0.3
_LEADER_CONNECTS_WITHIN_S: Final = 1.0
# How long one node is waited for at first, where another may be asked as well.
_FIRST_PATIENCE_S: Final = 1.0
_LEARN_EVERY_S: Final = 30.0
_LEARN_WITHIN_S: Final = 2.0

T = TypeVar("T")
Check = Callable[[], Awaitable[tuple[LogError | None, float]]]
Call = Callable[["pb_grpc.LogAsyncStub", float], Awaitable[T]]  # quoted: only the typed stubs know the name


class ClientCalls:
    """Makes the calls of one client.

    nodes: those that it knows.
    liveness: asks them whether they are there.
    timeout_s: how long one call may take, all its attempts together, where nothing else is said.
    on_retry: called with what an attempt failed with, each time before another one is made.
    """

    def __init__(self, nodes: ClientNodes, timeout_s: float, on_retry: Callable[[LogError], None]) -> None:
        self.nodes = nodes
        self.liveness = Liveness(nodes)
        self.timeout_s = timeout_s
        self.on_retry = on_retry
        self._learning: asyncio.Task[object] | None = None
        self._learn_at_s = 0.0
        self._closed = False

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.gather(self._learning, return_exceptions=True)
        await self.nodes.close()

    async def get_servers(self, timeout_s: float | None = None) -> list[ServerInfo]:
        """Who is alive in the cluster, sorted by name, and who leads."""
        request = pb.GetServersRequest()
        response = await self.call(lambda stub, left_s: stub.GetServers(request, timeout=left_s), timeout_s)
        return [ServerInfo(server.id, server.rpc_addr, server.is_leader) for server in response.servers]

    @property
    def produce_addr(self) -> str:
        """Which node is asked to append: the leader, as far as it is known."""
        return self.nodes.leader_addr or self.nodes.current_addr

    async def find_leader(self) -> str:
        """Where to produce to: the leader's address, or the current node's where nobody is elected."""
        if not self.nodes.leader_addr:
            servers = await self.get_servers()
            self.nodes.told_of(servers, asyncio.get_running_loop().time())
        return self.produce_addr

    async def call(
        self,
        call: Call[T],
        timeout_s: float | None,
        *,
        to_leader: bool = False,
        repeat_unknown: bool = True,
        if_unknown: str = OUTCOME_UNKNOWN,
    ) -> T:
        """Make a call, on as many nodes one after another as it takes. Raises LogError.

        timeout_s: how long all attempts may take; None for the client's own time.
        to_leader: whether only the leader does it.
        repeat_unknown: whether to make it again although it may have been done.
        if_unknown: what is to be said then, where it is not repeated.
        """
        loop = asyncio.get_running_loop()
        attempts = Attempts(loop.time(), self.timeout_s if timeout_s is None else timeout_s)
        patience_s = _FIRST_PATIENCE_S
        hints = 0
        while True:
            addr = self.produce_addr if to_leader else self.nodes.current_addr
            left_s = attempts.left_s(loop.time())
            may_ask_another = not to_leader and len(self.nodes.addresses) > 1
            try:
                return await self.attempt(
                    addr, call, min(left_s, patience_s) if may_ask_another else left_s, is_produce=to_leader
                )
            except LogError as error:
                failure = error
            if to_leader and failure.outcome_unknown and not failure.reason:
                failure.args = (f"{str(failure).rstrip('.')}. {if_unknown}",)
            if failure.code == "DEADLINE_EXCEEDED":
                patience_s *= 2
            attempts.note(failure)
            worth_it = failure.may_retry or failure.is_not_leader or (repeat_unknown and failure.may_pass)
            if self.route(failure, addr) and worth_it:
                hints += 1
                if hints % MAX_HINTS_IN_A_ROW and loop.time() < attempts.give_up_at_s:
                    continue
            wait_s = self.wait_s(attempts, failure, addr, to_leader=to_leader)
            if not worth_it or wait_s is None:
                raise attempts.conclusion(failure)
            self.on_retry(failure)
            await asyncio.sleep(wait_s)

    async def attempt(self, addr: str, call: Call[T], within_s: float, *, is_produce: bool) -> T:
        """Ask one node, once. Raises LogError."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        connection = self.nodes.connection(addr)
        watch: _Watch | None = None
        try:
            with connection.in_use():
                await self._connect(connection, within_s)
                calling = call(connection.stub, max(0.0, began_s + within_s - loop.time()))
                if is_produce:
                    check = partial(self.liveness.produce_failure, connection)
                    watch = _Watch(calling, check, PRODUCE_SILENT_AFTER_S)
                response = await calling
        except LogError as error:
            failure = error
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
            failure = (watch and watch.failure) or self._failure(error, addr)
        else:
            self._worked(connection)
            if response is not None:
                if is_produce:
                    self.nodes.acknowledged(addr)
                return response
            failure = not_understood(addr)
        finally:
            if watch is not None:
                watch.end()
        self._failed(connection, failure, began_s)
        raise failure

    async def responses(
        self,
        addr: str,
        open_call: Callable[[pb_grpc.LogAsyncStub], Any],
        check: Callable[[NodeConnection], Awaitable[tuple[LogError | None, float]]],
        silent_s: float,
    ) -> AsyncGenerator[Any, None]:
        """What a stream of one node brings. Raises LogError. `check` and `silent_s` are those of its watch."""
        connection = self.nodes.connection(addr)
        began_s = asyncio.get_running_loop().time()
        call: Any = None
        watch: _Watch | None = None
        try:
            with connection.in_use():
                await self._connect(connection, self.timeout_s)
                call = open_call(connection.stub)
                watch = _Watch(call, partial(check, connection), silent_s)
                while (response := await call.read()) is not grpc.aio.EOF:
                    watch.heard()
                    self._worked(connection)
                    if response is None:  # its bytes were no message
                        raise not_understood(addr)
                    yield response
                self._worked(connection)
                return
        except LogError as error:
            failure = error
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
            failure = (watch and watch.failure) or self._failure(error, addr)
        finally:
            if watch is not None:
                watch.end()
            if call is not None:
                call.cancel()
        self._failed(connection, failure, began_s)
        raise failure

    async def _connect(self, connection: NodeConnection, within_s: float) -> None:
        """Raises LogError if the node does not accept a connection in time, or sooner if others can be asked."""
        if len(self.nodes.addresses) > 1:
            is_leader = connection.addr == self.nodes.leader_addr
            within_s = min(within_s, _LEADER_CONNECTS_WITHIN_S if is_leader else _CONNECTS_WITHIN_S)
        await connection.connect(within_s)

    # ------------------------------------------------------------ what is learnt from an attempt

    def _worked(self, connection: NodeConnection) -> None:
        self.nodes.reached(connection.addr)
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._learn_at_s and (self._learning is None or self._learning.done()) and not self._closed:
            self._learn_at_s = now_s + _LEARN_EVERY_S
            self._learning = asyncio.create_task(self.liveness.servers(connection, _LEARN_WITHIN_S))

    def _failed(self, connection: NodeConnection, failure: LogError, began_s: float) -> None:
        now_s = asyncio.get_running_loop().time()
        is_late = failure.code == "DEADLINE_EXCEEDED"
        if failure.reason or (failure.code != "UNAVAILABLE" and not is_late):
            return
        # Without a cause it is this client that gave it up.
        took_long = now_s - began_s >= _CONNECTS_WITHIN_S
        is_silent = is_late or failure.__cause__ is None or (failure.never_sent and took_long)
        self.nodes.unreachable(connection.addr, now_s, is_silent=is_silent)
        self._learn_at_s = now_s  # something has changed
        if failure.never_sent and failure.__cause__ is not None:  # else it is still on its way
            self.nodes.give_up(connection)

    def route(self, failure: LogError, addr: str) -> bool:
        """Decide whom to ask after a failure. Returns whether at once."""
        now_s = asyncio.get_running_loop().time()
        leader_addr = failure.leader_addr
        if failure.is_end_unknown:
            return False  # another node may have less, and report that as the end
        is_named = bool(leader_addr) and leader_addr != addr and not self.nodes.is_down(leader_addr, now_s)
        if failure.code in {"UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED"} or (failure.is_not_leader and not is_named):
            self.nodes.leave(addr, now_s)
        if is_named:
            self.nodes.leader_addr = leader_addr
            if failure.is_behind:
                self.nodes.read_from(leader_addr)
        return is_named

    def wait_s(self, attempts: Attempts, failure: LogError, addr: str, *, to_leader: bool = False) -> float | None:
        """How long to wait before the next attempt; None if it would come too late.

        addr: the node that has failed so.
        """
        following = self.produce_addr if to_leader else self.nodes.current_addr
        return attempts.wait_s(failure, asyncio.get_running_loop().time(), is_same_node=following == addr)

    def _failure(self, error: BaseException, addr: str) -> LogError:
        """What an attempt ended with. Raises CancelledError when it was this task that was cancelled."""
        if isinstance(error, grpc.aio.AioRpcError):
            failure = to_log_error(error, addr)
        elif isinstance(error, grpc.aio.UsageError) or (self._closed and not _is_cancelled()):
            failure = client_closed(addr)
        else:
            raise error
        failure.__cause__ = error
        return failure


class _Watch:
    """Looks after a call from which nothing has come for a while, and ends it when `check` says why.

    failure: what it was ended with.
    """

    def __init__(self, call: Any, check: Check, silent_s: float) -> None:
        """Begin to watch.

        check: called when nothing has come for a while; gives why to end the call, and when to look again if not.
        silent_s: how long that is at first.
        """
        self._call = call
        self._check = check
        self._silent_s = silent_s
        self._has_heard = False
        self._checking: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(silent_s, self._look)
        self.failure: LogError | None = None

    def heard(self) -> None:
        """Something has come."""
        self._has_heard = True

    def end(self) -> None:
        """The call has ended."""
        self._timer.cancel()
        if self._checking is not None:
            self._checking.cancel()

    def _look(self) -> None:
        if self._has_heard:
            self._look_again(self._silent_s)
        else:
            self._checking = asyncio.create_task(self._look_closer())

    def _look_again(self, after_s: float) -> None:
        self._has_heard = False
        self._timer = asyncio.get_running_loop().call_later(after_s, self._look)

    async def _look_closer(self) -> None:
        failure, after_s = await self._check()
        if failure is None or self._has_heard:
            self._look_again(after_s)
        else:
            self.failure = failure
            self._call.cancel()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
