"""Checks of the records that clients and other nodes send.

What a client sends is brought to the canonical form (`ourolog.storage.record_set`). Bytes that are in that form
already pass through untouched; only the rest is encoded again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import google_crc32c
from google.protobuf.message import DecodeError

from ourolog.rpc.errors import invalid
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES, Codec, NewBatch
from ourolog.storage.compression import DecompressionError, compress, decompress
from ourolog.storage.record_set import encode_record, encode_records, encoded_size_bytes


@dataclass(frozen=True, slots=True)
class RecordLimits:
    """How large a record and a batch may be.

    max_record_bytes: of one record's value.
    max_batch_bytes: of a batch's encoded RecordSet, both as it was sent and decompressed.
    """

    max_record_bytes: int
    max_batch_bytes: int


_FORMAT_LIMITS: Final = RecordLimits(MAX_BODY_BYTES, MAX_BODY_BYTES)


def checked_record(request: pb.ProduceRequest, limits: RecordLimits) -> NewBatch:
    """The batch of one record in a ProduceRequest. Raises ServiceError where it is not valid."""
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
    _check_numbered(request)
    return NewBatch(encode_record(value), 1, producer_id=request.producer_id, producer_sequence=request.sequence)


def checked_batch(request: pb.ProduceBatchRequest, limits: RecordLimits) -> NewBatch:
    """The batch in a ProduceBatchRequest. Raises ServiceError where anything that it claims of itself is not so."""
    _check_numbered(request)
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
        return NewBatch(payload, count, producer_id=request.producer_id, producer_sequence=request.sequence)
    if request.codec == pb.CODEC_ZSTD:
        try:
            plain = decompress(sent, limits.max_batch_bytes)
        except DecompressionError as error:
            raise invalid("records", "cannot be decompressed", f"{error} (codec CODEC_ZSTD)") from error
        payload = _canonical(plain, count, limits)
        codec = Codec.ZSTD
        if payload is plain:
            payload = sent
        elif request.producer_id:
            # What is sent again must be stored as the same bytes, and two nodes may compress differently.
            codec = Codec.NONE
        else:
            payload = compress(payload)
        return NewBatch(
            payload, count, codec=codec, producer_id=request.producer_id, producer_sequence=request.sequence
        )
    raise invalid("codec", "is unknown", f"codec {request.codec} is unknown to this node; use CODEC_NONE or CODEC_ZSTD")


def _check_numbered(request: pb.ProduceRequest | pb.ProduceBatchRequest) -> None:
    """Raises ServiceError for a number that no producer gave: what was sent by it would not be stored once."""
    if request.sequence and not request.producer_id:
        raise invalid(
            "producer_id",
            "is required with sequence",
            f"the batch has the sequence {request.sequence} and no producer_id; set both (RegisterProducer gives an "
            "id) or none",
        )


def check_readable(payload: bytes, count: int, codec: Codec) -> int:
    """The decompressed size in bytes of the records in another node's batch.

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


def _canonical(payload: bytes, count: int, limits: RecordLimits) -> bytes:
    """`payload` itself where it is in the canonical form, else its records encoded again. Raises ServiceError."""
    records, sizes = _decode(payload, count, limits)
    canonical_bytes = encoded_size_bytes(sizes)
    # Whatever else the bytes carry (other fields, padded varints, a value given twice) makes them
    # longer than the canonical form, so equal length proves that they are in it.
    if len(payload) == canonical_bytes:
        return payload
    encoded = encode_records(record.value for record in records)
    assert len(encoded) == canonical_bytes
    return encoded


def _decode(payload: bytes, count: int, limits: RecordLimits) -> tuple[Sequence[pb.Record], list[int]]:
    """`count` records and the sizes of their values. Raises ServiceError."""
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
            f"{_which(at, count)} is empty; a record holds at least one byte. Nothing was appended",
        )
    if largest > limits.max_record_bytes:
        at = sizes.index(largest)
        raise invalid(
            f"records[{at}].value",
            f"must not exceed {limits.max_record_bytes} bytes",
            f"{_which(at, count)} holds {largest} bytes, this node takes at most "
            f"{limits.max_record_bytes} (--max-record-bytes). Nothing was appended",
        )
    return records, sizes


def _which(at: int, count: int) -> str:
    return f"record {at} of {count}" if count > 1 else "the record"


def _too_large(size: int, limits: RecordLimits) -> Exception:
    return invalid(
        "records",
        f"must not exceed {limits.max_batch_bytes} bytes",
        f"the batch holds {size} bytes, this node takes at most {limits.max_batch_bytes} in one batch; split it",
    )
