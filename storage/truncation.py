"""Cutting entries off the end of a log.

The order matters: before any entry is removed, nothing may claim any more that it is on disk. So the
checkpoint is lowered first (by the log), then the index of the segment that is cut is removed, then
the segments above, the highest first and each on disk before the next, and the cut itself comes last.
A crash in between leaves the log longer than asked, never with a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from ourolog.storage.checkpoint import Checkpoint
from ourolog.storage.files import Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.recovery import Replayed, best_checkpoint, replay
from ourolog.storage.scan import SegmentScan
from ourolog.storage.segment import Segment, discard
from ourolog.storage.types import Index, NodeId


def find_cut(
    files: Files, segments: Sequence[Segment], node_id: NodeId, checkpoint: Checkpoint | None, index: Index
) -> Replayed:
    """Where `index` lies, and the state below it. Raises DamagedLogError if the log is damaged on the way there."""
    count = bisect_right(segments, index, key=lambda segment: segment.base.index)
    kept = segments[:count]
    return replay(files, kept, best_checkpoint(files, kept, node_id, checkpoint, until=index), index)


def cut_segments(files: Files, segments: list[Segment], cut: Replayed, interval_bytes: int) -> None:
    """Remove everything from `cut` on, on disk too; the segment of the cut becomes active. Raises OSError."""
    active = cut.segment
    if files.exists(active.index_path):
        discard(files, active.index_path)
        files.sync_directory(active.directory)
    while segments[-1] is not active:
        segments.pop().remove(files)
    if active.file is None:
        active.file = files.open(active.log_path)
    active.file.truncate(cut.byte_position)
    active.size_bytes = cut.byte_position
    active.sync()
    active.index = SparseIndex(active.base, interval_bytes)
    scan = SegmentScan(active.file, active.size_bytes, 0, active.base)
    for _, head, _path in scan:
        end = scan.byte_position + head.size_bytes
        active.index.note(scan.byte_position, end, head.index, head.base_offset, head.timestamp_ms)
