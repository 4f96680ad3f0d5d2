"""Disks for tests of one log or one actor: empty ones, and what the next process finds after a crash."""

from __future__ import annotations

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
