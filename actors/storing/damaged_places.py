"""Damaged places of the log, from when they are found until they are repaired, and the reads that wait for that.

Where somebody is elected other replicas have the same batches. A damaged one is asked for, and reads that met it wait
a bounded time; reads of other places go on. Where nobody is elected each log is a log of its own, and nobody else
can have what was lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import WarningKind
from ourolog.actors.messages.repair import DamagedReadsExpired, DamageFound, RepairAbandoned
from ourolog.actors.messages.store import ReadBatches, ReadProblem, StoreMessage
from ourolog.actors.ports import Ports, Timer
from ourolog.storage.errors import DamagedLogError
from ourolog.storage.log import Log
from ourolog.storage.types import Index, NodeId

MAX_PLACES: Final = 1024
"""How many damaged places are remembered; what is beyond is found again by whoever reads it."""

MAX_ASKED: Final = 16
"""How many of them are asked for at once."""

MAX_WAITING_READERS: Final = 8
"""How many clients' reads wait for repairs; the edge has few reads under way at once, and others must go on."""


@dataclass(frozen=True, slots=True)
class _WaitingRead:
    read: ReadBatches
    deadline_s: float


@dataclass(slots=True)
class _Place:
    """One damaged batch.

    damage: where it is, and what is wrong with it.
    is_asked: whether the replicator is asking for it.
    why_not: why nobody can have it, as was found out last; "" if that is not known.
    is_given_up: whether it was warned of that nobody can have it.
    ask_again_s: when it is worth asking again, by the monotonic clock.
    """

    damage: DamagedLogError
    is_asked: bool = False
    why_not: str = ""
    is_given_up: bool = False
    ask_again_s: float = -inf
    waiting: list[_WaitingRead] = field(default_factory=list)


