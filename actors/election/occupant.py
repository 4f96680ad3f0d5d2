"""The election slot: the contract of the one actor that decides who leads, and what all its occupants share.

What an occupant is told (`ElectionMessage`): LogOpened first, with the ballot and the terms of
the log; then membership events, LogAppended and LogCut, BallotSaved for each ballot it asked to be saved,
LogDescribed for each DescribeLog, HigherTermSeen, ClaimHeard, ReportStatus, and HandOver before the node stops;
and calls between nodes (see `ourolog.actors.messages.peer_calls`): CallReceived and CallCancelled from those that
ask it, CallReturned and CallFailed for what it asks others. What it tells: SaveBallot and DescribeLog to the
store; NobodyElected, LeaderChanged and VotersChanged to the replicator, the server, membership and the observer;
one CallAnswer for each CallReceived.

An occupant handles in `on_receive` what its decisions depend on, and hands everything else to
`super().on_receive`, which has an answer for each message that there is: so an occupant need not change when
there are more of them.

What it must hold to, and `tests.actors.election_conformance` checks:
- it announces nothing before LogOpened, and VotersChanged before the first LeaderChanged;
- terms never fall, restarts included, and at most one leader is announced for a term;
- a term is announced only after BallotSaved with that term: persist, then promise;
- every change is announced once;
- every call that it does not hand to `super().on_receive` it answers once.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar, assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import ElectionChoice, NodeConfig, voters_named
from ourolog.actors.election.claims import Claims, claimed_election
from ourolog.actors.messages.election import (
    ClaimHeard,
    ElectionMessage,
    HandedOver,
    HandOver,
    HigherTermSeen,
    LeaderAnswered,
    LeaderHinted,
    SurveyDue,
    VoterFetched,
)
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    ElectionAnnouncement,
    LeaderChanged,
    LogAppended,
    LogCut,
    LogOpened,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    VotersChanged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
)
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import AppendRefused, BallotSaved, BatchAppended, LogDescribed, StoreMessage
from ourolog.actors.messages.values import ElectionClaim
from ourolog.actors.ports import Ports
from ourolog.actors.replication.state import is_ahead
from ourolog.storage.types import NodeId, Term


class ElectionActor(NodeActor):
    """Base of every occupant: its collaborators, announcing, its status, and what it does with other messages.

    term, leader_id, voters: as announced last."""

    actor_name = "election"
    hears: ClassVar[frozenset[type]] = frozenset()

    def __init__(
        self,
        *,
        config: NodeConfig,
        ports: Ports,
        store: Mailbox[StoreMessage],
        listeners: tuple[Mailbox[Any], ...],
    ) -> None:
        """listeners: the mailboxes that get each ElectionAnnouncement, the observer besides.

        request_ids: for what this occupant asks of the store, a new one each.
        """
        super().__init__(config.node_id, ports.observer)
        self.config = config
        self.ports = ports
        self.store = store
        self.listeners = listeners
        self.term = Term(0)
        self.leader_id: NodeId | None = None
        self.why_nobody = ""
        self.voters: tuple[NodeId, ...] = ()
        self.request_ids = itertools.count(1)
        self._claims = Claims(config.node_id, config.election.voters, ElectionClaim(claimed_election(config.election)))
        self._dispute = ""
        self._has_announced = False

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        """What the flag `--election NAME:ARGUMENT` means to this occupant; here, that voters elect.

        By default the argument names the voters, as in `n1,n2,n3`; an occupant with another one overrides this.
        nodes: those that the cluster will have, where that is known: they vote if the argument names nobody.
        Raises ValueError with a sentence for whoever typed it.
        """
        voters = voters_named(argument) or nodes
        if not voters:
            raise ValueError(f"{name} needs voters: {name}:<voter>[,<voter>…], for instance {name}:n1,n2,n3")
        return ElectionChoice(name, ",".join(voters), voters=voters)

    def on_receive(self, message: ElectionMessage) -> None:
        """What becomes of each message that an occupant does not handle itself."""
        match message:
            case ClaimHeard():
                self._hear_claim(message)
            case MemberFailed():
                self._claims.failed(message.member.node_id)
                self._judge_claims()
            case MemberLeft():
                self._claims.left(message.member.node_id)
                self._judge_claims()
            case ReportStatus():
                self.report(message)
            case HandOver():
                message.reply_to.tell(HandedOver(message.request_id))
            case CallReceived():
                self._refuse_call(message)
            case LogOpened() | BallotSaved() | LogDescribed() | BatchAppended() | AppendRefused():
                pass
            case CallCancelled() | CallReturned() | CallFailed():
                pass
            case MemberJoined() | MemberUpdated() | HigherTermSeen() | LeaderHinted() | SurveyDue():
                pass
            case LogAppended() | LogCut() | CommitAdvanced() | LeaderAnswered() | VoterFetched():
                pass
            case _:
                assert_never(message)

    def announce(self, announcement: ElectionAnnouncement) -> None:
        """Tell everybody; from then on this is what `term`, `leader_id`, `voters` and the status say."""
        match announcement:
            case LeaderChanged():
                self.term, self.leader_id = announcement.term, announcement.leader_id
                self.why_nobody = announcement.why_nobody
            case VotersChanged():
                self.voters = announcement.voters
            case NobodyElected():
                pass
            case _:
                assert_never(announcement)
        for listener in (*self.listeners, self.observer):
            listener.tell(announcement)
        self._has_announced = True
        self._claims.own = ElectionClaim(self._claims.own.election, self.term, self.leader_id)
        self._judge_claims()

    def _hear_claim(self, heard: ClaimHeard) -> None:
        """Say so when the claims contradict each other, and when they agree again.

        A later term in the claim of a voter under the same decree is taken like one from the leader.
        """
        self._claims.hear(heard)
        self._judge_claims()
        claim = heard.claim
        is_voter = heard.peer_id in self.config.election.voters and claim.election == self._claims.own.election
        if is_voter and self._has_announced and is_ahead(claim.term, self.term):
            self.on_receive(HigherTermSeen(claim.term, claim.leader_id, heard.peer_id))

    def _refuse_call(self, received: CallReceived[Any]) -> None:
        kind = CALL_KINDS[type(received.request)]
        own = f"{self.node_id} runs with --election {self.config.election}"
        refused = CallRefused(f'{own}, which does not answer the call "{kind.name}"')
        received.reply_to.tell(CallAnswer(received.request_id, refused))

    def _judge_claims(self) -> None:
        dispute = self._claims.dispute()
        if self._has_announced and dispute != self._dispute:
            self._dispute = dispute
            for listener in self.listeners:
                listener.tell(ClaimsDisputed(dispute) if dispute else ClaimsSettled())

    @property
    def role(self) -> str:
        """What the status calls this node, by what was announced: leader, follower, or peer where nobody leads."""
        if self.leader_id == self.node_id:
            return "leader"
        return "follower" if self.config.election.elects else "peer"

    def report(self, request: ReportStatus) -> None:
        """Answer with this actor's part of the node's status."""
        status = ElectionStatus(
            str(self.config.election),
            self.role,
            self.term,
            self.leader_id,
            self.voters,
            self._claims.all(),
            self._dispute,
            self.why_nobody,
        )
        request.reply_to.tell(StatusReported(request.request_id, status))

    def refuse_to_run(self, reason: str) -> None:
        """Stop the node; the reason is for whoever started it."""
        self.observer.tell(NodeFailed(self.node_id, self.actor_name, reason))
