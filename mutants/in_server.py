"""Bugs in the server and the store: requests that are never answered, and answers that are not true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mutants.mutant import (
    EVERY,
    IDLE,
    LEADERS_DIE,
    LEADERS_STOP,
    MANY_READERS,
    ORACLE,
    RETAINED,
    STATIC,
    doing_nothing,
    mutant,
    wrap,
)
from ourolog.actors.messages.events import ReplicasAdvanced
from ourolog.actors.messages.server import Refusal, RequestRefused
from ourolog.actors.messages.store import AppendBatch, AppendRefused
from ourolog.actors.requests.produces import OpenProduces, PendingProduce
from ourolog.actors.requests.readers import TailingReaders
from ourolog.actors.server import ServerActor
from ourolog.actors.store import StoreActor
from ourolog.storage.log import Log
from ourolog.storage.types import Index, Offset

# ---------------------------------------------------------------- the store


@mutant("The store goes on after an error of its disk, and says nothing.", EVERY)
def go_on_after_error() -> None:
    wrap(StoreActor, "_fail", lambda _: lambda *_: None)


@mutant("The store goes on after an error of its disk, and so does the log.", EVERY)
def trust_after_error() -> None:
    wrap(StoreActor, "_fail", lambda _: lambda *_: None)
    wrap(Log, "_check_usable", lambda _: lambda *_: None)


@mutant("The store does not say that it refuses an append.", (ORACLE,))
def append_refused_unsaid() -> None:
    def make(original: Any) -> Any:
        def append(self: StoreActor, message: AppendBatch) -> None:
            if message.term == self._ballot.term:
                original(self, message)

        return append

    wrap(StoreActor, "_append_batch", make)


# ---------------------------------------------------------------- produce


@mutant("Produces never expire.", (STATIC,))
def produces_never_expire() -> None:
    wrap(ServerActor, "_expire", lambda _: lambda *_: None)


@mutant("What has gathered behind others waits for as long as those are not committed.", (STATIC,))
def gathers_for_ever() -> None:
    def make(_: Any) -> Any:
        def flush_when_due(self: ServerActor) -> None:
            if self._produces.has_unflushed and self._produces.may_flush:
                self._flush()

        return flush_when_due

    wrap(ServerActor, "_flush_when_due", make)


@mutant("What has gathered behind others is forgotten when those are committed.", (STATIC,))
def gathered_is_forgotten() -> None:
    def make(original: Any) -> Any:
        def note_committed(self: OpenProduces, committed: Index) -> None:
            original(self, committed)
            for pending in self._take_unflushed():
                self._written(pending)

        return note_committed

    wrap(OpenProduces, "note_committed", make)


@mutant("A leader without a majority appends all that it is asked to.", (f"{STATIC} --operations 1200",))
def uncommitted_without_bound() -> None:
    def make(original: Any) -> Any:
        return lambda self, batch, **_: original(self, batch, is_elected=False)

    wrap(OpenProduces, "why_full", make)


@mutant("What the store refused to append is not answered until its time is up.", (ORACLE,))
def refused_appends_unanswered() -> None:
    _deaf_to(AppendRefused)


@mutant(
    "What waits for all replicas is not answered when they have it, but when something else is committed.", (STATIC,)
)
def replicas_advanced_unheard() -> None:
    def make(original: Any) -> Any:
        def on_receive(self: ServerActor, message: Any) -> None:
            if isinstance(message, ReplicasAdvanced):
                with doing_nothing(ServerActor, "_acknowledge"):
                    original(self, message)
            else:
                original(self, message)

        return on_receive

    wrap(ServerActor, "on_receive", make)


@mutant("What the store was told of when the lead was lost is refused for certain.", (ORACLE,))
def deposed_for_certain() -> None:
    def make(original: Any) -> Any:
        def refuse(self: ServerActor, pending: PendingProduce, refusal: Refusal, detail: str) -> None:
            if refusal is Refusal.DEPOSED:
                pending.may_be_stored = False
            original(self, pending, refusal, detail)

        return refuse

    wrap(ServerActor, "_refuse_produce", make)


@mutant("What was held is sent to the next leader, and the store is told of it all the same.", (ORACLE,))
def held_refused_and_appended() -> None:
    def make(original: Any) -> Any:
        def refuse_as(self: ServerActor, pending: PendingProduce, refused: RequestRefused) -> None:
            batch = pending.batch
            original(self, pending, refused)
            assert batch is not None
            self.store.tell(AppendBatch(next(self._produces._append_ids), batch, self._term, self.me))

        return refuse_as

    wrap(ServerActor, "_refuse_as", make)


@mutant("What is held is forgotten when somebody leads, until its time is up.", (ORACLE,))
def held_forgotten() -> None:
    wrap(ServerActor, "_settle_held", lambda _: lambda *_: None)


@mutant("A leader that hands over appends what comes meanwhile.", LEADERS_STOP)
def hand_over_appends() -> None:
    wrap(
        ServerActor, "_holds", lambda _: property(lambda self: bool(self._elected and self._leader_id != self.node_id))
    )


@mutant("A leader that hands over does not wait for what it has taken.", LEADERS_STOP)
def drained_at_once() -> None:
    wrap(OpenProduces, "is_drained", lambda _: property(lambda _: True))


def _deaf_to(kind: type) -> None:
    def make(original: Any) -> Any:
        def on_receive(self: ServerActor, message: Any) -> None:
            if not isinstance(message, kind):
                original(self, message)

        return on_receive

    wrap(ServerActor, "on_receive", make)


@mutant("Who gave up is still told the answer.", IDLE)
def cancel_ignored() -> None:
    wrap(ServerActor, "_cancel", lambda _: lambda *_: None)


# ---------------------------------------------------------------- consume


@mutant("Readers that wait at the end of the log are never woken.", EVERY)
def readers_never_woken() -> None:
    wrap(ServerActor, "_wake_tailing", lambda _: lambda *_: None)


@mutant("Of the readers that wait at the end of the log one is woken at a time.", MANY_READERS)
def one_reader_woken() -> None:
    def make(original: Any) -> Any:
        def wake(self: ServerActor) -> None:
            readers = self._readers
            rest, readers._waiting = readers._waiting[1:], readers._waiting[:1]
            original(self)
            readers._waiting += rest

        return wake

    wrap(ServerActor, "_wake_tailing", make)


@mutant("Out of range, a reader is told that the log begins where it ends.", EVERY)
def wrong_first() -> None:
    def make(original: Any) -> Any:
        def out_of_range(self: ServerActor, consume: Any) -> RequestRefused:
            refused: RequestRefused = original(self, consume)
            return replace(refused, first=refused.end)

        return out_of_range

    wrap(ServerActor, "_out_of_range", make)


@mutant("Out of range, a reader is told that the log begins at 0, whatever retention took.", RETAINED)
def first_is_zero() -> None:
    def make(original: Any) -> Any:
        def out_of_range(self: ServerActor, consume: Any) -> RequestRefused:
            refused: RequestRefused = original(self, consume)
            return replace(refused, first=Offset(0))

        return out_of_range

    wrap(ServerActor, "_out_of_range", make)


@mutant("A stopping node leaves its waiting readers without an answer.", (STATIC,))
def stop_forgets_readers() -> None:
    def make(original: Any) -> Any:
        def on_stop(self: ServerActor) -> None:
            self._readers = TailingReaders()
            original(self)

        return on_stop

    wrap(ServerActor, "on_stop", make)


@mutant("A new leader takes what it knows to be committed for all that is.", LEADERS_DIE)
def claim_the_end() -> None:
    wrap(ServerActor, "_knows_end", lambda _: property(lambda _: True))
