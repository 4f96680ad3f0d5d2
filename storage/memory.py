"""The Files port in memory, for tests: with faults to order and crashes to come back from.

Three things can be asked of it beyond the port:

- `fail(operation, error_number, nth=…, after_bytes=…, drops=…)`: the nth such operation from now
  raises that OSError, an append after having written a part. What a sync should have written is
  lost then (see ourolog.storage.inodes), and with `drops` gone when the process has ended.
- `cut_power_after(steps)`: every byte written and every other change is one step; when the steps
  are used up, PowerCutError is raised in the middle of whatever was going on, and ever after.
- `after_crash(keep_unsynced=…)`: what a process that starts again finds: all that was written
  (the process was killed) or only what was synced (the machine lost power).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from ourolog.storage.disk import TEMPORARY_SUFFIX
from ourolog.storage.errors import DirectoryLockedError
from ourolog.storage.inodes import Inode
from ourolog.storage.names import Names

# Far smaller than a real block, so that small tests see torn batches.
_BLOCK_BYTES: Final = 32

Operation = Literal["append", "sync", "truncate", "create", "remove", "rename", "sync_directory"]


class PowerCutError(Exception):
    """The machine is off. Not an OSError: nothing may handle it."""


@dataclass(slots=True)
class _Fault:
    operation: Operation
    error_number: int
    countdown: int
    after_bytes: int
    drops: bool

    def error(self) -> OSError:
        return OSError(self.error_number, os.strerror(self.error_number))


class _Machine:
    """What can go wrong below the files: ordered faults, and the power."""

    def __init__(self) -> None:
        self.faults: list[_Fault] = []
        self.steps_left: int | None = None
        self.steps = 0

    def spend(self, steps: int) -> int:
        """How many of the steps there is power for."""
        if self.steps_left is None:
            self.steps += steps
            return steps
        allowed = min(steps, self.steps_left)
        self.steps_left -= allowed
        self.steps += allowed
        return allowed

    def due(self, operation: Operation) -> _Fault | None:
        for fault in self.faults:
            if fault.operation == operation:
                fault.countdown -= 1
        due = next((fault for fault in self.faults if fault.countdown == 0), None)
        if due is not None:
            self.faults.remove(due)
        return due

    def step(self, operation: Operation) -> None:
        fault = self.due(operation)
        if fault is not None:
            raise fault.error()
        if self.spend(1) == 0:
            raise PowerCutError

    def fail_sync(self, operation: Operation) -> _Fault | None:
        """The fault that the sync meets; without one it is a step like any other."""
        fault = self.due(operation)
        if fault is None and self.spend(1) == 0:
            raise PowerCutError
        return fault


class MemoryFile:
    """Like a descriptor: it keeps the position of its next append itself."""

    def __init__(self, machine: _Machine, inode: Inode, *, is_lock: bool = False) -> None:
        self._machine = machine
        self._inode = inode
        self._is_lock = is_lock
        self._is_open = True
        self._end = len(inode.content)

    def append(self, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        self._write(self._end, data)
        self._end += len(data)

    def overwrite(self, position: int, parts: Sequence[bytes]) -> None:
        data = b"".join(parts)
        assert position + len(data) <= len(self._inode.content), "only what is there is written over"
        self._write(position, data)

    def _write(self, position: int, data: bytes) -> None:
        fault = self._machine.due("append")
        wanted = data if fault is None else data[: fault.after_bytes]
        allowed = self._machine.spend(len(wanted))
        self._inode.write(position, wanted[:allowed])
        if allowed < len(wanted):
            raise PowerCutError
        if fault is not None:
            raise fault.error()

    def read(self, position: int, size: int) -> bytes:
        assert self._is_open, "the file is closed"
        return bytes(self._inode.content[position : position + size])

    def size(self) -> int:
        return len(self._inode.content)

    def truncate(self, size: int) -> None:
        self._machine.step("truncate")
        self._inode.truncate(size)
        self._end = size

    def sync(self) -> None:
        fault = self._machine.fail_sync("sync")
        if fault is not None:
            self._inode.fail_sync(None, drops=fault.drops)
            raise fault.error()
        self._inode.sync()

    def close(self) -> None:
        self._is_open = False
        if self._is_lock:
            self._inode.locked = False


class MemoryFiles:
    """See the module. A name is durable once its directory was synced, as POSIX has it."""

    def __init__(self) -> None:
        self._directories: set[str] = {"/", ""}
        self._names = Names()
        self._machine = _Machine()

    # ------------------------------------------------------------ what tests ask for

    def fail(
        self, operation: Operation, error_number: int, *, nth: int = 1, after_bytes: int = 0, drops: bool = False
    ) -> None:
        """Let the nth `operation` from now fail once; an append fails after writing `after_bytes`."""
        self._machine.faults.append(_Fault(operation, error_number, nth, after_bytes, drops))

    def cut_power_after(self, steps: int) -> None:
        """Let PowerCutError come after so many more steps; `self.steps` counts those taken so far."""
        self._machine.steps_left = steps

    @property
    def steps(self) -> int:
        return self._machine.steps

    def after_crash(self, *, keep_unsynced: bool, chance: Random | None = None) -> MemoryFiles:
        """The files as the next process finds them; locks are gone.

        A killed process leaves everything, and what was not synced still can be lost later. After a
        power cut only what was synced is there; with `chance` it came in the middle of writing
        back: each name may have the old file or the new one, and of what was not synced some blocks
        are there, some are zeros, and the end is missing.
        """
        found = MemoryFiles()
        found._directories = set(self._directories)
        if keep_unsynced:
            found._names = self._names.copy()
            found._names.end_process()
            return found
        names = self._names.durable if chance is None else self._names.after_power_loss(chance)
        for path, inode in sorted(names.items()):
            left = bytes(inode.durable) if chance is None else inode.after_power_loss(chance, _BLOCK_BYTES)
            found._names.visible[path] = Inode(left)
        found._names.write_back()
        return found

    def content(self, path: str) -> bytearray:
        """The bytes of a file, to be read or damaged in place."""
        return self._inode(path).content

    def unsynced_names(self) -> set[str]:
        """The paths under which a power cut would leave another file, or none."""
        visible, durable = self._names.visible, self._names.durable
        return {path for path in visible.keys() | durable.keys() if visible.get(path) is not durable.get(path)}

    # ------------------------------------------------------------ the port

    def make_directory(self, path: str) -> None:
        while path not in self._directories:
            self._directories.add(path)
            path = os.path.dirname(path)

    def list(self, directory: str) -> list[str]:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)
        return sorted(os.path.basename(path) for path in self._names.visible if os.path.dirname(path) == directory)

    def exists(self, path: str) -> bool:
        return path in self._names.visible or path in self._directories

    def open(self, path: str, *, create: bool = False) -> MemoryFile:
        if create and path not in self._names.visible:
            self._machine.step("create")
            self._names.put(path, Inode())
        return MemoryFile(self._machine, self._inode(path))

    def open_read_only(self, path: str) -> MemoryFile:
        return MemoryFile(self._machine, self._inode(path))

    def read_all(self, path: str) -> bytes:
        return bytes(self._inode(path).content)

    def replace(self, path: str, content: bytes) -> None:
        temporary = path + TEMPORARY_SUFFIX
        file = self.open(temporary, create=True)
        if file.size():
            file.truncate(0)
        file.append([content])
        file.sync()
        self._machine.step("rename")
        self._names.rename(temporary, path)
        self.sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        self._inode(path)
        self._machine.step("remove")
        self._names.remove(path)

    def sync_directory(self, directory: str) -> None:
        fault = self._machine.fail_sync("sync_directory")
        if fault is not None:
            self._names.fail_sync(directory, None, undoes=fault.drops)
            raise fault.error()
        self._names.sync(directory)

    def lock(self, path: str) -> MemoryFile:
        if path not in self._names.visible:
            self._names.put(path, Inode())
        inode = self._inode(path)
        if inode.locked:
            raise DirectoryLockedError(f"{os.path.dirname(path)} is in use: another node of this process holds {path}")
        inode.locked = True
        return MemoryFile(self._machine, inode, is_lock=True)

    def _inode(self, path: str) -> Inode:
        try:
            return self._names.visible[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
