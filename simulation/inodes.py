"""One file's bytes as the process sees them, and as the disk has them; and what a power cut leaves.

What is on disk after a cut: everything below the last honest sync, and of what was written since
any subset of its sectors. A file that had grown may have any length in between, with zeros where a
sector never made it (ALICE, Pillai et al. 2014, lists what file systems promise here: less than
one thinks).
"""

from __future__ import annotations

from random import Random

SECTOR_BYTES = 512


class Inode:
    """content: what reads see. durable: what is on disk for certain.

    Since a log only appends, `durable` is usually a prefix of `content`, and syncing copies the rest
    of it. settled_bytes: the durable size one sync ago, below which later writes say it was synced.
    """

    __slots__ = ("content", "cut_since_sync", "doomed", "durable", "locked", "settled_bytes")

    def __init__(self, content: bytes = b"", settled_bytes: int | None = None) -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self.settled_bytes = len(content) if settled_bytes is None else min(settled_bytes, len(content))
        self.cut_since_sync = False
        self.doomed = False
        self.locked = False

    @property
    def is_dirty(self) -> bool:
        return self.cut_since_sync or len(self.durable) != len(self.content)

    def truncate(self, size: int) -> None:
        content = self.content
        if size < len(self.durable):
            self.cut_since_sync = True
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))

    def sync(self) -> None:
        if self.doomed:
            return  # the kernel holds these pages for clean since their write failed
        if self.cut_since_sync:
            self.settled_bytes = min(self.settled_bytes, len(self.content))
            self.durable = bytearray(self.content)
            self.cut_since_sync = False
        elif len(self.durable) != len(self.content):
            self.settled_bytes = len(self.durable)
            self.durable += memoryview(self.content)[len(self.durable) :]

    def after_power_loss(self, rng: Random) -> bytes:
        """What is left of it; see the module."""
        durable, content = self.durable, self.content
        if not self.is_dirty:
            return bytes(durable)
        if self.cut_since_sync and rng.random() < 0.5:
            return bytes(durable)  # neither the cut nor what came after it reached the disk
        common = _common_prefix(durable, content) if self.cut_since_sync else len(durable)
        size = rng.randint(common, len(content)) if rng.random() < 0.5 else len(content)
        left = bytearray(content[:common])
        left.extend(bytes(size - common))
        keep = rng.choice((0.0, 0.5, 0.9, 1.0))
        first = common // SECTOR_BYTES * SECTOR_BYTES
        for start in range(first, size, SECTOR_BYTES):
            if keep == 1.0 or rng.random() < keep:
                begin, end = max(start, common), min(start + SECTOR_BYTES, size)
                left[begin:end] = content[begin:end]
        return bytes(left)

    def flip_bit(self, position: int, bit: int) -> None:
        """Rot: both views change, since what is at rest is read from the disk again."""
        self.durable[position] ^= 1 << bit
        if position < len(self.content):
            self.content[position] ^= 1 << bit


def _common_prefix(one: bytearray, other: bytearray) -> int:
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    low = 0
    while low < size:
        middle = (low + size + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            size = middle - 1
    return low
