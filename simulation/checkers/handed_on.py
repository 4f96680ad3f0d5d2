"""What a server has taken goes to its store soon, whether or not it gathers behind others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from ourolog.actors.messages.events import ClaimsDisputed, HoldProduces, LeaderChanged, NobodyElected
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.server import CancelRequest, Produce, Produced, RequestRefused
from ourolog.actors.messages.store import AppendBatch
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeSaid, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId

SOON_S: Final = 0.5
"""Between the two are messages between the actors of one node, and a wait for company of some milliseconds."""


@dataclass(slots=True)
class _Server:
    """What the server of one node has taken and not handed on.

    takes: whether it appends what comes now.
    values: the records of those produces, by request.
    since_s: when they came, in seconds of virtual time.
    """

    takes: bool = False
    values: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    since_s: dict[int, float] = field(default_factory=dict)

    def forget(self, request_id: int) -> None:
        self.values.pop(request_id, None)
        self.since_s.pop(request_id, None)

    def forget_all(self) -> None:
        self.values.clear()
        self.since_s.clear()


class HandedOn(EventChecker):
    """Follows what each server takes until its store is told of it, by the values of the records."""

    name: ClassVar[str] = "produces_handed_on"
    statement: ClassVar[str] = (
        f"A produce that a server takes to append it is told to its store within {SOON_S:g} s, unless it is refused, "
        "or its node loses or hands over the lead meanwhile: it waits for company, and not for long."
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
            AppendBatch: self._on_append,
            LeaderChanged: self._on_leader_changed,
            NobodyElected: self._on_nobody_elected,
            HoldProduces: self._on_held_up,
            ClaimsDisputed: self._on_held_up,
            ProbeDue: self._look,
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
        if server is not None and server.takes:
            server.values[produce.request_id] = records_of(produce.batch.payload, produce.batch.record_count)
            server.since_s[produce.request_id] = told.time_s

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, Produced | RequestRefused)
        server = self._of(told.sender)
        if server is not None:
            server.forget(answer.request_id)

    def _on_cancel(self, told: MessageTold) -> None:
        cancel = told.message
        assert isinstance(cancel, CancelRequest)
        server = self._of(told.receiver)
        if server is not None:
            server.forget(cancel.request_id)

    def _on_append(self, told: MessageTold) -> None:
        server, append = self._of(told.sender), told.message
        assert isinstance(append, AppendBatch)
        if server is not None and server.values:
            handed_on = frozenset(records_of(append.batch.payload, append.batch.record_count))
            for request_id, values in list(server.values.items()):
                if handed_on.issuperset(values):
                    server.forget(request_id)

    def _on_leader_changed(self, told: MessageTold) -> None:
        server, changed = self._of(told.receiver), told.message
        assert isinstance(changed, LeaderChanged)
        if server is not None:
            server.takes = changed.leader_id == self.model.place(told.receiver)[0]
            server.forget_all()

    def _on_nobody_elected(self, told: MessageTold) -> None:
        server = self._of(told.receiver)
        if server is not None:
            server.takes = True

    def _on_held_up(self, told: MessageTold) -> None:
        """What comes from here on is held or refused; this checker looks again when the next term begins."""
        server = self._of(told.receiver)
        if server is not None:
            server.takes = False
            server.forget_all()

    def _look(self, _: MessageTold) -> None:
        for node_id, server in self._servers.items():
            if not server.since_s:
                continue
            request_id, since_s = next(iter(server.since_s.items()))
            if self.time_s > max(since_s, self.model.hindrances.node_clear_s(node_id)) + SOON_S:
                raise self.violated(
                    f"{node_id} has not told its store of produce {request_id}, which it took at {since_s:.3f} s"
                )
