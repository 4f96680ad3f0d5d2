"""The state of the log at one position, saved so that the time to open a log does not depend on its size.

Two kinds of file hold one: `checkpoint` for some recent position, replaced every few megabytes,
and beside each segment a `.state` for the position where the segment begins. Neither is ever
needed: without them more of the log is scanned. But what they claim must be true, since recovery
treats a log that is shorter than they say as damaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ourolog.storage.checksummed_json import decode, encode
from ourolog.storage.errors import DamagedFileError
from ourolog.storage.files import Files
from ourolog.storage.state import LogState
from ourolog.storage.types import Index, NodeId, Offset, Position

CHECKPOINT_NAME: Final = "checkpoint"
_KIND: Final = "log-checkpoint"
_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log at one position, and where in which segment that position lies.

    position: the position; everything below it was on disk.
    segment: stem of the segment file that holds `position`.
    byte_position: where `position` lies in that file.
    state: the state of everything below `position`.
    committed: a lower bound of the commit position.
    clean: whether the log was closed right there; nothing was written since.
    resetting: whether the log is to be emptied and to begin at `position`; the next opening finishes that.
    """

    position: Position
    segment: str
    byte_position: int
    state: LogState
    committed: Position
    clean: bool = False
    resetting: bool = False

    def encode(self) -> bytes:
        return encode(
            _KIND,
            _VERSION,
            {
                "byte_position": self.byte_position,
                "clean": self.clean,
                "committed": _pair(self.committed),
                "position": _pair(self.position),
                "resetting": self.resetting,
                "segment": self.segment,
                "state": self.state.encode(),
            },
        )


def load_checkpoint(files: Files, path: str, node_id: NodeId) -> Checkpoint | None:
    """The checkpoint in that file; None if there is no file or it cannot be used."""
    try:
        value = decode(_KIND, _VERSION, files.read_all(path), path)
        state = LogState.decode(node_id, value["state"])
        return Checkpoint(
            position=_position(value["position"]),
            segment=str(value["segment"]),
            byte_position=int(value["byte_position"]),
            state=state,
            committed=_position(value["committed"]),
            clean=bool(value["clean"]),
            resetting=bool(value["resetting"]),
        )
    except (FileNotFoundError, DamagedFileError, KeyError, TypeError, ValueError):
        return None


def _pair(position: Position) -> list[int]:
    return [position.index, position.offset]


def _position(pair: Any) -> Position:
    index, offset = pair
    return Position(Index(index), Offset(offset))
