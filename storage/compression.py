"""Zstandard (RFC 8878) with a bound on the size of the output, since the input may come from strangers.

A few kilobytes can decompress to terabytes; the bound is checked as the output grows, and the
size in the header is not believed.
"""

from __future__ import annotations

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
    from compression.zstd import compress as _compress
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
    from backports.zstd import compress as _compress

# RFC 8878 section 3.1.1.1.2 asks every decoder to take windows of 8 MiB; larger ones only serve
# larger outputs, and a window is memory that a frame of a few bytes can ask for.
_LEAST_WINDOW_LOG: Final = 23
_MOST_WINDOW_LOG: Final = 27
# A batch is one frame; some writers make a few. A million empty frames fit into a batch, and each
# costs a decompressor of its own and a copy of what is left.
MAX_FRAMES: Final = 64


class DecompressionError(ValueError):
    """The bytes are not Zstandard, are cut off, or decompress to more than is allowed."""


def compress(data: bytes) -> bytes:
    return _compress(data)


def decompress(data: bytes, max_bytes: int) -> bytes:
    """All frames in `data`, decompressed one after another.

    Raises DecompressionError as soon as more than `max_bytes` would come out, or after MAX_FRAMES.
    """
    window_log = min(max(_LEAST_WINDOW_LOG, max_bytes.bit_length()), _MOST_WINDOW_LOG)
    parts: list[bytes] = []
    room = max_bytes
    rest = data
    for _ in range(MAX_FRAMES):
        decompressor = ZstdDecompressor(options={DecompressionParameter.window_log_max: window_log})
        try:
            # One byte more than there is room for distinguishes a full output from one that goes on.
            part = decompressor.decompress(rest, max_length=room + 1)
            if not decompressor.eof and len(part) <= room:
                # Output that ends exactly at the bound leaves the frame's own end (its checksum) unread.
                part += decompressor.decompress(b"", max_length=room + 1 - len(part))
        except ZstdError as error:
            raise DecompressionError(f"not valid Zstandard: {error}") from error
        if len(part) > room:
            raise DecompressionError(f"unfolds to more than {max_bytes} bytes")
        if not decompressor.eof:
            raise DecompressionError("the Zstandard frame is cut off")
        parts.append(part)
        room -= len(part)
        rest = decompressor.unused_data
        if not rest:
            return b"".join(parts) if len(parts) > 1 else part
    raise DecompressionError(f"is more than {MAX_FRAMES} Zstandard frames; compress it as one")
