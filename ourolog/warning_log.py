"""Warnings for the log: each at once when it is first given, then at most once in five minutes.

A peer that cannot be reached is a warning at every try, hundreds in an hour that say one thing.
Warnings that differ only in numbers (ports, offsets, counts) count as the same. When many differ,
strangers' names perhaps, all beyond the first 64 are one line a minute with their count.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from ourolog.actors.messages.observer import NameContested, NodeWarned
from ourolog.events import LogEvent, log_event_of

SAY_AGAIN_AFTER_S: Final = 300.0
MAX_DIFFERENT: Final = 64
OTHERS_AFTER_S: Final = 60.0
_NUMBER: Final = re.compile(r"\d+")

LoggedWarning: TypeAlias = NodeWarned | NameContested


class _Said:
    """A warning that was written, and what has been like it since."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s
        self.count = 0
        self.last: LoggedWarning | None = None


class WarningLog:
    """Hands warnings on to `write`; what was held back is written later, with `repeated`, how many there were."""

    def __init__(self, write: Callable[[LogEvent], None], loop: asyncio.AbstractEventLoop) -> None:
        self._write = write
        self._loop = loop
        self._said: dict[tuple[str, str], _Said] = {}
        self._others = _Said(0.0)
        self._timer: asyncio.TimerHandle | None = None

    def warned(self, event: LoggedWarning) -> None:
        key = _key(event)
        said = self._said.get(key)
        if said is None and len(self._said) < MAX_DIFFERENT:
            self._said[key] = _Said(self._loop.time() + SAY_AGAIN_AFTER_S)
            self._write(log_event_of(event))
        else:
            said = said or self._others
            said.count += 1
            said.last = event
        if self._timer is None:
            self._arm()

    def close(self) -> None:
        """Write what was held back."""
        if self._timer is not None:
            self._timer.cancel()
        for said in (*self._said.values(), self._others):
            self._tell(said)

    def _arm(self) -> None:
        next_s = min(said.until_s for said in self._said.values())
        self._timer = self._loop.call_later(max(0.0, next_s - self._loop.time()), self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for key, said in list(self._said.items()):
            if said.until_s > now_s:
                continue
            if said.count:
                self._tell(said)
                said.until_s = now_s + SAY_AGAIN_AFTER_S
            else:
                del self._said[key]
        if self._others.until_s <= now_s:
            self._others.until_s = now_s + OTHERS_AFTER_S
            self._tell(self._others)
        if self._said:
            self._arm()

    def _tell(self, said: _Said) -> None:
        if said.last is not None:
            event = log_event_of(said.last)
            self._write(event._replace(fields={**event.fields, "repeated": said.count}))
        said.count, said.last = 0, None


def _key(event: LoggedWarning) -> tuple[str, str]:
    """What is the same warning again."""
    match event:
        case NodeWarned():
            return event.actor, _NUMBER.sub("0", event.reason)
        case NameContested():
            return "name_contested", event.name
