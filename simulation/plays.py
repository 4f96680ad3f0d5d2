"""Plays: scripts in plain text that run a simulated cluster and print what happened in it.

A play is a run of scenes. A scene is some lines of commands, a line of dashes, and what they printed:

    produce n1 foo
    ----
    n1 acknowledged offset 0

Lines that begin with # are comments. `run_play` gives the play with its output as it is now, so a golden test
compares the two, and whoever changes a golden has read the difference. A play sets its stage with

    cluster [seed=…] [nodes=…] [election=…] [cycle=…] [max_hops=…]      start all nodes

which are named n1, n2 and so on, and goes on with

    show [KIND…]                 print messages and events of these kinds from here on (none: nothing); a call
                                 between nodes is of the kind CallReceived or CallReturned and of that of its
                                 request or response, for instance FetchRequest, and what a node tells its owner
                                 is of the kind NodeSaid and of its own, for instance PullStarted
    wait SECONDS                 let virtual time pass
    produce NAME VALUE [acks=…]  one record, and who acknowledged what
    consume NAME OFFSET          one read, and what came back
    log NAME                     every record that a reader of NAME gets, with the path that it took from node to node
    pulls                        the pull graph: who pulls from whom and how far it lags, what is committed, and how
                                 many records have come back to where they had been
    stop NAME…  crash NAME…  cut-power NAME…  pause NAME…  resume NAME…  wipe NAME…
    restart NAME… [election=…] [cycle=…] [max_hops=…]
    partition GROUP GROUP…       nodes of a group with commas between: partition n1 n2,n3
    isolate NAME / cut FROM TO / ring / heal

All checkers watch; a claim that does not hold ends the play with Violation.
"""

from __future__ import annotations

import re
from dataclasses import fields
from enum import IntEnum
from typing import Any

from ourolog.actors.config import Cycle
from ourolog.actors.message_names import message_name
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned
from ourolog.actors.messages.values import Member
from ourolog.simulation.client import OutcomeUnknownError, RefusedError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import Event, MessageHandled, MessageTold, NodeSaid
from ourolog.storage.types import Position


def run_play(text: str) -> str:
    """The play with what its commands print now. Raises ValueError for what is no command, and Violation."""
    stage = Stage()
    scenes = []
    try:
        for scene in re.split(r"\n{2,}", text.strip()):
            commands = scene.split("\n----")[0].rstrip()
            lines = [line for line in commands.splitlines() if line and not line.startswith("#")]
            for line in lines:
                stage.run(line)
            printed = stage.take()
            scenes.append(commands + (f"\n----\n{printed}" if lines else ""))
    finally:
        stage.close()
    return "\n\n".join(scenes) + "\n"


