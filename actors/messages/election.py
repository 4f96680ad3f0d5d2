"""The mailbox of the election slot."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, MembershipEvent
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
from ourolog.actors.messages.store import BallotSaved, LogDescribed
from ourolog.actors.messages.values import ElectionClaim
from ourolog.storage.types import NodeId, Term


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


ElectionMessage = (
    LogOpened
    | LogAppended
    | LogCut
    | MembershipEvent
    | ClaimHeard
    | BallotSaved
    | LogDescribed
    | HigherTermSeen
    | HandOver
    | CallReceived[LogEndRequest]
    | CallCancelled
    | CallReturned[LogEndResponse]
    | CallFailed
    | ReportStatus
)
