"""Everything that happens in a simulated cluster, as one stream of events.

Checkers, the trace hash and reports are functions of this stream. Events are frozen. `time_s` is the
virtual time since the simulation began. `node_id` is the node that it happened to, and `path` a path on
that node's own disk. `source` and `target` are the nodes or clients between which a packet travels, and
`what` is what it carries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.observer import NodeEvent
from ourolog.actors.messages.values import ReadLevel
from ourolog.storage.types import Index, NodeId, Offset, Term

DATAGRAM: Final = "datagram"
"""What a packet carries that belongs to no call: gossip."""

DATAGRAMS: Final = "datagrams"
"""The shape of a partition that only gossip does not pass."""

# ---------------------------------------------------------------- messages between actors


@dataclass(frozen=True, slots=True)
class MessageTold:
    """An actor (or "" for ports, timers and clients) told a mailbox something.

    time_s: when, in virtual seconds.
    sender: the actor, "n1.store"; "" for a port, a timer or a client.
    receiver: whose mailbox it is, "n1.store".
    message: what was told.
    by_timer: whether a timer told it, which its receiver had set.
    """

    time_s: float
    sender: str
    receiver: str
    message: object
    by_timer: bool = False


@dataclass(frozen=True, slots=True)
class MessageHandled:
    """An actor has handled a message to its end; its state is consistent now."""

    time_s: float
    receiver: str
    message: object


# ---------------------------------------------------------------- nodes


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node's process was started, with this configuration."""

    time_s: float
    node_id: NodeId
    config: NodeConfig


@dataclass(frozen=True, slots=True)
class NodeStopped:
    """An orderly stop."""

    time_s: float
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeCrashed:
    """The process ended where it stood.

    power_lost: whether the machine lost its power, so that what was not synced may be gone, too.
    """

    time_s: float
    node_id: NodeId
    power_lost: bool


@dataclass(frozen=True, slots=True)
class NodePaused:
    """A node stands still from now on, as after SIGSTOP."""

    time_s: float
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeResumed:
    """A node that stood still goes on, as after SIGCONT."""

    time_s: float
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class NodeSaid:
    """What a node told its owner: ready, failed, members, pulls, cycles, leaders."""

    time_s: float
    node_id: NodeId
    event: NodeEvent


# ---------------------------------------------------------------- network


@dataclass(frozen=True, slots=True)
class PacketSent:
    """A packet began its way.

    packet_id: unique in a run; a duplicate or a late replay is delivered under the same one.
    """

    time_s: float
    packet_id: int
    source: NodeId
    target: NodeId
    what: str


@dataclass(frozen=True, slots=True)
class PacketDelivered:
    """A packet has arrived."""

    time_s: float
    packet_id: int
    source: NodeId
    target: NodeId
    what: str


class LossCause(StrEnum):
    """Why a packet never arrives.

    LOSS: it got lost on its way, as any packet may.
    REPLY_LOST: it was an answer, and was lost after the work was done.
    PARTITION: its link carries nothing.
    DOWN: no process listens where it was sent.
    """

    LOSS = "loss"
    REPLY_LOST = "reply lost"
    PARTITION = "partition"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class PacketLost:
    """A packet will never arrive.

    packet_id: that of PacketSent.
    cause: why not.
    """

    time_s: float
    packet_id: int
    source: NodeId
    target: NodeId
    what: str
    cause: LossCause


@dataclass(frozen=True, slots=True)
class PartitionMade:
    """Some links carry nothing from now on.

    shape: halves, isolate, pair, one-way, ring; datagrams, if calls go on.
    blocked: the directed links that carry nothing, or no datagrams.
    """

    time_s: float
    shape: str
    blocked: tuple[tuple[NodeId, NodeId], ...]


@dataclass(frozen=True, slots=True)
class PartitionHealed:
    """All links carry packets again."""

    time_s: float


# ---------------------------------------------------------------- disks


@dataclass(frozen=True, slots=True)
class FileAppended:
    """What has reached the page cache; a write that failed half way has appended its prefix."""

    time_s: float
    node_id: NodeId
    path: str
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileRewritten:
    """Bytes of a file were written over, in the page cache."""

    time_s: float
    node_id: NodeId
    path: str
    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FileSynced:
    """A sync of a file has succeeded.

    That is not all of the file when an earlier sync has failed: what that one lost, no later one writes.

    size: everything below it is durable, unless the disk lied (then the fault was injected before).
    """

    time_s: float
    node_id: NodeId
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class FileTruncated:
    """A file was cut to `size` bytes."""

    time_s: float
    node_id: NodeId
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class FileReplaced:
    """A file was replaced whole, by rename."""

    time_s: float
    node_id: NodeId
    path: str
    content: bytes


@dataclass(frozen=True, slots=True)
class FileRemoved:
    """A file was removed."""

    time_s: float
    node_id: NodeId
    path: str


@dataclass(frozen=True, slots=True)
class FaultInjected:
    """A fault of `kind` (see ourolog.simulation.faults) has actually fired.

    time_s: when, in virtual seconds.
    kind: which fault.
    where: a node, or "n1>n2" for a link.
    detail: what it did, for a person; "" where the rest says it all.
    packet: what the packet carries that it befell; "" if it befell none.
    until_s: when it ends, in virtual seconds, where that is known; else 0.0.
    is_mid_write: whether it befell a node in the middle of a write.
    """

    time_s: float
    kind: str
    where: str
    detail: str = ""
    packet: str = ""
    until_s: float = 0.0
    is_mid_write: bool = False