class Stage:
    """Where a play is played: a simulated cluster, once the command `cluster` has made it.

    Every command has a method `_<command>`, with underscores for its dashes. Its words are positional arguments,
    those with an equals sign keywords.
    """

    def __init__(self) -> None:
        self._shown: frozenset[str] = frozenset()
        self._printed: list[str] = []
        self._there: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        if self._there is None:
            raise ValueError("a play begins with the command cluster")
        return self._there

    def run(self, line: str) -> None:
        command, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        run = getattr(self, f"_{command.replace('-', '_')}", None)
        if run is None:
            raise ValueError(f"a play has no command {command!r}")
        run(*names, **options)

    def take(self) -> str:
        """What has been printed since it was taken last."""
        printed, self._printed = self._printed, []
        return "\n".join(printed) or "(nothing)"

    def close(self) -> None:
        """The checkers have their last look."""
        if self._there is not None:
            try:
                self._there.finish()
            finally:
                self._there.close()

    def print(self, line: str) -> None:
        self._printed.append(line)

    def on_event(self, event: Event) -> None:
        """Print it if its kind is shown."""
        match event:
            case MessageTold():
                if self._shown:
                    self._see_message(event)
            case MessageHandled():
                pass
            case NodeSaid():
                if not self._shown.isdisjoint(("NodeSaid", type(event.event).__name__)):
                    self.print(f"{event.node_id:>14} says {type(event.event).__name__}{message_fields(event.event)}")
            case _ if type(event).__name__ in self._shown:
                told = [(field.name, event_field(getattr(event, field.name))) for field in fields(event)[1:]]
                words = ", ".join(f"{name} {text}" for name, text in told if text)
                self.print(f"{event.time_s:9.3f} s {type(event).__name__} {words}".rstrip())
            case _:
                pass

    def _see_message(self, told: MessageTold) -> None:
        kinds, told_fields = [type(told.message).__name__], told.message
        match told.message:
            case CallReceived(request=carried) | CallReturned(response=carried):
                kinds.append(type(carried).__name__)
                told_fields = carried
            case CallAnswer(response=carried):
                told_fields = carried  # responses are shown where they arrive
            case _:
                pass
        if not self._shown.isdisjoint(kinds):
            text = f"{message_name(told.message)}{message_fields(told_fields)}"
            self.print(f"{told.sender or 'outside':>14} -> {told.receiver:<14} {text}")

    # ------------------------------------------------------------ commands

    def _show(self, *kinds: str) -> None:
        self._shown = frozenset(kinds)

    def _cluster(
        self, *, seed: str = "0", nodes: str = "3", election: str = "none", cycle: str = "break", max_hops: str = "4"
    ) -> None:
        if self._there is not None:
            raise ValueError("a play has one cluster")
        self._there = Cluster(int(seed), int(nodes), election, cycle, int(max_hops), observers=(self.on_event,))
        self._there.start()

    def _wait(self, seconds: str) -> None:
        self.cluster.run_for(float(seconds))

    def _produce(self, name: str, value: str, *, acks: str = "default") -> None:
        try:
            offset = self.cluster.produce(name, value, acks=acks)
            self.print(f"{name} acknowledged offset {offset}")
        except RefusedError as error:
            self.print(f"{name} refused: {error}")
        except OutcomeUnknownError as error:
            self.print(f"{name} may have done it: {error}")

    def _consume(self, name: str, offset: str) -> None:
        try:
            self.print(f"{name} has {self.cluster.consume(name, int(offset)).decode()} at offset {offset}")
        except RefusedError as error:
            self.print(f"{name} refused: {error}")

    def _log(self, name: str) -> None:
        try:
            records = self.cluster.records(name)
        except RefusedError as error:
            self.print(f"{name} refused: {error}")
            return
        for record in records:
            self.print(f"{name} {record.offset} {record.value.decode()} {'>'.join(record.path)}")
        if not records:
            self.print(f"{name} is empty")

    def _pulls(self) -> None:
        for name in sorted(self.cluster.running):
            status = self.cluster.status(name).replicator
            sources = ", ".join(f"{pull.source_id} lag {pull.lag}" for pull in status.pulls) or "nobody"
            self.print(f"{name} <- {sources}; committed {status.committed.offset}, cycles {status.cycles_seen}")

    def _stop(self, *names: str) -> None:
        self.cluster.stop(*names)

    def _crash(self, *names: str) -> None:
        for name in names:
            self.cluster.crash(name)

    def _cut_power(self, *names: str) -> None:
        for name in names:
            self.cluster.crash(name, power=True)

    def _restart(self, *names: str, **settings: str) -> None:
        parsers: dict[str, Any] = {"cycle": Cycle, "max_hops": int, "election": str}
        self.cluster.restart(*names, **{key: parsers[key](value) for key, value in settings.items()})

    def _pause(self, *names: str) -> None:
        for name in names:
            self.cluster.pause(name)

    def _resume(self, *names: str) -> None:
        for name in names:
            self.cluster.resume(name)

    def _wipe(self, *names: str) -> None:
        for name in names:
            self.cluster.wipe(name)

    def _partition(self, *groups: str) -> None:
        self.cluster.partition(*(tuple(group.split(",")) for group in groups))

    def _isolate(self, name: str) -> None:
        self.cluster.isolate(name)

    def _cut(self, source: str, target: str) -> None:
        self.cluster.cut(source, target)

    def _ring(self) -> None:
        self.cluster.partition_ring()

    def _heal(self) -> None:
        self.cluster.heal()


def event_field(value: Any) -> str:
    """A field of an event, or nothing for what a reader of a play does not look for."""
    match value:
        case tuple() if value and all(isinstance(item, tuple) for item in value):
            return " ".join(">".join(map(str, item)) for item in value)
        case bytes():
            return f"{len(value)} B"
        case _ if hasattr(value, "__dataclass_fields__"):
            return ""
        case _:
            return str(value)


def message_fields(message: Any) -> str:
    """The fields of a message that a reader of a play wants to see: no mailboxes, sizes and identities."""
    parts: list[str] = []
    for field in fields(message):
        value = getattr(message, field.name)
        match value:
            case Member():
                parts.append(value.node_id)
            case Position():
                parts.append(f"{field.name} {value.index}/{value.offset}")
            case tuple() if value and all(isinstance(item, tuple) for item in value):
                parts.append(f"{field.name} " + " ".join(">".join(map(str, item)) for item in value))
            case IntEnum():
                parts.append(f"{field.name} {value.name}")
            case "" | False:
                pass
            case str() | int() if field.name not in _UNTOLD:
                parts.append(f"{field.name} {value}")
    return (" " + ", ".join(parts)) if parts else ""


_UNTOLD = frozenset({"request_id", "source_epoch", "log_epoch", "max_bytes", "cluster"})
"""Fields that mean nothing to a reader of a play."""
