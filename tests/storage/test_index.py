from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ourolog.storage.index import SparseIndex
from ourolog.storage.types import START, Index, Offset, Position


def build(sizes: list[int], interval: int = 100) -> tuple[SparseIndex, list[tuple[int, int, int]]]:
    """An index over batches of these sizes; every third is a control batch, which takes no offset."""
    index, batches, position, offset = SparseIndex(START, interval), [], 0, 0
    for at, size in enumerate(sizes):
        index.note(position, position + size, Index(at), Offset(offset), 1000 + at)
        batches.append((position, at, offset))
        position += size
        offset += 0 if at % 3 == 0 else 2
    return index, batches


@given(st.lists(st.integers(1, 150), min_size=1, max_size=60), st.integers(0, 130))
def test_a_floor_is_at_or_below_and_close(sizes: list[int], wanted: int) -> None:
    index, batches = build(sizes)
    entry = index.floor_index(Index(min(wanted, len(sizes) - 1)))
    assert entry is not None
    position, _, offset = batches[entry.index]
    assert (entry.position_bytes, entry.offset) == (position, offset)
    assert entry.index <= wanted
    target = batches[min(wanted, len(sizes) - 1)][0]
    assert target - entry.position_bytes < 100 + 150
    below = index.floor_offset(Offset(wanted))
    assert below is not None
    holders = [at for _, at, base in batches if at % 3 and base <= wanted < base + 2]
    assert all(below.index <= holder for holder in holders)


@given(st.lists(st.integers(1, 150), max_size=40), st.data())
def test_a_file_holds_what_was_saved_up_to_its_first_damaged_byte(sizes: list[int], data: st.DataObject) -> None:
    index, batches = build(sizes)
    total = sum(sizes)
    half = data.draw(st.integers(0, total))
    content = index.encode_block(half)
    first_block = len(content)
    content += index.encode_block(total)
    whole = SparseIndex.decode(content, START, 100)
    assert (len(whole), whole.covered_to, whole.file_bytes) == (len(index), total, len(content))
    assert [whole.floor_index(Index(at)) for _, at, _ in batches] == [
        index.floor_index(Index(at)) for _, at, _ in batches
    ]
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    part = SparseIndex.decode(bytes(damaged), START, 100)
    assert (part.covered_to, part.file_bytes) == ((half, first_block) if bit >= first_block * 8 else (0, 0))


def test_entries_above_what_is_synced_are_not_saved() -> None:
    index, _ = build([100] * 10)
    saved = SparseIndex.decode(index.encode_block(500), START, 100)
    assert (len(saved), saved.covered_to) == (5, 500)
    assert len(index) == 10


def test_an_index_goes_on_where_its_file_ended() -> None:
    index, _ = build([60] * 10)
    again = SparseIndex.decode(index.encode_block(600), START, 100)
    for other in (index, again):
        other.note(600, 660, Index(10), Offset(10), 0)
        other.note(660, 720, Index(11), Offset(10), 0)
    assert again.floor_index(Index(11)) == index.floor_index(Index(11))


def test_the_largest_timestamp_counts_even_if_clocks_went_back() -> None:
    index = SparseIndex(START, 1)
    for at, timestamp_ms in enumerate((-5, 50, 20)):
        index.note(at * 10, at * 10 + 10, Index(at), Offset(at), timestamp_ms)
    assert [index.floor_index(Index(at)).timestamp_ms for at in range(3)] == [-5, 50, 50]  # type: ignore[union-attr]


def test_the_index_of_another_segment_is_not_believed() -> None:
    index, _ = build([60] * 10)
    content = index.encode_block(600)
    assert SparseIndex.decode(content, START, 100).covered_to == 600
    assert SparseIndex.decode(content, Position(Index(1), Offset(0)), 100).covered_to == 0
