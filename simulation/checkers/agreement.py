"""What the logs of several nodes must have in common when there is a leader."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.simulation.checkers.acknowledged import is_on_disk_of
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Index, Term

_PRUNE_EVERY = 1024


class LogMatching(EventChecker):
    """Compares every entry that reaches a disk with the first one seen with that term and index.

    Each entry carries a hash over itself and all before it, so comparing the whole past is one comparison.
    """

    name: ClassVar[str] = "log_matching"
    statement: ClassVar[str] = (
        "With somebody elected, entries of the same term and index are the same on every node, and so is all that "
        "comes before them (Raft section 5.3, the log matching property)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed
        self._first_seen: dict[tuple[Index, Term], tuple[Entry, NodeModel]] = {}
        self._until_pruning = _PRUNE_EVERY

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        for entry in self.model.fresh:
            known, holder = self._first_seen.setdefault((entry.index, entry.term), (entry, node))
            if known.crc != entry.crc:
                raise self.violated(f"{node.node_id} has {entry} where {holder.node_id} has {known}")
            if known.past != entry.past and known.past and entry.past:
                raise self.violated(f"{node.node_id} and {holder.node_id} both have {entry}, each behind another past")
        self._until_pruning -= len(self.model.fresh)
        if self._until_pruning < 0:
            self._until_pruning = _PRUNE_EVERY
            first = self.model.first_kept_index()
            if first:
                kept = {place: seen for place, seen in self._first_seen.items() if place[0] >= first}
                self._first_seen = kept


class CommittedAgree(EventChecker):
    """Follows every node's commit position over its log."""

    name: ClassVar[str] = "committed_agree"
    statement: ClassVar[str] = (
        "What one node holds for committed, a majority of the voters has on disk, every other node that has committed "
        "so far holds the same entries for it, and no node ever drops one of them."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {CommitAdvanced: self._on_committed}
        self.on_log = self._on_log_changed
        self._committed: dict[int, Entry] = {}
        self._first = 0
        self._end = 0

    def _on_committed(self, told: MessageTold) -> None:
        advanced = told.message
        assert isinstance(advanced, CommitAdvanced)
        node = self.model.receiver_of(told)
        if node is None or not node.is_elected or not node.log.opened or node.spoiled:
            return
        last = node.log.entry(advanced.committed.index - 1)
        if last is None:
            if advanced.committed.index > node.log.end.index:
                raise self.violated(
                    f"{node.node_id} holds {advanced.committed} for committed, and its log ends at {node.log.end}"
                )
            return
        if last.end_offset != advanced.committed.offset:
            raise self.violated(
                f"{node.node_id} holds {advanced.committed} for committed, and that index ends at offset "
                f"{last.end_offset}"
            )
        self._check_same(node, last)
        if last.index >= self._end:
            self._check_majority(node, last)
            self._extend(node, last)

    def _check_same(self, node: NodeModel, last: Entry) -> None:
        """Compare the last entry alone: equal pasts are equal prefixes."""
        known = self._committed.get(last.index)
        if known is not None and (known.crc != last.crc or (known.past != last.past and known.past and last.past)):
            raise self.violated(f"{node.node_id} holds {last} for committed, and another node {known}")

    def _check_majority(self, node: NodeModel, last: Entry) -> None:
        voters = self.model.voters_of(node)
        if not voters:
            return
        holders = [voter.node_id for voter in voters if is_on_disk_of(self.model, voter, last)]
        quorums = self.model.quorums_of(node, last.index)
        if not any(2 * sum(is_on_disk_of(self.model, voter, last) for voter in some) > len(some) for some in quorums):
            names = ", ".join(voter.node_id for voter in voters)
            raise self.violated(
                f"{node.node_id} holds {last} for committed, and of the voters {names} only "
                f"{', '.join(holders) or 'nobody'} has it on disk"
            )

    def _extend(self, node: NodeModel, last: Entry) -> None:
        for index in range(max(self._end, node.log.start.index), last.index + 1):
            entry = node.log.entry(index)
            if entry is not None:
                self._committed[index] = entry
        self._end = last.index + 1

    def _on_log_changed(self, node: NodeModel) -> None:
        model = self.model
        if not model.gone or not node.is_elected:
            return
        if model.is_retention:
            first = model.first_kept_index()
            for index in range(self._first, first):
                self._committed.pop(index, None)
            self._first = max(self._first, first)
            return
        if node.spoiled:
            return
        # A log that retention has overtaken at the leader starts again where the leader's does.
        overtaken = max(other.log.start.index for other in model.nodes.values())
        still_here = {entry.index for entry in model.fresh}
        for entry in model.dropped:
            committed = self._committed.get(entry.index)
            is_excused = entry.index < overtaken or entry.index in still_here
            if committed is not None and committed.crc == entry.crc and not is_excused:
                raise self.violated(f"{node.node_id} dropped {entry}, which is committed")
