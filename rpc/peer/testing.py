"""What tests and villains share: both ends of a connection between nodes, which send whatever they are told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from google.protobuf.message import Message

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.peer_calls import PeerRequest
from ourolog.rpc.peer.frames import Frame, FrameError, FrameKind, FrameReader
from ourolog.rpc.peer.hello import Hello, Lane
from ourolog.rpc.peer.refusals import sentence_of
from ourolog.rpc.peer_codec import CODECS
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES

_READ_BYTES: Final = 64 * 1024


async def frames_of(reader: asyncio.StreamReader) -> AsyncIterator[Frame]:
    """The frames that come, until the connection ends. Raises FrameError."""
    frames = FrameReader(MAX_MESSAGE_BYTES)
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            left = memoryview(data)
            while left:
                room = frames.get_buffer()
                count = min(len(room), len(left))
                room[:count] = left[:count]
                left = left[count:]
                for frame in frames.received(count):
                    yield frame
                if frames.error is not None:
                    raise frames.error


class FrameClient:
    """A caller that sends what it is told to.

    ended: done once the other side has closed the connection; its result is what it said about that, "" if nothing.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._open: dict[int, asyncio.Future[Frame]] = {}
        self._last_id = 0
        self._reading = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(
        cls, addr: str, lane: Lane = Lane.URGENT, *, hello: bool = True, ssl_context: ssl.SSLContext | None = None
    ) -> FrameClient:
        """A new connection. Raises OSError.

        hello: whether it says hello by itself.
        """
        client = cls(*await asyncio.open_connection(*split_address(addr), ssl=ssl_context))
        if hello:
            client.send(Hello(lane).frame())
        return client

    def send(self, frame: Frame) -> None:
        if self.writer.transport.is_closing():
            return
        self.writer.write(frame.head_and_message())
        self.writer.write(frame.payload)

    def call(self, kind: type[PeerRequest[Any]], message: Message | bytes) -> asyncio.Future[Frame]:
        """Begin a call. The future has its answer or refusal; of a connection that ended, a refusal UNAVAILABLE."""
        self._last_id += 1
        return self.request(self._last_id, CODECS[kind].number, message)

    def request(self, call_id: int, method: int, message: Message | bytes) -> asyncio.Future[Frame]:
        """Begin a call of that number and method, which need not exist."""
        raw = message if isinstance(message, bytes) else message.SerializeToString()
        future: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        if self.ended.done():
            future.set_result(Frame(FrameKind.UNAVAILABLE))
            return future
        self._open[call_id] = future
        self.send(Frame(FrameKind.REQUEST, call_id, method, raw))
        return future

    def cancel(self, call_id: int) -> None:
        self.send(Frame(FrameKind.CANCEL, call_id))

    def stop_reading(self) -> None:
        """Take nothing more of what is sent."""
        self._reading.cancel()
        transport: Any = self.writer.transport
        transport.pause_reading()

    def vanish(self) -> None:
        """Be gone at once (RST)."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self._reading.cancel()
        self.vanish()
        await asyncio.wait((self._reading,))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        said = ""
        try:
            async for frame in frames_of(reader):
                if frame.kind is FrameKind.HELLO:
                    continue
                if frame.call_id == 0:
                    said = sentence_of(frame)
                    for future in self._take_all():
                        future.set_result(frame)
                elif frame.call_id in self._open:
                    future = self._open.pop(frame.call_id)
                    if not future.done():
                        future.set_result(frame)
        except FrameError as error:
            said = str(error)
        finally:
            if not self.ended.done():
                self.ended.set_result(said)
            for future in self._take_all():
                future.set_result(Frame(FrameKind.UNAVAILABLE))

    def _take_all(self) -> list[asyncio.Future[Frame]]:
        taken, self._open = self._open, {}
        return [future for future in taken.values() if not future.done()]


Script = Callable[[Frame], "Frame | None"]
"""What a node of another kind answers to a request; None for nothing."""


@contextlib.asynccontextmanager
async def scripted_peer(script: Script, hello: Callable[[Frame], Frame] = lambda said: said) -> AsyncIterator[str]:
    """HOST:PORT of somebody who answers each request with `script`.

    hello: the answer to a hello; without more the same.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(FrameError, OSError, asyncio.CancelledError):
            async for frame in frames_of(reader):
                answer = hello(frame) if frame.kind is FrameKind.HELLO else script(frame)
                if answer is not None:
                    writer.write(answer.head_and_message() + answer.payload)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
