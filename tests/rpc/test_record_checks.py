"""What clients send, checked: every claim a batch makes about itself, and the canonical form."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.rpc.errors import ServiceError
from ourolog.rpc.record_checks import RecordLimits, checked_batch, checked_record
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.batch import Codec
from ourolog.storage.compression import compress, decompress
from ourolog.storage.record_set import decode_records, encode_record, encode_records

SKIPPED = b"\x50\x2a\x4d\x18\x00\x00\x00\x00"  # a skippable frame of no bytes (RFC 8878 section 3.1.2)
LIMITS = RecordLimits(max_record_bytes=20_000, max_batch_bytes=100_000)


def batch(values: list[bytes], **replaced: object) -> pb.ProduceBatchRequest:
    fields: dict[str, object] = {"records": encode_records(values), "record_count": len(values), **replaced}
    return pb.ProduceBatchRequest(**fields)  # type: ignore[arg-type]


def field_of(request: pb.ProduceBatchRequest, limits: RecordLimits = LIMITS) -> str:
    with pytest.raises(ServiceError) as raised:
        checked_batch(request, limits)
    bad = [detail for detail in raised.value.details if detail.DESCRIPTOR.name == "BadRequest"]
    return str(bad[0].field_violations[0].field)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [125, 126, 127, 128, 16_380, 16_381, 16_383, 16_384, 2_097_147, 2_097_148, 2_097_152])
@pytest.mark.parametrize("beside", [[], [b"v"]])
def test_the_canonical_form_is_recognised_where_its_varints_grow(size: int, beside: list[bytes]) -> None:
    payload = encode_records([bytes(size), *beside])
    request = pb.ProduceBatchRequest(records=payload, record_count=1 + len(beside))
    assert checked_batch(request, RecordLimits(3_000_000, 4_000_000)).payload == payload


@given(st.lists(st.integers(1, 20_000).map(bytes), min_size=1, max_size=5))
def test_canonical_bytes_pass_through_untouched(values: list[bytes]) -> None:
    payload = pb.RecordSet(records=[pb.Record(value=value) for value in values]).SerializeToString()
    request = pb.ProduceBatchRequest(records=payload, record_count=len(values))
    new = checked_batch(request, RecordLimits(20_000, 1_000_000))
    assert new.payload == payload
    assert (new.record_count, new.codec) == (len(values), Codec.NONE)


@given(
    st.lists(
        st.tuples(st.binary(min_size=1, max_size=300), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20
    )
)
def test_whatever_else_a_record_carries_is_not_kept(records: list[tuple[bytes, int, int]]) -> None:
    sent = pb.RecordSet(records=[pb.Record(value=value, offset=offset, type=kind) for value, offset, kind in records])
    new = checked_batch(pb.ProduceBatchRequest(records=sent.SerializeToString(), record_count=len(records)), LIMITS)
    assert new.payload == encode_records([value for value, _, _ in records])


def test_padded_varints_and_values_given_twice_are_brought_to_the_canonical_form() -> None:
    padded_length = b"\x0a\x83\x00\x0a\x01v"
    twice = b"\x0a\x06\x0a\x01w\x0a\x01v"
    unknown_field = b"\x0a\x05\x0a\x01v\x78\x01"
    unknown_in_the_set = b"\x0a\x03\x0a\x01v\x78\x01"
    for sent in (padded_length, twice, unknown_field, unknown_in_the_set):
        new = checked_batch(pb.ProduceBatchRequest(records=sent, record_count=1), LIMITS)
        assert new.payload == encode_record(b"v")


def test_a_compressed_batch_that_is_not_in_the_canonical_form_is_kept_compressed() -> None:
    sent = pb.RecordSet(records=[pb.Record(value=b"v" * 100, offset=3)]).SerializeToString()
    new = checked_batch(pb.ProduceBatchRequest(records=compress(sent), record_count=1, codec=pb.CODEC_ZSTD), LIMITS)
    assert new.codec is Codec.ZSTD
    assert decompress(new.payload, 1000) == encode_record(b"v" * 100)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (batch([]), "records"),
        (batch([b"a"], record_count=0), "records"),
        (batch([b"a"], record_count=2), "record_count"),
        (batch([b"aaaaaaaaaa"], record_count=2), "record_count"),
        (batch([b"a", b"b"], record_count=1), "record_count"),
        (batch([b"a"], record_count=4_000_000_000), "record_count"),
        (batch([b"a"], checksum=1), "checksum"),
        (batch([b"a"], records=b"\xff garbage"), "records"),
        (batch([b"a" * 20, b"", b"b"]), "records[1].value"),
        (batch([b"a", bytes(20_001)]), "records[1].value"),
        (batch([bytes(19_000)] * 6), "records"),
        (batch([b"a"], codec=7), "codec"),
        (batch([b"a"], codec=pb.CODEC_ZSTD), "records"),
        (batch([b"a"], codec=pb.CODEC_ZSTD, records=compress(bytes(1_000_000))), "records"),
        (batch([b"a"], codec=pb.CODEC_ZSTD, records=compress(encode_records([b"a"] * 10))[:-3]), "records"),
        (batch([b"a"], codec=pb.CODEC_ZSTD, records=compress(b"") * 65 + compress(encode_records([b"a"]))), "records"),
        (batch([b"a"], codec=pb.CODEC_ZSTD, records=SKIPPED * 65 + compress(encode_records([b"a"]))), "records"),
    ],
)
def test_a_batch_that_is_not_what_it_claims_is_refused_naming_the_field(
    request_: pb.ProduceBatchRequest, field: str
) -> None:
    assert field_of(request_) == field


def test_a_right_checksum_is_accepted() -> None:
    payload = encode_records([b"a", b"b"])
    assert checked_batch(batch([b"a", b"b"], checksum=google_crc32c.value(payload)), LIMITS).record_count == 2


@given(st.binary(max_size=400), st.integers(0, 50), st.sampled_from([pb.CODEC_NONE, pb.CODEC_ZSTD]))
def test_hostile_bytes_are_refused_or_are_records(payload: bytes, count: int, codec: pb.Codec.ValueType) -> None:
    request = pb.ProduceBatchRequest(records=payload, record_count=count, codec=codec)
    try:
        new = checked_batch(request, LIMITS)
    except ServiceError:
        return
    plain = decompress(new.payload, 100_000) if new.codec is Codec.ZSTD else new.payload
    values = decode_records(plain)
    assert len(values) == count
    assert plain == encode_records(values)


def test_a_record_of_exactly_the_limit_is_accepted() -> None:
    request = pb.ProduceRequest(record=pb.Record(value=bytes(20_000)))
    assert decode_records(checked_record(request, LIMITS).payload) == [bytes(20_000)]


def test_a_number_without_a_producer_is_refused() -> None:
    assert field_of(batch([b"v"], sequence=1)) == "producer_id"
    with pytest.raises(ServiceError, match="no producer_id"):
        checked_record(pb.ProduceRequest(record=pb.Record(value=b"v"), sequence=1), LIMITS)


def test_what_a_producer_compressed_is_stored_as_the_same_bytes_whichever_node_takes_it() -> None:
    plain = pb.RecordSet(records=[pb.Record(value=b"v" * 50, offset=3)]).SerializeToString()
    request = batch([], records=compress(plain), record_count=1, codec=pb.CODEC_ZSTD, producer_id=5, sequence=6)
    new = checked_batch(request, LIMITS)
    assert (new.payload, new.codec) == (encode_records([b"v" * 50]), Codec.NONE)
    canonical = compress(encode_records([b"v" * 50]))
    request.records = canonical
    new = checked_batch(request, LIMITS)
    assert (new.payload, new.codec, new.producer_id, new.producer_sequence) == (canonical, Codec.ZSTD, 5, 6)
