"""What checkers share: how each is called only for the events that concern it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ourolog.simulation.checker import Violation, World
from ourolog.simulation.checkers.model import (
    CHANGING,
    CHANGING_MESSAGES,
    MODELLED,
    MODELLED_MESSAGES,
    ClusterModel,
    NodeModel,
)
from ourolog.simulation.events import Event, MessageTold

Handler = Callable[[Any], None]
LogHandler = Callable[[NodeModel], None]


class EventChecker:
    """A checker that names the events it wants when it is made.

    on: handlers by class of event.
    on_told: handlers of MessageTold by class of message.
    on_log: called with the node whose log has changed, when `model.fresh` and `model.gone` say how.
    time_s: the time of the present event.
    world: what was seen last beside the events.
    drives: whether this checker keeps the model up to date, as the first of those that share it must.
    """

    name: ClassVar[str]
    statement: ClassVar[str]

    def __init__(self, model: ClusterModel | None = None) -> None:
        """Prepare a checker without handlers.

        model: shared by the checkers of one run; None for one of its own.
        """
        self.model = model or ClusterModel()
        self.on: dict[type, Handler] = {}
        self.on_told: dict[type, Handler] = {}
        self.on_log: LogHandler | None = None
        self.time_s = 0.0
        self.world: World | None = None
        self.drives = True

    @property
    def sees(self) -> tuple[type, ...]:
        """The kinds of event that it must be shown; it ignores all others."""
        kinds = set(self.on)
        if self.on_told:
            kinds.add(MessageTold)
        if self.on_log is not None:
            kinds.update(CHANGING)
        if self.drives:
            kinds.update(MODELLED)
        return tuple(sorted(kinds, key=lambda kind: kind.__name__))

    @property
    def sees_told(self) -> tuple[type | None, ...]:
        """The kinds of message that it must be shown in MessageTold; None for events that are something else."""
        kinds = set(self.on_told)
        if self.on_log is not None:
            kinds.update(CHANGING_MESSAGES)
        if self.drives:
            kinds.update(MODELLED_MESSAGES)
        return (None, *sorted(kinds, key=lambda kind: kind.__name__))

    def see(self, event: Event, world: World) -> None:
        model = self.model
        if self.drives:
            model.see(event, world)
        self.time_s = event.time_s
        self.world = world
        if self.on_log is not None and model.changed is not None and model.event is event:
            self.on_log(model.changed)
        handler = self.on_told.get(type(event.message)) if type(event) is MessageTold else self.on.get(type(event))
        if handler is not None:
            handler(event)

    def seer(self, kind: type, message_kind: type | None) -> Callable[[Event, World], None]:
        """What `see` comes to for events of that kind.

        message_kind: the class of the message in MessageTold; None for other events.
        """
        is_told = kind is MessageTold
        handler = self.on_told.get(message_kind) if is_told and message_kind else self.on.get(kind)
        may_change = message_kind in CHANGING_MESSAGES if is_told else kind in CHANGING
        if handler is None or self.drives or (self.on_log is not None and may_change):
            return self.see

        def see(event: Event, world: World) -> None:
            self.time_s = event.time_s
            self.world = world
            handler(event)

        return see

    def finish(self, world: World) -> None:
        self.world = world
        self.at_end()

    def at_end(self) -> None:
        """Check what can only be checked when the run is over; nothing by default."""

    def violated(self, detail: str, *records: bytes) -> Violation:
        """The violation to raise.

        detail: what was seen instead of what is claimed.
        records: the values of the records that it is about.
        """
        return Violation(self.name, detail, self.time_s, records)
