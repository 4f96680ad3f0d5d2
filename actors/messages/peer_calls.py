"""Calls between nodes: what one node asks another, as it crosses the wire, and what actors are told of it.

The life of a call: an actor of node A hands a request to its network (`PeerNetwork.call`). At node B the actor
that answers such requests is told CallReceived, and tells one CallAnswer to its `reply_to`, at once or later; if
it declines to answer, that holds a CallRefused. A's actor is told exactly one of CallReturned and CallFailed,
whatever happens to B, to A's network, or to the connection between them. When A has gone away, or stops
waiting, B's actor is told CallCancelled; what it answers afterwards is dropped.

`CALL_KINDS` has a row for each request. A new kind of call is a request and a response here, a row there, a codec
with a number in `ourolog.rpc.peer_codec` and two messages in proto/peer.proto; networks, real and simulated, need
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.storage.control import VoterKey, VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Position, Term

A_co = TypeVar("A_co", covariant=True)
Q_co = TypeVar("Q_co", covariant=True)


class PeerRequest(Generic[A_co]):
    """What one node can ask another; A_co is the class of the answer."""

    __slots__ = ()


# ---------------------------------------------------------------- what actors are told


@dataclass(frozen=True, slots=True)
class CallRefused:
    """An answer that any call may get: the node that was asked declines to answer this request.

    detail: a sentence that says why; the caller is told CallFailed with it.
    """

    detail: str


@dataclass(frozen=True, slots=True)
class CallAnswer(Generic[A_co]):
    """Answering actor -> peer network: the answer to a CallReceived, exactly one.

    request_id: that of the CallReceived.
    response: what the request asked for, or CallRefused.
    """

    request_id: int
    response: A_co | CallRefused


@dataclass(frozen=True, slots=True)
class CallReceived(Generic[Q_co]):
    """Peer network -> answering actor: another node asks. Answered by one CallAnswer.

    request_id: chosen by the network, unique among the open calls to this node.
    request: what is asked. The caller's identity is what the request says, and nothing proves it.
    reply_to: where the CallAnswer goes; its response must be of the class that CALL_KINDS names.
    """

    request_id: int
    request: Q_co
    reply_to: Mailbox[CallAnswer[Any]]


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """Peer network -> answering actor: nobody waits for this answer any more; forget the call.

    request_id: that of the CallReceived.
    """

    request_id: int


@dataclass(frozen=True, slots=True)
class CallReturned(Generic[A_co]):
    """Peer network -> calling actor: the answer to a call.

    peer_id: the node that was asked.
    request_id: the one given to `PeerNetwork.call`.
    response: what that node answered.
    """

    peer_id: NodeId
    request_id: int
    response: A_co


@dataclass(frozen=True, slots=True)
class CallFailed:
    """Peer network -> calling actor: there is no answer to this call. The peer may or may not have received it.

    peer_id: the node that was asked.
    request_id: the one given to `PeerNetwork.call`.
    reason: a sentence that says why; if the peer refused, its own.
    is_refused: whether nobody listens at the peer's address, as far as one attempt to connect can tell: its process has
        ended, most likely. One that stands still is not told so from one that is far away.
    is_declined: whether the peer has answered that it declines to; `reason` is its own sentence then.
    """

    peer_id: NodeId
    request_id: int
    reason: str
    is_refused: bool = False
    is_declined: bool = False


# ---------------------------------------------------------------- fetch


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """The answer to a FetchRequest.

    outcome: how the fetch was answered, which says which other fields count.
    term: the peer's term, 0 where nobody is elected.
    log_epoch: the epoch of the peer's log: the identity of its disk.
    start: where the peer's log begins.
    end: where it ends; the fetcher's lag is counted from there.
    committed: the peer's commit position.
    leader_id: who leads in `term` as far as the peer knows.
    batches: encoded batches from next_index on.
    before_start: the place of the entry before `start`, None if there is none or it is not known.
    voters_before_start: the voter set in force at `start`, None if there is none. On the wire with OUT_OF_RANGE and
        DIVERGED only: a node that begins anew at `start` needs it.
    producers_before_start: what is remembered of producers at `start`, see `ourolog.storage.producers`; b"" if nothing
        is. On the wire with the same outcomes.
    diverged, diverged_at: with DIVERGED, an upper bound of what the logs share, see `TermHistory.parting`.
    detail: with REFUSED and some others, a sentence that says why.
    cluster_id: of the peer's cluster, 0 if it has none or does not know it yet.
    unreadable: never on the wire. With nobody elected the fetcher's network checks what a fetch brings, passes
        on the batches before the first that no consumer could read, and says here what is wrong with that one;
        "" if all can be read. Nothing behind it is passed on.
    read_round: of a leader, the number of the last round of reads that it has opened in `term`, 0 if there was none.
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
    voters_before_start: VoterSet | None = None
    producers_before_start: bytes = b""
    diverged: Place | None = None
    diverged_at: Index = Index(0)
    detail: str = ""
    unreadable: str = ""
    read_round: int = 0
    cluster_id: int = 0


