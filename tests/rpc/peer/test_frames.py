"""Frames: whatever pieces a stream comes in, the same frames come out of it, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.rpc.peer import frames
from ourolog.rpc.peer.frames import (
    HEAD,
    PIECE_BYTES,
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    NotAFrameError,
)

MOST = 10_000
any_frame = st.builds(
    Frame,
    kind=st.sampled_from(FrameKind),
    call_id=st.integers(0, 2**64 - 1),
    method=st.integers(0, 255),
    message=st.binary(max_size=60) | st.binary(min_size=200, max_size=600),
    payload=st.just(b"") | st.binary(max_size=60) | st.binary(min_size=200, max_size=3000),
)


def feed(reader: FrameReader, data: bytes, sizes: list[int]) -> list[Frame]:
    """What the reader makes of the data when it comes in pieces of these sizes, over and over."""
    found = []
    left = memoryview(data)
    at = 0
    while left:
        room = reader.get_buffer()
        assert len(room), "there is always room"
        count = min(len(room), len(left), sizes[at % len(sizes)])
        room[:count] = left[:count]
        found += reader.received(count)
        if reader.error is not None:
            raise reader.error
        left = left[count:]
        at += 1
    return found


@given(st.lists(any_frame, max_size=8), st.lists(st.integers(1, 700), min_size=1, max_size=8), st.integers(18, 400))
def test_any_pieces_give_the_same_frames(sent: list[Frame], sizes: list[int], buffer_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(frames, "PIECE_BYTES", 500)
        reader = FrameReader(MOST, buffer_bytes)
        data = b"".join(frame.head_and_message() + frame.payload for frame in sent)
        assert feed(reader, data, sizes) == sent
        assert not reader.has_begun_frame


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_bytes_that_are_no_frames_raise_nothing_but_a_frame_error(data: bytes, sizes: list[int]) -> None:
    try:
        feed(FrameReader(MOST, 64), data, sizes)
    except FrameError:
        return


@given(any_frame, st.data())
def test_a_frame_that_has_not_come_as_a_whole_is_none(frame: Frame, data: st.DataObject) -> None:
    reader = FrameReader(MOST, 64)
    raw = frame.head_and_message() + frame.payload
    cut = data.draw(st.integers(1, len(raw) - 1))
    assert feed(reader, raw[:cut], [cut]) == []
    assert reader.has_begun_frame
    assert feed(reader, raw[cut:], [len(raw)]) == [frame]


BUFFER = 64


@pytest.mark.parametrize("size", range(BUFFER - 3, BUFFER + 4))
def test_a_frame_about_as_large_as_the_buffer_passes_wherever_it_is_cut(size: int) -> None:
    frame = Frame(FrameKind.ANSWER, 7, 1, b"message", b"p" * (size - HEAD.size - len(b"message")))
    raw = frame.head_and_message() + frame.payload
    assert len(raw) == size
    behind = Frame(FrameKind.CANCEL, 8)
    for cut in range(1, size):
        reader = FrameReader(MOST, BUFFER)
        assert feed(reader, raw[:cut], [cut]) == []
        assert reader.has_begun_frame
        assert feed(reader, raw[cut:] + behind.head_and_message(), [size]) == [frame, behind]
        assert not reader.has_begun_frame


@pytest.mark.parametrize("first", [b"G", b"\x16", b"P", b"\x00", b"\xff"])
def test_what_begins_as_no_frame_does_is_known_by_its_first_byte(first: bytes) -> None:
    with pytest.raises(NotAFrameError) as raised:
        feed(FrameReader(MOST), first, [1])
    assert raised.value.first_byte == first[0]


@pytest.mark.parametrize(("message_bytes", "payload_bytes"), [(MOST + 1, 0), (1, MOST), (2**32 - 1, 2**32 - 1)])
def test_a_frame_that_is_too_large_is_refused_by_its_head(message_bytes: int, payload_bytes: int) -> None:
    with pytest.raises(FrameError, match="larger than 10000"):
        feed(FrameReader(MOST), HEAD.pack(FrameKind.ANSWER, 0, 1, message_bytes, payload_bytes), [HEAD.size])


def test_a_large_frame_takes_memory_for_what_has_come_of_it_and_a_piece_more() -> None:
    reader = FrameReader(2**30)
    feed(reader, HEAD.pack(FrameKind.ANSWER, 0, 1, 0, 2**30), [HEAD.size])
    assert len(reader.get_buffer()) == PIECE_BYTES
    for _ in range(3):
        reader.received(len(reader.get_buffer()))
    assert reader._large is not None
    assert sum(map(len, reader._large._payload._pieces)) == 3 * PIECE_BYTES


def test_frames_before_what_is_none_are_frames() -> None:
    reader = FrameReader(MOST)
    good = Frame(FrameKind.CANCEL, 7)
    raw = good.head_and_message() * 2 + b"noise"
    reader.get_buffer()[: len(raw)] = raw
    assert reader.received(len(raw)) == [good, good]
    assert isinstance(reader.error, NotAFrameError)
