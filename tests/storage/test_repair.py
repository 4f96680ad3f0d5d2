"""Repair in place: only the damaged batch is written, only by what belongs there, and on disk before it counts."""

from __future__ import annotations

import errno
from dataclasses import replace
from random import Random

import pytest

from ourolog.simulation.disks.disk import OrderedFault, PowerCutError
from ourolog.storage.batch import (
    FRAME_BYTES,
    NewBatch,
    decode_batch,
    encode_batch,
    find_frame,
    read_head,
    scan,
)
from ourolog.storage.errors import (
    CorruptBatchError,
    DamagedLogError,
    OutOfRangeError,
    StorageFailedError,
    UnfitBatchError,
)
from ourolog.storage.types import Index, Term
from tests.disks import killed, power_cut

COUNT = 40


@pytest.fixture
def pair(bench, files, other_files):
    """Two replicas of one log: several sealed segments, batches of unlike sizes, control batches among them."""
    leader = bench.open(other_files, node="n2", segment_bytes=1000, index_interval_bytes=250)
    for at in range(COUNT):
        batch = bench.control() if at % 5 == 4 else bench.data(bytes([at]) * (20 + 7 * (at % 4)), count=1 + at % 3)
        leader.append_new(batch, Term(1 + at // 10), 1000 + at)
        leader.commit()
    replica = bench.open(files, segment_bytes=1000, index_interval_bytes=250)
    for at in range(0, COUNT, 3):
        replica.append_raw(b"".join(batch_at(leader, index) for index in range(at, min(at + 3, COUNT))))
        replica.commit()
    return replica, leader


@pytest.fixture
def other_files(files):
    return type(files)(sector_bytes=32)


def batch_at(log, index: int) -> bytes:
    read = log.read_from_index(Index(index), 0, Index(index + 1))
    return read.batches


def lies_at(log, index: int):
    """The segment of the entry, and where in it the entry begins and ends."""
    for segment in log._segments:
        file = log._files.open_read_only(segment.log_path)
        whole = file.read(0, file.size())
        at = -1
        while (at := find_frame(whole, at + 1)) >= 0:
            try:
                head = read_head(whole, at)
            except CorruptBatchError:
                continue
            if head is not None and head.index == index:
                return segment, head.start, head.end
    raise AssertionError(index)


def content_of(log, segment) -> bytes:
    return log._files.read_all(segment.log_path)


def spoil(log, index: int, part: str) -> tuple:
    """Damage one part of an entry's bytes; the segment, its bytes before that, and where the entry lies."""
    segment, begin, end = lies_at(log, index)
    whole = content_of(log, segment)
    at, size = {
        "payload": (end - 1, 1),
        "header": (begin + FRAME_BYTES + 12, 4),
        "frame": (begin, FRAME_BYTES),
        "all": (begin, end - begin),
    }[part]
    file = log._files.open(segment.log_path)
    file.overwrite(at, [bytes(byte ^ 0x55 for byte in whole[at : at + size])])
    file.sync()
    log._reader.forget()
    return segment, whole, begin, end


def damage_of(log, index: int) -> DamagedLogError:
    with pytest.raises(DamagedLogError) as caught:
        batch_at(log, index)
    damage = log.damage_at(caught.value.index)
    assert damage is not None
    return damage


@pytest.mark.parametrize("part", ["payload", "header", "frame", "all"])
def test_any_damaged_batch_is_replaced_and_no_other_byte_is_written(pair, part) -> None:
    replica, leader = pair
    for index in range(COUNT):
        segment, whole, begin, end = spoil(replica, index, part)
        damage = damage_of(replica, index)
        assert (damage.index, damage.position_bytes) == (index, begin)
        repaired = replica.repair(Index(index), batch_at(leader, index))
        assert (repaired.path, repaired.position_bytes, repaired.size_bytes) == (segment.log_path, begin, end - begin)
        after = content_of(replica, segment)
        assert after[:begin] == whole[:begin]
        assert after[end:] == whole[end:]
        assert after[begin + FRAME_BYTES : end] == whole[begin + FRAME_BYTES : end]
        if part in ("payload", "header"):
            assert after == whole, "a good frame stays as it was"
        assert batch_at(replica, index)[FRAME_BYTES:] == batch_at(leader, index)[FRAME_BYTES:]
        assert replica.damage_at(Index(index)) is None


def test_a_sector_of_zeroes_over_many_batches_is_repaired_one_batch_after_another(pair, bench) -> None:
    replica, leader = pair
    segment, begin, _ = lies_at(replica, 3)
    whole = content_of(replica, segment)
    replica._files.open(segment.log_path).overwrite(begin + 5, [bytes(len(whole) - begin - 5)])
    replica._reader.forget()
    repaired = []
    while True:
        try:
            entries = bench.everything(replica)
            break
        except DamagedLogError as error:
            damage = replica.damage_at(error.index)
            replica.repair(damage.index, batch_at(leader, damage.index))
            repaired.append(damage.index)
    assert repaired == list(range(3, 3 + len(repaired)))
    assert len(repaired) > 3
    assert [entry.payload for entry in entries] == [entry.payload for entry in bench.everything(leader)]
    bodies = [(head.start, head.end) for head in scan(whole)]
    after = content_of(replica, segment)
    assert all(after[a + FRAME_BYTES : b] == whole[a + FRAME_BYTES : b] for a, b in bodies)


@pytest.mark.parametrize("is_opened_again", [False, True])
@pytest.mark.parametrize("kept", [0, 1, FRAME_BYTES, 60])
def test_a_sealed_segment_that_was_cut_short_grows_again(pair, bench, kept, is_opened_again) -> None:
    replica, leader = pair
    segment = replica._segments[1]
    whole = content_of(replica, segment)
    heads = list(scan(whole))
    cut_to = heads[-2].start + kept
    replica._files.open(segment.log_path).truncate(cut_to)
    replica._reader.forget()
    if is_opened_again:
        replica.close()
        replica = bench.open(replica._files, segment_bytes=1000, index_interval_bytes=250)
        segment = replica._segments[1]
    for head in heads[-2:]:
        damage = damage_of(replica, head.index)
        assert damage.index == head.index
        replica.repair(damage.index, batch_at(leader, head.index))
    after = content_of(replica, segment)
    assert len(after) == len(whole)
    assert [entry.payload for entry in bench.everything(replica)] == [
        entry.payload for entry in bench.everything(leader)
    ]


def test_what_is_not_the_damaged_batch_is_refused_and_nothing_is_written(pair) -> None:
    replica, leader = pair
    good = batch_at(leader, 12)
    batch = decode_batch(good, next(scan(good)))
    segment, _, _, _ = spoil(replica, 12, "payload")
    spoiled = content_of(replica, segment)
    wrong = {
        "nothing": b"",
        "two batches": good + batch_at(leader, 13),
        "half of it": good[:-1],
        "a flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "another entry": batch_at(leader, 11),
        "another offset": encode_batch(replace(batch, base_offset=batch.base_offset + 1)),
        "another term": encode_batch(replace(batch, term=Term(1))),
        "another maker": encode_batch(replace(batch, path=("n3",))),
        "another disk of its maker": encode_batch(replace(batch, origin_epoch=8)),
        "a longer one": encode_batch(replace(batch, payload=batch.payload + b"x")),
        "one of another count": encode_batch(replace(batch, record_count=10**6)),
        "no batch": b"villain" * 40,
    }
    for what, blob in wrong.items():
        with pytest.raises(UnfitBatchError):
            replica.repair(Index(12), blob)
        assert content_of(replica, segment) == spoiled, what
    assert replica.repair(Index(12), good) is not None


def test_a_batch_that_would_cover_a_good_one_is_refused_though_the_frame_is_lost(pair) -> None:
    replica, leader = pair
    good = batch_at(leader, 12)
    batch = decode_batch(good, next(scan(good)))
    segment, *_ = spoil(replica, 12, "frame")
    spoiled = content_of(replica, segment)
    for payload in (batch.payload + b"x" * 30, batch.payload + b"x" * 10_000):
        with pytest.raises(UnfitBatchError):
            replica.repair(Index(12), encode_batch(replace(batch, payload=payload)))
    assert content_of(replica, segment) == spoiled


def test_what_looks_like_a_batch_in_a_users_record_does_not_stand_in_the_way(bench, files, other_files) -> None:
    leader = bench.open(other_files, node="n2")
    bench.fill(leader, 3)
    inner = encode_batch(replace(decode_batch(batch_at(leader, 2), read_head(batch_at(leader, 2))), index=Index(99)))
    leader.append_new(NewBatch(b"<" + inner + b">", 1), Term(1), 0)
    bench.fill(leader, 1, first=4)
    replica = bench.open(files)
    replica.append_raw(b"".join(batch_at(leader, index) for index in range(5)))
    replica.commit()
    spoil(replica, 3, "frame")
    assert replica.repair(Index(3), batch_at(leader, 3)) is not None
    assert batch_at(replica, 3)[FRAME_BYTES:] == batch_at(leader, 3)[FRAME_BYTES:]


def test_damage_further_up_in_the_file_is_named_first(bench, files, other_files) -> None:
    """A wrong count of records shows at the batch behind it only."""
    leader = bench.open(other_files, node="n2")
    bench.fill(leader, 9)
    replica = bench.open(files)
    replica.append_raw(b"".join(batch_at(leader, index) for index in range(9)))
    replica.commit()
    segment, begin, _ = lies_at(replica, 4)
    batch = decode_batch(content_of(replica, segment), read_head(content_of(replica, segment), begin))
    forged = encode_batch(replace(batch, record_count=batch.record_count + 1))[FRAME_BYTES + 4 :]
    replica._files.open(segment.log_path).overwrite(begin + FRAME_BYTES + 4, [forged])
    replica._reader.forget()
    with pytest.raises(DamagedLogError) as caught:
        batch_at(replica, 5)
    assert caught.value.index == 5
    damage = replica.damage_at(caught.value.index)
    assert damage is not None
    assert damage.index == 4
    assert replica.repair(Index(5), batch_at(leader, 5)) is None, "it is good"
    replica.repair(Index(4), batch_at(leader, 4))
    assert batch_at(replica, 5)[FRAME_BYTES:] == batch_at(leader, 5)[FRAME_BYTES:]


def test_a_batch_is_repaired_though_others_before_it_cannot_be(pair) -> None:
    replica, leader = pair
    for index, part in ((0, "frame"), (1, "header"), (3, "payload"), (4, "payload")):
        spoil(replica, index, part)
    for index in (2, 5):
        assert replica.repair(Index(index), batch_at(leader, index)) is None
    segment, whole, begin, end = spoil(replica, 5, "payload")
    assert damage_of(replica, 5).index == 5
    assert replica.repair(Index(5), batch_at(leader, 5)) is not None
    after = content_of(replica, segment)
    assert after[begin + FRAME_BYTES : end] == batch_at(leader, 5)[FRAME_BYTES:]
    assert (after[:begin], after[end:]) == (whole[:begin], whole[end:])


def test_where_the_frames_of_two_in_a_row_are_lost_the_first_comes_first(pair) -> None:
    replica, leader = pair
    spoil(replica, 3, "frame")
    spoil(replica, 4, "frame")
    with pytest.raises(DamagedLogError) as caught:
        replica.repair(Index(4), batch_at(leader, 4))
    assert caught.value.index == 3
    for index in (3, 4):
        assert replica.repair(Index(index), batch_at(leader, index)) is not None
    assert replica.damage_at(Index(5)) is None


def test_a_good_batch_is_not_written_again(pair) -> None:
    replica, leader = pair
    segment, _, _ = lies_at(replica, 7)
    before = content_of(replica, segment)
    assert replica.repair(Index(7), batch_at(leader, 7)) is None
    assert content_of(replica, segment) == before


def test_only_what_is_on_disk_and_in_the_log_is_repaired(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 3)
    blob = batch_at(log, 2)
    log.append_new(bench.data(), Term(1), 0)
    log.write()
    for index in (3, 4, 99):
        with pytest.raises(OutOfRangeError):
            log.repair(Index(index), blob)
        if index > 3:
            with pytest.raises(OutOfRangeError):
                log.damage_at(Index(index))


def test_a_repair_is_on_disk_before_it_returns(pair) -> None:
    replica, leader = pair
    for index in (3, COUNT - 1):
        segment, whole, _, _ = spoil(replica, index, "payload")
        files = replica._files
        assert files.durable()[segment.log_path] != whole
        replica.repair(Index(index), batch_at(leader, index))
        assert files.durable()[segment.log_path] == whole


def test_a_power_cut_in_the_middle_of_a_repair_leaves_the_damage_or_the_good_batch(pair, bench) -> None:
    replica, leader = pair
    segment, whole, begin, end = spoil(replica, 3, "all")
    spoiled = replica._files.durable()[segment.log_path]
    replica.close()
    outcomes = set()
    for steps in range(200):
        files = power_cut(replica._files)
        log = bench.open(files, segment_bytes=1000, index_interval_bytes=250)
        files.cut_power_after(steps)
        try:
            log.repair(Index(3), batch_at(leader, 3))
        except PowerCutError:
            pass
        else:
            assert steps > 100
            break
        left = power_cut(files, Random(steps)).read_all(segment.log_path)
        assert (left[:begin], left[end:]) == (whole[:begin], whole[end:])
        outcomes.add("damaged" if left[begin + FRAME_BYTES : end] != whole[begin + FRAME_BYTES : end] else "good")
        if left != spoiled:
            outcomes.add("changed")
    assert outcomes >= {"damaged", "changed"}


@pytest.mark.parametrize("change", ["write", "sync"])
def test_a_repair_that_fails_is_the_end_of_the_log(pair, change) -> None:
    replica, leader = pair
    spoil(replica, 3, "all")
    replica._files.faults.ordered.append(OrderedFault(change, errno.EIO, 1, 5, drops=False))
    with pytest.raises(StorageFailedError):
        replica.repair(Index(3), batch_at(leader, 3))
    with pytest.raises(StorageFailedError):
        replica.repair(Index(3), batch_at(leader, 3))
    with pytest.raises(StorageFailedError):
        replica.append_new(NewBatch(b"x", 1), Term(9), 0)


def test_a_disk_that_does_not_hold_what_was_written_is_not_relied_on(pair, monkeypatch) -> None:
    replica, leader = pair
    segment, _, _, _ = spoil(replica, 3, "all")
    file_class = type(replica._files.open(segment.log_path))
    monkeypatch.setattr(file_class, "overwrite", lambda *_: None)
    with pytest.raises(StorageFailedError, match="does not hold at byte"):
        replica.repair(Index(3), batch_at(leader, 3))


def test_the_frame_of_a_repaired_batch_claims_no_more_to_be_on_disk_than_what_lies_before_it(pair) -> None:
    replica, leader = pair
    for index in (0, 12, COUNT - 1):
        segment, _, begin, _ = spoil(replica, index, "frame")
        replica.repair(Index(index), batch_at(leader, index))
        head = read_head(content_of(replica, segment), begin)
        assert head is not None
        assert head.synced == begin


def test_after_a_repair_the_log_opens_again_and_goes_on(pair, bench) -> None:
    replica, leader = pair
    for index in (0, 9, 22, COUNT - 1):
        spoil(replica, index, "frame")
        replica.repair(Index(index), batch_at(leader, index))
    files = replica._files
    again = bench.open(power_cut(files), segment_bytes=1000, index_interval_bytes=250)
    assert [entry.payload for entry in bench.everything(again)] == [entry.payload for entry in bench.everything(leader)]
    again.append_new(bench.data(), Term(9), 0)
    again.commit()


@pytest.mark.parametrize("part", ["payload", "all"])
def test_what_a_failed_sync_left_in_memory_alone_is_written_again_when_the_log_is_opened(pair, bench, part) -> None:
    replica, leader = pair
    for index in (3, COUNT - 1):
        files = replica._files
        segment, whole, *_ = spoil(replica, index, part)
        damage_of(replica, index)
        files.fail("sync", errno.EIO, nth=2)  # the first one is the note's
        with pytest.raises(StorageFailedError, match="Input/output"):
            replica.repair(Index(index), batch_at(leader, index))
        replica = bench.open(killed(files), segment_bytes=1000, index_interval_bytes=250)
        assert content_of(replica, segment) == whole
        replica.close()
        replica = bench.open(power_cut(replica._files), segment_bytes=1000, index_interval_bytes=250)
        assert content_of(replica, segment) == whole
        assert not replica._files.exists(f"{replica._segments[0].directory}/repair")


@pytest.mark.parametrize("noted", [b"", b"ourolog repair format=1 crc32c=00000000\n{}\n"])
def test_a_note_of_a_repair_that_cannot_be_read_keeps_nobody_from_opening_the_log(pair, bench, noted) -> None:
    replica, _ = pair
    replica.close()
    files = replica._files
    path = f"{replica._segments[0].directory}/repair"
    files.replace(path, noted)
    files = killed(files)
    bench.open(files, segment_bytes=1000, index_interval_bytes=250)
    assert not files.exists(path)
