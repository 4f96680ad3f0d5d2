"""The occupant of the election slot that believes an oracle: what a voter of Raft does, without asking its peers.

It saves ballots when it is told to, says so, and follows or leads whom the oracle (see
`ourolog.simulation.oracle`) names. What makes a change of leader safe is decided there; that a node keeps
its word over crashes is its own part. `--election oracle` exists in simulations only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage, HigherTermSeen, LeaderHinted
from ourolog.actors.messages.events import LeaderChanged, LogOpened, VotersChanged
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.occupants import OCCUPANTS, Occupants
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import NodeId, Term

ORACLE: Final = "oracle"
STEPS_DOWN_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class DiskTrusted:
    """Oracle -> election, before anything else: this disk has all that the node ever promised."""


@dataclass(frozen=True, slots=True)
class VoteAsked:
    """Oracle -> election: save a ballot of this term, and after that accept nothing of an older one."""

    term: Term
    reply_to: Mailbox[VoteSaved]


@dataclass(frozen=True, slots=True)
class VoteSaved:
    """Election -> oracle: the ballot is on disk."""

    term: Term


@dataclass(frozen=True, slots=True)
class LeadGiven:
    """Oracle -> election: of those whose ballots of this term are saved, this node has the best log."""

    term: Term


@dataclass(frozen=True, slots=True)
class LeaderTold:
    """Oracle -> election: who leads in this term."""

    term: Term
    leader_id: NodeId


@dataclass(frozen=True, slots=True)
class StepDownDue:
    """Election -> itself: the vote in this term has not been spoken of until now."""

    term: Term


OracleMessage = DiskTrusted | VoteAsked | LeadGiven | LeaderTold | StepDownDue


class OracleElection(ElectionActor):
    """The occupant that believes the oracle. A node that led, and was started again, leads no more in that term."""

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self._newest = Ballot()
        self._saving: deque[tuple[Ballot, Callable[[], None]]] = deque()
        self._is_trusted = False
        self._is_open = False

    @property
    def promised_term(self) -> Term:
        """Of the newest ballot that is on disk or on its way there."""
        return self._newest.term

    def on_receive(self, message: ElectionMessage | OracleMessage) -> None:
        match message:
            case DiskTrusted():
                self._is_trusted = True
            case LogOpened():
                self._on_log_opened(message)
            case VoteAsked() | LeadGiven() | LeaderTold() if not self._is_open:
                pass  # what this node has promised is still to be read from its disk
            case VoteAsked():
                self._on_vote_asked(message)
            case LeadGiven():
                if message.term == self._newest.term and self._newest.leader_id is None:
                    self._follow(message.term, self.node_id)
            case LeaderTold():
                if message.leader_id != self.node_id:
                    self._on_leader_told(message)
            case HigherTermSeen():
                if message.term > self._newest.term:
                    self._on_hint(message.term, message.leader_id)
            case LeaderHinted():
                if message.term == self._newest.term and self._newest.leader_id is None and self._is_trusted:
                    self._on_hint(message.term, message.leader_id)
            case BallotSaved():
                ballot, then = self._saving.popleft()
                assert ballot == message.ballot, "the store answers in order"
                then()
            case StepDownDue():
                if message.term > self.term:
                    self._change(message.term, None)
            case _:
                super().on_receive(message)

    def _on_log_opened(self, opened: LogOpened) -> None:
        """What the ballot says is said again, now and then without the leader, who is told again then."""
        self._is_open = True
        self._newest = ballot = opened.ballot
        self.announce(VotersChanged(self.config.election.voters))
        # What a leader had not synced may live elsewhere under the same index and term.
        is_known = self._is_trusted and ballot.leader_id != self.node_id and self.ports.rng.random() < 0.5
        self.announce(LeaderChanged(ballot.term, ballot.leader_id if is_known else None))

    def _on_vote_asked(self, asked: VoteAsked) -> None:
        def saved() -> None:
            asked.reply_to.tell(VoteSaved(asked.term))
            # The store knows the new term; how soon the other actors hear of it must not matter.
            is_soon = self.ports.rng.random() < 0.6
            delay_s = 0.0 if is_soon else STEPS_DOWN_WITHIN_S * self.ports.rng.random()
            self.ports.timers.after(delay_s, self.me, StepDownDue(asked.term))

        if asked.term > self._newest.term:
            self._save(Ballot(asked.term), saved)

    def _on_leader_told(self, told: LeaderTold) -> None:
        newest = self._newest
        if told.term > newest.term or (told.term == newest.term and newest.leader_id is None):
            self._follow(told.term, told.leader_id)
        elif told.term == newest.term == self.term and newest.leader_id == told.leader_id and not self._saving:
            self._change(told.term, told.leader_id)

    def _on_hint(self, term: Term, leader_id: NodeId | None) -> None:
        """Another node spoke of a later term.

        Who has lost its disk has forgotten what it promised: it must not follow a leader that it had left
        before, and when it is told that it leads itself, it does not know of what.
        """
        is_believed = self._is_trusted and leader_id != self.node_id
        self._follow(term, leader_id if is_believed else None)

    def _follow(self, term: Term, leader_id: NodeId | None) -> None:
        """Announce who leads in that term.

        leader_id: the leader, which may be this node; None for one that is not known.
        """
        voted_for = self._newest.voted_for if term == self._newest.term else None
        if leader_id == self.node_id:
            voted_for = self.node_id
        self._save(Ballot(term, voted_for, leader_id), lambda: self._change(term, leader_id))

    def _save(self, ballot: Ballot, then: Callable[[], None]) -> None:
        self._newest = ballot
        self._saving.append((ballot, then))
        self.store.tell(SaveBallot(next(self.request_ids), ballot, self.me))

    def _change(self, term: Term, leader_id: NodeId | None) -> None:
        if (term, leader_id) != (self.term, self.leader_id):
            self.announce(LeaderChanged(term, leader_id))


SIMULATED_OCCUPANTS: Final[Occupants] = {**OCCUPANTS, ORACLE: OracleElection}
"""What needs no installing in a simulation. A node that runs for real does not know the oracle."""
