"""What nodes are compared with: handlers that do nothing, and a file that is only appended to.

`python -m bench.baseline` serves the Log service with empty handlers, prints its port, and ends
when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from bench.nodes import Nodes
from bench.rounds import Done, Span
from ourolog.child_processes import child_environment, python_command
from ourolog.rpc.channels import open_channel
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

_STOP_TIMEOUT_S: Final = 5.0
Context = grpc.aio.ServicerContext[Any, Any]


class EmptyLog(pb_grpc.LogServicer):
    """A Log service that answers without looking at the request."""

    async def Produce(self, request: pb.ProduceRequest, context: Context) -> pb.ProduceResponse:  # noqa: ARG002, N802
        return pb.ProduceResponse(offset=1)

    async def ProduceStream(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ProduceRequest], context: Context
    ) -> None:
        async for _ in request_iterator:
            await context.write(pb.ProduceResponse(offset=1))

    async def ProduceBatchStream(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ProduceBatchRequest], context: Context
    ) -> None:
        async for request in request_iterator:
            await context.write(pb.ProduceBatchResponse(base_offset=1, record_count=request.record_count))


@contextlib.asynccontextmanager
async def empty_server() -> AsyncIterator[Nodes]:
    """An EmptyLog in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *python_command("-m", "bench.baseline"),
        env=child_environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        addr = f"127.0.0.1:{int(await process.stdout.readline())}"
        async with open_channel(addr) as channel:
            yield Nodes(addr, pb_grpc.LogStub(channel), (process.pid,))
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    port = server.add_insecure_port("127.0.0.1:0")
    pb_grpc.add_LogServicer_to_server(EmptyLog(), server)  # type: ignore[abstract]  # only what is measured
    await server.start()
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def watch() -> None:
        os.read(0, 1)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=watch, daemon=True).start()
    await ended.wait()
    await server.stop(None)


class SyncedAppends:
    """A file to which `size_bytes` are appended at a time, with an fdatasync after each: what the disk alone can do."""

    def __init__(self, path: str, size_bytes: int, records: int) -> None:
        self._path = path
        self._block = os.urandom(size_bytes)
        self._records = records

    async def __call__(self, span: Span) -> Done:
        """Counts the records that would fit."""
        return Done(await asyncio.to_thread(self._append, span) * self._records)

    def _append(self, span: Span) -> int:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        count = 0
        end_s = time.perf_counter() + span.seconds
        most = max(1, span.size_bytes // len(self._block))
        try:
            while count < most and time.perf_counter() < end_s:
                os.pwrite(fd, self._block, count * len(self._block))
                os.fdatasync(fd)
                count += 1
        finally:
            os.close(fd)
            os.unlink(self._path)
        return count


if __name__ == "__main__":
    asyncio.run(_serve())
