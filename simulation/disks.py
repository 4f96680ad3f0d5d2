"""The simulated disk of one machine: the Files port with everything a disk can do to a database.

What was written and what is durable are two states, of files (see `ourolog.storage.inodes`) and of names
(`ourolog.storage.names`). The disk outlives the processes that use it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

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
from ourolog.storage.inodes import Inode
from ourolog.storage.names import Names
from ourolog.storage.types import NodeId


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
        self.open_files = 0
        self.format()

    def format(self) -> None:
        """An empty disk, as the shop sells it."""
        self._names = Names()
        self._directories = {"/", ""}

    def load(self, snapshot: dict[str, bytes]) -> None:
        """The disk as `durable` had it once; directories are those of today."""
        self._have({path: Inode(content) for path, content in snapshot.items()})

    def _have(self, names: dict[str, Inode]) -> None:
        self._names = Names(names, dict(names))

    # ------------------------------------------------------------ what happens to it

    def repair(self) -> None:
        """Whatever was wrong is over, but not undone."""
        self.faults = DiskFaults()

    def end_process(self) -> None:
        """The process that used it has ended: locks are gone, and so may be what a failed sync has lost."""
        self._is_off = False
        self.open_files = 0
        self._names.end_process()

    def lose_power(self) -> bool:
        """Keep what is durable and an arbitrary part of the rest. Whether anything was lost."""
        rng = self._rng
        names = self._names.after_power_loss(rng)
        was_whole = names == self._names.visible
        survivors: dict[int, Inode] = {}
        left: dict[str, Inode] = {}
        for path, inode in names.items():
            survivor = survivors.get(id(inode))
            if survivor is None:
                content = inode.after_power_loss(rng)
                was_whole = was_whole and content == inode.content
                survivor = survivors[id(inode)] = Inode(content, inode.settled_bytes)
            left[path] = survivor
        self._have(left)
        self._is_off = False
        self.open_files = 0
        self.faults.power_cut_in = None
        return not was_whole

    def durable(self) -> dict[str, bytes]:
        """What a power cut now would leave at least, by path."""
        durable = self._names.durable
        return {path: bytes(durable[path].durable) for path in sorted(durable)}

    def rot_candidates(self) -> list[tuple[str, int]]:
        """Files with bytes that may rot, and below which position they have been at rest for a while."""
        return [
            (path, inode.settled_bytes)
            for path, inode in sorted(self._names.durable.items())
            if inode.settled_bytes and self._names.visible.get(path) is inode and inode.cut_to is None
        ]

    def byte_at(self, path: str, position: int) -> int | None:
        """A byte at rest; None where there is none, or not the same one as in the page cache."""
        inode = self._names.durable.get(path)
        if (
            inode is None
            or self._names.visible.get(path) is not inode
            or position >= min(len(inode.durable), len(inode.content))
        ):
            return None
        return inode.durable[position] if inode.durable[position] == inode.content[position] else None

    def flip_bit(self, path: str, position: int, bit: int) -> None:
        self._names.durable[path].flip_bit(position, bit)

    def write_back(self) -> None:
        """Put everything on disk that the page cache holds, as a drive does that had only said so."""
        for inode in self._names.visible.values():
            inode.sync()
        self._names.write_back()

    def used_bytes(self) -> int:
        return sum(len(inode.content) for inode in self._names.visible.values())

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

    def append(self, inode: Inode, path: str, position: int, data: bytes) -> None:
        """To the page cache, or as much as there is room or power for."""
        faults = self.faults
        try:
            self.step(f"write {path}")
        except (PowerCutError, OSError):
            self._write(inode, path, position, data[: self._rng.randrange(len(data) + 1)])
            raise
        if faults.room_bytes is not None:
            if len(data) > faults.room_bytes:
                self._write(inode, path, position, data[: faults.room_bytes])
                faults.room_bytes = 0
                self.fault("disk_full", f"write {path}")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            faults.room_bytes -= len(data)
        self._write(inode, path, position, data)

    def _write(self, inode: Inode, path: str, position: int, data: bytes) -> None:
        inode.write(position, data)
        self._emit(FileAppended(self._now_s(), self.node_id, path, position, data))

    def overwrite(self, inode: Inode, path: str, position: int, data: bytes) -> None:
        """Where there are bytes already: that takes no room."""
        assert position + len(data) <= len(inode.content), "only what is there is written over"
        try:
            self.step(f"write over {path}")
        except (PowerCutError, OSError):
            inode.write(position, data[: self._rng.randrange(len(data) + 1)])
            raise
        inode.write(position, data)
        self._emit(FileRewritten(self._now_s(), self.node_id, path, position, data))

    def sync(self, inode: Inode, path: str) -> None:
        self.step(f"sync {path}")
        if self.faults.lies:
            if inode.is_dirty:
                self.fault("fsync_lies", path)
            said_bytes = len(inode.content)
        else:
            if self._sync_fails(path):
                inode.fail_sync(self._rng, drops=self._rng.random() < 0.5)
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            inode.sync()
            said_bytes = inode.durable_bytes
        self._emit(FileSynced(self._now_s(), self.node_id, path, said_bytes))

    def _sync_fails(self, path: str) -> bool:
        """Whether this is the one; a lying disk reports no failures."""
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
        self.step(f"truncate {path}")
        inode.truncate(size)
        self._emit(FileTruncated(self._now_s(), self.node_id, path, size))

    # ------------------------------------------------------------ the port

    def make_directory(self, path: str) -> None:
        while path not in self._directories:
            self.step(f"make {path}")
            self._directories.add(path)
            path = os.path.dirname(path)

    def list(self, directory: str) -> list[str]:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        self.step(f"list {directory}")
        return sorted(os.path.basename(path) for path in self._names.visible if os.path.dirname(path) == directory)

    def exists(self, path: str) -> bool:
        return path in self._names.visible or path in self._directories

    def open(self, path: str, *, create: bool = False) -> SimulatedFile:
        self.step(f"open {path}")
        if create and path not in self._names.visible:
            self._names.put(path, Inode())
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
        file = self.open(temporary, create=True)
        try:
            if file.size():
                file.truncate(0)
            file.append([content])
            file.sync()
        finally:
            file.close()
        self.step(f"rename {temporary}")
        self._names.rename(temporary, path)
        self._emit(FileReplaced(self._now_s(), self.node_id, path, content))
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        self._inode(path)
        self.step(f"remove {path}")
        self._names.remove(path)
        self._emit(FileRemoved(self._now_s(), self.node_id, path))

    def sync_directory(self, directory: str) -> None:
        self.step(f"sync {directory}")
        if self.faults.lies:
            if self._names.is_dirty(directory):
                self.fault("fsync_lies", directory)
        elif self._sync_fails(directory):
            self._names.fail_sync(directory, self._rng, undoes=self._rng.random() < 0.5)
            raise OSError(errno.EIO, os.strerror(errno.EIO), directory)
        else:
            self._names.sync(directory)

    def lock(self, path: str) -> SimulatedFile:
        self.step(f"lock {path}")
        if path not in self._names.visible:
            self._names.put(path, Inode())
        inode = self._inode(path)
        if inode.locked:
            raise DirectoryLockedError(f"{os.path.dirname(path)} is in use: another node holds {path}")
        inode.locked = True
        return SimulatedFile(self, inode, path, is_lock=True)

    def _inode(self, path: str) -> Inode:
        try:
            return self._names.visible[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


class SimulatedFile:
    """An open file; of a disk that has lost power since, it does nothing more.

    Like a descriptor of ourolog.storage.disk it keeps the position of its next append itself, and stays
    where it was when an append fails half way.
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

    def append(self, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        self._disk.append(self._inode, self._path, self._end, data)
        self._end += len(data)

    def overwrite(self, position: int, parts: Sequence[bytes]) -> None:
        self._disk.overwrite(self._inode, self._path, position, b"".join(parts))

    def read(self, position: int, size: int) -> bytes:
        self._disk.step(f"read {self._path}")
        return bytes(memoryview(self._inode.content)[position : position + size])

    def size(self) -> int:
        return len(self._inode.content)

    def truncate(self, size: int) -> None:
        self._disk.truncate(self._inode, self._path, size)
        self._end = size

    def sync(self) -> None:
        self._disk.sync(self._inode, self._path)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._disk.open_files -= 1
        if self._is_lock:
            self._inode.locked = False
