"""A connection that another node has opened to this one, and the calls that are open on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from ourolog.rpc.peer.connection import FrameConnection
from ourolog.rpc.peer.frames import Frame, FrameError, FrameKind, NotAFrameError
from ourolog.rpc.peer.hello import Hello, Lane, answer_to_stranger, decode_hello, why_not_understood
from ourolog.rpc.peer.refusals import PeerRefusedError, refusal_frame
from ourolog.rpc.peer_codec import CODEC_BY_NUMBER, PeerCodec

MAX_REQUEST_BYTES: Final = 64 * 1024
"""A request is a few hundred bytes; names from flags can make it some 30 KiB."""

_BUFFER_BYTES: Final = 4 * 1024

_LOG: Final = logging.getLogger(__name__)


class ServedCall:
    """One open call.

    codec: which call it is.
    request: its message, as it came.
    lane: of the connection that it came by.
    client: the name of that connection.
    """

    def __init__(
        self, connection: FrameConnection, call_id: int, codec: PeerCodec, request: bytes, lane: Lane, client: str
    ) -> None:
        self.codec = codec
        self.request = request
        self.lane = lane
        self.client = client
        self._connection = connection
        self._call_id = call_id

    def encode(self, response: Any) -> Frame:
        """The answer of an actor as a frame."""
        message, payload = self.codec.answer_to_wire(response)
        return Frame(FrameKind.ANSWER, self._call_id, message=message, payload=payload)

    def send(self, answer: Frame, taken: Callable[[], None] | None = None) -> None:
        """Send the answer, which ends the call.

        taken: called once it no longer takes memory here, or the connection is lost.
        """
        self._connection.send(answer, taken)


class PeerCalls(Protocol):
    """Who answers calls."""

    @property
    def node_id(self) -> str:
        """The name of this node."""

    def take(self, lane: Lane, client: str) -> None:
        """A call of that connection begins. Raises PeerRefusedError when there are too many; then it does not."""

    def release(self, lane: Lane, client: str) -> None:
        """It has ended."""

    async def answer(self, call: ServedCall) -> None:
        """Answer it. Raises PeerRefusedError."""


class ServedConnection:
    """One connection, from its acceptance to its end. Calls are answered in any order.

    host: the address of the machine that it comes from.
    client: its name, unique among those that are open.
    lane: what it is for; None while the other side has not said hello.
    accepted_s: when it was accepted, by the loop's clock.
    used_s: when a call last ended on it; when it was accepted, before that.
    """

    def __init__(self, calls: PeerCalls, host: str, client: str, on_gone: Callable[[ServedConnection], None]) -> None:
        self.host = host
        self.client = client
        self.lane: Lane | None = None
        self._loop = asyncio.get_running_loop()
        self.accepted_s = self.used_s = self._loop.time()
        self.connection = FrameConnection(
            self, MAX_REQUEST_BYTES, buffer_bytes=_BUFFER_BYTES, reads_while_writing=False
        )
        self._calls = calls
        self._on_gone = on_gone
        self._open: dict[int, asyncio.Task[None]] = {}
        self._frame_began_s = 0.0
        self._frames_before = -1

    @property
    def is_idle(self) -> bool:
        """Whether no call is open on it, and no answer is on its way."""
        return not self._open and not self.connection.is_writing

    def begun_s(self, now_s: float) -> float:
        """For how long it has been seen to have begun a frame that is not complete, in seconds.

        To be called now and then; the beginning is noticed by that.
        """
        if not self.connection.has_begun_frame:
            return 0.0
        if self.connection.frames_received != self._frames_before:
            self._frame_began_s = now_s
            self._frames_before = self.connection.frames_received
        return now_s - self._frame_began_s

    def refuse(self, kind: FrameKind, sentence: str) -> None:
        """Say why the connection is not served, and close it."""
        self.connection.send(refusal_frame(kind, sentence))
        self.connection.close()

    # ------------------------------------------------------------ FrameHandler

    def opened(self) -> None:
        pass

    def received(self, frame: Frame) -> None:
        try:
            if self.lane is None:
                self._welcome(decode_hello(frame))
            elif frame.kind is FrameKind.REQUEST:
                self._begin(frame)
            elif frame.kind is FrameKind.CANCEL:
                self._cancel(frame.call_id)
            else:
                raise FrameError(f"a {frame.kind.name} is no request")
        except FrameError as error:
            self.broken(error)

    def broken(self, error: FrameError) -> None:
        if self.lane is None and isinstance(error, NotAFrameError):
            self.connection.send_raw(answer_to_stranger(error.first_byte))
            self.connection.close()
        else:
            self.refuse(FrameKind.INVALID, f"this connection is not served: {error}")

    def lost(self, why: str) -> None:  # noqa: ARG002
        for task in self._open.values():
            task.cancel()
        self._on_gone(self)

    # ------------------------------------------------------------ calls

    def _welcome(self, hello: Hello) -> None:
        if problem := why_not_understood(hello, self._calls.node_id):
            self.refuse(FrameKind.DECLINED, problem)
            return
        self.lane = hello.lane
        self.connection.send(Hello(hello.lane).frame())

    def _begin(self, frame: Frame) -> None:
        assert self.lane is not None
        call_id = frame.call_id
        if call_id == 0 or call_id in self._open or frame.payload:
            raise FrameError("a call has a number of its own above 0, and no payload")
        codec = CODEC_BY_NUMBER.get(frame.method)
        try:
            if codec is None:
                unknown = (
                    f"{self._calls.node_id} does not know call {frame.method}: it is of another version of ourolog"
                )
                raise PeerRefusedError(FrameKind.UNKNOWN_CALL, unknown)
            self._calls.take(self.lane, self.client)
        except PeerRefusedError as error:
            self.connection.send(refusal_frame(error.kind, error.sentence, call_id))
            return
        call = ServedCall(self.connection, call_id, codec, frame.message, self.lane, self.client)
        task = asyncio.create_task(self._answer(call, call_id))
        self._open[call_id] = task
        task.add_done_callback(lambda _: self._ended(call_id))

    async def _answer(self, call: ServedCall, call_id: int) -> None:
        try:
            await self._calls.answer(call)
        except PeerRefusedError as error:
            refused = refusal_frame(error.kind, error.sentence, call_id)
        except Exception:
            _LOG.exception("a call of another node failed in a way that was not foreseen; this is a bug")
            sentence = "this node failed at answering, by a bug; its log has more"
            refused = refusal_frame(FrameKind.BROKEN, sentence, call_id)
        else:
            return
        self.connection.send(refused)

    def _cancel(self, call_id: int) -> None:
        task = self._open.get(call_id)
        if task is not None:
            task.cancel()

    def _ended(self, call_id: int) -> None:
        assert self.lane is not None
        del self._open[call_id]
        self.used_s = self._loop.time()
        self._calls.release(self.lane, self.client)
