"""How far the log is committed: what is on a majority of the voters' disks, according to their own fetches."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping

from ourolog.storage.control import VoterKey
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Position, Term

UNKNOWN = Index(0)
MAX_BOUNDARIES = 32_768
"""How many positions a node remembers between its commit position and its end, some 4 MiB."""


MAX_REPLACED_DISKS = 16
"""How many of a voter's earlier disks a leader remembers in one term."""


class Boundaries:
    """The positions between batches that are not committed yet, to turn an index into an offset.

    Invariants: ascending, and the last end is among them. What lay in the log before it was opened has
    one boundary, its end. A leader appends no more than the server allows (`max_uncommitted_entries`).
    A follower of leaders that come and go without a quorum would gather ever more, so
    beyond MAX_BOUNDARIES every second one is forgotten: the commit position then moves in larger steps.
    """

    def __init__(self) -> None:
        self._ends: list[Position] = []

    def __len__(self) -> int:
        return len(self._ends)

    def extend(self, ends: tuple[Position, ...]) -> None:
        self._ends.extend(ends)
        if len(self._ends) > MAX_BOUNDARIES:
            self._ends = self._ends[-1::-2][::-1]

    def cut(self, index: Index) -> None:
        """Forget those above `index`: the log was truncated there."""
        del self._ends[bisect_right(self._ends, index, key=_index) :]

    def highest(self, index: Index) -> Position | None:
        """The highest boundary at or below `index`."""
        at = bisect_right(self._ends, index, key=_index)
        return self._ends[at - 1] if at else None

    def forget(self, index: Index) -> None:
        """Drop those at or below `index`: they are committed."""
        del self._ends[: bisect_right(self._ends, index, key=_index)]


def _index(position: Position) -> Index:
    return position.index


def majority_index(voters: tuple[NodeId, ...], on_disk: Mapping[NodeId, Index]) -> Index:
    """The highest index below which everything is on a majority of the voters' disks (Raft section 5.3)."""
    if not voters:
        return UNKNOWN
    reached = sorted((on_disk.get(voter, UNKNOWN) for voter in voters), reverse=True)
    return reached[len(voters) // 2]


def everywhere_index(voters: tuple[NodeId, ...], on_disk: Mapping[NodeId, Index]) -> Index:
    """The highest index below which everything is on every voter's disk."""
    return min((on_disk.get(voter, UNKNOWN) for voter in voters), default=UNKNOWN)


class LeaderCommit:
    """The leader's view of its commit position, within one term of leadership."""

    def __init__(
        self,
        term: Term,
        voters: tuple[NodeId, ...],
        committed: Position = START,
        keys: frozenset[VoterKey] = frozenset(),
    ) -> None:
        """Begin with nothing counted, a leader's own disk included.

        voters: whose disks count.
        keys: the same with their disks; empty where any disk of a voter counts.
        """
        self.term = term
        self.voters = voters
        self.keys = keys
        self.committed = committed
        self.on_disk: dict[NodeId, Index] = {}
        self._epochs: dict[NodeId, int] = {}
        self._replaced: dict[NodeId, deque[int]] = {}

    def set_voters(self, voters: tuple[NodeId, ...], keys: frozenset[VoterKey]) -> None:
        """Count these from now on. What a disk has fetched that votes no more is forgotten."""
        for voter in self.voters:
            if voter not in voters or (keys and VoterKey(voter, self._epochs.get(voter, 0)) not in keys):
                self._epochs.pop(voter, None)
                self.on_disk.pop(voter, None)
        self.voters, self.keys = voters, keys

    def fetched(self, voter: NodeId, log_epoch: int, index: Index) -> bool:
        """Note a voter's fetch, which says that everything below `index` is on its disk. Returns whether it counts.

        log_epoch: which disk. It must be the one that votes, where that is known. If another disk has replaced it in
            this term, its late fetches do not count: what they report is gone.
        """
        if self.keys and VoterKey(voter, log_epoch) not in self.keys:
            return False
        replaced = self._replaced.setdefault(voter, deque(maxlen=MAX_REPLACED_DISKS))
        if log_epoch in replaced:
            return False
        present = self._epochs.setdefault(voter, log_epoch)
        if log_epoch != present:
            replaced.append(present)
            self._epochs[voter] = log_epoch
        self.on_disk[voter] = index
        return True

    def advance(self, terms: TermHistory, boundaries: Boundaries) -> bool:
        """Move `committed` up to what a majority has. True if it moved.

        Only an entry of the leader's own term commits, and everything before it (Raft section 5.4.2).
        """
        index = majority_index(self.voters, self.on_disk)
        if index <= self.committed.index:
            return False
        position = boundaries.highest(index)
        if position is None or position.index <= self.committed.index:
            return False
        if terms.term_of(Index(position.index - 1)) != self.term:
            return False
        boundaries.forget(position.index)
        self.committed = position
        return True


def why_commit_unknown(node_id: NodeId, term: Term) -> str:
    """The reason that a leader gives while no entry of its own term is committed yet (Raft section 8)."""
    return (
        f"{node_id} leads term {term}, and a majority of the voters has not copied what begins that term yet: "
        "until then it does not know how far its log is committed"
    )
