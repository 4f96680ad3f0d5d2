"""What the operating system's errors mean for a log."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ourolog.storage.descriptors import SHORTAGES
from ourolog.storage.errors import StorageBusyError, StorageFailedError, StorageFullError

# EFBIG: the file system's or the process's limit on file size, which asks for the same remedy.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def as_storage_error(error: OSError, what: str) -> StorageFailedError:
    """The error to raise for an OSError. `what` begins its sentence, as in "cannot write /data/log/…"."""
    if error.errno in _FULL:
        return StorageFullError(f"{what}: {error}. Make room, then start the node again")
    return StorageFailedError(f"{what}: {error}")


@contextmanager
def busy_when_short() -> Iterator[None]:
    """A context for code that only reads: raises StorageBusyError when descriptors or memory have run out."""
    try:
        yield
    except OSError as error:
        if error.errno in SHORTAGES:
            raise StorageBusyError(f"the log cannot be read at the moment: {error}. Try again") from error
        raise
