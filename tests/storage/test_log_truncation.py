from __future__ import annotations

import pytest

from ourolog.storage.errors import OutOfRangeError
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk

SEGMENTS = {"segment_bytes": 500, "index_interval_bytes": 200, "checkpoint_interval_bytes": 700}


@pytest.mark.parametrize("reopens", [False, True])
def test_every_index_can_be_truncated_to_and_appended_from(bench, reopens: bool) -> None:
    for index in range(24):
        files = empty_disk()
        log = bench.open(files, **SEGMENTS)
        for at in range(22):
            batch = bench.control() if at % 5 == 0 else bench.data(b"%05d" % at, count=2)
            log.append_new(batch, Term(1 + at // 8), at)
            log.commit()
        before, terms = bench.everything(log), log.terms
        log.truncate(Index(index))
        if reopens:
            log = bench.open(files.after_crash(keep_unsynced=False), **SEGMENTS)
        kept = before[:index]
        assert bench.everything(log) == kept
        assert log.terms == terms.truncated(Index(index))
        assert log.end == log.synced == Position(Index(len(kept)), kept[-1].end_offset if kept else Offset(0))
        assert log.size_bytes == sum(segment.size_bytes for segment in log._segments)
        log.append_new(bench.data(b"new"), Term(9), 0)
        log.commit()
        assert bench.everything(log)[:-1] == kept
        assert bench.everything(log)[-1].payload == b"new"


def test_identities_and_pulls_of_truncated_batches_are_forgotten_and_own_sequences_are_not(bench, files) -> None:
    source = bench.open(files, node="n2", epoch=5)
    bench.fill(source, 10)
    log = bench.open(type(files)(), node="n1", epoch=7, **SEGMENTS)
    for batch in bench.everything(source):
        log.append_copy(batch, 5)
        log.append_new(bench.data(), Term(0), 0)
        log.commit()
    log.truncate(Index(5))
    assert [log.has_identity(NodeId("n2"), 5, sequence) for sequence in range(4)] == [True, True, True, False]
    assert log.pull_positions == {"n2": (5, 3)}
    assert not log.has_identity(NodeId("n1"), 7, 2)
    log.append_new(bench.data(), Term(1), 0)
    log.commit()
    assert bench.everything(log)[-1].origin_sequence == 10


def test_what_was_only_appended_is_truncated_as_well(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    log.append_new(bench.data(b"gathered"), Term(1), 0)
    log.append_new(bench.data(b"gathered"), Term(1), 0)
    log.truncate(Index(4))
    assert [len(payload) for payload in bench.payloads(log)] == [20, 20, 20, 8]


def test_truncating_above_the_end_changes_nothing_and_below_the_start_is_refused(bench, files) -> None:
    log = bench.open(files, retention_bytes=1, **SEGMENTS)
    bench.fill(log, 20)
    log.retain(0)
    log.truncate(Index(20))
    assert log.end.index == 20
    with pytest.raises(OutOfRangeError, match="index 0 is out of range"):
        log.truncate(Index(0))
    log.truncate(log.start.index)
    assert log.end == log.start


def test_readers_do_not_see_what_stood_there_before(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 10, size=20)
    for at in range(10):
        log.read_from_index(Index(at), 1, Index(10))
        log.read_from_offset(Offset(at), 1, Index(10))
    log.truncate(Index(3))
    bench.fill(log, 7, term=2, size=50, first=3)
    # Downwards, so that no read ends where the next begins.
    for at in range(9, 2, -1):
        assert log.read_from_index(Index(at), 1, Index(10)).next.index == at + 1
        assert log.read_from_offset(Offset(at), 1, Index(10)).next.index == at + 1
    assert [len(payload) for payload in bench.payloads(log)] == [20] * 3 + [50] * 7
    assert log.read_from_offset(Offset(5), 1, Index(10)).next.index == 6


def test_a_committed_position_above_the_cut_is_lowered(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 10)
    log.note_committed(log.end)
    log.truncate(Index(3))
    bench.fill(log, 7, first=3)
    assert log.committed.index == 3


@pytest.mark.parametrize("start", [Position(Index(90), Offset(70)), Position(Index(0), Offset(0))])
def test_a_reset_log_is_empty_begins_where_asked_and_stays_so(bench, files, start: Position) -> None:
    log = bench.open(files, **SEGMENTS)
    bench.fill(log, 20)
    log.append_new(bench.data(b"gathered"), Term(1), 0)
    log.reset(start)
    assert (log.start, log.end, log.appended_end, log.committed) == (start, start, start, start)
    assert (log.segment_count, log.size_bytes, log.terms.runs, log.pull_positions) == (1, 0, (), {})
    again = bench.open(files.after_crash(keep_unsynced=False), **SEGMENTS)
    assert (again.start, again.end) == (start, start)
    again.append_new(bench.data(b"first"), Term(3), 0)
    again.commit()
    batch = bench.everything(again)[0]
    assert (batch.index, batch.base_offset, batch.origin_sequence) == (start.index, start.offset, 21)
