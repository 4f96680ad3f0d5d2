"""The mailbox of the membership actor: datagrams, leaving, and its timers."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.events import ClaimsVerdict, ElectionAnnouncement, HoldProduces, ReleaseProduces
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.values import MemberState
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """Datagram port -> Membership: bytes arrived; nothing in them can be trusted."""

    source_addr: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class LeaveCluster:
    """Node -> Membership: announce that this node leaves, then answer LeftCluster."""

    request_id: int
    reply_to: Mailbox[LeftCluster]


@dataclass(frozen=True, slots=True)
class LeftCluster:
    """Membership -> node: the announcement has been sent."""

    request_id: int


# due_s is when the timer was meant to fire, by the monotonic clock: an actor that was itself held up
# must not blame others for their silence.


@dataclass(frozen=True, slots=True)
class ProbeDue:
    """Timer -> Membership: ping the next member."""


@dataclass(frozen=True, slots=True)
class ProbeTimedOut:
    """Timer -> Membership: that ping was not answered in time; ask others to ping."""

    sequence: int


@dataclass(frozen=True, slots=True)
class ProbeConcluded:
    """Timer -> Membership: the probe that began with that ping is over; suspect the member if it was silent."""

    sequence: int
    due_s: float


@dataclass(frozen=True, slots=True)
class SuspicionExpired:
    """Timer -> Membership: the suspected member did not refute in the time that it had.

    node_id: the suspected member.
    incarnation: the one that is under suspicion.
    due_s: when its time was up, in seconds of the monotonic clock.
    verdict: FAILED or LEFT, as which it now counts as gone.
    """

    node_id: NodeId
    incarnation: int
    due_s: float
    verdict: MemberState = MemberState.FAILED


@dataclass(frozen=True, slots=True)
class GossipDue:
    """Timer -> Membership: there are updates that were not sent often enough."""


@dataclass(frozen=True, slots=True)
class ConfirmationDue:
    """Timer -> Membership: ping again the unconfirmed members, which only others have reported."""


@dataclass(frozen=True, slots=True)
class FullExchangeDue:
    """Timer -> Membership: exchange whole tables with somebody, and try those that failed."""


@dataclass(frozen=True, slots=True)
class JoinRetryDue:
    """Timer -> Membership: no seed has answered yet; ask them again."""

    attempt: int


@dataclass(frozen=True, slots=True)
class NameCheckDue:
    """Timer -> Membership: the supposed holder of that name has not answered; ask again or conclude."""

    node_id: NodeId
    attempt: int


@dataclass(frozen=True, slots=True)
class LeaveRetryDue:
    """Timer -> Membership: announce again that this node leaves, to those who have not acknowledged it."""

    attempt: int


MembershipMessage = (
    DatagramReceived
    | LeaveCluster
    | ProbeDue
    | ProbeTimedOut
    | ProbeConcluded
    | SuspicionExpired
    | GossipDue
    | ConfirmationDue
    | FullExchangeDue
    | JoinRetryDue
    | NameCheckDue
    | LeaveRetryDue
    | ElectionAnnouncement
    | HoldProduces
    | ReleaseProduces
    | ClaimsVerdict
    | ReportStatus
)
