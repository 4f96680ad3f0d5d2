"""Reads whole batches by index or by offset, and checks each one."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ourolog.storage.batch import FRAME_BYTES, BatchHead, read_frame, read_head, verify
from ourolog.storage.errors import CorruptBatchError, DamagedLogError, DiscontinuousBatchError, OutOfRangeError
from ourolog.storage.failures import busy_when_short
from ourolog.storage.index import IndexEntry
from ourolog.storage.scan import continues
from ourolog.storage.segment import Segment
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.types import Index, Offset, Position

# Enough for every stream that one node serves; each takes two small entries.
_MAX_CURSORS: Final = 1024
_LEAST_WINDOW_BYTES: Final = 4096
_STRETCH_BYTES: Final = 256 * 1024
"""From here on a copy of what is read costs more than to look up where a batch begins."""


@dataclass(frozen=True, slots=True)
class Read:
    """Encoded batches, back to back, and the position after the last one that was passed."""

    batches: bytes
    next: Position


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a read asks for; exactly one of index and offset. `limit` is the first index not to be read."""

    index: Index | None
    offset: Offset | None
    max_bytes: int
    limit: Index

    def is_below(self, head: BatchHead) -> bool:
        """Whether the batch ends before what is wanted begins."""
        if self.index is not None:
            return head.index < self.index
        assert self.offset is not None
        return head.end_offset <= self.offset


@dataclass(frozen=True, slots=True)
class _Place:
    """A batch boundary and where it lies.

    was_read: whether a read ended there; otherwise an index names it.
    """

    segment: Segment
    byte_position: int
    position: Position
    was_read: bool = False


