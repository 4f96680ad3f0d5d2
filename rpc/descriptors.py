"""Open files: how many a process may have, and how many of them connections may take.

A node needs descriptors for its log, for calls to its peers, and for a few things of the process.
Clients, and whoever else connects, get the other half of what there is. What is beyond that is
closed as soon as it is accepted.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

MAX_CONNECTIONS: Final = 4096


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit then in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where "unlimited" is more than the kernel lets anybody have, the soft limit stays.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return open_files_limit()


def open_files_limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31 - 1


def max_connections() -> int:
    """How many connections are accepted at once: half of the open files, 4,096 at most."""
    return max(1, min(MAX_CONNECTIONS, open_files_limit() // 2))
