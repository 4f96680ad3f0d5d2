"""Everything that passes between actors, and between actors and the edges.

Commands are imperative, events past tense. Each message says who sends it and why. All are
frozen to the bottom. Seconds, milliseconds and bytes are in the names. `request_id` is chosen
by whoever asks and comes back in the answer; it is unique among that asker's open requests.

At the end of the file stands one closed union per mailbox.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Protocol, TypeVar

from storage.batch import NewBatch
from storage.terms import Place, TermHistory
from storage.types import START, Index, NodeId, Offset, Position, Term

M_contra = TypeVar("M_contra", contravariant=True)


class Mailbox(Protocol[M_contra]):
    """Where a message can be told: a pykka ref, a probe in a test, or an edge's own inbox."""

    def tell(self, message: M_contra) -> None:
        """Hand over the message and return at once."""


class Acks(IntEnum):
    """How much must have happened before a produce is acknowledged.

    LEADER: on the leader's disk. QUORUM: on a majority of the voters' disks. ALL: on every
    voter's disk, so that any two of three can be lost and no acknowledged record with them.
    With nobody elected each of them means this node's disk.
    """

    DEFAULT = 0
    LEADER = 1
    QUORUM = 2
    ALL = 3


class MemberState(StrEnum):
    ALIVE = "alive"
    SUSPECT = "suspect"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A node as gossip knows it. Addresses are HOST:PORT."""

    node_id: NodeId
    rpc_addr: str
    gossip_addr: str
    state: MemberState = MemberState.ALIVE
    incarnation: int = 0


# ---------------------------------------------------------------- membership: events


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """Membership -> Replicator, Server, Election: a member was discovered, or came back."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberUpdated:
    """Membership -> the same: an alive member changed its addresses (it restarted elsewhere)."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberFailed:
    """Membership -> the same: a suspected member did not refute in time."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """Membership -> the same: a member said goodbye."""

    member: Member


MembershipEvent = MemberJoined | MemberUpdated | MemberFailed | MemberLeft


@dataclass(frozen=True, slots=True)
class MemberSuspected:
    """Membership -> observer: a member did not answer, or somebody says so; it has time to refute it.

    Once for each incarnation: with every one its time begins anew.
    """

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class SuspicionRefuted:
    """Membership -> observer: a suspected member was heard of again in time."""

    node_id: NodeId
    member: Member


@dataclass(frozen=True, slots=True)
class MemberVouched:
    """Membership -> observer: a member did not answer this node, and answered another one that asked for it."""

    node_id: NodeId
    member: Member
    relay_id: NodeId


@dataclass(frozen=True, slots=True)
class NameContested:
    """Membership -> observer: two nodes seem to use one name, at these addresses; the first is asked."""

    node_id: NodeId
    name: NodeId
    held_addr: str
    claimed_addr: str


@dataclass(frozen=True, slots=True)
class NameClashed:
    """Membership -> node: this node's id is in use at another address; the node must stop."""

    node_id: NodeId
    gossip_addr: str


# ---------------------------------------------------------------- membership: commands


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """Datagram port -> Membership: bytes arrived; nothing about them is to be trusted."""

    source_addr: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class LeaveCluster:
    """Node -> Membership: say goodbye, then answer LeftCluster."""

    request_id: int
    reply_to: Mailbox[LeftCluster]


@dataclass(frozen=True, slots=True)
class LeftCluster:
    """Membership -> node: the goodbye has been sent."""

    request_id: int


# ---------------------------------------------------------------- membership: timers
# due_s is when the timer was meant to fire, by the monotonic clock: an actor that was held up
# itself must not hold the silence against others.


@dataclass(frozen=True, slots=True)
class ProbeDue:
    """Timer -> Membership: ping the next member."""


@dataclass(frozen=True, slots=True)
class ProbeTimedOut:
    """Timer -> Membership: that ping was not answered in time; let others try."""

    sequence: int


@dataclass(frozen=True, slots=True)
class ProbeConcluded:
    """Timer -> Membership: the probe that began with that ping is over; suspect who stayed silent."""

    sequence: int
    due_s: float


@dataclass(frozen=True, slots=True)
class SuspicionExpired:
    """Timer -> Membership: the suspected member had its time to refute.

    verdict: FAILED or LEFT, as which it is gone now.
    """

    node_id: NodeId
    incarnation: int
    due_s: float
    verdict: MemberState = MemberState.FAILED


@dataclass(frozen=True, slots=True)
class GossipDue:
    """Timer -> Membership: there is news that not enough members were told."""


