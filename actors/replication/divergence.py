"""Where a follower's log and its leader's part, decided by the places of entries; no ports, no state.

A fetch names the place of the follower's last entry. If the leader has that entry, the
logs are the same up to there. If not, it answers with an upper bound of what they can share, and the follower
cuts its log there and asks again (Raft section 5.3; KIP-595, diverging epoch). See `ourolog.storage.terms` for why
that terminates, and never cuts below what the logs do share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from ourolog.storage.terms import Place, TermHistory
from ourolog.storage.types import Index, Position


@dataclass(frozen=True, slots=True)
class LogExtent:
    """A log as leader and follower reason about it."""

    start: Position
    end: Position
    terms: TermHistory

    @property
    def last(self) -> Place | None:
        """The place of the entry before `end`, whether or not this log still holds it. None if unknown."""
        return self.terms.place_of(Index(self.end.index - 1)) if self.end.index > 0 else None

    @property
    def before(self) -> Place | None:
        """The place of the entry before `start`, None if unknown."""
        return self.terms.place_of(Index(self.start.index - 1)) if self.start.index > 0 else None


@dataclass(frozen=True, slots=True)
class Agrees:
    """The logs are the same below the index that was asked for: what follows can be copied."""


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The leader's log begins above what was asked for, or exactly there and the leader cannot tell whether it fits."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """The logs differ below the index that was asked for; see `TermHistory.parting`."""

    place: Place | None
    end: Index


def compare(
    leader: LogExtent, next_index: Index, last: Place | None, committed: Index
) -> Agrees | OutOfRange | Diverged:
    """Leader: how its log relates to one that ends at `next_index` with an entry of place `last`.

    A log that knows of no last entry is empty, though it may begin above 0: nothing in it can differ.
    With its checkpoints lost, a leader does not know what stood before its own start. All of that was
    committed (retention removes nothing else), and so is the same in every log that holds it as committed.

    committed: up to where that log knows its entries to be committed.
    """
    if next_index < leader.start.index:
        return OutOfRange()
    if next_index > leader.end.index:
        return Diverged(None, leader.end.index) if last is None else Diverged(*_parting(leader, last))
    if next_index == 0 or last is None:
        return Agrees()
    known = leader.terms.place_of(Index(next_index - 1))
    if known == last:
        return Agrees()
    if known is None:
        return Agrees() if committed >= next_index else OutOfRange()
    return Diverged(*_parting(leader, last))


def _parting(leader: LogExtent, last: Place) -> tuple[Place | None, Index]:
    return leader.terms.parting(last, leader.end.index)


@dataclass(frozen=True, slots=True)
class Truncate:
    """Drop the entries from `index` on, and ask again."""

    index: Index


@dataclass(frozen=True, slots=True)
class Restart:
    """Drop everything and begin where the leader's log does."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not follow: the leader lacks entries from `index` on that were committed."""

    index: Index


def reconcile(
    own: LogExtent, committed: Index, leaders_start: Index, answer: Diverged | OutOfRange
) -> Truncate | Restart | Refuse:
    """Follower: what to do about such an answer. Never drops what is committed.

    What the leader has removed below its start was committed (retention removes nothing else), and
    therefore everything that was committed here below that.
    """
    match answer:
        case OutOfRange():
            cut = Index(0)
        case Diverged():
            cut = own.terms.cut(answer.place, answer.end, own.end.index)
        case _:
            assert_never(answer)
    if max(cut, leaders_start) < committed:
        return Refuse(cut)
    # Copying can go on neither from below the leader's start nor from below our own.
    return Restart() if cut < leaders_start or cut < own.start.index else Truncate(cut)
