"""The timers of the election of one node: each has a name, and is set once at a time."""

from __future__ import annotations

from ourolog.actors.election.raft.steps import TimerName, Wait
from ourolog.actors.messages.election import ElectionMessage, ElectionTimerDue
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.ports import Ports, Timer


class ElectionTimers:
    """Timers that tell ElectionTimerDue.

    One that is stopped, or set anew, may have told it already: the message waits in the mailbox then. So each setting
    and each stop has a serial of its own, and who handles the message asks here whether it still counts.
    """

    def __init__(self, ports: Ports, me: Mailbox[ElectionMessage]) -> None:
        self._ports = ports
        self._me = me
        self._running: dict[str, Timer] = {}
        self._serials: dict[str, int] = {}
        self._due_s: dict[str, float] = {}

    def wait(self, wait: Wait) -> None:
        """Set a timer to a time that is drawn."""
        delay_s = self._ports.rng.uniform(wait.at_least_s, wait.at_most_s)
        self._due_s[wait.timer] = self._ports.clock.monotonic_s() + delay_s
        self.set(wait.timer, delay_s)

    def set(self, name: str, delay_s: float) -> None:
        """Set a timer, which is stopped first if it runs."""
        self.stop(name)
        self._running[name] = self._ports.timers.after(delay_s, self._me, ElectionTimerDue(name, self._serials[name]))

    def stop(self, name: str) -> None:
        self._serials[name] = self._serials.get(name, 0) + 1
        running = self._running.pop(name, None)
        if running is not None:
            running.cancel()

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def is_current(self, due: ElectionTimerDue) -> bool:
        """Whether that timer has been neither set anew nor stopped since."""
        return self._serials.get(due.name) == due.serial

    def take(self, due: ElectionTimerDue) -> bool:
        """End that timer if it still counts. Returns whether it did."""
        return self.is_current(due) and self._running.pop(due.name, None) is not None

    def late_s(self, timer: TimerName) -> float:
        """By how many seconds that timer, which is due, is handled too late."""
        return self._ports.clock.monotonic_s() - self._due_s[timer]
