"""A connection to another node, as the node has it that calls, and the calls that are open on it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ourolog.rpc.peer.connect import Connector, NobodyListensError
from ourolog.rpc.peer.connection import FrameConnection
from ourolog.rpc.peer.frames import REFUSALS, Frame, FrameError, FrameKind
from ourolog.rpc.peer.hello import Hello, Lane, decode_hello
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES

WELCOMED_WITHIN_S: Final = 2.0
"""How long it may take to connect, and to be answered the hello."""

ATTEMPTS: Final = 2
"""How often it is tried to connect, where the connection ends before it is answered."""

IDLE_S: Final = 10.0
"""A connection without a call is closed after so long."""

_URGENT_BUFFER_BYTES: Final = 16 * 1024
_BULK_BUFFER_BYTES: Final = 64 * 1024


class OutgoingCall(Protocol):
    """A call, as a connection needs it. Exactly one of these is called, once."""

    def ended(self, frame: Frame) -> None:
        """It was answered, or refused."""

    def broke(self, why: str, *, is_refused: bool = False) -> None:
        """There will be no answer.

        is_refused: whether nobody listens at the address.
        """

    def was_late(self) -> None:
        """There was no answer in time."""


@dataclass(slots=True)
class _Open:
    """An open call.

    call: the call itself.
    request: what it asks.
    received_before: how many bytes had come on the connection when it began.
    timer: of the end of its time.
    """

    call: OutgoingCall
    request: Frame
    received_before: int
    timer: asyncio.TimerHandle


class OutgoingConnection:
    """One connection to one address, opened when it is made.

    addr: the address.
    is_usable: whether new calls may begin on it.
    """

    def __init__(
        self,
        addr: str,
        lane: Lane,
        connector: Connector,
        ssl_context: ssl.SSLContext | None,
        on_unusable: Callable[[OutgoingConnection], None],
        on_gone: Callable[[OutgoingConnection], None],
    ) -> None:
        """Begin to connect.

        ssl_context: of a TLS client; None for plain TCP.
        on_unusable: called once, when no new call may begin on it.
        on_gone: called once, when nothing of it is left; the last.
        """
        self.addr = addr
        self.is_usable = True
        self._on_unusable = on_unusable
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._ssl_context = ssl_context
        self._open: dict[int, _Open] = {}
        self._last_id = 0
        self._is_welcome = self._is_gone = False
        self._idle_since_s = self._loop.time()
        self._lane = lane
        self._connector = connector
        self._attempts = 0
        self._timer = self._loop.call_later(WELCOMED_WITHIN_S, self._not_welcomed)
        self._begin_to_connect()

    def __len__(self) -> int:
        """How many calls are open on it."""
        return len(self._open)

    # ------------------------------------------------------------ for the network

    def begin(self, call: OutgoingCall, method: int, message: bytes, timeout_s: float) -> None:
        """Send a request, as soon as there is a connection."""
        self._last_id += 1
        call_id = self._last_id
        request = Frame(FrameKind.REQUEST, call_id, method, message)
        timer = self._loop.call_later(timeout_s, self._late, call_id)
        self._open[call_id] = _Open(call, request, self._connection.bytes_received, timer)
        self._connection.send(request)  # once it is open, all requests are sent

    def end_calls(self, which: Callable[[OutgoingCall], bool], why: str) -> None:
        """End those of the open calls; the peer is told that nobody waits for them."""
        for call_id in [call_id for call_id, opened in self._open.items() if which(opened.call)]:
            opened = self._pop(call_id)
            assert opened is not None
            self._cancel(call_id)
            opened.call.broke(why)
        self._close_if_done()

    def retire(self) -> None:
        """No new calls; it is closed once the open ones have ended."""
        if self.is_usable:
            self.is_usable = False
            self._on_unusable(self)
        self._close_if_done()

    def abort(self, why: str) -> None:
        """Close it now, and end what is open."""
        self.retire()
        self._connecting.cancel()
        self._fail_all(why)
        self._connection.abort(why)

    # ------------------------------------------------------------ connecting

    def _begin_to_connect(self) -> None:
        self._attempts += 1
        self._connection = FrameConnection(
            self,
            MAX_MESSAGE_BYTES,
            buffer_bytes=_BULK_BUFFER_BYTES if self._lane is Lane.BULK else _URGENT_BUFFER_BYTES,
        )
        self._connecting = asyncio.create_task(self._connect(self._connection))
        self._connecting.add_done_callback(self._connected)

    async def _connect(self, connection: FrameConnection) -> None:
        sock, host = await self._connector.connect(self.addr)
        name = host if self._ssl_context is not None else None
        await self._loop.create_connection(lambda: connection, sock=sock, ssl=self._ssl_context, server_hostname=name)

    def _connected(self, connecting: asyncio.Task[None]) -> None:
        if connecting.cancelled():
            self._end("the connection was dropped")
            return
        error = connecting.exception()
        if error is None:
            return
        is_refused = isinstance(error, NobodyListensError)
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or repr(error)
        self._end(f"cannot connect: {why}", is_refused=is_refused)

    def _not_welcomed(self) -> None:
        """It took too long to connect, or to be answered: somebody stands still, or is no node."""
        self.abort("the connection was not answered in time")

    # ------------------------------------------------------------ what the connection says

    def opened(self) -> None:
        self._connection.send(Hello(self._lane).frame())
        for opened in self._open.values():
            self._connection.send(opened.request)
        self._close_if_done()

    def received(self, frame: Frame) -> None:
        if not self._is_welcome and frame.kind not in REFUSALS:
            self._welcomed(frame)
        elif frame.kind is not FrameKind.ANSWER and frame.kind not in REFUSALS:
            self.broken(FrameError(f"a {frame.kind.name} is no answer"))
        elif frame.call_id == 0:
            self._refused(frame)
        else:
            opened = self._pop(frame.call_id)
            if opened is not None:  # nobody waits any more for what comes late
                opened.call.ended(frame)
            self._close_if_done()

    def broken(self, error: FrameError) -> None:
        if self._is_welcome:
            self.abort(f"what it sends is no answer: {error}")
        else:
            self.abort(f"it is no ourolog node, or one of another version: {error}")

    def lost(self, why: str) -> None:
        if why and self._open and self.is_usable and not self._is_welcome and self._attempts < ATTEMPTS:
            # It ended before anybody said hello. That is what a process does that is about to be gone: the kernel
            # still connects to it. The next attempt says whether anybody listens.
            self._begin_to_connect()
        else:
            self._end(why or "the connection was closed")

    def _welcomed(self, frame: Frame) -> None:
        try:
            decode_hello(frame)
        except FrameError as error:
            self.broken(error)
            return
        self._is_welcome = True
        self._timer.cancel()
        self._timer = self._loop.call_later(IDLE_S, self._look_whether_idle)

    def _refused(self, frame: Frame) -> None:
        """The peer does not want this connection; it closes it."""
        self.retire()
        while self._open:
            self._pop_first().call.ended(frame)
        self._connection.close()

    # ------------------------------------------------------------ calls end

    def _late(self, call_id: int) -> None:
        opened = self._pop(call_id)
        assert opened is not None, "the timer of a call ends with it"
        self._cancel(call_id)
        if self._connection.bytes_received == opened.received_before:
            # Nothing came in all that time: whoever is there stands still, or nobody is. The next call connects anew.
            self.retire()
        opened.call.was_late()
        self._close_if_done()

    def _cancel(self, call_id: int) -> None:
        self._connection.send(Frame(FrameKind.CANCEL, call_id))

    def _pop(self, call_id: int) -> _Open | None:
        opened = self._open.pop(call_id, None)
        if opened is not None:
            opened.timer.cancel()
            self._idle_since_s = self._loop.time()
        return opened

    def _pop_first(self) -> _Open:
        opened = self._pop(next(iter(self._open)))
        assert opened is not None
        return opened

    def _fail_all(self, why: str, *, is_refused: bool = False) -> None:
        while self._open:
            self._pop_first().call.broke(why, is_refused=is_refused)

    # ------------------------------------------------------------ its end

    def _close_if_done(self) -> None:
        if not (self.is_usable or self._open):
            self._connecting.cancel()
            self._connection.close()

    def _look_whether_idle(self) -> None:
        idle_s = 0.0 if self._open else self._loop.time() - self._idle_since_s
        if idle_s >= IDLE_S:
            self.retire()
        else:
            self._timer = self._loop.call_later(IDLE_S - idle_s, self._look_whether_idle)

    def _end(self, why: str, *, is_refused: bool = False) -> None:
        """The connection is gone. Whoever gives up an attempt to connect may hear of that twice."""
        if self._is_gone:
            return
        self._is_gone = True
        self._timer.cancel()
        if self.is_usable:
            self.is_usable = False
            self._on_unusable(self)
        self._fail_all(why, is_refused=is_refused)
        self._on_gone(self)
