"""What clients send, checked at the door and brought to the one form in which it is kept.

The payload of a batch is an encoded `RecordSet` whose records carry `value` (field 1) and
nothing else. A client's bytes that already are that pass through untouched; only the rest is
encoded again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import google_crc32c
from google.protobuf.message import DecodeError

from ourolog.rpc.errors import invalid
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, Codec, NewBatch
from ourolog.storage.compression import DecompressionError, compress, decompress

# A record of `size` bytes takes two tags and two varints beside its value; this is how many bytes
# they are together, and the value sizes from which on it is one more (protobuf's wire format:
# a varint carries 7 bits a byte; the outer one counts the inner tag and varint too).
_LEAST_OVERHEAD: Final = 4
_OVERHEAD_GROWS_AT: Final = (126, 128, 16_381, 16_384, 2_097_148, 2_097_152, 268_435_451, 268_435_456)
_LEAST_RECORD_BYTES: Final = _LEAST_OVERHEAD + 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one record and one batch may hold, in bytes. A batch's bound is on its encoded
    RecordSet, both as sent and decompressed."""

    max_record_bytes: int
    max_batch_bytes: int


_FORMAT_LIMITS: Final = Limits(MAX_BODY_BYTES, MAX_BODY_BYTES)


def one_record(request: pb.ProduceRequest, limits: Limits) -> NewBatch:
    """The batch of one record that a ProduceRequest asks for. Raises ServiceError."""
    if not request.HasField("record"):
        raise invalid("record", "is required", "the request carries no record; set record.value")
    value = request.record.value
    size = len(value)
    if not size:
        raise invalid("record.value", "must not be empty", "the record is empty; a record holds at least one byte")
    if size > limits.max_record_bytes:
        raise invalid(
            "record.value",
            f"must not exceed {limits.max_record_bytes} bytes",
            f"the record holds {size} bytes, this node takes at most {limits.max_record_bytes} (--max-record-bytes)",
        )
    return NewBatch(encode_record(value), 1)


def many_records(request: pb.ProduceBatchRequest, limits: Limits) -> NewBatch:
    """The batch that a ProduceBatchRequest asks for, every claim in it checked. Raises ServiceError."""
    sent = request.records
    count = request.record_count
    if not sent or not count:
        raise invalid("records", "must not be empty", "the batch holds no records; send at least one")
    if len(sent) > limits.max_batch_bytes:
        raise _too_large(len(sent), limits)
    if request.HasField("checksum"):
        actual = google_crc32c.value(sent)
        if actual != request.checksum:
            raise invalid(
                "checksum",
                "does not match records",
                f"CRC32C of the {len(sent)} bytes received is {actual:#010x}, not {request.checksum:#010x}: "
                "they were changed on the way, or the checksum is not CRC32C (RFC 3720); send the batch again",
            )
    if request.codec == pb.CODEC_NONE:
        payload = _canonical(sent, count, limits)
        return NewBatch(payload, count)
    if request.codec == pb.CODEC_ZSTD:
        try:
            plain = decompress(sent, limits.max_batch_bytes)
        except DecompressionError as error:
            raise invalid("records", "cannot be decompressed", f"{error} (codec CODEC_ZSTD)") from error
        payload = _canonical(plain, count, limits)
        return NewBatch(sent if payload is plain else compress(payload), count, codec=Codec.ZSTD)
    raise invalid("codec", "is unknown", f"codec {request.codec} is unknown to this node; use CODEC_NONE or CODEC_ZSTD")


def check_readable(payload: bytes, count: int, codec: Codec) -> int:
    """How many bytes the records of another node's batch unfold to.

    Raises ServiceError saying why nobody could read them. The bounds are the format's, since
    other nodes may take larger batches than this one.
    """
    plain = payload
    if codec is Codec.ZSTD:
        try:
            plain = decompress(payload, MAX_BODY_BYTES)
        except DecompressionError as error:
            raise invalid("records", "cannot be decompressed", f"{error} (codec CODEC_ZSTD)") from error
    _decode(plain, count, _FORMAT_LIMITS)
    return len(plain)


