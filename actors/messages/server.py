"""The mailbox of the server: what clients ask, and how each request is answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ourolog.actors.messages.events import (
    ClaimsVerdict,
    CommitAdvanced,
    CommitKnown,
    ElectionAnnouncement,
    HoldProduces,
    LogOpened,
    LogStartMoved,
    MembershipEvent,
    ReleaseProduces,
    ReplicasAdvanced,
)
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.replicator import ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.store import AppendRefused, BatchAppended, BatchesRead, ReadRefused
from ourolog.actors.messages.values import Acks, Member, ReadLevel
from ourolog.storage.batch import NewBatch
from ourolog.storage.types import Index, NodeId, Offset, Term

CONFIRMS_WITHIN_S: Final = 5.0
"""How long it may take to make sure that a read sees the latest state, unless the client has less time."""


@dataclass(frozen=True, slots=True)
class Produce:
    """gRPC edge -> Server: append these records. The edge has checked payload and count.

    batch: the records. With a producer's id and number they are appended once, however often they are sent.
    acks: how much must have happened before it is acknowledged.
    timeout_s: how long the client will wait for the acknowledgement.
    """

    request_id: int
    batch: NewBatch
    acks: Acks
    timeout_s: float
    reply_to: Mailbox[Produced | RequestRefused]


@dataclass(frozen=True, slots=True)
class Produced:
    """Server -> gRPC edge: acknowledged. Record i of the batch has offset base_offset + i.

    request_id: that of the request.
    base_offset: the offset of the first record.
    term: the term in which the entry was made.
    index: of the entry; the id of a producer that was registered by it.
    replicas: the nodes whose disks are known to have it, sorted by name.
    """

    request_id: int
    base_offset: Offset
    term: Term
    index: Index
    replicas: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisterProducer:
    """gRPC edge -> Server: register a producer, through the log.

    Answered like a produce with acks=quorum: a registration that a majority lacks may be cut, and its id would
    then be some other entry's index.

    timeout_s: how long the client will wait for the answer.
    reply_to: where the answer goes. The `index` of Produced is the producer's id.
    """

    request_id: int
    timeout_s: float
    reply_to: Mailbox[Produced | RequestRefused]


@dataclass(frozen=True, slots=True)
class Consume:
    """gRPC edge -> Server: read the batch that holds `offset`, and more up to max_bytes.

    Answered by the store's BatchesRead or by RequestRefused.

    offset: the first record that is wanted.
    max_bytes: how many bytes of batches may come; one batch comes in any case.
    wait: whether to answer, at the end of the log, once there is something, instead of with OUT_OF_RANGE.
    read: how recent the end of the log must be.
    timeout_s: how long it may take, in seconds, until it is that recent, and everything is committed here that the
        client has seen.
    seen_end: the offset after the last record that the client knows to be acknowledged or has read, 0 if it says
        nothing. Where somebody is elected it is answered only once so much is committed on this node. Where nobody is,
        each node has offsets of its own, and it means nothing.
    """

    request_id: int
    offset: Offset
    max_bytes: int
    wait: bool
    reply_to: Mailbox[BatchesRead | ReadRefused | RequestRefused]
    read: ReadLevel = ReadLevel.COMMITTED
    timeout_s: float = CONFIRMS_WITHIN_S
    seen_end: Offset = Offset(0)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """gRPC edge -> Server: the client is gone. A produce may still be appended."""

    request_id: int
    reply_to: Mailbox[Produced | RequestRefused] | Mailbox[BatchesRead | ReadRefused | RequestRefused]


class Refusal(StrEnum):
    """Why a client's request was refused; the edge maps each to one status code.

    With PRODUCER_EXPIRED, and the SEQUENCE ones, this request has appended nothing for certain. An earlier attempt
    with the same number may have stored the batch (PRODUCER_EXPIRED), or has (SEQUENCE_FORGOTTEN).
    """

    NOT_LEADER = "not the leader"
    LEADER_UNKNOWN = "no leader is known"
    OUT_OF_RANGE = "out of range"
    TIMED_OUT = "timed out"
    OVERLOADED = "overloaded"
    DEPOSED = "leader changed"
    NOT_READY = "not ready"
    COMMIT_UNKNOWN = "the end of what is committed is not known"
    NOT_CONFIRMED = "the latest state is not confirmed"
    BEHIND = "behind what the client has seen"
    NOBODY_ELECTED = "nobody is elected"
    STOPPING = "stopping"
    PRODUCER_EXPIRED = "producer expired"
    SEQUENCE_FORGOTTEN = "sequence forgotten"
    SEQUENCE_GAP = "sequence gap"
    SEQUENCE_REUSED = "sequence reused"
    ACKS_TOO_WEAK = "acks too weak"


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """Server -> gRPC edge: the request was not carried out, or its outcome is not known.

    refusal: why, for a program.
    detail: why, as a sentence for a person.
    leader_id, leader_addr: with NOT_LEADER and BEHIND, who leads and its gRPC address; None and "" if not known.
    first, end: with OUT_OF_RANGE, the readable range of offsets, `end` exclusive.
    outcome_unknown: whether the record may have been appended and may yet be committed.
    """

    request_id: int
    refusal: Refusal
    detail: str
    leader_id: NodeId | None = None
    leader_addr: str = ""
    first: Offset = Offset(0)
    end: Offset = Offset(0)
    outcome_unknown: bool = False


@dataclass(frozen=True, slots=True)
class StopHolding:
    """Node -> Server: the node stops, and the lead is handed over or will not be; refuse what is held with STOPPING."""


@dataclass(frozen=True, slots=True)
class DrainExpired:
    """Timer -> Server: answer HoldProduces, whatever still waits.

    request_id: that of the question.
    """

    request_id: int


@dataclass(frozen=True, slots=True)
class HeldExpired:
    """Timer -> Server: refuse the held produces whose time is up."""


@dataclass(frozen=True, slots=True)
class FlushProduces:
    """Server -> itself: merge what was gathered and hand it to the store."""


@dataclass(frozen=True, slots=True)
class GatherExpired:
    """Timer -> Server: produces have gathered for long enough behind others that are still on their way."""


@dataclass(frozen=True, slots=True)
class RequestsExpired:
    """Timer -> Server: refuse the produces whose time is up."""


@dataclass(frozen=True, slots=True)
class ListServers:
    """gRPC edge -> Server: who is in the cluster and who leads."""

    request_id: int
    reply_to: Mailbox[ServersListed]


@dataclass(frozen=True, slots=True)
class ServersListed:
    """Server -> gRPC edge: the members that are alive, sorted by id, this node among them."""

    request_id: int
    servers: tuple[Member, ...]
    leader_id: NodeId | None


ServerMessage = (
    LogOpened
    | LogStartMoved
    | BatchAppended
    | AppendRefused
    | MembershipEvent
    | ElectionAnnouncement
    | ClaimsVerdict
    | CommitAdvanced
    | CommitKnown
    | ReplicasAdvanced
    | ReadConfirmed
    | ReadNotConfirmed
    | Produce
    | RegisterProducer
    | Consume
    | CancelRequest
    | HoldProduces
    | ReleaseProduces
    | StopHolding
    | DrainExpired
    | HeldExpired
    | FlushProduces
    | GatherExpired
    | RequestsExpired
    | ListServers
)
