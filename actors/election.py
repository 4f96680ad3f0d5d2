"""The election slot: one actor that decides who leads, and two occupants that need no votes.

What an occupant is told (`ElectionMessage`): LogOpened first, with the ballot and the terms of
the log; then membership events, BallotSaved for each ballot it asked to be saved,
HigherTermSeen, ClaimHeard, and ReportStatus. What it tells: SaveBallot to the store; NobodyElected,
LeaderChanged and VotersChanged to the replicator, the server, membership and the observer.

What it must hold to, and `tests.actors.election_conformance` checks:
- it announces nothing before LogOpened, and VotersChanged before the first LeaderChanged;
- terms never fall, restarts included, and at most one leader is announced for a term;
- a term is announced only after BallotSaved with that term: persist, then promise;
- every change is announced once.
"""

from __future__ import annotations

from typing import Any, assert_never

from actors.actor import NodeActor
from actors.claims import Claims, claimed_election
from actors.config import NodeConfig
from actors.messages import (
    Ballot,
    BallotSaved,
    ClaimHeard,
    ClaimsDisputed,
    ClaimsSettled,
    ElectionAnnouncement,
    ElectionClaim,
    ElectionMessage,
    ElectionStatus,
    HigherTermSeen,
    LeaderChanged,
    LogOpened,
    Mailbox,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    NodeFailed,
    ReportStatus,
    SaveBallot,
    StatusReported,
    StoreMessage,
    VotersChanged,
)
from actors.ports import Ports
from actors.replication import is_ahead, step_towards
from storage.types import Index, NodeId, Term


class ElectionActor(NodeActor):
    """What every occupant of the slot shares: its collaborators, announcing, and its status."""

    actor_name = "election"

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        listeners: tuple[Mailbox[Any], ...],
    ) -> None:
        """listeners: the mailboxes that get each ElectionAnnouncement, the observer besides."""
        super().__init__(config.node_id, ports.observer)
        self.config = config
        self.ports = ports
        self.store = store
        self.listeners = listeners
        self.term = Term(0)
        self.leader_id: NodeId | None = None
        self._claims = Claims(config.node_id, config.election.voters, ElectionClaim(claimed_election(config.election)))
        self._dispute = ""
        self._has_announced = False

    def announce(self, announcement: ElectionAnnouncement) -> None:
        for listener in (*self.listeners, self.observer):
            listener.tell(announcement)
        self._has_announced = True
        self._claims.own = ElectionClaim(self._claims.own.election, self.term, self.leader_id)
        self._judge_claims()

    def hear_claim(self, heard: ClaimHeard) -> None:
        """To be called for each ClaimHeard: says so when the claims contradict each other, and when they agree again.

        A later term in the claim of a voter under the same decree is taken like one from the leader.
        """
        self._claims.hear(heard)
        self._judge_claims()
        claim = heard.claim
        is_voter = heard.peer_id in self.config.election.voters and claim.election == self._claims.own.election
        if is_voter and self._has_announced and is_ahead(claim.term, self.term):
            self.on_receive(HigherTermSeen(claim.term, claim.leader_id, heard.peer_id))

    def drop_claim(self, event: MemberFailed | MemberLeft) -> None:
        """To be called for each of these: of who is gone no claim is left, unless it may only be cut off."""
        if isinstance(event, MemberLeft):
            self._claims.left(event.member.node_id)
        else:
            self._claims.failed(event.member.node_id)
        self._judge_claims()

    def _judge_claims(self) -> None:
        dispute = self._claims.dispute()
        if self._has_announced and dispute != self._dispute:
            self._dispute = dispute
            for listener in self.listeners:
                listener.tell(ClaimsDisputed(dispute) if dispute else ClaimsSettled())

    def report(self, request: ReportStatus, role: str, voters: tuple[NodeId, ...]) -> None:
        status = ElectionStatus(
            str(self.config.election), role, self.term, self.leader_id, voters, self._claims.all(), self._dispute
        )
        request.reply_to.tell(StatusReported(request.request_id, status))

    def refuse_to_run(self, reason: str) -> None:
        self.observer.tell(NodeFailed(self.node_id, self.actor_name, reason))


class NoElection(ElectionActor):
    """`--election none`: nobody leads, so everyone pulls from everyone."""

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                term = max(message.ballot.term, message.terms.last_term)
                if term > 0:
                    # Its entries have terms; entries appended without a leader would forge one.
                    self.refuse_to_run(
                        f"this data directory belongs to a cluster with a leader (term {term}); "
                        "start the node with the --election it had, or on an empty --data-dir"
                    )
                else:
                    self.announce(NobodyElected())
            case ReportStatus():
                self.report(message, "peer", ())
            case ClaimHeard():
                self.hear_claim(message)
            case MemberFailed() | MemberLeft():
                self.drop_claim(message)
            case MemberJoined() | MemberUpdated() | BallotSaved() | HigherTermSeen():
                pass
            case _:
                assert_never(message)


class StaticElection(ElectionActor):
    """`--election static:<leader>[,<voter>…]`: a term that somebody decreed.

    The leader takes a new term whenever it starts, as an elected one would: what it appends
    after a restart can then never be taken for what it may have lost before.
    """

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.voters = self.config.election.voters
        self.decreed = self.voters[0]
        self._saving: Ballot | None = None

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                self._on_log_opened(message)
            case BallotSaved():
                self._on_ballot_saved(message)
            case HigherTermSeen():
                self._on_higher_term(message)
            case ReportStatus():
                self.report(message, "leader" if self.decreed == self.node_id else "follower", self.voters)
            case ClaimHeard():
                self.hear_claim(message)
            case MemberFailed() | MemberLeft():
                self.drop_claim(message)
            case MemberJoined() | MemberUpdated():
                pass
            case _:
                assert_never(message)

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
        self.announce(VotersChanged(self.voters))
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
        self.store.tell(SaveBallot(self._saving, self.me))

    def _on_ballot_saved(self, saved: BallotSaved) -> None:
        if saved.ballot == self._saving:
            self._saving = None
            self._enter(saved.ballot.term)

    def _enter(self, term: Term) -> None:
        self.term = term
        self.leader_id = self.decreed
        self.announce(LeaderChanged(term, self.decreed))


OCCUPANTS: dict[str, type[ElectionActor]] = {"none": NoElection, "static": StaticElection}
"""What `--election` can name. Another occupant registers here; see docs/election.md."""
