"""Repair in place: a batch of a segment file that is damaged is replaced by the same batch from another replica.

Two logs that have an entry of the same place (term and writer) at an index have the same bytes there (Raft section
5.3, log matching), so what another replica sends can be checked before it is written: it is one whole batch, its
checksum is right, it is the entry that was looked for, and it fits where the damaged one lies. Nothing but the bytes
of that one batch is written, and they are on disk before anybody hears of it. A crash on the way leaves damage where
damage was; a failed sync leaves a note, by which the next process writes them again (`ourolog.storage.repair_note`).

Where a batch lies is not taken from the sparse index, which may be what is damaged: the segment is walked from its
beginning, or from behind the batch that was repaired last.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ourolog.storage.batch import (
    FRAME_BYTES,
    BatchHead,
    encode_frame,
    find_frame,
    path_of,
    read_head,
    verify,
)
from ourolog.storage.batch_limits import impossible
from ourolog.storage.damage_walk import frame_at, walk
from ourolog.storage.errors import CorruptBatchError, DamagedLogError, StorageFailedError, UnfitBatchError
from ourolog.storage.files import File, Files
from ourolog.storage.repair_note import RepairNote
from ourolog.storage.scan import continues
from ourolog.storage.segment import Segment
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.terms import Place, place_of
from ourolog.storage.types import Index, Position

_CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Repaired:
    """A batch that was replaced and is on disk.

    path: the segment file.
    position_bytes: where in it the batch begins.
    size_bytes: how large the batch is, its frame included.
    next: the position after it.
    """

    path: str
    position_bytes: int
    size_bytes: int
    next: Position


@dataclass(frozen=True, slots=True)
class _Boundary:
    """Where a batch begins, known by walking the file up to there."""

    segment: Segment
    byte_position: int
    position: Position


class Repairs:
    """Finds damage and repairs it. `segments` is the log's own list; it calls `forget` when any is cut or removed."""

    def __init__(self, files: Files, segments: Sequence[Segment], segment_cache: SegmentCache) -> None:
        self._files = files
        self._note = RepairNote(files, segments[0].directory)
        self._segments = segments
        self._segment_cache = segment_cache
        self._behind: _Boundary | None = None

    def forget(self) -> None:
        """Forget where the last repair ended."""
        self._behind = None

    def damage_at(self, index: Index) -> DamagedLogError | None:
        """What is damaged where a read met damage at that entry: the entry, or else the last damaged one before it.

        None if there is no damage in its segment up to that entry. Where a batch that is damaged has lost its frame,
        and nothing good follows up to that entry, it is that batch.
        """
        boundary, damage = self._walk(index)
        if damage is not None and boundary is not None:
            self._behind = None  # it would hide the damage
        return damage

    def _walk(self, index: Index) -> tuple[_Boundary | None, DamagedLogError | None]:
        """Walk to the entry at `index`: where it begins, None if it is not good, and the last damage up to there."""
        segment = self._segment_of(index)
        start = self._behind
        if start is None or start.segment is not segment or start.position.index > index:
            start = _Boundary(segment, 0, segment.base)
        damage: DamagedLogError | None = None
        file = self._segment_cache.file(segment)
        for step in walk(file, segment, start.byte_position, start.position, Index(index + 1)):
            if step.damage is None and step.position.index == index:
                return _Boundary(segment, step.byte_position, step.position), damage
            damage = step.damage or damage
        return None, damage

    def repair(self, index: Index, blob: bytes, place: Place | None) -> Repaired | None:
        """Replace the damaged batch of the entry at `index` by `blob`, on disk before this returns.

        None if that entry is good: nothing was written then. Raises UnfitBatchError for a batch that is not the one
        that is damaged, DamagedLogError for damage before it without which its place cannot be found, OSError, and
        StorageFailedError where what was written is not read again.

        blob: the batch as it stands in another replica's log, with any frame.
        place: of that entry here; what comes must have the same one.
        """
        segment = self._segment_of(index)
        boundary, damage = self._walk(index)
        if boundary is not None:
            return None
        assert damage is not None, "an entry of the log is good or damaged"
        if damage.index != index:
            raise damage
        position = Position(damage.index, damage.offset)
        at = damage.position_bytes
        head = _checked(blob, position, place)
        end, after = at + head.size_bytes, Position(Index(index + 1), head.end_offset)
        body = blob[head.start + FRAME_BYTES : head.end]
        file = self._segment_cache.file(segment)
        old = frame_at(file, at)
        # What lies before it is on disk, whatever the frame that was lost said.
        batch = encode_frame(len(body), old[1] if old is not None else at) + body
        self._check_fit(segment, file, at, end, after, old, batch)
        self._write(segment, at, batch)
        segment.size_bytes = max(segment.size_bytes, end)
        segment.synced_bytes = max(segment.synced_bytes, end)
        self._behind = _Boundary(segment, end, after)
        return Repaired(segment.log_path, at, head.size_bytes, after)

    # ------------------------------------------------------------ whether it fits

    def _check_fit(
        self,
        segment: Segment,
        file: File,
        at: int,
        end: int,
        after: Position,
        old: tuple[int, int] | None,
        batch: bytes,
    ) -> None:
        """Raises UnfitBatchError where the batch would not lie exactly where the damaged one does."""
        if old is not None and FRAME_BYTES + old[0] != len(batch):
            raise UnfitBatchError(f"it has {len(batch)} bytes, and the damaged batch has {FRAME_BYTES + old[0]}")
        following = self._following(segment)
        if following is None:
            if end > segment.synced_bytes:
                raise UnfitBatchError("it reaches beyond what is on disk")
        elif after.index > following.base.index or (after.index == following.base.index) != (after == following.base):
            raise UnfitBatchError(f"it ends at {after}, and {following.log_path} follows")
        elif after == following.base and end < segment.size_bytes:
            raise UnfitBatchError(f"it is the last one of its file and ends {segment.size_bytes - end} bytes before it")
        good = _first_good(file, segment, at, after.index, batch)
        if good is not None:
            raise UnfitBatchError(f"it ends at byte {end}, and a good batch begins at byte {good}")

    def _following(self, segment: Segment) -> Segment | None:
        at = bisect_right(self._segments, segment.base.index, key=_base_index)
        return self._segments[at] if at < len(self._segments) else None

    def _segment_of(self, index: Index) -> Segment:
        return self._segments[bisect_right(self._segments, index, key=_base_index) - 1]

    # ------------------------------------------------------------ writing

    def _write(self, segment: Segment, at: int, batch: bytes) -> None:
        file = segment.file or self._files.open(segment.log_path)
        try:
            size_bytes = file.size()
            there = max(0, min(len(batch), size_bytes - at))
            self._note.begin(segment.stem, at, len(batch))
            if there:
                file.overwrite(at, [batch[:there]])
            if there < len(batch):
                file.append([batch[there:]])
            file.sync()
            self._note.end()
            written = file.read(at, len(batch))
        finally:
            if file is not segment.file:
                file.close()
        if written != batch:
            raise StorageFailedError(
                f"{segment.log_path} does not hold at byte {at} what was written there to repair it: the disk cannot "
                "be relied on. Replace it, and let the node copy the log from its peers"
            )


