"""Lines of standard input for an event loop, as they come."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Final

_CHUNK_BYTES: Final = 1024 * 1024
_CHUNKS_AHEAD: Final = 4
_MAX_LINE_BYTES: Final = 64 * 1024 * 1024  # more than any node takes; without a bound /dev/zero would fill memory


async def stdin_lines() -> AsyncIterator[list[bytes]]:
    """What has arrived on standard input, cut into lines without their ends; several at a time when they come fast.

    A last line without an end counts. A thread reads, at most a few chunks ahead; it is a daemon
    because nothing can wake it from a read, and a Ctrl-C must not wait for one more line.
    Raises OSError when standard input cannot be read or a line is longer than 64 MiB.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    may_read = threading.Semaphore(_CHUNKS_AHEAD)

    def read() -> None:
        while True:
            may_read.acquire()
            try:
                chunk: bytes | OSError = os.read(0, _CHUNK_BYTES)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            except RuntimeError:  # the loop is closed: nobody wants more
                return
            if not isinstance(chunk, bytes) or not chunk:
                return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    unfinished: list[bytes] = []
    unfinished_bytes = 0
    while True:
        chunk = await arrived.get()
        may_read.release()
        if isinstance(chunk, OSError):
            raise chunk
        if not chunk:
            break
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*unfinished, lines[0]))
            unfinished.clear()
            unfinished_bytes = 0
            yield lines
        if rest:
            unfinished.append(rest)
            unfinished_bytes += len(rest)
            if unfinished_bytes > _MAX_LINE_BYTES:
                raise OSError(f"a line of standard input is longer than {_MAX_LINE_BYTES} bytes")
    if unfinished:
        yield [b"".join(unfinished)]
