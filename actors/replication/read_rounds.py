"""Rounds of reads: how a leader makes sure, without a clock, that nobody has taken over before a read began.

What a leader knows to be committed may be out of date: a later one may have committed more, and it has not heard of
that yet. So a read of the latest state waits until a majority of the voters has shown that it had not gone over to
a later term when the read began (Raft section 8; the dissertation's section 6.4). Nothing new is sent for that. A
round of reads has a number, which is in every answer to a fetch from the moment on at which the round is opened, and
voters echo in each fetch the number that they saw last. So

1. who echoes a number sent that fetch after the round was opened, and was in this leader's term then;
2. a node's term never falls, so it had not fetched in a later term before;
3. if a majority echoes, no later leader had a majority on disk before, and so had committed nothing: all that was
   committed when the round was opened, this leader had committed itself.

That a fetch *arrives* after the read began proves nothing, since it may have been sent long before, and its sender may
have followed another leader since. For the same reason a fetch counts when it arrives, not when it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ourolog.storage.types import Index, NodeId

R = TypeVar("R")


@dataclass(slots=True)
class _Round(Generic[R]):
    """The reads that wait for the same echoes.

    committed: the leader's commit index when it was opened, or later.
    """

    committed: Index
    reads: dict[R, None]
    echoed_by: set[NodeId] = field(default_factory=set)


class ReadRounds(Generic[R]):
    """The rounds of one leader in one term: one is open at a time, and who comes meanwhile waits for the next.

    number: that of the round opened last, 0 if there was none.
    """

    def __init__(self, leader_id: NodeId, draw_first: Callable[[], int]) -> None:
        """Prepare for the first round.

        draw_first: gives its number, which no voter can have seen from this leader: it may have led in the same
            term before it was started again.
        """
        self.number = 0
        self._leader_id = leader_id
        self._draw_first = draw_first
        self._open: _Round[R] | None = None
        self._next: dict[R, None] = {}

    @property
    def is_open(self) -> bool:
        """Whether a round waits for echoes."""
        return self._open is not None

    def join(self, read: R) -> None:
        """Have this read wait for the next round that is opened."""
        self._next[read] = None

    def forget(self, read: R) -> None:
        """Nobody waits for this read any more."""
        self._next.pop(read, None)
        if self._open is not None:
            self._open.reads.pop(read, None)

    def open(self, committed: Index) -> bool:
        """Open a round for the reads that wait. False if none waits, or a round is open already.

        committed: the commit index now; an entry of the leader's own term must be committed.
        """
        if self._open is not None or not self._next:
            return False
        self.number = self.number + 1 if self.number else self._draw_first()
        self._open, self._next = _Round(committed, self._next), {}
        return True

    def echo(self, voter: NodeId, number: int) -> None:
        """A voter's fetch in this term has arrived, with the number that it saw last."""
        if self._open is not None and number == self.number:
            self._open.echoed_by.add(voter)

    def keep(self, voters: Sequence[NodeId]) -> None:
        """Forget the echoes of all others: a node that votes again later may have another disk by then."""
        if self._open is not None:
            self._open.echoed_by.intersection_update(voters)

    def silent(self, voters: Sequence[NodeId]) -> tuple[NodeId, ...]:
        """The voters that have not echoed the open round. The leader itself need not."""
        echoed_by = self._open.echoed_by if self._open is not None else set()
        return tuple(voter for voter in voters if voter not in echoed_by and voter != self._leader_id)

    def confirmed(self, voters: Sequence[NodeId]) -> tuple[Index, tuple[R, ...]] | None:
        """End the open round if a majority of these voters has echoed it; the index that it confirms, and its reads."""
        if self._open is None or 2 * len(self.silent(voters)) >= len(voters):
            return None
        ended, self._open = self._open, None
        return ended.committed, tuple(ended.reads)
