from __future__ import annotations

import pytest

from ourolog.storage.batch import Kind, decode_batch, scan
from ourolog.storage.errors import DamagedLogError, OutOfRangeError
from ourolog.storage.index import SparseIndex
from ourolog.storage.segment import parse_stem
from ourolog.storage.segment_cache import SegmentCache
from ourolog.storage.types import Index, Offset, Position, Term


@pytest.fixture
def mixed(bench, files):
    """Data batches of three records; each fourth entry is a control batch. Segments of about five."""
    log = bench.open(files, segment_bytes=700, index_interval_bytes=250)
    for at in range(40):
        batch = bench.control() if at % 4 == 0 else bench.data(b"%05d" % at, count=3)
        log.append_new(batch, Term(1), at)
        log.commit()
    return log


def test_every_index_and_offset_is_found_with_any_size(bench, mixed) -> None:
    entries = bench.everything(mixed)
    for max_bytes in (0, 1, 200, 400, 10_000):
        for entry in entries:
            read = mixed.read_from_index(entry.index, max_bytes, mixed.end.index)
            heads = list(scan(read.batches))
            assert [head.index for head in heads] == list(range(entry.index, entry.index + len(heads)))
            assert len(heads) == 1 or len(read.batches) <= max_bytes
            assert read.next.index == heads[-1].index + 1
            assert read.next.offset == heads[-1].end_offset
        for entry in (entry for entry in entries if entry.kind is Kind.DATA):
            for offset in range(entry.base_offset, entry.end_offset):
                read = mixed.read_from_offset(Offset(offset), max_bytes, mixed.end.index)
                assert next(scan(read.batches)).index == entry.index


def test_the_first_batch_comes_however_large_it_is(bench, files) -> None:
    log = bench.open(files)
    log.append_new(bench.data(b"x" * 100_000), Term(1), 0)
    log.append_new(bench.data(b"y" * 100_000), Term(1), 0)
    log.commit()
    read = log.read_from_index(Index(0), 10, Index(2))
    assert (len(list(scan(read.batches))), read.next.index) == (1, 1)


def test_a_read_never_passes_until(mixed) -> None:
    for until in range(1, 40):
        index = max(0, until - 3)
        read = mixed.read_from_index(Index(index), 100_000, Index(until))
        assert index < read.next.index <= until
        with pytest.raises(OutOfRangeError) as caught:
            mixed.read_from_index(Index(until), 100_000, Index(until))
        assert (caught.value.first, caught.value.end) == (0, until)


def test_an_offset_at_or_above_until_is_out_of_range_with_the_range_in_offsets(bench, mixed) -> None:
    entries = bench.everything(mixed)
    for until in range(1, 41):
        end = entries[until].base_offset if until < 40 else mixed.end.offset
        if end:
            assert mixed.read_from_offset(Offset(end - 1), 1, Index(until)).next.offset == end
        for offset in (end, end + 1, 10**9):
            with pytest.raises(OutOfRangeError) as caught:
                mixed.read_from_offset(Offset(offset), 100, Index(until))
            assert (caught.value.wanted, caught.value.first, caught.value.end) == (offset, 0, end)


def test_control_batches_at_the_end_of_a_segment_are_passed_over(bench, files) -> None:
    log = bench.open(files, segment_bytes=400)
    for _ in range(12):
        log.append_new(bench.control(), Term(1), 0)
    log.append_new(bench.data(), Term(1), 0)
    log.commit()
    assert log.segment_count > 3
    read = log.read_from_offset(Offset(0), 10_000, log.end.index)
    assert [head.index for head in scan(read.batches)] == [12]


def test_reading_on_needs_no_look_up(bench, files, monkeypatch) -> None:
    log = bench.open(files, segment_bytes=2000)
    bench.fill(log, 100)
    at = log.read_from_index(Index(0), 500, log.end.index).next
    offset_at = at.offset

    def refuse(*_: object) -> None:
        raise AssertionError("looked up")

    monkeypatch.setattr(SegmentCache, "index", refuse)
    while at.index < log.end.index:
        at = log.read_from_index(at.index, 500, log.end.index).next
    while offset_at < log.end.offset:
        offset_at = log.read_from_offset(offset_at, 500, log.end.index).next.offset
    # The tail goes on from there, over a roll as well.
    for first in range(100, 130):
        bench.fill(log, 1, first=first)
        assert log.read_from_index(Index(first), 500, log.end.index).next == log.end


def test_reading_on_costs_the_bytes_it_reads(bench, files, monkeypatch) -> None:
    log = bench.open(files)
    bench.fill(log, 200, size=1000)
    file = log._segments[-1].file
    sizes = []
    read = type(file).read
    monkeypatch.setattr(type(file), "read", lambda self, at, size: sizes.append(size) or read(self, at, size))
    at = log.start.index
    while at < log.end.index:
        at = log.read_from_index(at, 20_000, log.end.index).next.index
    assert sum(sizes) < 1.2 * log.size_bytes
    assert len(sizes) < 16


