from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from ourolog.child_processes import child_environment, python_command
from ourolog.storage.disk import DiskFiles
from ourolog.storage.errors import DirectoryLockedError


@pytest.fixture
def disk() -> DiskFiles:
    return DiskFiles()


def test_more_parts_than_one_writev_takes_are_all_written(disk: DiskFiles, tmp_path: Path) -> None:
    file = disk.open(f"{tmp_path}/f", create=True)
    parts = [str(at).encode() for at in range(5000)]
    file.append(parts)
    file.append([b"end"])
    assert disk.read_all(f"{tmp_path}/f") == b"".join(parts) + b"end"
    file.close()


def test_a_short_write_is_completed(disk: DiskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev, pwrite = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: pwritev(fd, [b"".join(parts)[:3]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, part, at: pwrite(fd, part[:2], at))
    file = disk.open(f"{tmp_path}/f", create=True)
    file.append([b"abcd", b"efg", b"hijk"])
    file.append([b"lm"])
    assert file.read(0, 100) == b"abcdefghijklm"
    file.close()


def test_a_write_that_makes_no_progress_is_an_error(
    disk: DiskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: 0)
    monkeypatch.setattr(os, "pwrite", lambda fd, part, at: 0)
    file = disk.open(f"{tmp_path}/f", create=True)
    with pytest.raises(OSError, match="takes no more bytes"):
        file.append([b"abc"])
    file.close()


def test_after_a_truncation_appends_go_to_the_new_end(disk: DiskFiles, tmp_path: Path) -> None:
    file = disk.open(f"{tmp_path}/f", create=True)
    file.append([b"abcdef"])
    file.truncate(2)
    file.append([b"X"])
    file.sync()
    assert (file.read(0, 10), file.size()) == (b"abX", 3)
    file.close()


def test_an_opened_file_is_appended_to_at_its_end(disk: DiskFiles, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    file = disk.open(f"{tmp_path}/f")
    file.append([b"d"])
    file.close()
    assert (tmp_path / "f").read_bytes() == b"abcd"


def test_a_missing_file_is_not_made_by_opening_it(disk: DiskFiles, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open(f"{tmp_path}/f")
    assert disk.list(str(tmp_path)) == []


def test_replacing_leaves_the_new_content_and_nothing_else(disk: DiskFiles, tmp_path: Path) -> None:
    disk.replace(f"{tmp_path}/f", b"old and long")
    disk.replace(f"{tmp_path}/f", b"new")
    assert disk.read_all(f"{tmp_path}/f") == b"new"
    assert disk.list(str(tmp_path)) == ["f"]


def test_directories_are_made_with_their_parents(disk: DiskFiles, tmp_path: Path) -> None:
    disk.make_directory(f"{tmp_path}/a/b/c")
    disk.make_directory(f"{tmp_path}/a/b/c")
    assert (tmp_path / "a/b/c").is_dir()


def test_a_file_where_a_directory_should_be_is_an_error(disk: DiskFiles, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(NotADirectoryError):
        disk.make_directory(f"{tmp_path}/f/g")


def test_a_lock_names_the_path_and_the_process_that_holds_it(disk: DiskFiles, tmp_path: Path) -> None:
    held = disk.lock(f"{tmp_path}/lock")
    with pytest.raises(DirectoryLockedError, match=rf"{tmp_path} is in use: process {os.getpid()} holds"):
        disk.lock(f"{tmp_path}/lock")
    held.close()
    disk.lock(f"{tmp_path}/lock").close()


def test_a_killed_process_leaves_no_lock_behind(disk: DiskFiles, tmp_path: Path) -> None:
    code = (
        "import sys; from ourolog.storage.disk import DiskFiles; lock = DiskFiles().lock(sys.argv[1]);"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        python_command("-c", code, f"{tmp_path}/lock"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(DirectoryLockedError, match=f"process {process.pid}"):
            disk.lock(f"{tmp_path}/lock")
        process.kill()
        process.wait()
    disk.lock(f"{tmp_path}/lock").close()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no such hints")
def test_what_is_written_back_stays_whole_and_a_hint_that_fails_harms_nobody(
    disk: DiskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    advise = os.posix_fadvise

    def fadvise(fd: int, position: int, size: int, advice: int) -> None:
        asked.append((position, size, advice))
        advise(fd, position, size, advice)
        raise OSError(errno.EINVAL, "no such advice")

    monkeypatch.setattr(os, "posix_fadvise", fadvise)
    file = disk.open(f"{tmp_path}/f", create=True)
    for written in range(3):
        file.append([b"x" * 10_000])
        file.write_back(written * 10_000)
    file.sync()
    file.write_back(0)
    assert file.read(0, 100_000) == b"x" * 30_000
    file.close()
    # All from there to the end of the file: a size of 0 says so.
    assert asked == [(at, 0, os.POSIX_FADV_DONTNEED) for at in (0, 10_000, 20_000, 0)]
