"""When the scrub reads on: all of the log is read once in an interval, and what else the disk does goes first."""

from __future__ import annotations

from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.store import ScrubDue, StoreMessage
from ourolog.actors.ports import Ports
from ourolog.storage.log import Log
from ourolog.storage.scrub import Scrubbed

STEP_BYTES: Final = 1024 * 1024

LEAST_PAUSE_S: Final = 0.1
"""Between two steps at the least; appends and reads that came meanwhile are served before."""

FIRST_STEP_WITHIN_S: Final = 600.0
"""A node that is started often shall check something each time, however long the interval is."""


class Scrubber:
    """Tells the store when to scrub, and counts what it did.

    read_bytes: how much was read since the node started.
    completed_ms: when the end of the log was reached last, ms since 1970; 0 if it was not yet.
    """

    def __init__(self, config: NodeConfig, ports: Ports, me: Mailbox[StoreMessage]) -> None:
        self.read_bytes = 0
        self.completed_ms = 0
        self._interval_s = config.scrub_interval_s
        self._ports = ports
        self._me = me

    @property
    def is_on(self) -> bool:
        return self._interval_s > 0

    def begin(self, log: Log) -> None:
        """Begin with some segment, not always the same."""
        if self.is_on:
            if log.segment_count > 1:
                log.begin_scrub_at(self._ports.rng.randrange(log.segment_count))
            self._after(min(FIRST_STEP_WITHIN_S, self._pause_s(STEP_BYTES, log)))

    def go_on(self, log: Log, scrubbed: Scrubbed) -> None:
        """Note what a step has read, and plan the next one."""
        self.read_bytes += scrubbed.read_bytes
        if scrubbed.is_complete:
            self.completed_ms = self._ports.clock.wall_ms()
        self._after(self._pause_s(scrubbed.read_bytes, log))

    def put_off(self) -> None:
        """The log could not be read at the moment."""
        self._after(1.0)

    def _pause_s(self, read_bytes: int, log: Log) -> float:
        """How long what was read is to last, so that all of the log lasts for the interval."""
        share = min(1.0, read_bytes / log.size_bytes) if log.size_bytes else 1.0
        return max(LEAST_PAUSE_S, self._interval_s * share)

    def _after(self, delay_s: float) -> None:
        self._ports.timers.after(delay_s, self._me, ScrubDue())
