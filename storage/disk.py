"""The real file system: plain positional I/O, no mmap on the write path.

os.pwritev and os.fdatasync release the GIL while the disk works; mmap.flush does not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from typing import Final

from ourolog.storage.descriptors import DescriptorReserve, insist
from ourolog.storage.errors import DirectoryLockedError
from ourolog.storage.files import Part

TEMPORARY_SUFFIX: Final = ".tmp"

# POSIX promises 16; Linux and the BSDs take 1024.
_IOV_MAX: Final = max(16, os.sysconf("SC_IOV_MAX")) if "SC_IOV_MAX" in os.sysconf_names else 16


def _sync_file(fd: int) -> None:
    if sys.platform == "darwin":
        # On macOS fsync leaves the data in the drive's own cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


class DiskFile:
    """One open file. It tracks its own append position, so that a short write can be continued."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = os.fstat(fd).st_size

    def append(self, parts: Sequence[Part]) -> None:
        position = self._end
        for first in range(0, len(parts), _IOV_MAX):
            position = self._write_all(parts[first : first + _IOV_MAX], position)
        self._end = position

    def overwrite(self, position: int, parts: Sequence[bytes]) -> None:
        for first in range(0, len(parts), _IOV_MAX):
            position = self._write_all(parts[first : first + _IOV_MAX], position)

    def _write_all(self, parts: Sequence[Part], position: int) -> int:
        expected = sum(map(len, parts))
        written = insist(lambda: os.pwritev(self._fd, parts, position))
        if written < expected:
            rest = memoryview(b"".join(parts))
            while written < expected:
                more = insist(lambda: os.pwrite(self._fd, rest[written:], position + written))  # noqa: B023  # called at once
                if more == 0:
                    raise OSError(errno.EIO, "the file takes no more bytes and gives no reason")
                written += more
        return position + expected

    def read(self, position: int, size: int) -> bytes:
        data = os.pread(self._fd, size, position)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size and (data := os.pread(self._fd, size - got, position + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._end = size

    def sync(self) -> None:
        _sync_file(self._fd)

    def write_back(self, position: int) -> None:
        # Linux starts to write what is dirty there, and drops the rest; elsewhere it may do less, or there is no such
        # call. What it says is no concern of ours: an error of the disk is told by the sync.
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._fd, position, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


# For a replaced file, its directory, and an index beside the segment that is sealed; and one to spare.
_RESERVE: Final = 4


class DiskFiles:
    """The Files port on the machine's own disks. Everything that writes may use a reserve of descriptors."""

    def __init__(self) -> None:
        self._reserve = DescriptorReserve(_RESERVE)

    def make_directory(self, path: str) -> None:
        missing = []
        at = os.path.abspath(path)
        while not os.path.isdir(at):
            missing.append(at)
            at = os.path.dirname(at)
        # An existing directory may have been made by a process that was killed before it could sync the
        # parent. We may lack the permission to open a parent that belongs to another user.
        with contextlib.suppress(PermissionError):
            self.sync_directory(os.path.dirname(at))
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory)
            self.sync_directory(os.path.dirname(directory))
        if not os.path.isdir(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def list(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        return DiskFile(self._reserve.open(path, os.O_RDWR | (os.O_CREAT if create else 0)))

    def open_read_only(self, path: str) -> DiskFile:
        return DiskFile(os.open(path, os.O_RDONLY))

    def read_all(self, path: str) -> bytes:
        file = DiskFile(self._reserve.open(path, os.O_RDONLY))
        try:
            return file.read(0, file.size())
        finally:
            file.close()
            self._reserve.take_back()

    def replace(self, path: str, content: bytes) -> None:
        temporary = path + TEMPORARY_SUFFIX
        file = DiskFile(self._reserve.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        try:
            file.append([content])
            file.sync()
        finally:
            file.close()
        os.rename(temporary, path)
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, directory: str) -> None:
        fd = self._reserve.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
            self._reserve.take_back()

    def lock(self, path: str) -> DiskFile:
        """Lock with flock, which the kernel releases however the process ends. The file says who holds it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            by = f"process {holder}" if holder else "another process"
            raise DirectoryLockedError(
                f"{os.path.dirname(path) or path} is in use: {by} holds {path}. "
                "Stop that node first, or give this one a data directory of its own"
            ) from None
        file = DiskFile(fd)
        try:
            file.truncate(0)
            file.append([f"{os.getpid()}\n".encode()])
        except OSError:
            file.close()
            raise
        return file


def holder_of(path: str) -> int | None:
    """The process that holds the lock at that path, as `lock` wrote it there; None if nobody does or it is not told."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).strip()
        return int(holder) if holder.isdigit() else None
    finally:
        os.close(fd)
    return None
