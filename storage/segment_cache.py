"""Open files and loaded indexes of sealed segments, a bounded number of each."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Final

from ourolog.storage.damage_walk import walk
from ourolog.storage.descriptors import SHORTAGES
from ourolog.storage.files import File, Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.segment import Segment, write_index
from ourolog.storage.types import Index

MAX_OPEN_FILES: Final = 16
_MAX_INDEXES: Final = 16
_ANY: Final = Index(2**63)


class SegmentCache:
    """Lends the files and indexes that reads need, of any segment. Borrowers must not keep them."""

    def __init__(self, files: Files, interval_bytes: int) -> None:
        self._files = files
        self._interval_bytes = interval_bytes
        self._open: OrderedDict[Segment, File] = OrderedDict()
        self._indexes: OrderedDict[Segment, SparseIndex] = OrderedDict()

    def file(self, segment: Segment) -> File:
        if segment.file is not None:
            return segment.file
        file = self._open.get(segment)
        if file is None:
            file = self._open[segment] = self._opened(segment)
            if len(self._open) > MAX_OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(segment)
        return file

    def _opened(self, segment: Segment) -> File:
        try:
            return self._files.open_read_only(segment.log_path)
        except OSError as error:
            if error.errno not in SHORTAGES or not self._open:
                raise
        self._close_files()
        return self._files.open_read_only(segment.log_path)

    def index(self, segment: Segment) -> SparseIndex:
        if segment.index is not None:
            return segment.index
        index = self._indexes.get(segment)
        if index is None:
            index = self._load(segment) or self._rebuilt(segment)
            self._keep(segment, index)
        self._indexes.move_to_end(segment)
        return index

    def rebuild_index(self, segment: Segment) -> bool:
        """Rebuild an index that led to a wrong place. False if it had been rebuilt already."""
        known = self.index(segment)
        if known.file_bytes == 0:
            return False
        rebuilt = self._rebuilt(segment, keep=segment.index is None)
        if segment.index is not None:
            segment.index = rebuilt
        else:
            self._keep(segment, rebuilt)
        rebuilt.file_bytes = rebuilt.saved_entries = 0
        return True

    def replace_index(self, segment: Segment) -> None:
        """Make the index file of a sealed segment again, whatever it holds. Raises OSError."""
        self._indexes.pop(segment, None)
        if self._files.exists(segment.index_path):
            file = self._files.open(segment.index_path)
            try:
                file.truncate(0)
            finally:
                file.close()
        self._keep(segment, self._rebuilt(segment))

    def forget(self) -> None:
        """Close everything: segments were removed or cut."""
        self._close_files()
        self._indexes.clear()

    def _close_files(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _keep(self, segment: Segment, index: SparseIndex) -> None:
        self._indexes[segment] = index
        if len(self._indexes) > _MAX_INDEXES:
            self._indexes.popitem(last=False)

    def _load(self, segment: Segment) -> SparseIndex | None:
        """The saved index, if it covers the whole segment."""
        try:
            content = self._files.read_all(segment.index_path)
        except FileNotFoundError:
            return None
        index = SparseIndex.decode(content, segment.base, self._interval_bytes)
        return index if index.covered_to == segment.size_bytes else None

    def _rebuilt(self, segment: Segment, *, keep: bool = True) -> SparseIndex:
        """An index built from the segment itself. That of a damaged segment lacks what is damaged, and is not saved."""
        index = SparseIndex(segment.base, self._interval_bytes)
        is_good = True
        for step in walk(self.file(segment), segment, 0, segment.base, _ANY):
            at, head = step.byte_position, step.head
            if head is not None:
                index.note(at, at + head.size_bytes, head.index, head.base_offset, head.timestamp_ms)
            is_good = is_good and (head is not None or at == segment.size_bytes)
        if is_good and keep:
            # Derived data: if it cannot be saved it is built again next time.
            with contextlib.suppress(OSError):
                write_index(self._files, segment.index_path, index, segment.size_bytes)
        return index
