"""What the operating system's errors mean for a log."""

from __future__ import annotations

import errno
from typing import Final

from storage.errors import StorageFailedError, StorageFullError

# EFBIG: the file system's or the process's limit on file size, which asks for the same remedy.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def as_storage_error(error: OSError, what: str) -> StorageFailedError:
    """`what` failed: a sentence's beginning, as in "cannot write /data/log/…"."""
    if error.errno in _FULL:
        return StorageFullError(f"{what}: {error}. Make room, then start the node again")
    return StorageFailedError(f"{what}: {error}")
