"""A plain election by majority vote, and others that differ from it by one broken promise each.

They are there to prove the conformance suite of several nodes: `VotingElection` passes it, and each of the others
turns red the test of what it breaks. They ask by calls of their own, `KINDS`. The fixture
`elections` of test_election_conformance.py adds these to what the simulated network carries, and installs all of the
elections by entry points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ourolog.actors.election.none import NoElection
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.election.static import StaticElection
from ourolog.actors.messages.election import ElectionMessage, HigherTermSeen, LeaderAnswered, LeaderHinted, VoterFetched
from ourolog.actors.messages.events import (
    LeaderChanged,
    LogAppended,
    LogOpened,
    MemberJoined,
    MemberUpdated,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import (
    Answerer,
    CallAnswer,
    CallKind,
    CallReceived,
    CallRefused,
    CallReturned,
    PeerRequest,
)
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Timer
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

TIMES_OUT_AFTER_S: Final = (1.5, 3.0)
"""Between which two times, in seconds, a voter that hears of no leader stands itself."""


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """The answer to a VoteRequest: whether `node_id` voted for who asked, and the term of its ballot."""

    node_id: NodeId
    term: Term
    granted: bool


@dataclass(frozen=True, slots=True)
class VoteRequest(PeerRequest[VoteResponse]):
    """Candidate -> voter: vote for `node_id` in `term` (Raft section 5.2); its log ends with `last`."""

    node_id: NodeId
    term: Term
    last: LastEntry


@dataclass(frozen=True, slots=True)
class LeadResponse:
    """The answer to a LeadRequest: it was heard."""


@dataclass(frozen=True, slots=True)
class LeadRequest(PeerRequest[LeadResponse]):
    """Leader -> the others: a majority has voted for `node_id` in `term`."""

    node_id: NodeId
    term: Term


KINDS: Final = {
    VoteRequest: CallKind("vote", VoteResponse, Answerer.ELECTION, lambda _: 1.0),
    LeadRequest: CallKind("lead", LeadResponse, Answerer.ELECTION, lambda _: 1.0),
}
"""How the calls are carried that this election makes."""


@dataclass(frozen=True, slots=True)
class ElectionTimedOut:
    """Timer -> election: no leader was heard of. serial: tells an old timer from the present one."""

    serial: int


class VotingElection(ElectionActor):
    """Whoever hears of no leader for a while stands in the next term, and leads when a majority has voted for it."""

    hears = frozenset({LeaderAnswered, VoterFetched})

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.is_open = False
        self.newest = Term(0)  # of the ballots that are on disk or on their way there
        self.candidacy: Term | None = None
        self.votes: set[NodeId] = set()
        self.fetched: set[NodeId] = set()  # while this node leads, since it looked last
        self.addresses: dict[NodeId, str] = {}
        self.saving: dict[int, Callable[[BallotSaved], None]] = {}
        self.timer: Timer | None = None
        self.serial = 0

    def on_receive(self, message: ElectionMessage | ElectionTimedOut) -> None:
        match message:
            case LogOpened():
                self.open(message)
            case MemberJoined() | MemberUpdated():
                self.addresses[message.member.node_id] = message.member.peer_addr
            case ElectionTimedOut(serial):
                if serial == self.serial:
                    self.wait()
                    self.step_down()
                    self.stand()
            case VoterFetched():
                self.fetched.add(message.voter_id)
            case LeaderAnswered():
                if message.term == self.term:
                    self.wait()
            case HigherTermSeen():
                self.adopt(message.term, message.leader_id)
            case LeaderHinted():
                self.follow(message.term, message.leader_id)
            case CallReceived(request=VoteRequest()):
                self.on_vote_asked(message)
            case CallReceived(request=LeadRequest(node_id, term)):
                self.follow(term, node_id)
                self.tell_answer(message, LeadResponse())
            case CallReturned(response=VoteResponse()):
                self.on_vote(message.response)
            case BallotSaved():
                self.saving.pop(message.request_id)(message)
            case _:
                super().on_receive(message)

    def open(self, opened: LogOpened) -> None:
        self.is_open = True
        self.newest = opened.ballot.term
        self.announce(VotersChanged(self.config.election.voters))
        self.announce(LeaderChanged(opened.ballot.term, None))
        self.wait()

    def wait(self) -> None:
        """Begin to wait for a leader anew."""
        if self.timer is not None:
            self.timer.cancel()
        self.serial += 1
        delay_s = self.ports.rng.uniform(*TIMES_OUT_AFTER_S)
        self.timer = self.ports.timers.after(delay_s, self.me, ElectionTimedOut(self.serial))

    def save(self, ballot: Ballot, then: Callable[[BallotSaved], None], candidate: LastEntry | None = None) -> None:
        self.newest = max(self.newest, ballot.term)
        request_id = next(self.request_ids)
        self.saving[request_id] = then
        self.store.tell(SaveBallot(request_id, ballot, self.me, candidate))

    def enter(self, saved: BallotSaved) -> None:
        """Say that a later term has begun, whoever began it."""
        if saved.ballot.term > self.term:
            if self.leader_id == self.node_id:
                self.wait()
            self.announce(LeaderChanged(saved.ballot.term, saved.ballot.leader_id))

    def adopt(self, term: Term, leader_id: NodeId | None) -> None:
        if term > self.newest:
            self.save(Ballot(term, None, leader_id if leader_id != self.node_id else None), self.enter)

    def follow(self, term: Term, leader_id: NodeId) -> None:
        self.adopt(term, leader_id)
        if term == self.term and self.leader_id is None and leader_id != self.node_id:
            self.announce(LeaderChanged(term, leader_id))

    # ------------------------------------------------------------ standing

    def stand(self) -> None:
        if self.leader_id != self.node_id and self.node_id in self.config.election.voters:
            self.save(Ballot(Term(self.newest + 1), self.node_id), self.ask_for_votes)

    def ask_for_votes(self, saved: BallotSaved) -> None:
        self.enter(saved)
        term = saved.ballot.term
        if not saved.granted or term != self.newest:
            return
        self.candidacy, self.votes = term, {self.node_id}
        self.ask_all(VoteRequest(self.node_id, term, LastEntry.of(saved.last, saved.end.index)))
        self.count()

    def ask_all(self, request: PeerRequest[Any]) -> None:
        for voter in self.config.election.voters:
            if voter in self.addresses:
                self.ports.network.call(Peer(voter, self.addresses[voter]), next(self.request_ids), request, self.me)

    def step_down(self) -> None:
        """Lead no longer if no majority has fetched anything for a while; nobody stands in the place of a leader."""
        if self.leader_id == self.node_id:
            if len(self.fetched | {self.node_id}) < self.majority:
                self.announce(LeaderChanged(self.term, None))
            self.fetched.clear()

    def on_vote(self, vote: VoteResponse) -> None:
        if vote.granted and vote.term == self.candidacy:
            self.votes.add(vote.node_id)
            self.count()
        self.adopt(vote.term, None)

    def count(self) -> None:
        if self.candidacy == self.newest and self.leader_id is None and len(self.votes) >= self.majority:
            self.announce(LeaderChanged(self.candidacy, self.node_id))
            self.ask_all(LeadRequest(self.node_id, self.candidacy))

    @property
    def majority(self) -> int:
        return len(self.config.election.voters) // 2 + 1

    # ------------------------------------------------------------ voting

    def on_vote_asked(self, asked: CallReceived[VoteRequest]) -> None:
        if self.is_open:
            request = asked.request
            ballot = Ballot(request.term, request.node_id)
            self.save(ballot, lambda saved: self.answer(asked, saved), candidate=request.last)
        else:
            self.tell_answer(asked, CallRefused(f"{self.node_id} is starting"))

    def answer(self, asked: CallReceived[VoteRequest], saved: BallotSaved) -> None:
        self.enter(saved)
        if saved.granted:
            self.wait()
        self.tell_answer(asked, VoteResponse(self.node_id, saved.ballot.term, saved.granted))

    def tell_answer(self, asked: CallReceived[Any], response: VoteResponse | LeadResponse | CallRefused) -> None:
        asked.reply_to.tell(CallAnswer(asked.request_id, response))


# ---------------------------------------------------------------- and others, with one promise broken each


class KeepsVotesInMemory(VotingElection):
    """Its ballot on disk has the term and not the vote: a power cut, and it votes again in that term."""

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.voted: dict[Term, NodeId] = {}

    def on_vote_asked(self, asked: CallReceived[VoteRequest]) -> None:
        request = asked.request
        if not self.is_open or request.term < self.newest:
            self.tell_answer(asked, CallRefused("not now"))
            return

        def judge(saved: BallotSaved) -> None:
            self.enter(saved)
            is_whole = request.last >= LastEntry.of(saved.last, saved.end.index)
            is_free = saved.ballot == Ballot(request.term) and is_whole
            granted = is_free and self.voted.setdefault(request.term, request.node_id) == request.node_id
            if granted:
                self.wait()
            self.tell_answer(asked, VoteResponse(self.node_id, saved.ballot.term, granted))

        self.save(Ballot(request.term), judge)


class BelievesEveryAnswer(VotingElection):
    """Counts whoever answers as a vote, granted or not."""

    def on_vote(self, vote: VoteResponse) -> None:
        super().on_vote(VoteResponse(vote.node_id, vote.term, granted=True))


class LeadsAlone(VotingElection):
    """Its own vote is enough for it."""

    majority = 1


class VotesForAnybody(VotingElection):
    """Saves its vote without a candidate, so that nobody compares logs."""

    def on_vote_asked(self, asked: CallReceived[VoteRequest]) -> None:
        request = asked.request
        if self.is_open and request.term > self.newest:
            ballot = Ballot(request.term, request.node_id)
            self.save(ballot, lambda saved: self.answer(asked, saved))
        else:
            self.tell_answer(asked, CallRefused("not now"))


class ComparesLengths(VotingElection):
    """The longer log is the better one for it, of whatever term."""

    hears = VotingElection.hears | {LogAppended}
    last_term = Term(0)

    def on_receive(self, message: ElectionMessage | ElectionTimedOut) -> None:
        super().on_receive(message)
        if isinstance(message, LogOpened | LogAppended):
            self.last_term = message.terms.last_term

    def save(self, ballot: Ballot, then: Callable[[BallotSaved], None], candidate: LastEntry | None = None) -> None:
        if candidate is not None:
            candidate = LastEntry(self.last_term, candidate.index)
        super().save(ballot, then, candidate)


class RemembersItsEnd(VotesForAnybody):
    """Compares the candidate's log with its own as that was when it was told of it last."""

    last = LastEntry(Term(0), Index(0))

    def open(self, opened: LogOpened) -> None:
        super().open(opened)
        self.last = LastEntry(opened.terms.last_term, opened.end.index)

    def enter(self, saved: BallotSaved) -> None:
        super().enter(saved)
        self.last = LastEntry.of(saved.last, saved.end.index)

    def on_vote_asked(self, asked: CallReceived[VoteRequest]) -> None:
        if asked.request.last < self.last:
            self.tell_answer(asked, CallRefused("not for a log that is shorter than mine was"))
        else:
            super().on_vote_asked(asked)


