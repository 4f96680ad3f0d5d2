"""The nodes that a client knows, its connections to them, and which of them is asked next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import never_connected
from ourolog.rpc.client_types import ServerInfo
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

# For so long others are asked first: by a node that refuses connections it is soon known that it is back, one that
# answers nothing costs time.
_REFUSED_FOR_S: Final = 0.25
_SILENT_FOR_S: Final = 2.0
_READY: Final = grpc.ChannelConnectivity.READY
_ON_THE_WAY: Final = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)


class NodeConnection:
    """A connection to one node, made when it is first used.

    addr: of the node, HOST:PORT.
    stub: the calls.
    """

    def __init__(self, addr: str) -> None:
        self.addr = addr
        self._channel = open_channel(addr)
        self.stub: pb_grpc.LogAsyncStub = pb_grpc.LogStub(self._channel)
        self._connecting: asyncio.Task[None] | None = None
        self._users = 0
        self._is_retired = False

    @property
    def is_unused(self) -> bool:
        """Whether it was given up and nothing is open on it any more."""
        return self._is_retired and not self._users

    def retire(self) -> None:
        """Give it up: nobody begins to use it again."""
        self._is_retired = True

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While a call is open on it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def connect(self, within_s: float) -> None:
        """Wait until it is known whether the node answers. Raises LogError (`never_sent`) if that takes longer."""
        if self._channel.get_state(try_to_connect=True) is _READY:
            return
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._until_known())
        done, _ = await asyncio.wait({self._connecting}, timeout=within_s)
        if not done:
            raise never_connected(self.addr, within_s)

    async def _until_known(self) -> None:
        with contextlib.suppress(grpc.aio.UsageError):  # it was closed
            while (state := self._channel.get_state(try_to_connect=True)) in _ON_THE_WAY:
                await self._channel.wait_for_state_change(state)

    async def close(self) -> None:
        """Close it; what is open on it fails."""
        await self._channel.close()
        if self._connecting is not None:
            await asyncio.gather(self._connecting, return_exceptions=True)


class ClientNodes:
    """The nodes that a client knows: those that it was given, and those that they told it of.

    leader_addr: who leads, as far as that is known; else "".
    current_addr: who is asked when it does not matter who leads, or is not known.
    """

    def __init__(self, given: Sequence[str]) -> None:
        self._given = tuple(dict.fromkeys(given))
        self._told: tuple[str, ...] = ()
        self._down_until_s: dict[str, float] = {}
        self._silent: set[str] = set()
        self._connections: dict[str, NodeConnection] = {}
        self._retired: set[NodeConnection] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self.leader_addr = ""
        self.current_addr = self._given[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, those that were given first."""
        return self._given + self._told

    def told_of(self, servers: Iterable[ServerInfo], now_s: float) -> None:
        """A node has said who is there."""
        servers = list(servers)
        self._told = tuple(server.rpc_addr for server in servers if server.rpc_addr not in self._given)
        for server in servers:
            if server.is_leader and not self.leader_addr and not self.is_down(server.rpc_addr, now_s):
                self.leader_addr = server.rpc_addr
        if self.current_addr not in self.addresses:
            self.current_addr = self._given[0]

    def is_down(self, addr: str, now_s: float) -> bool:
        """Whether it could not be reached a moment ago."""
        return self._down_until_s.get(addr, now_s) > now_s

    def reached(self, addr: str) -> None:
        """The node has answered."""
        self._down_until_s.pop(addr, None)
        self._silent.discard(addr)

    def is_silent(self, addr: str) -> bool:
        """Whether the node did not answer when it was last asked if it is there."""
        return addr in self._silent

    def answered(self, addr: str, *, answered: bool) -> None:
        """The node was asked if it is there, and has answered in time or has not."""
        if answered:
            self._silent.discard(addr)
        else:
            self._silent.add(addr)

    def acknowledged(self, addr: str) -> None:
        """The node has acknowledged a produce: it is read from, too, since others may not know of the record yet."""
        self.read_from(addr)

    def read_from(self, addr: str) -> None:
        """Ask that node next when it does not matter who leads."""
        if addr not in self.addresses:
            self._told += (addr,)
        self.current_addr = addr

    def unreachable(self, addr: str, now_s: float, *, is_silent: bool) -> None:
        """The node could not be reached.

        is_silent: whether it took time to notice that, since it refuses nothing and answers nothing.
        """
        self._down_until_s[addr] = now_s + (_SILENT_FOR_S if is_silent else _REFUSED_FOR_S)

    def leave(self, addr: str, now_s: float) -> None:
        """Ask another one next, if it is this one that would be asked."""
        if self.leader_addr == addr:
            self.leader_addr = ""
        if self.current_addr != addr:
            return
        at = self.addresses.index(addr)
        others = (*self.addresses[at + 1 :], *self.addresses[: at + 1])
        self.current_addr = next(
            (other for other in others if not self.is_down(other, now_s)),
            min(others, key=lambda other: self._down_until_s.get(other, 0.0)),
        )

    # ------------------------------------------------------------ connections

    def connection(self, addr: str) -> NodeConnection:
        """The connection to that node."""
        found = self._connections.get(addr)
        if found is None:
            found = self._connections[addr] = NodeConnection(addr)
        return found

    def give_up(self, connection: NodeConnection) -> None:
        """Make a new connection the next time: gRPC would wait by itself before it tries the old one again."""
        if self._connections.get(connection.addr) is connection:
            del self._connections[connection.addr]
        connection.retire()
        self._retired.add(connection)
        for unused in [retired for retired in self._retired if retired.is_unused]:
            self._retired.discard(unused)
            closing = asyncio.create_task(unused.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all connections; open calls fail."""
        connections = [*self._connections.values(), *self._retired]
        self._connections.clear()
        self._retired.clear()
        for connection in connections:
            await connection.close()
        await asyncio.gather(*self._closing, return_exceptions=True)
