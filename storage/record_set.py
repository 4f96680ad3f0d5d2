"""The payload of a data batch: an encoded `log.v1.RecordSet`, written and read by hand.

In protobuf's wire format field 1 of a RecordSet is a record, and field 1 of a record is its value; both are a
tag, a varint with the length, and the bytes. A varint carries seven bits a byte. Encoded RecordSets concatenate
to their union, which is what lets batches be merged without decoding them.

The canonical form holds values alone, with lengths in as few bytes as possible. All payloads are kept in it.
Encoding by hand takes a twentieth of the time that protobuf's message objects take. Decoding does not: where speed
counts, or where other fields must be tolerated, the gRPC edge decodes with protobuf.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from struct import iter_unpack
from typing import Final

LEAST_RECORD_BYTES: Final = 5
"""The size of a record of one byte: two tags, two lengths, the byte."""

_TAG: Final = 0x0A
_MAX_LENGTH_SHIFT: Final = 28  # protobuf gives a length five bytes at most
# How many bytes two tags and two lengths take together at least, and the sizes of a value from which on it is one
# more. The outer length counts the inner tag and length too.
_LEAST_OVERHEAD: Final = 4
_MAX_HEADS: Final = 4096
_OVERHEAD_GROWS_AT: Final = (126, 128, 16_381, 16_384, 2_097_148, 2_097_152, 268_435_451, 268_435_456)


def encode_record(value: bytes) -> bytes:
    """The RecordSet of this one record."""
    return _HEADS[len(value)] + value


def encode_records(values: Iterable[bytes]) -> bytes:
    """The RecordSet of these records, in order."""
    listed = values if isinstance(values, list) else list(values)
    # What comes before a value depends on its size alone. No step of this is a step of the interpreter.
    parts = [b""] * (2 * len(listed))
    parts[::2] = map(_HEADS.__getitem__, map(len, listed))
    parts[1::2] = listed
    return b"".join(parts)


class _Heads(dict[int, bytes]):
    """What comes before a record's value, by the size of the value: two tags and two lengths."""

    def __missing__(self, size: int) -> bytes:
        inner = b"\x0a%b" % varint(size)
        head = b"\x0a%b%b" % (varint(len(inner) + size), inner)
        if len(self) < _MAX_HEADS:
            self[size] = head
        return head


_HEADS: Final = _Heads()


def encoded_size_bytes(sizes: Sequence[int]) -> int:
    """The size of the canonical RecordSet of values of these sizes; there must be at least one."""
    least, most = bisect_right(_OVERHEAD_GROWS_AT, min(sizes)), bisect_right(_OVERHEAD_GROWS_AT, max(sizes))
    overhead = (_LEAST_OVERHEAD + least) * len(sizes)
    if most > least:
        ascending = sorted(sizes)
        for step in _OVERHEAD_GROWS_AT[least:most]:
            overhead += len(ascending) - bisect_right(ascending, step - 1)
    return sum(sizes) + overhead


def decode_records(payload: bytes) -> list[bytes]:
    """The values of a RecordSet that holds nothing else. Raises ValueError for other bytes."""
    values = []
    at = 0
    while at < len(payload):
        at, end = _delimited(payload, at)
        at, value_end = _delimited(payload, at)
        if value_end != end:
            raise ValueError(f"the record that ends at byte {end} holds more than a value")
        values.append(payload[at:end])
        at = end
    return values


def equal_values(payload: bytes, record_count: int) -> list[bytes] | None:
    """The values of a RecordSet of so many records, where all are of one size and nothing else is in it; else None.

    A fifth of the time that protobuf takes: the interpreter does nothing for each record but append it.
    """
    end, rest = divmod(len(payload), record_count) if record_count else (0, 1)
    if rest:
        return None
    try:
        start, outer_end = _delimited(payload, 0)
        start, value_end = _delimited(payload, start)
    except ValueError:
        return None
    if not value_end == outer_end == end:
        return None
    # What is before the value of the first is before every other one, too: looked at one column at a time.
    if any(payload[at::end].count(payload[at]) != record_count for at in range(start)):
        return None
    return [value for (value,) in iter_unpack(f"{start}x{end - start}s", payload)]


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte, in as few bytes as possible, as protobuf has it."""
    if number < 0x80:
        return bytes((number,))
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _delimited(payload: bytes, at: int) -> tuple[int, int]:
    """Where the bytes begin and end that the tag and length at `at` announce."""
    if at >= len(payload) or payload[at] != _TAG:
        raise ValueError(f"no record or value begins at byte {at}")
    at += 1
    size = shift = 0
    while True:
        if at >= len(payload):
            raise ValueError("the payload ends within a length")
        if shift > _MAX_LENGTH_SHIFT:
            raise ValueError(f"the length before byte {at} of the payload is longer than any length")
        byte = payload[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if at + size > len(payload):
        raise ValueError("the payload ends within a record")
    return at, at + size
