"""The simulation's own encoding of records is that of the contract."""

from __future__ import annotations

import pytest

from ourolog.rpc.records import decode_values as decode_by_protobuf
from ourolog.rpc.records import encode_record as encode_by_protobuf
from ourolog.simulation.records import decode_values, encode_record


@pytest.mark.parametrize("size", [1, 2, 125, 126, 127, 128, 129, 16_380, 16_384, 70_000])
def test_a_record_is_encoded_as_protobuf_does(size: int) -> None:
    value = bytes(number % 251 for number in range(size))
    assert encode_record(value) == encode_by_protobuf(value)
    assert decode_values(encode_record(value)) == [value]


def test_payloads_that_were_merged_decode_to_all_their_records_in_order() -> None:
    values = [b"a", b"b" * 200, b"c" * 20_000]
    payload = b"".join(map(encode_record, values))
    assert decode_values(payload) == values == decode_by_protobuf(payload)


@pytest.mark.parametrize("wrong", [b"\x12\x01x", b"\x0a\x05\x0a", b"\x0a", b"\x0a\x03\x0a\x00x"])
def test_other_bytes_are_no_records(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|payload"):
        decode_values(wrong)
