"""Bugs in what an acknowledgement says, in who is waited for, and in reads of clients that have seen more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import ELECTED, RAFT, STATIC, mutant, wrap
from ourolog.actors.messages.server import Consume
from ourolog.actors.messages.values import Acks
from ourolog.actors.replication.in_sync import InSync
from ourolog.actors.requests.behind import BehindReads
from ourolog.actors.requests.replicas import Replicas
from ourolog.actors.server import ServerActor
from ourolog.storage.types import Index, Offset

LEFT = (f"{STATIC} --faults kill,partition,pause --operations 400",)
"""Where voters fall silent while somebody waits for all of them."""

# ---------------------------------------------------------------- what a client has seen


@mutant("A node takes no notice of what its client has seen.", (STATIC, *RAFT))
def seen_end_ignored() -> None:
    def make(original: Any) -> Any:
        return lambda self, consume: original(self, replace(consume, seen_end=Offset(0)))

    wrap(ServerActor, "_consume", make)


@mutant("A node waits until it has all but the last record that its client has seen.", (STATIC, *RAFT))
def seen_end_off_by_one() -> None:
    def make(original: Any) -> Any:
        def consume_(self: ServerActor, consume: Consume) -> None:
            original(self, replace(consume, seen_end=Offset(max(0, consume.seen_end - 1))))

        return consume_

    wrap(ServerActor, "_consume", make)


@mutant("Reads that wait for what their clients have seen are answered when their time is up only.", (STATIC, *RAFT))
def behind_never_woken() -> None:
    wrap(BehindReads, "take", lambda _: lambda *_: None)


@mutant("The time of reads that wait for what their clients have seen is never up.", (STATIC, *RAFT))
def behind_never_expired() -> None:
    wrap(BehindReads, "expired", lambda _: lambda *_: [])


# ---------------------------------------------------------------- who is named


@mutant("An answer names every voter, whatever is on its disk.", ELECTED)
def all_voters_named() -> None:
    def make(original: Any) -> Any:
        def that_have(self: Replicas, index: Index) -> Any:
            return tuple(sorted({*original(self, index), *(voter for voter, _ in self._known.ends)}))

        return that_have

    wrap(Replicas, "that_have", make)


@mutant("An answer names voters that have everything before the record, and not the record.", ELECTED)
def named_one_early() -> None:
    def make(original: Any) -> Any:
        return lambda self, index: tuple(sorted({*original(self, index), *original(self, Index(max(0, index - 1)))}))

    wrap(Replicas, "that_have", make)


@mutant("A leader counts itself among the replicas before it has synced.", ELECTED)
def leader_named_before_sync() -> None:
    def make(original: Any) -> Any:
        return lambda self, index: tuple(sorted({*original(self, index), self._config.node_id}))

    wrap(Replicas, "that_have", make)


# ---------------------------------------------------------------- all that are in sync


@mutant("A voter that is silent counts as in sync for ever.", LEFT)
def silent_in_sync() -> None:
    wrap(InSync, "members", lambda _: lambda self, voters, now_s: voters)  # noqa: ARG005


@mutant("A voter counts as silent as soon as it has not fetched for a twentieth of an election timeout.", ELECTED)
def out_of_sync_at_once() -> None:
    def make(original: Any) -> Any:
        def init(self: InSync, config: Any, now_s: float) -> None:
            original(self, config, now_s)
            self._silent_after_s = config.election_timeout_s / 20

        return init

    wrap(InSync, "__init__", make)


@mutant("However few voters are in sync, what they have may be acknowledged by all.", LEFT)
def min_in_sync_ignored() -> None:
    def make(original: Any) -> Any:
        def index(self: InSync, voters: Any, on_disk: Any, members: Any) -> Index:
            del voters
            config, self._config = self._config, replace(self._config, min_in_sync=None)
            try:
                found: Index = original(self, members, on_disk, members)
            finally:
                self._config = config
            return found

        return index

    wrap(InSync, "index", make)


@mutant("What all that are in sync have is acknowledged, committed or not.", LEFT)
def all_uncommitted() -> None:
    def make(original: Any) -> Any:
        def is_acknowledged(self: ServerActor, pending: Any) -> bool:
            if pending.acks is Acks.ALL and not self._dispute:
                return self._replicas.all_have(pending.index)
            known: bool = original(self, pending)
            return known

        return is_acknowledged

    wrap(ServerActor, "_is_acknowledged", make)
