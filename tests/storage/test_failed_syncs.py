"""After a failed sync what can be read need not be on disk, and no later sync tells; see simulation/disks/inodes.py."""

from __future__ import annotations

import contextlib
import errno
from random import Random

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk, SimulatedFile
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.errors import StorageError, StorageFailedError
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log, LogConfig
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk, killed, power_cut

CONFIG = {"segment_bytes": 500, "index_interval_bytes": 150, "checkpoint_interval_bytes": 700}
RANDOM = LogConfig(**CONFIG, retention_bytes=1200)


def test_a_failed_append_leaves_the_position_of_the_next_one_where_it_was(files) -> None:
    file = files.open("/f", create=True)
    file.append([b"abc"])
    files.fail("write", errno.EIO, after_bytes=2)
    with pytest.raises(OSError, match="Input/output"):
        file.append([b"def"])
    assert files.read_all("/f") == b"abcde"
    file.append([b"XYZ"])
    assert files.read_all("/f") == b"abcXYZ"


# ---------------------------------------------------------------- a log on it


@pytest.mark.parametrize("drops", [True, False])
def test_acknowledged_after_a_failed_fsync_and_a_restart_means_on_disk(bench, drops: bool) -> None:
    """One failed fsync, a restart, three acknowledged produces, a power cut."""
    files = empty_disk()
    log = bench.open(files)
    bench.fill(log, 2)
    files.fail("sync", errno.EIO, drops=drops)
    with pytest.raises(StorageFailedError):
        bench.fill(log, 1, first=2)
    files = killed(files)
    log = bench.open(files)
    first = log.end.index
    assert first == (2 if drops else 3)
    bench.fill(log, 3, first=first)
    again = bench.open(power_cut(files))
    assert bench.payloads(again) == [f"{at:08d}".encode().ljust(20, b".") for at in range(first + 3)]


def test_what_recovery_has_cut_or_written_again_is_on_disk_at_once(bench, files) -> None:
    log = bench.open(files)
    bench.fill(log, 2)
    files.fail("sync", errno.EIO)
    with pytest.raises(StorageFailedError):
        bench.fill(log, 1, first=2)
    files = killed(files)
    opened = bench.open(files)
    assert opened.synced == opened.end
    assert bench.open(power_cut(files)).end == opened.end


def test_a_log_that_was_closed_cleanly_is_opened_without_writing(bench, files) -> None:
    log = bench.open(files, **CONFIG)
    bench.fill(log, 9)
    log.close()
    steps = files.steps
    assert bench.open(files, **CONFIG).end.index == 9
    assert files.steps - steps == 1, "the directory was synced"


def test_only_what_nothing_proves_is_written_again(bench, files, monkeypatch) -> None:
    log = bench.open(files, checkpoint_interval_bytes=100_000)
    bench.fill(log, 50)
    log.append_new(bench.data(b"last" * 5), Term(1), 0)
    log.commit()
    size = log.size_bytes // 51
    written: list[int] = []
    overwrite = SimulatedFile.overwrite
    monkeypatch.setattr(
        SimulatedFile,
        "overwrite",
        lambda self, at, parts: written.append(sum(map(len, parts))) or overwrite(self, at, parts),
    )
    assert bench.open(killed(files)).end.index == 51
    assert written == [size]


def test_a_removed_segment_that_comes_back_is_no_part_of_the_log(bench, files) -> None:
    log = bench.open(files, **CONFIG)
    bench.fill(log, 20)
    files.fail("sync_directory", errno.EIO, nth=2)
    with pytest.raises(StorageFailedError):
        log.truncate(Index(2))
    files = killed(files)
    log = bench.open(files, **CONFIG)
    log.truncate(Index(2))
    bench.fill(log, 1, first=2)
    again = bench.open(power_cut(files), **CONFIG)
    assert again.end.index == 3
    assert len(bench.everything(again)) == 3


def test_a_truncation_whose_sync_failed_is_on_disk_once_the_log_is_open_again(bench, files) -> None:
    for index in (0, 2):
        files = empty_disk()
        log = bench.open(files)
        bench.fill(log, 4)
        files.fail("sync", errno.EIO, nth=2)  # the first is the checkpoint's
        with pytest.raises(StorageFailedError):
            log.truncate(Index(index))
        files = killed(files)
        assert bench.open(files).end.index == index
        assert bench.open(power_cut(files)).end.index == index


def test_a_checkpoint_whose_name_was_lost_does_not_outlive_what_retention_removes(bench, files) -> None:
    config = CONFIG | {"retention_bytes": 900, "checkpoint_interval_bytes": 10_000}
    log = bench.open(files, **config)
    bench.fill(log, 8)
    log.note_committed(log.end)
    files.fail("sync_directory", errno.EIO)
    with pytest.raises(StorageFailedError):
        log.save_notes()
    files = killed(files)
    log = bench.open(files, **config)
    bench.fill(log, 12, first=8)
    assert log.retain(0)
    start = log.start
    assert bench.open(power_cut(files), **config).start == start


