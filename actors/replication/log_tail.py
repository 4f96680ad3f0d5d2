"""The end of a leader's log in memory: what it has written last, and what it is about to write.

A leader's followers need not wait for its disk (Raft dissertation section 10.2.1). The store says what it has
gathered before it writes it, and the replicator keeps the bytes: so a fetch that waits is answered while the leader's
own disk is at work, and nothing that was just written is read back. Nothing counts by standing here: not for the
commit position, in which the leader's disk counts when it has the entries, and not for readers.

It is kept by a leader only, in one term. If the leader goes down before it has written what stands here, a follower may
have that and the leader not. So a process that is started again must not lead in a term in which it has led before: it
would make other entries with the same index and term.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ourolog.actors.messages.store import BatchesGathered
from ourolog.storage.batch import EncodedBatch
from ourolog.storage.files import Part
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index

FETCHES_KEPT: Final = 4
"""How much is kept, in answers of the largest size: a follower further behind is served from the disk."""


class LogTail:
    """Batches that follow each other, each encoded as it is on disk or will be.

    Invariant: there is no gap between them. It may begin above the end of what is on disk: beyond `max_bytes` the
    oldest go. Entries in between can be sent when they are on disk.

    end: the position after the last batch; START while there is none.
    terms: the terms of the whole log up to there.
    """

    def __init__(self, max_bytes: int) -> None:
        """Begin empty.

        max_bytes: how much is kept; one batch is, however large.
        """
        self.end = START
        self.terms = TermHistory()
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._batches: deque[EncodedBatch] = deque()

    def __len__(self) -> int:
        """How many batches there are."""
        return len(self._batches)

    def clear(self) -> None:
        """Forget everything: this node does not lead any more, or in another term."""
        self._batches.clear()
        self._size_bytes = 0
        self.end, self.terms = START, TermHistory()

    def extend(self, gathered: BatchesGathered) -> None:
        """Take what is about to be written. If it does not follow what stands here, begin anew with it."""
        if gathered.first != self.end.index:
            self.clear()
        self._batches.extend(gathered.batches)
        self._size_bytes += sum(map(_size_of, gathered.batches))
        while self._size_bytes > self._max_bytes and len(self._batches) > 1:
            self._size_bytes -= _size_of(self._batches.popleft())
        self.end, self.terms = gathered.end, gathered.terms

    def holds(self, index: Index) -> bool:
        """Whether the entry at that index stands here."""
        return self.end.index - len(self._batches) <= index < self.end.index

    def read(self, index: Index, max_bytes: int) -> bytes:
        """Whole batches from that entry on, one at least and more while they fit, as the store would read them.

        index: of an entry that stands here.
        """
        assert self.holds(index), "what is not here is read from the disk"
        at = index - (self.end.index - len(self._batches))
        parts: list[Part] = []
        size_bytes = 0
        for number in range(at, len(self._batches)):
            batch = self._batches[number]
            size_bytes += _size_of(batch)
            if parts and size_bytes > max_bytes:
                break
            parts.extend(batch)
        return b"".join(parts)


def _size_of(batch: EncodedBatch) -> int:
    return len(batch[0]) + len(batch[1])