def test_many_sealed_segments_are_read_with_few_open_files(bench, files) -> None:
    log = bench.open(files, segment_bytes=300)
    bench.fill(log, 100)
    for at in (*range(100), *range(99, -1, -1)):
        log._reader._by_index.clear()
        assert log.read_from_index(Index(at), 1, log.end.index).next.index == at + 1
    assert log.segment_count == 50
    assert len(log._segment_cache._open) <= 16
    assert len(log._segment_cache._indexes) <= 16


def test_a_sealed_segment_has_its_index_on_the_side(bench, files, monkeypatch) -> None:
    log = bench.open(files, segment_bytes=2000)
    bench.fill(log, 100)
    assert len(bench.paths(files, ".idx")) >= log.segment_count - 1
    again = bench.open(files.after_crash(keep_unsynced=True), segment_bytes=2000)
    monkeypatch.setattr(SegmentCache, "_rebuilt", None)
    assert again.read_from_index(Index(0), 1, Index(100)).next.index == 1


def mislead(content: bytearray, base: Position) -> None:
    """A valid index with an entry that points into the middle of a batch."""
    index = SparseIndex(base, 300)
    index.note(7, 8, Index(base.index + 1), Offset(base.offset + 1), 0)
    covered_to = SparseIndex.decode(bytes(content), base, 300).covered_to
    content[:] = index.encode_block(covered_to)


@pytest.mark.parametrize("how", ["removed", "emptied", "scrambled", "of another segment", "misleading"])
def test_a_damaged_or_missing_index_is_rebuilt_silently(bench, files, how: str) -> None:
    log = bench.open(files, segment_bytes=2000, index_interval_bytes=300)
    bench.fill(log, 100)
    log.close()
    expected = bench.payloads(bench.open(files))
    for path in bench.paths(files, ".idx"):
        if how == "removed":
            files.remove(path)
        elif how == "emptied":
            files.content(path).clear()
        elif how == "scrambled":
            files.content(path)[10] ^= 255
        elif how == "of another segment":
            files.content(path)[:] = files.content(bench.paths(files, ".idx")[2])
        else:
            mislead(files.content(path), parse_stem(path.rsplit("/", 1)[1][:-4]))
    log = bench.open(files, segment_bytes=2000, index_interval_bytes=300)
    for at in range(99, -1, -1):
        read = log.read_from_index(Index(at), 1, log.end.index)
        assert next(scan(read.batches)).index == at
    assert bench.payloads(log) == expected
    log.close()
    fresh = bench.open(files, segment_bytes=2000, index_interval_bytes=300)
    for path in bench.paths(files, ".idx"):
        assert len(files.content(path)) > 24, path
    assert bench.payloads(fresh) == expected


def test_damage_is_reported_where_it_is_and_the_rest_can_be_read(bench, files) -> None:
    log = bench.open(files, segment_bytes=2000)
    bench.fill(log, 50)
    path = bench.paths(files, ".log")[1]
    first = log._segments[1].base.index
    files.content(path)[115] ^= 1
    damaged = first
    with pytest.raises(DamagedLogError, match=r"damaged at byte 0 \(from index") as caught:
        log.read_from_index(Index(damaged), 100, log.end.index)
    assert (caught.value.path, caught.value.position_bytes, caught.value.index) == (path, 0, damaged)
    with pytest.raises(DamagedLogError):
        log.read_from_offset(Offset(damaged), 100, log.end.index)
    assert log.read_from_index(Index(0), 100_000, log.end.index).next.index == damaged
    assert log.read_from_index(Index(damaged + 1), 100, log.end.index).next.index == damaged + 2


def test_batches_before_the_damage_are_answered_first(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 10)
    size = log.size_bytes // 10
    files.content(bench.paths(files, ".log")[0])[size * 6 + 5] ^= 1
    read = log.read_from_index(Index(2), 100_000, log.end.index)
    assert read.next.index == 6
    with pytest.raises(DamagedLogError):
        log.read_from_index(Index(6), 100_000, log.end.index)


def test_a_segment_that_went_missing_is_damage_where_it_was(bench, files) -> None:
    log = bench.open(files, segment_bytes=500)
    bench.fill(log, 30)
    gone = log._segments[3]
    log.close()
    files.remove(gone.log_path)
    log = bench.open(files, segment_bytes=500)
    assert log.read_from_index(Index(gone.base.index - 1), 1, log.end.index).next == gone.base
    with pytest.raises(DamagedLogError, match="entries are missing"):
        log.read_from_index(gone.base.index, 100, log.end.index)


# ------------------------------------------------------------ long stretches

STRETCH_BYTES = 300_000


