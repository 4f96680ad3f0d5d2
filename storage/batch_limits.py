"""Limits on what a batch from another node may claim, so that this log can always continue after it.

A checksum says that a batch is what its sender wrote, not that it is true. Whatever is appended
stays, and a number near the end of its field would end a log for good. So every batch of a run is
checked against these limits before the first one is appended.
"""

from __future__ import annotations

from typing import Final

from ourolog.storage.batch import FRAME_BYTES, MAX_BODY_BYTES, BatchHead, Codec, Kind
from ourolog.storage.types import NodeId

LIMIT: Final = 1 << 62
"""No index, offset, term, sequence or epoch of a real log reaches this; fields are 64 bits wide."""

LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999; no clock is that wrong."""

GAP: Final = 1 << 32
"""How many batches a node may have made, with a leader elected, that its own disk does not know of."""


def impossible(head: BatchHead, path: tuple[NodeId, ...]) -> str | None:
    """Why no log can hold such a batch; None if one may."""
    if _is_surely_possible(head):
        return None
    numbers = {
        "index": head.index,
        "offset": head.base_offset,
        "term": head.term,
        "origin epoch": head.origin_epoch,
        "origin sequence": head.origin_sequence,
        "source epoch": head.source_epoch,
        "source index": head.source_index,
        "producer": head.producer_id,
    }
    for name, number in numbers.items():
        if number >= LIMIT:
            return f"entry {head.index} of {path[0]} claims the {name} {number}, which no log reaches"
    if not 0 <= head.timestamp_ms <= LATEST_MS:
        return f"entry {head.index} of {path[0]} claims the time {head.timestamp_ms} ms, which no clock shows"
    payload_bytes = head.end - head.payload_start
    # A record takes at least two bytes of a payload; the decompressed size of a payload is not known here.
    most = MAX_BODY_BYTES if head.codec is not Codec.NONE else max(1, payload_bytes)
    if head.kind is Kind.DATA and not 1 <= head.record_count <= most:
        return (
            f"entry {head.index} of {path[0]} claims {head.record_count} records in a payload of {payload_bytes} bytes"
        )
    return None


def _is_surely_possible(head: BatchHead) -> bool:
    """Whether a look that costs little shows that `impossible` finds nothing; it is asked about every fetched batch."""
    payload_bytes = head.end - head.payload_start
    # Of unsigned numbers one reaches a power of two if and only if all of them together do.
    together = (
        head.index
        | head.base_offset
        | head.term
        | head.origin_epoch
        | head.origin_sequence
        | head.source_epoch
        | head.source_index
        | head.producer_id
    )
    is_control = head.kind is not Kind.DATA
    return (
        together < LIMIT
        and 0 <= head.timestamp_ms <= LATEST_MS
        and (is_control or 1 <= head.record_count <= max(1, payload_bytes))
    )


def too_long(head: BatchHead, *more: NodeId) -> str | None:
    """Why the batch cannot be stored here with these nodes added to its path; None if it can."""
    more_bytes = sum(1 + len(node.encode()) for node in more)
    if head.path_size + more_bytes > 0xFFFF:
        return f"the path of entry {head.index} takes {head.path_size} bytes: it has no room for another node"
    if head.size_bytes - FRAME_BYTES + more_bytes > MAX_BODY_BYTES:
        return (
            f"entry {head.index} takes {head.size_bytes} bytes, and with another node in its path more than the "
            f"{MAX_BODY_BYTES} of any batch"
        )
    return None
