"""Walks the batches of a segment file in order, and checks each one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ourolog.storage.batch import (
    FRAME_BYTES,
    BatchHead,
    Kind,
    find_frame,
    path_of,
    payload_of,
    read_frame,
    read_head,
    verify,
)
from ourolog.storage.control import ControlEntry, decode_control
from ourolog.storage.errors import CorruptBatchError, DiscontinuousBatchError
from ourolog.storage.files import File
from ourolog.storage.producers import ProducerBatch, payload_checksum
from ourolog.storage.state import LogState
from ourolog.storage.terms import Place, place_of, why_not_behind
from ourolog.storage.types import Index, NodeId, Position

_CHUNK_BYTES: Final = 1024 * 1024


def continues(head: BatchHead, position: Position) -> str | None:
    """Why the batch cannot stand at `position`, whatever is before it; None if it can."""
    if head.index != position.index:
        return f"entry {position.index} was expected, and entry {head.index} is there"
    if head.base_offset != position.offset:
        return f"offset {position.offset} was expected, and offset {head.base_offset} is there"
    return None


class SegmentScan:
    """Iterates over (buffer, head, path) of each good batch; afterwards `fault` says why it ended early, if it did.

    byte_position and position are those of the present batch; after the last good one, those where it ends.
    """

    def __init__(
        self, file: File, size_bytes: int, byte_position: int, position: Position, last: Place | None = None
    ) -> None:
        """Prepare to walk the batches that begin at `byte_position`.

        last: the place of the entry before `position`, None if it does not matter.
        """
        self.byte_position = byte_position
        self.position = position
        self.fault: CorruptBatchError | None = None
        self._file = file
        self._size_bytes = size_bytes
        self._last = last

    def __iter__(self) -> Iterator[tuple[bytes, BatchHead, tuple[NodeId, ...]]]:
        buffer, at = b"", 0
        try:
            while self.byte_position < self._size_bytes:
                head = read_head(buffer, at)
                if head is None:
                    buffer, at = self._window(buffer, at), 0
                    continue
                if not verify(buffer, head):
                    raise CorruptBatchError("the batch's checksum does not hold")
                path = path_of(buffer, head)
                place = place_of(head.term, path, head.origin_epoch)
                problem = continues(head, self.position) or why_not_behind(self._last, place)
                if problem:
                    raise DiscontinuousBatchError(problem)
                yield buffer, head, path
                at = head.end
                self.byte_position += head.end - head.start
                self.position = Position(Index(head.index + 1), head.end_offset)
                self._last = place
        except CorruptBatchError as fault:
            self.fault = fault

    def _window(self, buffer: bytes, at: int) -> bytes:
        """The bytes from the present batch on, at least one whole batch if the file has it."""
        frame = read_frame(buffer, at)
        wanted = max(_CHUNK_BYTES, FRAME_BYTES + frame[0] if frame else 0)
        window = self._file.read(self.byte_position, min(wanted, self._size_bytes - self.byte_position))
        if len(window) <= len(buffer) - at:
            raise CorruptBatchError("the file ends in the middle of a batch")
        return window


def control_in(buffer: bytes, head: BatchHead) -> ControlEntry | None:
    """What the batch at `head` says of the cluster; None if it is no control batch, or of newer software.

    Raises ValueError for a control batch that no node writes.
    """
    return decode_control(payload_of(buffer, head)) if head.kind is Kind.CONTROL else None


def observe(state: LogState, buffer: bytes, head: BatchHead, path: tuple[NodeId, ...]) -> None:
    """Move the state on past the batch at `head` of the buffer, which now stands in the log."""
    state.observe(
        head.index,
        head.term,
        path,
        head.origin_epoch,
        head.origin_sequence,
        head.source_epoch,
        head.source_index,
        head.timestamp_ms,
        control_in(buffer, head),
        head.producer_id,
        _produced(buffer, head) if head.producer_id else None,
    )


def _produced(buffer: bytes, head: BatchHead) -> ProducerBatch | None:
    """What is remembered of a batch that a producer numbered; None if it is no batch of records."""
    if head.kind is not Kind.DATA:
        return None
    checksum = payload_checksum(payload_of(buffer, head))
    return ProducerBatch(head.producer_sequence, head.record_count, head.index, head.base_offset, checksum)


def was_synced_beyond(rest: bytes, position_bytes: int) -> bool:
    """Whether a frame in `rest`, the file from `position_bytes` on, says that this point was on disk.

    If so, the bad batch at the start of `rest` is damage and no torn write. A frame counts by its own
    checksum; its body may be cut off. The bodies of good frames are skipped: what looks like a
    frame in there is a user's data. (Where the bad batch has lost its own frame, its payload is
    searched; a payload that is itself a piece of a log can then make a torn write look like
    damage, which is the safe way to be wrong.)
    """
    at = 0
    while (at := find_frame(rest, at)) >= 0:
        try:
            frame = read_frame(rest, at)
        except CorruptBatchError:
            at += 1
            continue
        if frame is None:
            return False
        body_size, synced = frame
        if position_bytes < synced <= position_bytes + at:
            return True
        at += FRAME_BYTES + body_size
    return False
