"""What a log on disk must look like, whatever happens to it."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from ourolog.actors.messages.events import LogStartMoved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import ClientInvoked, ClientReturned, MessageTold, OperationKind, Outcome
from ourolog.storage.batch import Kind
from ourolog.storage.types import NodeId

# What a client sent this many produces ago is no longer on its way.
_MAX_REMEMBERED = 10_000


class BatchesIntact(EventChecker):
    """Decodes every append again, and compares its records with what clients sent."""

    name: ClassVar[str] = "batches_intact"
    statement: ClassVar[str] = (
        "Batches on disk are what was written: they decode, their checksums hold, their records are those that "
        "clients sent, and every copy of a batch carries the same records."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {ClientInvoked: self._on_invoked}
        self.on_log = self._on_log_changed
        self._sent: OrderedDict[bytes, None] = OrderedDict()
        self._contents: OrderedDict[tuple[NodeId, int, int], tuple[int, bool]] = OrderedDict()

    def _on_invoked(self, event: ClientInvoked) -> None:
        if event.operation.kind is OperationKind.PRODUCE:
            self._sent[event.operation.value] = None
            if len(self._sent) > _MAX_REMEMBERED:
                self._sent.popitem(last=False)

    def _on_log_changed(self, node: NodeModel) -> None:
        if node.log.damage is not None:
            damage, node.log.damage = node.log.damage, None
            if not (self.model.is_reopened and node.spoiled):
                raise self.violated(f"{node.node_id}: {damage}")
        for entry in self.model.gone:
            # An entry that only its origin ever had may be written anew: nobody has seen its number.
            if self._contents.get(entry.identity, (0, True)) == (entry.payload_crc, False):
                del self._contents[entry.identity]
        for entry in self.model.fresh:
            if entry.kind is Kind.DATA and not node.spoiled:
                if entry.path == (node.node_id,):
                    self._check_sent(node, entry)
                if not node.is_elected:
                    self._check_content(node, entry)

    def _check_sent(self, node: NodeModel, entry: Entry) -> None:
        for value in entry.values:
            if value not in self._sent and self._sent:
                raise self.violated(f"{node.node_id} holds {value!r} in {entry}, which no client sent", value)

    def _check_content(self, node: NodeModel, entry: Entry) -> None:
        origin = self.model.nodes.get(entry.path[0])
        if origin is not None and "fsync_lies" in origin.spoiled:
            return  # it may give out a number twice, since it cannot know that it had done so before
        is_copy = len(entry.path) > 1
        content, was_copied = self._contents.get(entry.identity, (entry.payload_crc, is_copy))
        self._contents[entry.identity] = content, was_copied or is_copy
        if content != entry.payload_crc:
            raise self.violated(f"{node.node_id} holds other records in {entry} than another node does")
        if len(self._contents) > _MAX_REMEMBERED:
            self._contents.popitem(last=False)


class RefusedNotWritten(EventChecker):
    """Looks for records that a client was told were certainly not written."""

    name: ClassVar[str] = "refused_not_written"
    statement: ClassVar[str] = "What was refused for certain is in no log, so that a client may safely try it again."

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {ClientInvoked: self._on_invoked, ClientReturned: self._on_returned}
        self.on_log = self._on_log_changed
        self._attempts: OrderedDict[bytes, int] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._written: OrderedDict[bytes, NodeId] = OrderedDict()

    def _on_invoked(self, event: ClientInvoked) -> None:
        value = event.operation.value
        self._refused.pop(value, None)
        if event.operation.kind is OperationKind.PRODUCE:
            self._attempts[value] = self._attempts.get(value, 0) + 1
            if len(self._attempts) > _MAX_REMEMBERED:
                self._attempts.popitem(last=False)

    def _on_returned(self, event: ClientReturned) -> None:
        operation, outcome = event.operation, event.result.outcome
        if operation.kind is not OperationKind.PRODUCE or outcome is not Outcome.REFUSED:
            return
        if self._attempts.get(operation.value) != 1:
            return  # it may be there from an earlier attempt, which was not refused
        holder = self._written.get(operation.value)
        if holder is not None:
            raise self.violated(
                f"{event.node_id} refused {operation.value!r} ({event.result.detail}), and {holder} has it in its log",
                operation.value,
            )
        self._refused[operation.value] = None
        if len(self._refused) > _MAX_REMEMBERED:
            self._refused.popitem(last=False)

    def _on_log_changed(self, node: NodeModel) -> None:
        for entry in self.model.gone:
            for value in entry.values:
                self._written.pop(value, None)
        for entry in self.model.fresh:
            if entry.path != (node.node_id,):
                continue
            for value in entry.values:
                if value in self._refused:
                    raise self.violated(f"{node.node_id} wrote {value!r}, which a client was told is refused", value)
                self._written[value] = node.node_id
        while len(self._written) > _MAX_REMEMBERED:
            self._written.popitem(last=False)


class Contiguous(EventChecker):
    """Checks where each batch is, and that it is there once."""

    name: ClassVar[str] = "contiguous"
    statement: ClassVar[str] = (
        "Indices and offsets on disk are contiguous, also from segment to segment, terms never fall, and no batch "
        "is in a log twice (with the cycle allowed: no batch of another log is copied twice)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        if node.log.gap is not None:
            gap, node.log.gap = node.log.gap, None
            if not (self.model.is_reopened and node.spoiled):
                raise self.violated(f"{node.node_id}: {gap}")
        if self.model.repeated and not node.spoiled:
            raise self.violated(f"{node.node_id} has appended {self.model.repeated[0]}, which is in its log already")


class RetentionWaits(EventChecker):
    """Checks what retention removes, and where it then says that the log starts."""

    name: ClassVar[str] = "retention_waits_for_commit"
    statement: ClassVar[str] = (
        "Where somebody leads, retention removes nothing that the node does not know to be committed: no log starts "
        "above its commit position."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {LogStartMoved: self._on_start_moved}
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        if self.model.is_retention and node.is_elected:
            for entry in self.model.gone:
                if entry.index >= node.committed.index:
                    raise self.violated(
                        f"retention took {entry} from {node.node_id}, which knows only what is below index "
                        f"{node.committed.index} to be committed"
                    )

    def _on_start_moved(self, told: MessageTold) -> None:
        moved = told.message
        assert isinstance(moved, LogStartMoved)
        if self.model.place(told.sender)[1] != "store":
            return  # a replicator that passes on where a log was reset to
        node = self.model.receiver_of(told)
        # The replicator tells of logs that were begun anew, where the leader's begins.
        is_retention = self.model.place(told.sender)[1] == "store"
        if node is not None and node.is_elected and is_retention and moved.start.index > node.committed.index:
            raise self.violated(
                f"the log of {node.node_id} starts at index {moved.start.index}, above its commit position "
                f"{node.committed.index}"
            )
