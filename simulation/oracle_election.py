"""The occupant of the election slot that believes an oracle: what a voter of Raft does, without asking its peers.

It saves ballots when it is told to, reports that, and follows or leads as the oracle (see
`ourolog.simulation.oracle`) says. What makes a change of leader safe is decided there; that a node keeps
its promises over crashes is decided here. `--election oracle` exists in simulations only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage, HigherTermSeen, LeaderHinted
from ourolog.actors.messages.events import LeaderChanged, LogCut, LogOpened, VotersChanged
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.store import AppendControl, BallotSaved, SaveBallot
from ourolog.actors.occupants import OCCUPANTS, Occupants
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import MAX_EPOCH, Voter, VotersSet
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import NodeId, Term

ORACLE: Final = "oracle"
STEPS_DOWN_WITHIN_S: Final = 1.0

DEAF_FOR_S: Final = 3.0
"""For how long at most a leader goes on that others tell of a later term, in seconds. How soon it gives way must not
matter."""
DEAF_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class DiskTrusted:
    """Oracle -> election, before anything else: this disk has all that the node ever promised."""


@dataclass(frozen=True, slots=True)
class VoteAsked:
    """Oracle -> election: vote for that candidate, which may be this node itself, and answer with VoteSaved.

    term: the one in which the candidate stands.
    candidate_id: the candidate.
    last: its last entry; None where this node is the candidate.
    reply_to: where VoteSaved goes.
    """

    term: Term
    candidate_id: NodeId
    last: LastEntry | None
    reply_to: Mailbox[VoteSaved]


@dataclass(frozen=True, slots=True)
class VoteSaved:
    """Election -> oracle: the vote is on disk, or was refused.

    term: as it was asked.
    granted: whether the candidate has the vote.
    last: the last entry of this node's log, which holds until this term has a leader.
    """

    term: Term
    granted: bool
    last: LastEntry


@dataclass(frozen=True, slots=True)
class LeadGiven:
    """Oracle -> election: a majority of the voters has voted for this node in this term."""

    term: Term


@dataclass(frozen=True, slots=True)
class LeaderTold:
    """Oracle -> election: who leads in this term."""

    term: Term
    leader_id: NodeId


@dataclass(frozen=True, slots=True)
class StepDownDue:
    """Election -> itself: the vote in this term has not been announced yet."""

    term: Term


@dataclass(frozen=True, slots=True)
class VotersWanted:
    """Oracle -> election: if this node leads in that term, its log is to say once more who votes."""

    term: Term


OracleMessage = DiskTrusted | VoteAsked | LeadGiven | LeaderTold | StepDownDue | VotersWanted


@dataclass(frozen=True, slots=True)
class _Saving:
    """A ballot on its way to the disk.

    term: its term.
    then: what follows once the store has answered.
    """

    term: Term
    then: Callable[[BallotSaved], None]


class OracleElection(ElectionActor):
    """The occupant that believes the oracle. A node that led, and was started again, leads no more in that term."""

    # It does nothing about cuts; the checkers see what a store says of them.
    hears: ClassVar[frozenset[type]] = frozenset({LogCut})

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self._newest = Ballot()
        self._saving: _Saving | None = None
        self._waiting: deque[ElectionMessage | OracleMessage] = deque()
        self._is_trusted = False
        self._is_open = False
        self._unheeded: HigherTermSeen | None = None

    @property
    def promised_term(self) -> Term:
        """The term of the newest ballot that is on disk or on its way there."""
        return max(self._newest.term, self._saving.term if self._saving is not None else Term(0))

    def on_receive(self, message: ElectionMessage | OracleMessage) -> None:
        match message:
            case DiskTrusted():
                self._is_trusted = True
            case LogOpened():
                self._on_log_opened(message)
            case VoteAsked() | LeadGiven() | LeaderTold() if not self._is_open:
                pass  # what this node has promised is still to be read from its disk
            case VoteAsked() | LeadGiven() | LeaderTold() | HigherTermSeen() | LeaderHinted() if self._saving:
                self._waiting.append(message)  # what is to be done hangs on what will be on disk
            case VoteAsked():
                self._on_vote_asked(message)
            case LeadGiven():
                newest = self._newest
                if (newest.term, newest.voted_for, newest.leader_id) == (message.term, self.node_id, None):
                    self._follow(message.term, self.node_id)
            case LeaderTold():
                if message.leader_id != self.node_id:
                    self._on_leader_told(message)
            case HigherTermSeen():
                if message.term > self._newest.term and self._heeds(message):
                    self._on_hint(message.term, message.leader_id)
            case LeaderHinted():
                if message.term == self._newest.term and self._newest.leader_id is None and self._is_trusted:
                    self._on_hint(message.term, message.leader_id)
            case BallotSaved():
                self._on_ballot_saved(message)
            case StepDownDue():
                if message.term > self.term:
                    self._change(message.term, None)
            case VotersWanted():
                self._on_voters_wanted(message)
            case _:
                super().on_receive(message)

    def _on_ballot_saved(self, saved: BallotSaved) -> None:
        assert self._saving is not None, "the store answers what it was asked"
        then = self._saving.then
        self._newest, self._saving = saved.ballot, None
        then(saved)
        while self._waiting and self._saving is None:
            self.on_receive(self._waiting.popleft())

    def _on_log_opened(self, opened: LogOpened) -> None:
        """Announce what the ballot says, at times without the leader, which is then told again."""
        self._is_open = True
        self._newest = ballot = opened.ballot
        self.announce(VotersChanged(self.config.election.voters))
        # What a leader had not synced may live elsewhere under the same index and term.
        is_known = self._is_trusted and ballot.leader_id != self.node_id and self.ports.rng.random() < 0.5
        self.announce(LeaderChanged(ballot.term, ballot.leader_id if is_known else None))

    def _on_vote_asked(self, asked: VoteAsked) -> None:
        def saved(saved: BallotSaved) -> None:
            asked.reply_to.tell(VoteSaved(asked.term, saved.granted, LastEntry.of(saved.last, saved.end.index)))
            # The store knows the new term; how soon the other actors hear of it must not matter.
            is_soon = self.ports.rng.random() < 0.6
            delay_s = 0.0 if is_soon else STEPS_DOWN_WITHIN_S * self.ports.rng.random()
            self.ports.timers.after(delay_s, self.me, StepDownDue(saved.ballot.term))

        if asked.last is not None or asked.term > self._newest.term:
            self._save(Ballot(asked.term, asked.candidate_id), saved, asked.last)

    def _on_leader_told(self, told: LeaderTold) -> None:
        newest = self._newest
        if told.term > newest.term or (told.term == newest.term and newest.leader_id is None):
            self._follow(told.term, told.leader_id)
        elif told.term == newest.term == self.term and newest.leader_id == told.leader_id:
            self._change(told.term, told.leader_id)

    def _heeds(self, seen: HigherTermSeen) -> bool:
        """Whether to act upon this now. A leader does not at times, and goes on leading for a while."""
        if seen is self._unheeded:
            self._unheeded = None
            return True
        if self.leader_id != self.node_id:
            return True
        if self._unheeded is None and self.ports.rng.random() >= DEAF_SHARE:
            return True
        if self._unheeded is None:
            self._unheeded = seen
            self.ports.timers.after(DEAF_FOR_S * self.ports.rng.random(), self.me, seen)
        return False

    def _on_hint(self, term: Term, leader_id: NodeId | None) -> None:
        """Handle a later term that another node mentioned.

        A node that has lost its disk has forgotten what it promised: it must not follow a leader that it had left
        before, and when it is told that it leads itself, it does not know in what.
        """
        is_believed = self._is_trusted and leader_id != self.node_id
        self._follow(term, leader_id if is_believed else None)

    def _follow(self, term: Term, leader_id: NodeId | None) -> None:
        """Announce who leads in that term.

        leader_id: the leader, which may be this node; None for one that is not known.
        """
        voted_for = self._newest.voted_for if term == self._newest.term else None
        self._save(Ballot(term, voted_for, leader_id), lambda _: self._change(term, leader_id))

    def _save(self, ballot: Ballot, then: Callable[[BallotSaved], None], candidate: LastEntry | None = None) -> None:
        self._saving = _Saving(ballot.term, then)
        self.store.tell(SaveBallot(next(self.request_ids), ballot, self.me, candidate))

    def _change(self, term: Term, leader_id: NodeId | None) -> None:
        if (term, leader_id) != (self.term, self.leader_id):
            self.announce(LeaderChanged(term, leader_id))

    def _on_voters_wanted(self, wanted: VotersWanted) -> None:
        """Write a voter set unlike any other: its log epochs are random, and nobody uses them."""
        if (self.term, self.leader_id) == (wanted.term, self.node_id):
            voters = tuple(
                Voter(node_id, self.ports.rng.randrange(1, MAX_EPOCH), f"{node_id}:8400", f"{node_id}:8401")
                for node_id in self.config.election.voters
            )
            self.store.tell(AppendControl(next(self.request_ids), VotersSet(voters), self.term, self.me))


SIMULATED_OCCUPANTS: Final[Occupants] = {**OCCUPANTS, ORACLE: OracleElection}
"""The occupants that need not be installed in a simulation. A real node does not know the oracle."""
