"""What a leader sends, and what it commits, beside what is on its own disk."""

from __future__ import annotations

from typing import ClassVar

from ourolog.actors.messages.events import CommitAdvanced
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest, FetchResponse
from ourolog.actors.messages.store import BatchesGathered
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.batch import BatchHead, read_head
from ourolog.storage.errors import CorruptBatchError
from ourolog.storage.types import Index, NodeId


class FetchesAnsweredTruly(EventChecker):
    """Compares what a fetch is answered with what stands in the answering node's log, or is about to."""

    name: ClassVar[str] = "fetches_answered_truly"
    statement: ClassVar[str] = (
        "Where somebody leads, a fetch is answered with whole batches from the entry on that it asked for, without a "
        "gap, and one at most if they are more than it wants; each of them stands in the leader's log, or the leader's "
        "store is about to write it (Raft dissertation section 10.2.1)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {
            CallReceived: self._on_call,
            CallCancelled: self._on_cancelled,
            CallAnswer: self._on_answer,
            BatchesGathered: self._on_gathered,
        }
        self._open: dict[NodeId, dict[int, FetchRequest]] = {}
        self._gathered: dict[NodeId, dict[Index, int]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._open.pop(event.node_id, None)
        self._gathered.pop(event.node_id, None)

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        if isinstance(received.request, FetchRequest):
            self._open.setdefault(self.model.place(told.receiver)[0], {})[received.request_id] = received.request

    def _on_cancelled(self, told: MessageTold) -> None:
        assert isinstance(told.message, CallCancelled)
        self._open.get(self.model.place(told.receiver)[0], {}).pop(told.message.request_id, None)

    def _on_gathered(self, told: MessageTold) -> None:
        gathered = told.message
        assert isinstance(gathered, BatchesGathered)
        heads = [_head_of(b"".join(batch), 0) for batch in gathered.batches]
        # Later ones come when these are written.
        self._gathered[self.model.place(told.sender)[0]] = {head.index: head.crc for head in heads if head is not None}

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        if node is None or not isinstance(answer.response, FetchResponse):
            return
        request = self._open.get(node.node_id, {}).pop(answer.request_id, None)
        batches = answer.response.batches
        if request is None or not batches or not request.elected or node.is_rotten:
            return
        expected, at = request.next_index, 0
        while at < len(batches):
            head = _head_of(batches, at)
            if head is None:
                raise self.violated(f"{node.node_id} answered {request.node_id} with a batch that is cut off")
            if head.index != expected:
                raise self.violated(
                    f"{node.node_id} answered {request.node_id}, which wants entry {expected} next, with entry "
                    f"{head.index}"
                )
            self._check_own(node, request, head)
            expected, at = Index(expected + 1), head.end
        if len(batches) > request.max_bytes and expected > request.next_index + 1:
            raise self.violated(
                f"{node.node_id} answered {request.node_id}, which wants {request.max_bytes} bytes, with several "
                f"batches of {len(batches)}"
            )

    def _check_own(self, node: NodeModel, request: FetchRequest, head: BatchHead) -> None:
        """Check one batch; what the disk took back, or what retention has just removed, cannot be compared."""
        if node.spoiled or node.is_blind or not node.log.opened or head.index < node.log.start.index:
            return
        entry = node.log.entry(head.index)
        crc = entry.crc if entry is not None else self._gathered.get(node.node_id, {}).get(head.index)
        if crc != head.crc:
            raise self.violated(
                f"{node.node_id} answered {request.node_id} with an entry {head.index} of term {head.term}, and "
                f"{'has ' + str(entry) if entry is not None else 'is not about to write it'}"
            )


class CommittedOnOwnDisk(EventChecker):
    """Looks at a node's disk whenever its replicator says that more is committed."""

    name: ClassVar[str] = "committed_on_own_disk"
    statement: ClassVar[str] = (
        "What a node holds for committed is on its own disk, also where a majority of the others would do: its readers "
        "read it there."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {CommitAdvanced: self._on_committed}

    def _on_committed(self, told: MessageTold) -> None:
        advanced, node = told.message, self.model.sender_of(told)
        assert isinstance(advanced, CommitAdvanced)
        if node is None or not node.is_elected or not node.log.opened or node.spoiled or node.is_blind:
            return
        if advanced.committed.index > max(node.log.durable_index, node.log.start.index):
            raise self.violated(
                f"{node.node_id} holds what is below index {advanced.committed.index} for committed, and only what is "
                f"below index {node.log.durable_index} is on its disk"
            )


def _head_of(buffer: bytes, at: int) -> BatchHead | None:
    try:
        return read_head(buffer, at)
    except CorruptBatchError:
        return None
