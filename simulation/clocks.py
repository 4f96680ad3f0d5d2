"""The clocks and timers of one simulated node, which run a little fast or slow compared with true time."""

from __future__ import annotations

from typing import Any, Protocol

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.ports import Timer
from ourolog.actors.stepping import EPOCH_MS


class TrueTime(Protocol):
    """The time of the runtime, which no node can see."""

    @property
    def present_s(self) -> float:
        """Virtual seconds since the run began."""

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        """Tell `message` to `mailbox` after that much true time."""


class NodeClock:
    """Timers and clocks of one node; they survive the restarts of its process, as a machine's do.

    The monotonic clock runs at `rate`, and timers go by it. The wall clock is the monotonic one
    plus an offset that may jump.
    """

    def __init__(self, time: TrueTime) -> None:
        self._time = time
        self._rate = 1.0
        self._since_s = time.present_s
        self._then_s = time.present_s
        self._offset_s = 0.0

    def monotonic_s(self) -> float:
        return self._then_s + (self._time.present_s - self._since_s) * self._rate

    def wall_ms(self) -> int:
        return EPOCH_MS + int((self.monotonic_s() + self._offset_s) * 1000)

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        return self._time.after(delay_s / self._rate, mailbox, message)

    def set_rate(self, rate: float) -> None:
        """Set how many seconds this clock counts in one true second, from now on."""
        self._then_s = self.monotonic_s()
        self._since_s = self._time.present_s
        self._rate = rate

    def jump(self, seconds: float) -> None:
        """Move the wall clock; the monotonic one stays as it is."""
        self._offset_s += seconds
