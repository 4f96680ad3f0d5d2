"""The listener for other nodes' calls: who is let in, and for how long.

Anybody can connect. A connection is accepted while there is room, in all and for its machine; when there is none, one
that has not said hello makes room, the oldest of them, or else one without a call, the longest idle. So neither
silent strangers nor idle ones keep a node out that has something to ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ourolog.actors.addresses import join_address
from ourolog.rpc.open_files import max_peer_connections
from ourolog.rpc.peer.frames import FrameKind
from ourolog.rpc.peer.served import PeerCalls, ServedConnection
from ourolog.rpc.peer.sockets import set_options

_ACCEPT_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """What connections of other nodes may cost.

    max_connections: how many there are at once.
    max_each: how many of them come from one machine.
    hello_within_s: how long one may take to say hello, TLS included, in seconds.
    frame_within_s: how long a request may take to arrive, once begun.
    taken_within_s: how long the other side may take to make room for more of an answer (a slice of 256 KiB).
    idle_s: after how long without a call it is closed. Callers close theirs earlier.
    look_every_s: how often all this is looked at.
    """

    max_connections: int
    max_each: int
    hello_within_s: float = 2.0
    frame_within_s: float = 1.0
    taken_within_s: float = 15.0
    idle_s: float = 20.0
    look_every_s: float = 0.25


def default_limits() -> ListenerLimits:
    """As many connections as there are open files for; one machine may take three quarters of them."""
    most = max_peer_connections()
    return ListenerLimits(most, max(1, most * 3 // 4))


class PeerListener:
    """Accepts other nodes' connections on one socket. `start`, then `close`, once each, on the same running loop."""

    def __init__(
        self, calls: PeerCalls, limits: ListenerLimits | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Prepare a listener.

        calls: who answers.
        ssl_context: of a TLS server; None for plain TCP.
        """
        self._calls = calls
        self._limits = limits or default_limits()
        self._ssl_context = ssl_context
        self._served: dict[ServedConnection, asyncio.Task[None] | None] = {}
        self._leaving: set[ServedConnection] = set()
        self._by_host: Counter[str] = Counter()
        self._accepting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._none_is_left = asyncio.Event()

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._served)

    def start(self, listening: socket.socket) -> None:
        """Accept connections; the socket is the listener's from now on, and does not block."""
        self._socket = listening
        self._accepting = asyncio.create_task(self._accept(listening))

    async def close(self, grace_s: float = 0.0) -> None:
        """Accept no more, and close what is open once it has been sent what is on its way.

        grace_s: how long that may take, in seconds.
        """
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait((self._accepting,))
        if self._socket is not None:
            self._socket.close()
        for served in list(self._served):
            served.connection.close()
        if self._served and grace_s:
            self._none_is_left.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_is_left.wait(), grace_s)
        for served in list(self._served):
            self._abort(served, "this node is stopping")
        while self._served:
            self._none_is_left.clear()
            await self._none_is_left.wait()

    # ------------------------------------------------------------ who is let in

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError:
                # No descriptor is left, or the other side has gone already.
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            self._admit(sock, address[0], address[1])
            await asyncio.sleep(0)  # others have to be served while many connect at once

    def _admit(self, sock: socket.socket, host: str, port: int) -> None:
        if not self._has_room(host):
            sock.close()
            return
        served = ServedConnection(self._calls, host, join_address(host, port), self._gone)
        self._by_host[host] += 1
        opening = asyncio.create_task(self._open(served, sock))
        self._served[served] = opening
        opening.add_done_callback(lambda done: self._opened(served, sock, done))
        self._look_soon()

    async def _open(self, served: ServedConnection, sock: socket.socket) -> None:
        set_options(sock)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: served.connection, sock, ssl=self._ssl_context)

    def _opened(self, served: ServedConnection, sock: socket.socket, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            sock.close()  # it has gone already, or does not speak TLS
            self._gone(served)
        elif served in self._served:
            self._served[served] = None

    def _has_room(self, host: str) -> bool:
        """Whether there may be another connection from that machine; one that is of no use makes room."""
        limits = self._limits
        is_full_for_host = self._by_host[host] >= limits.max_each
        if not is_full_for_host and len(self._served) - len(self._leaving) < limits.max_connections:
            return True
        staying = [served for served in self._served if served not in self._leaving]
        crowd = [served for served in staying if not is_full_for_host or served.host == host]
        strangers = [served for served in crowd if served.lane is None]
        if strangers:  # in the order in which they came
            self._leave(strangers[0])
            self._abort(strangers[0], "it did not say hello")
            return True
        idle = [served for served in crowd if served.is_idle]
        if idle:
            longest = min(idle, key=lambda served: served.used_s)
            many = f"this node has {len(staying)} connections of others, and this one had no call"
            self._leave(longest)
            longest.refuse(FrameKind.OVERLOADED, many)
            return True
        return False

    # ------------------------------------------------------------ for how long

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limits.look_every_s, self._look)

    def _look(self) -> None:
        """End what takes too long."""
        self._timer = None
        limits = self._limits
        now_s = asyncio.get_running_loop().time()
        for served in list(self._served):
            connection = served.connection
            if served.lane is None and now_s - served.accepted_s >= limits.hello_within_s:
                self._abort(served, "it did not say hello")
            elif connection.is_stalled:
                if now_s - connection.progress_s >= limits.taken_within_s:
                    self._abort(served, "it does not take its answers")
            elif served.begun_s(now_s) >= limits.frame_within_s:
                served.refuse(FrameKind.INVALID, f"a request did not arrive within {limits.frame_within_s:g} s")
            elif served.is_idle and now_s - served.used_s >= limits.idle_s:
                connection.close()
        if self._served:
            self._look_soon()

    def _abort(self, served: ServedConnection, why: str) -> None:
        opening = self._served.get(served)
        if opening is not None:
            opening.cancel()
        served.connection.abort(why)

    def _gone(self, served: ServedConnection) -> None:
        if served not in self._served:
            return
        self._leave(served)
        self._leaving.remove(served)
        del self._served[served]
        if not self._served:
            self._none_is_left.set()

    def _leave(self, served: ServedConnection) -> None:
        """It takes no place any more."""
        if served in self._leaving:
            return
        self._leaving.add(served)
        self._by_host[served.host] -= 1
        if not self._by_host[served.host]:
            del self._by_host[served.host]
