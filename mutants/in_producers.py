"""Bugs in what makes a batch that is sent again stand in the log once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ourolog.actors.server
import ourolog.storage.scan
from mutants.mutant import ORACLE, RAFT, mutant, wrap
from ourolog.actors.messages.server import Produce, RegisterProducer
from ourolog.actors.messages.store import AppendBatch, BatchAppended
from ourolog.actors.messages.values import Acks
from ourolog.actors.replication.pulls import Pulls
from ourolog.actors.requests.produces import OpenProduces
from ourolog.actors.server import ServerActor
from ourolog.actors.store import StoreActor
from ourolog.storage.batch import NewBatch
from ourolog.storage.log import Log
from ourolog.storage.producers import ProducerBatch, ProducerMemory, ProducerProblem, ProducerRefusal
from ourolog.storage.state import LogState
from ourolog.storage.types import Index

NUMBERED = ("--election raft --nodes 4 --faults kill,power_loss,partition,reply_lost --operations 800", *RAFT)
"""Where a producer often does not know what became of its batch, and leaders change."""
GATHERED = ("--election raft --nodes 4 --operations 800 --faults pause,slow_node,kill",)
"""Where much piles up before a node that stands still, and is then appended together."""
RETAINED = ("--election raft --nodes 4 --operations 800 --faults disk_lost,kill,stop",)
"""Where retention removes what is still remembered, and disks that are empty are filled from behind that."""


@mutant("A follower remembers no producers, and so the next leader appends what is sent again.", NUMBERED)
def producers_lost_with_failover() -> None:
    # The registrations are remembered; what was appended under them is not.
    wrap(ourolog.storage.scan, "_produced", lambda _: lambda *_: None)


@mutant("Snapshots and checkpoints hold no producers, so what retention has removed is forgotten.", NUMBERED)
def producers_lost_with_retention() -> None:
    def make(original: Any) -> Any:
        def encode(self: LogState) -> Any:
            return {**original(self), "producers": ""}

        return encode

    wrap(LogState, "encode", make)


@mutant("A log that begins anew forgets what its leader remembers of producers.", RETAINED)
def producers_lost_with_reset() -> None:
    def make(original: Any) -> Any:
        def reset(self: Log, start: Any, before: Any = None, voters: Any = None, *_: bytes) -> None:
            original(self, start, before, voters)

        return reset

    wrap(Log, "reset", make)


@mutant("A truncation leaves the memory of producers as it was.", (*NUMBERED, ORACLE))
def producers_not_rolled_back() -> None:
    def make(original: Any) -> Any:
        def truncate(self: Log, index: Index) -> None:
            memory = self._state.producers
            original(self, index)
            self._state.producers = memory

        return truncate

    wrap(Log, "truncate", make)


@mutant("What is sent again is appended again, and acknowledged at its new offset.", NUMBERED)
def duplicate_appended() -> None:
    def make(original: Any) -> Any:
        def judge(self: Log, batch: NewBatch) -> Any:
            verdict = original(self, batch)
            return verdict if isinstance(verdict, ProducerRefusal) else None

        return judge

    wrap(Log, "judge", make)


@mutant("What is sent again is acknowledged at once, though its first copy is not committed yet.", NUMBERED)
def duplicate_answered_before_commit() -> None:
    def make(original: Any) -> Any:
        def on_appended(self: ServerActor, appended: BatchAppended) -> None:
            if appended.is_duplicate:
                for pending in self._produces.in_append(appended.request_id):
                    pending.acks = Acks.LEADER
            original(self, appended)

        return on_appended

    wrap(ServerActor, "_on_appended", make)


@mutant("An id that is not remembered is taken for a new producer's, whatever the number.", NUMBERED)
def unknown_producer_accepted() -> None:
    accept(ProducerProblem.EXPIRED)


@mutant("A batch is appended though the one before it is missing.", NUMBERED)
def gap_accepted() -> None:
    accept(ProducerProblem.GAP)


@mutant("A batch that is older than what is remembered is taken for a new one.", NUMBERED)
def forgotten_accepted() -> None:
    accept(ProducerProblem.FORGOTTEN)


def accept(problem: ProducerProblem) -> None:
    def make(original: Any) -> Any:
        def judge(self: ProducerMemory, *batch: int) -> Any:
            verdict = original(self, *batch)
            is_refused = isinstance(verdict, ProducerRefusal) and verdict.problem is problem
            return None if is_refused else verdict

        return judge

    wrap(ProducerMemory, "judge", make)


@mutant("Producers expire by the clock of the node that is asked.", NUMBERED)
def producers_expire_by_local_clock() -> None:
    def make(original: Any) -> Any:
        def append(self: StoreActor, message: AppendBatch) -> None:
            self.log.producers.passed(self.ports.clock.wall_ms())
            original(self, message)

        return append

    wrap(StoreActor, "_append_batch", make)


@mutant("An id is given out before the entry that registers its producer is committed.", NUMBERED)
def registration_answered_before_commit() -> None:
    def make(original: Any) -> Any:
        def on_receive(self: ServerActor, message: Any) -> None:
            if isinstance(message, RegisterProducer):
                registration = ourolog.actors.server._REGISTRATION
                pending_before = set(self._produces._open)
                original(self, message)
                for key in set(self._produces._open) - pending_before:
                    pending = self._produces._open[key]
                    assert pending.batch is registration
                    pending.acks = Acks.LEADER
            else:
                original(self, message)

        return on_receive

    wrap(ServerActor, "on_receive", make)


@mutant("Batches that producers numbered are merged with what waits beside them.", NUMBERED)
def numbered_merged() -> None:
    def make(original: Any) -> Any:
        def flush(self: OpenProduces) -> Any:
            waiting = [pending for pending in self._unflushed if pending.batch is not None]
            if len(waiting) > 1:
                for pending in waiting[1:]:
                    assert pending.batch is not None
                    if pending.batch.producer_id:
                        pending.batch = replace(pending.batch, producer_id=0, producer_sequence=0)
            return original(self)

        return flush

    wrap(OpenProduces, "flush", make)


@mutant("What is sent again is looked for in what is written, and not in what is only appended.", GATHERED)
def judged_by_what_is_written() -> None:
    def make(original: Any) -> Any:
        def judge(self: Log, batch: NewBatch) -> Any:
            verdict = original(self, batch)
            is_written = isinstance(verdict, ProducerRefusal) or verdict is None or verdict.index < self.end.index
            return verdict if is_written else None

        return judge

    wrap(Log, "judge", make)


@mutant("Producers that are silent for long stay, however many there are.", NUMBERED)
def silent_producers_kept() -> None:
    def make(original: Any) -> Any:
        def registered(self: ProducerMemory, index: Index, timestamp_ms: int) -> None:
            oldest = next(iter(self._producers.values()), None)
            original(self, index, timestamp_ms)
            if oldest is not None and oldest.producer_id not in self._producers:
                self._producers[oldest.producer_id] = oldest
                self._producers.move_to_end(oldest.producer_id, last=False)

        return registered

    wrap(ProducerMemory, "registered", make)


@mutant("What is sent again is answered with the place of the oldest batch that is remembered.", NUMBERED)
def duplicate_at_oldest_place() -> None:
    def make(original: Any) -> Any:
        def judge(self: ProducerMemory, *batch: int) -> Any:
            verdict = original(self, *batch)
            if isinstance(verdict, ProducerBatch):
                return next(iter(self._producers[batch[0]].batches))
            return verdict

        return judge

    wrap(ProducerMemory, "judge", make)


@mutant("With acks=leader a numbered batch is acknowledged by the leader alone.", NUMBERED)
def numbered_by_leader_alone() -> None:
    def make(original: Any) -> Any:
        def produce(self: ServerActor, message: Produce) -> None:
            original(self, message)
            if message.batch.producer_id:
                for pending in self._produces:
                    if pending.reply_to is message.reply_to and pending.request_id == message.request_id:
                        pending.acks = Acks.LEADER

        return produce

    wrap(ServerActor, "_produce", make)


@mutant("Who begins anew is told nothing of the producers that its leader remembers.", RETAINED)
def producers_not_sent() -> None:
    def make(original: Any) -> Any:
        def reconcile(self: Pulls, pull: Any, response: Any, answer: Any) -> None:
            original(self, pull, replace(response, producers_before_start=b""), answer)

        return reconcile

    wrap(Pulls, "_reconcile", make)
