"""One connection: what is sent comes out at the other end, and takes no more memory than it may meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

from ourolog.rpc.fetch_limiter import MIB
from ourolog.rpc.peer.connection import SLICE_BYTES, FrameConnection
from ourolog.rpc.peer.frames import Frame, FrameError, FrameKind
from tests.rpc.peer.certificates import Certificates

MOST = 80 * MIB


class End:
    """One end of a connection: what came there."""

    def __init__(self, **options: Any) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.errors: list[FrameError] = []
        self.lost_with: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.connection = FrameConnection(self, MOST, **options)

    @property
    def transport(self) -> Any:
        return self.connection._transport

    def opened(self) -> None:
        pass

    def received(self, frame: Frame) -> None:
        self.frames.put_nowait(frame)

    def broken(self, error: FrameError) -> None:
        self.errors.append(error)
        self.connection.close()

    def lost(self, why: str) -> None:
        self.lost_with.set_result(why)


@contextlib.asynccontextmanager
async def pair(certificates: Certificates | None = None, **options: Any) -> AsyncIterator[tuple[End, End]]:
    """Both ends of a new connection, over TLS where there are certificates. `options`: of the first."""
    loop = asyncio.get_running_loop()
    one, other = End(**options), End()
    left, right = socket.socketpair()
    for sock in (left, right):
        sock.setblocking(False)
    await asyncio.gather(
        loop.connect_accepted_socket(
            lambda: one.connection, left, ssl=certificates.listener() if certificates else None
        ),
        loop.create_connection(
            lambda: other.connection,
            sock=right,
            ssl=certificates.caller() if certificates else None,
            server_hostname="n2.example" if certificates else None,
        ),
    )
    try:
        yield one, other
    finally:
        for end in (one, other):
            end.connection.abort()
            await end.lost_with


def answer(payload: bytes, call_id: int = 1) -> Frame:
    return Frame(FrameKind.ANSWER, call_id, message=b"m", payload=payload)


async def test_what_is_large_passes_unchanged_with_small_frames_before_and_behind_it() -> None:
    large = os.urandom(16 * MIB)
    async with pair() as (one, other):
        sent = [answer(b"a"), answer(large, 2), Frame(FrameKind.CANCEL, 3), answer(large[:SLICE_BYTES], 4), answer(b"")]
        for frame in sent:
            one.connection.send(frame)
        assert [await other.frames.get() for _ in sent] == sent


async def test_what_is_large_passes_unchanged_over_tls(certificates: Certificates) -> None:
    large = os.urandom(16 * MIB)
    async with pair(certificates) as (one, other):
        taken = asyncio.Event()
        one.connection.send(answer(large), taken.set)
        one.connection.send(answer(b"small", 2))
        assert [(await other.frames.get()).payload for _ in range(2)] == [large, b"small"]
        await taken.wait()
        other.connection.send(answer(large[:-1]))
        assert (await one.frames.get()).payload == large[:-1]


class Transport:
    """A transport that only remembers what it is given."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append


async def test_frames_that_are_sent_together_go_out_in_one_write() -> None:
    async with pair() as (one, _):
        transport, one.connection._transport = one.transport, Transport()  # type: ignore[assignment]
        for call_id in range(100):
            one.connection.send(answer(b"p", call_id))
        await asyncio.sleep(0)
        together = b"".join(answer(b"p", call_id).head_and_message() + b"p" for call_id in range(100))
        assert one.transport.written == [together]
        one.connection._transport = transport


class FullTransport(Transport):
    """A transport whose other end takes nothing, until it is told to."""

    def __init__(self, connection: FrameConnection) -> None:
        super().__init__()
        self._connection = connection
        self.write = self._write  # type: ignore[assignment]

    def _write(self, data: bytes) -> None:
        self.written.append(data)
        self._connection.pause_writing()


async def test_what_is_small_counts_too_until_the_transport_has_taken_it() -> None:
    async with pair() as (one, _):
        transport, one.connection._transport = one.transport, FullTransport(one.connection)  # type: ignore[assignment]
        taken: list[int] = []
        for call_id in range(3):
            one.connection.send(answer(b"p", call_id), lambda call_id=call_id: taken.append(call_id))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(one.transport.written) == 1
        assert taken == []
        one.connection.resume_writing()
        assert taken == [0, 1, 2]
        one.connection.send(answer(b"p", 3), lambda: taken.append(3))
        await asyncio.sleep(0)
        one.connection.send(answer(b"p", 4), lambda: taken.append(4))
        assert taken == [0, 1, 2]
        one.connection._transport = transport
        one.connection.abort()
        await one.lost_with
        assert taken == [0, 1, 2, 3, 4]