@dataclass(frozen=True, slots=True)
class HearsayDue:
    """Timer -> Membership: ask once more those it was told of and has not heard itself."""


@dataclass(frozen=True, slots=True)
class FullExchangeDue:
    """Timer -> Membership: compare whole tables with somebody, and try those that failed."""


@dataclass(frozen=True, slots=True)
class JoinRetryDue:
    """Timer -> Membership: no seed has answered yet; ask them again."""

    attempt: int


@dataclass(frozen=True, slots=True)
class NameCheckDue:
    """Timer -> Membership: whoever is said to hold that name has not answered; ask again or conclude."""

    node_id: NodeId
    attempt: int


@dataclass(frozen=True, slots=True)
class LeaveRetryDue:
    """Timer -> Membership: say goodbye again to those who have not acknowledged it."""

    attempt: int


# ---------------------------------------------------------------- store: commands


@dataclass(frozen=True, slots=True)
class Ballot:
    """What an election must never forget: the term, whom this node voted for in it, who leads it."""

    term: Term = Term(0)
    voted_for: NodeId | None = None
    leader_id: NodeId | None = None


@dataclass(frozen=True, slots=True)
class OpenLog:
    """Node wiring -> Store, once everybody is in place: open the log and announce LogOpened."""


@dataclass(frozen=True, slots=True)
class AppendBatch:
    """Server or Replicator (the leader's control batch) -> Store: append what was produced here.

    Answered by BatchAppended once it is on disk, or AppendRefused. `term` is the sender's;
    the store refuses one that is not its ballot's, so a deposed leader cannot append.
    """

    request_id: int
    batch: NewBatch
    term: Term
    reply_to: Mailbox[BatchAppended | AppendRefused]


@dataclass(frozen=True, slots=True)
class BatchAppended:
    """Store -> whoever asked: the batch is on disk. `end` is the position after it."""

    request_id: int
    base_offset: Offset
    index: Index
    term: Term
    end: Position


@dataclass(frozen=True, slots=True)
class AppendRefused:
    """Store -> whoever asked: nothing was appended. `term` is the store's present term."""

    request_id: int
    term: Term
    reason: str


@dataclass(frozen=True, slots=True)
class AppendPulled:
    """Replicator -> Store, nobody elected: append copies of another node's batches as own.

    batches: encoded batches as they stand in the log of `source_id`, the first at first_index.
    source_epoch: the epoch of that log.
    """

    source_id: NodeId
    source_epoch: int
    first_index: Index
    batches: bytes
    reply_to: Mailbox[PulledAppended | PullRejected]


@dataclass(frozen=True, slots=True)
class PulledAppended:
    """Store -> Replicator: the pulled batches are on disk, or were dropped for a reason.

    next_index, next_offset: where the pull goes on, in the source's log.
    appended, duplicates, expired count batches: appended here, dropped because their identity
    was already here, dropped at the hop limit. `cycles` has the path of each batch that had
    been here before, this node last; at most 64 of them, `cycle_count` counts all.
    """

    source_id: NodeId
    source_epoch: int
    next_index: Index
    next_offset: Offset | None
    appended: int
    duplicates: int
    expired: int
    cycles: tuple[tuple[NodeId, ...], ...]
    cycle_count: int


@dataclass(frozen=True, slots=True)
class PullRejected:
    """Store -> Replicator: what was pulled is not a run of valid batches; nothing was appended."""

    source_id: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class AppendFetched:
    """Replicator -> Store, a leader elected: append the leader's batches as they are.

    term: the leader's; refused when the ballot has moved on.
    """

    leader_id: NodeId
    term: Term
    batches: bytes
    reply_to: Mailbox[FetchedAppended | FetchedRejected]


@dataclass(frozen=True, slots=True)
class FetchedAppended:
    """Store -> Replicator: the fetched batches are on disk."""

    leader_id: NodeId
    term: Term
    end: Position


@dataclass(frozen=True, slots=True)
class FetchedRejected:
    """Store -> Replicator: the batches do not continue the log or are damaged; nothing was appended."""

    leader_id: NodeId
    term: Term
    reason: str


@dataclass(frozen=True, slots=True)
class TruncateLog:
    """Replicator -> Store: drop every entry at `index` and above; they were never committed."""

    index: Index
    term: Term
    reply_to: Mailbox[LogTruncated]


