"""The election slot: the contract of the one actor that decides who leads, and what all its occupants share.

What an occupant is told (`ElectionMessage`): LogOpened first, with the ballot and the terms of
the log; then membership events, LogAppended and LogCut, BallotSaved for each ballot it asked to be
saved, LogDescribed for each DescribeLog, HigherTermSeen, ClaimHeard, and ReportStatus. What it tells:
SaveBallot and DescribeLog to the store; NobodyElected, LeaderChanged and VotersChanged to the
replicator, the server, membership and the observer.

What it must hold to, and `tests.actors.election_conformance` checks:
- it announces nothing before LogOpened, and VotersChanged before the first LeaderChanged;
- terms never fall, restarts included, and at most one leader is announced for a term;
- a term is announced only after BallotSaved with that term: persist, then promise;
- every change is announced once.
"""

from __future__ import annotations

import itertools
from typing import Any

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import ElectionChoice, NodeConfig, voters_named
from ourolog.actors.election.claims import Claims, claimed_election
from ourolog.actors.messages.election import ClaimHeard, HigherTermSeen
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    ElectionAnnouncement,
    MemberFailed,
    MemberLeft,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import StoreMessage
from ourolog.actors.messages.values import ElectionClaim
from ourolog.actors.ports import Ports
from ourolog.actors.replication.state import is_ahead
from ourolog.storage.types import NodeId, Term


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
