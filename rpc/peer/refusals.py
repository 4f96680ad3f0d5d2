"""Why a call of another node, or its connection, is refused: a kind for a program and a sentence for a person."""

from __future__ import annotations

from ourolog.rpc.peer.frames import REFUSALS, Frame, FrameKind
from ourolog.rpc.peer_values import clipped


class PeerRefusedError(Exception):
    """A call of another node ends with a refusal.

    kind: one of REFUSALS.
    sentence: why, for a person to read.
    """

    def __init__(self, kind: FrameKind, sentence: str) -> None:
        assert kind in REFUSALS
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence


def refusal_frame(kind: FrameKind, sentence: str, call_id: int = 0) -> Frame:
    """The frame that says so; call_id 0 is about the connection."""
    return Frame(kind, call_id, message=clipped(sentence).encode())


def sentence_of(frame: Frame) -> str:
    """What a refusal says; a peer may have sent anything."""
    return clipped(frame.message.decode(errors="replace"))


def overloaded(sentence: str) -> PeerRefusedError:
    """There is no room for the call now."""
    return PeerRefusedError(FrameKind.OVERLOADED, f"{sentence}; try again shortly")


def invalid(sentence: str) -> PeerRefusedError:
    """The request means nothing."""
    return PeerRefusedError(FrameKind.INVALID, sentence)
