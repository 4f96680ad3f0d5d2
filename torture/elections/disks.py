"""Small disks of the nodes' own, in memory, which can be filled up; needs root to mount them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

_BALLAST: Final = "ballast"


class NoDisksError(Exception):
    """This user cannot mount anything; why."""


@contextlib.contextmanager
def small_disks(directories: Sequence[str], mib: int) -> Iterator[None]:
    """Each of these directories, which are made, on a file system of its own of that size. Raises NoDisksError."""
    with contextlib.ExitStack() as stack:
        for directory in directories:
            os.makedirs(directory, exist_ok=True)
            words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", directory]
            mounted = subprocess.run(words, capture_output=True, text=True, check=False)
            if mounted.returncode:
                raise NoDisksError(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
            # Lazily: a process that was just killed may still hold a file open.
            stack.callback(subprocess.run, ["umount", "--lazy", directory], check=True)
        yield


def fill(directory: str) -> None:
    """Leave no room on the disk on which that directory is."""
    with open(_ballast(directory), "ab", buffering=0) as file:
        for size in (1024 * 1024, 4096):
            chunk = bytes(size)
            with contextlib.suppress(OSError):
                while file.write(chunk) == size:
                    pass


def free(directory: str) -> None:
    """Give back the room that `fill` took; nothing happens if it took none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_ballast(directory))


def wipe(directory: str) -> None:
    """Remove everything in a directory, and leave it."""
    for root, folders, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(os.path.join(root, name))
        for name in folders:
            os.rmdir(os.path.join(root, name))


def _ballast(directory: str) -> str:
    return os.path.join(directory, _BALLAST)
