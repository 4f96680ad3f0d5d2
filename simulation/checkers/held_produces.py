"""A leader that hands over has a log with a fixed end, and what it holds is in nobody's log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ourolog.actors.messages.events import HoldProduces, LeaderChanged, ProducesHeld, ReleaseProduces
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.server import (
    CancelRequest,
    Produce,
    Produced,
    RequestRefused,
)
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeSaid, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId


@dataclass(slots=True)
class _Server:
    """What the server of one node was told and has told.

    taken: the open produces that came before HoldProduces, or while nothing is held.
    held: the values of those that came after it, by request.
    appends: the ids of the appends that its store has not answered.
    hold_id: of the question whether it holds, None once it was told to go on, or that the leader has changed.
    leads: whether it was told that its node leads.
    """

    taken: set[int] = field(default_factory=set)
    held: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    appends: set[int] = field(default_factory=set)
    hold_id: int | None = None
    leads: bool = False


class HandOverHolds(EventChecker):
    """Follows what each server is told to hold, and what it then tells its store, by the values of the records."""

    name: ClassVar[str] = "hand_over_keeps_still"
    statement: ClassVar[str] = (
        "What a leader takes while it hands over is not told to its store before it goes on leading or a term begins; "
        "and when its server says that it is drained, all that came before is answered, and no append is under way."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_ended,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            NodeSaid: self._on_said,
        }
        self.on_told = {
            Produce: self._on_produce,
            Produced: self._on_answer,
            RequestRefused: self._on_answer,
            CancelRequest: self._on_cancel,
            HoldProduces: self._on_hold,
            ProducesHeld: self._on_held,
            ReleaseProduces: self._on_release,
            LeaderChanged: self._on_leader_changed,
            AppendBatch: self._on_append,
            BatchAppended: self._on_appended,
            AppendRefused: self._on_appended,
        }
        self._servers: dict[NodeId, _Server] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._servers.pop(event.node_id, None)

    def _on_said(self, event: NodeSaid) -> None:
        if isinstance(event.event, NodeFailed):
            self._servers.pop(event.node_id, None)

    def _of(self, actor_name: str) -> _Server | None:
        node_id, actor = self.model.place(actor_name)
        return self._servers.setdefault(node_id, _Server()) if actor == "server" else None

    def _on_produce(self, told: MessageTold) -> None:
        server, produce = self._of(told.receiver), told.message
        assert isinstance(produce, Produce)
        if server is None:
            return
        if server.hold_id is not None:
            server.held[produce.request_id] = records_of(produce.batch.payload, produce.batch.record_count)
        else:
            server.taken.add(produce.request_id)

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, Produced | RequestRefused)
        self._close(self._of(told.sender), answer.request_id)

    def _on_cancel(self, told: MessageTold) -> None:
        cancel = told.message
        assert isinstance(cancel, CancelRequest)
        self._close(self._of(told.receiver), cancel.request_id)

    def _close(self, server: _Server | None, request_id: int) -> None:
        if server is not None:
            server.taken.discard(request_id)
            server.held.pop(request_id, None)

    def _on_hold(self, told: MessageTold) -> None:
        server, hold = self._of(told.receiver), told.message
        assert isinstance(hold, HoldProduces)
        if server is not None and server.leads:
            server.hold_id = hold.request_id

    def _on_held(self, told: MessageTold) -> None:
        server, held = self._of(told.sender), told.message
        assert isinstance(held, ProducesHeld)
        if server is None or server.hold_id != held.request_id or not held.is_drained:
            return
        if server.taken or server.appends:
            raise self.violated(
                f"{told.sender} says that it is drained, and has not answered {len(server.taken)} produces, nor its "
                f"store {len(server.appends)} appends"
            )

    def _on_release(self, told: MessageTold) -> None:
        server = self._of(told.receiver)
        if server is not None:
            self._end(server)

    def _on_leader_changed(self, told: MessageTold) -> None:
        server, changed = self._of(told.receiver), told.message
        assert isinstance(changed, LeaderChanged)
        if server is not None:
            server.leads = changed.leader_id == self.model.place(told.receiver)[0]
            self._end(server)

    def _end(self, server: _Server) -> None:
        server.hold_id = None
        server.taken.update(server.held)
        server.held.clear()

    def _on_append(self, told: MessageTold) -> None:
        server, append = self._of(told.sender), told.message
        assert isinstance(append, AppendBatch)
        if server is None:
            return
        server.appends.add(append.request_id)
        if server.held:
            held = {value for values in server.held.values() for value in values}
            for value in records_of(append.batch.payload, append.batch.record_count):
                if value in held:
                    raise self.violated(f"{told.sender} told its store to append {value!r}, which it holds", value)

    def _on_appended(self, told: MessageTold) -> None:
        server, answer = self._of(told.receiver), told.message
        assert isinstance(answer, BatchAppended | AppendRefused)
        if server is not None:
            server.appends.discard(answer.request_id)
