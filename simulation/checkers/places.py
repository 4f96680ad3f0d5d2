"""One place, one entry: on every disk, on the wire, and whoever was leader."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.peer_calls import CallAnswer, FetchResponse
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import FaultInjected, MessageTold
from ourolog.storage.batch import path_of, scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.types import Index, NodeId, Term

_PRUNE_EVERY = 1024

Place = tuple[Index, Term, NodeId, int]


class SamePlaceSameBytes(EventChecker):
    """Remembers the first entry seen at each place: index, term, who made it, and in which epoch of its log.

    Unlike `log_matching` it follows an entry also where two leaders claim one term, and over the wire.
    Entries of a node whose disk has lied, or is an old one, are not checked: it may not remember the term in
    which it made them, and make others in their place.
    """

    name: ClassVar[str] = "same_place_same_bytes"
    statement: ClassVar[str] = (
        "With somebody elected, an entry of one index, term, maker and epoch of its maker's log is the same bytes on "
        "every disk and in every answer to a fetch, at all times, committed or not."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FaultInjected: self._on_fault}
        self.on_log = self._on_log_changed
        self.on_told = {CallAnswer: self._on_answered}
        self._seen: dict[Place, tuple[int, NodeId]] = {}
        self._forgetful: set[NodeId] = set()
        self._until_pruning = _PRUNE_EVERY

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind in ("old_disk", "fsync_lies"):
            self._forgetful.add(NodeId(event.where))

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        for entry in self.model.fresh:
            self._see((entry.index, entry.term, entry.path[0], entry.origin_epoch), entry.crc, node.node_id, "has")
        self._until_pruning -= len(self.model.fresh)
        if self._until_pruning < 0:
            self._until_pruning = _PRUNE_EVERY
            first = self.model.first_kept_index()
            if first:
                self._seen = {place: seen for place, seen in self._seen.items() if place[0] >= first}

    def _on_answered(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        if not isinstance(answer.response, FetchResponse):
            return
        batches = answer.response.batches
        node = self.model.sender_of(told)
        if not batches or node is None or not node.is_elected or node.is_rotten:
            return
        try:
            for head in scan(batches):
                place = head.index, head.term, path_of(batches, head)[0], head.origin_epoch
                self._see(place, head.crc, node.node_id, "serves")
        except CorruptBatchError as error:
            raise self.violated(f"{node.node_id} answered {told.receiver} with damaged batches: {error}") from error

    def _see(self, place: Place, crc: int, node_id: NodeId, how: str) -> None:
        if place[2] in self._forgetful:
            return
        known, holder = self._seen.setdefault(place, (crc, node_id))
        if known != crc:
            index, term, maker, epoch = place
            raise self.violated(
                f"{node_id} {how} another entry {index} of term {term}, made by {maker} in epoch {epoch} of its log, "
                f"than {holder} does"
            )
