"""Bugs in the repair of damage, and in the scrub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ourolog.storage.reader
import ourolog.storage.repair
import ourolog.storage.scrub
from mutants.mutant import doing_nothing, mutant, wrap
from ourolog.actors.replication.repairs import Repairs as Asking
from ourolog.actors.store import StoreActor
from ourolog.storage.damage_walk import Step
from ourolog.storage.log import Log
from ourolog.storage.reader import LogReader
from ourolog.storage.repair import Repairs
from ourolog.storage.scrub import LogScrub, Scrubbed

ROTTEN = ("--election raft --nodes 4 --faults bit_rot", "--election raft --nodes 3 --faults bit_rot,kill")
"""Where disks rot, and little else is in the way."""
ROTTEN_PARTED = ("--election raft --nodes 4 --faults bit_rot,partition --operations 400",)
"""Where two nodes that are no majority have entries that are not committed."""


def _with_all_committed(method: str) -> None:
    """Let that part of the replicator take all that is on disk for committed."""

    def make(original: Any) -> Any:
        def mutated(self: Any, *arguments: Any) -> None:
            state = self._state
            committed, state.committed = state.committed, state.end
            try:
                original(self, *arguments)
            finally:
                state.committed = committed

        return mutated

    wrap(Asking, method, make)


@mutant(
    "Who is asked for a damaged entry sends it, committed or not.",
    ROTTEN_PARTED,
    equivalent="Whoever asks names the entry by its place, which no two share, and asks for nothing uncommitted.",
)
def repair_sends_uncommitted() -> None:
    _with_all_committed("on_asked")


@mutant("A damaged entry is asked for, and replaced, before it is known to be committed.", ROTTEN_PARTED)
def repair_copies_uncommitted() -> None:
    _with_all_committed("_ask_next")
    _with_all_committed("on_asked")


@mutant("A batch is repaired, and not synced.", ROTTEN)
def repaired_without_fsync() -> None:
    def make(original: Any) -> Any:
        def write(self: Any, segment: Any, at: int, batch: bytes) -> None:
            file = self._files.open(segment.log_path)
            kind = type(file)
            file.close()
            with doing_nothing(kind, "sync"):
                original(self, segment, at, batch)

        return write

    wrap(Repairs, "_write", make)


@mutant("A repair writes one byte more than the batch has.", ROTTEN)
def repair_writes_beyond() -> None:
    def make(original: Any) -> Any:
        def write(self: Any, segment: Any, at: int, batch: bytes) -> None:
            more = b"\0" if at + len(batch) < segment.size_bytes else b""
            original(self, segment, at, batch + more)

        return write

    wrap(Repairs, "_write", make)


@mutant("A repair writes the batch where the one behind it begins.", ROTTEN)
def repair_at_another_place() -> None:
    def make(original: Any) -> Any:
        def write(self: Any, segment: Any, at: int, batch: bytes) -> None:
            fits = at + 2 * len(batch) <= segment.size_bytes
            original(self, segment, at + len(batch) if fits else at, batch)

        return write

    wrap(Repairs, "_write", make)


@mutant("A damaged batch is read like any other, for readers, followers and repairs alike.", ROTTEN)
def damaged_batch_served() -> None:
    wrap(ourolog.storage.reader, "verify", lambda _: lambda *_: True)


@mutant("A copy that is damaged as well is sent to repair another, and is not checked there.", ROTTEN)
def repaired_from_damage() -> None:
    def make(original: Any) -> Any:
        def read(self: Any, index: Any, max_bytes: int, until: Any, end: Any) -> Any:
            reader: Any = ourolog.storage.reader
            checks = reader.verify
            if max_bytes == 0:
                reader.verify = lambda *_: True
            try:
                return original(self, index, max_bytes, until, end)
            finally:
                reader.verify = checks

        return read

    wrap(LogReader, "read_from_index", make)
    wrap(ourolog.storage.repair, "verify", lambda _: lambda *_: True)


@mutant("A repair for which somebody did not answer is never tried again.", ROTTEN[1:])
def repair_never_tried_again() -> None:
    wrap(Asking, "_wait", lambda _: lambda *_: None)


@mutant("The first replica that does not have a damaged entry is the last one that is asked.", ROTTEN)
def repair_asks_one() -> None:
    def make(original: Any) -> Any:
        def begin(self: Any, wanted: Any) -> None:
            others = self._replicas
            self._replicas = lambda: ([], others()[1] or others()[0][-1:])
            try:
                original(self, wanted)
            finally:
                del self._replicas

        return begin

    wrap(Asking, "_begin_round", make)


@mutant("Only the leader is asked for damaged entries, and only it answers.", ROTTEN)
def only_leaders_repair() -> None:
    def make(original: Any) -> Any:
        def asked(self: Any, received: Any) -> None:
            if self._state.leader_id == self._state.node_id:
                original(self, received)
            else:
                self._decline(received, f"{self._state.node_id} does not lead", is_final=True)

        return asked

    wrap(Asking, "on_asked", make)


def _walking(change: Any) -> None:
    """Let the scrub, and nothing else, walk the segments in another way."""
    wrap(ourolog.storage.scrub, "walk", change)


@mutant("The scrub looks only at the batches that an index names.", ROTTEN)
def scrub_trusts_the_index() -> None:
    def make(original: Any) -> Any:
        def walk(*arguments: Any) -> Iterator[Step]:
            for step in original(*arguments):
                if step.damage is None or step.byte_position == 0:
                    yield step

        return walk

    _walking(make)


@mutant("The scrub does not look at the last batch of a segment.", ROTTEN[:1])
def scrub_skips_the_last_batch() -> None:
    def make(original: Any) -> Any:
        def walk(*arguments: Any) -> Iterator[Step]:
            before = None
            for step in original(*arguments):
                if before is not None:
                    yield before
                before = step
            if before is not None and before.damage is None:
                yield before

        return walk

    _walking(make)


@mutant("The scrub leaves out the segment that is written to.", ROTTEN)
def scrub_skips_the_active_segment() -> None:
    def make(original: Any) -> Any:
        def step(self: LogScrub, max_bytes: int, synced: Any) -> Scrubbed:
            segment, _ = self._present()
            if segment is self._segments[-1]:
                self._reading = None
                return Scrubbed(segment.size_bytes, is_complete=True)
            return original(self, max_bytes, synced)  # type: ignore[no-any-return]

        return step

    wrap(LogScrub, "step", make)


@mutant("The scrub ends at the first damage that it meets.", ROTTEN)
def scrub_ends_at_damage() -> None:
    def make(original: Any) -> Any:
        def scrub(self: Any) -> None:
            found = self._damaged.found
            go_on = self._scrubber.go_on
            self._scrubber.go_on = lambda *told: None if self._damaged.found != found else go_on(*told)
            try:
                original(self)
            finally:
                del self._scrubber.go_on

        return scrub

    wrap(StoreActor, "_scrub", make)


@mutant("What the scrub finds is counted, and nobody is asked for it.", ROTTEN)
def scrub_repairs_nothing() -> None:
    def make(original: Any) -> Any:
        def scrub(self: Log, max_bytes: int) -> Scrubbed:
            scrubbed = original(self, max_bytes)
            return Scrubbed(scrubbed.read_bytes, is_complete=scrubbed.is_complete)

        return scrub

    wrap(Log, "scrub", make)
