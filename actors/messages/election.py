"""The mailbox of the election slot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_args

from ourolog.actors.messages.events import (
    CommitAdvanced,
    CommitKnown,
    LogAppended,
    LogCut,
    LogOpened,
    MembershipEvent,
    ProducesHeld,
    VotersLogged,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallCancelled, CallFailed, CallReceived, CallReturned
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.store import (
    AppendRefused,
    BallotSaved,
    BatchAppended,
    FoundingSaved,
    LogDescribed,
    StoreFailed,
)
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class ClaimReceived:
    """Membership -> Election: a member made this claim itself, for the first time or instead of another one."""

    peer_id: NodeId
    claim: ElectionClaim


@dataclass(frozen=True, slots=True)
class HigherTermSeen:
    """Replicator -> Election: a node that was asked, the leader or any voter, answered with a term above ours.

    An occupant also turns a ClaimReceived with a later term into one. A mere request causes one only where voters have
    disks, and it names the voter's: otherwise anybody could write any name into a request.

    term: the later term.
    leader_id: who leads in it according to that node, None if it does not know.
    peer_id: that node.
    cluster_id: the cluster that it says it belongs to, 0 if it says nothing.
    """

    term: Term
    leader_id: NodeId | None
    peer_id: NodeId
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class LeaderHinted:
    """Replicator -> Election: a node of this term names its leader, and this node knows another one or none.

    term: the present one.
    leader_id: who leads in it.
    peer_id: who says so: the leader itself, or a voter that was asked.
    cluster_id: the cluster that it says it belongs to, 0 if it says nothing.
    """

    term: Term
    leader_id: NodeId
    peer_id: NodeId
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class LeaderUnreachable:
    """Replicator -> Election: the pull from the leader broke, and nobody listens at its address any more.

    Its process has ended, most likely. The node may still be wrong about it: only a majority that has lost it, too, can
    replace it. Told once, until the leader has answered again.

    term: the present one.
    leader_id: who led in it.
    """

    term: Term
    leader_id: NodeId


@dataclass(frozen=True, slots=True)
class LeaderAnswered:
    """Replicator -> Election: the leader that this node pulls from has answered as a leader (`News`).

    That is any answer with batches or none, or with where the logs part or begin; an error or a refusal does not count.
    The first answer of a pull is told, and later ones at most ten times per election timeout: the last one may have
    come a tenth of that later than `at_s` says.

    term: the present one, which was the answer's too.
    leader_id: who answered.
    at_s: when, in seconds of the monotonic clock.
    """

    term: Term
    leader_id: NodeId
    at_s: float


@dataclass(frozen=True, slots=True)
class VoterFetched:
    """Replicator -> Election, where this node leads: a voter's fetch came in, of this term and with a log that fits.

    Of each voter the first one in a term is told, at most twenty per election timeout later, and beside these one that
    finds the voter at the end of the log, if the last one told did not; of all of them see `VoterNews`.

    voter_id: who fetched.
    log_epoch: the epoch of the fetcher's log: the identity of its disk.
    end: everything below is on the fetcher's disk, and the same as here.
    at_s: when it came, in seconds of the monotonic clock; it may be answered much later.
    """

    voter_id: NodeId
    log_epoch: int
    end: Index
    at_s: float


@dataclass(frozen=True, slots=True)
class StandbyFetched:
    """Replicator -> Election, where this node leads: a node that does not vote has fetched; told as rarely (`News`).

    Gossip knows it, its disk belongs to this cluster, and its log fits: it may be a voter one day.

    node_id: who fetched.
    log_epoch: the epoch of the fetcher's log: the identity of its disk.
    end: everything below is on the fetcher's disk, and the same as here.
    lag: how many entries of the leader's log it lacks.
    is_caught_up: whether it has kept up with the leader for a while, see `StandbyRounds`.
    at_s: when the fetch came, in seconds of the monotonic clock.
    """

    node_id: NodeId
    log_epoch: int
    end: Index
    lag: int
    is_caught_up: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class VotersCommitted:
    """Replicator -> Election: the entry that names the voters in force is committed, as far as this node knows.

    Told once of each such entry, where the log names the voters.

    index: of the entry.
    """

    index: Index


@dataclass(frozen=True, slots=True)
class SurveyDue:
    """Timer -> Election: ask the voters again where their logs end.

    serial: the survey's count of waits, so that an old timer can be told from the present one.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class ElectionTimerDue:
    """Timer -> Election: one of the occupant's own timers is due.

    name: which, in the occupant's words.
    serial: how often that timer had been set, so that an old one can be told from the present one.
    """

    name: str
    serial: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Node -> Election: the node is about to stop; if it leads, make sure that another node can lead.

    The replicator goes on meanwhile. Answered by HandedOver, at once if there is nothing to be done; the node
    waits for it only for a bounded time.
    """

    request_id: int
    reply_to: Mailbox[HandedOver]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Election -> the sender of HandOver: all that could be done was done; do not wait any longer."""

    request_id: int


