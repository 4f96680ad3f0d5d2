"""Bit rot: bytes at rest on a disk that turn into others, and how to restore them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple, Self

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.disks.inodes import SECTOR_BYTES
from ourolog.storage.segment import LOG_SUFFIX

_MORE_THAN_A_BIT: Final = 0.5
_AT_THE_END: Final = 0.3
_NEAR_THE_END_BYTES: Final = 400
_MAX_BURST_BYTES: Final = 64
_TOLD: Final = re.compile(r"(?:bit \d of|(\d+) bytes from) byte (\d+) of (.+)")


class Rotted(NamedTuple):
    """What rotted, as a FaultInjected says it: the bytes [position, position + size) of that file."""

    path: str
    position: int
    size: int

    @classmethod
    def told(cls, detail: str) -> Self | None:
        """What the detail of a FaultInjected says; None if that is of another fault."""
        match = _TOLD.fullmatch(detail)
        return cls(match[3], int(match[2]), int(match[1] or 1)) if match else None


@dataclass(frozen=True, slots=True)
class Rot:
    """Bytes that have turned into others, or will.

    path: the file that they are in.
    position: where in it the first of them is.
    good: the bytes as they were.
    bad: the bytes that they turn into.
    """

    path: str
    position: int
    good: bytes
    bad: bytes

    @classmethod
    def draw(
        cls, disk: SimulatedDisk, rng: Random, shapes: Random | None = None, among: Collection[str] = ()
    ) -> Self | None:
        """A random bit of what has been at rest for a while; None if there is none.

        shapes: where it is given, what rots may be more than the bit, around it.
        among: the files that are wanted, if any of them may rot.
        """
        candidates = _candidates(disk)
        wanted = [candidate for candidate in candidates if candidate[0] in among]
        candidates = wanted or candidates
        if not candidates:
            return None
        path, below = rng.choice(candidates)
        position = rng.randrange(below)
        good = disk.bytes_at(path, position, 1)
        if good is None:
            return None
        bit = cls(path, position, good, bytes([good[0] ^ (1 << rng.randrange(8))]))
        if shapes is None:
            return bit
        if not wanted and shapes.random() < _AT_THE_END:
            return cls.at_end(disk, shapes) or bit
        return bit._more(disk, below, shapes) or bit

    @classmethod
    def at_end(cls, disk: SimulatedDisk, shapes: Random) -> Self | None:
        """A bit near the end of the log, where entries are that may not be committed yet; None if there is no log."""
        segments = [candidate for candidate in disk.rot_candidates() if candidate[0].endswith(LOG_SUFFIX)]
        if not segments:
            return None
        path, below = segments[-1]
        position = below - 1 - shapes.randrange(min(below, _NEAR_THE_END_BYTES))
        good = disk.bytes_at(path, position, 1)
        return None if good is None else cls(path, position, good, bytes([good[0] ^ (1 << shapes.randrange(8))]))

    def _more(self, disk: SimulatedDisk, below: int, shapes: Random) -> Self | None:
        """A sector of zeroes, or a burst of other bytes, around this bit; None for the bit alone."""
        if shapes.random() >= _MORE_THAN_A_BIT:
            return None
        if shapes.random() < 0.5:
            begin = self.position // SECTOR_BYTES * SECTOR_BYTES
            end = min(begin + SECTOR_BYTES, below)
        else:
            begin, end = self.position, min(self.position + shapes.randrange(1, _MAX_BURST_BYTES), below)
        good = disk.bytes_at(self.path, begin, end - begin)
        if good is None:
            return None
        bad = bytes(end - begin) if begin % SECTOR_BYTES == 0 else shapes.randbytes(end - begin)
        return type(self)(self.path, begin, good, bad) if bad != good else None

    def __str__(self) -> str:
        if len(self.good) == 1:
            bit = (self.good[0] ^ self.bad[0]).bit_length() - 1
            return f"bit {bit} of byte {self.position} of {self.path}"
        return f"{len(self.good)} bytes from byte {self.position} of {self.path}"

    def strike(self, disk: SimulatedDisk) -> None:
        disk.spoil(self.path, self.position, self.bad)

    def undo(self, disk: SimulatedDisk) -> None:
        """Restore the file from the backup, except where something else was written since."""
        disk.restore(self.path)

    def is_over(self, disk: SimulatedDisk) -> bool:
        """Whether nothing of it is on disk any more."""
        return not disk.is_rotten(self.path)


def _candidates(disk: SimulatedDisk) -> list[tuple[str, int]]:
    """Files with bytes that may rot, each with the position below which they may.

    The last batch of a log may not: nothing behind it says that it was synced, so it would pass for a torn write. Of a
    segment behind which another one has been at rest, all may.
    """
    settled = dict(disk.rot_candidates())
    segments = sorted(path for path in settled if path.endswith(LOG_SUFFIX))
    return [(path, disk.durable_size(path) if path in segments[:-1] else below) for path, below in settled.items()]
