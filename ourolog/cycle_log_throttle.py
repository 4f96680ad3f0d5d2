"""Throttles the log lines of cycle events: each path at once when it is first seen, then at most once a second.

With nobody elected every record comes back to where it was, so there are as many cycles as
records; a log line for each would be a second log of all records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ourolog.actors.messages.observer import CycleSeen
from ourolog.log_events import LogEvent, log_event_of
from ourolog.storage.types import NodeId

_EVERY_S: Final = 1.0
_MAX_PATHS: Final = 64


class CycleLogThrottle:
    """Hands CycleSeen on to `write`, repeated ones gathered into one with the sum of their counts."""

    def __init__(self, write: Callable[[LogEvent], None], loop: asyncio.AbstractEventLoop) -> None:
        self._write = write
        self._loop = loop
        self._gathered: dict[tuple[tuple[NodeId, ...], bool], CycleSeen | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def saw(self, event: CycleSeen) -> None:
        key = (event.path, event.broken)
        if key not in self._gathered and len(self._gathered) < _MAX_PATHS:
            self._gathered[key] = None
            self._write(log_event_of(event))
        else:
            if key not in self._gathered:
                key = next(iter(self._gathered))
            before = self._gathered[key]
            count = event.count + (before.count if before is not None else 0)
            self._gathered[key] = CycleSeen(event.node_id, key[0], count, key[1])
        if self._timer is None:
            self._timer = self._loop.call_later(_EVERY_S, self._flush)

    def close(self) -> None:
        """Write what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()

    def _flush(self) -> None:
        gathered, self._gathered, self._timer = self._gathered, {}, None
        for event in gathered.values():
            if event is not None:
                self._write(log_event_of(event))
