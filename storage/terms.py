"""Which term wrote which part of the log, and who in that term.

The list of (term, first index) that Kafka calls the leader epoch cache (KIP-101), with the writer
of each term beside it. Term and index alone do not name an entry: two leaders that were decreed
for one term write two logs whose terms and indexes are the same. So an entry's place is its index,
its term, who made it, and in which epoch of its log; two logs that have an entry of the same place
have the same bytes there, and the same before it (Raft section 5.3, log matching).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from ourolog.storage.types import Index, NodeId, Term

Writer = tuple[NodeId, int]
"""Who made an entry, and the epoch of the log in which it did."""


class Place(NamedTuple):
    """What identifies an entry, besides its index. Places are equal or not; the writers of a term have no order."""

    term: Term
    writer: Writer


class LastEntry(NamedTuple):
    """How far a log reaches, as votes compare it: by term, then by length (Raft section 5.4.1).

    term: of the last entry, 0 for an empty log.
    index: the one after the last entry, 0 for an empty log.
    """

    term: Term
    index: Index  # type: ignore[assignment]  # hides tuple.index, which nobody needs here

    @classmethod
    def of(cls, last: Place | None, end: Index) -> LastEntry:
        """The last entry of a log.

        last: its place, None for a log that knows of none.
        end: the index after it.
        """
        return cls(last.term if last is not None else Term(0), end)


class Run(NamedTuple):
    """Entries of one place, back to back.

    term: their term.
    writer: the node that made them, and the epoch of its log.
    first: the index of the first of them that is known of.
    """

    term: Term
    writer: Writer
    first: Index

    @property
    def place(self) -> Place:
        return Place(self.term, self.writer)


def place_of(term: Term, path: tuple[NodeId, ...], origin_epoch: int) -> Place:
    """The place of a batch with these headers.

    In term 0 nobody is elected, and entries come from everywhere: the writer is the node whose
    log they stood in; its epoch is not known.
    """
    return Place(term, (path[0], origin_epoch) if term > 0 else (path[-1], 0))


@dataclass(frozen=True, slots=True)
class TermHistory:
    """The runs of a log, one for each term.

    Invariants: terms and indexes both ascend strictly. What a log that begins above 0 knows of the
    entry before its start is the run that begins there.
    """

    runs: tuple[Run, ...] = ()

    @classmethod
    def before(cls, start: Index, place: Place | None) -> TermHistory:
        """The history of an empty log that begins at `start`, behind an entry of that place if it is known."""
        return cls((Run(*place, Index(start - 1)),)) if place is not None and start > 0 else cls()

    @property
    def last_term(self) -> Term:
        return self.runs[-1].term if self.runs else Term(0)

    @property
    def last_place(self) -> Place | None:
        """The place of the last entry, None for a log that knows of none."""
        return self.runs[-1].place if self.runs else None

    def place_of(self, index: Index) -> Place | None:
        """The place of the entry at `index`; None below the first one known."""
        at = bisect_right(self.runs, index, key=_first)
        return self.runs[at - 1].place if at else None

    def term_of(self, index: Index) -> Term:
        """The term of the entry at `index`; 0 below the first one known."""
        place = self.place_of(index)
        return place.term if place is not None else Term(0)

    # ------------------------------------------------------------ where two logs part

    def parting(self, last: Place, log_end: Index) -> tuple[Place | None, Index]:
        """Leader: an upper bound of what a log whose last entry is of place `last` can share with this one.

        It is the place of the largest term here that is at most the other's, and the index after its
        last entry (Raft section 5.3, the fast backtracking; KIP-101, OffsetForLeaderEpoch). Where
        that is the same term by another writer, none of that term is shared, and the term below it
        counts. (None, first index) when nothing here is old enough.
        """
        at = bisect_right(self.runs, last.term, key=_term)
        if at and self.runs[at - 1].term == last.term and self.runs[at - 1].writer != last.writer:
            at -= 1
        if at == 0:
            return None, self.runs[0].first if self.runs else log_end
        return self.runs[at - 1].place, self._end_of(at - 1, log_end)

    def cut(self, leaders: Place | None, leaders_end: Index, log_end: Index) -> Index:
        """Follower: the index from which this log has to be cut, given the leader's `parting`.

        Always below `log_end`, which is above the first entry known, so that asking again comes to
        an end; and never below what the logs share. Proof: let the last entry they share be of term
        s. The leader's answer is at least s, since s is at most the last term here. If this log
        has the answer's run, that run and the leader's both reach the end of what is shared. If
        not, the answer is above s, and this log's largest term below the answer is at least s.
        """
        if leaders is None:
            return Index(0)
        at = bisect_left(self.runs, leaders.term, key=_term)
        if at < len(self.runs) and self.runs[at].place == leaders:
            cut = min(leaders_end, self._end_of(at, log_end))
        else:
            cut = self.runs[at].first if at < len(self.runs) else log_end
        if cut >= log_end:
            # The leader has that run elsewhere than this log: all of it is cut.
            return self.runs[-1].first if self.runs else Index(0)
        return cut

    def _end_of(self, at: int, log_end: Index) -> Index:
        return self.runs[at + 1].first if at + 1 < len(self.runs) else log_end

    # ------------------------------------------------------------ how it changes

    def with_entry(self, place: Place, index: Index) -> TermHistory:
        """The history with one more entry. Raises ValueError where it cannot follow, see `why_not_behind`."""
        if self.runs:
            last = self.runs[-1]
            if last.term == place.term and last.writer == place.writer:
                return self
            problem = why_not_behind(last.place, place)
            if problem is not None:
                raise ValueError(problem)
        return TermHistory((*self.runs, Run(*place, index)))

    def truncated(self, index: Index) -> TermHistory:
        """The history without the entries at `index` and above."""
        return TermHistory(tuple(run for run in self.runs if run.first < index))


def why_not_behind(last: Place | None, place: Place) -> str | None:
    """Why an entry cannot follow one of place `last`; None if it can."""
    if last is None or place.term > last.term:
        return None
    if place.term < last.term:
        return f"term {place.term} follows term {last.term}; terms never fall in a log"
    if place.writer != last.writer:
        return (
            f"{_say(place.writer)} made an entry of term {place.term}, and the one before it is of "
            f"{_say(last.writer)} in the same term: two nodes led it, or one with two disks"
        )
    return None


def _say(writer: Writer) -> str:
    return f"{writer[0]} (log of {writer[1]})" if writer[1] else writer[0]


def _first(run: Run) -> Index:
    return run.first


def _term(run: Run) -> Term:
    return run.term
