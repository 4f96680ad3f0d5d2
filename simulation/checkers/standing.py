"""Who begins a term: a candidate that others want, and nobody else."""

from __future__ import annotations

from typing import ClassVar, Final

from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    BeginTermRequest,
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    TermResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.store import BallotSaved, DescribeLog, SaveBallot
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.votes import last_of
from ourolog.simulation.events import MessageTold, NodeStarted, PacketSent
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

ASKS: Final = CALL_KINDS[VoteRequest].name


class StandsWhenWanted(EventChecker):
    """Counts the pre-votes that each node is told of, and looks at each ballot that it wants saved."""

    name: ClassVar[str] = "stands_when_wanted"
    statement: ClassVar[str] = (
        "Nobody begins a term but a voter to whom a majority of the voters has said in the term before, when it asked "
        "them last, that they would vote for it, or which the leader has asked to take over; and nobody says so to a "
        "node whose log ends earlier than its own (Raft dissertation sections 9.6 and 3.10). To other terms a node "
        "goes when it hears of them. Who asks for votes says of its log what was on disk with its own vote, and that "
        "the leader has asked it to take over only if that is so."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent}
        self.on_told = {
            CallReceived: self._on_call,
            CallAnswer: self._on_answer,
            CallReturned: self._on_returned,
            HigherTermSeen: lambda told: self._hear(told, told.message.term),
            DescribeLog: self._on_describe,
            SaveBallot: self._on_save,
            BallotSaved: self._on_saved,
        }
        self.on_log = self._on_log_changed
        # Pre-votes under way, each with the least that the log of who was asked has had since.
        self._asked: dict[tuple[NodeId, int], tuple[VoteRequest, tuple[Term, Index] | None]] = {}
        self._answers: dict[int, VoteResponse] = {}
        self._granted: dict[NodeId, tuple[Term, set[VoterKey]]] = {}
        # The last request id with which an election has asked its log's end, now and when it last began to ask for
        # votes: what it asks afterwards has later ones.
        self._described: dict[NodeId, int] = {}
        self._asks_after: dict[NodeId, int] = {}
        self._asked_to: dict[NodeId, Term] = {}
        self._heard: dict[NodeId, Term] = {}
        # Of all candidates ever, since requests may come late: where their logs ended, and who was asked to stand.
        self._ends: dict[tuple[VoterKey, Term], LastEntry] = {}
        self._relieved: set[tuple[VoterKey, Term]] = set()

    def _on_started(self, event: NodeStarted) -> None:
        for of_node in (self._granted, self._asked_to, self._heard, self._described, self._asks_after):
            of_node.pop(event.node_id, None)
        for key in [key for key in self._asked if key[0] == event.node_id]:
            del self._asked[key]

    def _hear(self, told: MessageTold, term: Term) -> None:
        node_id = self.model.place(told.receiver)[0]
        self._heard[node_id] = max(term, self._heard.get(node_id, Term(0)))

    # ------------------------------------------------------------ pre-votes

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request, node = received.request, self.model.receiver_of(told)
        if not isinstance(request, VoteRequest | BeginTermRequest | EndTermRequest) or node is None:
            return
        self._hear(told, request.term)
        if isinstance(request, EndTermRequest) and node.key in request.successors:
            self._asked_to[node.node_id] = request.term
            self._relieved.add((node.key, request.term))
        elif isinstance(request, VoteRequest) and not request.is_pre_vote:
            self._judge(request)
        elif isinstance(request, VoteRequest) and request.is_pre_vote:
            self._asked[node.node_id, received.request_id] = request, last_of(node)

    def _on_saved(self, told: MessageTold) -> None:
        saved, node = told.message, self.model.sender_of(told)
        assert isinstance(saved, BallotSaved)
        if node is not None and saved.granted and saved.ballot.vote == node.key:
            end = LastEntry.of(saved.last, saved.end.index)
            self._ends.setdefault((node.key, saved.ballot.term), end)

    def _judge(self, request: VoteRequest) -> None:
        key = VoterKey(request.node_id, request.log_epoch)
        end = self._ends.get((key, request.term), request.last)
        if end != request.last:
            raise self.violated(
                f"{request.node_id} stands in term {request.term} with a log that ends at index {request.last.index} "
                f"in term {request.last.term}, and with its own vote it ended at index {end.index} in term {end.term}"
            )
        if request.by_leave and (key, Term(request.term - 1)) not in self._relieved:
            raise self.violated(
                f"{request.node_id} says that it was asked to stand in term {request.term}, and nobody has asked it"
            )

    def _on_log_changed(self, node: NodeModel) -> None:
        for key, (request, least) in self._asked.items():
            if key[0] == node.node_id and least is not None:
                end = last_of(node)
                self._asked[key] = request, min(least, end) if end is not None else None

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        node_id = self.model.place(told.sender)[0]
        request, least = self._asked.pop((node_id, answer.request_id), (None, None))
        response = answer.response
        if request is None or not isinstance(response, VoteResponse) or not response.granted:
            return
        candidate = request.last.term, request.last.index
        if least is not None and candidate < least:
            raise self.violated(
                f"{node_id} would vote for {request.node_id}, whose log ends at index {candidate[1]} in term "
                f"{candidate[0]}, and its own ends at index {least[1]} in term {least[0]}"
            )
        self._answers[id(response)] = response  # kept, so that no other object gets the same id

    def _on_describe(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.sender)
        if actor == "election":
            self._described[node_id] = told.message.request_id  # type: ignore[attr-defined]

    def _on_sent(self, event: PacketSent) -> None:
        """A canvass begins: all questions of one are sent together, before anybody can have answered."""
        if event.what == ASKS:
            self._granted.pop(event.source, None)
            self._asks_after[event.source] = self._described.get(event.source, 0)

    def _on_returned(self, told: MessageTold) -> None:
        returned, node = told.message, self.model.receiver_of(told)
        assert isinstance(returned, CallReturned)
        response = returned.response
        if not isinstance(response, VoteResponse | TermResponse) or node is None:
            return
        self._hear(told, response.term)
        is_pre_vote = self._answers.pop(id(response), None) is not None
        if not is_pre_vote or returned.request_id <= self._asks_after.get(node.node_id, 0):
            return
        assert isinstance(response, VoteResponse)
        known = self._granted.get(node.node_id)
        if known is None or known[0] != response.term:
            known = self._granted[node.node_id] = response.term, {node.key}
        known[1].add(response.key)

    # ------------------------------------------------------------ terms that begin

    def _on_save(self, told: MessageTold) -> None:
        asked, node = told.message, self.model.receiver_of(told)
        assert isinstance(asked, SaveBallot)
        if node is None or node.opened is None or asked.ballot.term <= node.ballot.term:
            return
        node_id, ballot = node.node_id, asked.ballot
        if ballot.voted_for != node_id and ballot.term <= self._heard.get(node_id, Term(0)):
            return
        before = node.ballot.term
        voters = self.model.voters_of(node)
        term, granted = self._granted.pop(node_id, (before, {node.key}))
        wanted = granted.intersection(voters) if term == before else {node.key}.intersection(voters)
        if 2 * len(wanted) <= len(voters) and self._asked_to.get(node_id) != before:
            raise self.violated(
                f"{node_id} begins term {ballot.term}, and of its voters only "
                f"{', '.join(sorted(voter.node_id for voter in wanted)) or 'nobody'} would vote for it"
            )
