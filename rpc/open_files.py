"""The limit of open files, and how it is divided.

Half goes to connections from clients and peers; a connection beyond that is closed as soon as it
is accepted. A quarter goes to this node's own calls to peers. The last quarter is for the log and
the few other files that a process needs.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

MAX_CONNECTIONS: Final = 4096
MAX_PEERS: Final = 1024


def raise_open_files_limit() -> int:
    """Raise this process's soft limit of open files to the hard one; returns the limit then in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A hard limit of "unlimited" may be more than the kernel grants; the soft limit stays then.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return open_files_limit()


def open_files_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 2**31 - 1


def max_connections() -> int:
    """How many connections are accepted at once: half of the open files, 4,096 at most."""
    return max(1, min(MAX_CONNECTIONS, open_files_limit() // 2))


def max_peers() -> int:
    """How many nodes are called at once: a quarter of the open files, 1,024 at most."""
    return max(1, min(MAX_PEERS, open_files_limit() // 4))
