"""That what a producer sends again stands in the log once, and what it is told of that."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from ourolog.actors.messages.server import CancelRequest, Produce, Produced, RegisterProducer, RequestRefused
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.generations import GenerationsChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import ClientReturned, ClusterRecovered, MessageTold, NodeStarted, Outcome
from ourolog.storage.types import NodeId, Offset

_MAX_REMEMBERED = 20_000
_NO_CLUSTER = 0
"""Of nodes whose disks belong to no cluster, where no voters elect."""

BatchKey = tuple[int, int]
"""The id of a producer, and the number of one of its batches."""


class ExactlyOnce(GenerationsChecker):
    """Notes where each numbered batch stands in each log, and which offsets each generation gave clients for it."""

    name: ClassVar[str] = "exactly_once"
    statement: ClassVar[str] = (
        "A batch that its producer numbered stands in a log once, under its number, however often it was sent, and "
        "whoever is acknowledged gets the same offset, unless a recovery has lost it."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on |= {ClientReturned: self._on_returned}
        self.on_log = self._on_log_changed
        self._places: dict[NodeId, OrderedDict[BatchKey, int]] = {}
        self._answers: dict[int, OrderedDict[BatchKey, Offset]] = {}

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        places = self._places.setdefault(node.node_id, OrderedDict())
        if not self.model.is_retention:
            for entry in self.model.gone:
                if places.get((entry.producer_id, entry.producer_sequence)) == entry.index:
                    del places[entry.producer_id, entry.producer_sequence]
        for entry in self.model.fresh:
            if not entry.producer_id or len(entry.path) > 1:
                continue
            key = entry.producer_id, entry.producer_sequence
            before = places.get(key)
            if before is not None and before != entry.index and not node.spoiled:
                raise self.violated(
                    f"{node.node_id} has batch {key[1]} of producer {key[0]} in entry {before} and again in {entry}",
                    *entry.values,
                )
            places[key] = entry.index
            if len(places) > _MAX_REMEMBERED:
                places.popitem(last=False)

    def _on_recovered(self, event: ClusterRecovered) -> None:
        """What the survivor does not have there is lost; it may have it elsewhere, or get it anew.

        Another survivor that is recovered as well goes on from what it has itself: neither knows of the other yet.
        """
        formers = {event.former_id, self.cluster_of.get(event.node_id, _NO_CLUSTER)}
        super()._on_recovered(event)
        log, places = self.model.node(event.node_id).log, self._places.get(event.node_id) or OrderedDict()
        answers = self._answers[event.cluster_id] = OrderedDict()
        for former_id in sorted(formers):
            for key, offset in self._answers.get(former_id, {}).items():
                entry = log.entry(places[key]) if key in places else None
                if offset < log.start.offset or (entry is not None and entry.base_offset == offset):
                    answers[key] = offset

    def _on_returned(self, event: ClientReturned) -> None:
        operation, result = event.operation, event.result
        if not operation.producer_id or result.outcome is not Outcome.OK:
            return
        key = operation.producer_id, operation.sequence
        node = self.model.nodes.get(event.node_id)
        if node is not None and node.log.opened and not (node.spoiled or node.is_blind):
            entry = node.log.entry(result.index)
            if entry is not None and (entry.producer_id, entry.producer_sequence) != key:
                raise self.violated(
                    f"{event.client} was told by {event.node_id} that batch {key[1]} of producer {key[0]} is entry "
                    f"{result.index}, and there is {entry}, without that number",
                    operation.value,
                )
        answers = self._answers.setdefault(self.cluster_of.get(event.node_id, _NO_CLUSTER), OrderedDict())
        before = answers.setdefault(key, result.offset)
        if before != result.offset:
            raise self.violated(
                f"{event.client} was told by {event.node_id} that batch {key[1]} of producer {key[0]} is at offset "
                f"{result.offset}; it was told before that it is at offset {before}",
                operation.value,
            )
        if len(answers) > _MAX_REMEMBERED:
            answers.popitem(last=False)


class NumberedWaitForCommit(EventChecker):
    """Compares the entry that an answer is about with how far its server knows the log to be committed."""

    name: ClassVar[str] = "numbered_wait_for_commit"
    statement: ClassVar[str] = (
        "A producer's id is told, and a batch that it numbered is acknowledged, first or again, only once the entry "
        "that it stands in is committed."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            Produce: self._on_asked,
            RegisterProducer: self._on_asked,
            Produced: self._on_produced,
            RequestRefused: self._on_over,
            CancelRequest: self._on_over,
        }
        self._open: OrderedDict[tuple[NodeId, int], str] = OrderedDict()

    def _on_started(self, event: NodeStarted) -> None:
        for key in [key for key in self._open if key[0] == event.node_id]:
            del self._open[key]

    def _on_asked(self, told: MessageTold) -> None:
        asked = told.message
        assert isinstance(asked, Produce | RegisterProducer)
        node_id = self.model.place(told.receiver)[0]
        if isinstance(asked, RegisterProducer):
            self._open[node_id, asked.request_id] = "a registration"
        elif asked.batch.producer_id:
            batch = asked.batch
            self._open[node_id, asked.request_id] = f"batch {batch.producer_sequence} of producer {batch.producer_id}"
        if len(self._open) > _MAX_REMEMBERED:
            self._open.popitem(last=False)

    def _on_over(self, told: MessageTold) -> None:
        over = told.message
        assert isinstance(over, RequestRefused | CancelRequest)
        name = told.sender if isinstance(over, RequestRefused) else told.receiver
        self._open.pop((self.model.place(name)[0], over.request_id), None)

    def _on_produced(self, told: MessageTold) -> None:
        produced = told.message
        assert isinstance(produced, Produced)
        node_id = self.model.place(told.sender)[0]
        what = self._open.pop((node_id, produced.request_id), None)
        node = self.model.nodes.get(node_id)
        if what is not None and node is not None and produced.index >= node.committed.index:
            raise self.violated(
                f"{node_id} acknowledged {what}, entry {produced.index}, and knew only what is below index "
                f"{node.committed.index} to be committed"
            )
