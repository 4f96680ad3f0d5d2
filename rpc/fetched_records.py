"""Whether consumers can read what a peer's batches hold, looked at before they are appended, nobody elected.

A checksum says that a batch is what its sender wrote, not that records are in it. With a leader
every batch was checked where it was produced, and bytes pass through. With nobody elected whoever
gossips is a source, and what is appended once is copied on by everybody.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ourolog.rpc.errors import ServiceError
from ourolog.rpc.record_checks import check_readable
from ourolog.storage.batch import Kind, path_of, payload_of, scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.types import Index, NodeId

MAX_UNFOLDED_BYTES: Final = 32 * 1024 * 1024
"""Of one fetch so much is unfolded, and one batch at least; what is behind is fetched again."""

TURN_BYTES: Final = 256 * 1024
"""After so many bytes of batches, or of what they unfold to, others on the loop get their turn."""


async def readable_part(batches: bytes, source_id: NodeId, first_index: Index) -> tuple[bytes, str]:
    """The batches before the first that nobody could read, and a sentence about that one, "" if there is none.

    first_index: where the run begins in the source's log. A run that is damaged or out of order
    comes back whole: the store refuses it as such.
    """
    expected: int = first_index
    unfolded_bytes = since_turn_bytes = 0
    try:
        for head in scan(batches):
            if head.index != expected:
                return batches, ""
            if head.kind is Kind.DATA:
                try:
                    size_bytes = check_readable(payload_of(batches, head), head.record_count, head.codec)
                except ServiceError as error:
                    origin = path_of(batches, head)[0]  # any bytes, so far
                    return batches[: head.start], (
                        f"entry {head.index} of {source_id} (batch {head.origin_sequence} of {origin!r}) is left out, "
                        f"since no consumer could read it, although its checksum holds: {error.message}"
                    )
                unfolded_bytes += size_bytes
                since_turn_bytes += size_bytes
            since_turn_bytes += head.size_bytes
            if unfolded_bytes >= MAX_UNFOLDED_BYTES:
                return batches[: head.end], ""
            if since_turn_bytes >= TURN_BYTES:
                since_turn_bytes = 0
                await asyncio.sleep(0)
            expected += 1
    except CorruptBatchError:
        pass
    return batches, ""