@dataclass(frozen=True, slots=True)
class DiskRestored:
    """What a fault of `kind` had done to a node's disk is undone: all that should be on it is."""

    time_s: float
    node_id: NodeId
    kind: str


# ---------------------------------------------------------------- the election slot


@dataclass(frozen=True, slots=True)
class ClusterRecovered:
    """People have recovered a cluster from the disk of one survivor, which does not run.

    time_s: when, in virtual seconds.
    node_id: the survivor.
    cluster_id: the id of the new generation.
    former_id: the id of the generation that the disk had belonged to before anybody began to recover it.
    origin_id: the id of the first generation.
    generation: the number of the new generation.
    term: the term in which it begins.
    tail: how many entries became committed that the survivor did not know to be.
    was_unfinished: whether it repeats a recovery that was interrupted.
    """

    time_s: float
    node_id: NodeId
    cluster_id: int
    former_id: int
    origin_id: int
    generation: int
    term: Term
    tail: int
    was_unfinished: bool = False


@dataclass(frozen=True, slots=True)
class LeaderDecided:
    """The oracle has found a leader for a term.

    time_s: when, in virtual seconds.
    term: the term.
    leader_id: the leader.
    voters: those who have voted for it, itself among them.
    """

    time_s: float
    term: Term
    leader_id: NodeId
    voters: tuple[NodeId, ...]


# ---------------------------------------------------------------- clients


class OperationKind(StrEnum):
    """What a client can ask a node for."""

    PRODUCE = "produce"
    CONSUME = "consume"
    REGISTER = "register"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asks a node for.

    kind: produce or consume.
    value: what a produce appends, unique in the run.
    offset: what a consume asks for.
    acks: what a produce wants to have happened before it is acknowledged.
    read: how recent what a consume gets must be.
    producer_id, sequence: whose batch a produce is, and which one; (0, 0) if no producer numbered it. Every attempt
        to send the batch is an operation of its own.
    seen_end: the offset after the last record that the client says it has seen.
    """

    kind: OperationKind
    value: bytes = b""
    offset: Offset = Offset(0)
    acks: str = "default"
    read: ReadLevel = ReadLevel.COMMITTED
    producer_id: int = 0
    sequence: int = 0
    seen_end: Offset = Offset(0)


class Outcome(StrEnum):
    """Whether an operation was carried out, as far as its client can know.

    OK: it was.
    REFUSED: certainly nothing happened.
    UNKNOWN: it may have happened, now or later.
    """

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OperationResult:
    """How an operation ended, as its client knows it.

    outcome: whether it was done.
    offset: where the record is.
    value: what was read.
    path: the nodes that what was read has gone through, from the one that made it to the one that was asked.
    end_offset: where the log ends, if the read was out of its range.
    detail: why it was not done.
    index: of the entry that a produce or a registration made, which is the id of a producer that was registered.
    """

    outcome: Outcome
    offset: Offset = Offset(0)
    value: bytes = b""
    path: tuple[NodeId, ...] = ()
    end_offset: Offset | None = None
    detail: str = ""
    index: Index = Index(0)


@dataclass(frozen=True, slots=True)
class ClientInvoked:
    """A client has begun an operation.

    client: the client.
    operation_id: unique in the run.
    node_id: the node that the client asked; each retry is an operation of its own.
    operation: what it asked for.
    """

    time_s: float
    client: str
    operation_id: int
    node_id: NodeId
    operation: Operation


@dataclass(frozen=True, slots=True)
class ClientReturned:
    """A client has learnt how its operation ended."""

    time_s: float
    client: str
    operation_id: int
    node_id: NodeId
    operation: Operation
    result: OperationResult


# ---------------------------------------------------------------- the run


class Phase(StrEnum):
    """The three parts of a run.

    SAFETY: faults everywhere.
    LIVENESS: a healthy core must make progress.
    SETTLED: no faults, no clients.
    """

    SAFETY = "safety"
    LIVENESS = "liveness"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """The next part of a run has begun.

    phase: which part.
    core: the nodes that are healthy from now on.
    """

    time_s: float
    phase: Phase
    core: tuple[NodeId, ...] = ()


Event = (
    MessageTold
    | MessageHandled
    | NodeStarted
    | NodeStopped
    | NodeCrashed
    | NodePaused
    | NodeResumed
    | NodeSaid
    | PacketSent
    | PacketDelivered
    | PacketLost
    | PartitionMade
    | PartitionHealed
    | FileAppended
    | FileRewritten
    | FileSynced
    | FileTruncated
    | FileReplaced
    | FileRemoved
    | FaultInjected
    | DiskRestored
    | ClusterRecovered
    | LeaderDecided
    | ClientInvoked
    | ClientReturned
    | PhaseBegan
)


def nodes_of(event: Event) -> tuple[NodeId, ...]:
    """The nodes at which it happened; none for what happens to the network or the run as a whole."""
    match event:
        case MessageTold(sender=sender, receiver=receiver):
            return tuple(dict.fromkeys(NodeId(name.partition(".")[0]) for name in (sender, receiver) if name))
        case MessageHandled(receiver=receiver):
            return (NodeId(receiver.partition(".")[0]),)
        case PacketSent() | PacketDelivered() | PacketLost():
            return (event.source, event.target)
        case LeaderDecided():
            return (event.leader_id,)
        case FaultInjected():
            return tuple(map(NodeId, event.where.split(">")))
        case PartitionMade() | PartitionHealed() | PhaseBegan():
            return ()
        case _:
            return (event.node_id,)
