"""Frames: what calls between nodes look like as bytes.

A frame is a head of 18 bytes, then a message, then a payload; integers are big-endian:

    kind u8 | method u8 | call id u64 | size of the message u32 | size of the payload u32 | message | payload

The message is an encoded one of proto/peer.proto; of a refusal, a sentence in UTF-8. The payload is bytes that pass
through as they are: the batches of an answer. They are received into memory of their own and copied once, into
`bytes`; however large a frame says it is, memory is taken for what has come of it, and a mebibyte more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

HEAD: Final = Struct("!BBQII")
BUFFER_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 1024 * 1024
"""What is larger than the buffer is received in pieces of this size."""


class FrameKind(IntEnum):
    """What a frame is. A refusal whose call id is 0 is about the connection, which ends with it.

    HELLO: the first of each side; its call id is the magic number, see `ourolog.rpc.peer.hello`.
    REQUEST: a call begins.
    CANCEL: whoever called no longer waits for the answer.
    ANSWER: what was asked for.
    DECLINED: the node declines to answer this request; asking again will not help.
    INVALID: the request means nothing.
    OVERLOADED: there is no room for it now.
    UNAVAILABLE: the node is stopping, or has failed.
    TIMED_OUT: the actor that should answer did not in time.
    UNKNOWN_CALL: the node knows no such call.
    BROKEN: the node failed at answering, by a bug.
    """

    HELLO = 0xF5  # neither the beginning of a text nor of a TLS handshake
    REQUEST = 1
    CANCEL = 2
    ANSWER = 3
    DECLINED = 4
    INVALID = 5
    OVERLOADED = 6
    UNAVAILABLE = 7
    TIMED_OUT = 8
    UNKNOWN_CALL = 9
    BROKEN = 10


REFUSALS: Final = frozenset(kind for kind in FrameKind if kind >= FrameKind.DECLINED and kind is not FrameKind.HELLO)
_KINDS: Final = {int(kind): kind for kind in FrameKind}


class FrameError(ValueError):
    """What came is no frame, or a larger one than is accepted; the text says which."""


class NotAFrameError(FrameError):
    """No frame begins with that byte."""

    def __init__(self, first_byte: int) -> None:
        super().__init__(f"no frame begins with the byte {first_byte}")
        self.first_byte = first_byte


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    kind: what it is.
    call_id: of the call that it belongs to, chosen by the caller; 0 for none.
    method: which call that is, in a request; see `ourolog.rpc.peer_codec`.
    message: an encoded message, or a sentence.
    payload: bytes that pass through.
    """

    kind: FrameKind
    call_id: int = 0
    method: int = 0
    message: bytes = b""
    payload: bytes = b""

    def head_and_message(self) -> bytes:
        """All of it but the payload, encoded; the payload follows as it is."""
        return HEAD.pack(self.kind, self.method, self.call_id, len(self.message), len(self.payload)) + self.message


class FrameReader:
    """Cuts a stream of bytes into frames, whatever pieces it comes in. Does no I/O.

    `get_buffer` says where the next bytes go, `received` how many have come.

    error: why what followed the last frame is none; None while all is well. Nothing more is to be received then.
    """

    def __init__(self, max_frame_bytes: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        """Prepare a reader that has received nothing.

        max_frame_bytes: how large a message and its payload may be together.
        buffer_bytes: of the buffer that it keeps; larger frames get memory of their own while they arrive.
        """
        self._max_frame_bytes = max_frame_bytes
        self._buffer = memoryview(bytearray(buffer_bytes))
        self._begin = self._end = 0
        self._large: _LargeFrame | None = None
        self.error: FrameError | None = None

    @property
    def has_begun_frame(self) -> bool:
        """Whether a part of a frame has come, and not all of it."""
        return self._large is not None or self._begin < self._end

    def get_buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._buffer[self._end :] if self._large is None else self._large.room()

    def received(self, count: int) -> list[Frame]:
        """The frames that are complete, now that `count` more bytes are in the buffer. See `error`, too."""
        if self._large is not None:
            self._large.received(count)
            if not self._large.is_complete:
                return []
            frames = [self._large.frame()]
            self._large = None
            return frames
        self._end += count
        frames = []
        try:
            while (frame := self._next()) is not None:
                frames.append(frame)
        except FrameError as error:
            self.error = error
        self._make_room()
        return frames

    def _next(self) -> Frame | None:
        """The next frame that lies in the buffer as a whole; None if there is none. Raises FrameError."""
        present = self._end - self._begin
        if not present:
            return None
        kind = _KINDS.get(self._buffer[self._begin])
        if kind is None:
            raise NotAFrameError(self._buffer[self._begin])
        if present < HEAD.size:
            return None
        _, method, call_id, message_bytes, payload_bytes = HEAD.unpack_from(self._buffer, self._begin)
        if message_bytes + payload_bytes > self._max_frame_bytes:
            raise FrameError(f"a frame of {message_bytes + payload_bytes} bytes is larger than {self._max_frame_bytes}")
        body = self._begin + HEAD.size
        end = body + message_bytes + payload_bytes
        if end - self._begin > len(self._buffer):
            self._large = _LargeFrame(kind, call_id, method, message_bytes, payload_bytes)
            self._large.take(self._buffer[body : self._end])
            self._begin = self._end
            return None
        if end > self._end:
            return None
        self._begin = end
        middle = body + message_bytes
        return Frame(kind, call_id, method, bytes(self._buffer[body:middle]), bytes(self._buffer[middle:end]))

    def _make_room(self) -> None:
        """Move the beginning of a frame to the beginning of the buffer."""
        left = self._end - self._begin
        if self._begin:
            self._buffer[:left] = self._buffer[self._begin : self._end]
        self._begin, self._end = 0, left


class _LargeFrame:
    """A frame that is larger than the buffer, while it arrives."""

    def __init__(self, kind: FrameKind, call_id: int, method: int, message_bytes: int, payload_bytes: int) -> None:
        self._kind = kind
        self._call_id = call_id
        self._method = method
        self._message = _Run(message_bytes)
        self._payload = _Run(payload_bytes)

    @property
    def is_complete(self) -> bool:
        return not self._message.missing_bytes and not self._payload.missing_bytes

    def room(self) -> memoryview:
        return self._arriving().room()

    def received(self, count: int) -> None:
        self._arriving().received(count)

    def take(self, data: memoryview) -> None:
        """Copy what has come already; less than all of it."""
        while data:
            room = self.room()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.received(count)
            data = data[count:]

    def frame(self) -> Frame:
        return Frame(self._kind, self._call_id, self._method, self._message.whole(), self._payload.whole())

    def _arriving(self) -> _Run:
        return self._message if self._message.missing_bytes else self._payload


class _Run:
    """Bytes of a known number, while they arrive.

    missing_bytes: how many have not.
    """

    def __init__(self, size_bytes: int) -> None:
        self.missing_bytes = size_bytes
        self._pieces: list[bytearray] = []
        self._room = memoryview(b"")

    def room(self) -> memoryview:
        if not self._room:
            piece = bytearray(min(self.missing_bytes, PIECE_BYTES))
            self._pieces.append(piece)
            self._room = memoryview(piece)
        return self._room

    def received(self, count: int) -> None:
        self._room = self._room[count:]
        self.missing_bytes -= count

    def whole(self) -> bytes:
        return b"".join(self._pieces)
