from __future__ import annotations

from random import Random

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.errors import OutOfRangeError
from ourolog.storage.types import Index, NodeId, Offset, Term
from tests.disks import empty_disk


def test_old_segments_go_by_size_and_as_much_as_asked_for_is_left(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1500)
    bench.fill(log, 40)
    assert log.retain(0)
    assert 1500 <= log.size_bytes < 2000
    assert log.size_bytes == sum(len(files.content(path)) for path in bench.paths(files, ".log"))
    assert log.start.index == 40 - len(bench.everything(log)) > 0
    assert not log.retain(0)


def test_old_segments_go_by_age_of_their_newest_batch(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_ms=100)
    bench.fill(log, 40)  # at 1000, 1001, …
    bases = [segment.base.index for segment in log._segments]
    assert not log.retain(1100)
    assert not log.retain(1000 + bases[1] - 1 + 100)
    assert log.retain(1000 + bases[1] - 1 + 101)
    assert log.start.index == bases[1]
    assert log.retain(10**9)
    assert log.segment_count == 1
    assert log.start.index == bases[-1]


def test_an_index_that_lost_its_last_block_does_not_make_a_segment_look_older(bench, files) -> None:
    log = bench.open(files, segment_bytes=2000, index_interval_bytes=100, checkpoint_interval_bytes=1000)
    bench.fill(log, 20)
    newest_ms = 1000 + log._segments[1].base.index - 1
    log.close()
    del files.content(bench.paths(files, ".idx")[0])[-1:]
    log = bench.open(files, retention_ms=100)
    assert not log.retain(newest_ms + 100)
    assert log.retain(newest_ms + 101)


def test_without_limits_nothing_goes(bench, files) -> None:
    log = bench.open(files, segment_bytes=500)
    bench.fill(log, 40)
    assert not log.retain(10**15)


def test_below_the_start_is_out_of_range_with_the_range_that_exists(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1)
    bench.fill(log, 40)
    log.read_from_index(Index(0), 1, Index(40))
    log.retain(0)
    for read in (
        lambda: log.read_from_index(Index(0), 1, Index(40)),
        lambda: log.read_from_offset(Offset(1), 1, Index(40)),
    ):
        with pytest.raises(OutOfRangeError) as caught:
            read()
        assert (caught.value.first, caught.value.end) == (log.start.index, 40)


@pytest.mark.parametrize("lost", ["nothing", "checkpoint"])
def test_terms_identities_and_own_sequences_outlive_the_segments(bench, files, lost: str) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1)
    bench.fill(log, 10, term=1)
    bench.fill(log, 10, term=4, first=10)
    log.retain(0)
    assert log.start.index > 10
    terms = log.terms
    log.close()
    if lost == "checkpoint":
        files.remove("/data/log/checkpoint")
    log = bench.open(files, segment_bytes=500)
    assert log.terms == terms
    assert [run.first for run in log.terms.runs] == [0, 10]
    assert all(log.has_identity(NodeId("n1"), 7, sequence) for sequence in range(20))
    log.append_new(bench.data(), Term(4), 0)
    log.commit()
    assert bench.everything(log)[-1].origin_sequence == 20


def test_a_checkpoint_at_the_very_end_of_a_segment_does_not_outlive_it(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 2)
    log.close()
    log = bench.open(files, segment_bytes=300, retention_bytes=1)
    log.append_new(bench.data(b"x" * 200), Term(1), 0)
    log.write()
    assert log.retain(0)
    assert bench.open(files.after_crash(keep_unsynced=True)).start.index == 2


def test_a_crash_at_any_step_of_retention_leaves_no_hole(bench) -> None:
    def play(files: SimulatedDisk) -> None:
        log = bench.open(files, segment_bytes=300, retention_bytes=300)
        bench.fill(log, 8)
        marks.append(files.steps)
        log.retain(0)
        bench.fill(log, 1, first=8)

    marks: list[int] = []
    whole = empty_disk()
    play(whole)
    for step in range(marks[0], whole.steps):
        files = empty_disk()
        files.cut_power_after(step)
        with pytest.raises(PowerCutError):
            play(files)
        for seed in range(4):
            found = files.after_crash(keep_unsynced=seed == 0, chance=Random(step * 10 + seed))
            log = bench.open(found, segment_bytes=300)
            batches = bench.everything(log)
            assert batches[-1].index >= 7
            assert log.has_identity(NodeId("n1"), 7, 0)


def test_what_is_not_known_to_be_committed_stays_whatever_the_limits_say(bench, files) -> None:
    log = bench.open(files, segment_bytes=500, retention_bytes=1)
    bench.fill(log, 40)
    bases = [segment.base.index for segment in log._segments]
    assert not log.retain(0, until=Index(bases[1] - 1))
    assert log.held_back_bytes == sum(segment.size_bytes for segment in log._segments[:-1])
    assert log.retain(0, until=Index(bases[1]))
    assert log.start.index == bases[1]
    assert log.retain(0, until=Index(bases[3] + 1))
    assert log.start.index == bases[3]
    assert log.retain(0, until=log.end.index)
    assert (log.segment_count, log.held_back_bytes) == (1, 0)
