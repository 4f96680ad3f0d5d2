"""Open files: how many a process may have, and how many of them connections may take.

Half of what there is goes to those who connect, clients and peers; what is beyond that is closed as
soon as it is accepted. A quarter goes to this node's own calls to peers. The last quarter is for
the log, and for the few things that a process needs.
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

MAX_CONNECTIONS: Final = 4096
MAX_PEERS: Final = 1024


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


def max_peers() -> int:
    """How many nodes are called at once: a quarter of the open files, 1,024 at most."""
    return max(1, min(MAX_PEERS, open_files_limit() // 4))
