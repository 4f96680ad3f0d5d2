"""How many copies there are of what is committed, and of what was acknowledged by all, from then on."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.server import Produce, Produced, RequestRefused
from ourolog.actors.messages.store import LogTruncated
from ourolog.actors.messages.values import Acks
from ourolog.simulation.checkers.acknowledged import is_on_disk, is_on_disk_of
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.voter_changes import set_in
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId

_MAX_OPEN: Final = 10_000


class CopiesKept(EventChecker):
    """Counts copies on the disks of the voters that logs name, whenever there is more to count, and when any is gone.

    counted: how often copies were counted.
    named: how often an answer to acks=all has named a disk.
    """

    name: ClassVar[str] = "copies_kept"
    statement: ClassVar[str] = (
        "From when a leader has said that an entry is committed, it and all before it are at every moment on the disks "
        "of a majority of the voters: of the last set that is committed, or of one that the leader had appended behind "
        "that. Each disk that an answer to acks=all has named keeps that entry and all before it. Retention removes "
        "nothing without which less than `retention_bytes` would be left; what it has removed counts as there, and so "
        "does what a fault took from a disk that had it (disk_lost, old_disk, fsync_lies, or bit_rot until it is "
        "repaired)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            CommitAdvanced: self._on_committed,
            Produce: self._on_produce,
            Produced: self._on_produced,
            RequestRefused: self._on_refused,
            LogTruncated: self._on_truncated,
        }
        self.on = {NodeStarted: self._on_started}
        self.on_log = self._on_log_changed
        self.counted = 0
        self.named = 0
        self._last: Entry | None = None
        self._set: tuple[VoterKey, ...] = ()
        self._quorums: list[tuple[VoterKey, ...]] = []
        self._open: OrderedDict[tuple[NodeId, int], Acks] = OrderedDict()
        self._kept_by: dict[VoterKey, Entry] = {}

    # ------------------------------------------------------------ what is committed

    def _on_committed(self, told: MessageTold) -> None:
        advanced, node = told.message, self.model.receiver_of(told)
        assert isinstance(advanced, CommitAdvanced)
        if node is None or not node.is_elected or not node.log.opened or node.spoiled or node.is_blind:
            return
        last = node.log.entry(advanced.committed.index - 1)
        if last is not None and (self._last is None or last.index > self._last.index):
            self._quorums, self._last = self._sets_of(node, last), last
            self._count(f"{node.node_id} holds it for committed")

    def _sets_of(self, node: NodeModel, last: Entry) -> list[tuple[VoterKey, ...]]:
        """The sets of voters that the node's log names, from the last one up to that entry on."""
        if not node.is_vote_of_disk:
            return [self.model.voters_of(node)]
        log, known = node.log, node.voter_set
        since = self._last.index + 1 if self._last is not None else 0
        if since < log.start.index and known is not None and known.index < log.start.index:
            self._set = known.keys
        fresh = [entry for index in range(since, log.end.index) if (entry := log.entry(index)) is not None]
        named = [one for entry in fresh if (one := set_in(entry)) is not None]
        behind = [tuple(sorted(one.keys)) for one in named if one.index > last.index]
        for one in named:
            if one.index <= last.index:
                self._set = tuple(sorted(one.keys))
        return [self._set or self.model.quorums_of(node, last.index)[-1], *behind]

    def _count(self, why: str) -> None:
        last = self._last
        if last is None:
            return
        self.counted += 1
        have = [[voter for voter in some if is_on_disk_of(self.model, voter, last)] for some in self._quorums]
        if not any(2 * len(held) > len(some) for held, some in zip(have, self._quorums, strict=True)):
            voters, holders = self._quorums[0], have[0]
            raise self.violated(
                f"{last} is committed, and of the voters {_listed(voters)} only {_listed(holders) or 'nobody'} has it "
                f"on disk: {why}",
                *last.values,
            )

    # ------------------------------------------------------------ what all have

    def _on_started(self, event: NodeStarted) -> None:
        """Forget what the previous process was asked: it will never be answered."""
        for key in [key for key in self._open if key[0] == event.node_id]:
            del self._open[key]

    def _on_produce(self, told: MessageTold) -> None:
        assert isinstance(told.message, Produce)
        self._open[self.model.place(told.receiver)[0], told.message.request_id] = told.message.acks
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)

    def _on_refused(self, told: MessageTold) -> None:
        assert isinstance(told.message, RequestRefused)
        self._open.pop((self.model.place(told.sender)[0], told.message.request_id), None)

    def _on_produced(self, told: MessageTold) -> None:
        produced, node = told.message, self.model.sender_of(told)
        assert isinstance(produced, Produced)
        asked = self._open.pop((self.model.place(told.sender)[0], produced.request_id), None)
        if node is None or node.config is None or not node.log.opened or node.spoiled or not node.is_elected:
            return
        acks = node.config.acks if asked is Acks.DEFAULT else asked
        entry = node.log.entry(produced.index)
        if acks is not Acks.ALL or entry is None:
            return
        voters = {voter.node_id: voter for voter in self.model.voters_of(node)}
        for name in produced.replicas:
            key = voters.get(name) or self.model.node(name).key
            self.named += 1
            known = self._kept_by.get(key)
            if known is None or known.index < entry.index:
                self._kept_by[key] = entry

    def _on_log_changed(self, node: NodeModel) -> None:
        gone = self.model.gone
        if not gone or not node.is_elected:
            return
        if self.model.is_retention:
            self._check_retention(node, gone[0])
        else:
            self._check_kept(node, gone[0].index)

    def _on_truncated(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is not None and node.is_elected and node.log.opened:
            self._check_kept(node, node.log.end.index)

    def _check_kept(self, node: NodeModel, first: Index) -> None:
        """Look whether anything was needed of what is from that index on, which is gone.

        A log that begins anew, where its leader's does, is looked at when it has.
        """
        if node.is_resetting:
            return
        if self._last is not None and first <= self._last.index:
            self._count(f"{node.node_id} has dropped what is from index {first} on")
        named = self._kept_by.get(node.key)
        if named is not None and first <= named.index:
            self.counted += 1
            if not is_on_disk(node, named):
                raise self.violated(
                    f"{node.node_id} has dropped {named}, and was named as one that has it", *named.values
                )

    def _check_retention(self, node: NodeModel, gone: Entry) -> None:
        """Look whether enough is left. A log that begins anew removes its segments, too."""
        if node.config is None or node.is_resetting or node.spoiled:
            return
        left_bytes = sum(segment.size for segment in node.log.segments)
        wanted_bytes = node.config.retention_bytes
        if wanted_bytes is None or left_bytes < wanted_bytes:
            raise self.violated(
                f"{node.node_id} has removed {gone} and what is in its segment, and {left_bytes} bytes are left, where "
                f"{wanted_bytes if wanted_bytes is not None else 'all'} are to be kept",
                *gone.values,
            )

    def at_end(self) -> None:
        self._count("the run is over")


def _listed(keys: tuple[VoterKey, ...] | list[VoterKey]) -> str:
    return ", ".join(key.node_id for key in keys)
