"""Who leads goes on leading: what ends a lead is a later term, a disk, or a majority that is silent."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallReceived,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
)
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.check_quorum import election_timeout_s
from ourolog.simulation.checkers.hindrances import CATCHES_UP_WITHIN_S, IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeCrashed, NodePaused, NodeResumed, NodeSaid, NodeStarted
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term

SILENT_FOR: Final = 1.25
"""Election timeouts: one and a half by the leader's clock, which may be fast, less what its election hears late."""

STOOD_STILL_FOR: Final = 1.0
"""Election timeouts: a process that stood still for so long knows that its look at the voters comes late."""

LOOKS_FOR: Final = 0.2
"""Election timeouts: a quarter, by the leader's own clock, until it looks again."""


@dataclass(slots=True)
class _Lead:
    """A term in which a node leads.

    term: which one.
    since_s: since when, in virtual seconds.
    fetched: when each voter's disk fetched last, as far as that is known to count.
    open: by the number of the call, the fetches without an answer: whose, and when they came.
    has_given_up: whether the node has said that it gives up.
    """

    term: Term
    since_s: float
    fetched: dict[VoterKey, float] = field(default_factory=dict)
    open: dict[int, tuple[VoterKey, float]] = field(default_factory=dict)
    has_given_up: bool = False

    def count(self, key: VoterKey, came_s: float) -> None:
        """Note that this voter's fetch, which came then, is one that counts."""
        self.fetched[key] = max(came_s, self.fetched.get(key, -inf))


class LeadsEndForCause(EventChecker):
    """Follows which fetches come to each leader, and looks back when it stops leading within its term.

    A fetch counts when it comes, if it is valid. A valid one is answered with batches, or waits; another is turned down
    at once.
    """

    name: ClassVar[str] = "leads_end_for_cause"
    statement: ClassVar[str] = (
        "Who leads stops leading only in a later term, when it has said that it gives up, or when no majority of the "
        f"voters has fetched from it for {SILENT_FOR:g} election timeouts; and a leader that stood still looks at what "
        "has come in meanwhile first (Raft dissertation section 6.2)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeStarted: self._on_ended,
            NodeCrashed: self._on_ended,
            NodePaused: self._on_paused,
            NodeResumed: self._on_resumed,
            NodeSaid: self._on_said,
        }
        self.on_told = {
            LeaderChanged: self._on_leader,
            CallReceived: self._on_call,
            CallAnswer: self._on_answer,
            CallCancelled: self._on_cancelled,
        }
        self._leads: dict[NodeId, _Lead] = {}
        self._paused_s: dict[NodeId, float] = {}
        self._stood_until_s: dict[NodeId, float] = {}

    def _on_ended(self, event: NodeStarted | NodeCrashed) -> None:
        for of_node in (self._leads, self._paused_s, self._stood_until_s):
            of_node.pop(event.node_id, None)

    def _on_paused(self, event: NodePaused) -> None:
        self._paused_s[event.node_id] = event.time_s

    def _on_resumed(self, event: NodeResumed) -> None:
        paused_s = self._paused_s.pop(event.node_id, inf)
        if event.time_s - paused_s >= STOOD_STILL_FOR * election_timeout_s(self.model.nodes[event.node_id]):
            self._stood_until_s[event.node_id] = event.time_s

    def _on_said(self, event: NodeSaid) -> None:
        warned, lead = event.event, self._leads.get(event.node_id)
        if lead is not None and isinstance(warned, NodeWarned) and warned.kind is WarningKind.LEAD_GIVEN_UP:
            lead.has_given_up = True

    # ------------------------------------------------------------ who fetches

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if not isinstance(request, FetchRequest):
            return
        lead = self._leads.get(self.model.place(told.receiver)[0])
        if lead is not None and request.elected and request.term == lead.term:
            # Of one that is delivered twice the first counts.
            key = VoterKey(request.node_id, request.log_epoch)
            lead.open.setdefault(received.request_id, (key, told.time_s))

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        lead = self._leads.get(self.model.place(told.sender)[0])
        if lead is None or not isinstance(answer.response, FetchResponse):
            return
        came = lead.open.pop(answer.request_id, None)
        if came is not None and answer.response.outcome is FetchOutcome.BATCHES:
            lead.count(*came)

    def _on_cancelled(self, told: MessageTold) -> None:
        cancelled = told.message
        assert isinstance(cancelled, CallCancelled)
        lead = self._leads.get(self.model.place(told.receiver)[0])
        came = lead.open.pop(cancelled.request_id, None) if lead is not None else None
        if lead is not None and came is not None and self._waits(came[1]):
            lead.count(*came)

    def _waits(self, came_s: float) -> bool:
        """Whether a fetch that came then and has no answer waits, as a valid one does, if nothing holds the node up."""
        return came_s < self.time_s - IN_FLIGHT_S

    # ------------------------------------------------------------ who leads

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator":
            return
        lead = self._leads.get(node_id)
        if changed.leader_id == node_id:
            if lead is None or lead.term != changed.term:
                self._leads[node_id] = _Lead(changed.term, told.time_s)
        elif lead is not None:
            del self._leads[node_id]
            if changed.term == lead.term and not lead.has_given_up:
                self._check(self.model.nodes[node_id], lead)

    def _check(self, leader: NodeModel, lead: _Lead) -> None:
        if leader.key not in self.model.voters_of(leader):
            return  # it votes no more, and leaves
        node_id, timeout_s = leader.node_id, election_timeout_s(leader)
        stood_until_s = self._stood_until_s.get(node_id, -inf)
        if self.time_s < stood_until_s + LOOKS_FOR * timeout_s:
            raise self.violated(
                f"{node_id} gave up the lead of term {lead.term}, and had stood still until {stood_until_s:.3f} s"
            )
        heard_s = self._heard_s(leader, lead)
        if (
            self.time_s < heard_s + SILENT_FOR * timeout_s
            and self.model.hindrances.process_clear_s(node_id) <= heard_s - CATCHES_UP_WITHIN_S
        ):
            raise self.violated(
                f"{node_id} gave up the lead of term {lead.term}, which it had since {lead.since_s:.3f} s, and a "
                f"majority of its voters had fetched from it since {heard_s:.3f} s"
            )

    def _heard_s(self, leader: NodeModel, lead: _Lead) -> float:
        """When the leader last had heard from a majority of its voters, itself among them; inf if it is one alone.

        A leader that has just begun has heard from those that voted for it.
        """
        for key, came_s in lead.open.values():
            if self._waits(came_s):
                lead.count(key, came_s)
        voters = self.model.voters_of(leader)
        needed = len(voters) // 2 + 1 - (leader.key in voters)
        if needed <= 0:
            return inf
        times_s = sorted((lead.fetched.get(voter, -inf) for voter in voters if voter != leader.key), reverse=True)
        return max(lead.since_s, times_s[needed - 1])
