"""The limit of open files, and how it is divided.

Three eighths go to connections of clients; one beyond that is closed as soon as it is accepted. An eighth goes to
connections of other nodes, a quarter to this node's own calls to others. The last quarter is for the log and the few
other files that a process needs.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

MAX_CONNECTIONS: Final = 4096
MAX_PEER_CONNECTIONS: Final = 1024
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
    """How many connections of clients are accepted at once: three eighths of the open files, 4,096 at most."""
    return max(1, min(MAX_CONNECTIONS, open_files_limit() * 3 // 8))


def max_peer_connections() -> int:
    """How many connections of other nodes are accepted at once: an eighth of the open files, 1,024 at most."""
    return max(1, min(MAX_PEER_CONNECTIONS, open_files_limit() // 8))


def max_peers() -> int:
    """How many connections there are to nodes that are called: a quarter of the open files, 1,024 at most."""
    return max(1, min(MAX_PEERS, open_files_limit() // 4))
