"""Which term wrote which part of the log.

The list of (term, first index) that Kafka calls the leader epoch cache (KIP-101): enough to say
the term of any entry, and where a follower's log parts from the leader's.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from storage.types import Index, Term


@dataclass(frozen=True, slots=True)
class TermHistory:
    """The terms of a log in ascending order, each with its first index there.

    Invariants: terms and indices both ascend strictly.
    """

    starts: tuple[tuple[Term, Index], ...] = ()

    @property
    def last_term(self) -> Term:
        return self.starts[-1][0] if self.starts else Term(0)

    def term_of(self, index: Index) -> Term:
        """The term of the entry at `index`; 0 below the first known entry."""
        at = bisect_right(self.starts, index, key=lambda start: start[1])
        return self.starts[at - 1][0] if at else Term(0)

    def end_of(self, term: Term, log_end: Index) -> tuple[Term, Index]:
        """The largest term here that is at most `term`, and the index after its last entry.

        A follower whose last entry is of `term` cannot agree with this log beyond that index
        (Raft section 5.3, the fast backtracking; KIP-101, OffsetForLeaderEpoch). (0, first
        index) when every term here is larger.
        """
        at = bisect_right(self.starts, term, key=lambda start: start[0])
        if at == 0:
            return Term(0), self.starts[0][1] if self.starts else log_end
        end = self.starts[at][1] if at < len(self.starts) else log_end
        return self.starts[at - 1][0], end

    def with_entry(self, term: Term, index: Index) -> TermHistory:
        """With an entry appended. Raises ValueError if the term fell."""
        if term == self.last_term and self.starts:
            return self
        if self.starts and term < self.last_term:
            raise ValueError(f"term {term} after {self.last_term}: terms never fall in a log")
        return TermHistory((*self.starts, (term, index)))

    def truncated(self, index: Index) -> TermHistory:
        """Without the entries at `index` and above."""
        return TermHistory(tuple(start for start in self.starts if start[1] < index))

    def starting_at(self, index: Index) -> TermHistory:
        """Without what retention removed below `index`; the term that spans it starts there."""
        at = bisect_right(self.starts, index, key=lambda start: start[1])
        if at == 0:
            return self
        return TermHistory(((self.starts[at - 1][0], index), *self.starts[at:]))
