"""Disks for tests of one log or one actor: empty ones, and what the next process finds after a crash."""

from __future__ import annotations

from collections.abc import Hashable
from random import Random

from ourolog.simulation.disks.disk import SimulatedDisk

SECTOR_BYTES = 32
"""Far smaller than real ones, so that small tests see torn batches."""


def empty_disk() -> SimulatedDisk:
    return SimulatedDisk(sector_bytes=SECTOR_BYTES)


def killed(disk: SimulatedDisk) -> SimulatedDisk:
    """The disk after its process was killed: everything that was written is there."""
    return disk.after_crash(keep_unsynced=True)


def power_cut(disk: SimulatedDisk, chance: Random | None = None) -> SimulatedDisk:
    """The disk after a power cut: with chance in the middle of writing back, or else only what was synced is there."""
    return disk.after_crash(keep_unsynced=False, chance=chance)


def state_of(disk: SimulatedDisk) -> Hashable:
    """Equal only for disks that no process can tell apart, not even when power is cut later on.

    A test that goes through every crash finds most disks many times over: what it has shown of one holds of its equals.
    """
    entries = disk.entries
    changes = [
        (directory, change.path, change.inode, change.renamed_from, change.is_lost, change.is_undone)
        for directory, changes in sorted(entries._changes.items())
        for change in changes
    ]
    names = [*sorted(entries.visible.items()), *sorted(entries.durable.items())]
    inodes = [*(inode for _, inode in names), *(change[2] for change in changes if change[2] is not None)]
    numbers: dict[int, int] = {}
    for inode in inodes:
        numbers.setdefault(id(inode), len(numbers))
    distinct = {id(inode): inode for inode in inodes}
    return (
        tuple(sorted(disk.directories)),
        len(entries.visible),
        tuple((path, numbers[id(inode)]) for path, inode in names),
        tuple((*change[:2], change[2] and numbers[id(change[2])], *change[3:]) for change in changes),
        tuple(
            (
                bytes(inode.content),
                bytes(inode.durable),
                inode.settled_bytes,
                *inode.dirty,
                "lost",
                *inode.lost,
                inode.cut_to,
                inode.drops_lost,
                inode.locked,
            )
            for inode in distinct.values()
        ),
    )
