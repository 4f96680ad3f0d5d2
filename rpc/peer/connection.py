"""One connection between two nodes: frames in, frames out. Both ends use it.

What is sent goes out at the end of the loop's turn, small frames in one write. Of a large payload a slice is given to
the transport at a time, and the next one once the kernel has that: so a payload is never copied as a whole, and
`taken` says that it no longer takes memory here, but for a little.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from ourolog.rpc.peer.frames import BUFFER_BYTES, Frame, FrameError, FrameReader

SLICE_BYTES: Final = 256 * 1024
"""How much is given to the transport at once."""

LITTLE_BYTES: Final = 16 * 1024
"""What the transport may hold and nobody waits for it; not less than the end of a TLS handshake."""


class FrameHandler(Protocol):
    """What a connection tells its owner, on the loop."""

    def opened(self) -> None:
        """The connection is there."""

    def received(self, frame: Frame) -> None:
        """A frame has come."""

    def broken(self, error: FrameError) -> None:
        """What came is no frame. Nothing more is received; the owner closes the connection."""

    def lost(self, why: str) -> None:
        """The connection is gone; nothing follows.

        why: a phrase for a person, "" if it was closed at this end.
        """


@dataclass(slots=True)
class _Outgoing:
    """What is to be sent.

    data: the bytes that have not been given to the transport yet.
    taken: called once it has taken all of them; None for nothing.
    """

    data: memoryview
    taken: Callable[[], None] | None


class FrameConnection(asyncio.BufferedProtocol):
    """A protocol for `create_connection` and `connect_accepted_socket`.

    bytes_received: how many have come. Whether any did since, a clock of milliseconds, as uvloop's is, does not tell.
    progress_s: when the transport last took everything that it had been given, or was told to close.
    """

    def __init__(
        self,
        handler: FrameHandler,
        max_frame_bytes: int,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        reads_while_writing: bool = True,
    ) -> None:
        """Prepare a connection.

        max_frame_bytes: how large a frame that comes may be.
        buffer_bytes: how much is received at once at least.
        reads_while_writing: whether it goes on reading while the other end does not take what it is sent.
        """
        self._handler = handler
        self._reader = FrameReader(max_frame_bytes, buffer_bytes)
        self._reads_while_writing = reads_while_writing
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outgoing: deque[_Outgoing] = deque()
        self._given: list[Callable[[], None]] = []
        self._flush_is_due = False
        self._is_paused = False
        self._is_reading = True
        self._is_closing = False
        self._why_lost = ""
        self.bytes_received = 0
        self.progress_s = self._loop.time()
        self.frames_received = 0

    # ------------------------------------------------------------ for the owner

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._is_closing

    @property
    def is_writing(self) -> bool:
        """Whether anything that was sent has not been taken by the transport."""
        return self._is_paused or bool(self._outgoing)

    @property
    def is_stalled(self) -> bool:
        """Whether the transport waits for the other end to take what it was given, or to close."""
        return self._is_paused or self._is_closing

    @property
    def has_begun_frame(self) -> bool:
        """Whether a part of a frame has come, and not all of it."""
        return self._reader.has_begun_frame

    def send(self, frame: Frame, taken: Callable[[], None] | None = None) -> None:
        """Send a frame, after those before it.

        taken: called once the transport has taken all of it, or the connection is lost.
        """
        if not self.is_open:
            if taken is not None:
                taken()
            return
        if frame.payload:
            self._outgoing.append(_Outgoing(memoryview(frame.head_and_message()), None))
            self._outgoing.append(_Outgoing(memoryview(frame.payload), taken))
        else:
            self._outgoing.append(_Outgoing(memoryview(frame.head_and_message()), taken))
        self._flush_soon()

    def send_raw(self, data: bytes) -> None:
        """Send what is no frame, to somebody who is no node."""
        if self.is_open and data:
            self._outgoing.append(_Outgoing(memoryview(data), None))
            self._flush_soon()

    def close(self) -> None:
        """Close it once everything has been taken that was sent."""
        if not self._is_closing:
            self._pause_reading()
            self._is_closing = True
            self.progress_s = self._loop.time()
            self._close_if_all_is_sent()

    def abort(self, why: str = "") -> None:
        """Close it now.

        why: what `lost` is told.
        """
        self._is_closing = True
        self._why_lost = self._why_lost or why
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ asyncio's BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        # So that writing is paused when the transport holds more than little, and resumed when it holds nothing.
        transport.set_write_buffer_limits(high=LITTLE_BYTES, low=0)
        if self._is_closing:
            transport.abort()
            return
        self._handler.opened()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.bytes_received += nbytes
        frames = self._reader.received(nbytes)
        self.frames_received += len(frames)
        for frame in frames:
            if self._is_closing:
                return
            self._handler.received(frame)
        if self._reader.error is not None and not self._is_closing:
            self._handler.broken(self._reader.error)

    def eof_received(self) -> bool:
        self._why_lost = self._why_lost or "the other end closed the connection"
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        why = self._why_lost or (str(exc) or repr(exc) if exc is not None else "")
        self._transport = None
        self._is_closing = True
        left = [outgoing.taken for outgoing in self._outgoing]
        self._outgoing.clear()
        given, self._given = self._given, []
        for taken in (*given, *left):
            if taken is not None:
                taken()
        self._handler.lost(why)

    def pause_writing(self) -> None:
        self._is_paused = True
        self.progress_s = self._loop.time()
        if not self._reads_while_writing:
            self._pause_reading()

    def resume_writing(self) -> None:
        self._is_paused = False
        self.progress_s = self._loop.time()
        self._let_go()
        # Not at once: a transport that is closed while it tells this would close twice.
        self._flush_soon()

    def _pause_reading(self) -> None:
        if self._transport is not None and self._is_reading and not self._transport.is_closing():
            self._is_reading = False
            self._transport.pause_reading()

    # ------------------------------------------------------------ sending

    def _flush_soon(self) -> None:
        if not (self._flush_is_due or self._is_paused):
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._outgoing and not self._is_paused and self._transport is not None:
            self._transport.write(self._next_slice())
            if not self._is_paused:
                self._let_go()
        self._close_if_all_is_sent()
        if not (self._is_reading or self._is_paused or self._is_closing) and self._transport is not None:
            self._is_reading = True
            self._transport.resume_reading()

    def _let_go(self) -> None:
        """The transport has taken all that it was given."""
        given, self._given = self._given, []
        for taken in given:
            taken()

    def _next_slice(self) -> bytes | memoryview:
        """What is written next: the first slice of a large piece, or several small ones together."""
        first = self._outgoing[0]
        if len(first.data) > SLICE_BYTES:
            piece, first.data = first.data[:SLICE_BYTES], first.data[SLICE_BYTES:]
            return piece
        pieces = []
        size_bytes = 0
        while self._outgoing and size_bytes + len(self._outgoing[0].data) <= SLICE_BYTES:
            outgoing = self._outgoing.popleft()
            size_bytes += len(outgoing.data)
            pieces.append(outgoing.data)
            if outgoing.taken is not None:
                self._given.append(outgoing.taken)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _close_if_all_is_sent(self) -> None:
        if self._is_closing and self._transport is not None and not self.is_writing:
            self._transport.close()