@dataclass(frozen=True, slots=True)
class FetchRequest(PeerRequest[FetchResponse]):
    """Replicator -> the replicator that it pulls from: send what comes next in your log.

    A node that has not found its leader also sends it to any voter, to learn who leads.

    cluster: the name of the fetcher's cluster.
    node_id: the fetcher.
    log_epoch: the epoch of the fetcher's own log: the identity of its disk, so that an empty disk can be told
        from the one that had this name before (KIP-853 calls it the directory id).
    elected: whether the fetcher runs with leaders.
    term: the fetcher's term, 0 where nobody is elected.
    next_index: the first entry that is wanted, in the peer's log.
    last: with a leader, the place of the entry before next_index in the *fetcher's* log, None where it knows of
        none; the fetcher may still be writing it.
    source_epoch: with nobody elected, the epoch of the log that next_index belongs to, 0 if not known yet.
    committed: the commit index that the fetcher knows, so that it need not wait for long to hear of a higher one.
    max_bytes: how many bytes of batches the answer may hold; one batch comes in any case, but none with 0: such a fetch
        asks who leads, or says that its sender is still there, and what is on its disk, while it writes what it has.
    max_wait_s: how long the peer may keep the fetch at the end of its log, in seconds.
    read_round: the number in the last answer that this leader gave in this term, 0 if it gave none: who echoes a
        number had not gone over to a later term when that round of reads was opened.
    cluster_id: of the fetcher's cluster, 0 if it has none or does not know it yet.
    disk_index: with a leader, all below it is on the fetcher's disk; at most next_index. This is what counts for the
        commit position.
    """

    cluster: str
    node_id: NodeId
    log_epoch: int
    elected: bool
    term: Term
    next_index: Index
    last: Place | None
    source_epoch: int
    committed: Index
    max_bytes: int
    max_wait_s: float
    read_round: int = 0
    cluster_id: int = 0
    disk_index: Index = Index(0)


class FetchOutcome(IntEnum):
    """How a fetch was answered.

    BATCHES: with `batches`, possibly empty.
    DIVERGED: the logs differ, see `diverged`.
    NOT_LEADER: this node does not lead, see `leader_id`.
    STALE_TERM: the fetcher's term is older than `term`.
    OUT_OF_RANGE: next_index is below `start`; retention removed it.
    NEW_LOG: with nobody elected, the log is not the one that source_epoch names.
    REFUSED: see `detail`; asking again will not help.
    """

    BATCHES = 0
    DIVERGED = 1
    NOT_LEADER = 2
    STALE_TERM = 3
    OUT_OF_RANGE = 4
    NEW_LOG = 5
    REFUSED = 6


# ---------------------------------------------------------------- the end of a voter's log