def encode_record(value: bytes) -> bytes:
    """A RecordSet of this one record. Encoded RecordSets concatenate to their union.

    By hand up to two size bytes (protobuf's varints): ten times as fast as by way of two message objects.
    """
    size = len(value)
    if size < 126:
        return b"\x0a%c\x0a%c%b" % (size + 2, size, value)
    if size < 128:
        return b"\x0a%c\x01\x0a%c%b" % ((size + 2) & 0x7F | 0x80, size, value)
    if size <= 16_380:
        outer = size + 3
        return b"\x0a%c%c\x0a%c%c%b" % (outer & 0x7F | 0x80, outer >> 7, size & 0x7F | 0x80, size >> 7, value)
    return pb.RecordSet(records=[pb.Record(value=value)]).SerializeToString()


def encode_records(values: list[bytes]) -> bytes:
    """A RecordSet of these records, in order."""
    return b"".join(map(encode_record, values))


def decode_values(payload: bytes) -> list[bytes]:
    """The records of a RecordSet. Raises google.protobuf.message.DecodeError."""
    return [record.value for record in pb.RecordSet.FromString(payload).records]


def _canonical(payload: bytes, count: int, limits: Limits) -> bytes:
    """`payload` itself where it is in the kept form, else its records encoded again. Raises ServiceError."""
    records, sizes = _decode(payload, count, limits)
    smallest, largest = min(sizes), max(sizes)
    # Whatever else the bytes carry (other fields, padded varints, a value given twice) makes them
    # longer than the kept form, so equal length proves that they are in it.
    if len(payload) == _canonical_bytes(sizes, smallest, largest):
        return payload
    encoded = encode_records([record.value for record in records])
    assert len(encoded) == _canonical_bytes(sizes, smallest, largest)
    return encoded


def _decode(payload: bytes, count: int, limits: Limits) -> tuple[Sequence[pb.Record], list[int]]:
    """`count` records and the sizes of their values. Raises ServiceError."""
    if count > len(payload) // _LEAST_RECORD_BYTES:
        raise invalid(
            "record_count",
            "does not match records",
            f"{count} records do not fit in {len(payload)} bytes: "
            "record_count is wrong, or some of the records are empty",
        )
    try:
        records = pb.RecordSet.FromString(payload).records
    except DecodeError as error:
        raise invalid(
            "records", "is not a RecordSet", "the bytes are not an encoded log.v1.RecordSet; nothing was appended"
        ) from error
    if len(records) != count:
        raise invalid(
            "record_count",
            "does not match records",
            f"record_count says {count}, the batch holds {len(records)}; nothing was appended",
        )
    sizes = [len(record.value) for record in records]
    smallest, largest = min(sizes), max(sizes)
    if not smallest:
        at = sizes.index(0)
        raise invalid(
            f"records[{at}].value",
            "must not be empty",
            f"record {at} of {count} is empty; a record holds at least one byte. Nothing was appended",
        )
    if largest > limits.max_record_bytes:
        at = sizes.index(largest)
        raise invalid(
            f"records[{at}].value",
            f"must not exceed {limits.max_record_bytes} bytes",
            f"record {at} of {count} holds {largest} bytes, this node takes at most "
            f"{limits.max_record_bytes} (--max-record-bytes). Nothing was appended",
        )
    return records, sizes


def _canonical_bytes(sizes: list[int], smallest: int, largest: int) -> int:
    """How long a RecordSet of values of these sizes is."""
    least, most = bisect_right(_OVERHEAD_GROWS_AT, smallest), bisect_right(_OVERHEAD_GROWS_AT, largest)
    overhead = (_LEAST_OVERHEAD + least) * len(sizes)
    if most > least:
        ascending = sorted(sizes)
        for step in _OVERHEAD_GROWS_AT[least:most]:
            overhead += len(ascending) - bisect_right(ascending, step - 1)
    return sum(sizes) + overhead


def _too_large(size: int, limits: Limits) -> Exception:
    return invalid(
        "records",
        f"must not exceed {limits.max_batch_bytes} bytes",
        f"the batch holds {size} bytes, this node takes at most {limits.max_batch_bytes} in one batch; split it",
    )
