"""Hello: the first frame of each side of a connection between nodes.

The caller says which version of the frames it uses, for which lane the connection is, and which peer protocol it
speaks. The listener answers with its own, or with a refusal and a sentence. The hello frame is the same in all
versions: what it says may grow at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from ourolog.rpc.peer.frames import Frame, FrameError, FrameKind
from ourolog.rpc.peer_values import PROTOCOL

MAGIC: Final = int.from_bytes(b"ourolog\0", "big")
VERSION: Final = 1
"""Of the frames. It goes up when an older node could not even tell where one ends."""

_SAID: Final = Struct("!BBI")


class Lane(IntEnum):
    """What a connection is for, so that no urgent call waits behind batches.

    BULK: fetches that want batches.
    URGENT: every other call.
    """

    BULK = 0
    URGENT = 1


@dataclass(frozen=True, slots=True)
class Hello:
    """What one side says first.

    lane: what the connection is for; the listener repeats it.
    protocol: the peer protocol that it speaks.
    version: of the frames that it uses.
    """

    lane: Lane
    protocol: int = PROTOCOL
    version: int = VERSION

    def frame(self) -> Frame:
        return Frame(FrameKind.HELLO, MAGIC, message=_SAID.pack(self.version, self.lane, self.protocol))


def decode_hello(frame: Frame) -> Hello:
    """What the other side says of itself. Raises FrameError if it is no ourolog node."""
    if frame.kind is not FrameKind.HELLO or frame.call_id != MAGIC or len(frame.message) < _SAID.size:
        raise FrameError("it does not begin as a connection between ourolog nodes does")
    version, lane, protocol = _SAID.unpack_from(frame.message)
    try:
        return Hello(Lane(lane), protocol, version)
    except ValueError:
        raise FrameError(f"there is no lane {lane}") from None


def why_not_understood(hello: Hello, node_id: str) -> str:
    """Why the listener refuses a caller that says this, for a person to read; "" if it does not."""
    if hello.version != VERSION:
        return (
            f"the caller uses version {hello.version} of the frames between nodes, {node_id} uses {VERSION}: "
            "run the same version of ourolog on both"
        )
    if hello.protocol != PROTOCOL:
        return (
            f"the caller speaks peer protocol {hello.protocol}, {node_id} speaks {PROTOCOL}: "
            "run the same version of ourolog on both"
        )
    return ""


def answer_to_stranger(first_byte: int) -> bytes:
    """What somebody is told whose first byte no node would send; b"" where no sentence would be understood."""
    return _HTTP_ANSWER if chr(first_byte) in _HTTP_METHODS_BEGIN_WITH else b""


_HTTP_METHODS_BEGIN_WITH: Final = "CDGHOPT"
_HTTP_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
    b"This is where ourolog nodes call each other; clients use the gRPC address of a node.\n"
)