@dataclass(frozen=True, slots=True)
class TransferLeader:
    """gRPC edge -> Election: if this node leads, let another voter lead, and go on running.

    Answered by LeaderTransferred once another node leads, or once it is known that this does not happen now.

    request_id: comes back in the answer.
    to: who is to lead, None for whichever voter is best; this node itself is answered at once.
    reply_to: where the answer goes.
    """

    request_id: int
    to: NodeId | None
    reply_to: Mailbox[LeaderTransferred]


@dataclass(frozen=True, slots=True)
class LeaderTransferred:
    """Election -> the sender of TransferLeader: who leads now.

    request_id: that of the question.
    leader_id: who leads as far as this node knows, whether that has changed or not.
    term: in which term.
    why_not: why the lead did not go where it was to go, a sentence for a person; "" if it did.
    """

    request_id: int
    leader_id: NodeId | None
    term: Term
    why_not: str = ""


class ChangeProblem(StrEnum):
    """Why the voters are not changed, for a program.

    NOT_LEADER: this node does not lead.
    UNDER_WAY: another change is not committed yet, or the leader is not ready for one; trying again helps.
    IS_VOTER: who is to be added votes already.
    UNKNOWN: no node of that name is there to be added, or none of that name votes.
    IMPOSSIBLE: it cannot be done as things are; the sentence says what is missing.
    UNSUPPORTED: here no voters elect, or none can be changed.
    LOST: the change was begun, and this node leads no more: whether it is made is not known.
    """

    NOT_LEADER = "not leader"
    UNDER_WAY = "under way"
    IS_VOTER = "is voter"
    UNKNOWN = "unknown"
    IMPOSSIBLE = "impossible"
    UNSUPPORTED = "unsupported"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class VotersChangeAnswered:
    """Election -> the sender of AddVoter or RemoveVoter: the change is committed, or why it is not made.

    request_id: that of the question.
    voters: who votes now, as far as this node knows.
    leader_id, term: who leads, and in which term, as far as this node knows.
    problem: why it is not made, None if it is.
    detail: the same as a sentence for a person; "" if it is made.
    """

    request_id: int
    voters: tuple[NodeId, ...]
    leader_id: NodeId | None
    term: Term
    problem: ChangeProblem | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AddVoter:
    """gRPC edge -> Election: a person wants this node, which copies, to vote.

    request_id: comes back in the answer.
    node_id: which.
    reply_to: where the answer goes, once: when the change is committed, or is not made.
    """

    request_id: int
    node_id: NodeId
    reply_to: Mailbox[VotersChangeAnswered]


@dataclass(frozen=True, slots=True)
class RemoveVoter:
    """gRPC edge -> Election: a person wants this voter to vote no more. It may go on copying.

    request_id: comes back in the answer.
    node_id: which.
    reply_to: where the answer goes, once: when the change is committed, or is not made.
    """

    request_id: int
    node_id: NodeId
    reply_to: Mailbox[VotersChangeAnswered]


News = LogAppended | LogCut | CommitAdvanced | LeaderAnswered | VoterFetched | StandbyFetched
"""What an occupant is told only if it asks for it, since it comes with every append or fetch."""

NEWS: Final[frozenset[type]] = frozenset(get_args(News))


ElectionMessage = (
    LogOpened
    | News
    | MembershipEvent
    | ClaimReceived
    | BallotSaved
    | BatchAppended
    | AppendRefused
    | LogDescribed
    | FoundingSaved
    | VotersLogged
    | HigherTermSeen
    | LeaderHinted
    | LeaderUnreachable
    | SurveyDue
    | ElectionTimerDue
    | CommitKnown
    | VotersCommitted
    | HandOver
    | TransferLeader
    | AddVoter
    | RemoveVoter
    | ProducesHeld
    | StoreFailed
    | CallReceived[Any]
    | CallCancelled
    | CallReturned[Any]
    | CallFailed
    | ReportStatus
)
