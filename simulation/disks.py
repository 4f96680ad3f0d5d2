"""The simulated disk of one machine: the Files port with everything a disk can do to a database.

What was written and what is durable are two states (see `simulation.inodes`), of files and of
names: a new, renamed or removed name is certain only after its directory was synced. The disk
outlives the processes that use it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from simulation.events import (
    Event,
    FaultInjected,
    FileAppended,
    FileRemoved,
    FileReplaced,
    FileSynced,
    FileTruncated,
)
from simulation.inodes import Inode
from simulation.runtime import PowerCutError
from storage.disk import TEMPORARY_SUFFIX
from storage.errors import DirectoryLockedError
from storage.types import NodeId


@dataclass(slots=True)
class DiskFaults:
    """What is wrong with a disk now; the plan sets it, `SimulatedDisk.repair` clears it.

    room_bytes: how much more can be written, None for enough. io_error_in, sync_fails_in: the
    so-manieth operation from now fails once. power_cut_in: the machine goes off at that one.
    lies: sync does nothing. slow_s: what an operation costs at most.
    """

    room_bytes: int | None = None
    io_error_in: int | None = None
    sync_fails_in: int | None = None
    power_cut_in: int | None = None
    lies: bool = False
    slow_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _NameChange:
    """Of a directory, not synced yet. inode None: the name was removed. renamed_from: vanishes with it."""

    path: str
    inode: Inode | None
    renamed_from: str | None = None


@dataclass(slots=True)
class _Directory:
    unsynced: list[_NameChange] = field(default_factory=list)


class SimulatedDisk:
    """See the module. now_s: virtual time. spend: lets the actor that is at it wait."""

    def __init__(
        self,
        node_id: NodeId,
        rng: Random,
        emit: Callable[[Event], None],
        now_s: Callable[[], float],
        spend: Callable[[float], None],
    ) -> None:
        self.node_id = node_id
        self.faults = DiskFaults()
        self._rng = rng
        self._emit = emit
        self._now_s = now_s
        self._spend = spend
        self._is_off = False
        self.format()

    def format(self) -> None:
        """An empty disk, as the shop sells it."""
        self._names: dict[str, Inode] = {}
        self._durable_names: dict[str, Inode] = {}
        self._directories: dict[str, _Directory] = {"/": _Directory(), "": _Directory()}

    def load(self, snapshot: dict[str, bytes]) -> None:
        """The disk as `durable` had it once; directories are those of today."""
        self._names = {path: Inode(content) for path, content in snapshot.items()}
        self._durable_names = dict(self._names)
        for directory in self._directories.values():
            directory.unsynced.clear()

    # ------------------------------------------------------------ what happens to it

    def repair(self) -> None:
        """Whatever was wrong is over, but not undone."""
        self.faults = DiskFaults()

    def end_process(self) -> None:
        """The process that used it has ended: locks are gone, and so are pages whose write had failed."""
        self._is_off = False
        for inode in self._names.values():
            inode.locked = False
            if inode.doomed:
                inode.content = bytearray(inode.after_power_loss(self._rng))
                inode.doomed = False
                # What the disk has of it is all there is now.
                inode.durable = bytearray(inode.content)
                inode.cut_since_sync = False

    def lose_power(self) -> bool:
        """Keep what is durable and an arbitrary part of the rest. Whether anything was lost."""
        rng = self._rng
        names = dict(self._durable_names)
        for directory in self._directories.values():
            keep = rng.choice((0.0, 0.5, 1.0))
            for change in directory.unsynced:
                if keep < 1.0 and rng.random() >= keep:
                    continue
                if change.renamed_from is not None:
                    names.pop(change.renamed_from, None)
                if change.inode is None:
                    names.pop(change.path, None)
                else:
                    names[change.path] = change.inode
            directory.unsynced.clear()
        was_whole = names == self._names
        survivors: dict[int, Inode] = {}
        left: dict[str, Inode] = {}
        for path, inode in names.items():
            survivor = survivors.get(id(inode))
            if survivor is None:
                content = inode.after_power_loss(rng)
                was_whole = was_whole and content == inode.content
                survivor = survivors[id(inode)] = Inode(content, inode.settled_bytes)
            left[path] = survivor
        self._names = left
        self._durable_names = dict(left)
        self._is_off = False
        self.faults.power_cut_in = None
        return not was_whole

    def durable(self) -> dict[str, bytes]:
        """What a power cut now would leave at least, by path."""
        return {path: bytes(self._durable_names[path].durable) for path in sorted(self._durable_names)}

    def rot_candidates(self) -> list[tuple[str, int]]:
        """Files with bytes that may rot, and below which position they have been at rest for a while."""
        return [
            (path, inode.settled_bytes)
            for path, inode in sorted(self._durable_names.items())
            if inode.settled_bytes and self._names.get(path) is inode and not inode.cut_since_sync
        ]

    def byte_at(self, path: str, position: int) -> int | None:
        """A byte at rest; None where there is none, or not the same one as in the page cache."""
        inode = self._durable_names.get(path)
        if (
            inode is None
            or self._names.get(path) is not inode
            or position >= min(len(inode.durable), len(inode.content))
        ):
            return None
        return inode.durable[position] if inode.durable[position] == inode.content[position] else None

    def flip_bit(self, path: str, position: int, bit: int) -> None:
        self._durable_names[path].flip_bit(position, bit)

    def write_back(self) -> None:
        """Put everything on disk that the page cache holds, as a drive does that had only said so."""
        for inode in self._names.values():
            inode.sync()
        self._durable_names = dict(self._names)
        for directory in self._directories.values():
            directory.unsynced.clear()

    def used_bytes(self) -> int:
        return sum(len(inode.content) for inode in self._names.values())

    # ------------------------------------------------------------ every operation

    def step(self, what: str) -> None:
        """One operation: it may cost time, fail, or be the machine's last. Raises OSError, PowerCutError."""
        if self._is_off:
            raise PowerCutError
        faults = self.faults
        if faults.slow_s:
            self._spend(faults.slow_s * self._rng.random() ** 2)
            self.fault("slow_disk", what)
        if faults.power_cut_in is not None:
            faults.power_cut_in -= 1
            if faults.power_cut_in < 0:
                faults.power_cut_in = None
                self._is_off = True
                raise PowerCutError
        if faults.io_error_in is not None:
            faults.io_error_in -= 1
            if faults.io_error_in < 0:
                faults.io_error_in = None
                self.fault("io_error", what)
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def fault(self, kind: str, detail: str) -> None:
        self._emit(FaultInjected(self._now_s(), kind, self.node_id, detail))

    def write(self, inode: Inode, path: str, data: bytes) -> None:
        """Append to the page cache, or as much as there is room or power for."""
        faults = self.faults
        position = len(inode.content)
        try:
            self.step(f"write {path}")
        except (PowerCutError, OSError):
            part = data[: self._rng.randrange(len(data) + 1)]
            inode.content += part
            self._emit(FileAppended(self._now_s(), self.node_id, path, position, part))
            raise
        if faults.room_bytes is not None:
            if len(data) > faults.room_bytes:
                data = data[: faults.room_bytes]
                inode.content += data
                faults.room_bytes = 0
                self._emit(FileAppended(self._now_s(), self.node_id, path, position, data))
                self.fault("disk_full", f"write {path}")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            faults.room_bytes -= len(data)
        inode.content += data
        self._emit(FileAppended(self._now_s(), self.node_id, path, position, data))

    def sync(self, inode: Inode, path: str) -> None:
        if self._begin_sync(path):
            inode.sync()
        elif inode.is_dirty:
            self.fault("fsync_lies", path)
        self._emit(FileSynced(self._now_s(), self.node_id, path, len(inode.content)))

    def _begin_sync(self, path: str) -> bool:
        """Whether the sync is honest; a lying disk reports no failures either. Raises OSError."""
        self.step(f"sync {path}")
        faults = self.faults
        if faults.lies:
            return False
        if faults.sync_fails_in is not None:
            faults.sync_fails_in -= 1
            if faults.sync_fails_in < 0:
                faults.sync_fails_in = None
                inode = self._names.get(path)
                if inode is not None:
                    inode.doomed = True
                self.fault("fsync_fails", path)
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return True

    def truncate(self, inode: Inode, path: str, size: int) -> None:
        self.step(f"truncate {path}")
        inode.truncate(size)
        self._emit(FileTruncated(self._now_s(), self.node_id, path, size))

    # ------------------------------------------------------------ the port

    def make_directory(self, path: str) -> None:
        while path not in self._directories:
            self.step(f"make {path}")
            self._directories[path] = _Directory()
            path = os.path.dirname(path)

    def list(self, directory: str) -> list[str]:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        self.step(f"list {directory}")
        return sorted(os.path.basename(path) for path in self._names if os.path.dirname(path) == directory)

    def exists(self, path: str) -> bool:
        return path in self._names or path in self._directories

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        self.step(f"open {path}")
        if create and path not in self._names:
            inode = Inode()
            self._names[path] = inode
            self._changed(_NameChange(path, inode))
        return SimulatedFile(self, self._inode(path), path)

    def open_read_only(self, path: str) -> SimulatedFile:
        self.step(f"open {path}")
        return SimulatedFile(self, self._inode(path), path)

    def read_all(self, path: str) -> bytes:
        inode = self._inode(path)
        self.step(f"read {path}")
        return bytes(inode.content)

    def replace(self, path: str, content: bytes) -> None:
        temporary = path + TEMPORARY_SUFFIX
        self.step(f"open {temporary}")
        inode = Inode()
        self._names[temporary] = inode
        self._changed(_NameChange(temporary, inode))
        self.write(inode, temporary, content)
        self.sync(inode, temporary)
        self.step(f"rename {temporary}")
        del self._names[temporary]
        self._names[path] = inode
        self._changed(_NameChange(path, inode, renamed_from=temporary))
        self._emit(FileReplaced(self._now_s(), self.node_id, path, content))
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        self._inode(path)
        self.step(f"remove {path}")
        del self._names[path]
        self._changed(_NameChange(path, None))
        self._emit(FileRemoved(self._now_s(), self.node_id, path))

    def sync_directory(self, directory: str) -> None:
        is_honest = self._begin_sync(directory)
        here = self._directories[directory]
        if not is_honest:
            if here.unsynced:
                self.fault("fsync_lies", directory)
            return
        for change in here.unsynced:
            if change.renamed_from is not None:
                self._durable_names.pop(change.renamed_from, None)
            if change.inode is None:
                self._durable_names.pop(change.path, None)
            else:
                self._durable_names[change.path] = change.inode
        here.unsynced.clear()

    def lock(self, path: str) -> SimulatedFile:
        self.step(f"lock {path}")
        inode = self._names.get(path)
        if inode is None:
            inode = self._names[path] = Inode()
            self._changed(_NameChange(path, inode))
        if inode.locked:
            raise DirectoryLockedError(f"{os.path.dirname(path)} is in use: another node holds {path}")
        inode.locked = True
        return SimulatedFile(self, inode, path, is_lock=True)

    def _changed(self, change: _NameChange) -> None:
        self._directories[os.path.dirname(change.path)].unsynced.append(change)

    def _inode(self, path: str) -> Inode:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


class SimulatedFile:
    """An open file; of a disk that has lost power since, it does nothing more."""

    __slots__ = ("_disk", "_inode", "_is_lock", "_path")

    def __init__(self, disk: SimulatedDisk, inode: Inode, path: str, *, is_lock: bool = False) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self._is_lock = is_lock

    def append(self, parts: Sequence[bytes]) -> None:
        self._disk.write(self._inode, self._path, b"".join(parts))

    def read(self, position: int, size: int) -> bytes:
        self._disk.step(f"read {self._path}")
        return bytes(memoryview(self._inode.content)[position : position + size])

    def size(self) -> int:
        return len(self._inode.content)

    def truncate(self, size: int) -> None:
        self._disk.truncate(self._inode, self._path, size)

    def sync(self) -> None:
        self._disk.sync(self._inode, self._path)

    def close(self) -> None:
        if self._is_lock:
            self._inode.locked = False
