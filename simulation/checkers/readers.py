"""What consumers may see."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.server import Consume
from ourolog.actors.messages.store import BatchAppended, BatchesRead
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import ClientReturned, MessageTold, OperationKind, Outcome
from ourolog.storage.batch import scan
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.types import NodeId, Offset

_MAX_OPEN = 10_000


class ReadersSeeCommitted(EventChecker):
    """Compares what consumers get with the disk of the node that they asked."""

    name: ClassVar[str] = "readers_see_committed"
    statement: ClassVar[str] = "No reader sees what was not written, or what was never committed."

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {ClientReturned: self._on_returned}
        self.on_told = {
            CommitAdvanced: self._on_committed,
            BatchAppended: self._on_committed,
            BatchesRead: self._on_read,
        }
        self._committed: dict[NodeId, Offset] = {}

    def _on_committed(self, told: MessageTold) -> None:
        node = self.model.nodes.get(self.model.place(told.receiver)[0])
        if node is not None:
            log = NodeId("") if node.is_elected else node.node_id
            self._committed[log] = max(self._committed.get(log, Offset(0)), node.committed.offset)

    def _on_read(self, told: MessageTold) -> None:
        read = told.message
        assert isinstance(read, BatchesRead)
        node = self.model.sender_of(told)
        if node is not None and node.opened is not None and read.batches and read.next.index > node.committed.index:
            raise self.violated(
                f"{told.sender} sent {told.receiver} batches up to {read.next}, and has committed {node.committed}"
            )

    def _on_returned(self, event: ClientReturned) -> None:
        result = event.result
        node = self.model.nodes.get(event.node_id)
        if event.operation.kind is not OperationKind.CONSUME or result.outcome is not Outcome.OK or node is None:
            return
        opened_with = node.opened.committed.offset if node.opened is not None else Offset(0)
        log_id = NodeId("") if node.is_elected else node.node_id
        committed = max(self._committed.get(log_id, Offset(0)), opened_with)
        if result.offset >= committed:
            raise self.violated(
                f"{event.client} read offset {result.offset} of {node.node_id}, where what is below {committed} is "
                "committed"
            )
        log = node.log
        if log.opened and not node.spoiled and log.start.offset <= result.offset:
            held = log.value_at(result.offset)
            if held != result.value:
                raise self.violated(
                    f"{event.client} read {result.value!r} at offset {result.offset} of {node.node_id}, "
                    f"which holds {held!r}",
                    result.value,
                )


class ReadersMoveForward(EventChecker):
    """Checks every answer to a consumer: it begins with what was asked for and has no gaps."""

    name: ClassVar[str] = "readers_move_forward"
    statement: ClassVar[str] = (
        "Readers move forward without gaps: an answer begins with the batch that holds the offset asked for, its "
        "batches follow one another, and the position after it is where the next read goes on."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {ClientReturned: self._on_returned}
        self.on_told = {Consume: self._on_consume, BatchesRead: self._on_read}
        self._asked: OrderedDict[tuple[NodeId, int], Offset] = OrderedDict()

    def _on_consume(self, told: MessageTold) -> None:
        consume = told.message
        assert isinstance(consume, Consume)
        self._asked[self.model.place(told.receiver)[0], consume.request_id] = consume.offset
        if len(self._asked) > _MAX_OPEN:
            self._asked.popitem(last=False)

    def _on_read(self, told: MessageTold) -> None:
        read = told.message
        assert isinstance(read, BatchesRead)
        asked = self._asked.pop((self.model.place(told.sender)[0], read.request_id), None)
        if asked is None:
            return
        what = f"{told.sender} was asked for offset {asked}"
        try:
            heads = list(scan(read.batches))
        except CorruptBatchError as error:
            raise self.violated(f"{what} and answered with damaged batches: {error}") from error
        if not heads:
            return
        if not heads[0].base_offset <= asked < heads[0].end_offset:
            raise self.violated(f"{what} and answered from [{heads[0].base_offset}, {heads[0].end_offset}) on")
        for before, after in pairwise(heads):
            if after.base_offset != before.end_offset:
                raise self.violated(f"{what}; its answer goes from {before.end_offset} to {after.base_offset}")
        if read.next.offset != heads[-1].end_offset:
            raise self.violated(
                f"{what}; its answer ends at {heads[-1].end_offset} and says {read.next.offset} is next"
            )

    def _on_returned(self, event: ClientReturned) -> None:
        operation, result = event.operation, event.result
        if (
            operation.kind is OperationKind.CONSUME
            and result.outcome is Outcome.OK
            and result.offset != operation.offset
        ):
            raise self.violated(f"{event.client} asked for offset {operation.offset} and was given {result.offset}")