@dataclass(frozen=True, slots=True)
class LogEndResponse:
    """The answer to a LogEndRequest: the state of this node's disk when it was asked, not a remembered one.

    node_id: the node that answers; the asker compares it with the node that it meant to ask.
    log_epoch: the epoch of its log: the identity of its disk.
    term: the term of its ballot.
    leader_id: who leads in that term as far as its ballot says.
    end: where its log ends.
    last: the place of its last entry, None if its log is empty or that is not known.
    committed: its commit position.
    """

    node_id: NodeId
    log_epoch: int
    term: Term
    leader_id: NodeId | None
    end: Position
    last: Place | None
    committed: Position


@dataclass(frozen=True, slots=True)
class LogEndRequest(PeerRequest[LogEndResponse]):
    """Election -> the election of a voter: where does your log end now, and in which term are you?

    A node that wants to lead asks this first.

    cluster: the name of the asking node's cluster.
    node_id: the asking node.
    log_epoch: the epoch of its log: the identity of its disk.
    election: what it runs with, as `ElectionChoice.claimed` says it.
    term: its term.
    """

    cluster: str
    node_id: NodeId
    log_epoch: int
    election: str
    term: Term


# ---------------------------------------------------------------- the commit index, for reads of the latest state


@dataclass(frozen=True, slots=True)
class ReadIndexResponse:
    """The answer to a ReadIndexRequest.

    node_id: the node that answers.
    term: its term.
    leader_id: who leads in that term as far as it knows.
    committed: everything that had been committed anywhere when it was asked lies below this index; None if it could
        not confirm that it still led then.
    detail: why not, a sentence; "" with an index.
    """

    node_id: NodeId
    term: Term
    leader_id: NodeId | None
    committed: Index | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadIndexRequest(PeerRequest[ReadIndexResponse]):
    """Replicator -> the replicator of its leader: how far is the log committed, as of now or later?

    The leader answers once a majority of the voters has confirmed, after it was asked, that it still leads (Raft
    section 8; the dissertation's section 6.4).

    cluster: the name of the asking node's cluster.
    node_id: the asking node.
    log_epoch: the epoch of its log: the identity of its disk.
    term: its term.
    cluster_id: of the cluster that its disk belongs to, 0 where clusters have none, or it is not known yet.
    """

    cluster: str
    node_id: NodeId
    log_epoch: int
    term: Term
    cluster_id: int = 0


# ---------------------------------------------------------------- repair


@dataclass(frozen=True, slots=True)
class RepairResponse:
    """The answer to a RepairRequest.

    node_id, log_epoch: the node that answers, and its disk.
    batch: the entry, one encoded batch; b"" if it is not sent.
    why_not: why it is not sent, a sentence without a full stop; "" with a batch.
    is_final: whether asking again will not help: this node does not have that entry, or a damaged one.
    """

    node_id: NodeId
    log_epoch: int
    batch: bytes
    why_not: str = ""
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class RepairRequest(PeerRequest[RepairResponse]):
    """Replicator -> the replicator of another replica: send that entry, mine is damaged.

    Any node answers, whether it leads or not, if the entry is committed there and is the one that was asked for.

    cluster: the name of the asking node's cluster.
    cluster_id: the id of that cluster, 0 if it has none or does not know it yet.
    node_id: the asking node.
    log_epoch: the epoch of its log: the identity of its disk.
    index: of the entry, which is committed where it is asked for.
    place: of the entry there: two logs that have an entry of one place at an index have the same bytes there.
    """

    cluster: str
    cluster_id: int
    node_id: NodeId
    log_epoch: int
    index: Index
    place: Place


# ---------------------------------------------------------------- elections


@dataclass(frozen=True, slots=True)
class VoteResponse:
    """The answer to a VoteRequest.

    node_id, log_epoch: the node that answers, and its disk.
    term: the term of its ballot.
    leader_id: who leads in that term as far as it knows.
    granted: whether the candidate has this vote; with a pre-vote, whether it would have it.
    detail: if not, a sentence that says why.
    """

    node_id: NodeId
    log_epoch: int
    term: Term
    leader_id: NodeId | None
    granted: bool
    detail: str = ""

    @property
    def key(self) -> VoterKey:
        return VoterKey(self.node_id, self.log_epoch)


