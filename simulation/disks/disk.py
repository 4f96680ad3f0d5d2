"""The simulated disk of one machine: the Files port with everything a disk can do to a database.

What was written and what is durable are two states, of files (see `ourolog.simulation.disks.inodes`) and of
names (`ourolog.simulation.disks.directory_entries`). The disk outlives the processes that use it.

Faults can be set in two ways. A simulation sets `faults`, which says what is wrong from now on, and the disk's own
random stream decides what happens. A test that goes through every possibility orders each one itself:

- `fail(operation, error_number, nth, after_bytes, drops)`: the nth such operation from now raises that error.
- `cut_power_after(steps)`: every byte written and every other change is one step; when the steps are used up,
  PowerCutError is raised in the middle of whatever was going on, and ever after. `steps` counts those taken.
- `after_crash(keep_unsynced, chance)`: a copy of the disk as the next process finds it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal, Self, get_args

from ourolog.simulation.disks.directory_entries import DirectoryEntries
from ourolog.simulation.disks.inodes import SECTOR_BYTES, Inode
from ourolog.simulation.events import (
    Event,
    FaultInjected,
    FileAppended,
    FileRemoved,
    FileReplaced,
    FileRewritten,
    FileSynced,
    FileTruncated,
)
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.disk import TEMPORARY_SUFFIX
from ourolog.storage.errors import DirectoryLockedError
from ourolog.storage.files import Part
from ourolog.storage.types import NodeId

Change = Literal["write", "sync", "truncate", "create", "make_directory", "remove", "rename", "sync_directory"]
"""A kind of operation that changes what is on the disk; the others only read. An overwrite is a write, too."""


@dataclass(slots=True)
class OrderedFault:
    """A change that will fail, and how.

    change: which kind of operation.
    error_number: the errno of its error.
    countdown: how many of that kind there are up to it, itself included.
    after_bytes: how much of a write is done before it fails.
    drops: whether what a failed sync has lost vanishes when the process has ended.
    """

    change: Change
    error_number: int
    countdown: int
    after_bytes: int
    drops: bool

    def error(self, path: str) -> OSError:
        return OSError(self.error_number, os.strerror(self.error_number), path)


@dataclass(slots=True)
class DiskFaults:
    """What is wrong with a disk now. Fault injection sets it, `SimulatedDisk.repair` clears it.

    room_bytes: how much more can be written; None for enough.
    io_error_in: after this many more operations of any kind one fails; None for never.
    sync_fails_in: after this many more syncs, of files and of directories, one fails; None for never.
    power_cut_in: after this many more operations the machine loses power in the middle of one; None for never.
    lies: whether a sync returns and does nothing.
    slow_s: how long an operation takes at most, in seconds.
    hang_s: how long the next operation takes besides, in seconds.
    ordered: what was ordered by `SimulatedDisk.fail` and has not come yet.
    """

    room_bytes: int | None = None
    io_error_in: int | None = None
    sync_fails_in: int | None = None
    power_cut_in: int | None = None
    lies: bool = False
    slow_s: float = 0.0
    hang_s: float = 0.0
    ordered: list[OrderedFault] = field(default_factory=list)


LAST_OPERATION_S: Final = 0.02
"""How long an operation may have taken when the machine loses power in the middle of it, in seconds."""


def _ignore(_: Any) -> None:
    """Nobody listens and nobody waits."""


class SimulatedDisk:
    """A disk that can crash. Without arguments it belongs to a machine by itself.

    node_id: whose disk it is, for the events.
    rng: the disk's own random stream.
    emit: called with an event for every change and every fault.
    now_s: virtual time, in seconds.
    spend: called with the seconds that an operation takes, so that the actor that performs it waits.
    sector_bytes: how much is written whole or not at all when the power goes.
    entries, directories: what is on it.
    hangs_until_s: when an operation that hangs will be over, in virtual seconds; 0.0 if none does.
    """

    def __init__(
        self,
        node_id: NodeId = NodeId("n1"),
        rng: Random | None = None,
        emit: Callable[[Event], None] = _ignore,
        now_s: Callable[[], float] = lambda: 0.0,
        spend: Callable[[float], None] = _ignore,
        *,
        sector_bytes: int = SECTOR_BYTES,
    ) -> None:
        self.node_id = node_id
        self.faults = DiskFaults()
        self.open_files = 0
        self.steps = 0
        self.hangs_until_s = 0.0
        self._rng = rng or Random(0)  # noqa: S311  # chance of a simulation, not a secret
        self._emit = emit
        self._now_s = now_s
        self._spend = spend
        self._sector_bytes = sector_bytes
        self._steps_left: int | None = None
        self._is_off = False
        self.format()

    def format(self) -> None:
        """Make the disk empty."""
        self.entries = DirectoryEntries()
        self.directories = {"/", ""}

    def load(self, snapshot: dict[str, bytes]) -> None:
        """Set the files to those that `durable` returned once; directories stay as they are."""
        self._have({path: Inode(content) for path, content in snapshot.items()})

    def _have(self, entries: dict[str, Inode]) -> None:
        self.entries = DirectoryEntries(entries, dict(entries))

    # ------------------------------------------------------------ what a test orders and looks at

    def fail(
        self, change: Change, error_number: int, *, nth: int = 1, after_bytes: int = 0, drops: bool = False
    ) -> None:
        """Let the nth such change from now fail once.

        A write fails after `after_bytes` of it. What a failed sync should have written is lost to the disk; it can
        be read until the process ends and, unless it `drops`, even after that.
        """
        assert change in get_args(Change), f"no change is called {change!r}"
        self.faults.ordered.append(OrderedFault(change, error_number, nth, after_bytes, drops))

    def cut_power_after(self, steps: int) -> None:
        """Switch the machine off after this many more steps; the disk's `steps` counts those taken so far."""
        self._steps_left = steps

    def after_crash(self, *, keep_unsynced: bool, chance: Random | None = None) -> Self:
        """Another disk, as the next process would find this one, which stays as it is.

        A killed process leaves everything, and what was not synced can still be lost later. After a power
        cut only what was synced is there. With `chance` the power went while the disk was writing back: each name
        may have the old file or the new one, and of what was not synced some sectors are there, some are
        zeros, and the end is missing.
        """
        found = type(self)(
            self.node_id, self._rng, self._emit, self._now_s, self._spend, sector_bytes=self._sector_bytes
        )
        found.directories = set(self.directories)
        found.entries = self.entries.copy()
        if keep_unsynced:
            found.end_process()
        else:
            found.lose_unsynced(chance)
        return found

    def content(self, path: str) -> bytearray:
        """The bytes of a file as processes see them, to be read or damaged in place."""
        return self._inode(path).content

    def unsynced_names(self) -> set[str]:
        """The paths under which a power cut would leave another file, or none."""
        visible, durable = self.entries.visible, self.entries.durable
        return {path for path in visible.keys() | durable.keys() if visible.get(path) is not durable.get(path)}

    # ------------------------------------------------------------ what happens to it

    def repair(self) -> None:
        """End whatever is wrong with the disk, or is to go wrong, without undoing its effects."""
        self.faults = DiskFaults()
        self._steps_left = None

    def end_process(self) -> None:
        """Release locks, and drop what a failed sync has lost, since the process that used the disk has ended."""
        self._is_off = False
        self.open_files = 0
        self.hangs_until_s = 0.0
        self.entries.end_process()

    def lose_power(self) -> bool:
        """Keep what is durable and an arbitrary part of the rest. Returns whether anything was lost."""
        return self.lose_unsynced(self._rng)

    def lose_unsynced(self, chance: Random | None) -> bool:
        """Keep what is durable and a random part of the rest, none without `chance`. Whether anything was lost."""
        entries = self.entries.durable if chance is None else self.entries.after_power_loss(chance)
        was_whole = entries == self.entries.visible
        survivors: dict[int, Inode] = {}
        left: dict[str, Inode] = {}
        for path, inode in entries.items():
            survivor = survivors.get(id(inode))
            if survivor is None:
                survivor = survivors[id(inode)] = inode.after_power_loss(chance, self._sector_bytes)
                was_whole = was_whole and survivor.content == inode.content
            left[path] = survivor
        self._have(left)
        self._is_off = False
        self.open_files = 0
        self.hangs_until_s = 0.0
        self.faults.power_cut_in = self._steps_left = None
        return not was_whole

    def durable(self) -> dict[str, bytes]:
        """What a power cut now would leave at least, by path."""
        durable = self.entries.durable
        return {path: bytes(durable[path].durable) for path in sorted(durable)}

    def rot_candidates(self) -> list[tuple[str, int]]:
        """Files with bytes that may rot, each with the position below which they have been at rest for a while."""
        return [
            (path, inode.settled_bytes)
            for path, inode in sorted(self.entries.durable.items())
            if inode.settled_bytes and self.entries.visible.get(path) is inode and inode.cut_to is None
        ]

    def durable_size(self, path: str) -> int:
        """How many bytes of the file are on disk for certain."""
        return len(self.entries.durable[path].durable)

    def bytes_at(self, path: str, position: int, size: int) -> bytes | None:
        """So many bytes at rest; None where they are not all there, or the page cache has others."""
        inode = self.entries.durable.get(path)
        end = position + size
        if (
            inode is None
            or self.entries.visible.get(path) is not inode
            or end > min(len(inode.durable), len(inode.content))
            or inode.durable[position:end] != inode.content[position:end]
        ):
            return None
        return bytes(inode.durable[position:end])

    def spoil(self, path: str, position: int, data: bytes) -> None:
        """Turn bytes at rest into others, in both views, since they are read from the disk again."""
        self.entries.durable[path].spoil(position, data)

    def is_rotten(self, path: str) -> bool:
        """Whether what has rotted in that file is still on disk."""
        inode = self.entries.durable.get(path)
        return inode is not None and bool(inode.rotten)

    def restore(self, path: str) -> None:
        """Turn what has rotted in that file into what it was, where nothing else has been written since."""
        inode = self.entries.durable.get(path)
        if inode is not None:
            inode.restore()

    def flip_bit(self, path: str, position: int, bit: int) -> None:
        self.entries.durable[path].flip_bit(position, bit)

    def write_back(self) -> None:
        """Put everything in the page cache on disk, as a drive does in the end that only claimed to have done so."""
        for inode in self.entries.visible.values():
            inode.sync()
        self.entries.write_back()

    # ------------------------------------------------------------ every operation

    def step(self, operation: str, path: str) -> None:
        """Do one operation, which may cost time, fail, or be the machine's last. Raises OSError, PowerCutError."""
        if self._is_off:
            raise PowerCutError
        faults = self.faults
        if faults.hang_s:
            hang_s, faults.hang_s = faults.hang_s, 0.0
            self._spend(hang_s)
            self.hangs_until_s = self._now_s() + hang_s
            self.fault("disk_hangs", f"{operation} {path}", until_s=self.hangs_until_s)
        if faults.slow_s:
            self._spend(faults.slow_s * self._rng.random() ** 2)
            self.fault("slow_disk", f"{operation} {path}")
        if faults.power_cut_in is not None:
            faults.power_cut_in -= 1
            if faults.power_cut_in < 0:
                faults.power_cut_in = None
                self._is_off = True
                if self._rng.random() < 0.5:
                    self._spend(LAST_OPERATION_S * self._rng.random())
                raise PowerCutError
        if faults.io_error_in is not None:
            faults.io_error_in -= 1
            if faults.io_error_in < 0:
                faults.io_error_in = None
                self.fault("io_error", f"{operation} {path}")
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fault(self, kind: str, detail: str, *, until_s: float = 0.0) -> None:
        self._emit(FaultInjected(self._now_s(), kind, self.node_id, detail, until_s=until_s))

    def change(self, change: Change, path: str) -> None:
        """Do one operation that changes something; if it fails, it changes nothing."""
        ordered = self._begin(change, path)
        if ordered is not None:
            raise ordered.error(path)

    def _begin(self, change: Change, path: str) -> OrderedFault | None:
        """Begin one operation that changes something, and return the fault that was ordered for it."""
        self.step(change, path)
        ordered = self._ordered(change)
        if ordered is None and self._use_power(1) < 1:
            raise PowerCutError
        return ordered

    def _ordered(self, change: Change) -> OrderedFault | None:
        """The fault that was ordered for this very change."""
        faults = [fault for fault in self.faults.ordered if fault.change == change]
        for fault in faults:
            fault.countdown -= 1
        due = next((fault for fault in faults if fault.countdown <= 0), None)
        if due is not None:
            self.faults.ordered.remove(due)
        return due

    def _use_power(self, steps: int) -> int:
        """How many of the steps there is power for; if that is less than all, the machine is off."""
        if self._steps_left is not None:
            allowed = min(steps, self._steps_left)
            self._steps_left -= allowed
            self._is_off = allowed < steps
            steps = allowed
        self.steps += steps
        return steps

    def append(self, inode: Inode, path: str, position: int, data: bytes) -> None:
        """Append to the page cache, as much as there is room and power for."""
        written, error = self._writable(path, data)
        room_bytes, is_full = self.faults.room_bytes, False
        if error is None and room_bytes is not None:
            is_full = len(data) > room_bytes
            if is_full:
                written, error = data[:room_bytes], OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            self.faults.room_bytes = room_bytes - len(written)
        inode.write(position, written)
        self._emit(FileAppended(self._now_s(), self.node_id, path, position, written))
        if is_full:
            self.fault("disk_full", f"write {path}")
        if error is not None:
            raise error

    def overwrite(self, inode: Inode, path: str, position: int, data: bytes) -> None:
        """Write over existing bytes, which takes no room."""
        assert position + len(data) <= len(inode.content), "only what is there is written over"
        written, error = self._writable(path, data)
        inode.write(position, written)
        if error is not None:
            raise error
        self._emit(FileRewritten(self._now_s(), self.node_id, path, position, data))

    def _writable(self, path: str, data: bytes) -> tuple[bytes, Exception | None]:
        """How much of the data is written, and the error that follows."""
        try:
            self.step("write", path)
        except (PowerCutError, OSError) as error:
            return data[: self._rng.randrange(len(data) + 1)], error
        ordered = self._ordered("write")
        wanted = data if ordered is None else data[: ordered.after_bytes]
        allowed = self._use_power(len(wanted))
        if allowed < len(wanted):
            return wanted[:allowed], PowerCutError()
        return wanted, None if ordered is None else ordered.error(path)

    def sync(self, inode: Inode, path: str) -> None:
        ordered = self._begin("sync", path)
        if ordered is not None:
            inode.fail_sync(None, drops=ordered.drops)
            raise ordered.error(path)
        if self.faults.lies:
            if inode.is_dirty:
                self.fault("fsync_lies", path)
            said_bytes = len(inode.content)
        else:
            if self._sync_fails(path):
                inode.fail_sync(self._rng, drops=self._rng.random() < 0.5, sector_bytes=self._sector_bytes)
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            inode.sync()
            said_bytes = inode.durable_bytes
        self._emit(FileSynced(self._now_s(), self.node_id, path, said_bytes))

    def sync_directory(self, directory: str) -> None:
        ordered = self._begin("sync_directory", directory)
        if ordered is not None:
            self.entries.fail_sync(directory, None, undoes=ordered.drops)
            raise ordered.error(directory)
        if self.faults.lies:
            if self.entries.is_dirty(directory):
                self.fault("fsync_lies", directory)
        elif self._sync_fails(directory):
            self.entries.fail_sync(directory, self._rng, undoes=self._rng.random() < 0.5)
            raise OSError(errno.EIO, os.strerror(errno.EIO), directory)
        else:
            self.entries.sync(directory)

    def _sync_fails(self, path: str) -> bool:
        """Whether this sync is the one that fails; a lying disk reports no failures."""
        faults = self.faults
        if faults.sync_fails_in is None:
            return False
        faults.sync_fails_in -= 1
        if faults.sync_fails_in >= 0:
            return False
        faults.sync_fails_in = None
        self.fault("fsync_fails", path)
        return True

    def truncate(self, inode: Inode, path: str, size: int) -> None:
        self.change("truncate", path)
        inode.truncate(size)
        self._emit(FileTruncated(self._now_s(), self.node_id, path, size))

    # ------------------------------------------------------------ the port

    def make_directory(self, path: str) -> None:
        while path not in self.directories:
            self.change("make_directory", path)
            self.directories.add(path)
            path = os.path.dirname(path)

    def list(self, directory: str) -> list[str]:
        if directory not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        self.step("list", directory)
        return sorted(os.path.basename(path) for path in self.entries.visible if os.path.dirname(path) == directory)

    def exists(self, path: str) -> bool:
        return path in self.entries.visible or path in self.directories

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        if create and path not in self.entries.visible:
            self.change("create", path)
            self.entries.put(path, Inode())
        else:
            self.step("open", path)
        return SimulatedFile(self, self._inode(path), path)

    def open_read_only(self, path: str) -> SimulatedFile:
        self.step("open", path)
        return SimulatedFile(self, self._inode(path), path)

    def read_all(self, path: str) -> bytes:
        inode = self._inode(path)
        self.step("read", path)
        return bytes(inode.content)

    def replace(self, path: str, content: bytes) -> None:
        temporary = path + TEMPORARY_SUFFIX
        file = self.open(temporary, create=True)
        try:
            if file.size():
                file.truncate(0)
            file.append([content])
            file.sync()
        finally:
            file.close()
        self.change("rename", temporary)
        self.entries.rename(temporary, path)
        self._emit(FileReplaced(self._now_s(), self.node_id, path, content))
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        self._inode(path)
        self.change("remove", path)
        self.entries.remove(path)
        self._emit(FileRemoved(self._now_s(), self.node_id, path))

    def lock(self, path: str) -> SimulatedFile:
        self.step("lock", path)
        if path not in self.entries.visible:
            self.entries.put(path, Inode())
        inode = self._inode(path)
        if inode.locked:
            raise DirectoryLockedError(f"{os.path.dirname(path)} is in use: another node holds {path}")
        inode.locked = True
        return SimulatedFile(self, inode, path, is_lock=True)

    def _inode(self, path: str) -> Inode:
        try:
            return self.entries.visible[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


class SimulatedFile:
    """An open file of a SimulatedDisk; if the disk has lost power since, the file does nothing any more.

    Like a descriptor of ourolog.storage.disk it tracks its own append position, which does not move
    when an append fails half way.
    """

    __slots__ = ("_disk", "_end", "_inode", "_is_lock", "_is_open", "_path")

    def __init__(self, disk: SimulatedDisk, inode: Inode, path: str, *, is_lock: bool = False) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self._is_lock = is_lock
        self._end = len(inode.content)
        self._is_open = True
        disk.open_files += 1

    def append(self, parts: Sequence[Part]) -> None:
        self._assert_open()
        data = b"".join(parts)
        self._disk.append(self._inode, self._path, self._end, data)
        self._end += len(data)

    def overwrite(self, position: int, parts: Sequence[bytes]) -> None:
        self._assert_open()
        self._disk.overwrite(self._inode, self._path, position, b"".join(parts))

    def read(self, position: int, size: int) -> bytes:
        self._assert_open()
        self._disk.step("read", self._path)
        return bytes(memoryview(self._inode.content)[position : position + size])

    def size(self) -> int:
        return len(self._inode.content)

    def truncate(self, size: int) -> None:
        self._assert_open()
        self._disk.truncate(self._inode, self._path, size)
        self._end = size

    def sync(self) -> None:
        self._assert_open()
        self._disk.sync(self._inode, self._path)

    def write_back(self, position: int) -> None:  # noqa: ARG002
        """Nothing to do: what is not synced may be on disk at any time, or not, whether it was asked for or not."""
        self._assert_open()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._disk.open_files -= 1
        if self._is_lock:
            self._inode.locked = False

    def _assert_open(self) -> None:
        assert self._is_open, f"{self._path} is closed"
