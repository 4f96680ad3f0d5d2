"""A leader whose disk hangs or has failed lets others lead: nobody else can know that it commits nothing any more."""

from __future__ import annotations

from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallReceived
from ourolog.actors.messages.store import StoreFailed
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import FaultInjected, MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId, Term

GIVES_UP_AFTER: Final = 3.0
"""Election timeouts: two that it gives its disk, and what passes before it looks, by a clock that may be slow."""

AT_ONCE_S: Final = 0.1
"""Between the store's word that it has failed and the end of the lead there are only messages of one node."""

_HANGS: Final = "disk_hangs"


class _Leads(EventChecker):
    """What both checkers have in common: who leads in which term, and since when."""

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {LeaderChanged: self._on_leader}
        self._leads: dict[NodeId, tuple[Term, float]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leads.pop(event.node_id, None)

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator":
            return
        if changed.leader_id != node_id:
            self._leads.pop(node_id, None)
        elif self._leads.get(node_id, (Term(0), 0.0))[0] != changed.term:
            self._leads[node_id] = changed.term, told.time_s


class HungDisksEndLeads(_Leads):
    """Follows whose disk does not answer, and whether that node leads.

    Its followers go on asking such a leader, which answers them from memory; so nobody else ends its lead.
    """

    name: ClassVar[str] = "hung_disks_end_leads"
    statement: ClassVar[str] = (
        f"A leader whose disk has not answered for {GIVES_UP_AFTER:g} election timeouts stops leading, unless its "
        "process stands still or is slow (hashicorp/raft issue 503)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on[FaultInjected] = self._on_fault
        self.on_told[ProbeDue] = self._look
        self._hangs: dict[NodeId, tuple[float, float]] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        super()._on_ended(event)
        self._hangs.pop(event.node_id, None)

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind == _HANGS:
            self._hangs[NodeId(event.where)] = event.time_s, event.until_s

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.node_id not in self._leads or node.node_id not in self._hangs:
            return
        term, led_s = self._leads[node.node_id]
        hangs_s, until_s = self._hangs[node.node_id]
        since_s = max(hangs_s, led_s, self.model.hindrances.process_clear_s(node.node_id))
        if since_s + GIVES_UP_AFTER * election_timeout_s(node) < min(self.time_s, until_s):
            raise self.violated(f"{node.node_id} still leads term {term}, and its disk hangs since {hangs_s:.3f} s")


class FailedDisksEndLeads(_Leads):
    """Follows whose store has failed, and looks whenever any node is called whether that node still leads.

    The node ends soon afterwards, and its followers would miss it only then.
    """

    name: ClassVar[str] = "failed_disks_end_leads"
    statement: ClassVar[str] = (
        "A leader whose store says that it has failed stops leading at once, before its process ends, unless that "
        "stands still or is slow, or the disk hung or was slow before it failed: then its election hears of it late."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told |= {StoreFailed: self._on_failed, CallReceived: self._look, ProbeDue: self._look}
        self._failed_s: dict[NodeId, float] = {}

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        super()._on_ended(event)
        self._failed_s.pop(event.node_id, None)

    def _on_failed(self, told: MessageTold) -> None:
        self._failed_s[self.model.place(told.receiver)[0]] = told.time_s

    def _look(self, _: MessageTold) -> None:
        for node_id, failed_s in self._failed_s.items():
            since_s = max(failed_s, self.model.hindrances.node_clear_s(node_id))
            if node_id in self._leads and self.time_s > since_s + AT_ONCE_S:
                term = self._leads[node_id][0]
                raise self.violated(f"{node_id} still leads term {term}, and its store has failed at {failed_s:.3f} s")
