from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.storage.compression import DecompressionError, compress, decompress


@given(st.binary(max_size=2000))
def test_what_is_compressed_comes_back(data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data


@given(st.binary(max_size=500), st.binary(max_size=500))
def test_frames_back_to_back_unfold_back_to_back(first: bytes, second: bytes) -> None:
    assert decompress(compress(first) + compress(second), len(first) + len(second)) == first + second


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_or_stay_within_the_bound(data: bytes) -> None:
    with contextlib.suppress(DecompressionError):
        assert len(decompress(data, 1000)) <= 1000


def test_a_bomb_is_stopped_at_the_bound() -> None:
    bomb = compress(bytes(50_000_000))
    assert len(bomb) < 10_000
    with pytest.raises(DecompressionError, match="more than 1000000 bytes"):
        decompress(bomb, 1_000_000)


def test_many_small_frames_are_a_bomb_too() -> None:
    with pytest.raises(DecompressionError, match="more than 100 bytes"):
        decompress(compress(b"x" * 60) * 2, 100)


def test_one_byte_too_many_is_too_many() -> None:
    assert decompress(compress(b"x" * 100), 100) == b"x" * 100
    with pytest.raises(DecompressionError):
        decompress(compress(b"x" * 101), 100)


def test_every_cut_of_a_frame_is_refused() -> None:
    whole = compress(b"some text, some text, some text" * 10)
    for end in range(len(whole)):
        with pytest.raises(DecompressionError):
            decompress(whole[:end], 1000)


def test_a_flood_of_empty_frames_is_refused_before_it_costs_anything() -> None:
    with pytest.raises(DecompressionError, match="frames"):
        decompress(compress(b"") * 40_000, max_bytes=1000)