class LogReader:
    """Reads continue where the last one ended without a look-up: tailing costs only the bytes it reads.

    `segments` is the log's own list; the log calls `forget` when any of them is cut or removed.
    """

    def __init__(self, segments: Sequence[Segment], segment_cache: SegmentCache, interval_bytes: int) -> None:
        self._segments = segments
        self._segment_cache = segment_cache
        self._interval_bytes = interval_bytes
        self._by_index: OrderedDict[Index, _Place] = OrderedDict()
        self._by_offset: OrderedDict[Offset, _Place] = OrderedDict()

    def forget(self) -> None:
        self._by_index.clear()
        self._by_offset.clear()
        self._segment_cache.forget()

    def read_from_index(self, index: Index, max_bytes: int, until: Index, end: Position) -> Read:
        """Read as `Log.read_from_index` does.

        end: the end of what is written.
        """
        first = self._segments[0].base.index
        limit = min(until, end.index)
        if not first <= index < limit:
            raise OutOfRangeError(index, first, max(first, limit), "index")
        read = self._read(_Wanted(index, None, max_bytes, limit))
        assert read is not None, "an entry below the end of the log is somewhere"
        return read

    def read_from_offset(self, offset: Offset, max_bytes: int, until: Index, end: Position) -> Read:
        """Read as `Log.read_from_offset` does.

        end: the end of what is written.
        """
        first = self._segments[0].base.offset
        limit = min(until, end.index)
        if first <= offset < end.offset:
            read = self._read(_Wanted(None, offset, max_bytes, limit))
            if read is not None:
                return read
        raise OutOfRangeError(offset, first, self._offset_at(limit, end))

    def _offset_at(self, index: Index, end: Position) -> Offset:
        start = self._segments[0].base
        if index >= end.index or index <= start.index:
            return end.offset if index >= end.index else start.offset
        read = self._read(_Wanted(index, None, 0, Index(index + 1)))
        assert read is not None, "an entry below the end of the log is somewhere"
        head = read_head(read.batches)
        assert head is not None, "reads answer whole batches"
        return head.base_offset

    def _read(self, wanted: _Wanted) -> Read | None:
        """The batches that are wanted; None if they begin at the limit or above."""
        with busy_when_short():
            place = self._remembered(wanted) or self._look_up(wanted)
            try:
                return self._read_at(place, wanted)
            except DamagedLogError:
                # A wrong index looks like damage, but only the index is bad.
                if place.was_read or not self._segment_cache.rebuild_index(place.segment):
                    raise
                return self._read_at(self._look_up(wanted), wanted)

    def _read_at(self, place: _Place, wanted: _Wanted) -> Read | None:
        while True:
            if place.position.index >= wanted.limit:
                return None
            batches, place = self._collect(place, wanted)
            if batches:
                self._remember(place)
                return Read(batches, place.position)
            if place.byte_position >= place.segment.size_bytes and place.position.index < wanted.limit:
                place = self._following(place)

    def _collect(self, place: _Place, wanted: _Wanted) -> tuple[bytes, _Place]:
        """The wanted batches of one segment, from `place` on, and the place after them.

        They are one stretch of the file. It is read at once, and walked from header to header; nothing is copied where
        it is wanted as a whole. Each checksum is computed.
        """
        segment = place.segment
        file = self._segment_cache.file(segment)
        size_bytes = segment.size_bytes
        max_bytes, limit = wanted.max_bytes, wanted.limit
        window_at = place.byte_position
        index, offset = place.position.index, place.position.offset
        window = file.read(window_at, self._window_bytes(place, wanted))
        # Of the window: where the wanted part begins, negative before it has, and how far it was walked.
        begin, at = -1, 0
        try:
            while index < limit and window_at + at < size_bytes:
                head = read_head(window, at)
                if head is None:
                    if begin >= 0:
                        break
                    frame = read_frame(window, at)
                    needed = max(max_bytes, _LEAST_WINDOW_BYTES, FRAME_BYTES + frame[0] if frame else 0)
                    more = file.read(window_at + at, min(needed, size_bytes - window_at - at))
                    if len(more) <= len(window) - at:
                        raise CorruptBatchError("the file ends in the middle of a batch")
                    window_at, window, at = window_at + at, more, 0
                    continue
                if head.index != index or head.base_offset != offset:
                    raise DiscontinuousBatchError(continues(head, Position(index, offset)))
                if begin >= 0 or not wanted.is_below(head):
                    if begin >= 0 and head.end - begin > max_bytes:
                        break
                    if not verify(window, head):
                        raise CorruptBatchError("the batch's checksum does not hold")
                    if begin < 0:
                        begin = at
                index, offset = Index(index + 1), head.end_offset
                at = head.end
        except CorruptBatchError as error:
            # What stands before the damage is good and is returned; the next read meets the damage.
            if begin < 0:
                raise DamagedLogError(segment.log_path, window_at + at, index, offset, str(error)) from error
        batches = window[begin:at] if begin >= 0 else b""
        return batches, _Place(segment, window_at + at, Position(index, offset), was_read=True)

    def _window_bytes(self, place: _Place, wanted: _Wanted) -> int:
        """How much to read at once from `place` on.

        Of a long stretch it is as much as is wanted up to a batch that the index names, so that it need not be cut.
        """
        segment, at = place.segment, place.byte_position
        left_bytes = segment.size_bytes - at
        window_bytes = max(wanted.max_bytes, _LEAST_WINDOW_BYTES)
        if not place.was_read:
            return min(window_bytes + self._interval_bytes, left_bytes)
        if _STRETCH_BYTES <= window_bytes < left_bytes:
            # Where the index is wrong, too little is read or a part too much: the walk sees to either.
            boundary = self._segment_cache.index(segment).floor_position(at + window_bytes)
            if boundary > at:
                return boundary - at
        return min(window_bytes, left_bytes)

    # ------------------------------------------------------------ where to begin

    def _look_up(self, wanted: _Wanted) -> _Place:
        """The last known boundary at or below what is wanted."""
        entry: IndexEntry | None
        if wanted.index is not None:
            segment = self._segments[bisect_right(self._segments, wanted.index, key=_base_index) - 1]
            entry = self._segment_cache.index(segment).floor_index(wanted.index)
        else:
            assert wanted.offset is not None
            segment = self._segments[bisect_right(self._segments, wanted.offset, key=_base_offset) - 1]
            entry = self._segment_cache.index(segment).floor_offset(wanted.offset)
        if entry is None:
            return _Place(segment, 0, segment.base)
        return _Place(segment, entry.position_bytes, Position(entry.index, entry.offset))

    def _following(self, place: _Place) -> _Place:
        at = bisect_right(self._segments, place.segment.base.index, key=_base_index)
        following = self._segments[at]
        if following.base != place.position:
            position = place.position
            reason = f"the next segment is {following.log_path}; entries are missing"
            raise DamagedLogError(place.segment.log_path, place.byte_position, position.index, position.offset, reason)
        return _Place(following, 0, following.base, was_read=True)

    def _remembered(self, wanted: _Wanted) -> _Place | None:
        if wanted.index is not None:
            place = self._by_index.get(wanted.index)
            if place is not None:
                self._by_index.move_to_end(wanted.index)
            return place
        assert wanted.offset is not None
        place = self._by_offset.get(wanted.offset)
        if place is not None:
            self._by_offset.move_to_end(wanted.offset)
        return place

    def _remember(self, place: _Place) -> None:
        self._by_index[place.position.index] = place
        self._by_offset[place.position.offset] = place
        if len(self._by_index) > _MAX_CURSORS:
            self._by_index.popitem(last=False)
        if len(self._by_offset) > _MAX_CURSORS:
            self._by_offset.popitem(last=False)


def _base_index(segment: Segment) -> Index:
    return segment.base.index


def _base_offset(segment: Segment) -> Offset:
    return segment.base.offset