@dataclass(frozen=True, slots=True)
class ResetLog:
    """Replicator -> Store: nothing here can be kept; start again at `start`, where the leader's log begins.

    before: the place of the entry that stands before it there, None if the leader does not know.
    """

    start: Position
    before: Place | None
    term: Term
    reply_to: Mailbox[LogTruncated]


@dataclass(frozen=True, slots=True)
class LogTruncated:
    """Store -> Replicator: the log now is this, and that is on disk."""

    start: Position
    end: Position
    terms: TermHistory


@dataclass(frozen=True, slots=True)
class ReadBatches:
    """Server or Replicator -> Store: read whole batches from `index`, or those with `offset`.

    Exactly one of index and offset is given. Never reads at or above `until`. At least one
    batch is answered when there is one, however large; more up to max_bytes.
    """

    request_id: int
    max_bytes: int
    until: Index
    reply_to: Mailbox[BatchesRead | ReadRefused]
    index: Index | None = None
    offset: Offset | None = None
    data_only: bool = False


@dataclass(frozen=True, slots=True)
class BatchesRead:
    """Store -> `reply_to` of ReadBatches.

    batches: encoded batches, back to back. next: the position after the last of them. When
    only control batches stood there and `data_only` was asked, `batches` may be empty.
    """

    request_id: int
    batches: bytes
    next: Position


class ReadProblem(StrEnum):
    """BUSY: no descriptor or no memory was to be had; trying again helps."""

    OUT_OF_RANGE = "out of range"
    DAMAGED = "damaged"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class ReadRefused:
    """Store -> `reply_to` of ReadBatches. first and end: the readable range of offsets."""

    request_id: int
    problem: ReadProblem
    detail: str
    first: Position
    end: Position


@dataclass(frozen=True, slots=True)
class SaveBallot:
    """Election -> Store: put the ballot on disk, then answer. Nothing is promised before that."""

    ballot: Ballot
    reply_to: Mailbox[BallotSaved]


@dataclass(frozen=True, slots=True)
class BallotSaved:
    """Store -> Election: the ballot is on disk."""

    ballot: Ballot


@dataclass(frozen=True, slots=True)
class NoteCommitted:
    """Replicator -> Store: a lower bound of the commit position, kept lazily for the next start."""

    committed: Position


@dataclass(frozen=True, slots=True)
class FlushAppends:
    """Store -> itself: write and sync everything that was gathered since the first append."""


@dataclass(frozen=True, slots=True)
class FsyncDue:
    """Timer -> Store: `--fsync interval`: sync what was written since the last time."""


@dataclass(frozen=True, slots=True)
class RetentionDue:
    """Timer -> Store: remove segments that are past their age or size."""


# ---------------------------------------------------------------- store: events


@dataclass(frozen=True, slots=True)
class PullPosition:
    """How far this node has pulled from another one's log."""

    source_epoch: int
    next_index: Index


@dataclass(frozen=True, slots=True)
class LogOpened:
    """Store -> Replicator, Election, Server: the log is open; first thing each of them hears.

    log_epoch: creation time of this log in ms since 1970. pull_positions: sorted by node.
    committed: a lower bound from before the restart.
    """

    start: Position
    end: Position
    terms: TermHistory
    log_epoch: int
    ballot: Ballot
    pull_positions: tuple[tuple[NodeId, PullPosition], ...]
    committed: Position


@dataclass(frozen=True, slots=True)
class LogAppended:
    """Store -> Replicator, once per group commit: these batches are on disk.

    ends: the position after each batch, ascending. terms: those of the whole log.
    """

    ends: tuple[Position, ...]
    terms: TermHistory


@dataclass(frozen=True, slots=True)
class LogStartMoved:
    """Store -> Replicator, Server: retention removed what lay below `start`."""

    start: Position


# ---------------------------------------------------------------- election: events


@dataclass(frozen=True, slots=True)
class NobodyElected:
    """Election -> Replicator, Server: there are no leaders here; everyone pulls from everyone."""


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """Election -> Replicator, Server: in `term` leads `leader_id`, or nobody that is known yet.

    Announced once for each change, after the ballot with that term is on disk.
    """

    term: Term
    leader_id: NodeId | None


