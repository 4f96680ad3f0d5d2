from __future__ import annotations

import contextlib

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.storage.batch import (
    FRAME_BYTES,
    MAX_BODY_BYTES,
    Batch,
    Codec,
    Kind,
    decode_batch,
    decode_path,
    encode_batch,
    encode_frame,
    encode_path,
    read_frame,
    read_head,
    scan,
    verify,
)
from ourolog.storage.errors import CorruptBatchError, UnknownVersionError
from ourolog.storage.types import Index, NodeId, Offset, Term

U64 = st.integers(0, 2**64 - 1)
NODE = (
    st.text(min_size=1, max_size=20)
    .filter(lambda name: 0 < len(name.encode("utf-8", "ignore")) < 256)
    .filter(lambda name: name.encode("utf-8", "ignore").decode() == name)
)
BATCHES = st.builds(
    Batch,
    index=U64.map(Index),
    term=U64.map(Term),
    base_offset=U64.map(Offset),
    record_count=st.integers(0, 2**32 - 1),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    kind=st.sampled_from(Kind),
    codec=st.sampled_from(Codec),
    path=st.lists(NODE.map(NodeId), min_size=1, max_size=5).map(tuple),
    origin_epoch=U64,
    origin_sequence=U64,
    payload=st.binary(max_size=200),
    source_epoch=U64,
    source_index=U64,
    producer_id=U64,
    producer_sequence=st.integers(0, 2**32 - 1),
)
ONE = Batch(
    Index(3), Term(2), Offset(10), 4, 99, Kind.DATA, Codec.NONE, (NodeId("n1"), NodeId("n2")), 7, 1, b"payload" * 5
)

GOLDEN = (
    "4f4c0100810000000500000022f173ce2ac2df3a0000060004000000030000000000000002000000000000000a000000"
    "000000006300000000000000070000000000000001000000000000000000000000000000000000000000000000000000"
    "0000000000000000026e31026e327061796c6f61647061796c6f61647061796c6f61647061796c6f61647061796c6f61"
    "64"
)


@given(BATCHES, st.integers(0, 2**32 - 1))
def test_what_is_encoded_is_decoded(batch: Batch, synced: int) -> None:
    encoded = encode_batch(batch, synced)
    head = read_head(encoded)
    assert head is not None
    assert verify(encoded, head)
    assert (head.synced, head.start, head.end) == (synced, 0, len(encoded))
    assert decode_batch(encoded, head) == batch
    assert head.end_offset == batch.end_offset


@given(st.lists(BATCHES, max_size=4))
def test_batches_back_to_back_are_all_found(batches: list[Batch]) -> None:
    blob = b"".join(map(encode_batch, batches))
    assert [decode_batch(blob, head) for head in scan(blob)] == batches


@given(BATCHES, st.data())
def test_a_flipped_bit_is_never_taken_for_a_batch(batch: Batch, data: st.DataObject) -> None:
    encoded = bytearray(encode_batch(batch))
    bit = data.draw(st.integers(0, len(encoded) * 8 - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptBatchError):
        list(scan(bytes(encoded)))


@given(BATCHES, st.data())
def test_a_batch_that_is_cut_off_is_not_a_batch_yet(batch: Batch, data: st.DataObject) -> None:
    encoded = encode_batch(batch)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    assert read_head(encoded[:cut]) is None
    assert list(scan(encode_batch(ONE) + encoded[:cut]))[-1].index == ONE.index


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_or_waited_for(blob: bytes) -> None:
    with contextlib.suppress(CorruptBatchError):
        assert list(scan(blob)) == []


@given(st.binary(max_size=200))
def test_a_body_of_hostile_bytes_with_good_checksums_raises_nothing_else(body: bytes) -> None:
    blob = encode_frame(len(body) + 4, 0) + google_crc32c.value(body).to_bytes(4, "little") + body
    try:
        for head in scan(blob):
            decode_batch(blob, head)
    except CorruptBatchError:
        pass


@given(st.binary(max_size=300))
def test_a_path_of_hostile_bytes_is_a_path_or_refused(encoded: bytes) -> None:
    try:
        path = decode_path(encoded)
    except CorruptBatchError:
        return
    assert encode_path(path) == encoded


def test_the_body_checksum_does_not_depend_on_the_frame() -> None:
    first, second = encode_batch(ONE, 0), encode_batch(ONE, 12345)
    assert first != second
    assert first[FRAME_BYTES:] == second[FRAME_BYTES:]


def test_the_layout_of_version_1_stays() -> None:
    """Rewrite only for a new format version: logs on disk are read by later releases."""
    assert encode_batch(ONE, 5).hex() == GOLDEN


def test_another_format_version_is_not_taken_for_damage() -> None:
    covered = b"OL\x02\x00" + (200).to_bytes(4, "little") + bytes(4)
    with pytest.raises(UnknownVersionError, match="version 2"):
        read_frame(covered + google_crc32c.value(covered).to_bytes(4, "little"))


def test_a_frame_that_claims_too_large_a_body_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(CorruptBatchError, match="claims a body"):
        read_head(encode_frame(MAX_BODY_BYTES + 1, 0))


def test_a_body_that_nobody_would_read_is_not_written() -> None:
    batch = Batch(
        Index(0), Term(0), Offset(0), 1, 0, Kind.DATA, Codec.NONE, (NodeId("n"),), 0, 0, bytes(MAX_BODY_BYTES)
    )
    with pytest.raises(ValueError, match="larger than"):
        encode_batch(batch)


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_a_node_id_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        encode_path((NodeId(name),))


def test_control_batches_take_no_offsets() -> None:
    control = Batch(Index(0), Term(1), Offset(5), 3, 0, Kind.CONTROL, Codec.NONE, (NodeId("n"),), 0, 0, b"")
    assert control.end_offset == 5
