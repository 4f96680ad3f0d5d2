"""Open files and loaded indexes of sealed segments, a bounded number of each."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Final

from ourolog.storage.descriptors import SHORTAGES
from ourolog.storage.files import File, Files
from ourolog.storage.index import SparseIndex
from ourolog.storage.scan import SegmentScan
from ourolog.storage.segment import Segment, write_index

MAX_OPEN_FILES: Final = 16
_MAX_INDEXES: Final = 16


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
        """An index built from the segment itself. That of a damaged segment ends at the damage, and is not saved."""
        index = SparseIndex(segment.base, self._interval_bytes)
        scan = SegmentScan(self.file(segment), segment.size_bytes, 0, segment.base)
        for _, head, _path in scan:
            end = scan.byte_position + head.size_bytes
            index.note(scan.byte_position, end, head.index, head.base_offset, head.timestamp_ms)
        if scan.fault is None and keep:
            # Derived data: if it cannot be saved it is built again next time.
            with contextlib.suppress(OSError):
                write_index(self._files, segment.index_path, index, segment.size_bytes)
        return index
