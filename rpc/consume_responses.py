"""The responses that consumers get, made from the store's batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.message import DecodeError

from ourolog.rpc.errors import damaged
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, BatchHead, Codec, Kind, path_of, payload_of, read_head
from ourolog.storage.compression import DecompressionError, decompress
from ourolog.storage.record_set import encode_records

# The most that a record's tag and length take in its RecordSet.
_RECORD_OVERHEAD_BYTES: Final = 6
_CODECS: Final = {Codec.NONE: pb.CODEC_NONE, Codec.ZSTD: pb.CODEC_ZSTD}


def records(
    batches: bytes, heads: Iterable[BatchHead], offset: int, *, provenance: bool
) -> Iterator[pb.ConsumeResponse]:
    """The records from `offset` on, one batch decoded at a time. Raises ServiceError (DATA_LOSS)."""
    for head in heads:
        values = _values(batches, head)
        origin = provenance_of(batches, head) if provenance else None
        at: int = head.base_offset
        for record in values:
            if at >= offset:
                yield pb.ConsumeResponse(record=pb.Record(value=record.value, offset=at), provenance=origin)
            at += 1


def record_at(batches: bytes, offset: int, *, provenance: bool) -> pb.ConsumeResponse | None:
    """The record at `offset`, or None when these batches do not hold it. Raises ServiceError (DATA_LOSS)."""
    for head in data_heads(batches, offset):
        if head.base_offset > offset:
            return None
        value = _values(batches, head)[offset - head.base_offset].value
        origin = provenance_of(batches, head) if provenance else None
        return pb.ConsumeResponse(record=pb.Record(value=value, offset=offset), provenance=origin)
    return None


def record_batches(
    batches: bytes, head: BatchHead, offset: int, max_bytes: int, *, provenance: bool, accept_zstd: bool
) -> Iterator[pb.RecordBatch]:
    """The batch as a consumer gets it: whole, or where it is larger than `max_bytes`, in parts of about that size.

    Parts are not compressed, and records below `offset` are left out. Raises ServiceError (DATA_LOSS).
    """
    codec = head.codec if accept_zstd else Codec.NONE
    payload = payload_of(batches, head) if codec is head.codec else _decompressed(batches, head)
    origin = provenance_of(batches, head) if provenance else None
    if len(payload) <= max_bytes or head.record_count == 1:
        yield pb.RecordBatch(
            base_offset=head.base_offset,
            record_count=head.record_count,
            codec=_CODECS[codec],
            records=payload,
            provenance=origin,
        )
        return
    at: int = head.base_offset
    part: list[pb.Record] = []
    size = 0
    for record in _values(batches, head):
        record_bytes = record.ByteSize() + _RECORD_OVERHEAD_BYTES
        if part and size + record_bytes > max_bytes:
            yield _part(at, part, origin)
            at += len(part)
            part, size = [], 0
        if at + len(part) < offset:
            at += 1
            continue
        part.append(record)
        size += record_bytes
    if part:
        yield _part(at, part, origin)


def _part(base_offset: int, records: list[pb.Record], origin: pb.Provenance | None) -> pb.RecordBatch:
    encoded = encode_records(record.value for record in records)
    return pb.RecordBatch(base_offset=base_offset, record_count=len(records), records=encoded, provenance=origin)


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


def _values(batches: bytes, head: BatchHead) -> list[pb.Record]:
    try:
        decoded = pb.RecordSet.FromString(_decompressed(batches, head)).records
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
    return decoded  # type: ignore[return-value]  # protobuf's container is a sequence, and copying it costs