@dataclass(frozen=True, slots=True)
class VotersChanged:
    """Election -> Replicator, Server: whose disks count for a quorum."""

    voters: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class ClaimsDisputed:
    """Election -> Replicator, Server: another member claims what cannot be true together with what this node holds.

    Nothing may be acknowledged until a person has decided who is right. reason: for that person.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class ClaimsSettled:
    """Election -> the same: all members that are present agree again."""


ElectionAnnouncement = NobodyElected | LeaderChanged | VotersChanged
ClaimsVerdict = ClaimsDisputed | ClaimsSettled


# ---------------------------------------------------------------- election: what it is told


@dataclass(frozen=True, slots=True)
class ElectionClaim:
    """What a node holds for true of who leads. election: the value of its flag, see `claimed_election`."""

    election: str
    term: Term = Term(0)
    leader_id: NodeId | None = None


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


# ---------------------------------------------------------------- peers: the pull


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """A node -> the node it pulls from.

    term: 0 and no votes when nobody is elected. next_index: the first entry wanted, in the
    peer's log. committed: the commit index the fetcher knows, so that a change of it can be
    answered at once.
    Nobody elected: source_epoch is that of the log that next_index belongs to, 0 if not known yet.
    A leader elected: last is the place of the entry before next_index in the *fetcher's* log, None
    where it knows of none; all below next_index is on the fetcher's disk.
    """

    cluster: str
    node_id: NodeId
    elected: bool
    term: Term
    next_index: Index
    last: Place | None
    source_epoch: int
    committed: Index
    max_bytes: int
    max_wait_s: float


class FetchOutcome(IntEnum):
    """How a fetch was answered.

    BATCHES: see `batches`, possibly empty. DIVERGED: the logs part, see `diverged`. NOT_LEADER: see
    `leader_id`. STALE_TERM: the fetcher's term is older than `term`. OUT_OF_RANGE: next_index is
    below `start`, retention took it. NEW_LOG (nobody elected): the log is not the one source_epoch
    speaks of. REFUSED: see `detail`; asking again will not help.
    """

    BATCHES = 0
    DIVERGED = 1
    NOT_LEADER = 2
    STALE_TERM = 3
    OUT_OF_RANGE = 4
    NEW_LOG = 5
    REFUSED = 6


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """The answer to a FetchRequest. `end` is the peer's last position, for lag.

    before_start: the place of the entry before `start`, None if there is none or it is not known.
    diverged, diverged_at: what the logs can share at most, see `TermHistory.parting`.
    """

    outcome: FetchOutcome
    term: Term
    log_epoch: int
    start: Position
    end: Position
    committed: Position
    leader_id: NodeId | None = None
    batches: bytes = b""
    before_start: Place | None = None
    diverged: Place | None = None
    diverged_at: Index = Index(0)
    detail: str = ""


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


# ---------------------------------------------------------------- replicator: timers and events


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


@dataclass(frozen=True, slots=True)
class CommitAdvanced:
    """Replicator -> Server: everything below `committed` may be consumed."""

    committed: Position


@dataclass(frozen=True, slots=True)
class CommitKnown:
    """Replicator (leader) -> Server: an entry of this term is committed, and with it all before.

    Until then a leader does not know where the committed part of its log ends (Raft section 8).
    """

    term: Term


@dataclass(frozen=True, slots=True)
class ReplicasAdvanced:
    """Replicator (leader) -> Server: everything below `index` is on every voter's disk, as of `term`."""

    term: Term
    index: Index


# ---------------------------------------------------------------- server: commands from clients


@dataclass(frozen=True, slots=True)
class Produce:
    """gRPC edge -> Server: append these records. The edge has checked payload and count.

    timeout_s: how long the client will wait for the acknowledgement.
    """

    request_id: int
    batch: NewBatch
    acks: Acks
    timeout_s: float
    reply_to: Mailbox[Produced | RequestRefused]


@dataclass(frozen=True, slots=True)
class Produced:
    """Server -> gRPC edge: acknowledged. Record i of the batch has offset base_offset + i."""

    request_id: int
    base_offset: Offset
    term: Term


@dataclass(frozen=True, slots=True)
class Consume:
    """gRPC edge -> Server: the batch that holds `offset`, and more up to max_bytes.

    wait: at the end of the log, answer when there is something, instead of OUT_OF_RANGE.
    Answered by the store's BatchesRead or by RequestRefused.
    """

    request_id: int
    offset: Offset
    max_bytes: int
    wait: bool
    reply_to: Mailbox[BatchesRead | ReadRefused | RequestRefused]


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """gRPC edge -> Server: the client is gone. A produce may still be appended."""

    request_id: int
    reply_to: Mailbox[Produced | RequestRefused] | Mailbox[BatchesRead | ReadRefused | RequestRefused]