class LeadsUnheard(VotingElection):
    """Leads until somebody tells it of a later term."""

    def step_down(self) -> None:
        pass


class GivesUp(VotingElection):
    """Whoever has stood three times in vain does not stand again."""

    vain = 0

    def stand(self) -> None:
        self.vain += 1
        if self.vain <= 3:
            super().stand()


class IgnoresLaterTerms(LeadsUnheard):
    """Goes on in its own term, whatever the others say, and whether anybody follows."""

    def adopt(self, term: Term, leader_id: NodeId | None) -> None:
        pass


class SaysNothingAfterARestart(VotingElection):
    """Waits in silence for a leader if it has voted before."""

    def open(self, opened: LogOpened) -> None:
        if opened.ballot == Ballot():
            super().open(opened)


class LeadsOnce(StaticElection):
    """A decreed leader that does not lead again once it has led."""

    def on_receive(self, message: ElectionMessage) -> None:
        if isinstance(message, LogOpened) and message.ballot.leader_id == self.node_id:
            self.announce(VotersChanged(self.config.election.voters))
            self.announce(LeaderChanged(message.ballot.term, None))
        else:
            super().on_receive(message)


class LeadsWhereNobodyShould(NoElection):
    """Says that nobody is elected, and to its owner that it leads."""

    def on_receive(self, message: ElectionMessage) -> None:
        super().on_receive(message)
        if isinstance(message, LogOpened):
            self.observer.tell(LeaderChanged(Term(1), self.node_id))
