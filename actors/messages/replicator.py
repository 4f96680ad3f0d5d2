"""The mailbox of the replicator: fetches of others, what its own fetches brought, and its timers."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.events import (
    ClaimsVerdict,
    ElectionAnnouncement,
    HoldProduces,
    LogAppended,
    LogOpened,
    LogStartMoved,
    MembershipEvent,
    ReleaseProduces,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchRequest,
    FetchResponse,
    ReadIndexRequest,
    ReadIndexResponse,
    RepairRequest,
    RepairResponse,
)
from ourolog.actors.messages.repair import BatchRepaired, DamageFound, RepairDue, RepairRejected
from ourolog.actors.messages.status import ReportStatus
from ourolog.actors.messages.store import (
    BatchesGathered,
    FetchedAppended,
    FetchedRejected,
    FetchedTaken,
    LogTruncated,
    PulledAppended,
    PullRejected,
)
from ourolog.storage.types import NodeId, Position, Term


@dataclass(frozen=True, slots=True)
class PullRetryDue:
    """Timer -> Replicator: retry that pull after its backoff.

    peer_id: the node that is pulled from.
    serial: the pull's count of waits, so that an old timer can be told from the present one.
    """

    peer_id: NodeId
    serial: int


@dataclass(frozen=True, slots=True)
class KeepAliveDue:
    """Timer -> Replicator: the log is still busy with what came from there; say that this node is still there.

    peer_id: the leader, which is pulled from.
    serial: the count of such waits, so that an old timer can be told from the present one.
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
class ConfirmRead:
    """Server -> Replicator: somebody wants to read the latest state.

    Answered by one ReadConfirmed or ReadNotConfirmed, unless ForgetRead comes before.

    request_id: chosen by the server.
    timeout_s: after how many seconds it is given up.
    """

    request_id: int
    timeout_s: float
    reply_to: Mailbox[ReadConfirmed | ReadNotConfirmed]


@dataclass(frozen=True, slots=True)
class ReadConfirmed:
    """Replicator -> Server: all that was committed anywhere when ConfirmRead came is committed here, and known to be.

    request_id: that of the ConfirmRead.
    committed: the commit position here.
    """

    request_id: int
    committed: Position


@dataclass(frozen=True, slots=True)
class ReadNotConfirmed:
    """Replicator -> Server: it cannot be known here, or not in time, what is committed elsewhere.

    request_id: that of the ConfirmRead.
    detail: what is missing, a sentence.
    """

    request_id: int
    detail: str


@dataclass(frozen=True, slots=True)
class ForgetRead:
    """Server -> Replicator: nobody waits for this read any more.

    request_id: that of the ConfirmRead.
    """

    request_id: int


@dataclass(frozen=True, slots=True)
class ReadIndexDue:
    """Timer -> Replicator: ask the leader once more how far the log is committed.

    serial: the count of such waits, so that an old timer can be told from the present one.
    """

    serial: int


@dataclass(frozen=True, slots=True)
class ReadsExpired:
    """Timer -> Replicator: give up the reads of the latest state whose time is up."""


@dataclass(frozen=True, slots=True)
class FetchWaitExpired:
    """Timer -> Replicator: a long poll has waited long enough; answer it without batches."""

    request_id: int


@dataclass(frozen=True, slots=True)
class CommitNewsDue:
    """Timer -> Replicator (leader): nothing has followed what is committed; tell those who wait that it is."""


@dataclass(frozen=True, slots=True)
class InSyncDue:
    """Timer -> Replicator: look again which voters are in sync, if this node still leads.

    term: in which it led when the timer was set.
    """

    term: Term


@dataclass(frozen=True, slots=True)
class NotesDue:
    """Timer -> Replicator: tell the store the commit position to remember, if it has moved."""


ReplicatorMessage = (
    LogOpened
    | LogAppended
    | BatchesGathered
    | LogStartMoved
    | LogTruncated
    | PulledAppended
    | PullRejected
    | FetchedTaken
    | FetchedAppended
    | FetchedRejected
    | MembershipEvent
    | ElectionAnnouncement
    | HoldProduces
    | ReleaseProduces
    | ClaimsVerdict
    | CallReceived[FetchRequest]
    | CallReceived[ReadIndexRequest]
    | CallReceived[RepairRequest]
    | CallCancelled
    | CallReturned[FetchResponse]
    | CallReturned[ReadIndexResponse]
    | CallReturned[RepairResponse]
    | CallFailed
    | PullRetryDue
    | KeepAliveDue
    | FetchWaitExpired
    | CommitNewsDue
    | LeaderSearchDue
    | ConfirmRead
    | ForgetRead
    | ReadIndexDue
    | ReadsExpired
    | InSyncDue
    | DamageFound
    | BatchRepaired
    | RepairRejected
    | RepairDue
    | NotesDue
    | ReportStatus
)
