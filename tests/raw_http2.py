"""HTTP/2 by hand (RFC 9113, RFC 7541): what no well-behaved gRPC client would send."""

from __future__ import annotations

import struct

MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def preface(*settings: tuple[int, int]) -> bytes:
    """What every connection begins with."""
    return MAGIC + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *setting) for setting in settings))


def headers(stream_id: int, path: bytes, *, end_stream: bool = False) -> bytes:
    """A gRPC call's header block; every field a literal that is not indexed, no Huffman code."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"node"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)
    return frame(HEADERS, END_HEADERS | (END_STREAM if end_stream else 0), stream_id, block)


def message(stream_id: int, payload: bytes, *, end_stream: bool = True) -> bytes:
    """One gRPC message, uncompressed, in one DATA frame."""
    return frame(DATA, END_STREAM if end_stream else 0, stream_id, struct.pack(">BI", 0, len(payload)) + payload)


def call(path: bytes, payload: bytes = b"", *settings: tuple[int, int]) -> bytes:
    """A whole connection with one unary call on stream 1."""
    return preface(*settings) + headers(1, path) + message(1, payload)


def calls(path: bytes, payload: bytes, count: int, *settings: tuple[int, int]) -> bytes:
    """The same with so many calls."""
    streams = range(1, 2 * count, 2)
    return preface(*settings) + b"".join(headers(stream, path) + message(stream, payload) for stream in streams)


def _text(text: bytes) -> bytes:
    assert len(text) < 127, "a length of one byte"
    return bytes([len(text)]) + text