async def test_a_large_payload_is_given_to_the_transport_by_the_slice_and_counts_until_it_is_taken() -> None:
    async with pair() as (one, other):
        other.transport.pause_reading()
        taken = asyncio.Event()
        most = 0
        one.connection.send(answer(bytes(16 * MIB)), taken.set)
        one.connection.send(answer(b"next", 2))
        for _ in range(200):
            await asyncio.sleep(0)
            most = max(most, one.transport.get_write_buffer_size())
        assert most <= SLICE_BYTES
        assert one.connection.is_writing
        assert not taken.is_set()
        other.transport.resume_reading()
        await other.frames.get()
        await taken.wait()
        assert (await other.frames.get()).payload == b"next"


async def test_who_does_not_take_its_answers_is_not_read_from_until_it_does() -> None:
    async with pair(reads_while_writing=False) as (one, other):
        other.transport.pause_reading()
        one.connection.send(answer(bytes(16 * MIB)))
        while not one.connection.is_stalled:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        other.connection.send(Frame(FrameKind.REQUEST, 1))
        for _ in range(100):
            await asyncio.sleep(0)
        assert one.frames.empty()
        other.transport.resume_reading()
        assert (await one.frames.get()).kind is FrameKind.REQUEST


async def test_what_is_not_taken_when_the_connection_ends_is_let_go_once_and_so_is_what_comes_later() -> None:
    async with pair() as (one, other):
        other.transport.pause_reading()
        taken: list[int] = []
        for call_id in range(3):
            one.connection.send(answer(bytes(8 * MIB), call_id), lambda call_id=call_id: taken.append(call_id))  # type: ignore[misc]
        for _ in range(20):
            await asyncio.sleep(0)
        assert taken == []
        one.connection.abort("enough")
        assert await one.lost_with == "enough"
        one.connection.send(answer(b"late"), lambda: taken.append(3))
        assert taken == [0, 1, 2, 3]


async def test_closing_waits_until_everything_is_sent_and_hears_nothing_more() -> None:
    async with pair() as (one, other):
        one.connection.send(answer(bytes(4 * MIB)))
        one.connection.close()
        other.connection.send(Frame(FrameKind.CANCEL, 1))
        assert len((await other.frames.get()).payload) == 4 * MIB
        assert await other.lost_with
        assert await one.lost_with == ""
        assert one.frames.empty()


async def test_what_comes_meanwhile_does_not_keep_a_closing_connection_from_sending_the_rest() -> None:
    async with pair(buffer_bytes=1024) as (one, other):
        one.connection.send(answer(bytes(4 * MIB)))
        one.connection.close()
        other.connection.send_raw(b"noise" * 50_000)
        assert len((await other.frames.get()).payload) == 4 * MIB
        assert one.errors == []


async def test_who_closes_the_connection_for_a_frame_is_told_of_none_behind_it() -> None:
    async with pair() as (one, other):
        received: list[Frame] = []

        def close(frame: Frame) -> None:
            received.append(frame)
            one.connection.close()

        one.received = close  # type: ignore[method-assign]
        for call_id in range(3):
            other.connection.send(Frame(FrameKind.CANCEL, call_id))
        await one.lost_with
        assert received == [Frame(FrameKind.CANCEL, 0)]


async def test_what_is_given_up_before_it_is_there_is_not_opened() -> None:
    left, right = socket.socketpair()
    left.setblocking(False)
    given_up, opened = End(), []
    given_up.opened = lambda: opened.append(1)  # type: ignore[method-assign]
    given_up.connection.abort("given up")
    with right:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: given_up.connection, left)
        assert await given_up.lost_with == "given up"
    assert opened == []


async def test_what_is_closed_has_all_the_time_again_to_be_taken() -> None:
    async with pair() as (one, _):
        one.connection.progress_s -= 60.0
        before_s = asyncio.get_running_loop().time()
        one.connection.close()
        assert one.connection.is_stalled
        assert one.connection.progress_s >= before_s


async def test_whether_anything_came_is_known() -> None:
    async with pair() as (one, other):
        before = one.connection.bytes_received
        other.connection.send(Frame(FrameKind.CANCEL, 1))
        await one.frames.get()
        assert one.connection.bytes_received > before


async def test_what_is_no_frame_is_told_once() -> None:
    async with pair() as (one, other):
        other.connection.send_raw(b"GET / HTTP/1.1\r\n")
        await one.lost_with
        assert len(one.errors) == 1
