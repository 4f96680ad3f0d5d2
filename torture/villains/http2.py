"""Just enough of HTTP/2 (RFC 9113) and HPACK (RFC 7541) to misuse it, which no library would allow.

Headers are sent as literals without index or Huffman code, so any bytes can be a header. In what
arrives, frames are told apart and pings answered; headers are not decoded.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
LARGEST_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65_535
_MAX_FRAME_BYTES: Final = 16_384

Header = tuple[bytes, bytes]


class Frame(NamedTuple):
    """An HTTP/2 frame (RFC 9113 section 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values: int) -> bytes:
    """A SETTINGS frame.

    window: INITIAL_WINDOW_SIZE, for streams.
    """
    names = {"window": 4}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[name], value) for name, value in values.items()))


def header_block(headers: Sequence[Header]) -> bytes:
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers)


def grpc_headers(path: bytes, *extra: Header) -> list[Header]:
    """The headers that begin a gRPC call; a header given in `extra` replaces the usual one."""
    usual = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    more = [(name, value) for name, value in extra if name not in usual]
    usual.update({name: value for name, value in extra if name in usual})
    return [*usual.items(), *more]


def grpc_message(payload: bytes) -> bytes:
    """A gRPC message: length-prefixed, uncompressed."""
    return b"\x00" + struct.pack(">I", len(payload)) + payload


def _string(text: bytes) -> bytes:
    """HPACK's string, section 5.2: the length is an integer of a 7-bit prefix."""
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    size -= 127
    parts = [127]
    while size >= 128:
        parts.append(size % 128 + 128)
        size //= 128
    return bytes((*parts, size)) + text


class Connection:
    """One connection to one node.

    window: how much the node may send on a stream, and in all, before it is allowed more.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._next_stream = 1

    @classmethod
    async def open(cls, addr: str, *, window: int = _FIRST_WINDOW) -> Connection:
        connection = cls(*await tcp(addr))
        connection.writer.write(PREFACE + settings(window=window))
        if window > _FIRST_WINDOW:
            connection.writer.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window - _FIRST_WINDOW)))
        return connection

    def request(self, headers: Sequence[Header], message: bytes | None = None, *, end: bool = True) -> int:
        """Begin a call, with a message or without. Returns its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        ends = END_STREAM if end and message is None else 0
        block = header_block(headers)
        assert len(block) <= _MAX_FRAME_BYTES, "headers that need a second frame are sent by hand"
        self.writer.write(frame(HEADERS, END_HEADERS | ends, stream, block))
        if message is not None:
            self.data(stream, grpc_message(message), end=end)
        return stream

    def data(self, stream: int, payload: bytes, *, end: bool = False) -> None:
        self.writer.write(frame(DATA, END_STREAM if end else 0, stream, payload))

    def stop_reading(self) -> None:
        """Leave what arrives in the sockets' buffers."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads has it

    async def frames(self) -> AsyncIterator[Frame]:
        """The frames that arrive, until the node closes; settings and pings are answered here."""
        while True:
            try:
                head = await self.reader.readexactly(9)
                size = int.from_bytes(head[:3], "big")
                payload = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            found = Frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
            if found.kind in {SETTINGS, PING} and not found.flags & ACK:
                answer = b"" if found.kind == SETTINGS else payload
                self.writer.write(frame(found.kind, ACK, 0, answer))
            if found.kind == DATA and size:
                grant = struct.pack(">I", size)
                self.writer.write(frame(WINDOW_UPDATE, 0, 0, grant) + frame(WINDOW_UPDATE, 0, found.stream, grant))
            yield found

    def vanish(self) -> None:
        """Reset the connection (RST instead of FIN), as happens after a machine has lost its power."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def tcp(addr: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which nothing has been sent yet."""
    host, _, port = addr.rpartition(":")
    return await asyncio.open_connection(host, int(port))