class Refusal(StrEnum):
    """Why a client's request was refused; the edge maps each to one status code."""

    NOT_LEADER = "not the leader"
    LEADER_UNKNOWN = "no leader is known"
    OUT_OF_RANGE = "out of range"
    TIMED_OUT = "timed out"
    OVERLOADED = "overloaded"
    DEPOSED = "leader changed"
    NOT_READY = "not ready"
    COMMIT_UNKNOWN = "the end of what is committed is not known"
    STOPPING = "stopping"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """Server -> gRPC edge. `leader` for NOT_LEADER, first and end for OUT_OF_RANGE.

    outcome_unknown: the record may have been appended and may yet be committed.
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
class FlushProduces:
    """Server -> itself: merge what was gathered and hand it to the store."""


@dataclass(frozen=True, slots=True)
class RequestsExpired:
    """Timer -> Server: refuse the produces that have waited past their time."""


@dataclass(frozen=True, slots=True)
class ListServers:
    """gRPC edge -> Server: who is in the cluster and who leads."""

    request_id: int
    reply_to: Mailbox[ServersListed]


@dataclass(frozen=True, slots=True)
class ServersListed:
    """Server -> gRPC edge. Members that are alive, sorted by id, this node among them."""

    request_id: int
    servers: tuple[Member, ...]
    leader_id: NodeId | None


# ---------------------------------------------------------------- status


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
    """

    election: str = "none"
    role: str = "peer"
    term: Term = Term(0)
    leader_id: NodeId | None = None
    voters: tuple[NodeId, ...] = ()
    claims: tuple[tuple[NodeId, ElectionClaim], ...] = ()
    dispute: str = ""


Status = StoreStatus | MembershipStatus | ReplicatorStatus | ElectionStatus


@dataclass(frozen=True, slots=True)
class StatusReported:
    request_id: int
    status: Status


# ---------------------------------------------------------------- what a node tells its owner


@dataclass(frozen=True, slots=True)
class PullStarted:
    """Replicator -> observer: an arrow of the pull graph appeared."""

    node_id: NodeId
    source_id: NodeId


@dataclass(frozen=True, slots=True)
class PullStopped:
    """Replicator -> observer: an arrow of the pull graph is gone."""

    node_id: NodeId
    source_id: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class CycleSeen:
    """Replicator -> observer: batches came back to where they had been; `count` of them.

    path: one of them, this node first and last somewhere in it. broken: dropped, not appended.
    """

    node_id: NodeId
    path: tuple[NodeId, ...]
    count: int
    broken: bool


@dataclass(frozen=True, slots=True)
class NodeReady:
    """Server -> observer: the log is open, the election slot has spoken, and nothing is in the way of clients."""

    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeNotReady:
    """Server -> observer: the node runs, and should not be sent clients, for this reason. NodeReady ends it.

    needs_person: it will not pass by itself.
    """

    node_id: NodeId
    reason: str
    needs_person: bool = False


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """Any actor -> observer: this node must stop; `reason` is for a person to read."""

    node_id: NodeId
    actor: str
    reason: str
    is_bug: bool = False


@dataclass(frozen=True, slots=True)
class NodeWarned:
    """Any actor -> observer: something a person should know that did not stop the node."""

    node_id: NodeId
    actor: str
    reason: str


NodeEvent = (
    MembershipEvent
    | ElectionAnnouncement
    | PullStarted
    | PullStopped
    | CycleSeen
    | NodeReady
    | NodeNotReady
    | NodeFailed
    | NodeWarned
    | MemberSuspected
    | SuspicionRefuted
    | MemberVouched
    | NameContested
    | NameClashed
)


# ---------------------------------------------------------------- one closed union per mailbox

MembershipMessage = (
    DatagramReceived
    | LeaveCluster
    | ProbeDue
    | ProbeTimedOut
    | ProbeConcluded
    | SuspicionExpired
    | GossipDue
    | HearsayDue
    | FullExchangeDue
    | JoinRetryDue
    | NameCheckDue
    | LeaveRetryDue
    | ElectionAnnouncement
    | ClaimsVerdict
    | ReportStatus
)

StoreMessage = (
    OpenLog
    | AppendBatch
    | AppendPulled
    | AppendFetched
    | TruncateLog
    | ResetLog
    | ReadBatches
    | SaveBallot
    | NoteCommitted
    | FlushAppends
    | FsyncDue
    | RetentionDue
    | ReportStatus
)

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
    | Produce
    | Consume
    | CancelRequest
    | FlushProduces
    | RequestsExpired
    | ListServers
)

ElectionMessage = LogOpened | MembershipEvent | ClaimHeard | BallotSaved | HigherTermSeen | ReportStatus
