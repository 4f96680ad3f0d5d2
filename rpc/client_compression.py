"""How a client compresses what it sends, and unfolds what it reads."""

from __future__ import annotations

from typing import Final, Literal

from ourolog.rpc.client_errors import unknown_codec, unreadable_batch
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import MAX_BODY_BYTES
from ourolog.storage.compression import DecompressionError, compress, decompress

Compression = Literal["none", "zstd"]
"""How the records of a batch are compressed by the client that sends them, together."""

# A frame that holds less than this would hardly be smaller, and costs the nodes a decompressor.
_LEAST_BYTES: Final = 256


def checked_compression(wanted: Compression) -> Compression:
    """Raises ValueError for a name that means nothing."""
    if wanted not in ("none", "zstd"):
        raise ValueError(f"compression {wanted!r} is unknown; it is none or zstd")
    return wanted


def compressed(payload: bytes, wanted: Compression) -> tuple[bytes, pb.Codec.ValueType]:
    """What is sent of an encoded RecordSet, and how to read it: as it is, where it would not become smaller.

    The same bytes each time, since what is sent again must be the same.
    """
    if wanted == "zstd" and len(payload) >= _LEAST_BYTES:
        frame = compress(payload)
        if len(frame) < len(payload):
            return frame, pb.CODEC_ZSTD
    return payload, pb.CODEC_NONE


def unfolded(batch: pb.RecordBatch, addr: str) -> bytes:
    """The encoded RecordSet of a batch that was read. `addr`: of the node that it came from. Raises LogError.

    No more than 64 MiB comes of it, whatever the batch claims: no node stores more.
    """
    if batch.codec == pb.CODEC_NONE:
        return batch.records
    if batch.codec != pb.CODEC_ZSTD:
        raise unknown_codec(addr, batch.base_offset, batch.codec)
    try:
        return decompress(batch.records, MAX_BODY_BYTES)
    except DecompressionError as error:
        raise unreadable_batch(addr, batch.base_offset, str(error)) from error
