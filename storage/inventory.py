"""Lists the segments in a log's directory, and removes what crashes left beside them."""

from __future__ import annotations

from ourolog.storage.checkpoint import Checkpoint
from ourolog.storage.disk import TEMPORARY_SUFFIX
from ourolog.storage.errors import DamagedLogError
from ourolog.storage.files import Files
from ourolog.storage.segment import INDEX_SUFFIX, LOG_SUFFIX, STATE_SUFFIX, Segment, discard, parse_stem
from ourolog.storage.types import START, Position


def find_segments(files: Files, directory: str, checkpoint: Checkpoint | None) -> tuple[list[Segment], Position]:
    """Segments in order, with their sizes; and where the log begins if there are none.

    An empty file is removed, unless the checkpoint names it: it was being removed, or a roll stopped
    right after making it, and then its very name may not be on disk. Raises DamagedLogError when a
    segment is gone that the checkpoint names: a removal replaces the checkpoint first.
    """
    segments: list[Segment] = []
    begins_at = START
    for segment in list_segments(files, directory):
        if segment.size_bytes or (checkpoint is not None and checkpoint.segment == segment.stem):
            segments.append(segment)
        else:
            begins_at = segment.base
            segment.remove(files)
    if checkpoint is not None and not any(segment.stem == checkpoint.segment for segment in segments):
        position = checkpoint.position
        path = f"{directory}/{checkpoint.segment}{LOG_SUFFIX}"
        raise DamagedLogError(path, 0, position.index, position.offset, "the file is missing")
    return segments, begins_at


def list_segments(files: Files, directory: str) -> list[Segment]:
    """All segments in order; temporary files, and companions of segments that are gone, are removed."""
    names = files.list(directory)
    present = set(names)
    segments: list[Segment] = []
    has_removed = False
    for name in names:
        stem, dot, suffix = name.partition(".")
        path = f"{directory}/{name}"
        base = parse_stem(stem)
        if name.endswith(TEMPORARY_SUFFIX):
            files.remove(path)
            has_removed = True
        elif base is None:
            continue
        elif dot + suffix == LOG_SUFFIX:
            segment = Segment(directory, base)
            file = files.open_read_only(path)
            segment.size_bytes = segment.synced_bytes = file.size()
            file.close()
            segments.append(segment)
        elif dot + suffix in (INDEX_SUFFIX, STATE_SUFFIX) and stem + LOG_SUFFIX not in present:
            discard(files, path)
            has_removed = True
    if has_removed:
        files.sync_directory(directory)
    return segments
