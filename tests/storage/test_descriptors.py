"""Descriptors and memory that run out: reads are refused for a while, writing goes on, nothing is taken for damage."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ourolog.child_processes import child_environment, python_command
from ourolog.simulation.disks.disk import SimulatedDisk, SimulatedFile
from ourolog.storage.descriptors import DescriptorReserve, insist
from ourolog.storage.disk import DiskFile, DiskFiles
from ourolog.storage.errors import StorageBusyError
from ourolog.storage.log import Log
from ourolog.storage.types import Index, NodeId

ROLLING = {"segment_bytes": 400, "index_interval_bytes": 100, "checkpoint_interval_bytes": 300}

CHILD = """
import os, resource, sys
from ourolog.storage.batch import NewBatch
from ourolog.storage.disk import DiskFiles
from ourolog.storage.errors import StorageBusyError
from ourolog.storage.log import Log, LogConfig
from ourolog.storage.types import Index, NodeId, Position, Offset, Term

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
log = Log.open(DiskFiles(), sys.argv[1], NodeId("n1"), 7, LogConfig(segment_bytes=400, retention_bytes=2000))

def append(count):
    for _ in range(count):
        log.append_new(NewBatch(b"x" * 100, 1), Term(1), 5)
        log.commit()

append(30)
hogs = []
try:
    while True:
        hogs.append(os.dup(0))
except OSError as error:
    print("exhausted", error.errno)
append(30)
print("end", log.end.index)
refused = 0
for index in range(0, 60):
    try:
        log.read_from_index(Index(index), 1, log.end.index)
    except StorageBusyError as error:
        refused += 1
print("refused", refused > 0)
log.retain(0)
log.truncate(Index(log.end.index - 7))
log.save_notes()
append(10)
for hog in hogs:
    os.close(hog)
at, read = log.start.index, 0
while at < log.end.index:
    at = log.read_from_index(at, 1, log.end.index).next.index
    read += 1
print("read", read == log.end.index - log.start.index, log.end.index)
log.close()
"""


def test_a_log_without_a_descriptor_to_be_had_is_written_on_and_read_again_when_there_are_some(tmp_path: Path) -> None:
    done = subprocess.run(
        python_command("-c", CHILD, str(tmp_path)),
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.split("\n") == [f"exhausted {errno.EMFILE}", "end 60", "refused True", "read True 63", ""]
    assert Log.open(DiskFiles(), str(tmp_path), NodeId("n1"), 7).end.index == 63


@pytest.mark.parametrize("error_number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_read_that_finds_no_descriptor_is_refused_and_the_next_one_served(
    bench, files: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, error_number: int
) -> None:
    log = bench.open(files, **ROLLING)
    bench.fill(log, 20)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedDisk, "open_read_only", refusing(error_number))
        with pytest.raises(StorageBusyError, match="Try again"):
            log.read_from_index(Index(0), 1, log.end.index)
        bench.fill(log, 5, first=20)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedFile, "read", refusing(error_number))
        with pytest.raises(StorageBusyError, match="Try again"):
            log.read_from_index(Index(0), 1, log.end.index)
    assert len(bench.everything(log)) == 25


def test_retention_that_finds_no_descriptor_waits_for_the_next_time(
    bench, files: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = bench.open(files, **ROLLING, retention_ms=1)
    bench.fill(log, 20)
    log.close()
    log = bench.open(files, **ROLLING, retention_ms=1)
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedDisk, "read_all", refusing(errno.EMFILE))
        with pytest.raises(StorageBusyError):
            log.retain(10**9)
    assert log.retain(10**9)


def test_another_error_of_a_read_is_no_shortage(bench, files: SimulatedDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    log = bench.open(files, **ROLLING)
    bench.fill(log, 20)
    monkeypatch.setattr(SimulatedDisk, "open_read_only", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        log.read_from_index(Index(0), 1, log.end.index)


def refusing(error_number: int):
    def call(*_: object) -> None:
        raise OSError(error_number, os.strerror(error_number))

    return call


def test_a_shortage_of_memory_is_waited_out_and_other_errors_are_not() -> None:
    outcomes: Iterator[int] = iter([errno.ENOMEM, errno.EAGAIN, 0])
    calls = []

    def flaky() -> str:
        calls.append(1)
        number = next(outcomes)
        if number:
            raise OSError(number, os.strerror(number))
        return "done"

    assert insist(flaky) == "done"
    assert len(calls) == 3
    outcomes = iter([errno.EIO])
    with pytest.raises(OSError, match="Input/output"):
        insist(flaky)


def test_a_write_that_found_no_memory_is_tried_again_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwritev, failures = os.pwritev, [errno.ENOMEM, errno.ENOMEM]

    def flaky(fd: int, parts: list[bytes], position: int) -> int:
        if failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number))
        return pwritev(fd, parts, position)

    monkeypatch.setattr(os, "pwritev", flaky)
    file = DiskFiles().open(f"{tmp_path}/f", create=True)
    assert isinstance(file, DiskFile)
    file.append([b"abc", b"def"])
    assert file.read(0, 10) == b"abcdef"
    file.close()


def test_the_reserve_is_given_up_for_a_file_and_taken_back_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = DescriptorReserve(2)
    os.close(reserve.open(f"{tmp_path}/a", os.O_RDWR | os.O_CREAT))
    assert len(reserve._kept) == 2
    real, room = os.open, [0]

    def scarce(path: str, flags: int, mode: int = 0o777) -> int:
        if not room[0] and reserve._kept:
            raise OSError(errno.EMFILE, "Too many open files")
        room[0] -= 1
        return real(path, flags, mode)

    room[0] = 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", scarce)
        os.close(reserve.open(f"{tmp_path}/b", os.O_RDWR | os.O_CREAT))
        assert reserve._kept == []
    reserve.take_back()
    assert len(reserve._kept) == 2
