"""Bit rot: one flipped bit of what has been at rest on a disk, and how to restore it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Self

from ourolog.simulation.disks.disk import SimulatedDisk


@dataclass(frozen=True, slots=True)
class Rot:
    """One flipped bit, or one that is to be flipped.

    path: the file that it is in.
    position: in which byte of it.
    bit: which bit of that byte, 0 for the lowest.
    good: the byte as it was.
    """

    path: str
    position: int
    bit: int
    good: int

    @classmethod
    def draw(cls, disk: SimulatedDisk, rng: Random) -> Self | None:
        """A random bit of a file that was synced, and written to since; None if there is none."""
        candidates = disk.rot_candidates()
        if not candidates:
            return None
        path, below = rng.choice(candidates)
        position = rng.randrange(below)
        good = disk.byte_at(path, position)
        return None if good is None else cls(path, position, rng.randrange(8), good)

    def __str__(self) -> str:
        return f"bit {self.bit} of byte {self.position} of {self.path}"

    def strike(self, disk: SimulatedDisk) -> None:
        disk.flip_bit(self.path, self.position, self.bit)

    def undo(self, disk: SimulatedDisk) -> None:
        """Restore the file from the backup, unless it has been replaced since."""
        if disk.byte_at(self.path, self.position) == self.good ^ (1 << self.bit):
            disk.flip_bit(self.path, self.position, self.bit)
