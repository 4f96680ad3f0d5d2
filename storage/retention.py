"""Decides which old segments may be removed."""

from __future__ import annotations

from collections.abc import Sequence

from ourolog.storage.segment import Segment
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.types import Index


def expired_segments(
    segments: Sequence[Segment],
    segment_cache: SegmentCache,
    now_ms: int,
    retention_bytes: int | None,
    retention_ms: int | None,
) -> list[Segment]:
    """The oldest segments, in order, that either limit expires; never the last one, which is written to.

    A segment expires while at least retention_bytes are left without it, and when even its newest
    batch is older than retention_ms. None is no limit.
    """
    expired: list[Segment] = []
    left_bytes = sum(segment.size_bytes for segment in segments)
    for segment in segments[:-1]:
        left_bytes -= segment.size_bytes
        is_surplus = retention_bytes is not None and left_bytes >= retention_bytes
        if not is_surplus and not _is_too_old(segment, segment_cache, now_ms, retention_ms):
            break
        expired.append(segment)
    return expired


def _is_too_old(segment: Segment, segment_cache: SegmentCache, now_ms: int, retention_ms: int | None) -> bool:
    return retention_ms is not None and segment_cache.index(segment).max_timestamp_ms < now_ms - retention_ms


def committed_part(segments: Sequence[Segment], expired: list[Segment], until: Index | None) -> list[Segment]:
    """The first of the expired ones, without those that hold an entry at or above `until`; None is no limit."""
    if until is None:
        return expired
    followers = segments[1 : len(expired) + 1]
    return [segment for segment, following in zip(expired, followers, strict=True) if following.base.index <= until]
