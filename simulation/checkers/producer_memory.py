"""That what nodes remember of producers follows from their logs, and so is the same wherever the log is."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any, ClassVar
from zlib import crc32

from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, LogTruncated, ResetLog
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.producer_model import Memory, ProducerModel, decoded
from ourolog.simulation.events import FaultInjected, FileReplaced, MessageTold, NodeStarted
from ourolog.storage.batch import NewBatch
from ourolog.storage.checkpoint import CHECKPOINT_NAME
from ourolog.storage.producers import REMEMBERED_BATCHES, ProducerProblem
from ourolog.storage.segment import STATE_SUFFIX
from ourolog.storage.types import NodeId


class ProducerMemoryTrue(EventChecker):
    """Remembers producers itself, from the entries on each disk, and compares: appends, refusals, duplicates, files.

    A file with a node's state that has rotted may leave it, and whoever begins anew behind it, with less. Then it may
    refuse what another node would not, and never accept more.
    """

    name: ClassVar[str] = "producer_memory_true"
    statement: ClassVar[str] = (
        "What a node remembers of producers is what its log says: it appends the next batch of one that is remembered "
        "and no other, answers one that is there with its place, refuses for the reason that it gives, and "
        "keeps that memory in its checkpoints."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, FileReplaced: self._on_replaced, FaultInjected: self._on_fault}
        self.on_told = {
            AppendBatch: self._on_append,
            BatchAppended: self._on_appended,
            AppendRefused: self._on_refused,
            ResetLog: self._on_reset,
            LogTruncated: self._on_truncated,
        }
        self.on_log = self._on_log_changed
        self._models: dict[NodeId, ProducerModel] = {}
        self._appends: dict[NodeId, dict[int, NewBatch]] = {}
        self._given: dict[NodeId, ResetLog] = {}
        self._may_have_less = False

    def _of(self, node_id: NodeId) -> ProducerModel:
        return self._models.setdefault(node_id, ProducerModel())

    def _on_started(self, event: NodeStarted) -> None:
        self._appends.pop(event.node_id, None)

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind in ("bit_rot", "old_disk"):
            self._may_have_less = True
        if event.kind == "disk_lost":
            self._models.pop(NodeId(event.where), None)

    # ------------------------------------------------------------ logs

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        model = self._of(node.node_id)
        if node.is_blind:
            return
        if self.model.gone and not self.model.is_retention:
            model.cut(min(entry.index for entry in self.model.gone))
        for entry in self.model.fresh:
            if entry.index < model.end:
                continue  # what retention had begun to remove is back after a power cut
            if entry.index > model.end:
                self._begin_anew(node, model)
                self._catch_up(node, model, entry.index)
            if entry.index != model.end:
                continue
            if entry.producer_id and len(entry.path) == 1:
                expected = model.memory.next_of(entry.producer_id)
                if expected != entry.producer_sequence and not (expected is None and self._may_have_less):
                    why = "is not remembered" if expected is None else f"has batch {expected} to come next"
                    raise self.violated(
                        f"{node.node_id} appended batch {entry.producer_sequence} of producer {entry.producer_id} as "
                        f"{entry}, and that producer {why}",
                        *entry.values,
                    )
            model.append(entry)

    def _catch_up(self, node: NodeModel, model: ProducerModel, index: int) -> None:
        """Take what was written when a disk that had lied wrote everything back: nobody was told of that."""
        while model.end < index and (entry := node.log.entry(model.end)) is not None:
            model.append(entry)

    def _on_reset(self, told: MessageTold) -> None:
        reset = told.message
        assert isinstance(reset, ResetLog)
        self._given[self.model.place(told.receiver)[0]] = reset

    def _on_truncated(self, told: MessageTold) -> None:
        node = self.model.sender_of(told)
        truncated = told.message
        assert isinstance(truncated, LogTruncated)
        given = self._given.get(node.node_id) if node is not None else None
        if node is not None and given is not None and truncated.start == truncated.end == given.start:
            self._begin_anew(node, self._of(node.node_id))

    def _begin_anew(self, node: NodeModel, model: ProducerModel) -> None:
        """What is remembered where a log was begun anew must be what the other logs say was remembered there."""
        given = self._given.get(node.node_id)
        first = node.log.start.index
        if given is None or given.start.index != first or (model.first == first and not model.entries):
            return
        told = decoded(given.producers)
        for other_id, other in self._models.items():
            if other_id == node.node_id or self._may_have_less or not other.first <= first <= other.end:
                continue
            if first <= self.model.node(other_id).committed.index:
                self._compare(f"{node.node_id} begins anew at index {first} and was given", told, other.below(first))
                break
        model.begin_anew(first, told)

    # ------------------------------------------------------------ what the store says

    def _on_append(self, told: MessageTold) -> None:
        append = told.message
        assert isinstance(append, AppendBatch)
        self._appends.setdefault(self.model.place(told.receiver)[0], {})[append.request_id] = append.batch

    def _on_appended(self, told: MessageTold) -> None:
        appended = told.message
        assert isinstance(appended, BatchAppended)
        node = self.model.sender_of(told)
        batch = self._take(told, appended.request_id)
        if node is None or batch is None or not batch.producer_id or not appended.is_duplicate or not self._knows(node):
            return
        what = f"batch {batch.producer_sequence} of producer {batch.producer_id}"
        known = self._of(node.node_id).memory.batch(batch.producer_id, batch.producer_sequence)
        if known is None or (known.index, known.base_offset) != (appended.index, appended.base_offset):
            where = "it is not there" if known is None else f"it is entry {known.index}, offset {known.base_offset}"
            raise self.violated(
                f"{node.node_id} says that {what} is entry {appended.index}, offset {appended.base_offset}, of its log "
                f"already, and {where}"
            )

    def _on_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, AppendRefused)
        node = self.model.sender_of(told)
        batch = self._take(told, refused.request_id)
        if node is None or batch is None or refused.problem is None or not self._knows(node):
            return
        # What is appended and not yet written is on no disk, and counts.
        unwritten = len(self._appends.get(node.node_id, ()))
        memory = self._of(node.node_id).memory
        following = memory.next_of(batch.producer_id)
        match refused.problem:
            case ProducerProblem.EXPIRED:
                is_true = following is None or unwritten > 0 or self._may_have_less
            case ProducerProblem.GAP:
                is_true = following is not None and batch.producer_sequence > following
            case ProducerProblem.FORGOTTEN:
                remembered_from = (following or 0) + unwritten - REMEMBERED_BATCHES
                is_true = batch.producer_sequence < remembered_from
            case ProducerProblem.REUSED:
                # No client does that, but an id may be given out a second time where a disaster took the first.
                is_true = self._stands_otherwise(node.node_id, batch)
        if not is_true:
            raise self.violated(
                f"{node.node_id} refused batch {batch.producer_sequence} of producer {batch.producer_id} "
                f"({refused.problem.value}), and by its log "
                + ("that producer is not known" if following is None else f"batch {following} comes next")
            )

    def _stands_otherwise(self, node_id: NodeId, batch: NewBatch) -> bool:
        """Whether other records stand under that producer's number, or are about to."""
        sent = batch.producer_id, batch.producer_sequence
        model = self._of(node_id)
        known = model.memory.batch(*sent)
        if known is None:
            others = self._appends.get(node_id, {}).values()
            return any(
                (other.producer_id, other.producer_sequence) == sent and other.payload != batch.payload
                for other in others
            )
        entry = model.entry(known.index)
        # What a leader told where the log was begun anew it told without the records.
        return entry is None or entry.payload_crc != crc32(batch.payload)

    def _knows(self, node: NodeModel) -> bool:
        """Whether all that is in that node's log has been taken in."""
        return _is_seen(node) and self._of(node.node_id).end >= node.log.end.index

    def _take(self, told: MessageTold, request_id: int) -> NewBatch | None:
        return self._appends.get(self.model.place(told.sender)[0], {}).pop(request_id, None)

    # ------------------------------------------------------------ files

    def _on_replaced(self, event: FileReplaced) -> None:
        name = event.path.rpartition("/")[2]
        node = self.model.nodes.get(event.node_id)
        if node is None or not node.is_elected or not _is_seen(node) or self._may_have_less:
            return
        if name != CHECKPOINT_NAME and not name.endswith(STATE_SUFFIX):
            return
        value: dict[str, Any] = json.loads(event.content.partition(b"\n")[2])
        model = self._of(event.node_id)
        index = value["position"][0]
        if value["resetting"] or not model.first <= index <= model.end:
            return
        kept = decoded(b64decode(value["state"]["producers"]))
        expected = model.memory if index == model.end else model.below(index)
        self._compare(f"{event.node_id} keeps in {name}, for all below index {index},", kept, expected)

    def _compare(self, who: str, found: Memory, expected: Memory) -> None:
        if list(found.producers.items()) == list(expected.producers.items()) and found.clock_ms == expected.clock_ms:
            return
        differ = sorted(
            producer_id
            for producer_id in {*found.producers, *expected.producers}
            if found.producers.get(producer_id) != expected.producers.get(producer_id)
        )
        which = f"producer {differ[0]}" if differ else "their order, or the clock"
        raise self.violated(
            f"{who} something else than the log says: of {which} "
            f"{found.producers.get(differ[0] if differ else 0)} instead of "
            f"{expected.producers.get(differ[0] if differ else 0)}, clock {found.clock_ms} and {expected.clock_ms}"
        )


def _is_seen(node: NodeModel) -> bool:
    """Whether the model knows what is in that node's log."""
    return node.log.opened and not node.is_blind and not node.spoiled and node.lost is None
