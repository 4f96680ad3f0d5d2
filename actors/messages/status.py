"""Asking an actor for its part of the node's status."""

from __future__ import annotations

from dataclasses import dataclass

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.values import ElectionClaim, Member
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term


@dataclass(frozen=True, slots=True)
class ReportStatus:
    """gRPC edge -> any actor: answer with its own part of the node's status."""

    request_id: int
    reply_to: Mailbox[StatusReported]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    start: Position = START
    end: Position = START
    size_bytes: int = 0
    segments: int = 0
    log_epoch: int = 0


@dataclass(frozen=True, slots=True)
class MembershipStatus:
    """members: sorted by id, this node among them, those that failed or left for a while too.

    datagrams_dropped: damaged ones, and those of another cluster or gossip version.
    """

    members: tuple[Member, ...] = ()
    datagrams_dropped: int = 0


@dataclass(frozen=True, slots=True)
class PullStatus:
    """One arrow of the pull graph. lag: entries behind the source's end, -1 if not yet known.

    next_offset: the same place as next_index in the source's offsets; None if not yet known.
    """

    source_id: NodeId
    next_index: Index
    lag: int
    connected: bool
    detail: str = ""
    next_offset: Offset | None = None


@dataclass(frozen=True, slots=True)
class ReplicatorStatus:
    """parked_fetches: other nodes' fetches that wait for more. boundaries: between batches not committed yet.

    commit_unknown: why this leader does not know the end of what is committed, else "".
    """

    committed: Position = START
    pulls: tuple[PullStatus, ...] = ()
    cycles_seen: int = 0
    duplicates_dropped: int = 0
    expired_dropped: int = 0
    parked_fetches: int = 0
    boundaries: int = 0
    commit_unknown: str = ""


@dataclass(frozen=True, slots=True)
class ElectionStatus:
    """election: the flag's value, e.g. `static:n1,n2`. role: leader, follower or peer.

    claims: what other members hold for true, sorted by member. dispute: why that cannot be, else "".
    why_nobody: why nobody can lead at present, else "".
    """

    election: str = "none"
    role: str = "peer"
    term: Term = Term(0)
    leader_id: NodeId | None = None
    voters: tuple[NodeId, ...] = ()
    claims: tuple[tuple[NodeId, ElectionClaim], ...] = ()
    dispute: str = ""
    why_nobody: str = ""


Status = StoreStatus | MembershipStatus | ReplicatorStatus | ElectionStatus


@dataclass(frozen=True, slots=True)
class StatusReported:
    request_id: int
    status: Status
