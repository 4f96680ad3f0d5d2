"""How a read of the latest state is confirmed: not by what may be older than the read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    CallAnswer,
    CallReceived,
    CallReturned,
    FetchRequest,
    FetchResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.replicator import ConfirmRead, ReadConfirmed
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.types import NodeId, Term

QUESTION: Final = CALL_KINDS[ReadIndexRequest].name
_MAX_OPEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Read:
    """When a read began, in which term its node led then (0 for none), and the last number of a round by then."""

    at_s: float
    term: Term
    number: int


@dataclass(frozen=True, slots=True)
class _Lost:
    """A lead that a node has been told it has lost: since when, which, and what had been echoed in it."""

    at_s: float
    term: Term
    echoes: dict[NodeId, int]


class ReadsProved(EventChecker):
    """Follows the numbers of rounds in answers to fetches and in fetches, and the questions of those who do not lead.

    A confirmation by less is wrong at once, whether or not another leader has committed anything meanwhile: that is
    for `latest_reads_linearizable` to find.
    """

    name: ClassVar[str] = "reads_proved"
    statement: ClassVar[str] = (
        "A read of the latest state is confirmed when, since it began, a majority of the voters has echoed a number "
        "that the leader had given nobody before, in fetches of its term, or when a question that was sent to the "
        "leader since has been answered so (Raft section 8)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent}
        self.on_told = {
            VotersChanged: self._on_voters,
            LeaderChanged: self._on_leader,
            ConfirmRead: self._on_confirm,
            CallReceived: self._on_call,
            CallAnswer: self._on_answer,
            CallReturned: self._on_returned,
            ReadConfirmed: self._on_confirmed,
        }
        self._voters: dict[NodeId, tuple[NodeId, ...]] = {}
        self._led: dict[NodeId, Term] = {}
        self._numbers: dict[NodeId, int] = {}
        self._echoes: dict[NodeId, dict[NodeId, int]] = {}
        self._lost: dict[NodeId, _Lost] = {}
        self._sent_s: dict[NodeId, float] = {}
        self._answered_s: dict[NodeId, float] = {}
        self._open: OrderedDict[tuple[NodeId, str, int], _Read] = OrderedDict()

    def _on_started(self, event: NodeStarted) -> None:
        for of_node in (self._led, self._numbers, self._echoes, self._lost, self._sent_s, self._answered_s):
            of_node.pop(event.node_id, None)

    def _on_voters(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, VotersChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._voters[node_id] = changed.voters

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            term = changed.term if changed.leader_id == node_id else Term(0)
            before = self._led.get(node_id)
            if term != before:
                if before:
                    self._lost[node_id] = _Lost(self.time_s, before, self._echoes[node_id])
                self._led[node_id], self._numbers[node_id], self._echoes[node_id] = term, 0, {}

    # ------------------------------------------------------------ reads begin

    def _on_confirm(self, told: MessageTold) -> None:
        assert isinstance(told.message, ConfirmRead)
        self._begin(told, "server", told.message.request_id)

    def _begin(self, told: MessageTold, asked_by: str, request_id: int) -> None:
        node_id = self.model.place(told.receiver)[0]
        read = _Read(self.time_s, self._led.get(node_id, Term(0)), self._numbers.get(node_id, 0))
        self._open[node_id, asked_by, request_id] = read
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)

    # ------------------------------------------------------------ what proves something

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        node_id = self.model.place(told.receiver)[0]
        if isinstance(request, ReadIndexRequest):
            self._begin(told, "call", received.request_id)
        elif isinstance(request, FetchRequest) and request.elected and request.term == self._led.get(node_id):
            # A fetch that comes late takes back nothing.
            echoes = self._echoes[node_id]
            echoes[request.node_id] = max(request.read_round, echoes.get(request.node_id, 0))

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        response = answer.response
        node_id = self.model.place(told.sender)[0]
        if isinstance(response, FetchResponse):
            if response.term == self._led.get(node_id):
                self._numbers[node_id] = max(response.read_round, self._numbers.get(node_id, 0))
        elif isinstance(response, ReadIndexResponse) and response.committed is not None:
            self._check(told, "call", answer.request_id)

    def _on_sent(self, event: PacketSent) -> None:
        if event.what == QUESTION:
            self._sent_s[event.source] = event.time_s

    def _on_returned(self, told: MessageTold) -> None:
        returned = told.message
        assert isinstance(returned, CallReturned)
        response = returned.response
        if isinstance(response, ReadIndexResponse) and response.committed is not None:
            node_id = self.model.place(told.receiver)[0]
            self._answered_s[node_id] = self._sent_s.get(node_id, -inf)

    # ------------------------------------------------------------ reads end

    def _on_confirmed(self, told: MessageTold) -> None:
        assert isinstance(told.message, ReadConfirmed)
        self._check(told, "server", told.message.request_id)

    def _check(self, told: MessageTold, asked_by: str, request_id: int) -> None:
        node_id = self.model.place(told.sender)[0]
        read = self._open.pop((node_id, asked_by, request_id), None)
        voters = self._voters.get(node_id, ())
        if read is None or not voters or self._answered_s.get(node_id, -inf) >= read.at_s:
            return
        lost = self._lost.get(node_id)
        if (
            lost is not None
            and self._may_not_know_of(lost, node_id)
            and self._is_proved(read, lost.term, lost.echoes, node_id)
        ):
            return
        term, echoes = self._led.get(node_id, Term(0)), self._echoes.get(node_id, {})
        if not self._is_proved(read, term, echoes, node_id):
            proved = self._who_echoed(read, term, echoes, node_id)
            whose = f"only {', '.join(proved) or 'nobody'} has echoed a number that it gave nobody before"
            raise self.violated(
                f"{told.sender} confirmed a read that it was told of at {read.at_s:.3f} s, and since then "
                f"{whose if term else 'no question that it sent to a leader was answered'}"
            )

    def _may_not_know_of(self, lost: _Lost, node_id: NodeId) -> bool:
        """Whether the message by which a node was told may still wait behind fetches that came before it."""
        return lost.at_s > self.time_s - IN_FLIGHT_S or self.model.hindrances.node_clear_s(node_id) >= lost.at_s

    def _is_proved(self, read: _Read, term: Term, echoes: dict[NodeId, int], node_id: NodeId) -> bool:
        """Whether these echoes of a term confirm a read to the node that leads in it."""
        echoed = self._who_echoed(read, term, echoes, node_id)
        return bool(term) and any(2 * sum(one in echoed for one in some) > len(some) for some in self._sets(node_id))

    def _sets(self, node_id: NodeId) -> list[tuple[NodeId, ...]]:
        """Whose echoes count: a leader counts by its log, which may be ahead of what its election has announced."""
        sets = [self._voters[node_id]]
        node = self.model.nodes.get(node_id)
        if node is not None and node.is_vote_of_disk and node.voter_set is not None:
            sets.append(tuple(voter.node_id for voter in node.voter_set.voters))
        return sets

    def _who_echoed(self, read: _Read, term: Term, echoes: dict[NodeId, int], node_id: NodeId) -> list[NodeId]:
        """The voters that have echoed a number which had been given to nobody when the read began, and the leader."""
        before = read.number if read.term == term else 0
        voters = dict.fromkeys(voter for some in self._sets(node_id) for voter in some)
        return [voter for voter in voters if voter == node_id or echoes.get(voter, 0) > before]
