"""Records as they stand in payloads: `log.v1.RecordSet`, by hand, since the edge's stubs are out of reach here.

Field 1 of a RecordSet is a record, field 1 of a record its value; both are length-delimited.
"""

from __future__ import annotations

from collections.abc import Iterator

from ourolog.storage.batch import BatchHead, Kind, payload_of, scan
from ourolog.storage.types import Offset

_TAG = 0x0A


def encode_record(value: bytes) -> bytes:
    """A RecordSet of this one record; several of them concatenate to their union."""
    size = len(value)
    if size < 0x7E:
        return b"\x0a%c\x0a%c%b" % (size + 2, size, value)
    record = b"\x0a%b%b" % (_varint(size), value)
    return b"\x0a%b%b" % (_varint(len(record)), record)


def decode_values(payload: bytes) -> list[bytes]:
    """The values of a RecordSet that holds nothing else. ValueError for other bytes."""
    values = []
    at = 0
    while at < len(payload):
        at, end = _delimited(payload, at)
        at, value_end = _delimited(payload, at)
        if value_end != end:
            raise ValueError(f"a record with more than a value ends at byte {end}")
        values.append(payload[at:end])
        at = end
    return values


def records_in(batches: bytes) -> Iterator[tuple[Offset, bytes, BatchHead]]:
    """(offset, value, head of its batch) of every user's record in encoded, uncompressed batches.

    Raises CorruptBatchError where the bytes are no batches.
    """
    for head in scan(batches):
        if head.kind is Kind.DATA:
            for at, value in enumerate(decode_values(payload_of(batches, head))):
                yield Offset(head.base_offset + at), value, head


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _delimited(payload: bytes, at: int) -> tuple[int, int]:
    """Where the bytes begin and end that a tag and a size at `at` announce."""
    if payload[at] != _TAG:
        raise ValueError(f"no record begins at byte {at}")
    at += 1
    size = shift = 0
    while True:
        if at >= len(payload):
            raise ValueError("the payload ends within a size")
        byte = payload[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if at + size > len(payload):
        raise ValueError("the payload ends within a record")
    return at, at + size
