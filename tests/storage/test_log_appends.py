from __future__ import annotations

from dataclasses import replace

import google_crc32c
import pytest

from ourolog.simulation.disks.disk import SimulatedFile
from ourolog.storage.batch import Codec, Kind, NewBatch, decode_batch, encode_batch, encode_frame, path_of, scan
from ourolog.storage.errors import CorruptBatchError, DiscontinuousBatchError, ImpossibleBatchError, OutOfRangeError
from ourolog.storage.log import LogConfig
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term


def test_an_empty_log_begins_and_ends_at_zero(bench, files) -> None:
    log = bench.open(files)
    assert (log.start, log.end, log.synced, log.committed) == (START, START, START, START)
    assert (log.size_bytes, log.segment_count, log.terms.last_term) == (0, 1, 0)


def test_a_new_batch_is_stamped_with_place_path_and_identity(bench, files) -> None:
    log = bench.open(files, node="n1", epoch=7)
    log.append_new(bench.data(count=3), Term(2), 1000)
    placed = log.append_new(NewBatch(b"zz", 2, codec=Codec.ZSTD, producer_id=8, producer_sequence=9), Term(2), 1001)
    log.commit()
    assert placed == (1, 2, 3, Position(Index(2), Offset(5)))
    batch = bench.everything(log)[1]
    assert (batch.index, batch.term, batch.base_offset, batch.record_count) == (1, 2, 3, 2)
    assert (batch.path, batch.origin_epoch, batch.origin_sequence) == (("n1",), 7, 1)
    assert (batch.timestamp_ms, batch.codec, batch.producer_id, batch.producer_sequence) == (1001, Codec.ZSTD, 8, 9)


def test_control_batches_take_an_index_and_no_offset(bench, files) -> None:
    log = bench.open(files)
    assert log.append_new(bench.control(), Term(1), 0).end == Position(Index(1), Offset(0))
    assert log.append_new(bench.data(), Term(1), 0).base_offset == 0


def test_nothing_appended_is_seen_before_it_is_written(bench, files) -> None:
    log = bench.open(files)
    log.append_new(bench.data(), Term(1), 0)
    assert (log.end, log.appended_end) == (START, Position(Index(1), Offset(1)))
    with pytest.raises(OutOfRangeError):
        log.read_from_index(Index(0), 100, Index(9))
    log.write()
    assert (log.end.index, log.synced.index) == (1, 0)
    assert len(bench.everything(log)) == 1
    log.sync()
    assert log.synced == log.end


def test_a_commit_writes_all_that_was_gathered_with_one_write_and_one_sync(bench, files) -> None:
    log = bench.open(files)
    for _ in range(100):
        log.append_new(bench.data(), Term(1), 0)
    files.fail("sync", 5, nth=2)
    files.fail("write", 5, nth=2)
    log.commit()
    assert log.end.index == 100


def test_an_identity_is_known_as_soon_as_it_is_appended(bench, files) -> None:
    log = bench.open(files, node="n1", epoch=7)
    assert not log.has_identity(NodeId("n1"), 7, 0)
    log.append_new(bench.data(), Term(1), 0)
    assert log.has_identity(NodeId("n1"), 7, 0)
    assert not log.has_identity(NodeId("n1"), 8, 0)


def test_a_copy_keeps_its_identity_and_time_and_its_path_grows(bench, files) -> None:
    source = bench.open(files, node="n1", epoch=7)
    source.append_new(bench.control(), Term(0), 1)
    source.append_new(bench.data(b"payload", 4), Term(0), 1000)
    source.commit()
    original = bench.everything(source)[1]
    log = bench.open(type(files)(), node="n2", epoch=8)
    log.append_new(bench.data(count=9), Term(0), 5)
    log.append_copy(original, 7)
    log.commit()
    copy = bench.everything(log)[1]
    assert (copy.index, copy.base_offset, copy.term) == (1, 9, 0)
    assert (copy.path, copy.origin_epoch, copy.origin_sequence) == (("n1", "n2"), 7, 1)
    assert (copy.source_epoch, copy.source_index, copy.timestamp_ms) == (7, 1, 1000)
    assert (copy.payload, copy.record_count) == (b"payload", 4)
    assert log.pull_positions == {"n1": (7, 2)}
    assert log.has_identity(NodeId("n1"), 7, 1)


