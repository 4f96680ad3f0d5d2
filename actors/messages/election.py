"""The mailbox of the election slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from ourolog.actors.messages.events import CommitAdvanced, LogAppended, LogCut, LogOpened, MembershipEvent
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.store import AppendRefused, BallotSaved, BatchAppended, LogDescribed
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class ClaimHeard:
    """Membership -> Election: a member said so itself, for the first time or since it said another thing."""

    peer_id: NodeId
    claim: ElectionClaim


@dataclass(frozen=True, slots=True)
class HigherTermSeen:
    """Replicator -> Election: the leader that this node pulls from answered with a term above ours.

    Also what an occupant makes of a ClaimHeard with a later term. Never from somebody's request: the
    names in those are anybody's.
    """

    term: Term
    leader_id: NodeId | None
    peer_id: NodeId


@dataclass(frozen=True, slots=True)
class LeaderHinted:
    """Replicator -> Election: a node of this term knows who leads in it, and that is not what this node knows.

    term: the present one.
    leader_id: who leads in it.
    peer_id: who says so: the leader itself, or a voter that was asked.
    """

    term: Term
    leader_id: NodeId
    peer_id: NodeId


@dataclass(frozen=True, slots=True)
class LeaderAnswered:
    """Replicator -> Election: the leader that this node pulls from has answered as one that leads (`News`).

    That is with batches or none, or with where the logs part or begin; not with an error or a refusal.

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

    voter_id: who fetched.
    log_epoch: the epoch of the fetcher's log: the identity of its disk.
    end: all below is on the fetcher's disk, and the same as here.
    at_s: when it came, in seconds of the monotonic clock; it may be answered much later.
    """

    voter_id: NodeId
    log_epoch: int
    end: Index
    at_s: float


@dataclass(frozen=True, slots=True)
class SurveyDue:
    """Timer -> Election: ask the voters again where their logs end.

    serial: the survey's count of waits, so that an old timer is told from the present one.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """Node -> Election: the node is about to stop; see to it that another one can lead, if this one does.

    The replicator goes on meanwhile. Answered by HandedOver, at once if there is nothing to be done; the node
    does not wait for it without a bound.
    """

    request_id: int
    reply_to: Mailbox[HandedOver]


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Election -> whoever told HandOver: nothing more is to be waited for, or all that could be done was."""

    request_id: int


News = LogAppended | LogCut | CommitAdvanced | LeaderAnswered | VoterFetched
"""What an occupant is told only if it says so: all of it comes with every append or fetch."""

NEWS: Final[frozenset[type]] = frozenset(get_args(News))


ElectionMessage = (
    LogOpened
    | News
    | MembershipEvent
    | ClaimHeard
    | BallotSaved
    | BatchAppended
    | AppendRefused
    | LogDescribed
    | HigherTermSeen
    | LeaderHinted
    | SurveyDue
    | HandOver
    | CallReceived[LogEndRequest]
    | CallCancelled
    | CallReturned[LogEndResponse]
    | CallFailed
    | ReportStatus
)
