"""The responses that consumers get, made from the store's batches.

They are encoded here (rpc/wire_format.py), so that a payload is copied once between what was read and what is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from ourolog.rpc.errors import damaged
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.wire_format import bytes_head, bytes_tag, integer_field, integer_tag
from ourolog.storage.batch import MAX_BODY_BYTES, BatchHead, Codec, Kind, path_of, payload_of, read_head
from ourolog.storage.compression import DecompressionError, decompress
from ourolog.storage.record_set import encode_records, equal_values

# The most that a record's two tags and two lengths take in its RecordSet.
_RECORD_OVERHEAD_BYTES: Final = 12
# Most batches of a log have one of a few counts and sizes.
_KEPT_FIELDS: Final = 4096
_CODECS: Final = {Codec.NONE: pb.CODEC_NONE, Codec.ZSTD: pb.CODEC_ZSTD}

_VALUE: Final = bytes_tag(pb.Record.VALUE_FIELD_NUMBER)
_OFFSET: Final = integer_tag(pb.Record.OFFSET_FIELD_NUMBER)
_RECORD: Final = bytes_tag(pb.ConsumeResponse.RECORD_FIELD_NUMBER)
_RECORD_PROVENANCE: Final = bytes_tag(pb.ConsumeResponse.PROVENANCE_FIELD_NUMBER)
_BASE_OFFSET: Final = integer_tag(pb.RecordBatch.BASE_OFFSET_FIELD_NUMBER)
_RECORD_COUNT: Final = integer_tag(pb.RecordBatch.RECORD_COUNT_FIELD_NUMBER)
_CODEC: Final = integer_tag(pb.RecordBatch.CODEC_FIELD_NUMBER)
_RECORDS: Final = bytes_tag(pb.RecordBatch.RECORDS_FIELD_NUMBER)
_BATCH_PROVENANCE: Final = bytes_tag(pb.RecordBatch.PROVENANCE_FIELD_NUMBER)
_BATCHES: Final = bytes_tag(pb.ConsumeBatchResponse.BATCHES_FIELD_NUMBER)


class EncodedRecordBatch(NamedTuple):
    """A RecordBatch in the pieces that a response is put together from.

    before: all of its bytes that come before those of the payload.
    payload: an encoded RecordSet, compressed or not.
    after: its bytes behind the payload.
    end_offset: the offset after its last record.
    """

    before: bytes
    payload: bytes | memoryview
    after: bytes
    end_offset: int


def records(
    batches: bytes, heads: Iterable[BatchHead], offset: int, *, provenance: bool
) -> Iterator[tuple[bytes, int]]:
    """A ConsumeResponse for each record from `offset` on, with the offset after it.

    One batch is decoded at a time. Raises ServiceError (DATA_LOSS).
    """
    for head in heads:
        values = _values(batches, head)
        origin = provenance_of(batches, head).SerializeToString() if provenance else b""
        at: int = head.base_offset
        for value in values:
            if at >= offset:
                yield record_response(value, at, origin), at + 1
            at += 1


def record_at(batches: bytes, offset: int, *, provenance: bool) -> bytes | None:
    """The ConsumeResponse of the record at `offset`, or None when these batches do not hold it.

    Raises ServiceError (DATA_LOSS).
    """
    for head in data_heads(batches, offset):
        if head.base_offset > offset:
            return None
        value = _values(batches, head)[offset - head.base_offset]
        origin = provenance_of(batches, head).SerializeToString() if provenance else b""
        return record_response(value, offset, origin)
    return None


def record_response(value: bytes, offset: int, origin: bytes = b"") -> bytes:
    """An encoded ConsumeResponse. `origin`: the encoded Provenance of the record, empty for none."""
    before = bytes_head(_VALUE, len(value)) if value else b""
    after = integer_field(_OFFSET, offset)
    record_head = bytes_head(_RECORD, len(before) + len(value) + len(after))
    if not origin:
        return b"".join((record_head, before, value, after))
    return b"".join((record_head, before, value, after, bytes_head(_RECORD_PROVENANCE, len(origin)), origin))


def batch_response(batches: Iterable[EncodedRecordBatch]) -> bytes:
    """The encoded ConsumeBatchResponse with these batches."""
    pieces: list[bytes | memoryview] = []
    for before, payload, after, _ in batches:
        pieces += (bytes_head(_BATCHES, len(before) + len(payload) + len(after)), before, payload, after)
    return b"".join(pieces)


def record_batches(
    batches: bytes, head: BatchHead, offset: int, max_bytes: int, *, provenance: bool, accept_zstd: bool
) -> Iterator[EncodedRecordBatch]:
    """The batch as a consumer gets it: whole, or where it is larger than `max_bytes`, in parts of about that size.

    Parts are not compressed, and records below `offset` are left out. Raises ServiceError (DATA_LOSS).
    """
    codec = head.codec if accept_zstd else Codec.NONE
    # A whole payload stays where it was read until it is copied into its response.
    payload = (
        memoryview(batches)[head.payload_start : head.end] if codec is head.codec else _decompressed(batches, head)
    )
    origin = provenance_of(batches, head).SerializeToString() if provenance else b""
    if len(payload) <= max_bytes or head.record_count == 1:
        yield encoded_record_batch(head.base_offset, head.record_count, payload, origin, _CODECS[codec])
        return
    at: int = head.base_offset
    part: list[bytes] = []
    size = 0
    for value in _values(batches, head):
        record_bytes = len(value) + _RECORD_OVERHEAD_BYTES
        if part and size + record_bytes > max_bytes:
            yield encoded_record_batch(at, len(part), encode_records(part), origin)
            at += len(part)
            part, size = [], 0
        if at + len(part) < offset:
            at += 1
            continue
        part.append(value)
        size += record_bytes
    if part:
        yield encoded_record_batch(at, len(part), encode_records(part), origin)


def encoded_record_batch(
    base_offset: int,
    record_count: int,
    payload: bytes | memoryview,
    origin: bytes = b"",
    codec: pb.Codec.ValueType = pb.CODEC_NONE,
) -> EncodedRecordBatch:
    """A RecordBatch with these fields. `origin`: the encoded Provenance of the batch, empty for none."""
    before = integer_field(_BASE_OFFSET, base_offset) + _behind_base_offset(record_count, codec, len(payload))
    after = bytes_head(_BATCH_PROVENANCE, len(origin)) + origin if origin else b""
    return EncodedRecordBatch(before, payload, after, base_offset + record_count)


@lru_cache(_KEPT_FIELDS)
def _behind_base_offset(record_count: int, codec: pb.Codec.ValueType, payload_bytes: int) -> bytes:
    """What stands between a batch's first offset and its payload. Kept, since the same few come again and again."""
    payload_head = bytes_head(_RECORDS, payload_bytes) if payload_bytes else b""
    return integer_field(_RECORD_COUNT, record_count) + integer_field(_CODEC, codec) + payload_head