def test_a_term_that_falls_is_a_bug_of_the_caller(bench, files) -> None:
    log = bench.open(files)
    log.append_new(bench.data(), Term(3), 0)
    with pytest.raises(ValueError, match="terms never fall"):
        log.append_new(bench.data(), Term(2), 0)
    log.commit()
    assert log.end.index == 1


# ---------------------------------------------------------------- a leader's batches


def leaders_blob(bench, files, count: int = 4) -> bytes:
    log = bench.open(files, node="leader", epoch=3)
    bench.fill(log, count)
    return log.read_from_index(Index(0), 100_000, Index(count)).batches


def test_a_leaders_batches_are_kept_bit_for_bit(bench, files) -> None:
    blob = leaders_blob(bench, files)
    log = bench.open(type(files)(), node="follower")
    ends = log.append_raw(blob, Term(1))
    assert [end.index for end in ends] == [1, 2, 3, 4]
    log.commit()
    copied = log.read_from_index(Index(0), 100_000, Index(4)).batches
    assert [blob[head.start + 16 : head.end] for head in scan(blob)] == [
        copied[head.start + 16 : head.end] for head in scan(copied)
    ]
    assert (log.terms.last_term, log.pull_positions) == (1, {})
    assert log.append_raw(b"", Term(1)) == ()


def test_a_leaders_copies_do_not_move_a_followers_own_pulls(bench, files) -> None:
    leader = bench.open(files, node="leader", epoch=3)
    other = bench.open(type(files)(), node="other", epoch=4)
    bench.fill(other, 1)
    leader.append_copy(bench.everything(other)[0], 4)
    leader.commit()
    follower = bench.open(type(files)(), node="follower")
    follower.append_raw(leader.read_from_index(Index(0), 100, Index(1)).batches, Term(1))
    assert (leader.pull_positions, follower.pull_positions) == ({"other": (4, 1)}, {})


def test_raw_batches_that_do_not_fit_leave_the_log_as_it_was(bench, files) -> None:
    blob = leaders_blob(bench, files)
    heads = list(scan(blob))
    bad = bytearray(blob)
    bad[-1] ^= 1
    wrong_path = encode_frame(88 + 4, 0)
    refused = [
        (bytes(bad), CorruptBatchError, "checksum"),
        (blob[:-1], CorruptBatchError, "cut off"),
        (blob + b"rest", CorruptBatchError, "cut off"),
        (blob[heads[1].start :], DiscontinuousBatchError, "entry 0 was expected, and entry 1"),
        (blob[: heads[0].end] + blob[heads[2].start :], DiscontinuousBatchError, "entry 1 was expected"),
        (blob[: heads[0].end] * 2, DiscontinuousBatchError, "entry 1 was expected, and entry 0"),
        (wrong_path, CorruptBatchError, "cut off"),
    ]
    log = bench.open(type(files)(), node="follower")
    for wrong, error, text in refused:
        with pytest.raises(error, match=text):
            log.append_raw(wrong, Term(1))
        assert log.appended_end == START
    log.append_raw(blob, Term(1))
    log.commit()
    assert len(bench.everything(log)) == 4


def test_raw_batches_whose_offset_or_term_is_wrong_are_refused(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 1, term=5)
    good = bench.everything(log)[0]
    wrong_offset = replace(good, index=Index(1), base_offset=Offset(7))
    fallen_term = replace(good, index=Index(1), base_offset=Offset(1), term=Term(4))
    with pytest.raises(DiscontinuousBatchError, match="offset 1 was expected, and offset 7"):
        log.append_raw(encode_batch(wrong_offset), Term(5))
    with pytest.raises(DiscontinuousBatchError, match="term 4 follows term 5"):
        log.append_raw(encode_batch(fallen_term), Term(5))


