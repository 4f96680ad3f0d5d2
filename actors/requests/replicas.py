"""Whose disks have what a node has appended: what its replicator has told, for answers to produces."""

from __future__ import annotations

from ourolog.actors.config import Fsync, NodeConfig
from ourolog.actors.messages.events import ReplicasAdvanced
from ourolog.storage.types import Index, NodeId, Term


class Replicas:
    """What a leader knows of its voters' disks in its present term; a node that leads nobody knows of its own only."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._known = ReplicasAdvanced(Term(0), Index(0))

    def begin_term(self, term: Term) -> None:
        """Forget what was told before that term, since a voter may have dropped entries."""
        if self._known.term < term:
            self._known = ReplicasAdvanced(term, Index(0))

    def advanced(self, news: ReplicasAdvanced) -> bool:
        """Take news of the present term or a later one. Returns whether more may be acknowledged by all."""
        is_more = news.index > self._known.index or news.term > self._known.term
        self._known = news
        return is_more

    def all_have(self, index: Index) -> bool:
        """Whether the entry at that index is on all disks that acks=all asks for."""
        return index < self._known.index

    def that_have(self, index: Index) -> tuple[NodeId, ...]:
        """The nodes whose disks have the entry at that index, which this node has written; sorted by name."""
        names = {node_id for node_id, end in self._known.ends if index < end}
        if self._config.fsync is Fsync.ALWAYS:
            names.add(self._config.node_id)  # what it writes is on its disk before anybody hears of it
        return tuple(sorted(names))

    def why_not_all(self, index: Index) -> str:
        """What keeps the entry at that index from being acknowledged by all, as part of a sentence."""
        have = self.that_have(index)
        voters = [node_id for node_id, _ in self._known.ends]
        missing = [voter for voter in voters if voter not in have]
        wanted = self._config.min_in_sync
        parts = [f"{_listed(missing)} {'does' if len(missing) == 1 else 'do'} not have it yet"] if missing else []
        if wanted is not None and len(voters) < wanted:
            voting = f"there {'is 1 voter' if len(voters) == 1 else f'are {len(voters)} voters'} only"
            parts.append(f"--min-in-sync asks for {wanted}, and {voting}")
        elif wanted is not None and missing:
            late = [voter for voter in missing if voter in self._known.in_sync]
            parts.append(
                f"{_listed(late)} {'is' if len(late) == 1 else 'are'} in sync"
                if late
                else f"--min-in-sync asks for {wanted}"
            )
        return "; ".join(parts)

    def why_no_quorum(self, index: Index) -> str:
        """Which voters keep the entry at that index from being committed, as part of a sentence."""
        have = self.that_have(index)
        missing = [node_id for node_id, _ in self._known.ends if node_id not in have]
        return f"{_listed(missing)} {'does' if len(missing) == 1 else 'do'} not have it yet" if missing else ""


def _listed(names: list[NodeId]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)
