"""The names in directories as processes see them and as the disk has them.

A new, renamed or removed name is certain only after its directory was synced. When that sync fails
the change is lost: it may still be visible, and no later sync puts it on disk, unless the name is made,
renamed over or removed again. (Where directories are part of a journal, a file system tends to stop
instead; others promise nothing.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from random import Random
from typing import Self

from ourolog.simulation.disks.inodes import Inode


@dataclass(slots=True)
class _Change:
    """A change of a directory that is not synced yet.

    path: the name that is made or removed.
    inode: what the name stands for from now on; None if it was removed.
    renamed_from: the name that vanishes with it.
    is_lost: whether its sync has failed.
    is_undone: whether it does not show any more once the process has ended.
    """

    path: str
    inode: Inode | None
    renamed_from: str | None = None
    is_lost: bool = False
    is_undone: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.path,) if self.renamed_from is None else (self.renamed_from, self.path)

    def apply(self, names: dict[str, Inode]) -> None:
        if self.renamed_from is not None:
            names.pop(self.renamed_from, None)
        if self.inode is None:
            names.pop(self.path, None)
        else:
            names[self.path] = self.inode


@dataclass(slots=True)
class DirectoryEntries:
    """All names of a disk.

    visible: the files that processes see, by path.
    durable: the files that are on disk under a name for certain, by path.
    """

    visible: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    _changes: dict[str, list[_Change]] = field(default_factory=dict)

    def put(self, path: str, inode: Inode) -> None:
        self._change(_Change(path, inode))

    def rename(self, old: str, new: str) -> None:
        self._change(_Change(new, self.visible[old], renamed_from=old))

    def remove(self, path: str) -> None:
        self._change(_Change(path, None))

    def is_dirty(self, directory: str) -> bool:
        return any(not change.is_lost for change in self._changes.get(directory, ()))

    def sync(self, directory: str) -> None:
        """Put what changed in the directory on disk, except for what is lost."""
        left: list[_Change] = []
        for change in self._changes.get(directory, ()):
            if change.is_lost:
                left.append(change)
            else:
                change.apply(self.durable)
                left = [lost for lost in left if lost.path not in change.paths]
        self._changes[directory] = left

    def fail_sync(self, directory: str, rng: Random | None, *, undoes: bool) -> None:
        """Put some of the changes on disk (without `rng` none) and lose the rest.

        undoes: whether the lost ones are no longer visible once the process has ended.
        """
        for change in self._changes.get(directory, ()):
            if not change.is_lost:
                if rng is not None and rng.random() < 0.3:
                    change.apply(self.durable)
                change.is_lost, change.is_undone = True, undoes

    def end_process(self) -> None:
        for directory, changes in self._changes.items():
            for change in changes:
                for path in change.paths if change.is_undone else ():
                    if path in self.durable:
                        self.visible[path] = self.durable[path]
                    else:
                        self.visible.pop(path, None)
            self._changes[directory] = [change for change in changes if not change.is_undone]
        for inode in {id(inode): inode for inode in self.visible.values()}.values():
            inode.end_process()

    def after_power_loss(self, rng: Random) -> dict[str, Inode]:
        """The names that are left: what is durable, and any part of what was not synced."""
        names = dict(self.durable)
        for changes in self._changes.values():
            keep = rng.choice((0.0, 0.5, 1.0))
            for change in changes:
                if not change.is_lost and (keep == 1.0 or rng.random() < keep):
                    change.apply(names)
        return names

    def write_back(self) -> None:
        """Put everything that is visible on disk."""
        self.durable = dict(self.visible)
        self._changes.clear()

    def copy(self) -> Self:
        """Equal entries with inodes of their own, as another disk has them."""
        copies: dict[int, Inode] = {}

        def copied(inode: Inode) -> Inode:
            if id(inode) not in copies:
                copies[id(inode)] = inode.copy()
            return copies[id(inode)]

        return type(self)(
            {path: copied(inode) for path, inode in self.visible.items()},
            {path: copied(inode) for path, inode in self.durable.items()},
            {
                directory: [
                    _Change(
                        change.path,
                        None if change.inode is None else copied(change.inode),
                        change.renamed_from,
                        change.is_lost,
                        change.is_undone,
                    )
                    for change in changes
                ]
                for directory, changes in self._changes.items()
            },
        )

    def _change(self, change: _Change) -> None:
        change.apply(self.visible)
        self._changes.setdefault(os.path.dirname(change.path), []).append(change)
