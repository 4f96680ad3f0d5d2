"""Who votes, by what each store has said of its log: for the people of a run, who need not ask the nodes."""

from __future__ import annotations

from collections.abc import Iterable

from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened
from ourolog.storage.control import VoterKey, VoterSet
from ourolog.storage.types import NodeId


class KnownSets:
    """The last two sets of voters that each log names, and with which disk each node is."""

    def __init__(self) -> None:
        self._named: dict[NodeId, list[VoterSet]] = {}
        self._epochs: dict[NodeId, int] = {}

    def note(self, node_id: NodeId, told: LogOpened | LogAppended | LogCut) -> None:
        """Note what a node's store has said."""
        named = self._named.setdefault(node_id, [])
        if isinstance(told, LogOpened):
            self._epochs[node_id] = told.log_epoch
            named[:] = [told.voters_replaced] if told.voters_replaced is not None else []
        voters = told.voters
        while named and (voters is None or named[-1].index > voters.index):
            named.pop()
        if voters is not None and (not named or named[-1] != voters):
            named.append(voters)
            del named[:-2]

    def lost(self, node_id: NodeId) -> None:
        """The node has another disk from now on, and nobody knows yet which."""
        self._named.pop(node_id, None)
        self._epochs.pop(node_id, None)

    def key_of(self, node_id: NodeId) -> VoterKey:
        """The node with its present disk; with epoch 0 while that is not known."""
        return VoterKey(node_id, self._epochs.get(node_id, 0))

    @property
    def in_force(self) -> list[tuple[VoterKey, ...]]:
        """Every set that may be in force: the last two of each log. Empty before a log names any."""
        found: dict[tuple[VoterKey, ...], None] = {}
        for node_id in sorted(self._named):
            for voters in self._named[node_id]:
                found[voters.keys] = None
        return list(found)

    @property
    def newest(self) -> list[tuple[VoterKey, ...]]:
        """The last set that any log names, and the one before it there; empty before a log names any."""
        logs = [named for node_id, named in sorted(self._named.items()) if named]
        if not logs:
            return []
        last = max(logs, key=lambda named: (named[-1].term, named[-1].index))
        return [voters.keys for voters in reversed(last)]

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """Who is named last, () before a log names anybody."""
        newest = self.newest
        return tuple(key.node_id for key in newest[0]) if newest else ()

    def has_lost_another(self, node_id: NodeId) -> bool:
        """Whether a voter besides that one has lost the disk with which the newest sets name it."""
        return any(key.node_id != node_id and self.key_of(key.node_id) != key for keys in self.newest for key in keys)

    def with_majority(self, chosen: Iterable[NodeId], names: Iterable[NodeId]) -> set[NodeId]:
        """Those, and as many of `names`, in their order, as make a majority of the newest sets by disks that vote."""
        core = {self.key_of(name) for name in chosen}
        keys = [self.key_of(name) for name in names]
        for voters in self.newest:
            fit = [key for key in keys if key in voters and key not in core]
            enough = len(voters) // 2 + 1 - len(core.intersection(voters))
            core.update(fit[: max(0, enough)])
        return {key.node_id for key in core}
