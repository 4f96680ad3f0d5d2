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
from ourolog.actors.messages.peer_calls import (
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchRequest,
    FetchResponse,
)
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
class PullRetryDue:
    """Timer -> Replicator: retry that pull after its backoff.

    peer_id: the node that is pulled from.
    serial: the pull's count of waits, so that an old timer can be told from the present one.
    """

    peer_id: NodeId
    serial: int


@dataclass(frozen=True, slots=True)
class LeaderSearchDue:
    """Timer -> Replicator: ask the next voter who leads.

    serial: the search's count of waits, so that an old timer can be told from the present one.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class FetchWaitExpired:
    """Timer -> Replicator: a long poll has waited long enough; answer it without batches."""

    request_id: int


@dataclass(frozen=True, slots=True)
class NotesDue:
    """Timer -> Replicator: tell the store the commit position to remember, if it has moved."""


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
    | CallReceived[FetchRequest]
    | CallCancelled
    | CallReturned[FetchResponse]
    | CallFailed
    | PullRetryDue
    | FetchWaitExpired
    | LeaderSearchDue
    | NotesDue
    | ReportStatus
)
