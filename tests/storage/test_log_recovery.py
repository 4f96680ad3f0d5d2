from __future__ import annotations

import google_crc32c
import pytest

from ourolog.simulation.disks.disk import SimulatedDisk, SimulatedFile
from ourolog.storage.batch import encode_batch, scan, verify
from ourolog.storage.errors import DamagedLogError
from ourolog.storage.recovery import RecoveryStep
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk, killed

ROLLING = {"segment_bytes": 700, "index_interval_bytes": 250, "checkpoint_interval_bytes": 500}


# ---------------------------------------------------------------- what survives


@pytest.mark.parametrize("lost", ["nothing", "checkpoint", "states", "indexes", "all of them"])
@pytest.mark.parametrize("is_clean", [True, False])
def test_all_that_was_derived_is_derived_again(bench, files, is_clean: bool, lost: str) -> None:
    source = bench.open(empty_disk(), node="n2", epoch=5)
    bench.fill(source, 12)
    log = bench.open(files, **ROLLING)
    for batch in bench.everything(source):
        log.append_copy(batch, 5)
        log.append_new(bench.data(count=2), Term(0), 0)
        log.commit()
    for term in (1, 2):
        bench.fill(log, 4, term=term)
    expected = bench.everything(log), log.terms, log.pull_positions, log.end, log._state.identities.encode()
    if is_clean:
        log.close()
    files = killed(files)
    suffixes = {"checkpoint": ["checkpoint"], "states": [".state"], "indexes": [".idx"], "nothing": []}
    for suffix in suffixes.get(lost, ["checkpoint", ".state", ".idx"]):
        for path in bench.paths(files, suffix):
            files.remove(path)
    log = bench.open(files, **ROLLING)
    found = bench.everything(log), log.terms, log.pull_positions, log.end, log._state.identities.encode()
    assert found == expected
    assert log.synced == log.end


def test_noted_positions_are_kept_with_the_next_checkpoint(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 5)
    log.note_committed(Position(Index(3), Offset(3)))
    log.note_committed(Position(Index(2), Offset(2)))
    log.note_pull_position(NodeId("n9"), 4, Index(77))
    log.close()
    log = bench.open(files)
    assert log.committed == Position(Index(3), Offset(3))
    assert log.pull_positions == {"n9": (4, 77)}


def test_a_committed_position_above_the_end_is_not_believed(bench, files) -> None:
    log = bench.open(files)
    log.note_committed(Position(Index(9), Offset(9)))
    assert log.committed == log.end


def test_opening_reads_no_more_than_what_came_after_the_checkpoint(bench, files, monkeypatch) -> None:
    log = bench.open(files, segment_bytes=20_000, checkpoint_interval_bytes=5000)
    bench.fill(log, 1000)
    files = killed(files)
    sizes = []
    read = SimulatedFile.read
    monkeypatch.setattr(SimulatedFile, "read", lambda self, at, size: sizes.append(size) or read(self, at, size))
    assert bench.open(files, segment_bytes=20_000).end.index == 1000
    assert log.size_bytes > 100_000
    assert sum(sizes) <= 5200


