"""The sparse index of one segment: where batches begin, one every few kilobytes.

File layout, little-endian, blocks back to back, each written once when more of the segment is on
disk:

    magic u32, crc u32, count u32, covered_to u32, max_timestamp_ms i64
    count times: offset u64, index u64, timestamp_ms i64, position u32

crc is CRC32C (RFC 3720) over the base of the segment (index u64, offset u64) and all of the block
that follows it, so an index that ends up beside another segment is not believed. `covered_to` says that
all of the segment below it was on disk when the block was written, so a valid block also proves that. The
file can always be rebuilt, and ends where its first damaged block begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

from ourolog.storage.types import Index, Offset, Position

_MAGIC: Final = 0x494C4F01
_BLOCK: Final = Struct("<IIIIq")
_COVERED: Final = Struct("<IIq")
_SEAL: Final = Struct("<II")
_BASE: Final = Struct("<QQ")
_ENTRY: Final = Struct("<QQqI")


class IndexEntry(NamedTuple):
    """Where a batch begins.

    position_bytes: in the segment file.
    index: in the log's entries.
    offset: in the log's records.
    timestamp_ms: the largest timestamp of the segment up to and with this batch, in ms since 1970.
    """

    position_bytes: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    offset: Offset
    timestamp_ms: int


class SparseIndex:
    """The index of one segment in memory: 28 bytes an entry, 4,096 entries for a segment of 64 MiB at 16 KiB apart.

    covered_to: the part of the segment that is indexed here, in bytes.
    saved_entries, file_bytes: how many of the entries, and of their bytes, stand in the file already.
    """

    def __init__(self, base: Position, interval_bytes: int) -> None:
        self.base = base
        self.interval_bytes = interval_bytes
        self.covered_to = 0
        self.max_timestamp_ms = 0
        self.saved_entries = 0
        self.file_bytes = 0
        self._offsets = array("Q")
        self._indices = array("Q")
        self._timestamps = array("q")
        self._positions = array("I")
        self._next_position = 0

    def __len__(self) -> int:
        return len(self._positions)

    def note(self, position_bytes: int, end_bytes: int, index: Index, offset: Offset, timestamp_ms: int) -> None:
        """Note a batch at [position_bytes, end_bytes). Batches are noted in order; gaps are allowed."""
        if timestamp_ms > self.max_timestamp_ms or not self._positions:
            self.max_timestamp_ms = timestamp_ms
        if position_bytes >= self._next_position:
            self._positions.append(position_bytes)
            self._indices.append(index)
            self._offsets.append(offset)
            self._timestamps.append(self.max_timestamp_ms)
            self._next_position = position_bytes + self.interval_bytes
        self.covered_to = end_bytes

    def floor_index(self, index: Index) -> IndexEntry | None:
        """The last entry at or below `index`."""
        return self._entry(bisect_right(self._indices, index) - 1)

    def floor_offset(self, offset: Offset) -> IndexEntry | None:
        """The last entry whose base offset is at or below `offset`.

        Control batches share their offset with the records that follow them, so the last of equal
        ones is at or before the batch that holds the record.
        """
        return self._entry(bisect_right(self._offsets, offset) - 1)

    def floor_position(self, position_bytes: int) -> int:
        """Where the last batch begins that is noted at or below that place in the segment; 0 if none is."""
        at = bisect_right(self._positions, position_bytes)
        return self._positions[at - 1] if at else 0

    @property
    def first(self) -> IndexEntry | None:
        return self._entry(0)

    def _entry(self, at: int) -> IndexEntry | None:
        if not 0 <= at < len(self._positions):
            return None
        return IndexEntry(
            self._positions[at], Index(self._indices[at]), Offset(self._offsets[at]), self._timestamps[at]
        )

    # ------------------------------------------------------------ the file

    def encode_block(self, covered_to: int) -> bytes:
        """Encode the entries below `covered_to` that are not saved yet; that part of the segment must be on disk."""
        first, last = self.saved_entries, len(self._positions)
        while last > first and self._positions[last - 1] >= covered_to:
            last -= 1
        entries = b"".join(
            _ENTRY.pack(self._offsets[at], self._indices[at], self._timestamps[at], self._positions[at])
            for at in range(first, last)
        )
        covered = _COVERED.pack(last - first, covered_to, self.max_timestamp_ms) + entries
        block = _SEAL.pack(_MAGIC, google_crc32c.extend(_seed(self.base), covered)) + covered
        self.saved_entries = last
        self.file_bytes += len(block)
        return block

    @classmethod
    def decode(cls, content: bytes, base: Position, interval_bytes: int) -> SparseIndex:
        """The index that the blocks hold, up to the first damaged one; empty if none is intact."""
        decoded = cls(base, interval_bytes)
        seed = _seed(base)
        at = 0
        while at + _BLOCK.size <= len(content):
            magic, crc, count, covered_to, max_timestamp_ms = _BLOCK.unpack_from(content, at)
            end = at + _BLOCK.size + count * _ENTRY.size
            if (
                magic != _MAGIC
                or end > len(content)
                or crc != google_crc32c.extend(seed, content[at + _SEAL.size : end])
            ):
                break
            for offset, index, timestamp_ms, position in _ENTRY.iter_unpack(content[at + _BLOCK.size : end]):
                decoded._offsets.append(offset)
                decoded._indices.append(index)
                decoded._timestamps.append(timestamp_ms)
                decoded._positions.append(position)
            decoded.covered_to = covered_to
            decoded.max_timestamp_ms = max_timestamp_ms
            at = end
        decoded.file_bytes = at
        decoded.saved_entries = len(decoded._positions)
        if decoded._positions:
            decoded._next_position = decoded._positions[-1] + interval_bytes
        return decoded


def _seed(base: Position) -> int:
    return int(google_crc32c.value(_BASE.pack(base.index, base.offset)))
