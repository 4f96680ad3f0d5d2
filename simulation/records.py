"""The records in encoded batches, one by one."""

from __future__ import annotations

from collections.abc import Iterator

from ourolog.storage.batch import BatchHead, Kind, payload_of, scan
from ourolog.storage.record_set import decode_records
from ourolog.storage.types import Offset


def records_in(batches: bytes) -> Iterator[tuple[Offset, bytes, BatchHead]]:
    """(offset, value, head of its batch) of every user's record in encoded, uncompressed batches.

    Raises CorruptBatchError where the bytes are no batches.
    """
    for head in scan(batches):
        if head.kind is Kind.DATA:
            for at, value in enumerate(decode_records(payload_of(batches, head))):
                yield Offset(head.base_offset + at), value, head
