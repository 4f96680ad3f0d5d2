"""A check of batches fetched from a peer: whether consumers can read the records in them.

A checksum says that a batch is what its sender wrote, not that there are records in it. With a
leader every batch was checked where it was produced, and its bytes pass through. With nobody
elected any member is a source, and all others copy what one node appends; so it is
checked before it is appended.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ourolog.rpc.errors import ServiceError
from ourolog.rpc.record_checks import check_readable
from ourolog.storage.batch import Kind, path_of, payload_of, scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.types import Index, NodeId

MAX_DECOMPRESSED_BYTES: Final = 32 * 1024 * 1024
"""How much of one fetch is decompressed, one batch at least; what follows is fetched again."""

YIELD_EVERY_BYTES: Final = 256 * 1024
"""After this many bytes of batches, decompressed bytes included, the loop runs other tasks."""


async def readable_prefix(batches: bytes, source_id: NodeId, first_index: Index) -> tuple[bytes, str]:
    """The batches before the first that nobody could read, and a sentence about that one ("" if there is none).

    first_index: where the run begins in the source's log. A run that is damaged or out of order
    comes back whole: the store refuses it as such.
    """
    expected: int = first_index
    decompressed_bytes = since_yield_bytes = 0
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
                decompressed_bytes += size_bytes
                since_yield_bytes += size_bytes
            since_yield_bytes += head.size_bytes
            if decompressed_bytes >= MAX_DECOMPRESSED_BYTES:
                return batches[: head.end], ""
            if since_yield_bytes >= YIELD_EVERY_BYTES:
                since_yield_bytes = 0
                await asyncio.sleep(0)
            expected += 1
    except CorruptBatchError:
        pass
    return batches, ""