def test_a_batch_by_another_writer_of_the_same_term_or_of_a_term_that_its_leader_has_not_is_refused(
    bench, files
) -> None:
    log = bench.open(files)
    bench.fill(log, 1, term=5)
    good = bench.everything(log)[0]
    following = replace(good, index=Index(1), base_offset=Offset(1))
    for other in (replace(following, path=(NodeId("n9"),)), replace(following, origin_epoch=good.origin_epoch + 1)):
        with pytest.raises(DiscontinuousBatchError, match="two nodes led it, or one with two disks"):
            log.append_raw(encode_batch(other), Term(5))
    with pytest.raises(ImpossibleBatchError, match="is of term 9, and the leader of term 8 sent it"):
        log.append_raw(encode_batch(replace(following, term=Term(9))), Term(8))
    assert log.appended_end.index == 1
    log.append_raw(encode_batch(replace(following, term=Term(9), path=(NodeId("n9"),))), Term(9))
    with pytest.raises(ValueError, match="two nodes led it"):
        log.append_new(bench.data(b"forged"), Term(9), 0)


@pytest.fixture
def long_answer(bench, files) -> bytes:
    """What a leader sends at once: 60 batches from some bytes to some hundred thousand, of two nodes' making."""
    leader = bench.open(files, node="leader", epoch=3)
    other = bench.open(type(files)(), node="other", epoch=4)
    bench.fill(other, 20, term=0, size=50)
    copies = bench.everything(other)
    for at in range(60):
        if at % 3:
            size = 300_000 if at == 40 else 300 * at
            leader.append_new(bench.data(b"%03d" % at * (size // 3 + 1)), Term(0), at)
        else:
            leader.append_copy(copies[at // 3], 4)
    leader.commit()
    return b"".join(
        read.batches for at in range(60) for read in [leader.read_from_index(Index(at), 0, leader.end.index)]
    )


def test_a_long_answer_is_written_bit_for_bit_with_one_write_and_one_sync(bench, files, long_answer) -> None:
    disk = type(files)()
    follower = bench.open(disk, node="follower")
    disk.fail("sync", 5, nth=2)
    disk.fail("write", 5, nth=2)
    ends = follower.append_raw(long_answer)
    follower.commit()
    blob = bytes(disk.content(bench.paths(disk, ".log")[0]))
    heads = list(scan(blob))
    assert [end.index for end in ends] == list(range(1, 61))
    assert [blob[head.start + 16 : head.end] for head in heads] == [
        long_answer[head.start + 16 : head.end] for head in scan(long_answer)
    ]
    paths = [path_of(long_answer, head) for head in scan(long_answer)]
    assert [path_of(blob, head) for head in heads] == paths
    assert all(
        follower.has_identity(path[0], head.origin_epoch, head.origin_sequence)
        for path, head in zip(paths, heads, strict=True)
    )


@pytest.mark.parametrize("segment_bytes", [1_000, 100_000, 400_000])
def test_a_long_answer_may_go_to_many_segments(bench, files, long_answer, segment_bytes: int) -> None:
    disk = type(files)()
    follower = bench.open(disk, node="follower", segment_bytes=segment_bytes)
    follower.append_raw(long_answer)
    follower.commit()
    assert follower.segment_count > 1
    payloads = [decode_batch(long_answer, head).payload for head in scan(long_answer)]
    assert bench.payloads(follower) == payloads
    again = bench.open(disk.after_crash(keep_unsynced=False), node="follower", segment_bytes=segment_bytes)
    assert bench.payloads(again) == payloads


@pytest.mark.parametrize("at", [0, 1, 29, 40, 59])
def test_of_a_long_answer_with_a_damaged_batch_nothing_is_appended(bench, files, long_answer, at: int) -> None:
    head = list(scan(long_answer))[at]
    follower = bench.open(type(files)(), node="follower")
    for byte in (
        head.start,
        head.start + 4,
        head.start + 17,
        head.start + 30,
        (head.start + head.end) // 2,
        head.end - 1,
    ):
        damaged = bytearray(long_answer)
        damaged[byte] ^= 1
        with pytest.raises(CorruptBatchError):
            follower.append_raw(bytes(damaged))
        assert (follower.appended_end, follower.has_identity(NodeId("leader"), 3, 0)) == (START, False)
    for cut in (head.start + 1, head.start + 16, head.end - 1):
        with pytest.raises(CorruptBatchError, match="cut off"):
            follower.append_raw(long_answer[:cut])
    assert follower.appended_end == START
    follower.append_raw(long_answer)


def test_a_batch_of_nobody_is_refused(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 1)
    good = bench.everything(log)[0]
    blob = bytearray(encode_batch(replace(good, payload=b"\x02" + good.payload)))
    # The one name in the path counts as the beginning of the payload, and there is none left.
    blob[22:24] = (0).to_bytes(2, "little")
    blob[16:20] = google_crc32c.value(bytes(blob[20:])).to_bytes(4, "little")
    with pytest.raises(CorruptBatchError, match="path is empty"):
        bench.open(type(files)(), node="follower").append_raw(bytes(blob))


# ---------------------------------------------------------------- rolling


def test_segments_are_named_by_both_coordinates_of_their_first_batch(bench, files) -> None:
    log = bench.open(files, segment_bytes=300)
    log.append_new(bench.data(count=10), Term(1), 0)
    log.append_new(bench.data(count=10), Term(1), 0)
    log.append_new(bench.control(b"c" * 60), Term(1), 0)
    log.append_new(bench.control(b"c" * 60), Term(1), 0)
    log.commit()
    names = [path.rsplit("/", 1)[1] for path in bench.paths(files, ".log")]
    assert names == [
        "00000000000000000000-00000000000000000000.log",
        "00000000000000000020-00000000000000000002.log",
        "00000000000000000020-00000000000000000003.log",
    ]
    assert log.segment_count == 3
    assert [batch.kind for batch in bench.everything(log)] == [Kind.DATA, Kind.DATA, Kind.CONTROL, Kind.CONTROL]


def test_a_batch_larger_than_a_segment_gets_one_of_its_own(bench, files) -> None:
    log = bench.open(files, segment_bytes=200)
    for size in (10, 1000, 10):
        log.append_new(bench.data(b"x" * size), Term(1), 0)
    log.commit()
    assert log.segment_count == 3
    assert [len(payload) for payload in bench.payloads(log)] == [10, 1000, 10]


def test_one_commit_may_fill_many_segments(bench, files) -> None:
    log = bench.open(files, segment_bytes=300)
    for at in range(50):
        log.append_new(bench.data(b"%d" % at), Term(1), 0)
    log.commit()
    assert log.segment_count > 20
    assert bench.payloads(log) == [b"%d" % at for at in range(50)]
    assert bench.payloads(bench.open(files.after_crash(keep_unsynced=False))) == [b"%d" % at for at in range(50)]


def test_of_a_log_that_is_written_back_no_part_of_a_sealed_segment_is_left_out(bench, files, monkeypatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def write_back(file: SimulatedFile, position: int) -> None:
        asked.append((file._path.rpartition("-")[2], position, file.size()))

    monkeypatch.setattr(SimulatedFile, "write_back", write_back)
    log = bench.open(files, segment_bytes=400)
    for _ in range(3):
        log.append_new(bench.data(b"x" * 20), Term(1), 0)
        log.append_new(bench.data(b"y" * 20), Term(1), 0)
        log.commit(write_back=True)
    size_bytes = asked[0][2] // 2
    first, second = "00000000000000000000.log", "00000000000000000003.log"
    assert asked == [
        (first, 0, 2 * size_bytes),
        (first, 0, 3 * size_bytes),
        (second, 0, size_bytes),
        (second, 0, 3 * size_bytes),
    ]
    log.append_new(bench.data(b"z"), Term(1), 0)
    log.commit()
    assert len(asked) == 4


def test_segments_roll_by_age_where_that_is_asked_for(bench, files) -> None:
    log = bench.open(files, segment_roll_ms=100)
    for now_ms in (0, 99, 100, 150, 200):
        log.append_new(bench.data(), Term(1), now_ms)
    log.commit()
    assert [segment.base.index for segment in log._segments] == [0, 2, 4]


@pytest.mark.parametrize("segment_bytes", [0, 3 * 1024**3])
def test_a_segment_size_that_positions_cannot_hold_is_refused(segment_bytes: int) -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        LogConfig(segment_bytes=segment_bytes)
