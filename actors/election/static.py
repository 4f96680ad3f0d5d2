"""`--election static:<leader>[,<voter>…]`: somebody decreed who leads."""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import ElectionChoice, voters_named
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage, HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged, LogOpened, VotersChanged
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.replication.state import is_ahead, step_towards
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import Index, NodeId, Term


class StaticElection(ElectionActor):
    """`--election static:<leader>[,<voter>…]`: a term that somebody decreed.

    The leader takes a new term whenever it starts, as an elected one would: what it appends
    after a restart can then never be taken for what it may have lost before.
    """

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        voters = voters_named(argument) or nodes
        if not voters:
            raise ValueError(f"{name} needs a leader: {name}:<leader>[,<voter>…], for instance {name}:n1,n2,n3")
        return ElectionChoice(name, ",".join(voters), voters=voters, is_decreed=True)

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.decreed = self.config.election.voters[0]
        self._saving: Ballot | None = None

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case BallotSaved():
                self._on_ballot_saved(message)
            case HigherTermSeen():
                self._on_higher_term(message)
            case _:
                super().on_receive(message)

    def _on_log_opened(self, opened: LogOpened) -> None:
        leads = self.decreed == self.node_id
        if opened.ballot.term == 0 and opened.end.index > Index(0) and not leads:
            # Without terms nothing tells its entries from the leader's at the same index.
            self.refuse_to_run(
                f"this data directory holds {opened.end.offset} records from a time without a leader, and "
                f"{self.decreed} leads now; start {self.node_id} on an empty --data-dir to copy the leader's log "
                "(keep the old directory: it may hold records that no other node has)"
            )
            return
        known = Term(max(opened.ballot.term, opened.terms.last_term))
        if not is_ahead(Term(known + 1), known):
            self.refuse_to_run(
                f"this data directory is in term {known}, beyond which there is none; start {self.node_id} on an empty "
                "--data-dir, and all nodes if all are"
            )
            return
        same_decree = opened.ballot.leader_id == self.decreed and opened.ballot.term == known
        self.announce(VotersChanged(self.config.election.voters))
        if same_decree and not leads:
            self._enter(known)
        else:
            self._save(Term(known + 1))

    def _on_higher_term(self, seen: HigherTermSeen) -> None:
        newest = Term(max(self.term, self._saving.term if self._saving else 0))
        if is_ahead(seen.term, newest):
            term = step_towards(seen.term, newest)
            # A leader goes past the term it hears of, since that one may have had a leader.
            self._save(Term(term + 1) if self.decreed == self.node_id else term)

    def _save(self, term: Term) -> None:
        self._saving = Ballot(term, self.decreed, self.decreed)
        self.store.tell(SaveBallot(next(self.request_ids), self._saving, self.me))

    def _on_ballot_saved(self, saved: BallotSaved) -> None:
        if saved.ballot == self._saving:
            self._saving = None
            self._enter(saved.ballot.term)

    def _enter(self, term: Term) -> None:
        self.announce(LeaderChanged(term, self.decreed))
