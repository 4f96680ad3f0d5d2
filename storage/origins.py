"""Which batches this log has seen, by identity, and how far it has pulled from others.

Both are derived from the headers of the log; checkpoints keep them to save a scan.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from ourolog.storage.batch_limits import LIMIT
from ourolog.storage.types import Index, NodeId


class IdentityRanges:
    """The set of (origin, origin epoch, sequence) seen, as closed ranges merged where they touch.

    A node that pulls every other node's batches in order needs one range per origin, so this stays
    small however long the log is.
    """

    def __init__(self) -> None:
        self._ranges: dict[tuple[NodeId, int], list[list[int]]] = {}

    def add(self, origin: NodeId, epoch: int, sequence: int) -> None:
        ranges = self._ranges.get((origin, epoch))
        if ranges is None:
            self._ranges[origin, epoch] = [[sequence, sequence]]
            return
        last = ranges[-1]
        if sequence == last[1] + 1:
            last[1] = sequence
        elif sequence > last[1]:
            ranges.append([sequence, sequence])
        elif sequence < last[0]:
            self._insert(ranges, sequence)

    def contains(self, origin: NodeId, epoch: int, sequence: int) -> bool:
        ranges = self._ranges.get((origin, epoch))
        if ranges is None:
            return False
        at = bisect_right(ranges, sequence, key=_first)
        return at > 0 and sequence <= ranges[at - 1][1]

    def next_sequence(self, origin: NodeId, epoch: int) -> int:
        """The sequence after the highest seen; 0 when none was.

        A sequence that no node gives out does not count: older versions appended whatever a peer claimed.
        """
        ranges = self._ranges.get((origin, epoch), [])
        return next((last + 1 for _, last in reversed(ranges) if last < LIMIT), 0)

    def encode(self) -> list[Any]:
        """The set as a value that JSON can carry; equal sets give equal values."""
        return [[origin, epoch, ranges] for (origin, epoch), ranges in sorted(self._ranges.items())]

    @classmethod
    def decode(cls, encoded: list[Any]) -> IdentityRanges:
        decoded = cls()
        for origin, epoch, ranges in encoded:
            decoded._ranges[NodeId(origin), int(epoch)] = [[int(first), int(last)] for first, last in ranges]
        return decoded

    @staticmethod
    def _insert(ranges: list[list[int]], sequence: int) -> None:
        """Insert below the last range's start: into a range, beside one, or between two that it may join."""
        at = bisect_right(ranges, sequence, key=_first)
        if at and sequence <= ranges[at - 1][1]:
            return
        joins_left = at > 0 and ranges[at - 1][1] + 1 == sequence
        joins_right = ranges[at][0] == sequence + 1
        if joins_left and joins_right:
            ranges[at - 1][1] = ranges[at][1]
            del ranges[at]
        elif joins_left:
            ranges[at - 1][1] = sequence
        elif joins_right:
            ranges[at][0] = sequence
        else:
            ranges.insert(at, [sequence, sequence])


def _first(closed: list[int]) -> int:
    return closed[0]


class PullPositions:
    """For each source, the epoch of its log and the next index to pull from it."""

    def __init__(self, positions: dict[NodeId, tuple[int, Index]] | None = None) -> None:
        self._positions = dict(positions or {})

    def appended(self, source: NodeId, epoch: int, index: int) -> None:
        """Note that a copy of the batch at `index` there stands in this log."""
        known = self._positions.get(source)
        # A noted position may be ahead of the copies: what lay between was dropped for a reason.
        if known is None or known[0] != epoch or known[1] <= index:
            self._positions[source] = (epoch, Index(index + 1))

    def note(self, source: NodeId, epoch: int, next_index: Index) -> None:
        self._positions[source] = (epoch, next_index)

    def as_dict(self) -> dict[NodeId, tuple[int, Index]]:
        return dict(sorted(self._positions.items()))

    def encode(self) -> list[Any]:
        return [[source, epoch, index] for source, (epoch, index) in sorted(self._positions.items())]

    @classmethod
    def decode(cls, encoded: list[Any]) -> PullPositions:
        return cls({NodeId(source): (int(epoch), Index(index)) for source, epoch, index in encoded})
