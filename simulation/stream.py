"""The stream of events: everything that happens passes through here once, to all watchers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ourolog.simulation.checker import Checker, Violation, World
from ourolog.simulation.events import Event, FaultInjected, MessageTold, nodes_of
from ourolog.simulation.trace import Trace

See = Callable[[Event, World], None]


class Watcher(Protocol):
    """Is shown the kinds of event that it names in `sees`."""

    @property
    def sees(self) -> tuple[type, ...]: ...

    def see(self, event: Event, world: World) -> None: ...


class EventStream:
    """Hashes and counts every event, and shows it to checkers and observers, in that order.

    A Violation does not interrupt whoever emits (it may be in the middle of handling a message):
    on_violation is told, and the run ends after that message. Nothing that happens until then is
    shown to checkers, which would only report it again.
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
        self._states = states
        self._watching: set[str] = set()
        self._seers: dict[type, tuple[See, ...]] = {}
        self._seers_of_told: dict[type, tuple[See, ...]] = {}

    @property
    def claims(self) -> tuple[str, ...]:
        """The names of the checkers that have been shown at least one event; the others have watched nothing."""
        return tuple(checker.name for checker in self.checkers if checker.name in self._watching)

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
            self._show(event, self._seers_of(kind) if kind is not MessageTold else self._seers_of_message(event))
        for observer in self._observers:
            observer(event)

    def _seers_of(self, kind: type) -> tuple[See, ...]:
        seers = self._seers.get(kind)
        if seers is None:
            seers = self._seers[kind] = self._who_sees(kind, None)
        return seers

    def _seers_of_message(self, event: Event) -> tuple[See, ...]:
        """The checkers for one kind of message: most of a run is messages, and few checkers want many kinds of them."""
        assert isinstance(event, MessageTold)
        message_kind = type(event.message)
        seers = self._seers_of_told.get(message_kind)
        if seers is None:
            seers = self._seers_of_told[message_kind] = self._who_sees(MessageTold, message_kind)
        return seers

    def _who_sees(self, kind: type, message_kind: type | None) -> tuple[See, ...]:
        """`sees` names kinds of event, `sees_told` kinds of message in MessageTold; without them it is all."""
        wanting = [
            checker
            for checker in self.checkers
            if kind in getattr(checker, "sees", (kind,))
            and message_kind in getattr(checker, "sees_told", (message_kind,))
        ]
        self._watching.update(checker.name for checker in wanting)
        see = [_see_of(checker, kind, message_kind) for checker in wanting]
        return (self._states.see, *see) if kind in self._states.sees else tuple(see)

    def _show(self, event: Event, seers: tuple[See, ...]) -> None:
        for see in seers:
            try:
                see(event, self._world)
            except Violation as violation:
                violation.nodes = nodes_of(event)
                self.violated(violation)

    def finish(self) -> None:
        for checker in self.checkers:
            try:
                checker.finish(self._world)
            except Violation as violation:
                self.violated(violation)

    def violated(self, violation: Violation) -> None:
        """Keep the violation, and tell the owner of the run."""
        self.violations.append(violation)
        self.on_violation(violation)


def _see_of(checker: Checker, kind: type, message_kind: type | None) -> See:
    """The checker's function for one kind of event; a checker may offer a shorter one by `seer(kind, message_kind)`."""
    seer: Callable[[type, type | None], See] | None = getattr(checker, "seer", None)
    return checker.see if seer is None else seer(kind, message_kind)


def _nobody_listens(_: Violation) -> None:
    """Do nothing: the violation is kept anyway."""
