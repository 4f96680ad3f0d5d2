"""The mailbox of the replicator: fetches of others, what its own fetches brought, and its timers."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.events import (
    ClaimsVerdict,
    ElectionAnnouncement,
    LogAppended,
    LogOpened,
    LogStartMoved,
    MembershipEvent,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import FetchRequest, FetchResponse
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.store import (
    AppendRefused,
    BatchAppended,
    FetchedAppended,
    FetchedRejected,
    LogTruncated,
    PulledAppended,
    PullRejected,
)
from ourolog.storage.types import NodeId


@dataclass(frozen=True, slots=True)
class FetchReceived:
    """Peer network -> Replicator: another node asks. Answered by one FetchAnswer."""

    request_id: int
    request: FetchRequest
    reply_to: Mailbox[FetchAnswer]


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """Replicator -> peer network: the answer to FetchReceived."""

    request_id: int
    response: FetchResponse


@dataclass(frozen=True, slots=True)
class FetchCancelled:
    """Peer network -> Replicator: the fetcher went away; forget its long poll."""

    request_id: int


@dataclass(frozen=True, slots=True)
class FetchReturned:
    """Peer network -> Replicator: what our own fetch from `peer_id` brought.

    unreadable: with nobody elected the network looks at what it brings. It hands on the batches
        before the first that no consumer could read, and this is a sentence about that one; "" if
        there is none. Nothing behind it is handed on.
    """

    peer_id: NodeId
    request_id: int
    response: FetchResponse
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """Peer network -> Replicator: our fetch from `peer_id` brought no answer."""

    peer_id: NodeId
    request_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class PullRetryDue:
    """Timer -> Replicator: try that pull again after its backoff. `serial`: the pull's count of waits."""

    peer_id: NodeId
    serial: int


@dataclass(frozen=True, slots=True)
class FetchWaitExpired:
    """Timer -> Replicator: a long poll has waited long enough; answer it empty."""

    request_id: int


@dataclass(frozen=True, slots=True)
class NotesDue:
    """Timer -> Replicator: hand the store what it should remember lazily."""


ReplicatorMessage = (
    LogOpened
    | LogAppended
    | LogStartMoved
    | LogTruncated
    | PulledAppended
    | PullRejected
    | FetchedAppended
    | FetchedRejected
    | BatchAppended
    | AppendRefused
    | MembershipEvent
    | ElectionAnnouncement
    | ClaimsVerdict
    | FetchReceived
    | FetchCancelled
    | FetchReturned
    | FetchFailed
    | PullRetryDue
    | FetchWaitExpired
    | NotesDue
    | ReportStatus
)