@dataclass(frozen=True, slots=True)
class VoteRequest(PeerRequest[VoteResponse]):
    """Election -> the election of another node: vote for me (Raft section 5.2; KIP-595, KIP-996, KIP-853).

    cluster: the name of the candidate's cluster.
    cluster_id: the id of that cluster.
    node_id, log_epoch: the candidate, and its disk.
    voter: whose vote is asked for; any other node or disk refuses.
    term: the one that the candidate stands in; with a pre-vote, its present one.
    last: the last entry of the candidate's log.
    is_pre_vote: whether it only asks if it would be voted for in the next term; nobody's ballot changes by that.
    by_leave: whether the leader asked the candidate to take over, so that a voter need not have missed the leader.
    """

    cluster: str
    cluster_id: int
    node_id: NodeId
    log_epoch: int
    voter: VoterKey
    term: Term
    last: LastEntry
    is_pre_vote: bool = False
    by_leave: bool = False

    @property
    def key(self) -> VoterKey:
        return VoterKey(self.node_id, self.log_epoch)


@dataclass(frozen=True, slots=True)
class TermResponse:
    """The answer to a BeginTermRequest or an EndTermRequest.

    node_id, log_epoch: the node that answers, and its disk.
    term: the term of its ballot.
    leader_id: who leads in that term as far as it knows.
    accepted: whether it does what it was asked to.
    """

    node_id: NodeId
    log_epoch: int
    term: Term
    leader_id: NodeId | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class BeginTermRequest(PeerRequest[TermResponse]):
    """Election of a new leader -> the election of another node: I lead in this term, pull from me (KIP-595).

    Repeated for voters that do not fetch.

    cluster: the name of the leader's cluster.
    cluster_id: the id of that cluster.
    node_id, log_epoch: the leader, and its disk.
    voter: who is told; any other node or disk refuses.
    term: the leader's.
    """

    cluster: str
    cluster_id: int
    node_id: NodeId
    log_epoch: int
    voter: VoterKey
    term: Term

    @property
    def key(self) -> VoterKey:
        return VoterKey(self.node_id, self.log_epoch)


@dataclass(frozen=True, slots=True)
class EndTermRequest(PeerRequest[TermResponse]):
    """Election of a leader -> the election of another node: I am about to stop leading, take over (KIP-595; Raft 3.10).

    cluster: the name of the leader's cluster.
    cluster_id: the id of that cluster.
    node_id, log_epoch: the leader, and its disk.
    voter: who is told; any other node or disk refuses.
    term: the leader's.
    successors: who should take over, the one with the most entries first; it stands at once, the others later.
    """

    cluster: str
    cluster_id: int
    node_id: NodeId
    log_epoch: int
    voter: VoterKey
    term: Term
    successors: tuple[VoterKey, ...]

    @property
    def key(self) -> VoterKey:
        return VoterKey(self.node_id, self.log_epoch)


VoterRequest = VoteRequest | BeginTermRequest | EndTermRequest
"""What voters ask each other."""


# ---------------------------------------------------------------- founding a cluster


@dataclass(frozen=True, slots=True)
class FoundResponse:
    """The answer to a FoundRequest.

    node_id, log_epoch: the node that answers, and its disk.
    rpc_addr, gossip_addr, own_peer_addr: its addresses; the last is "" where it is called at its gossip address.
    agrees: whether it would found that cluster with those nodes, or, asked to promise, has promised it on disk.
    founding: what it has promised; None if nothing.
    detail: if it does not agree, a sentence that says why.
    """

    node_id: NodeId
    log_epoch: int
    rpc_addr: str
    gossip_addr: str
    agrees: bool
    founding: Founding | None
    detail: str = ""
    own_peer_addr: str = ""