def data_heads(batches: bytes, offset: int) -> Iterator[BatchHead]:
    """The heads of the data batches that hold records from `offset` on.

    The store has just checked the checksums, so they are not computed again.
    """
    start = 0
    while (head := read_head(batches, start)) is not None:
        if head.kind is Kind.DATA and head.end_offset > offset:
            yield head
        start = head.end


def provenance_of(batches: bytes, head: BatchHead) -> pb.Provenance:
    """Where the batch was produced, when, and which nodes it passed."""
    path = path_of(batches, head)
    return pb.Provenance(
        origin=path[0],
        path=path,
        origin_epoch=head.origin_epoch,
        origin_sequence=head.origin_sequence,
        timestamp_ms=head.timestamp_ms,
        index=head.index,
        term=head.term,
    )


def _decompressed(batches: bytes, head: BatchHead) -> bytes:
    payload = payload_of(batches, head)
    if head.codec is Codec.NONE:
        return payload
    try:
        return decompress(payload, MAX_BODY_BYTES)
    except DecompressionError as error:
        raise damaged(f"the batch at offset {head.base_offset} (index {head.index}): {error}") from error


def _values(batches: bytes, head: BatchHead) -> list[bytes]:
    payload = _decompressed(batches, head)
    if (equal := equal_values(payload, head.record_count)) is not None:
        return equal
    try:
        decoded = pb.RecordSet.FromString(payload).records
    except DecodeError as error:
        raise damaged(
            f"the batch at offset {head.base_offset} (index {head.index}) holds something else than records, "
            "although its checksum holds: whoever produced or replicated it has a fault"
        ) from error
    if len(decoded) != head.record_count:
        raise damaged(
            f"the batch at offset {head.base_offset} (index {head.index}) says {head.record_count} records "
            f"and holds {len(decoded)}, although its checksum holds: whoever produced or replicated it has a fault"
        )
    return [record.value for record in decoded]
