"""What consumers get: byte for byte what the generated classes would have made of it, with each payload copied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ourolog.rpc import consume_responses
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import Batch, Codec, Kind, encode_batch
from ourolog.storage.compression import compress, decompress
from ourolog.storage.record_set import decode_records, encode_records, varint
from ourolog.storage.types import Index, NodeId, Offset, Term

# With the numbers at which a varint takes one byte more.
UINT64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**21, 2**63, 2**64 - 1])
UINT32 = st.integers(0, 2**32 - 1)
PAYLOADS = st.binary(max_size=300) | st.sampled_from([127, 128, 2**14 - 1, 2**14, 2**21]).map(bytes)
PROVENANCES = st.none() | st.builds(
    pb.Provenance,
    origin=st.text(min_size=1, max_size=9),
    path=st.lists(st.text(max_size=90), max_size=3),
    origin_epoch=UINT64,
    timestamp_ms=st.integers(0, 2**63 - 1),
)
VALUES = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=9)
BATCH = st.tuples(VALUES, st.sampled_from(Codec))


def encoded(message: Any) -> bytes:
    return b"" if message is None else bytes(message.SerializeToString())


def read_from_log(contents: Sequence[tuple[list[bytes], Codec]], base_offset: int = 0) -> bytes:
    """As a log would return them: these records with this codec, a batch each, one after the other."""
    batches = []
    for number, (values, codec) in enumerate(contents):
        payload = encode_records(values)
        batch = Batch(
            index=Index(70 + number),
            term=Term(5),
            base_offset=Offset(base_offset),
            record_count=len(values),
            timestamp_ms=1_700_000_000_000,
            path=(NodeId("n1"), NodeId("n2")),
            origin_epoch=2**60 + number,
            origin_sequence=number,
            kind=Kind.DATA,
            codec=codec,
            payload=compress(payload) if codec is Codec.ZSTD else payload,
        )
        batches.append(encode_batch(batch))
        base_offset += len(values)
    return b"".join(batches)


def provenance(number: int) -> pb.Provenance:
    """Of the batch with that number in `read_from_log`."""
    return pb.Provenance(
        origin="n1",
        path=["n1", "n2"],
        origin_epoch=2**60 + number,
        origin_sequence=number,
        timestamp_ms=1_700_000_000_000,
        index=70 + number,
        term=5,
    )


@given(UINT64)
def test_a_varint_is_what_protobuf_makes_of_the_number(number: int) -> None:
    assert b"\x10" + varint(number) == (pb.Record(offset=number).SerializeToString() or b"\x10\x00")


@given(PAYLOADS, UINT64, PROVENANCES)
@example(b"", 0, None)
def test_a_record_is_encoded_as_protobuf_encodes_it(value: bytes, offset: int, origin: pb.Provenance | None) -> None:
    wanted = pb.ConsumeResponse(record=pb.Record(value=value, offset=offset), provenance=origin)
    assert consume_responses.record_response(value, offset, encoded(origin)) == wanted.SerializeToString()


@given(st.lists(st.tuples(UINT64, UINT32, PAYLOADS, PROVENANCES, st.sampled_from([0, 1])), max_size=4))
@example([(0, 0, b"", None, 0)])
def test_batches_are_encoded_as_protobuf_encodes_them(contents: list[tuple[Any, ...]]) -> None:
    wanted = pb.ConsumeBatchResponse()
    batches = []
    for base_offset, count, payload, origin, codec in contents:
        wanted.batches.add(base_offset=base_offset, record_count=count, records=payload, provenance=origin, codec=codec)
        view = memoryview(b"before" + payload + b"behind")[6:-6]
        batches.append(consume_responses.encoded_record_batch(base_offset, count, view, encoded(origin), codec))
    assert consume_responses.batch_response(batches) == wanted.SerializeToString()


@given(st.lists(BATCH, min_size=1, max_size=4), st.booleans(), st.data())
def test_records_are_answered_from_the_offset_on_that_was_asked_for(
    contents: list[tuple[list[bytes], Codec]], with_provenance: bool, data: st.DataObject
) -> None:
    numbered = [(value, number) for number, (values, _) in enumerate(contents) for value in values]
    offset = data.draw(st.integers(100, 99 + len(numbered)))
    batches = read_from_log(contents, 100)
    heads = consume_responses.data_heads(batches, offset)
    got = list(consume_responses.records(batches, heads, offset, provenance=with_provenance))
    wanted = [
        pb.ConsumeResponse(
            record=pb.Record(value=value, offset=at), provenance=provenance(number) if with_provenance else None
        )
        for at, (value, number) in enumerate(numbered, 100)
        if at >= offset
    ]
    assert [pb.ConsumeResponse.FromString(response) for response, _ in got] == wanted
    assert [after for _, after in got] == [response.record.offset + 1 for response in wanted]
    one = consume_responses.record_at(batches, offset, provenance=with_provenance)
    assert one is not None
    assert pb.ConsumeResponse.FromString(one) == wanted[0]


@given(BATCH, st.integers(1, 900), st.booleans(), st.booleans(), st.data())
def test_a_batch_comes_whole_or_in_parts_with_each_record_once(
    content: tuple[list[bytes], Codec], max_bytes: int, with_provenance: bool, accept_zstd: bool, data: st.DataObject
) -> None:
    values, codec = content
    offset = data.draw(st.integers(100, 99 + len(values)))
    batches = read_from_log([content], 100)
    (head,) = consume_responses.data_heads(batches, offset)
    parts = list(
        consume_responses.record_batches(
            batches, head, offset, max_bytes, provenance=with_provenance, accept_zstd=accept_zstd
        )
    )
    response = pb.ConsumeBatchResponse.FromString(consume_responses.batch_response(parts))
    if not accept_zstd or codec is Codec.NONE or len(parts) > 1:
        assert not any(part.codec for part in response.batches)
    got = []
    for part, pieces in zip(response.batches, parts, strict=True):
        payload = decode_records(decompress(part.records, 10**6) if part.codec == pb.CODEC_ZSTD else part.records)
        at = part.base_offset
        assert part.record_count == len(payload)
        assert pieces.end_offset == at + len(payload)
        assert part.HasField("provenance") == with_provenance
        assert not with_provenance or part.provenance == provenance(0)
        assert len(pieces.payload) <= max_bytes or part.record_count == 1
        got += list(enumerate(payload, at))
    assert [record for record in got if record[0] >= offset] == list(enumerate(values, 100))[offset - 100 :]


@pytest.mark.parametrize("codec", Codec)
def test_a_payload_that_goes_whole_is_not_copied_until_its_response_is_put_together(codec: Codec) -> None:
    batches = read_from_log([([b"a" * 9_000], codec)] * 3)
    for head in consume_responses.data_heads(batches, 0):
        (batch,) = consume_responses.record_batches(batches, head, 0, 10_000, provenance=False, accept_zstd=True)
        assert isinstance(batch.payload, memoryview)
        assert batch.payload.obj is batches
