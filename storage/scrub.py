"""The scrub: reads the log from beginning to end, a bit at a time, and checks all that lies on disk.

Rot shows when bytes are read, and most of a log is read by nobody for months: by then the other copies may have gone,
too. So each batch is read now and then, good or damaged, and compared with where it should stand. The walk is through
the segment files themselves. The sparse index is one of the things that are checked, and is not relied on; it and the
`.state` file of a segment can be made again from the segments, and are. What is not on disk yet is left alone.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from ourolog.storage.checkpoint import Checkpoint, load_checkpoint
from ourolog.storage.damage_walk import walk
from ourolog.storage.errors import DamagedLogError
from ourolog.storage.files import Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.recovery import best_checkpoint, replay
from ourolog.storage.segment import Segment
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.types import Index, NodeId, Position


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What one step of the scrub has read and found.

    read_bytes: how much of the segment files was read.
    damages: the damaged batches that it met.
    rebuilt: what was wrong with an index or a state file, which is right again; a sentence for each.
    lost: the same for what cannot be made again.
    is_complete: whether the end of the log was reached; the next step begins at its beginning.
    """

    read_bytes: int
    damages: tuple[DamagedLogError, ...] = ()
    rebuilt: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    is_complete: bool = False


@dataclass(slots=True)
class _Reading:
    """The segment that is being read, and how far.

    base: where the segment begins.
    byte_position, position: the next batch.
    index: what its index file holds, None where it is not to be checked.
    index_bytes: how large that file is.
    matched: how many entries of that were found to be right.
    is_good: whether no damage was met in it.
    """

    base: Position
    byte_position: int
    position: Position
    index: SparseIndex | None = None
    index_bytes: int = 0
    matched: int = 0
    is_good: bool = True


class LogScrub:
    """Walks one log again and again. `segments` is the log's own list."""

    def __init__(
        self,
        files: Files,
        segments: list[Segment],
        segment_cache: SegmentCache,
        node_id: NodeId,
        interval_bytes: int,
    ) -> None:
        self._files = files
        self._segments = segments
        self._segment_cache = segment_cache
        self._node_id = node_id
        self._interval_bytes = interval_bytes
        self._reading: _Reading | None = None

    @property
    def position(self) -> Position:
        """The next entry that will be read."""
        return self._reading.position if self._reading is not None else self._segments[0].base

    def begin_at(self, segment_number: int) -> None:
        """Begin with that one of the segments, counted from 0: who is started often shall not read the same always."""
        base = self._segments[segment_number].base
        self._reading = _Reading(base, 0, base)

    def step(self, max_bytes: int, synced: Position) -> Scrubbed:
        """Read on: about max_bytes of one segment, one batch at least.

        synced: below it everything is on disk.
        Raises OSError.
        """
        segment, reading = self._present()
        rebuilt: list[str] = []
        lost: list[str] = []
        if reading.byte_position == 0:
            self._load_index(segment, reading)
            self._check_state(segment, rebuilt, lost)
        damages: list[DamagedLogError] = []
        began_at = reading.byte_position
        file = self._segment_cache.file(segment)
        for step in walk(file, segment, began_at, reading.position, synced.index):
            reading.byte_position, reading.position = step.byte_position, step.position
            if step.byte_position - began_at >= max_bytes:
                return Scrubbed(step.byte_position - began_at, tuple(damages), tuple(rebuilt), tuple(lost))
            if step.damage is not None:
                following = self._following(segment)
                if following is None or step.position.index < following.base.index:
                    damages.append(step.damage)
                    reading.is_good = False
            elif step.head is not None:
                end = step.byte_position + step.head.size_bytes
                reading.matched += self._is_indexed(reading.index, step.byte_position, step.position)
                reading.byte_position = end
                reading.position = Position(Index(step.head.index + 1), step.head.end_offset)
        if reading.is_good:
            self._check_index(segment, reading, rebuilt)
        read_bytes = max(0, segment.size_bytes - began_at)
        following = self._following(segment)
        self._reading = _Reading(following.base, 0, following.base) if following is not None else None
        return Scrubbed(read_bytes, tuple(damages), tuple(rebuilt), tuple(lost), is_complete=following is None)

    def _present(self) -> tuple[Segment, _Reading]:
        """The segment to go on with; another one where that was removed or cut."""
        reading = self._reading
        if reading is not None:
            at = bisect_left(self._segments, reading.base, key=_base)
            if at < len(self._segments):
                segment = self._segments[at]
                if segment.base == reading.base and reading.byte_position <= segment.size_bytes:
                    return segment, reading
                self._reading = _Reading(segment.base, 0, segment.base)
                return segment, self._reading
        segment = self._segments[0]
        self._reading = _Reading(segment.base, 0, segment.base)
        return segment, self._reading

    def _following(self, segment: Segment) -> Segment | None:
        at = self._segments.index(segment) + 1
        return self._segments[at] if at < len(self._segments) else None

    # ------------------------------------------------------------ the files beside a segment

    def _load_index(self, segment: Segment, reading: _Reading) -> None:
        if segment is self._segments[-1]:
            return  # it is written to
        try:
            content = self._files.read_all(segment.index_path)
        except FileNotFoundError:
            content = b""
        reading.index = SparseIndex.decode(content, segment.base, self._interval_bytes)
        reading.index_bytes = len(content)

    def _is_indexed(self, index: SparseIndex | None, byte_position: int, position: Position) -> bool:
        entry = index.floor_index(position.index) if index is not None else None
        return entry is not None and entry[:3] == (byte_position, position.index, position.offset)

    def _check_index(self, segment: Segment, reading: _Reading, rebuilt: list[str]) -> None:
        index = reading.index
        if index is None or segment is self._segments[-1]:
            return
        is_damaged = index.file_bytes < reading.index_bytes or reading.matched != len(index)
        if is_damaged or index.covered_to != segment.size_bytes:
            self._segment_cache.replace_index(segment)
        if is_damaged:  # otherwise a crash has left less of it than there was
            rebuilt.append(f"{segment.index_path} was damaged, and was made again from its segment")

    def _check_state(self, segment: Segment, rebuilt: list[str], lost: list[str]) -> None:
        """Check what is noted of the log before the segment."""
        at = self._segments.index(segment)
        if not self._files.exists(segment.state_path):
            return  # the log begins there, or a crash came in between; what is before is read instead
        state = load_checkpoint(self._files, segment.state_path, self._node_id)
        if state is not None and state.position == segment.base and state.segment == segment.stem:
            return
        if at == 0:
            lost.append(
                f"{segment.state_path} is damaged, and what it says of the entries before the log's start is nowhere "
                "else but in the checkpoint; it is not needed as long as that is good"
            )
            return
        before = self._segments[:at]
        try:
            start = best_checkpoint(self._files, before, self._node_id, None)
            replayed = replay(self._files, before, start, segment.base.index)
        except DamagedLogError:
            return  # once that is repaired, the next round makes it again
        made = Checkpoint(segment.base, segment.stem, 0, replayed.state, self._segments[0].base)
        self._files.replace(segment.state_path, made.encode())
        rebuilt.append(f"{segment.state_path} was damaged, and was made again from the segments before it")


def _base(segment: Segment) -> Position:
    return segment.base
