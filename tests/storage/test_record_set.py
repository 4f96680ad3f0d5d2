"""Payloads written and read by hand, held against protobuf's own encoding of the contract."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.record_set import (
    LEAST_RECORD_BYTES,
    decode_records,
    encode_record,
    encode_records,
    encoded_size_bytes,
    equal_values,
)

# Around every size of a value from which on a length takes one more byte; protobuf's are the outer and the inner.
_AROUND_STEPS = [
    size for step in (126, 128, 16_381, 16_384, 2_097_148, 2_097_152) for size in (step - 2, step - 1, step, step + 1)
]


def by_protobuf(values: list[bytes]) -> bytes:
    return pb.RecordSet(records=[pb.Record(value=value) for value in values]).SerializeToString()


@pytest.mark.parametrize("size", [1, 2, 70_000, *_AROUND_STEPS])
def test_a_record_is_encoded_byte_for_byte_as_protobuf_does(size: int) -> None:
    value = bytes(number % 251 for number in range(min(size, 251))).ljust(size, b"x")
    encoded = encode_record(value)
    assert encoded == by_protobuf([value])
    assert len(encoded) == encoded_size_bytes([size])
    assert decode_records(encoded) == [value]


_SIZES = st.one_of(st.integers(1, 300), st.integers(16_300, 16_500), st.sampled_from(_AROUND_STEPS[:16]))


@given(st.lists(_SIZES, min_size=1, max_size=8), st.binary(min_size=1, max_size=9))
def test_many_records_are_encoded_byte_for_byte_as_protobuf_does(sizes: list[int], filling: bytes) -> None:
    values = [(filling * (size // len(filling) + 1))[:size] for size in sizes]
    encoded = encode_records(values)
    assert encoded == by_protobuf(values)
    assert len(encoded) == encoded_size_bytes(sizes)
    assert decode_records(encoded) == values


@given(st.lists(st.lists(st.binary(min_size=1, max_size=200), max_size=5), max_size=5))
def test_payloads_that_were_merged_decode_to_all_their_records_in_order(groups: list[list[bytes]]) -> None:
    merged = b"".join(map(encode_records, groups))
    assert decode_records(merged) == [value for group in groups for value in group]


def test_no_record_is_smaller_than_one_of_one_byte() -> None:
    assert len(encode_record(b"v")) == LEAST_RECORD_BYTES


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x12\x01x",
        b"\x0a\x05\x0a",
        b"\x0a",
        b"\x0a\x00",
        b"\x0a\x03\x0a\x00x",
        b"\x0a\x05\x0a\x01v\x78\x01",
        b"\x0a\x83\x80\x80\x80\x80\x00\x0a\x01v",
    ],
)
def test_other_bytes_are_no_records(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|payload"):
        decode_records(wrong)


@given(st.binary(max_size=60))
def test_hostile_bytes_are_refused_or_are_what_protobuf_reads(payload: bytes) -> None:
    try:
        values = decode_records(payload)
    except ValueError:
        return
    assert values == [record.value for record in pb.RecordSet.FromString(payload).records]


@given(st.binary(min_size=1, max_size=200), st.integers(1, 30), st.lists(st.binary(max_size=200), max_size=3))
def test_records_of_one_size_are_found_to_be_so_and_nothing_else_is(
    value: bytes, count: int, others: list[bytes]
) -> None:
    values = [*[value] * count, *others]
    payload = encode_records(values)
    found = equal_values(payload, len(values))
    assert found == (values if len({len(each) for each in values}) == 1 else None)
    assert equal_values(payload, len(values) + 1) is None


def test_a_byte_that_is_wrong_before_any_value_makes_records_unequal() -> None:
    for at in range(8 * 13):
        payload = bytearray(encode_records([b"x" * 9] * 8))
        payload[at] ^= 1
        found = equal_values(bytes(payload), 8)
        assert found == (None if at % 13 < 4 else decode_records(bytes(payload)))


def test_bytes_that_are_no_records_are_not_equal_records() -> None:
    for payload, count in ((b"", 0), (b"", 1), (b"\x0a", 1), (b"\xff" * 20, 4), (b"\x0a\x03\x0a\x02ab", 1)):
        assert equal_values(payload, count) is None
