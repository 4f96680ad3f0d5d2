"""A batch of records: the unit of work on the wire, on disk and in replication.

Layout, little-endian, 104 bytes of fixed header, then the path, then the payload:

    frame   magic u16, version u8, reserved u8, body_size u32, synced u32, frame_crc u32
    body    crc u32, kind u8, codec u8, path_size u16, record_count u32,
            index u64, term u64, base_offset u64, timestamp_ms i64,
            origin_epoch u64, origin_sequence u64, source_epoch u64, source_index u64,
            producer_id u64, producer_sequence u32
    path    each node the batch passed, origin first: u8 size, UTF-8 name
    payload length-delimited protobuf records, that is `log.v1.RecordSet`, compressed by codec

`crc` is CRC32C (RFC 3720) over all of the body that follows it; it is the same on every replica.
The frame is local to one file: `frame_crc` covers the 12 bytes before it, and `synced` is the
position in the file below which everything was on disk when this batch was written. A hole
below the `synced` of a later batch is therefore damage, and one above it is a torn write.

Concatenated payloads are a payload again (protobuf merges repeated fields), so small produces
merge without being parsed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

from ourolog.storage.errors import CorruptBatchError, UnknownVersionError
from ourolog.storage.files import Part
from ourolog.storage.types import Index, NodeId, Offset, Term

MAGIC: Final = 0x4C4F  # "OL"
VERSION: Final = 1
MAX_BODY_BYTES: Final = 64 * 1024 * 1024

_FRAME: Final = Struct("<HBBIII")
_FRAME_COVERED: Final = Struct("<HBBII")
_BODY: Final = Struct("<IBBHIQQQqQQQQQI")
_HEADER: Final = Struct("<HBBIIIIBBHIQQQqQQQQQI")
_BODY_COVERED: Final = Struct("<BBHIQQQqQQQQQI")
_U32: Final = Struct("<I")
_MARK: Final = MAGIC.to_bytes(2, "little") + bytes((VERSION, 0))

FRAME_BYTES: Final = _FRAME.size
HEADER_BYTES: Final = FRAME_BYTES + _BODY.size

EncodedBatch = tuple[Part, Part]
"""A batch as bytes in two parts, so that what is large is not copied to be written: header with path, and payload; of
one that a leader sent the frame, and a view of the rest in what came."""

_crc32c = google_crc32c.value
_crc32c_extend = google_crc32c.extend


class Kind(IntEnum):
    """DATA batches carry users' records; CONTROL ones take an index and no offsets."""

    DATA = 0
    CONTROL = 1


class Codec(IntEnum):
    """How the payload is compressed."""

    NONE = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a producer hands in, before a log has given it a place.

    payload: an encoded `RecordSet` of `record_count` records, compressed by `codec`.
    record_count: how many records are in the payload.
    kind: whether it holds users' records or a control entry.
    codec: how the payload is compressed.
    producer_id: who produced it; 0 for none.
    producer_sequence: the producer's count of its batches.
    """

    payload: bytes
    record_count: int
    kind: Kind = Kind.DATA
    codec: Codec = Codec.NONE
    producer_id: int = 0
    producer_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch with its place in a log.

    index: the place of the batch among all entries of the log.
    term: the term in which the entry was made.
    base_offset: the offset of its first record.
    record_count: how many records it holds.
    timestamp_ms: when it was first appended, ms since 1970.
    kind: whether it holds users' records or a control entry.
    codec: how the payload is compressed.
    path: the nodes it passed, origin first, the holder last (in elected modes just the origin,
        since replicas are identical).
    origin_epoch, origin_sequence: with `path[0]` the batch's identity across the cluster. The
        epoch, drawn at random, says which log of the origin it was, so that a node that
        lost its disk does not reuse identities.
    payload: the encoded records.
    source_epoch, source_index: where a pulled copy stood in the log it was pulled from; 0 for
        batches produced here or replicated from a leader.
    producer_id, producer_sequence: as in NewBatch.
    """

    index: Index
    term: Term
    base_offset: Offset
    record_count: int
    timestamp_ms: int
    kind: Kind
    codec: Codec
    path: tuple[NodeId, ...]
    origin_epoch: int
    origin_sequence: int
    payload: bytes
    source_epoch: int = 0
    source_index: int = 0
    producer_id: int = 0
    producer_sequence: int = 0

    @property
    def origin(self) -> NodeId:
        return self.path[0]

    @property
    def end_offset(self) -> Offset:
        """The offset after the last record; control batches take none."""
        return Offset(self.base_offset + (self.record_count if self.kind is Kind.DATA else 0))


