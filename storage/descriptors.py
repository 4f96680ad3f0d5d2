"""Temporary shortages of file descriptors and memory, which are no fault of the disk and no reason to stop a node.

Sockets may take the last descriptor of the process. Reading can wait: it is refused, to be tried
again. Writing cannot: a roll that has sealed one segment must open the next. So the writing side
keeps a few descriptors in reserve and gives them up when the system has no other.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
"""Errors of an operation that had no effect; a moment later it may succeed."""

_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
_PAUSES_S: Final = (0.001, 0.01, 0.1)


def insist(operation: Callable[[], T]) -> T:
    """Retry an operation a few times, for about 0.1 s, while memory is short. It must have no effect when it fails."""
    for pause_s in _PAUSES_S:
        try:
            return operation()
        except OSError as error:
            if error.errno not in SHORTAGES - _NO_DESCRIPTOR:
                raise
        time.sleep(pause_s)
    return operation()


class DescriptorReserve:
    """Opens files, and keeps up to `count` descriptors that it can give up for that; it refills them when it can."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: list[int] = []

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Open a file as os.open does. Raises OSError if no descriptor is free even with the whole reserve given up."""
        try:
            fd = insist(lambda: os.open(path, flags, mode))
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR or not self._kept:
                raise
            self._give_up()
            return insist(lambda: os.open(path, flags, mode))
        self.take_back()
        return fd

    def take_back(self) -> None:
        while len(self._kept) < self._count:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                return

    def _give_up(self) -> None:
        while self._kept:
            os.close(self._kept.pop())

    def __del__(self) -> None:
        self._give_up()
