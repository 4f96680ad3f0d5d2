"""Waiting clients are answered when what they wait for has come: readers at the end of the log, and produces."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    LeaderChanged,
    ReplicasAdvanced,
)
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.server import CancelRequest, Consume, Produce, Produced, RequestRefused
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, BatchesRead, ReadRefused
from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.actors.server import REPAIR_WAIT_S
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeSaid, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId, Offset

SOON_S: Final = 0.5
"""Between the event and the answer there are only messages between the actors of one node."""


class _Waiters(EventChecker):
    """What both checkers have in common: who waits at which node, and since when the answer is due."""

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_ended,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            NodeSaid: self._on_said,
        }

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self.forget(event.node_id)

    def _on_said(self, event: NodeSaid) -> None:
        if isinstance(event.event, NodeFailed):
            self.forget(event.node_id)

    def forget(self, node_id: NodeId) -> None:
        """Nobody waits at that node any more."""
        raise NotImplementedError

    def is_overdue(self, node_id: NodeId, due_s: float) -> bool:
        return self.time_s > max(due_s, self.model.hindrances.node_clear_s(node_id) + SOON_S)


class ReadersWoken(_Waiters):
    """Follows each waiting Consume until the node's commit position has passed its offset."""

    name: ClassVar[str] = "readers_woken"
    statement: ClassVar[str] = (
        f"A reader that waits at the end of the log is answered within {SOON_S:g} s after what it waits for is "
        f"committed on the node that it asked; {REPAIR_WAIT_S:g} s later if that may be damaged there."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            Consume: self._on_consume,
            BatchesRead: self._on_answer,
            ReadRefused: self._on_answer,
            RequestRefused: self._on_answer,
            CancelRequest: self._on_cancel,
            CommitAdvanced: self._on_committed,
            BatchAppended: self._on_committed,
            LeaderChanged: self._on_leader_changed,
            CommitKnown: self._on_commit_known,
            ProbeDue: self._look,
        }
        self._waiting: dict[NodeId, dict[int, Offset]] = {}
        self._due: dict[NodeId, dict[int, float]] = {}
        self._unknowing: set[NodeId] = set()

    def forget(self, node_id: NodeId) -> None:
        self._waiting.pop(node_id, None)
        self._due.pop(node_id, None)
        self._unknowing.discard(node_id)

    def _on_leader_changed(self, told: MessageTold) -> None:
        """A leader does not know the end of what is committed until an entry of its own is."""
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id = self.model.place(told.receiver)[0]
        if changed.leader_id == node_id:
            self._unknowing.add(node_id)
        else:
            self._unknowing.discard(node_id)

    def _on_commit_known(self, told: MessageTold) -> None:
        self._unknowing.discard(self.model.place(told.receiver)[0])
        self._on_committed(told)

    def _on_consume(self, told: MessageTold) -> None:
        consume = told.message
        assert isinstance(consume, Consume)
        node = self.model.receiver_of(told)
        # When a read of the latest state begins to wait, nothing that is told says.
        if consume.wait and consume.read is ReadLevel.COMMITTED and node is not None and node.is_up:
            # Before it waits for more at the end of the log, it waits for what its client has seen.
            awaited = max(consume.offset, consume.seen_end - 1) if node.is_elected else consume.offset
            self._waiting.setdefault(node.node_id, {})[consume.request_id] = Offset(awaited)
            self._on_committed(told)

    def _on_answer(self, told: MessageTold) -> None:
        self._drop(self.model.place(told.sender)[0], told.message.request_id)  # type: ignore[attr-defined]

    def _on_cancel(self, told: MessageTold) -> None:
        self._drop(self.model.place(told.receiver)[0], told.message.request_id)  # type: ignore[attr-defined]

    def _drop(self, node_id: NodeId, request_id: int) -> None:
        self._waiting.get(node_id, {}).pop(request_id, None)
        self._due.get(node_id, {}).pop(request_id, None)

    def _on_committed(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.opened is None:
            return
        waiting = self._waiting.get(node.node_id)
        if waiting:
            due = self._due.setdefault(node.node_id, {})
            for request_id, offset in waiting.items():
                # A read of what retention has removed is answered with the readable range, once that is known.
                is_told_a_range = offset < node.log.start.offset and node.node_id in self._unknowing
                if offset < node.committed.offset and not is_told_a_range:
                    due.setdefault(request_id, told.time_s + SOON_S)

    def _look(self, _: MessageTold) -> None:
        for node_id, due in self._due.items():
            repairs_s = REPAIR_WAIT_S if self.model.nodes[node_id].is_rotten else 0.0
            for request_id, due_s in due.items():
                if self.is_overdue(node_id, due_s + repairs_s):
                    raise self.violated(
                        f"{node_id} lets a reader of offset {self._waiting[node_id][request_id]} wait, and has "
                        f"committed {self.model.nodes[node_id].committed} since {due_s - SOON_S:.3f} s"
                    )


@dataclass(slots=True)
class _OpenProduce:
    """A produce that its server has been told of and has not answered.

    append_id: the append in which the store was told of it, 0 before.
    index: where it is on disk, -1 before.
    due_s, why: until when it must be answered, and why; inf and "" while it may wait.
    """

    request_id: int
    acks: Acks
    append_id: int = 0
    index: int = -1
    due_s: float = inf
    why: str = ""


@dataclass(slots=True)
class _Produces:
    """The open produces of one node, but for records that were produced again while they were open."""

    by_value: dict[bytes, _OpenProduce] = field(default_factory=dict)
    values: dict[int, bytes] = field(default_factory=dict)
    twice: set[bytes] = field(default_factory=set)
    everywhere: int = 0
    leads: bool = False
    is_disputed: bool = False


class ProducesAnswered(_Waiters):
    """Finds the records of open produces on the disk of their node, by their values."""

    name: ClassVar[str] = "produces_answered"
    statement: ClassVar[str] = (
        f"A produce is answered within {SOON_S:g} s after what its acks ask for has come to pass, its append was "
        "refused, its node has lost the lead after the store was told of it, or knows that another node leads or why "
        "nobody can; while two nodes claim the lead, when they agree again."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            Produce: self._on_produce,
            AppendBatch: self._on_append,
            AppendRefused: self._on_append_refused,
            BatchAppended: self._on_progress,
            CommitAdvanced: self._on_progress,
            ReplicasAdvanced: self._on_replicas,
            LeaderChanged: self._on_leader_changed,
            ClaimsDisputed: self._on_disputed,
            ClaimsSettled: self._on_settled,
            Produced: self._on_answer,
            RequestRefused: self._on_answer,
            CancelRequest: self._on_cancel,
            ProbeDue: self._look,
        }
        self.on_log = self._on_log_changed
        self._nodes: dict[NodeId, _Produces] = {}

    def forget(self, node_id: NodeId) -> None:
        self._nodes.pop(node_id, None)

    def _of(self, told: MessageTold) -> _Produces | None:
        node_id, actor = self.model.place(told.receiver)
        if actor != "server":
            return None
        return self._nodes.setdefault(node_id, _Produces())

    def _on_produce(self, told: MessageTold) -> None:
        produce = told.message
        assert isinstance(produce, Produce)
        node = self.model.receiver_of(told)
        values = records_of(produce.batch.payload, produce.batch.record_count)
        of_node = self._of(told)
        if node is None or node.config is None or of_node is None or len(values) != 1 or values[0] in of_node.twice:
            return
        if values[0] in of_node.by_value:
            # Sent again while the first attempt is open: which of the two an append is for, its value does not say.
            of_node.twice.add(values[0])
            opened = of_node.by_value.pop(values[0])
            del of_node.values[opened.request_id]
            return
        acks = node.config.acks if produce.acks is Acks.DEFAULT else produce.acks
        opened = _OpenProduce(produce.request_id, acks if node.is_elected else Acks.LEADER)
        of_node.by_value[values[0]] = opened
        of_node.values[produce.request_id] = values[0]

    def _on_append(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.sender)
        append = told.message
        assert isinstance(append, AppendBatch)
        of_node = self._nodes.get(node_id)
        if actor != "server" or of_node is None or not of_node.by_value:
            return
        for value in records_of(append.batch.payload, append.batch.record_count):
            produce = of_node.by_value.get(value)
            if produce is not None:
                produce.append_id = append.request_id
                if self.model.node(node_id).is_elected and not of_node.leads:
                    self._expect(produce, told, "its node had lost the lead before the store was told of it")

    def _on_append_refused(self, told: MessageTold) -> None:
        of_node, refused = self._of(told), told.message
        assert isinstance(refused, AppendRefused)
        if of_node is not None:
            for produce in of_node.by_value.values():
                if produce.append_id == refused.request_id and produce.index < 0:
                    self._expect(produce, told, f"its append was refused ({refused.reason})")

    def _expect(self, produce: _OpenProduce, told: MessageTold, why: str) -> None:
        if produce.due_s == inf:
            produce.due_s, produce.why = told.time_s + SOON_S, why

    def _on_log_changed(self, node: NodeModel) -> None:
        of_node = self._nodes.get(node.node_id)
        if of_node is None or not of_node.by_value:
            return
        for entry in self.model.fresh:
            if entry.path == (node.node_id,):
                for value in entry.values:
                    if value in of_node.by_value:
                        of_node.by_value[value].index = entry.index

    def _on_replicas(self, told: MessageTold) -> None:
        of_node, advanced = self._of(told), told.message
        assert isinstance(advanced, ReplicasAdvanced)
        if of_node is not None:
            of_node.everywhere = advanced.index
            self._on_progress(told)

    def _on_progress(self, told: MessageTold) -> None:
        of_node = self._of(told)
        node = self.model.receiver_of(told)
        if of_node is None or node is None or not of_node.by_value or (node.is_elected and not of_node.leads):
            return
        if of_node.is_disputed:
            return
        appended = told.message.index if isinstance(told.message, BatchAppended) else -1
        for produce in of_node.by_value.values():
            match produce.acks:
                case Acks.LEADER:
                    is_done = produce.index == appended
                case Acks.QUORUM:
                    is_done = produce.index < node.committed.index
                case _:
                    is_done = produce.index < min(node.committed.index, of_node.everywhere)
            if is_done and produce.index >= 0:
                self._expect(produce, told, f"entry {produce.index} has all that acks={produce.acks.name.lower()} asks")

    def _on_disputed(self, told: MessageTold) -> None:
        """While two nodes claim contradictory things about the lead, nothing is acknowledged."""
        of_node = self._of(told)
        if of_node is not None:
            of_node.is_disputed = True
            for produce in of_node.by_value.values():
                produce.due_s = inf

    def _on_settled(self, told: MessageTold) -> None:
        of_node = self._of(told)
        if of_node is not None:
            of_node.is_disputed = False
            self._on_progress(told)

    def _on_leader_changed(self, told: MessageTold) -> None:
        of_node, changed = self._of(told), told.message
        assert isinstance(changed, LeaderChanged)
        if of_node is None:
            return
        leads = changed.leader_id == self.model.place(told.receiver)[0]
        of_node.everywhere = 0
        if not leads:
            may_wait = changed.leader_id is None and not changed.why_nobody
            for produce in of_node.by_value.values():
                if not may_wait or (of_node.leads and produce.append_id):
                    self._expect(produce, told, "its node was told that it does not lead")
        of_node.leads = leads

    def _on_answer(self, told: MessageTold) -> None:
        self._drop(self.model.place(told.sender)[0], told.message.request_id)  # type: ignore[attr-defined]

    def _on_cancel(self, told: MessageTold) -> None:
        self._drop(self.model.place(told.receiver)[0], told.message.request_id)  # type: ignore[attr-defined]

    def _drop(self, node_id: NodeId, request_id: int) -> None:
        of_node = self._nodes.get(node_id)
        if of_node is not None:
            value = of_node.values.pop(request_id, None)
            if value is not None:
                del of_node.by_value[value]

    def _look(self, _: MessageTold) -> None:
        for node_id, of_node in self._nodes.items():
            for produce in of_node.by_value.values():
                if produce.due_s < self.time_s and self.is_overdue(node_id, produce.due_s):
                    raise self.violated(
                        f"{node_id} has not answered produce {produce.request_id} {SOON_S:g} s after {produce.why}"
                    )
