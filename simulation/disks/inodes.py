"""A file's bytes as processes see them and as the disk has them.

A byte is in one of three states: it is on disk; it is *dirty*, and the next sync puts it there;
or it is *lost*: its write-back has failed. Linux marks the page of a lost byte clean, so reads may
still return it, every later sync succeeds and writes nothing, and only writing the byte again
makes it dirty (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020,
section 3.3). Or the page is dropped, and reads return what the disk has. Both happen.

A byte counts as a page of its own here. That is stricter than any disk: there, a neighbour's write
often saves a lost byte, too.

What is on disk after a power cut: everything below the last honest sync, and of what was written
since any subset of its sectors. A file that had grown may have any length in between, with zeros
where a sector was not written (ALICE, Pillai et al. 2014, lists what file systems promise here: less
than one thinks). A truncation is metadata, kept in a journal: a failed sync of data does not lose
it, and the next successful one has it.
"""

from __future__ import annotations

from random import Random
from typing import Self

SECTOR_BYTES = 512

Range = tuple[int, int]


class Inode:
    """One file, whatever names it has.

    content: what reads see.
    durable: what is on disk for certain.
    settled_bytes: the durable size one sync ago, below which later writes say it was synced.
    dirty: the ranges that the next sync writes.
    lost: the ranges whose write-back has failed.
    cut_to: the size of an unsynced truncation; None without one.
    drops_lost: whether lost bytes vanish from `content` when the process ends, see `end_process`.
    locked: whether a process holds a lock on it.
    rotten: which bytes on disk have turned into others, by position, each with what it was.
    """

    __slots__ = ("content", "cut_to", "dirty", "drops_lost", "durable", "locked", "lost", "rotten", "settled_bytes")

    def __init__(self, content: bytes | bytearray = b"", settled_bytes: int | None = None) -> None:
        self.content = bytearray(content)
        self.durable = bytearray(content)
        self.settled_bytes = len(content) if settled_bytes is None else min(settled_bytes, len(content))
        self.dirty: list[Range] = []
        self.lost: list[Range] = []
        self.cut_to: int | None = None
        self.drops_lost = False
        self.locked = False
        self.rotten: dict[int, int] = {}

    @property
    def is_dirty(self) -> bool:
        return bool(self.dirty) or self.cut_to is not None

    @property
    def durable_bytes(self) -> int:
        """How much of the content, from its beginning, is on disk as it stands."""
        return min([len(self.content), *(start for start, _ in self.dirty), *(start for start, _ in self.lost)])

    # ------------------------------------------------------------ what processes do

    def write(self, position: int, data: bytes) -> None:
        """Write at `position`, over what is there; a gap beyond the end is filled with zeros."""
        content = self.content
        if not data:
            return
        if position > len(content):
            content.extend(bytes(position - len(content)))
        end = position + len(data)
        content[position:end] = data
        self.lost = _without(self.lost, (position, end))
        if self.dirty and self.dirty[-1][1] == position:
            self.dirty[-1] = (self.dirty[-1][0], end)
        else:
            self.dirty = [*_without(self.dirty, (position, end)), (position, end)]

    def truncate(self, size: int) -> None:
        content = self.content
        if size < len(content):
            del content[size:]
            gone = (size, 1 << 62)
            self.dirty, self.lost = _without(self.dirty, gone), _without(self.lost, gone)
        elif size > len(content):
            self.write(len(content), bytes(size - len(content)))
        if size < len(self.durable):
            self.cut_to = size if self.cut_to is None else min(self.cut_to, size)

    def sync(self) -> None:
        """Put everything dirty on disk."""
        if self.cut_to is not None:
            self.settled_bytes = min(self.settled_bytes, self.cut_to)
        elif self.dirty:
            self.settled_bytes = len(self.durable)
        self._write_back(self.dirty)
        self.dirty = []

    def fail_sync(self, rng: Random | None, *, drops: bool, sector_bytes: int = SECTOR_BYTES) -> None:
        """Put some of what is dirty on disk (without `rng` nothing) and lose the rest."""
        dirty, self.dirty = self.dirty, []
        if rng is not None and rng.random() < 0.5:
            parts = [part for part in _sectors(dirty, sector_bytes) if rng.random() < 0.3]
            self._write_back(parts)
            for part in parts:
                dirty = _without(dirty, part)
        self.lost = [*self.lost, *dirty]
        self.drops_lost = drops and bool(self.lost)

    def end_process(self) -> None:
        """Handle the end of the process that had the file open."""
        self.locked = False
        if self.drops_lost:
            self.drop_lost()

    def drop_lost(self) -> None:
        """Drop the pages of lost bytes from memory: reads return what the disk has."""
        content, durable = self.content, self.durable
        for start, end in self.lost:
            on_disk = durable[start:end]
            content[start:end] = on_disk + bytes(end - start - len(on_disk))
        # If nothing was written after them, the file was never made longer.
        ends = [len(durable), *(end for _, end in self.dirty)]
        if self.lost and self.cut_to is None:
            del content[max(ends) :]
        self.lost, self.drops_lost = [], False

    # ------------------------------------------------------------ what the machine does

    def after_power_loss(self, rng: Random | None, sector_bytes: int = SECTOR_BYTES) -> Inode:
        """The file that is left, as the module's docstring says; without `rng` what is on disk for certain."""
        if rng is None or not self.is_dirty or (self.cut_to is not None and rng.random() < 0.5):
            return self._left(self.durable, [])  # neither a truncation nor anything after it has reached the disk
        left = bytearray(self.durable)
        if self.cut_to is not None:
            del left[self.cut_to :]
        written: list[Range] = [(len(left), 1 << 62)]
        end = max([len(left), *(end for _, end in self.dirty)])
        size = rng.randint(len(left), end) if rng.random() < 0.5 else end
        left.extend(bytes(size - len(left)))
        keep = rng.choice((0.0, 0.5, 0.9, 1.0))
        for start, stop in _sectors(self.dirty, sector_bytes):
            stop = min(stop, size)
            if start < stop and (keep == 1.0 or rng.random() < keep):
                left[start:stop] = self.content[start:stop]
                written.append((start, stop))
        return self._left(left, written)

    def _left(self, content: bytearray, written: list[Range]) -> Inode:
        """A file with this content, which still has the rot that was not written over."""
        left = Inode(content, self.settled_bytes)
        left.rotten = {at: was for at, was in self.rotten.items() if not _is_in(written, at)}
        return left

    def spoil(self, position: int, data: bytes) -> None:
        """Turn bytes at rest into others, in both views, since they are read from the disk again."""
        for at, byte in enumerate(data, position):
            if byte != self.durable[at]:
                self.rotten.setdefault(at, self.durable[at])
                self._turn(at, byte)

    def restore(self) -> None:
        """Turn what has rotted into what it was, where nothing else has been written since."""
        for at, was in self.rotten.items():
            self._turn(at, was)
        self.rotten = {}

    def _turn(self, at: int, byte: int) -> None:
        self.durable[at] = byte
        has_newer = _is_in(self.dirty, at) or _is_in(self.lost, at) or (self.cut_to is not None and at >= self.cut_to)
        if at < len(self.content) and not has_newer:
            self.content[at] = byte

    def flip_bit(self, position: int, bit: int) -> None:
        """Flip one bit of a byte at rest, in both views, since it is read from the disk again."""
        self.durable[position] ^= 1 << bit
        if position < len(self.content):
            self.content[position] ^= 1 << bit

    def copy(self) -> Self:
        """An equal file in other memory, unlocked."""
        other = type(self)()
        other.content, other.durable = bytearray(self.content), bytearray(self.durable)
        other.dirty, other.lost, other.cut_to = list(self.dirty), list(self.lost), self.cut_to
        other.settled_bytes, other.drops_lost = self.settled_bytes, self.drops_lost
        other.rotten = dict(self.rotten)
        return other

    def _write_back(self, parts: list[Range]) -> None:
        durable = self.durable
        if self.cut_to is not None:
            del durable[self.cut_to :]
            self.cut_to = None
        kept = len(durable)
        for start, end in parts:
            if start > len(durable):
                durable.extend(bytes(start - len(durable)))
            durable[start:end] = memoryview(self.content)[start:end]
        if self.rotten:
            self.rotten = {at: was for at, was in self.rotten.items() if at < kept and not _is_in(parts, at)}


def _is_in(ranges: list[Range], position: int) -> bool:
    return any(start <= position < end for start, end in ranges)


def _without(ranges: list[Range], gone: Range) -> list[Range]:
    """What is left of the ranges, in their order, without one of them."""
    left: list[Range] = []
    for start, end in ranges:
        if end <= gone[0] or start >= gone[1]:
            left.append((start, end))
            continue
        if start < gone[0]:
            left.append((start, gone[0]))
        if end > gone[1]:
            left.append((gone[1], end))
    return left


def _sectors(ranges: list[Range], sector_bytes: int) -> list[Range]:
    """The ranges cut where sectors end."""
    return [
        (max(start, at), min(end, at + sector_bytes))
        for start, end in ranges
        for at in range(start // sector_bytes * sector_bytes, end, sector_bytes)
    ]