@pytest.fixture
def long(bench, files):
    """Segments of a megabyte, most batches about 20 kB, every seventh some hundred bytes, one larger than a stretch."""
    log = bench.open(files, segment_bytes=1_000_000)
    for at in range(150):
        size = 400_000 if at == 90 else 300 if at % 7 == 0 else 20_000 + at
        log.append_new(bench.data(b"%03d" % at * (size // 3)), Term(1), at)
    log.commit()
    return log


def stretches(log, at, max_bytes=STRETCH_BYTES):
    """The reads from the entry `at` to the end of the log, one continuing the other."""
    while at < log.end.index:
        read = log.read_from_index(at, max_bytes, log.end.index)
        assert read.next.index > at
        yield read
        at = read.next.index


def bytes_of(files, bench) -> bytes:
    return b"".join(bytes(files.content(path)) for path in bench.paths(files, ".log"))


@pytest.mark.parametrize("first", [0, 1, 7, 89, 90, 91, 149])
def test_long_stretches_are_the_bytes_of_the_segments_one_after_the_other(bench, files, long, first: int) -> None:
    reads = list(stretches(long, Index(first)))
    whole = bytes_of(files, bench)
    assert whole.endswith(b"".join(read.batches for read in reads))
    for read in reads:
        heads = list(scan(read.batches))
        assert heads[-1].end == len(read.batches)
        assert (read.next.index, read.next.offset) == (heads[-1].index + 1, heads[-1].end_offset)
        assert len(heads) == 1 or len(read.batches) <= STRETCH_BYTES


def test_a_long_stretch_is_one_read_that_ends_where_a_batch_does(bench, files, long, monkeypatch) -> None:
    first = long.read_from_index(Index(0), STRETCH_BYTES, long.end.index)
    sizes = []
    file = type(long._segment_cache.file(long._segments[0]))
    read_file = file.read
    monkeypatch.setattr(file, "read", lambda self, at, size: sizes.append(size) or read_file(self, at, size))
    read = long.read_from_index(first.next.index, STRETCH_BYTES, long.end.index)
    assert sizes == [len(read.batches)]
    assert len(read.batches) > STRETCH_BYTES - 2 * 20_200


def test_a_batch_that_is_larger_than_a_stretch_comes_alone(bench, long) -> None:
    before = long.read_from_index(Index(88), STRETCH_BYTES, long.end.index)
    assert before.next.index == 90
    read = long.read_from_index(Index(90), STRETCH_BYTES, long.end.index)
    assert (read.next.index, len(list(scan(read.batches)))) == (91, 1)


def test_a_stretch_ends_with_its_segment(bench, long) -> None:
    bases = [segment.base.index for segment in long._segments[1:]]
    assert len(bases) >= 2
    for base in bases:
        assert long.read_from_index(Index(base - 2), STRETCH_BYTES, long.end.index).next.index == base


def test_a_stretch_ends_below_until_wherever_that_is(bench, long) -> None:
    long.read_from_index(Index(0), STRETCH_BYTES, long.end.index)
    for first in range(20):
        long.read_from_index(Index(first), STRETCH_BYTES, long.end.index)
        for until in range(first + 1, first + 20):
            assert long.read_from_index(Index(first), STRETCH_BYTES, Index(until)).next.index <= until


def test_long_stretches_begin_where_retention_has_cut(bench, files, long) -> None:
    expected = bench.payloads(long)
    log = bench.open(files.after_crash(keep_unsynced=True), segment_bytes=1_000_000, retention_bytes=1_000_000)
    assert log.retain(0)
    start = log.start.index
    assert start > 0
    with pytest.raises(OutOfRangeError):
        log.read_from_index(Index(start - 1), STRETCH_BYTES, log.end.index)
    blob = b"".join(read.batches for read in stretches(log, start))
    assert [decode_batch(blob, head).payload for head in scan(blob)] == expected[start:]


@pytest.mark.parametrize("shift", [1, 7, 60, 104, 19_000])
def test_an_index_that_names_no_batch_costs_a_stretch_its_end_and_nothing_else(
    bench, files, long, monkeypatch, shift: int
) -> None:
    floor = SparseIndex.floor_position
    monkeypatch.setattr(SparseIndex, "floor_position", lambda self, at: floor(self, at) - shift)
    assert b"".join(read.batches for read in stretches(long, Index(0))) == bytes_of(files, bench)


@pytest.mark.parametrize("byte", [0, 2, 5, 9, 13, 18, 24, 40, 110, 15_000, -1])
def test_damage_in_the_middle_of_a_stretch_ends_it_and_is_never_passed_on(bench, files, long, byte: int) -> None:
    path = bench.paths(files, ".log")[0]
    heads = list(scan(bytes(files.content(path))))
    damaged = heads[17]
    files.content(path)[(damaged.start if byte >= 0 else damaged.end) + byte] ^= 4
    at = Index(5)
    long.read_from_index(Index(0), STRETCH_BYTES, at)
    while at < 17:
        read = long.read_from_index(at, STRETCH_BYTES, long.end.index)
        assert list(scan(read.batches))[-1].index < 17
        at = read.next.index
    assert at == 17
    with pytest.raises(DamagedLogError) as caught:
        long.read_from_index(at, STRETCH_BYTES, long.end.index)
    assert (caught.value.position_bytes, caught.value.index) == (damaged.start, 17)
