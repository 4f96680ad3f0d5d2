"""The scrub: all that is on disk is read, whatever the index says, and what is damaged anywhere is found."""

from __future__ import annotations

import pytest

from ourolog.storage.batch import scan
from ourolog.storage.types import Index, Term
from tests.storage.test_repair import batch_at, lies_at, other_files, pair, spoil  # noqa: F401  # fixtures

STEPS = 200


def round_of(log, max_bytes: int = 300):
    """All that one round of the scrub finds: damaged entries, what was made again, what is lost, how much was read."""
    damaged, rebuilt, lost, read_bytes = [], [], [], 0
    for _ in range(STEPS):
        scrubbed = log.scrub(max_bytes)
        damaged += [damage.index for damage in scrubbed.damages]
        rebuilt += scrubbed.rebuilt
        lost += scrubbed.lost
        read_bytes += scrubbed.read_bytes
        if scrubbed.is_complete:
            return damaged, rebuilt, lost, read_bytes
    raise AssertionError("a round ends")


@pytest.mark.parametrize("max_bytes", [1, 300, 10**6])
def test_a_round_reads_every_byte_on_disk_and_finds_nothing_where_nothing_is_wrong(pair, max_bytes) -> None:  # noqa: F811
    replica, _ = pair
    for _ in range(2):
        assert round_of(replica, max_bytes) == ([], [], [], replica.size_bytes)


@pytest.mark.parametrize("part", ["payload", "header", "frame", "all"])
def test_damage_is_found_wherever_it_is_and_the_round_goes_on_behind_it(pair, part) -> None:  # noqa: F811
    replica, leader = pair
    count = replica.end.index
    for index in range(count):
        spoil(replica, index, part)
        assert round_of(replica)[0] == [index]
        replica.repair(Index(index), batch_at(leader, index))
    several = [0, 3, 7, 12, 13, 21, count - 1]
    for index in several:
        spoil(replica, index, "payload")
    assert round_of(replica)[0] == several
    for index in several:
        replica.repair(Index(index), batch_at(leader, index))
    assert round_of(replica)[0] == []


def test_a_segment_that_was_cut_short_is_found(pair) -> None:  # noqa: F811
    replica, _ = pair
    segment = replica._segments[1]
    last = list(scan(replica._files.read_all(segment.log_path)))[-1]
    replica._files.open(segment.log_path).truncate(last.start + 30)
    replica._reader.forget()
    assert round_of(replica)[0] == [last.index]


def test_the_index_is_checked_and_not_relied_on(pair) -> None:  # noqa: F811
    replica, _ = pair
    files = replica._files
    segment = replica._segments[1]
    good = files.read_all(segment.index_path)
    at = 0
    while at < len(good):
        file = files.open(segment.index_path)
        file.overwrite(at, [bytes([good[at] ^ 4])])
        replica._reader.forget()
        damaged, rebuilt, lost, read_bytes = round_of(replica)
        assert (damaged, lost, read_bytes) == ([], [], replica.size_bytes)
        assert len(rebuilt) == 1
        assert segment.index_path in rebuilt[0]
        assert round_of(replica)[1] == []
        good = files.read_all(segment.index_path)
        at += 3


def test_an_index_that_a_crash_has_taken_is_made_again_without_a_word(pair) -> None:  # noqa: F811
    replica, _ = pair
    files = replica._files
    segment = replica._segments[1]
    files.remove(segment.index_path)
    replica._reader.forget()
    assert round_of(replica)[1] == []
    assert files.exists(segment.index_path)


def test_a_damaged_state_file_is_made_again_from_the_segments_before_it(pair, bench) -> None:  # noqa: F811
    replica, _ = pair
    files = replica._files
    for at in (1, 2, len(replica._segments) - 1):
        segment = replica._segments[at]
        good = files.read_all(segment.state_path)
        files.open(segment.state_path).overwrite(len(good) // 2, [bytes([good[len(good) // 2] ^ 1])])
        _, rebuilt, lost, _ = round_of(replica)
        assert (len(rebuilt), lost) == (1, [])
        assert segment.state_path in rebuilt[0]
    assert round_of(replica)[1] == []
    # It serves: a truncation there finds what the log knew.
    replica.truncate(replica._segments[-1].base.index)
    assert replica.terms.last_term > 0
    replica.append_new(bench.data(), Term(9), 0)
    replica.commit()


def test_what_stood_before_a_logs_start_is_nowhere_else_and_the_scrub_says_so(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1500)
    bench.fill(log, 40)
    log.retain(10**9)
    segment = log._segments[0]
    assert segment.base.index > 0
    good = files.read_all(segment.state_path)
    files.open(segment.state_path).overwrite(len(good) // 2, [bytes([good[len(good) // 2] ^ 1])])
    damaged, rebuilt, lost, _ = round_of(log)
    assert (damaged, rebuilt, len(lost)) == ([], [], 1)
    assert segment.state_path in lost[0]


def test_the_scrub_goes_on_when_what_it_read_is_removed_or_cut(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1500)
    bench.fill(log, 40)
    log.scrub(10)
    log.retain(10**9)
    assert round_of(log)[3] == log.size_bytes
    log.begin_scrub_at(len(log._segments) - 1)
    log.scrub(200)
    log.truncate(Index(log._segments[-1].base.index - 2))
    round_of(log)
    assert round_of(log) == ([], [], [], log.size_bytes)
    log.reset(log.end)
    assert round_of(log) == ([], [], [], 0)


def test_what_is_not_on_disk_yet_is_left_alone(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 5)
    _, begin, _ = lies_at(log, 4)
    log.append_new(bench.data(), Term(1), 0)
    log.write()
    size_bytes = log._segments[-1].size_bytes
    files.open(log._segments[-1].log_path).overwrite(size_bytes - 1, [b"?"])
    assert round_of(log)[0] == []
    log.sync()
    assert round_of(log)[0] == [5]
    assert begin < size_bytes
