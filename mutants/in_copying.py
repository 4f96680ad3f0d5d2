"""Bugs between a leader's append and its commit: what is sent early, what counts, and how others hear of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import SLOW_DISKS, doing_nothing, mutant, wrap
from ourolog.actors.messages.events import LogAppended
from ourolog.actors.replication.commit import Boundaries
from ourolog.actors.replication.log_tail import LogTail
from ourolog.actors.replication.pulls import Pulls
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.store import StoreActor
from ourolog.actors.storing.copy_pace import CopyPace
from ourolog.storage.types import START

SLOW_LEADERS = SLOW_DISKS[1:]
"""Where a leader's disk takes long, and others may lead instead."""
RAFT_SLOW_DISKS = ("--election raft --nodes 4 --faults slow_disk,power_loss,kill --operations 800",)
SLOW_DECREED = ("--election static --faults slow_disk,power_loss --operations 2400",)

# ---------------------------------------------------------------- what is sent early


def _each_boundary_once() -> None:
    """What is there already is passed over, so that what is told twice is the same as if it were told once."""

    def make(original: Any) -> Any:
        def extend(self: Boundaries, ends: Any) -> None:
            last = self._ends[-1] if self._ends else START
            original(self, tuple(end for end in ends if end > last))

        return extend

    wrap(Boundaries, "extend", make)


@mutant("A leader takes what it is about to write for written.", (*SLOW_LEADERS, *RAFT_SLOW_DISKS))
def gathered_is_written() -> None:
    def make(original: Any) -> Any:
        def on_gathered(self: ReplicatorActor, gathered: Any) -> None:
            original(self, gathered)
            if self.state.tail.end == gathered.end:
                self._on_log_appended(LogAppended((gathered.end,), gathered.terms))

        return on_gathered

    _each_boundary_once()
    wrap(ReplicatorActor, "_on_gathered", make)


@mutant("A leader commits what the others have before its own disk has it.", (*SLOW_LEADERS, *RAFT_SLOW_DISKS))
def commits_before_own_disk() -> None:
    def make(original: Any) -> Any:
        def on_gathered(self: ReplicatorActor, gathered: Any) -> None:
            original(self, gathered)
            if self.state.tail.end == gathered.end:
                self._boundaries.extend((gathered.end,))

        return on_gathered

    _each_boundary_once()
    wrap(ReplicatorActor, "_on_gathered", make)


@mutant("What a leader had in memory it still sends when it leads in a later term.", SLOW_LEADERS)
def tail_kept_over_terms() -> None:
    def make(original: Any) -> Any:
        def change_role(self: ReplicatorActor, role: Any) -> None:
            with doing_nothing(LogTail, "clear"):
                original(self, role)

        return change_role

    wrap(ReplicatorActor, "_change_role", make)


@mutant("The entries in a leader's memory are counted one too far.", SLOW_LEADERS)
def tail_shifted() -> None:
    def make(original: Any) -> Any:
        def extend(self: LogTail, gathered: Any) -> None:
            if len(gathered.batches) > 1:
                gathered = replace(gathered, batches=gathered.batches[:-1])
            original(self, gathered)

        return extend

    wrap(LogTail, "extend", make)


@mutant("From its memory a leader sends all there is, however little was asked for.", SLOW_LEADERS)
def tail_sends_all() -> None:
    wrap(LogTail, "read", lambda original: lambda self, index, _: original(self, index, 1 << 40))


@mutant("A follower that asks on says that it has on disk what it is still writing.", SLOW_DECREED)
def asks_on_as_if_written() -> None:
    def make(original: Any) -> Any:
        def ask(self: Pulls, pull: Any, *arguments: Any) -> None:
            before = self._state.end
            if pull.taken is not None:
                self._state.end = max(before, pull.taken.end)
            try:
                original(self, pull, *arguments)
            finally:
                self._state.end = before

        return ask

    wrap(Pulls, "_ask", make)


@mutant("Followers copy what a leader has not written though nobody else can lead.", SLOW_DECREED)
def early_where_decreed() -> None:
    def make(original: Any) -> Any:
        def announce(self: StoreActor) -> None:
            config = self.config
            self.config = replace(config, election=replace(config.election, is_decreed=False))
            try:
                original(self)
            finally:
                self.config = config

        return announce

    wrap(StoreActor, "_announce_gathered", make)


# ---------------------------------------------------------------- what a replica far behind syncs late


@mutant("A replica far behind says that it has on disk what it has only written.", (*RAFT_SLOW_DISKS, *SLOW_LEADERS))
def copy_told_before_its_sync() -> None:
    def make(original: Any) -> Any:
        def commit(self: StoreActor, *, sync: bool) -> None:
            original(self, sync=sync and not self._pace.is_far)
            self._announce_appended()

        return commit

    wrap(CopyPace, "may_wait", lambda _: lambda *_: False)
    wrap(StoreActor, "_commit", make)
