"""The election slot: the contract of the one actor that decides who leads, and what all its occupants share.

What an occupant is told (`ElectionMessage`):
- LogOpened, first and once: where the log begins and ends, its terms, the voters that it names, the ballot
  that is on disk, and to which cluster that disk belongs. VotersLogged, when the log names other voters.
- MemberJoined, MemberUpdated, MemberFailed, MemberLeft, as gossip learns of them: who can be reached and where,
  never who votes.
- One answer of the store to each question: BallotSaved to SaveBallot, LogDescribed to DescribeLog, BatchAppended or
  AppendRefused to AppendControl, FoundingSaved to SaveFounding, each with the question's request_id.
- HigherTermSeen and LeaderHinted: what other nodes know of a later term, or of who leads in this one.
- LeaderUnreachable: the leader's process is gone, as far as a broken connection and a refused one can tell.
- Calls between nodes (`ourolog.actors.messages.peer_calls`): CallReceived and CallCancelled from those that ask this
  node; CallReturned or CallFailed, exactly one of the two, for each call that the occupant made.
- CommitKnown, where this node leads, and VotersCommitted: that an entry of its term is committed, and the one that
  names the voters.
- ClaimReceived, ReportStatus, TransferLeader, AddVoter, RemoveVoter, and HandOver before the node stops. The base class
  has an answer to each.
- StoreFailed: nothing can be saved any more, and the node stops. HandOver follows, and is waited for half a second.
- The `News`, LogAppended, LogCut, CommitAdvanced, LeaderAnswered, VoterFetched and StandbyFetched, only if its class
  names them in `hears`: they come with every append or fetch.

An occupant handles in `on_receive` what its decisions depend on, and hands everything else to
`super().on_receive`, which has an answer for each message that there is: so an occupant need not change when
there are more of them.

What it tells: SaveBallot, DescribeLog, AppendControl and SaveFounding to the store; VotersChanged, LeaderChanged and
NobodyElected to everybody, by `announce`; one CallAnswer for each CallReceived; HandedOver for HandOver. Before it
tells that its own node leads, `announce` tells the store BeginTerm: nothing of a term stands before that entry.
A process that is started again leads in no term in which it has led before: followers may have what it has lost, since
they write what a leader that is not decreed is about to write.
A leader that hands over tells all listeners HoldProduces, which the server answers by ProducesHeld, and
ReleaseProduces if it goes on leading after all.

The ballot. `SaveBallot` is the only way to change the term or to vote, and one step of the store, which alone knows
the ballot and the end of the log at once:
- A vote for another node is asked for with `candidate`, the last entry of that node's log as it says itself. The
  store syncs, compares it with its own last entry as that is now, and grants the vote or refuses it. An occupant
  never compares with an end that it remembers.
- A vote is promised to nobody before BallotSaved says `granted`. Where it does not, `ballot` is what is on disk
  all the same: it may be of a later term than before, without a vote.
- What an occupant saves of its own accord, without `candidate`, is never of a term below one that it has asked for.
- Once a ballot of a later term is on disk, granted or not, LeaderChanged in that term or a later one follows, with
  leader_id None while nobody is known to lead. The store refuses appends, cuts and resets of every other term
  from the ballot on; a replicator that is not told would wait for ever.
- After a restart LogOpened has the ballot. What an occupant did not save it has not promised.

What it must hold to:
- It announces nothing before LogOpened, and VotersChanged before the first LeaderChanged.
- Terms never fall, restarts included, and at most one node leads in a term, over the whole cluster.
- A term is announced only after BallotSaved with that term: persist, then promise.
- Where voters elect, a node announces that it leads once a majority of the voters, itself among them, has a ballot
  on disk that votes for it in that term. Nobody votes for a node whose log is older than the voter's.
- Every change is announced once. Where nobody leads and that is not known to pass, LeaderChanged says in
  `why_nobody` why, for a person, and in `needs_person` whether it stays so until a person does something.
- Every call that it does not hand to `super().on_receive` it answers once, with CallRefused if need be.
- HandOver is answered by HandedOver once, at the latest when nothing more can be done: the process may end right
  after it, and a call that has not come back by then may never have left. TransferLeader, AddVoter and
  RemoveVoter are answered once.
- It takes time, chance and the network from `self.ports` alone.

`ourolog.actors.testing.election_conformance` checks what one occupant alone can show of this,
`ourolog.simulation.election_conformance` what several nodes show. docs/election.md has a whole occupant.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, ClassVar, assert_never

from ourolog.actors.actor import NodeActor
from ourolog.actors.config import ElectionChoice, NodeConfig, voters_named
from ourolog.actors.election.claims import Claims
from ourolog.actors.messages.election import (
    AddVoter,
    ChangeProblem,
    ClaimReceived,
    ElectionMessage,
    ElectionTimerDue,
    HandedOver,
    HandOver,
    HigherTermSeen,
    LeaderAnswered,
    LeaderHinted,
    LeaderTransferred,
    LeaderUnreachable,
    RemoveVoter,
    StandbyFetched,
    SurveyDue,
    TransferLeader,
    VoterFetched,
    VotersChangeAnswered,
    VotersCommitted,
)
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
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
    ProducesHeld,
    VotersChanged,
    VotersLogged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import FailureKind, NodeFailed, NodeWarned, WarningKind
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
from ourolog.actors.messages.store import (
    AppendRefused,
    BallotSaved,
    BatchAppended,
    BeginTerm,
    FoundingSaved,
    LogDescribed,
    StoreFailed,
    StoreMessage,
)
from ourolog.actors.messages.values import ElectionClaim
from ourolog.actors.other_clusters import MAX_STRANGERS, why_of_other_claim
from ourolog.actors.ports import Ports
from ourolog.actors.terms import is_ahead
from ourolog.storage.types import NodeId, Term


class ElectionActor(NodeActor):
    """Base of every occupant: its collaborators, announcing, its status, and what it does with other messages.

    hears: the classes of `News` that are told to this occupant; the wiring keeps the others from it.
    config: the node's; `config.election` is what `choose` made of the flag.
    ports: time, chance and the network.
    store: the mailbox of the node's store.
    listeners: the mailboxes that are told each announcement; the observer is told besides.
    request_ids: a new one for each question to the store and each call, never the same twice.
    term, leader_id, voters: as announced last; term 0, None and () before that.
    why_nobody: why nobody can lead at present, as announced last, for a person; "" if that is known to pass.
    """

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
        self._claims = Claims(config.node_id, config.election.voters, ElectionClaim(config.election.claimed))
        self._dispute = ""
        self._strangers: set[tuple[NodeId, int]] = set()
        self._has_announced = False

    @classmethod
    def choose(cls, name: str, argument: str, nodes: tuple[NodeId, ...] = ()) -> ElectionChoice:
        """The meaning of the flag `--election NAME:ARGUMENT` to this occupant; by default, that voters elect.

        By default the argument names the voters, as in `n1,n2,n3`; an occupant with another one overrides this.
        nodes: those that the cluster will have, where that is known: they vote if the argument names nobody.
        Raises ValueError with a sentence for the person who typed it.
        """
        voters = voters_named(argument) or nodes
        if not voters:
            raise ValueError(f"{name} needs voters: {name}:<voter>[,<voter>…], for instance {name}:n1,n2,n3")
        return ElectionChoice(name, ",".join(voters), voters=voters)

    def on_receive(self, message: ElectionMessage) -> None:
        """Handle each message that an occupant does not handle itself."""
        match message:
            case ClaimReceived():
                self._on_claim(message)
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
            case TransferLeader():
                why_not = self.why_no_transfer
                message.reply_to.tell(LeaderTransferred(message.request_id, self.leader_id, self.term, why_not))
            case AddVoter() | RemoveVoter():
                answered = VotersChangeAnswered(
                    message.request_id,
                    self.voters,
                    self.leader_id,
                    self.term,
                    ChangeProblem.UNSUPPORTED,
                    self.why_no_change_of_voters,
                )
                message.reply_to.tell(answered)
            case CallReceived():
                self._refuse_call(message)
            case LogOpened() | BallotSaved() | LogDescribed() | BatchAppended() | AppendRefused() | FoundingSaved():
                pass
            case VotersLogged() | LeaderUnreachable() | ProducesHeld() | StoreFailed():
                pass
            case CallCancelled() | CallReturned() | CallFailed():
                pass
            case MemberJoined() | MemberUpdated() | HigherTermSeen() | LeaderHinted():
                pass
            case SurveyDue() | ElectionTimerDue():
                pass
            case LogAppended() | LogCut() | CommitAdvanced() | LeaderAnswered() | VoterFetched() | StandbyFetched():
                pass
            case CommitKnown() | VotersCommitted():
                pass
            case _:
                assert_never(message)

    def announce(self, announcement: ElectionAnnouncement) -> None:
        """Tell everybody; from then on this is what `term`, `leader_id`, `voters` and the status say."""
        match announcement:
            case LeaderChanged():
                self.term, self.leader_id = announcement.term, announcement.leader_id
                self.why_nobody = announcement.why_nobody
                if announcement.leader_id == self.node_id:
                    self.store.tell(BeginTerm(announcement.term, self.voters, announcement.granted_by))
            case VotersChanged():
                self.voters = announcement.voters
                self._claims.voters = announcement.voters
                self._claims.own = replace(
                    self._claims.own,
                    cluster_id=announcement.cluster_id,
                    generation=announcement.generation,
                    origin_id=announcement.origin_id,
                )
            case NobodyElected():
                pass
            case _:
                assert_never(announcement)
        for listener in (*self.listeners, self.observer):
            listener.tell(announcement)
        self._has_announced = True
        self._claims.own = replace(self._claims.own, term=self.term, leader_id=self.leader_id)
        self._judge_claims()

    def _on_claim(self, received: ClaimReceived) -> None:
        """Report when the claims contradict each other, and when they agree again.

        A later term in the claim of a voter under the same decree is handled like one from the leader.
        """
        self._claims.add(received)
        self._judge_claims()
        claim = received.claim
        is_voter = received.peer_id in self.config.election.voters and claim.election == self._claims.own.election
        if is_voter and self._has_announced and is_ahead(claim.term, self.term):
            self.on_receive(HigherTermSeen(claim.term, claim.leader_id, received.peer_id))

    def _refuse_call(self, received: CallReceived[Any]) -> None:
        kind = CALL_KINDS[type(received.request)]
        own = f"{self.node_id} runs with --election {self.config.election}"
        refused = CallRefused(f'{own}, which does not answer the call "{kind.name}"')
        received.reply_to.tell(CallAnswer(received.request_id, refused))

    @property
    def why_no_transfer(self) -> str:
        """Why the lead cannot be given to another node where it is not the voters that decide, for a person."""
        election = self.config.election
        how = f"{self.node_id} runs with --election {election}"
        if not election.elects:
            return f"{how}: nobody leads"
        if election.is_decreed:
            decreed = election.decreed_leader
            return f"{how}: a person decrees that {decreed} leads; start all nodes with another leader instead"
        return f"{how}, which cannot give the lead to another node"

    @property
    def why_no_change_of_voters(self) -> str:
        """Why the voters cannot be changed where they do not elect each other, for a person."""
        return (
            f"{self.node_id} runs with --election {self.config.election}: who votes is said by that flag, "
            "and changed by starting all nodes with another one"
        )

    def _judge_claims(self) -> None:
        self._warn_of_other_clusters()
        dispute = self._claims.dispute() or self.other_dispute
        if self._has_announced and dispute != self._dispute:
            self._dispute = dispute
            for listener in self.listeners:
                listener.tell(ClaimsDisputed(dispute) if dispute else ClaimsSettled())

    def _warn_of_other_clusters(self) -> None:
        """Say once of each member whose disk belongs to another cluster of this name that the two have nothing to do.

        Both see each other in gossip; who leads asks nobody, so that without this neither might ever say it.
        """
        for peer_id, claim in self._claims.foreign():
            stranger = (peer_id, claim.cluster_id)
            if stranger not in self._strangers and len(self._strangers) < MAX_STRANGERS:
                self._strangers.add(stranger)
                reason = why_of_other_claim(self.node_id, self._claims.own, peer_id, claim)
                warned = NodeWarned(self.node_id, self.actor_name, WarningKind.OTHER_CLUSTER, reason, peer_id)
                self.observer.tell(warned)

    @property
    def other_dispute(self) -> str:
        """Why nothing may be acknowledged besides contradicting claims, for a person; "" if nothing forbids it."""
        return ""

    @property
    def role(self) -> str:
        """This node's role in the status, by what was announced: leader, follower, or peer where nobody leads."""
        if self.leader_id == self.node_id:
            return "leader"
        return "follower" if self.config.election.elects else "peer"

    def report(self, request: ReportStatus) -> None:
        """Answer with this actor's part of the node's status."""
        request.reply_to.tell(StatusReported(request.request_id, self.status()))

    def status(self) -> ElectionStatus:
        """This actor's part of the node's status, by what was announced; an occupant may know more."""
        return ElectionStatus(
            str(self.config.election),
            self.role,
            self.term,
            self.leader_id,
            self.voters,
            self._claims.all(),
            self._dispute,
            self.why_nobody,
            self._claims.own,
        )

    def refuse_to_run(self, reason: str) -> None:
        """Stop the node; the reason is for the person who started it."""
        self.observer.tell(NodeFailed(self.node_id, self.actor_name, FailureKind.REFUSED_TO_RUN, reason))
