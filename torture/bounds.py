"""What a node and its honest clients must hold to while somebody misbehaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """The figures of docs/torture.md; a scenario that needs others says so in its row.

    wait_s: the longest that an honest call may take under attack, on top of WAIT_RATIO times the
        longest of the calm before; its attempts and pauses are counted.
    typical_s: the same for the median.
    behind_s: the longest that an acknowledged record may take to reach the honest consumer,
        likewise.
    grown_mib: how far a node's resident memory may rise above that of the calm.
    kept_mib: how much of it may still be there once the villain is gone and things have settled.
    grown_files: how many descriptors more than in the calm a node may have open under attack.
    kept_files: and how many once things have settled.
    log_lines: how many lines a node may write from the first attack on, until it is asked to stop.
    line_bytes: how long each of them may be.
    log_errors: how many of them may be of level error, or tracebacks.
    settle_s: how long after the attack memory, descriptors and service may take to be well again.
    stop_s: how long a node may take from SIGTERM to its exit.
    refused: whether honest calls may fail with a word that nothing was appended.
    unknown: whether honest produces may end with an unknown outcome.
    strangers_wait: whether honest clients that connect during the attack must be served, too.
    """

    wait_s: float = 5.0
    typical_s: float = 1.0
    behind_s: float = 5.0
    grown_mib: int = 384
    kept_mib: int = 192
    grown_files: int = 1_400
    kept_files: int = 12
    log_lines: int = 120
    line_bytes: int = 4_096
    log_errors: int = 0
    settle_s: float = 20.0
    stop_s: float = 15.0
    refused: bool = False
    unknown: bool = False
    strangers_wait: bool = True


WAIT_RATIO = 10.0
"""A busy machine is slow in the calm, too, so bounds grow by this many times what was seen there."""