class DamagedPlaces:
    """All damaged places of one log. It is told what was found and repaired, and tells who has to know.

    found, repaired: how many places there were since the node started.
    """

    def __init__(
        self,
        ports: Ports,
        me: Mailbox[StoreMessage],
        replicator: Mailbox[DamageFound],
        *,
        is_elected: bool,
        warn: Callable[[WarningKind, str, NodeId], None],
        read: Callable[[ReadBatches], None],
        refuse: Callable[[ReadBatches, ReadProblem, str], None],
    ) -> None:
        """Prepare for a log without damage.

        is_elected: whether other nodes have the same log.
        warn: warns of a kind, with a sentence, about another node or "".
        read: carries out a read that has waited.
        refuse: refuses one, with a sentence.
        """
        self.found = 0
        self.repaired = 0
        self._ports = ports
        self._me = me
        self._replicator = replicator
        self._is_elected = is_elected
        self._warn = warn
        self._read = read
        self._refuse = refuse
        self._places: dict[Index, _Place] = {}
        self._expiry: Timer | None = None
        self._expiry_s = inf

    def meet(self, read: ReadBatches, damage: DamagedLogError) -> None:
        """Let a read that met damage wait for the repair, or refuse it."""
        place = self.find(damage)
        if place.why_not and not place.is_asked:
            self._refuse(read, ReadProblem.DAMAGED, self._beyond_repair(place))
            return
        if read.repair_wait_s <= 0 or (read.offset is not None and self._waiting_readers >= MAX_WAITING_READERS):
            self._refuse(read, ReadProblem.REPAIRING, _being_repaired(damage))
            return
        place.waiting.append(_WaitingRead(read, self._ports.clock.monotonic_s() + read.repair_wait_s))
        self._watch()

    def find(self, damage: DamagedLogError) -> _Place:
        """Note damage, and see to it that it is repaired; a place that is known already is asked for again in time."""
        place = self._places.get(damage.index)
        if place is None:
            self.found += 1
            self._warn(WarningKind.DAMAGED, _what_happens(damage) if self._is_elected else str(damage), NodeId(""))
            place = _Place(damage, why_not="" if self._is_elected else "each node has a log of its own")
            if len(self._places) < MAX_PLACES:
                self._places[damage.index] = place
        self._ask_for(place)
        return place

    def _ask_for(self, place: _Place) -> None:
        is_due = place.ask_again_s <= self._ports.clock.monotonic_s()
        asked = sum(other.is_asked for other in self._places.values())
        if self._is_elected and not place.is_asked and is_due and asked < MAX_ASKED:
            place.is_asked = True
            self._replicator.tell(DamageFound(place.damage.index, place.damage.offset))

    def _ask_for_others(self) -> None:
        """One place less is asked for: those that had no turn yet may have it now."""
        for index in sorted(self._places):
            if not self._places[index].why_not:
                self._ask_for(self._places[index])

    @property
    def _waiting_readers(self) -> int:
        return sum(waiting.read.offset is not None for place in self._places.values() for waiting in place.waiting)

    def note_rebuilt(self, text: str) -> None:
        """Note that a file was damaged, and was made again from what is here."""
        self.found += 1
        self.repaired += 1
        self._warn(WarningKind.REPAIRED, text, NodeId(""))

    def note_lost(self, text: str) -> None:
        """Note that a file is damaged, and cannot be made again."""
        self.found += 1
        self._warn(WarningKind.DAMAGED, text, NodeId(""))

    # ------------------------------------------------------------ what becomes of a place

    def mend(self, index: Index, source_id: NodeId, path: str, position_bytes: int) -> None:
        """Note that the entry was replaced by what that node sent, at that byte of that file."""
        self.repaired += 1
        text = f"{path}: the batch at byte {position_bytes} (index {index}) was replaced by the copy of {source_id}"
        self._warn(WarningKind.REPAIRED, text, source_id)
        self.forget(index)

    def forget(self, index: Index) -> None:
        """The entry is good, or not in the log any more: carry out what waits for it."""
        place = self._places.pop(index, None)
        if place is not None:
            for waiting in place.waiting:
                self._read(waiting.read)
            self._ask_for_others()

    def abandon(self, abandoned: RepairAbandoned) -> None:
        """Nobody can have it: refuse what waits for it, and ask again later at the earliest."""
        place = self._places.get(abandoned.index)
        if place is None:
            return
        place.is_asked, place.why_not = False, abandoned.reason
        place.ask_again_s = self._ports.clock.monotonic_s() + abandoned.again_after_s
        if not place.is_given_up:
            place.is_given_up = True
            self._warn(WarningKind.DAMAGED, self._beyond_repair(place), NodeId(""))
        waiting, place.waiting = place.waiting, []
        for read in waiting:
            self._refuse(read.read, ReadProblem.DAMAGED, self._beyond_repair(place))
        self._ask_for_others()

    def look_again(self, log: Log) -> None:
        """The log was cut, or lost its beginning: forget what is not in it any more."""
        for index in [index for index in self._places if not log.start.index <= index < log.end.index]:
            self.forget(index)

    def _beyond_repair(self, place: _Place) -> str:
        if not self._is_elected:
            return str(place.damage)
        return (
            f"{place.damage.where}. Nothing was cut off. It cannot be repaired from another replica: {place.why_not}. "
            "Restore the file from a backup; keep this data directory, since the rest of it can be read"
        )

    # ------------------------------------------------------------ waiting

    def _watch(self) -> None:
        """Have the read whose time is up first refused then."""
        deadlines_s = (waiting.deadline_s for place in self._places.values() for waiting in place.waiting)
        deadline_s = min(deadlines_s, default=inf)
        if deadline_s < self._expiry_s:
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry_s = deadline_s
            wait_s = max(0.0, deadline_s - self._ports.clock.monotonic_s())
            self._expiry = self._ports.timers.after(wait_s, self._me, DamagedReadsExpired())

    def expire(self) -> None:
        """Refuse the reads whose time is up; another node may have what they want."""
        self._expiry, self._expiry_s = None, inf
        self._refuse_due(self._ports.clock.monotonic_s())
        self._watch()

    def stop(self) -> None:
        """Refuse all reads that wait: the node stops."""
        self._refuse_due(inf)

    def _refuse_due(self, now_s: float) -> None:
        for place in self._places.values():
            due = [waiting for waiting in place.waiting if waiting.deadline_s <= now_s]
            place.waiting = [waiting for waiting in place.waiting if waiting.deadline_s > now_s]
            for waiting in due:
                self._refuse(waiting.read, ReadProblem.REPAIRING, _being_repaired(place.damage))


def _what_happens(damage: DamagedLogError) -> str:
    return f"{damage.where}. Nothing was cut off; the batch is fetched again from another replica"


def _being_repaired(damage: DamagedLogError) -> str:
    return (
        f"the batch at index {damage.index} (from offset {damage.offset} on) is damaged here and is fetched again from "
        "another replica; read from another node, or try again shortly"
    )
