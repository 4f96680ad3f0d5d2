"""Plays of a simulated cluster: scripts in plain text, with what they printed below a line of dashes.

The language is that of `ourolog.actors.testing.plays`, with more that can go wrong. A play begins by setting its stage:

    cluster seed=7 nodes=3 election=static cycle=break      start all nodes

and goes on with

    show [KIND…]                 print messages and events of these kinds from here on
    wait SECONDS                 let virtual time pass
    produce NAME VALUE [acks=…]  one record, and who acknowledged what
    consume NAME OFFSET          one read, and what came back
    log NAME                     every record that a reader of NAME gets
    pulls                        the pull graph
    stop NAME…  crash NAME…  cut-power NAME…  restart NAME…  pause NAME…  resume NAME…  wipe NAME…
    partition GROUP GROUP…       nodes of a group with commas between: partition n1 n2,n3
    isolate NAME / cut FROM TO / ring / heal

All checkers watch; a claim that does not hold ends the play with Violation.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ourolog.actors.actor import Envelope
from ourolog.actors.testing.plays import Stage
from ourolog.actors.testing.plays import run_play as run_play_on
from ourolog.simulation.client import OutcomeUnknownError, RefusedError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import Event, MessageHandled, MessageTold


def run_play(text: str) -> str:
    """The play with what its commands print now. Raises ValueError for what is no command, and Violation."""
    return run_play_on(text, SimulatedStage())


class SimulatedStage(Stage):
    """The stage of a simulated cluster; there is none before the command `cluster`."""

    def __init__(self) -> None:
        super().__init__()
        self._there: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        if self._there is None:
            raise ValueError("a play of a simulated cluster begins with the command cluster")
        return self._there

    def close(self) -> None:
        """The checkers have their last look."""
        if self._there is not None:
            try:
                self._there.finish()
            finally:
                self._there.close()

    def on_event(self, event: Event) -> None:
        """Print it if its kind is shown."""
        match event:
            case MessageTold():
                self.see(Envelope(event.sender, event.receiver, event.message))
            case MessageHandled():
                pass
            case _ if type(event).__name__ in self._shown:
                told = [(field.name, _shown(getattr(event, field.name))) for field in fields(event)[1:]]
                words = ", ".join(f"{name} {text}" for name, text in told if text)
                self.print(f"{event.time_s:9.3f} s {type(event).__name__} {words}".rstrip())
            case _:
                pass

    # ------------------------------------------------------------ commands

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
        records = self.cluster.records(name)
        for record in records:
            self.print(f"{name} {record.offset} {record.value.decode()}")
        if not records:
            self.print(f"{name} is empty")

    def _pulls(self) -> None:
        for name, sources in sorted(self.cluster.pulls().items()):
            self.print(f"{name} <- {', '.join(sources) or 'nobody'}")

    def _stop(self, *names: str) -> None:
        self.cluster.stop(*names)

    def _crash(self, *names: str) -> None:
        for name in names:
            self.cluster.crash(name)

    def _cut_power(self, *names: str) -> None:
        for name in names:
            self.cluster.crash(name, power=True)

    def _restart(self, *names: str) -> None:
        self.cluster.restart(*names)

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


def _shown(value: Any) -> str:
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