def _checked(blob: bytes, position: Position, place: Place | None) -> BatchHead:
    """The head of the one batch in `blob`. Raises UnfitBatchError where it is not the one that belongs there."""
    try:
        head = read_head(blob)
        if head is None or head.end != len(blob):
            raise UnfitBatchError(f"{len(blob)} bytes are not one batch")
        if not verify(blob, head):
            raise UnfitBatchError("the batch's checksum does not hold")
        path = path_of(blob, head)
    except CorruptBatchError as error:
        raise UnfitBatchError(str(error)) from error
    problem = continues(head, position) or impossible(head, path)
    if problem is None and place_of(head.term, path, head.origin_epoch) != place:
        problem = f"entry {position.index} was made by another node, or in another term"
    if problem is not None:
        raise UnfitBatchError(problem)
    return head


def _first_good(file: File, segment: Segment, at: int, next_index: Index, batch: bytes) -> int | None:
    """Where in the bytes that are to be replaced a good batch of this log begins; None if there is none.

    What a user has written may look like a batch. That is in the batch which comes, too, at the same byte.
    """
    there = file.read(at, min(len(batch) + _CHUNK_BYTES, segment.size_bytes - at))
    found = 0
    while 0 <= (found := find_frame(there, found + 1)) < len(batch):
        try:
            head = read_head(there, found)
        except CorruptBatchError:
            continue
        is_good = head is not None and head.index >= next_index and verify(there, head)
        if head is not None and is_good and batch[found : head.end] != there[found : head.end]:
            return at + found
    return None


def _base_index(segment: Segment) -> Index:
    return segment.base.index