class BatchHead(NamedTuple):
    """Where a batch lies in a buffer and what its header says; the payload is not read.

    start and end are positions in the buffer that was scanned; `end` is exclusive.
    This is a tuple because one is made for every batch that a scan passes.
    """

    start: int
    end: int
    synced: int
    crc: int
    kind: Kind
    codec: Codec
    path_size: int
    record_count: int
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    term: Term
    base_offset: Offset
    timestamp_ms: int
    origin_epoch: int
    origin_sequence: int
    source_epoch: int
    source_index: int
    producer_id: int
    producer_sequence: int

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    @property
    def end_offset(self) -> Offset:
        return Offset(self.base_offset + (self.record_count if self.kind is Kind.DATA else 0))

    @property
    def payload_start(self) -> int:
        return self.start + HEADER_BYTES + self.path_size


def encode_batch(batch: Batch, synced: int = 0) -> bytes:
    """The batch as bytes, checksummed; `synced` as in the module's docstring."""
    return b"".join(encode_parts(batch, synced))


def encode_parts(batch: Batch, synced: int = 0) -> EncodedBatch:
    """The batch as bytes, in two parts.

    Raises ValueError when the body is larger than MAX_BODY_BYTES, which no reader would take.
    """
    path = encode_path(batch.path)
    covered = (
        _BODY_COVERED.pack(
            batch.kind,
            batch.codec,
            len(path),
            batch.record_count,
            batch.index,
            batch.term,
            batch.base_offset,
            batch.timestamp_ms,
            batch.origin_epoch,
            batch.origin_sequence,
            batch.source_epoch,
            batch.source_index,
            batch.producer_id,
            batch.producer_sequence,
        )
        + path
    )
    body_size = _U32.size + len(covered) + len(batch.payload)
    if body_size > MAX_BODY_BYTES:
        raise ValueError(f"a batch body of {body_size} bytes is larger than {MAX_BODY_BYTES}")
    crc = _crc32c_extend(_crc32c(covered), batch.payload)
    return b"".join((encode_frame(body_size, synced), _U32.pack(crc), covered)), batch.payload


def encode_frame(body_size: int, synced: int) -> bytes:
    """The 16 bytes before a body; they are local to one file, and a replica writes its own before a fetched body."""
    covered = _FRAME_COVERED.pack(MAGIC, VERSION, 0, body_size, synced)
    return covered + _U32.pack(_crc32c(covered))


def encode_path(path: tuple[NodeId, ...]) -> bytes:
    parts = []
    for node in path:
        name = node.encode()
        if not 0 < len(name) < 256:
            raise ValueError(f"a node id is 1 to 255 bytes of UTF-8, not {len(name)}")
        parts.append(bytes((len(name),)))
        parts.append(name)
    encoded = b"".join(parts)
    if len(encoded) > 0xFFFF:
        raise ValueError(f"a path of {len(path)} nodes does not fit in 65,535 bytes")
    return encoded


def decode_path(encoded: bytes) -> tuple[NodeId, ...]:
    """Raises CorruptBatchError when the bytes are not a path."""
    nodes = []
    at = 0
    while at < len(encoded):
        end = at + 1 + encoded[at]
        if end > len(encoded) or end == at + 1:
            raise CorruptBatchError("the path's names do not fit its size")
        try:
            nodes.append(NodeId(encoded[at + 1 : end].decode()))
        except UnicodeDecodeError as error:
            raise CorruptBatchError("a node id in the path is not UTF-8") from error
        at = end
    if not nodes:
        raise CorruptBatchError("the path is empty")
    return tuple(nodes)