def test_a_reset_whose_end_was_lost_does_not_take_what_came_after_it(bench) -> None:
    for nth in range(1, 12):
        files = empty_disk()
        log = bench.open(files, **CONFIG)
        bench.fill(log, 9)
        files.fail("sync_directory", errno.EIO, nth=nth)
        with contextlib.suppress(StorageFailedError):
            log.reset(Position(Index(50), Offset(50)))
        files = killed(files)
        log = bench.open(files, **CONFIG)
        bench.fill(log, 2)
        end = log.end
        assert bench.open(power_cut(files), **CONFIG).end == end


def test_an_identity_that_a_restarted_process_has_read_is_not_taken_back_by_a_power_loss(files) -> None:
    def take(found: SimulatedDisk, seed: int) -> DataDirectory:
        return DataDirectory.open(found, "/data", NodeId("n1"), "c", Random(seed))

    files.fail("sync_directory", errno.EIO)
    with pytest.raises(StorageFailedError):
        take(files, 1)
    files = killed(files)
    epoch = take(files, 2).log_epoch
    assert take(power_cut(files), 3).log_epoch == epoch


# ---------------------------------------------------------------- everything at random


class Life:
    """Processes that use one disk after the other, each with failures of its own, and what they promised.

    acknowledged: payloads by index. maybe: what else the log may hold from `end` on.
    start: below it retention may have removed things.
    """

    def __init__(self, seed: int, bench) -> None:
        self.rng = Random(seed)
        self.bench = bench
        self.files = empty_disk()
        self.acknowledged: dict[int, bytes] = {}
        self.maybe: list[bytes] = []
        self.start = self.highest_start = 0
        self.number = 0

    @property
    def end(self) -> int:
        return max(self.acknowledged, default=self.start - 1) + 1

    def live(self) -> None:
        rng, files = self.rng, self.files
        for _ in range(rng.choice((0, 1, 1, 2))):
            operation = rng.choice(("sync", "sync", "sync_directory", "write", "truncate", "remove", "rename"))
            nth = rng.randint(1, 6 if operation == "sync" else 4)
            files.fail(operation, errno.EIO, nth=nth, after_bytes=rng.randrange(200), drops=rng.random() < 0.4)
        try:
            log = Log.open(files, self.bench.directory, NodeId("n1"), 7, RANDOM)
        except StorageFailedError:
            self.end_life()
            return
        self.look(log)
        with contextlib.suppress(StorageFailedError, PowerCutError):
            for _ in range(rng.randint(1, 12)):
                rng.choice((self.append, self.append, self.append, self.truncate, self.retain))(log)
            if rng.random() < 0.3:
                log.close()
        self.end_life()

    def end_life(self) -> None:
        if self.rng.random() < 0.5:
            self.files = killed(self.files)
        else:
            chance = self.rng if self.rng.random() < 0.7 else None
            self.files = self.files.after_crash(keep_unsynced=False, chance=chance)

    def append(self, log: Log) -> None:
        payloads = []
        for _ in range(self.rng.randint(1, 3)):
            self.number += 1
            payloads.append(b"%d " % self.number + b"." * self.rng.choice((5, 60, 150)))
            log.append_new(self.bench.data(payloads[-1]), Term(1), 5)
        self.maybe = payloads
        log.commit()
        for at, payload in enumerate(payloads, self.end):
            self.acknowledged[at] = payload
        self.maybe = []

    def truncate(self, log: Log) -> None:
        if self.rng.random() < 0.7 or log.end.index <= log.start.index:
            return
        at = self.rng.randrange(log.start.index, log.end.index)
        self.maybe = [self.acknowledged.pop(index) for index in range(at, self.end)]
        log.truncate(Index(at))
        self.maybe = []

    def retain(self, log: Log) -> None:
        self.highest_start = self.end
        log.retain(0)
        self.start = self.highest_start = log.start.index

    def look(self, log: Log) -> None:
        """Everything acknowledged is there, nothing else but what was under way."""
        batches = self.bench.everything(log)
        found = {batch.index: batch.payload for batch in batches}
        # A removal is on disk before the next: what retention took does not come back as a part of the log.
        assert self.start <= log.start.index <= self.highest_start
        expected = {index: payload for index, payload in self.acknowledged.items() if index >= log.start.index}
        for index, payload in expected.items():
            assert found.get(index) == payload, f"{payload!r} was acknowledged at {index}"
        rest = [found[index] for index in range(max(self.end, log.start.index), log.end.index)]
        skipped = max(0, log.start.index - self.end)
        assert rest == self.maybe[skipped : skipped + len(rest)], "nothing but what was under way"
        self.start = self.highest_start = log.start.index
        self.acknowledged = expected | dict(enumerate(rest, max(self.end, self.start)))
        self.maybe = []


@pytest.mark.parametrize("part", range(4))
def test_failing_disks_killed_processes_and_power_cuts_in_any_order_lose_nothing_acknowledged(bench, part: int) -> None:
    for seed in range(part, 1200, 4):
        life = Life(seed, bench)
        life.files.make_directory(bench.directory)
        for _ in range(7):
            try:
                life.live()
            except (AssertionError, StorageError) as error:
                raise AssertionError(f"seed {seed}: {error}") from error
