"""Plays: scripts in plain text that run whole nodes in virtual time and print what passed between them.

A play is a run of scenes. A scene is some lines of commands, a line of dashes, and what they
printed:

    produce n1 foo
    ----
    n1 acknowledged offset 0

Lines that begin with # are comments. `run` gives the play with its output as it is now, so a
golden test compares the two, and whoever changes a golden has read the difference.

    start NAME… [key=value…]   start nodes: election, cycle, max_hops
    show [KIND…]               print messages of these kinds from here on (none: nothing)
    wait SECONDS               let virtual time pass
    produce NAME VALUE         one record, and who acknowledged what
    consume NAME OFFSET        one read, and what came back
    log NAME                   every record that a reader of NAME gets, with its path
    pulls                      the pull graph: who pulls from whom, and the lag
    stop NAME / kill NAME / restart NAME
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from ourolog.actors.actor import Envelope
from ourolog.actors.config import Cycle
from ourolog.actors.messages.server import Produced, RequestRefused
from ourolog.actors.messages.status import ReplicatorStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import BatchesRead
from ourolog.actors.messages.values import Member
from ourolog.actors.occupants import parse_election
from ourolog.actors.testing.testkit import Probe
from ourolog.actors.testing.virtual_cluster import VirtualCluster
from ourolog.storage.types import Position

PARSERS: dict[str, Any] = {"election": parse_election, "cycle": Cycle, "max_hops": int}


def run_play(text: str, stage: Stage | None = None) -> str:
    """The play with what its commands print now. Raises ValueError for what is no command.

    stage: where it is played, closed at the end; on a VirtualCluster of its own by default.
    """
    stage = stage or _VirtualStage()
    scenes = []
    try:
        for scene in re.split(r"\n{2,}", text.strip()):
            commands = scene.split("\n----")[0].rstrip()
            for line in commands.splitlines():
                if line and not line.startswith("#"):
                    stage.run(line)
            printed = stage.take()
            scenes.append(commands + (f"\n----\n{printed}" if stage.has_command(commands) else ""))
    finally:
        stage.close()
    return "\n\n".join(scenes) + "\n"


class Stage:
    """Where a play is played: derived classes have a method `_<command>` for every command.

    Names are positional arguments of it, `key=value` are keywords; dashes in a command are underscores.
    """

    def __init__(self) -> None:
        self._shown: frozenset[str] = frozenset()
        self._printed: list[str] = []

    @staticmethod
    def has_command(commands: str) -> bool:
        return any(line and not line.startswith("#") for line in commands.splitlines())

    def close(self) -> None:
        """Let go of what was set up."""

    def take(self) -> str:
        printed, self._printed = self._printed, []
        return "\n".join(printed) or "(nothing)"

    def print(self, line: str) -> None:
        self._printed.append(line)

    def see(self, told: Envelope) -> None:
        """A message crossed into a mailbox; printed if its kind is shown."""
        kind = type(told.message).__name__
        if kind in self._shown:
            self.print(f"{told.sender or 'outside':>14} -> {told.receiver:<14} {kind}{tell_fields(told.message)}")

    def run(self, line: str) -> None:
        command, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        run = getattr(self, f"_{command.replace('-', '_')}", None)
        if run is None:
            raise ValueError(f"a play has no command {command!r}")
        run(*names, **options)

    def _show(self, *kinds: str) -> None:
        self._shown = frozenset(kinds)


class _VirtualStage(Stage):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = VirtualCluster(tap=self.see)

    def close(self) -> None:
        self.cluster.close()

    def _start(self, *names: str, **options: str) -> None:
        config = {key: PARSERS[key](value) for key, value in options.items()}
        for name in names:
            self.cluster.start(name, **config)

    def _restart(self, name: str) -> None:
        self.cluster.start(name)

    def _stop(self, name: str) -> None:
        self.cluster.stop(name)

    def _kill(self, name: str) -> None:
        self.cluster.kill(name)

    def _wait(self, seconds: str) -> None:
        self.cluster.runtime.run_for(float(seconds))

    def _produce(self, name: str, value: str) -> None:
        match self.cluster.produce(name, value.encode()):
            case Produced(base_offset=offset):
                self.print(f"{name} acknowledged offset {offset}")
            case RequestRefused(detail=detail):
                self.print(f"{name} refused: {detail}")

    def _consume(self, name: str, offset: str) -> None:
        match self.cluster.consume(name, int(offset)):
            case BatchesRead():
                batch = next(batch for batch in self.cluster.batches(name) if batch.end_offset > int(offset))
                self.print(f"{name} has {batch.payload.decode()} at offset {offset}")
            case refused:
                self.print(f"{name} refused: {refused.detail}")

    def _log(self, name: str) -> None:
        for batch in self.cluster.batches(name):
            self.print(f"{name} {batch.base_offset} {batch.payload.decode()} {'>'.join(batch.path)}")

    def _pulls(self) -> None:
        for name in sorted(self.cluster.nodes):
            probe = Probe()
            answer = self.cluster.tell_and_wait(self.cluster.nodes[name].replicator, ReportStatus(1, probe), probe)
            assert isinstance(answer, StatusReported)
            assert isinstance(answer.status, ReplicatorStatus)
            for pull in answer.status.pulls:
                self.print(f"{name} <- {pull.source_id} lag {pull.lag}")
            self.print(f"{name} committed {answer.status.committed.offset}, cycles {answer.status.cycles_seen}")


def tell_fields(message: Any) -> str:
    """The fields a reader of a play wants to see; mailboxes, sizes and identities are left out."""
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
            case str() | int() if field.name not in ("request_id", "source_epoch", "log_epoch", "max_bytes"):
                parts.append(f"{field.name} {value}")
    return (" " + ", ".join(parts)) if parts else ""
