"""Whatever a node keeps is bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest
from ourolog.actors.messages.server import CancelRequest, Consume, RequestRefused
from ourolog.actors.messages.status import ReplicatorStatus, StatusReported
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, ReadBatches
from ourolog.actors.requests.produces import MAX_UNWRITTEN_BYTES, MERGED_MAX_BYTES
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import CATCHES_UP_WITHIN_S, IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.segment_cache import MAX_OPEN_FILES
from ourolog.storage.types import Index, NodeId, Term

OWN_FILES: Final = 4
"""Besides those lent to readers: the lock, the segment that is written, and two while it is replaced."""

UNTOLD_BOUNDARIES: Final = 2
"""The end of the log as it was opened, and one that has just been committed."""


@dataclass(slots=True)
class _Kept:
    """What the actors of one process hold at present.

    fetches: asked by peers and not answered, with the time at which each was given up.
    appends: the bytes of each append that is in the store.
    leads_in: the term in which it leads, as its server was told.
    uncommitted: what it has appended in that term above the commit position, with the bytes of each.
    readers: those that wait at the end of the log, and since when.
    """

    fetches: dict[int, float] = field(default_factory=dict)
    appends: dict[int, int] = field(default_factory=dict)
    append_bytes: int = 0
    leads_in: Term | None = None
    uncommitted: deque[tuple[Index, int]] = field(default_factory=deque)
    uncommitted_bytes: int = 0
    readers: dict[int, float] = field(default_factory=dict)


class StaysBounded(EventChecker):
    """Compares what nodes report of themselves, and what their disks show, with the configured bounds."""

    name: ClassVar[str] = "stays_bounded"
    statement: ClassVar[str] = (
        f"A node keeps no more than it needs: at most {MAX_OPEN_FILES + OWN_FILES} open files and "
        f"{MAX_UNWRITTEN_BYTES // 2**20} MiB of produces that are not written, no more entries and bytes that no "
        "majority has and no more readers at the end of the log than its configuration says, no long poll that was "
        "answered or given up, and no boundary of a batch that is committed."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_process,
            NodeStopped: self._on_process,
            NodeCrashed: self._on_process,
        }
        self.on_told = {
            CallReceived: self._on_call,
            CallCancelled: self._on_call_over,
            CallAnswer: self._on_call_answer,
            AppendBatch: self._on_append,
            BatchAppended: self._on_append_over,
            AppendRefused: self._on_append_over,
            CommitAdvanced: self._on_committed,
            LeaderChanged: self._on_leader_changed,
            Consume: self._on_consume,
            ReadBatches: self._on_read,
            RequestRefused: self._on_read,
            CancelRequest: self._on_cancel,
            StatusReported: self._on_status,
            ProbeDue: self._on_probe,
        }
        self._nodes: dict[NodeId, _Kept] = {}

    def _on_process(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._nodes[event.node_id] = _Kept()

    def _of(self, name: str) -> _Kept:
        return self._nodes.setdefault(self.model.place(name)[0], _Kept())

    def _on_probe(self, told: MessageTold) -> None:
        """Check at any regular event: then nobody is using the disk."""
        assert self.world is not None, "an event came with it"
        node_id = self.model.place(told.receiver)[0]
        files = self.world.open_files(node_id)
        if files > MAX_OPEN_FILES + OWN_FILES:
            raise self.violated(f"{node_id} has {files} files open")
        self._check_readers(self.model.node(node_id))

    # ------------------------------------------------------------ produces

    def _on_append(self, told: MessageTold) -> None:
        append = told.message
        assert isinstance(append, AppendBatch)
        if self.model.place(told.sender)[1] != "server":
            return
        kept = self._of(told.sender)
        kept.appends[append.request_id] = len(append.batch.payload)
        kept.append_bytes += len(append.batch.payload)
        if kept.append_bytes > MAX_UNWRITTEN_BYTES + MERGED_MAX_BYTES:
            raise self.violated(f"{told.sender} has {kept.append_bytes} bytes of produces in its store")

    def _on_append_over(self, told: MessageTold) -> None:
        over = told.message
        assert isinstance(over, BatchAppended | AppendRefused)
        if self.model.place(told.receiver)[1] == "server":
            kept = self._of(told.receiver)
            size = kept.appends.pop(over.request_id, 0)
            kept.append_bytes -= size
            if isinstance(over, BatchAppended) and over.term == kept.leads_in and not over.is_duplicate:
                kept.uncommitted.append((over.index, size))
                kept.uncommitted_bytes += size
                self._forget_committed(kept, self.model.node(self.model.place(told.receiver)[0]).committed.index)
                self._check_uncommitted(told.receiver, kept)

    # ------------------------------------------------------------ the uncommitted log

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "server":
            kept = self._of(told.receiver)
            kept.leads_in = changed.term if changed.leader_id == node_id else None
            if kept.leads_in is None:
                kept.uncommitted.clear()
                kept.uncommitted_bytes = 0

    def _on_committed(self, told: MessageTold) -> None:
        advanced = told.message
        assert isinstance(advanced, CommitAdvanced)
        if self.model.place(told.receiver)[1] == "server":
            self._forget_committed(self._of(told.receiver), advanced.committed.index)

    def _forget_committed(self, kept: _Kept, committed: Index) -> None:
        while kept.uncommitted and kept.uncommitted[0][0] < committed:
            kept.uncommitted_bytes -= kept.uncommitted.popleft()[1]

    def _check_uncommitted(self, server: str, kept: _Kept) -> None:
        config = self.model.node(self.model.place(server)[0]).config
        assert config is not None, "it has started"
        entries, size = len(kept.uncommitted), kept.uncommitted_bytes
        if entries > 1 and (entries > config.max_uncommitted_entries or size > config.max_uncommitted_bytes):
            raise self.violated(
                f"{server} has appended {entries} entries of {size} bytes that no majority has, where "
                f"{config.max_uncommitted_entries} of {config.max_uncommitted_bytes} are allowed"
            )

    # ------------------------------------------------------------ readers at the end

    def _on_consume(self, told: MessageTold) -> None:
        consume = told.message
        assert isinstance(consume, Consume)
        if consume.wait:
            self._of(told.receiver).readers[consume.request_id] = told.time_s

    def _on_read(self, told: MessageTold) -> None:
        """The read was refused, or handed to the store: the server no longer keeps it."""
        self._of(told.sender).readers.pop(told.message.request_id, None)  # type: ignore[attr-defined]

    def _on_cancel(self, told: MessageTold) -> None:
        cancel = told.message
        assert isinstance(cancel, CancelRequest)
        self._of(told.receiver).readers.pop(cancel.request_id, None)

    def _check_readers(self, node: NodeModel) -> None:
        """Check the readers, except those that have only just asked and may be about to be refused."""
        kept = self._nodes.get(node.node_id)
        if kept is None or node.config is None or self.model.hindrances.is_held_up(node.node_id, self.time_s):
            return
        waiting = sum(asked_s <= self.time_s - CATCHES_UP_WITHIN_S for asked_s in kept.readers.values())
        if waiting > node.config.max_waiting_requests:
            raise self.violated(
                f"{waiting} readers wait at the end of {node.node_id}'s log, where {node.config.max_waiting_requests} "
                "may"
            )

    # ------------------------------------------------------------ fetches and boundaries

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        if isinstance(received.request, FetchRequest):
            self._of(told.receiver).fetches[received.request_id] = inf

    def _on_call_over(self, told: MessageTold) -> None:
        fetches, request_id = self._of(told.receiver).fetches, told.message.request_id  # type: ignore[attr-defined]
        if request_id in fetches:
            fetches[request_id] = told.time_s

    def _on_call_answer(self, told: MessageTold) -> None:
        self._of(told.sender).fetches.pop(told.message.request_id, None)  # type: ignore[attr-defined]

    def _on_status(self, told: MessageTold) -> None:
        reported = told.message
        assert isinstance(reported, StatusReported)
        status, node = reported.status, self.model.sender_of(told)
        if not isinstance(status, ReplicatorStatus) or node is None or not node.log.opened or node.spoiled:
            return
        if not self.model.hindrances.is_held_up(node.node_id, self.time_s):
            self._check_replicator(node, status)

    def _check_replicator(self, node: NodeModel, status: ReplicatorStatus) -> None:
        kept = self._of(f"{node.node_id}.replicator")
        kept.fetches = {key: over_s for key, over_s in kept.fetches.items() if over_s > self.time_s - IN_FLIGHT_S}
        waiting = len(kept.fetches)
        if status.parked_fetches > waiting:
            raise self.violated(
                f"{node.node_id} keeps {status.parked_fetches} fetches, and only {waiting} were neither answered nor "
                "given up"
            )
        needed = max(0, node.log.end.index - status.committed.index) + UNTOLD_BOUNDARIES
        if status.boundaries > needed:
            raise self.violated(
                f"{node.node_id} keeps {status.boundaries} boundaries between batches, where {needed} would do: it has "
                f"committed {status.committed} of a log up to {node.log.end}"
            )
