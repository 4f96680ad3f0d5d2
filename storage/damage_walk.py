"""Walks a segment file past damage: every batch in order, the good ones and those that are not what was written.

A damaged batch whose frame is good has its size, and the next one begins behind it. Where the frame is lost as well,
the walk goes on with the first good batch that it finds. What looks like one in a user's record may be taken for it.
That record is in the damaged batch, which will be written anew as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ourolog.storage.batch import FRAME_BYTES, BatchHead, find_frame, read_frame, read_head, verify
from ourolog.storage.errors import CorruptBatchError, DamagedLogError
from ourolog.storage.files import File
from ourolog.storage.scan import SegmentScan
from ourolog.storage.segment import Segment
from ourolog.storage.types import Index, Position

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of a walk, or what is left of one or more.

    byte_position: where in the file it begins.
    position: its index and offset; of a damaged one the offset may be wrong.
    head: what it says; None if it is damaged.
    damage: what is wrong with it; None if it is good.
    """

    byte_position: int
    position: Position
    head: BatchHead | None
    damage: DamagedLogError | None = None


def walk(file: File, segment: Segment, byte_position: int, position: Position, limit: Index) -> Iterator[Step]:
    """The batches from that boundary on, up to the entry before `limit`; ends where nothing good follows damage."""
    while True:
        scan = SegmentScan(file, segment.size_bytes, byte_position, position)
        for _, head, _path in scan:
            if head.index >= limit:
                return
            yield Step(scan.byte_position, scan.position, head)
        position = scan.position
        if position.index >= limit or (scan.fault is None and scan.byte_position == segment.size_bytes):
            # A file that ends early has lost its last batches.
            if position.index < limit:
                yield _damaged(segment, scan.byte_position, position, f"the file ends before entry {position.index}")
            return
        yield _damaged(segment, scan.byte_position, position, str(scan.fault))
        behind = _behind(file, segment, scan.byte_position, position, limit)
        if behind is None:
            return
        byte_position, position = behind


def _damaged(segment: Segment, at: int, position: Position, reason: str) -> Step:
    error = DamagedLogError(segment.log_path, at, position.index, position.offset, reason)
    return Step(at, position, None, error)


def frame_at(file: File, at: int) -> tuple[int, int] | None:
    """Body size and `synced` by the frame at that byte; None if that is damaged or missing."""
    try:
        return read_frame(file.read(at, FRAME_BYTES))
    except CorruptBatchError:
        return None


def _behind(file: File, segment: Segment, at: int, damaged: Position, limit: Index) -> tuple[int, Position] | None:
    """Where the walk goes on behind the damaged batch at that byte; None if nowhere."""
    following = Index(damaged.index + 1)
    if following >= limit:
        return None
    frame = frame_at(file, at)
    if frame is not None:
        begins_at = at + FRAME_BYTES + frame[0]
        itself, behind = _head_at(file, segment, at), _head_at(file, segment, begins_at)
        if behind is not None and behind.index == following:
            return begins_at, Position(following, behind.base_offset)
        if itself is not None:
            return begins_at, Position(following, itself.end_offset)
    for begins_at in _frames_behind(file, segment, at + 1):
        head = _head_at(file, segment, begins_at, is_good=True)
        if head is not None and damaged.index < head.index < limit:
            return begins_at, Position(head.index, head.base_offset)
    return None


def _frames_behind(file: File, segment: Segment, at: int) -> Iterator[int]:
    """Where in the file, from that byte on, batches may begin."""
    while at < segment.size_bytes:
        chunk = file.read(at, min(_CHUNK_BYTES, segment.size_bytes - at))
        found = -1
        while (found := find_frame(chunk, found + 1)) >= 0:
            yield at + found
        if len(chunk) < FRAME_BYTES:
            return
        at += len(chunk) - FRAME_BYTES + 1


def _head_at(file: File, segment: Segment, at: int, *, is_good: bool = False) -> BatchHead | None:
    """The head of the batch at that byte, as it is read; None if there is none.

    is_good: whether the batch's checksum must hold.
    """
    frame = frame_at(file, at) if at < segment.size_bytes else None
    if frame is None:
        return None
    batch = file.read(at, min(FRAME_BYTES + frame[0], segment.size_bytes - at))
    try:
        head = read_head(batch)
    except CorruptBatchError:
        return None
    return head if head is not None and (not is_good or verify(batch, head)) else None