@pytest.mark.parametrize("at_once", [1, 7])
def test_opening_reads_no_more_entries_than_come_between_two_checkpoints(
    bench, files, monkeypatch, at_once: int
) -> None:
    log = bench.open(files, checkpoint_interval_entries=100)
    for _ in range(700 // at_once):
        for _ in range(at_once):
            log.append_new(bench.data(), Term(1), 1000)
        log.commit()
    bench.fill(log, 99 - at_once)
    heads = []
    monkeypatch.setattr("ourolog.storage.scan.verify", lambda buffer, head: heads.append(head) or verify(buffer, head))
    assert bench.open(killed(files)).end == log.end
    assert 0 < len(heads) < 100 + at_once


def test_temporary_and_orphaned_files_are_removed(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    log.close()
    stray = ["checkpoint.tmp", f"{5:020d}-{5:020d}.idx", f"{5:020d}-{5:020d}.state", f"{5:020d}-{5:020d}.state.tmp"]
    for name in stray:
        files.replace(f"/data/log/{name}", b"x")
    files.replace("/data/log/README", b"somebody's own")
    bench.open(files)
    assert not set(stray) & set(files.list("/data/log"))
    assert "README" in files.list("/data/log")


def test_a_full_scan_and_a_cut_are_reported(bench, files) -> None:
    log = bench.open(files, **ROLLING)
    bench.fill(log, 20)
    files = killed(files)
    for path in [*bench.paths(files, ".state"), "/data/log/checkpoint"]:
        files.remove(path)
    files.content(bench.paths(files, ".log")[-1]).extend(b"torn")
    said: list[tuple[RecoveryStep, str]] = []
    bench.open(files, progress=lambda step, text: said.append((step, text)), **ROLLING)
    steps, texts = zip(*said, strict=True)
    assert (steps[0], steps[-1]) == (RecoveryStep.CHECKING, RecoveryStep.TAIL_CUT)
    assert set(steps[1:-1]) == {RecoveryStep.CHECKED}
    assert texts[0].startswith("no usable checkpoint: checking")
    assert "cut 4 bytes of an unfinished write" in texts[-1]


def test_what_a_killed_process_wrote_is_on_disk_once_the_log_is_open_again(bench, files) -> None:
    log = bench.open(files)
    log.append_new(bench.data(b"written, not synced"), Term(1), 0)
    log.write()
    found = killed(files)
    assert bench.open(found).synced.index == 1
    assert bench.payloads(bench.open(found.after_crash(keep_unsynced=False))) == [b"written, not synced"]


# ---------------------------------------------------------------- torn tails


def two_groups(bench) -> tuple[SimulatedDisk, bytes, bytes]:
    """A killed log whose last group, of two batches, may not have been synced; the bytes of both groups."""
    files = empty_disk()
    log = bench.open(files)
    bench.fill(log, 2)
    first = bytes(files.content(bench.paths(files, ".log")[0]))
    log.append_new(bench.data(b"third" * 5), Term(1), 0)
    log.append_new(bench.data(b"fourth" * 5), Term(1), 0)
    log.write()
    whole = bytes(files.content(bench.paths(files, ".log")[0]))
    return killed(files), first, whole[len(first) :]


def test_a_tail_torn_at_any_byte_is_cut_at_the_last_good_batch(bench) -> None:
    files, first, second = two_groups(bench)
    path = bench.paths(files, ".log")[0]
    third = next(scan(second)).end
    for cut in range(len(second)):
        for filler in (b"", bytes(50), b"\xff" * 50, b"OL\x01\x00" * 20):
            found = killed(files)
            found.content(path)[:] = first + second[:cut] + filler
            log = bench.open(found)
            expected = 2 if cut < third else 3
            assert len(bench.everything(log)) == expected, (cut, filler)
            assert len(found.content(path)) == log.size_bytes
            bench.fill(log, 1, first=9)
            assert bench.open(killed(found)).end.index == expected + 1


def test_a_hole_in_an_unsynced_group_is_a_torn_write(bench) -> None:
    files, first, second = two_groups(bench)
    path = bench.paths(files, ".log")[0]
    for at in range(0, next(scan(second)).end - 8, 4):
        found = killed(files)
        found.content(path)[len(first) + at : len(first) + at + 8] = bytes(8)
        if found.content(path) == first + second:
            continue
        assert len(bench.everything(bench.open(found))) == 2


def test_a_hole_below_a_later_synced_mark_is_damage_and_nothing_is_cut(bench) -> None:
    files, first, _ = two_groups(bench)
    path = bench.paths(files, ".log")[0]
    for at in range(len(first)):
        found = killed(files)
        found.content(path)[at] ^= 0x10
        content = bytes(found.content(path))
        with pytest.raises(DamagedLogError, match="Nothing was cut off") as caught:
            bench.open(found)
        assert found.content(path) == content
        size = len(first) // 2
        assert (caught.value.index, caught.value.position_bytes) == (at // size, at // size * size)


def test_one_frame_of_a_later_group_is_proof_enough(bench) -> None:
    files, first, second = two_groups(bench)
    path = bench.paths(files, ".log")[0]
    found = killed(files)
    found.content(path)[:] = first + second[:16]
    found.content(path)[len(first) - 1] ^= 1
    with pytest.raises(DamagedLogError):
        bench.open(found)


def test_what_looks_like_a_frame_inside_a_torn_batch_is_a_users_data(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 30)
    # A record that holds a piece of this very log, whose frames say that all this was synced.
    size = log.size_bytes // 30
    piece = bytes(files.content(bench.paths(files, ".log")[0]))
    at = log.size_bytes
    batch = bench.everything(log)[-1]
    embedded = encode_batch(batch, at + 100)
    log.append_new(bench.data(piece + embedded * 3), Term(1), 0)
    log.write()
    found = killed(files)
    found.content(bench.paths(files, ".log")[0])[-1] ^= 1
    assert bench.open(found).end.index == 30
    assert size > 100


def test_after_a_clean_close_any_bad_tail_is_damage(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    log.close()
    path = bench.paths(files, ".log")[0]
    whole = bytes(files.content(path))
    for content in (whole + b"x", whole[:-1], whole[: len(whole) // 3], b"", bytes([*whole[:-1], whole[-1] ^ 1])):
        files.content(path)[:] = content
        with pytest.raises(DamagedLogError):
            bench.everything(bench.open(killed(files)))
    files.content(path)[:] = whole
    assert bench.open(killed(files)).end.index == 3


def test_a_log_that_was_written_to_again_is_not_taken_for_closed(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    log.close()
    log = bench.open(files)
    bench.fill(log, 1, first=3)
    files.content(bench.paths(files, ".log")[0])[-1] ^= 1
    assert bench.open(killed(files)).end.index == 3


def test_a_checkpoint_proves_what_lies_below_it(bench, files) -> None:
    log = bench.open(files, checkpoint_interval_bytes=1)
    bench.fill(log, 3)
    path = bench.paths(files, ".log")[0]
    files.content(path)[-1] ^= 1
    # The scan begins at the checkpoint, so it is the read that meets the damage.
    log = bench.open(killed(files))
    with pytest.raises(DamagedLogError):
        log.read_from_index(Index(2), 1, Index(3))
    del files.content(path)[-1:]
    with pytest.raises(DamagedLogError, match="bytes of it were on disk"):
        bench.open(killed(files))


def test_an_index_proves_what_lies_below_it_even_without_a_checkpoint(bench, files) -> None:
    log = bench.open(files, checkpoint_interval_bytes=1)
    bench.fill(log, 3)
    files.remove("/data/log/checkpoint")
    files.content(bench.paths(files, ".log")[0])[-1] ^= 1
    with pytest.raises(DamagedLogError, match="prove that more than this was on disk"):
        bench.open(killed(files))


def test_a_batch_of_a_later_format_is_not_cut_off(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 1)
    covered = b"OL\x02\x00" + (20).to_bytes(4, "little") + bytes(4)
    frame = covered + google_crc32c.value(covered).to_bytes(4, "little")
    files.content(bench.paths(files, ".log")[0]).extend(frame + bytes(20))
    with pytest.raises(DamagedLogError, match="format version 2"):
        bench.open(killed(files))


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("is_clean", [True, False])
def test_a_missing_segment_is_noticed_at_the_latest_when_it_is_read(bench, files, which: int, is_clean: bool) -> None:
    log = bench.open(files, **ROLLING)
    bench.fill(log, 21)
    if is_clean:
        log.close()
    files = killed(files)
    path = bench.paths(files, ".log")[which]
    files.remove(path)
    if which == 0:
        # The oldest may have been removed by retention; the range that is left says so.
        assert bench.open(files, **ROLLING).start.index > 0
        return
    with pytest.raises(DamagedLogError) as caught:
        bench.everything(bench.open(files, **ROLLING))
    assert which != -1 or caught.value.path == path


def test_a_scan_of_every_segment_notices_one_that_is_missing(bench, files) -> None:
    log = bench.open(files, **ROLLING)
    bench.fill(log, 21)
    gone = bench.paths(files, ".log")[1]
    for path in [gone, "/data/log/checkpoint", *bench.paths(files, ".state")]:
        files.remove(path)
    with pytest.raises(DamagedLogError, match="entries are missing"):
        bench.open(killed(files), **ROLLING)


# ---------------------------------------------------------------- bits


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("suffix", [".log", ".idx", ".state", "checkpoint"])
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(bench, suffix: str, is_clean: bool) -> None:
    files = empty_disk()
    config = {"segment_bytes": 400, "index_interval_bytes": 150, "checkpoint_interval_bytes": 250}
    log = bench.open(files, **config)
    bench.fill(log, 7, size=10)
    expected, end = bench.payloads(log), log.end
    last = log._segments[-1].log_path
    synced_mark = max(head.synced for head in scan(bytes(files.content(last))))
    if is_clean:
        log.close()
    files = killed(files)
    for path in bench.paths(files, suffix):
        for bit in range(len(files.content(path)) * 8):
            found = killed(files)
            found.content(path)[bit // 8] ^= 1 << bit % 8
            try:
                log = bench.open(found, **config)
                payloads = bench.payloads(log)
            except DamagedLogError:
                assert suffix == ".log", f"bit {bit} of {path}"
                continue
            assert payloads == expected[: len(payloads)], f"bit {bit} of {path}"
            if suffix != ".log" or is_clean or path != last or bit // 8 < synced_mark:
                assert log.end == end, f"bit {bit} of {path}"
