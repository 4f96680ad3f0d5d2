"""The file system as storage sees it: a port.

`ourolog.storage.disk.DiskFiles` is the real one. The other is `ourolog.simulation.disks`: it can crash and lose what
was not synced, and all tests of storage run on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Part = bytes | memoryview
"""Bytes to be written. A view does for a part of larger ones, so that they need not be copied."""


class File(Protocol):
    """An open file. All positions and sizes are in bytes. Errors are OSError."""

    def append(self, parts: Sequence[Part]) -> None:
        """Write the parts one after another at the end of the file (writev); all or OSError.

        After an OSError an unknown prefix may have been written.
        """

    def overwrite(self, position: int, parts: Sequence[bytes]) -> None:
        """Write over existing bytes at `position`; the end of the file stays where it is.

        This is how bytes whose write-back has failed get another chance: no sync writes them again.
        """

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; fewer at the end of the file."""

    def size(self) -> int: ...

    def truncate(self, size: int) -> None:
        """Cut the file to `size`; later appends go there."""

    def sync(self) -> None:
        """Put data and size on disk (fdatasync).

        An error is final: what was to be written counts as written from then on, in this process and
        every later one, and no sync tries again.
        """

    def write_back(self, position: int) -> None:
        """Begin to bring to disk what is written from `position` on, and drop from memory what is there already.

        A hint: it promises nothing, and waits for nothing but room to ask for it.
        """

    def close(self) -> None: ...


class Files(Protocol):
    """Directories and files by path. Errors are OSError with an errno."""

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents. An existing one is fine; each new one is synced into its parent."""

    def list(self, directory: str) -> list[str]:
        """Names in the directory, sorted."""

    def exists(self, path: str) -> bool: ...

    def open(self, path: str, *, create: bool = False) -> File:
        """Open for reading and appending. FileNotFoundError without `create`."""

    def open_read_only(self, path: str) -> File: ...

    def read_all(self, path: str) -> bytes: ...

    def replace(self, path: str, content: bytes) -> None:
        """Replace a file atomically: a reader after any crash sees the old content or the new, whole.

        Write a new file, sync it, rename it over `path`, sync the directory.
        """

    def remove(self, path: str) -> None: ...

    def sync_directory(self, directory: str) -> None:
        """Put new, renamed and removed names of the directory on disk."""

    def lock(self, path: str) -> File:
        """Take an exclusive lock for as long as the returned file is open.

        Raises ourolog.storage.errors.DirectoryLockedError at once if another process holds it.
        """
