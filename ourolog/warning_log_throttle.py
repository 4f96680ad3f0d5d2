"""Throttles the log lines of warnings: each at once when it is first given, then at most once in five minutes.

A peer that cannot be reached is a warning at every try, hundreds in an hour that say one thing.
Warnings of one kind about one node that differ only in numbers (ports, offsets, counts) count as the same. Those that
say what becomes of the node's own log, or of its lead, are never held back. Of damage the first 16 places and the first
16 repairs are lines of their own, and those after them count as the same. When many differ, strangers' names perhaps,
all beyond the first 64 are one line a minute with their count.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from ourolog.actors.messages.observer import NameContested, NodeWarned, WarningKind
from ourolog.log_events import LogEvent, log_event_of

REPEAT_INTERVAL_S: Final = 300.0
MAX_DIFFERENT: Final = 64
MAX_PLACES: Final = 16
OTHERS_AFTER_S: Final = 60.0
_NUMBER: Final = re.compile(r"\d+")

NEVER_HELD_BACK: Final = frozenset(
    {
        WarningKind.RECOVERY_PROGRESS,
        WarningKind.TORN_TAIL_CUT,
        WarningKind.ENTRIES_DROPPED,
        WarningKind.LOG_BEGUN_ANEW,
        WarningKind.KEEPS_ITS_COPY,
        WarningKind.LEAD_WITHHELD,
        WarningKind.LEAD_FORCED,
    }
)
"""Each of these is news, though the lines may differ in numbers only."""

OF_PLACES: Final = frozenset({WarningKind.DAMAGED, WarningKind.REPAIRED})
"""Here the numbers say which place it is."""

LoggedWarning: TypeAlias = NodeWarned | NameContested


class _Repeats:
    """How often a warning has repeated since it was last written, the last of them, and until when it is held back."""

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s
        self.count = 0
        self.last: LoggedWarning | None = None


class WarningLogThrottle:
    """Hands warnings on to `write`; what was held back is written later, with `repeated`, how many there were."""

    def __init__(self, write: Callable[[LogEvent], None], loop: asyncio.AbstractEventLoop) -> None:
        self._write = write
        self._loop = loop
        self._repeats: dict[tuple[str, ...], _Repeats] = {}
        self._others = _Repeats(0.0)
        self._timer: asyncio.TimerHandle | None = None

    def warned(self, event: LoggedWarning) -> None:
        if isinstance(event, NodeWarned) and event.kind in NEVER_HELD_BACK:
            self._write(log_event_of(event))
            return
        key = self._key(event)
        repeats = self._repeats.get(key)
        if repeats is None and len(self._repeats) < MAX_DIFFERENT:
            self._repeats[key] = _Repeats(self._loop.time() + REPEAT_INTERVAL_S)
            self._write(log_event_of(event))
        else:
            repeats = repeats or self._others
            repeats.count += 1
            repeats.last = event
        if self._timer is None:
            self._arm()

    def _key(self, event: LoggedWarning) -> tuple[str, ...]:
        """Warnings with equal keys are repetitions of one."""
        match event:
            case NodeWarned(kind=kind) if kind in OF_PLACES:
                in_full = event.actor, kind, event.about, event.reason
                places = sum(key[1:2] == (kind,) for key in self._repeats)
                return in_full if in_full in self._repeats or places < MAX_PLACES else _without_numbers(event)
            case NodeWarned():
                return _without_numbers(event)
            case NameContested():
                return "name_contested", event.name

    def close(self) -> None:
        """Write what was held back."""
        if self._timer is not None:
            self._timer.cancel()
        for repeats in (*self._repeats.values(), self._others):
            self._write_repeats(repeats)

    def _arm(self) -> None:
        next_s = min(repeats.until_s for repeats in self._repeats.values())
        self._timer = self._loop.call_later(max(0.0, next_s - self._loop.time()), self._flush_due)

    def _flush_due(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        for key, repeats in list(self._repeats.items()):
            if repeats.until_s > now_s:
                continue
            if repeats.count:
                self._write_repeats(repeats)
                repeats.until_s = now_s + REPEAT_INTERVAL_S
            else:
                del self._repeats[key]
        if self._others.until_s <= now_s:
            self._others.until_s = now_s + OTHERS_AFTER_S
            self._write_repeats(self._others)
        if self._repeats:
            self._arm()

    def _write_repeats(self, repeats: _Repeats) -> None:
        if repeats.last is not None:
            event = log_event_of(repeats.last)
            self._write(event._replace(fields={**event.fields, "repeated": repeats.count}))
        repeats.count, repeats.last = 0, None


def _without_numbers(event: NodeWarned) -> tuple[str, ...]:
    return event.actor, event.kind, event.about, _NUMBER.sub("0", event.reason)
