"""How an actor is asked for its part of the node's status, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    """The store's part: where its log begins and ends, and how large it is.

    start: where the log begins.
    end: where it ends.
    size_bytes: the size of all its segments.
    segments: how many segments there are.
    log_epoch: the epoch of the log: the identity of its disk.
    damaged_found: how many damaged places were found in it since the node started.
    repaired: how many of them were repaired from other replicas.
    last_term: the term of the last entry.
    scrubbed_bytes: how much of it the scrub has read since then.
    scrub_next: the entry that the scrub reads next; None where there is no scrub.
    scrubbed_ms: when the scrub came to the log's end last, ms since 1970; 0 if it has not yet.
    """

    start: Position = START
    end: Position = START
    size_bytes: int = 0
    segments: int = 0
    log_epoch: int = 0
    damaged_found: int = 0
    repaired: int = 0
    last_term: Term = Term(0)
    scrubbed_bytes: int = 0
    scrub_next: Position | None = None
    scrubbed_ms: int = 0


@dataclass(frozen=True, slots=True)
class MembershipStatus:
    """The membership actor's part: the members that it knows.

    members: sorted by id, this node among them, and for a while those that failed or left, too.
    datagrams_dropped: how many datagrams were damaged, or of another cluster or gossip version.
    """

    members: tuple[Member, ...] = ()
    datagrams_dropped: int = 0


@dataclass(frozen=True, slots=True)
class PullStatus:
    """One arrow of the pull graph.

    source_id: the node that this one pulls from.
    next_index: the next entry to be pulled, in the source's log.
    lag: how many entries the pull is behind the source's end; -1 if not yet known.
    connected: whether a fetch was answered with batches, or with none since there are none, and no call failed since.
    detail: what is wrong with the pull, "" if nothing is.
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
    """The replicator's part: its pulls, the commit position, and what it counted since the node started.

    committed: the commit position.
    pulls: one for each node that this one pulls from.
    cycles_seen: how many batches came back to this node.
    duplicates_dropped: how many pulled batches were dropped since they were here already.
    expired_dropped: how many pulled batches were dropped at the hop limit.
    parked_fetches: how many fetches of other nodes wait for more.
    boundaries: how many boundaries between batches that are not committed yet are kept.
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
class ReplicaStatus:
    """What a leader knows of another node that copies from it.

    node_id: the node.
    votes: whether it votes; else it stands by.
    end: everything below was on its disk when it fetched last; None if it has not fetched in this term.
    fetches: whether it has fetched lately.
    is_caught_up: of one that stands by, whether it keeps up well enough to vote.
    """

    node_id: NodeId
    votes: bool
    end: Index | None
    fetches: bool
    is_caught_up: bool = False


@dataclass(frozen=True, slots=True)
class ElectionStatus:
    """The election slot's part: who leads, who votes, and what other members claim about it.

    election: the flag's value, e.g. `static:n1,n2`.
    role: leader, follower or peer.
    term: the term announced last.
    leader_id: who leads in it, None if nobody does or is known to.
    voters: whose disks count for a quorum.
    claims: what other members claim, sorted by member.
    dispute: why the claims contradict each other, else "".
    why_nobody: why nobody can lead at present, else "".
    own: what this node claims itself: to which cluster its disk belongs, and which generation of it.
    replicas: where this node leads and voters elect, the other voters and the nodes that stand by, each sorted.
    voter_change: which change of voters is under way, a sentence for a person; "" if none is.
    """

    election: str = "none"
    role: str = "peer"
    term: Term = Term(0)
    leader_id: NodeId | None = None
    voters: tuple[NodeId, ...] = ()
    claims: tuple[tuple[NodeId, ElectionClaim], ...] = ()
    dispute: str = ""
    why_nobody: str = ""
    own: ElectionClaim = field(default_factory=lambda: ElectionClaim(""))
    replicas: tuple[ReplicaStatus, ...] = ()
    voter_change: str = ""


Status = StoreStatus | MembershipStatus | ReplicatorStatus | ElectionStatus


@dataclass(frozen=True, slots=True)
class StatusReported:
    """Any actor -> gRPC edge: its part of the node's status.

    status: the part.
    """

    request_id: int
    status: Status
