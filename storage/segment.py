"""One segment: a file of batches, its sparse index beside it, and the state where it begins.

A segment is named by both coordinates of its first batch, `{offset:020d}-{index:020d}`: one that
begins with control batches has a name of its own, and neither coordinate needs the file opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ourolog.storage.files import File, Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.types import Index, Offset, Position

LOG_SUFFIX: Final = ".log"
INDEX_SUFFIX: Final = ".idx"
STATE_SUFFIX: Final = ".state"

_STEM: Final = re.compile(r"(\d{20})-(\d{20})")


def stem_of(base: Position) -> str:
    return f"{base.offset:020d}-{base.index:020d}"


def parse_stem(stem: str) -> Position | None:
    """Where the segment of that name begins; None if it is no segment's name."""
    match = _STEM.fullmatch(stem)
    return Position(Index(int(match[2])), Offset(int(match[1]))) if match else None


@dataclass(slots=True, eq=False)
class Segment:
    """A segment of a log: its files, and how much of it is written and on disk.

    directory: the directory of the log.
    base: where the segment begins.
    size_bytes: how much is written.
    synced_bytes: how much of that is known to be on disk.
    kept_from: from where on what is on disk may be in memory, too, since its last `write_back`.
    file, index: open for the active segment, else None; `ourolog.storage.segment_cache` lends those of sealed ones.
    """

    directory: str
    base: Position
    size_bytes: int = 0
    synced_bytes: int = 0
    kept_from: int = 0
    file: File | None = None
    index: SparseIndex | None = None

    @property
    def stem(self) -> str:
        return stem_of(self.base)

    @property
    def log_path(self) -> str:
        return self._path(LOG_SUFFIX)

    @property
    def index_path(self) -> str:
        return self._path(INDEX_SUFFIX)

    @property
    def state_path(self) -> str:
        return self._path(STATE_SUFFIX)

    def _path(self, suffix: str) -> str:
        return f"{self.directory}/{self.stem}{suffix}"

    def create(self, files: Files) -> None:
        """Make the file, with its name on disk before anything is written to it. Raises OSError."""
        assert self.index is not None, "a new segment is active"
        self.file = files.open(self.log_path, create=True)
        files.sync_directory(self.directory)

    def rewrite(self, position_bytes: int, parts: Sequence[bytes]) -> None:
        """Write existing content again, so that the next sync puts it on disk even if an earlier sync failed."""
        assert self.file is not None, "only the active segment is written"
        self.file.overwrite(position_bytes, parts)

    def sync(self) -> None:
        assert self.file is not None, "only the active segment is written"
        self.file.sync()
        self.synced_bytes = self.size_bytes

    def write_back(self) -> None:
        """Begin to bring to disk what is written, and drop from memory what is there already."""
        assert self.file is not None, "only the active segment is written"
        self.file.write_back(self.kept_from)
        self.kept_from = self.synced_bytes

    def seal(self, files: Files, *, write_back: bool = False) -> None:
        """Put everything on disk; nothing is written to the segment any more.

        write_back: keep nothing of it in memory.
        """
        self.sync()
        if write_back:
            self.write_back()
        self.save_index(files)
        self.close()

    def save_index(self, files: Files) -> None:
        """Write the index of what is on disk; the file is not synced, since it can be rebuilt."""
        assert self.index is not None, "only the active segment notes entries"
        write_index(files, self.index_path, self.index, self.synced_bytes)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        self.file = None
        self.index = None

    def remove(self, files: Files) -> None:
        """Remove the files, the log file last: its companions must not be left for another segment of its name."""
        self.close()
        for path in (self.state_path, self.index_path, self.log_path):
            if files.exists(path):
                discard(files, path)
        files.sync_directory(self.directory)


def discard(files: Files, path: str) -> None:
    """Empty the file, on disk, and remove its name; the caller syncs the directory.

    A removal that is never synced may be undone by a power cut, long after it was made. What
    comes back then is empty, so it cannot pass for a segment from the middle of a log.
    """
    file = files.open(path)
    try:
        if file.size():
            file.truncate(0)
            file.sync()
    finally:
        file.close()
    files.remove(path)


def write_index(files: Files, path: str, index: SparseIndex, covered_to: int) -> None:
    """Add to the file what it does not have yet, after what is valid in it."""
    file = files.open(path, create=True)
    try:
        if file.size() != index.file_bytes:
            file.truncate(index.file_bytes)
        file.append([index.encode_block(covered_to)])
    finally:
        file.close()
