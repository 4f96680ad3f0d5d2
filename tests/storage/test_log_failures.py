"""A disk that fails or is full: the log says so, takes nothing more, and has lost nothing acknowledged."""

from __future__ import annotations

import contextlib
import errno

import pytest

from ourolog.storage.errors import StorageFailedError, StorageFullError
from ourolog.storage.types import Index, Position, Term
from tests.disks import empty_disk

CONFIG = {"segment_bytes": 400, "checkpoint_interval_bytes": 300}


@pytest.mark.parametrize("keep_unsynced", [True, False])
@pytest.mark.parametrize("operation", ["write", "sync", "create", "rename", "sync_directory"])
def test_any_failing_operation_stops_the_log_for_good(bench, operation: str, keep_unsynced: bool) -> None:
    failures: list[str] = []
    for nth in range(1, 12):
        files = empty_disk()
        log = bench.open(files, **CONFIG)
        bench.fill(log, 2)
        files.fail(operation, errno.EIO, nth=nth, after_bytes=nth * 9)
        acknowledged = 2
        try:
            for at in range(2, 8):
                bench.fill(log, 1, first=at)
                acknowledged = at + 1
        except StorageFailedError as error:
            failures.append(str(error))
            for action in (
                log.commit,
                lambda log=log: log.append_new(bench.data(), Term(1), 0),
                lambda log=log: log.append_raw(b"", Term(1)),
                lambda log=log: log.truncate(Index(0)),
                lambda log=log: log.reset(log.start),
                lambda log=log: log.retain(0),
            ):
                with pytest.raises(StorageFailedError, match="takes nothing more"):
                    action()
            assert len(bench.everything(log)) >= acknowledged
        with contextlib.suppress(StorageFailedError):
            log.close()
        found = bench.open(files.after_crash(keep_unsynced=keep_unsynced), **CONFIG)
        payloads = bench.payloads(found)
        assert len(payloads) >= acknowledged
        assert payloads == [f"{at:08d}".encode().ljust(20, b".") for at in range(len(payloads))]
    assert failures
    assert all("cannot write the log in /data/log" in failure for failure in failures)


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_apart(bench, files, error_number: int) -> None:
    log = bench.open(files)
    log.append_new(bench.data(), Term(1), 0)
    files.fail("write", error_number, after_bytes=50)
    with pytest.raises(StorageFullError, match="Make room"):
        log.commit()
    with pytest.raises(StorageFullError, match="takes nothing more"):
        log.commit()
    assert bench.open(files).end.index == 0


@pytest.mark.parametrize("operation", ["truncate", "remove", "rename", "sync", "sync_directory"])
def test_a_failing_truncation_leaves_a_log_that_opens(bench, operation: str) -> None:
    for nth in range(1, 8):
        files = empty_disk()
        log = bench.open(files, **CONFIG)
        bench.fill(log, 9)
        files.fail(operation, errno.EIO, nth=nth)
        try:
            log.truncate(Index(2))
        except StorageFailedError:
            with pytest.raises(StorageFailedError):
                log.commit()
        found = bench.open(files.after_crash(keep_unsynced=False), **CONFIG)
        assert len(bench.everything(found)) >= 2
        found.truncate(Index(2))
        assert found.end.index == 2


def test_a_failing_reset_leaves_the_old_log_or_the_new_one(bench) -> None:
    start = Position(Index(50), bench.index(50))
    for operation in ("remove", "rename", "sync_directory", "create", "write"):
        for nth in range(1, 8):
            files = empty_disk()
            log = bench.open(files, **CONFIG)
            bench.fill(log, 9)
            files.fail(operation, errno.EIO, nth=nth)
            with contextlib.suppress(StorageFailedError):
                log.reset(start)
            found = bench.open(files.after_crash(keep_unsynced=True), **CONFIG)
            assert (found.start.index, found.end.index) in ((0, 9), (50, 50))


def test_a_log_that_cannot_be_opened_says_why(bench, files) -> None:
    files.fail("create", errno.EACCES)
    with pytest.raises(StorageFailedError, match=r"cannot open the log in /data/log.*denied"):
        bench.open(files)


def test_a_closed_log_takes_nothing(bench, files) -> None:
    log = bench.open(files)
    log.close()
    with pytest.raises(StorageFailedError, match="closed"):
        log.append_new(bench.data(), Term(1), 0)
    log.close()
