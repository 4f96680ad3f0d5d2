"""The stream of events: everything that happens goes through here once, to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, get_args

from simulation.checker import Checker, Violation, World
from simulation.events import Event, FaultInjected
from simulation.trace import Trace

See = Callable[[Event, World], None]


class Watcher(Protocol):
    """Sees the kinds of event that it names in `sees`."""

    @property
    def sees(self) -> tuple[type, ...]: ...

    def see(self, event: Event, world: World) -> None: ...


class EventStream:
    """Hashes and counts every event, and shows it to checkers and observers, in that order.

    A Violation does not interrupt whoever emits (it may be in the middle of handling a message):
    on_violation hears of it, and the run ends after that message. Nothing that happens until then is
    shown to checkers: they would only say it again.
    """

    def __init__(self, world: World, checkers: Sequence[Checker], states: Watcher) -> None:
        self.checkers = tuple(checkers)
        self.trace = Trace()
        self.count = 0
        self.faults: dict[str, int] = {}
        self.violations: list[Violation] = []
        self.on_violation: Callable[[Violation], None] = _nobody_listens
        self.now_s: Callable[[], float] = lambda: 0.0
        self._world = world
        self._observers: list[Callable[[Event], None]] = []
        self._seers: dict[type, tuple[See, ...]] = {}
        for kind in get_args(Event):
            wanting = [checker.see for checker in self.checkers if kind in getattr(checker, "sees", (kind,))]
            if kind in states.sees:
                wanting.insert(0, states.see)
            self._seers[kind] = tuple(wanting)

    def subscribe(self, observer: Callable[[Event], None]) -> None:
        self._observers.append(observer)

    def emit(self, event: Event) -> None:
        self.count += 1
        self.trace.add(event)
        kind = type(event)
        if kind is FaultInjected:
            fault = event.kind  # type: ignore[union-attr]
            self.faults[fault] = self.faults.get(fault, 0) + 1
        if not self.violations:
            self._show(event, self._seers[kind])
        for observer in self._observers:
            observer(event)

    def _show(self, event: Event, seers: tuple[See, ...]) -> None:
        for see in seers:
            try:
                see(event, self._world)
            except Violation as violation:
                self.violated(violation)

    def finish(self) -> None:
        for checker in self.checkers:
            try:
                checker.finish(self._world)
            except Violation as violation:
                self.violated(violation)

    def violated(self, violation: Violation) -> None:
        """Keep it, and tell whoever runs the run."""
        self.violations.append(violation)
        self.on_violation(violation)


def _nobody_listens(_: Violation) -> None:
    """The violation is kept all the same."""