def read_frame(buffer: bytes, start: int = 0) -> tuple[int, int] | None:
    """(body size in bytes, synced) of the batch at `start`, or None when the buffer ends within the frame.

    Raises CorruptBatchError where no batch can begin here, UnknownVersionError where one of another
    format version does.
    """
    if len(buffer) - start < FRAME_BYTES:
        return None
    magic, version, _, body_size, synced, frame_crc = _FRAME.unpack_from(buffer, start)
    if magic != MAGIC or frame_crc != _crc32c(buffer[start : start + _FRAME_COVERED.size]):
        raise CorruptBatchError(f"no batch begins at byte {start}: its frame is damaged")
    if version != VERSION:
        raise UnknownVersionError(
            f"the batch at byte {start} has format version {version}; this software reads {VERSION}"
        )
    if not _BODY.size <= body_size <= MAX_BODY_BYTES:
        raise CorruptBatchError(f"the batch at byte {start} claims a body of {body_size} bytes")
    return body_size, synced


def find_frame(buffer: bytes, start: int = 0) -> int:
    """The first byte from `start` on where a batch of this version may begin; -1 if there is none."""
    return buffer.find(_MARK, start)


def read_head(buffer: bytes, start: int = 0) -> BatchHead | None:
    """The head of the batch at `start`, or None when the buffer ends before the batch does.

    Checks the frame's checksum and the sizes, not the body's checksum: see `verify`.
    Raises CorruptBatchError where no batch can begin here.
    """
    if len(buffer) - start < HEADER_BYTES:
        read_frame(buffer, start)  # raises where none can
        return None
    magic, version, _, body_size, synced, frame_crc, crc, kind, codec, path_size, *rest = _HEADER.unpack_from(
        buffer, start
    )
    if (
        magic != MAGIC
        or version != VERSION
        or not _BODY.size <= body_size <= MAX_BODY_BYTES
        or frame_crc != _crc32c(buffer[start : start + _FRAME_COVERED.size])
    ):
        read_frame(buffer, start)  # raises, and says what is wrong
    end = start + FRAME_BYTES + body_size
    if end > len(buffer):
        return None
    if path_size > body_size - _BODY.size or kind > _LAST_KIND or codec > _LAST_CODEC:
        raise CorruptBatchError(f"the header of the batch at byte {start} does not fit together")
    # Not by BatchHead(): that is a function written in Python, and this is called for every batch of every scan.
    return tuple.__new__(BatchHead, (start, end, synced, crc, _KINDS[kind], _CODECS[codec], path_size, *rest))


_KINDS: Final = tuple(Kind)
_CODECS: Final = tuple(Codec)
_LAST_KIND: Final = int(Kind.CONTROL)
_LAST_CODEC: Final = int(Codec.ZSTD)


def verify(buffer: bytes, head: BatchHead) -> bool:
    """Whether the body's checksum holds."""
    return bool(head.crc == _crc32c(buffer[head.start + FRAME_BYTES + 4 : head.end]))


def scan(buffer: bytes, start: int = 0) -> Iterator[BatchHead]:
    """The heads of the whole batches in `buffer`, each checked; stops before an incomplete last one.

    Raises CorruptBatchError at the first batch that is not what was written.
    """
    while (head := read_head(buffer, start)) is not None:
        if not verify(buffer, head):
            raise CorruptBatchError(f"the checksum of the batch at byte {start} (index {head.index}) does not hold")
        yield head
        start = head.end


def path_of(buffer: bytes, head: BatchHead) -> tuple[NodeId, ...]:
    return decode_path(encoded_path_of(buffer, head))


def encoded_path_of(buffer: bytes, head: BatchHead) -> bytes:
    at = head.start + HEADER_BYTES
    return buffer[at : at + head.path_size]


def payload_of(buffer: bytes, head: BatchHead) -> bytes:
    return buffer[head.payload_start : head.end]


def decode_batch(buffer: bytes, head: BatchHead) -> Batch:
    """The whole batch, including path and payload. The head must have come from this buffer."""
    return Batch(
        index=head.index,
        term=head.term,
        base_offset=head.base_offset,
        record_count=head.record_count,
        timestamp_ms=head.timestamp_ms,
        kind=head.kind,
        codec=head.codec,
        path=path_of(buffer, head),
        origin_epoch=head.origin_epoch,
        origin_sequence=head.origin_sequence,
        payload=payload_of(buffer, head),
        source_epoch=head.source_epoch,
        source_index=head.source_index,
        producer_id=head.producer_id,
        producer_sequence=head.producer_sequence,
    )
