"""Votes: to whom they may be given, judged by what is on the voter's disk at that moment."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import ClassVar, Final

from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.peer_calls import CallReceived, VoteRequest
from ourolog.actors.messages.store import BallotSaved, LogDescribed, SaveBallot
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

_MAX_REMEMBERED: Final = 256
"""A question with which a node stood so many ends of its log ago is no longer on its way."""


@dataclass(slots=True)
class _Voter:
    """What one node has promised, and what it is being asked.

    ballot: the last one that it said is on its disk.
    votes: for whom it voted, with which disk, by term, since its disk last lost anything.
    asked: the ballots that its store is to save, by request.
    disks: how many disks it had lost when the first of these votes was given.
    ends: the last entries that its store has told its election of, the latest last.
    """

    ballot: Ballot = field(default_factory=Ballot)
    votes: dict[Term, tuple[NodeId, int]] = field(default_factory=dict)
    asked: dict[int, SaveBallot] = field(default_factory=dict)
    disks: int = 0
    ends: OrderedDict[LastEntry, None] = field(default_factory=OrderedDict)

    def note_end(self, described: BallotSaved | LogDescribed) -> None:
        end = LastEntry.of(described.last, described.end.index)
        self.ends[end] = None
        self.ends.move_to_end(end)
        if len(self.ends) > _MAX_REMEMBERED:
            self.ends.popitem(last=False)


class VotesByPresentEnd(EventChecker):
    """Follows each ballot from the question to the answer, and compares the candidate's log with the voter's."""

    name: ClassVar[str] = "votes_by_present_end"
    statement: ClassVar[str] = (
        "A node votes for a candidate only if the candidate's last entry is no older, by term and then by index, than "
        "the last one of its own log as it is at that moment (Raft section 5.4.1), for one candidate, with one disk, "
        "in a term over all crashes, and for none but the leader where it knows one. It refuses nobody else who asks "
        "in a later term than it was in, and is in that term from then on, without a vote on its disk. And who "
        "asks for votes, or if it would get them, says of its log what its store has told it, and ends with no later "
        "entry than the log does."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LogOpened: self._on_opened,
            SaveBallot: self._on_asked,
            BallotSaved: self._on_saved,
            LogDescribed: self._on_described,
            CallReceived: self._on_call,
        }
        self._voters: dict[NodeId, _Voter] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._voters.setdefault(event.node_id, _Voter()).asked.clear()

    def _on_opened(self, told: MessageTold) -> None:
        opened, node = told.message, self.model.receiver_of(told)
        assert isinstance(opened, LogOpened)
        if node is None:
            return
        voter = self._voters.setdefault(node.node_id, _Voter())
        if node.spoiled or node.disks != voter.disks:
            # What its disk has forgotten it may promise to somebody else.
            voter.votes.clear()
            voter.disks = node.disks
        voter.ballot = opened.ballot

    def _on_asked(self, told: MessageTold) -> None:
        asked = told.message
        assert isinstance(asked, SaveBallot)
        node_id = self.model.place(told.receiver)[0]
        self._voters.setdefault(node_id, _Voter()).asked[asked.request_id] = asked

    def _on_saved(self, told: MessageTold) -> None:
        saved, node = told.message, self.model.sender_of(told)
        assert isinstance(saved, BallotSaved)
        voter = self._voters.get(node.node_id) if node is not None else None
        if node is None or voter is None:
            return
        voter.note_end(saved)
        asked = voter.asked.pop(saved.request_id, None)
        before, voter.ballot = voter.ballot, saved.ballot
        if saved.ballot.vote is not None:
            known = voter.votes.setdefault(saved.ballot.term, saved.ballot.vote)
            if known != saved.ballot.vote and not node.spoiled:
                other = " with another disk" if known[0] == saved.ballot.voted_for else ""
                raise self.violated(
                    f"{node.node_id} votes for {saved.ballot.voted_for} in term {saved.ballot.term}, and has voted for "
                    f"{known[0]}{other} in it"
                )
        if asked is not None and asked.candidate is not None:
            self._judge(node, asked, saved, before)

    def _on_described(self, told: MessageTold) -> None:
        described = told.message
        assert isinstance(described, LogDescribed)
        node_id, actor = self.model.place(told.receiver)
        if actor == "election":
            self._voters.setdefault(node_id, _Voter()).note_end(described)

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        candidate = self.model.nodes.get(request.node_id) if isinstance(request, VoteRequest) else None
        if candidate is None or candidate.key != request.key:
            return
        assert isinstance(request, VoteRequest)
        asks = f"{request.node_id} asks for {'pre-' if request.is_pre_vote else ''}votes in term {request.term} with"
        said = request.last.term, request.last.index
        if request.last not in self._voters.setdefault(request.node_id, _Voter()).ends:
            raise self.violated(f"{asks} a log that ends at index {said[1]} in term {said[0]}, as its store never said")
        # Nobody cuts its log in that term before another one leads.
        follows = candidate.ballot.leader_id not in (None, request.node_id)
        own = last_of(candidate)
        if request.is_pre_vote or candidate.ballot.term != request.term or follows or own is None:
            return
        if said > own:
            raise self.violated(
                f"{asks} a log that ends at index {said[1]} in term {said[0]}, and it ends at index {own[1]} in term "
                f"{own[0]}"
            )

    def _judge(self, node: NodeModel, asked: SaveBallot, saved: BallotSaved, before: Ballot) -> None:
        own = last_of(node)
        if own is None or asked.candidate is None:
            return
        candidate = asked.candidate.term, asked.candidate.index
        if saved.ballot.term < asked.ballot.term:
            raise self.violated(
                f"{node.node_id} was asked for its vote in term {asked.ballot.term}, and stays in {saved.ballot.term}"
            )
        if not saved.granted and before.term < saved.ballot.term and saved.ballot.vote is not None:
            raise self.violated(
                f"{node.node_id} refuses its vote in term {asked.ballot.term}, and has saved one for "
                f"{saved.ballot.voted_for} in term {saved.ballot.term}"
            )
        is_led = asked.ballot.term == before.term and before.leader_id not in (None, asked.ballot.voted_for)
        if saved.granted and is_led:
            raise self.violated(
                f"{node.node_id} votes for {asked.ballot.voted_for} in term {before.term}, and {before.leader_id} "
                "leads in it"
            )
        of_whom = f"{asked.ballot.voted_for}, whose log ends at index {candidate[1]} in term {candidate[0]}"
        own_end = f"its own ends at index {own[1]} in term {own[0]}"
        if saved.granted and candidate < own:
            raise self.violated(f"{node.node_id} votes in term {asked.ballot.term} for {of_whom}, and {own_end}")
        if not saved.granted and candidate >= own and asked.ballot.term > before.term:
            raise self.violated(f"{node.node_id} refuses its vote in term {asked.ballot.term} to {of_whom}; {own_end}")


def last_of(node: NodeModel) -> tuple[Term, Index] | None:
    """Term of the last entry and the index after it; None where the model cannot know."""
    log = node.log
    if not log.opened or node.spoiled or node.is_blind or node.is_rotten:
        return None
    last = log.entry(log.end.index - 1)
    if last is None:
        return (Term(0), log.end.index) if log.end.index == 0 else None
    return last.term, log.end.index
