"""The kinds of fault a simulation can inject, each with what it does.

The names are those of `--faults`, of FaultInjected events and of the counts in a result.
What is drawn from a seed is in `ourolog.simulation.plan`; which copies are kept good, so that a run proves
something, is in `ourolog.simulation.budget`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

KINDS: Final[dict[str, str]] = {
    # ---- network
    "loss": "A datagram, a call's request or its connection is lost on the way.",
    "duplicate": "A datagram or a fetch arrives twice.",
    "replay": "A datagram or a fetch arrives again up to two seconds later, even if its sender has died meanwhile.",
    "slow_link": "One direction of a link takes up to half a second for everything.",
    "clog": "One direction of a link holds everything back for a while, then delivers it at once.",
    "partition": "Some links carry nothing for a while: halves, one node alone, one way, a ring.",
    "gossip_lost": "No gossip reaches a node, or comes from it, for a while; calls go on. Only where voters elect.",
    "reply_lost": "The work was done, but its answer does not arrive.",
    "stream_cut": "A connection breaks in the middle of an open call.",
    # ---- processes
    "kill": "A process ends where it stands; the machine, and with it the page cache, goes on.",
    "power_loss": "A machine loses power, also in the middle of a write: what was not synced survives in part, torn.",
    "blackout": "All machines lose power at once.",
    "stop": "A node is stopped in good order and started again.",
    "transfer": "The leader that voters have elected is told to let another one lead.",
    "voters": "People have the leader add and remove voters, two at once, and such as cannot be. Where voters elect.",
    "pause": "A node stands still for a while; timers and messages pile up in front of it.",
    "slow_node": "A node needs milliseconds for every message.",
    # ---- clocks
    "clock_drift": "A node's clocks run up to five percent fast or slow.",
    "clock_jump": "A node's wall clock jumps, by up to an hour in either direction; timers go on undisturbed.",
    # ---- disks
    "slow_disk": "Writing and syncing take up to a second.",
    "disk_hangs": "One operation of a disk takes seconds, and whatever else its node asks of the disk waits.",
    "disk_full": "There is room for a few bytes more: an append fails in its middle with ENOSPC.",
    "io_error": "A read, a write or another operation fails with EIO.",
    "fsync_fails": "An fsync fails with EIO; what it should have written vanishes, or can be read until a power loss.",
    "fsync_lies": "For a while fsync returns without having written anything.",
    "bit_rot": "A bit, some bytes or a sector of what lay safely on a disk turn into something else.",
    "old_disk": "A node starts again on a copy of its disk from some time ago.",
    "disk_lost": "A node's disk is gone for good; it starts again on an empty one.",
}

SPOILING: Final = frozenset({"fsync_lies", "bit_rot", "disk_lost", "old_disk"})
"""Faults that take back what was durable; the budget bounds them."""


def check_kinds(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each once, in the order of KINDS. Raises ValueError with a sentence for the person who typed them."""
    wanted = list(names)
    unknown = [name for name in wanted if name not in KINDS]
    if unknown:
        raise ValueError(f"unknown fault {unknown[0]!r}: there are {', '.join(KINDS)}")
    return tuple(name for name in KINDS if name in wanted)