@dataclass(frozen=True, slots=True)
class FoundRequest(PeerRequest[FoundResponse]):
    """Election -> the election of another node: will you found a cluster with these nodes?

    cluster: its name, from the flag `--cluster`.
    node_id, log_epoch: the node that asks, and its disk.
    names: who are to found it, sorted; () while the asking node does not know enough of them: it only asks for the key.
    founding: the promise that is asked for, which the asking node has on its disk already; None if nothing is to be
        promised yet.
    """

    cluster: str
    node_id: NodeId
    log_epoch: int
    names: tuple[NodeId, ...]
    founding: Founding | None


# ---------------------------------------------------------------- the table


class Answerer(StrEnum):
    """The actor of the called node that answers.

    REPLICATOR: whatever is about the log.
    ELECTION: whatever decides who leads.
    """

    REPLICATOR = "replicator"
    ELECTION = "election"


@dataclass(frozen=True, slots=True)
class CallKind:
    """One kind of call between nodes.

    name: what it is called in traces, reports and logs.
    response: the class of its answer.
    answered_by: the actor of the called node that is told CallReceived.
    timeout_s: gives, for a request, after how many seconds without an answer the caller is told CallFailed.
    is_bulk: whether its answers are large and may wait long. All other kinds, and fetches that want no batches, have
        connections and places of their own, so that they never queue behind batches.
    """

    name: str
    response: type
    answered_by: Answerer
    timeout_s: Callable[[Any], float]
    is_bulk: bool = False


BULK_MARGIN_S: Final = 5.0
"""How much longer than its long poll a fetch may take: time to read megabytes and to send them over a slow line."""

EMPTY_FETCH: Final = "empty fetch"
"""What a fetch that wants no batches is called."""

ELECTION_TIMEOUT_S: Final = 2.0
"""After how long an election call fails; an answer takes one sync of a log, and asking again costs little."""

REPAIR_TIMEOUT_S: Final = 5.0
"""After how long a repair call fails; the answer is one batch, which may have some megabytes."""

READ_INDEX_WAIT_S: Final = 1.0
"""How long a leader waits for a majority to confirm that it leads, until it says that none has."""


CALL_KINDS: Final[Mapping[type[PeerRequest[Any]], CallKind]] = MappingProxyType(
    {
        FetchRequest: CallKind(
            "fetch",
            FetchResponse,
            Answerer.REPLICATOR,
            lambda fetch: float(fetch.max_wait_s) + (BULK_MARGIN_S if fetch.max_bytes else ELECTION_TIMEOUT_S),
            is_bulk=True,
        ),
        LogEndRequest: CallKind("log end", LogEndResponse, Answerer.ELECTION, lambda _: ELECTION_TIMEOUT_S),
        VoteRequest: CallKind("vote", VoteResponse, Answerer.ELECTION, lambda _: ELECTION_TIMEOUT_S),
        BeginTermRequest: CallKind("begin term", TermResponse, Answerer.ELECTION, lambda _: ELECTION_TIMEOUT_S),
        EndTermRequest: CallKind("end term", TermResponse, Answerer.ELECTION, lambda _: ELECTION_TIMEOUT_S),
        FoundRequest: CallKind("found", FoundResponse, Answerer.ELECTION, lambda _: ELECTION_TIMEOUT_S),
        ReadIndexRequest: CallKind(
            "read index", ReadIndexResponse, Answerer.REPLICATOR, lambda _: 2 * READ_INDEX_WAIT_S
        ),
        RepairRequest: CallKind("repair", RepairResponse, Answerer.REPLICATOR, lambda _: REPAIR_TIMEOUT_S),
    }
)


def is_empty_fetch(request: PeerRequest[Any]) -> bool:
    """Whether this is a fetch that wants no batches: it is answered at once, and by little."""
    return isinstance(request, FetchRequest) and request.max_bytes == 0


def is_bulk(request: PeerRequest[Any]) -> bool:
    """Whether the answer to this request may be large, or late."""
    return CALL_KINDS[type(request)].is_bulk and not is_empty_fetch(request)
