"""Values that several messages carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from ourolog.storage.types import Index, NodeId, Term


class Acks(IntEnum):
    """How much must have happened before a produce is acknowledged.

    With nobody elected, each of them means this node's disk.

    DEFAULT: what the node's configuration says.
    LEADER: it is on the leader's disk.
    QUORUM: it is on a majority of the voters' disks.
    ALL: it is on every voter's disk, so that any two of three can be lost and no acknowledged record with them.
    """

    DEFAULT = 0
    LEADER = 1
    QUORUM = 2
    ALL = 3


class ReadLevel(StrEnum):
    """How recent what a reader gets must be.

    COMMITTED: what the node that is asked knows to be committed. It may lag behind the leader.
    LATEST: at least all that was committed anywhere when the read came, and so all that a quorum had acknowledged.
        The leader makes sure first that it still leads, and other nodes ask the leader.
    """

    COMMITTED = "committed"
    LATEST = "latest"


class MemberState(StrEnum):
    """What gossip believes of a member (SWIM section 4.2), from the best state to the worst."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A node as gossip knows it. Addresses are HOST:PORT.

    node_id: its name.
    rpc_addr: its gRPC address.
    gossip_addr: its gossip address.
    state: what gossip believes of it.
    incarnation: which of its words is the newer one.
    own_peer_addr: where other nodes call it, if that is not its gossip address; "" if it is.
    """

    node_id: NodeId
    rpc_addr: str
    gossip_addr: str
    state: MemberState = MemberState.ALIVE
    incarnation: int = 0
    own_peer_addr: str = ""

    @property
    def peer_addr(self) -> str:
        """Where other nodes call it, by TCP: at the gossip address, unless it has another one for that."""
        return self.own_peer_addr or self.gossip_addr

    @property
    def addresses(self) -> tuple[str, str, str]:
        """Where it is: for clients, for gossip, for calls of other nodes."""
        return self.rpc_addr, self.gossip_addr, self.peer_addr


@dataclass(frozen=True, slots=True, order=True)
class Peer:
    """Another node, as the target of calls.

    node_id: its name.
    addr: where other nodes call it, HOST:PORT.
    """

    node_id: NodeId
    addr: str


@dataclass(frozen=True, slots=True)
class PullPosition:
    """How far this node has pulled from another one's log."""

    source_epoch: int
    next_index: Index


@dataclass(frozen=True, slots=True)
class ElectionClaim:
    """What a node claims about who leads.

    election: the value of its flag, see `ElectionChoice.claimed`.
    term: the present term, as it was announced last.
    leader_id: who leads in it, None if nobody does or is known to.
    cluster_id: of the cluster that its disk belongs to, 0 where clusters have none, or it belongs to none yet.
    generation: of that cluster: 1 as it was founded, one more after each recovery.
    origin_id: the id of its first generation; 0 stands for cluster_id.
    """

    election: str
    term: Term = Term(0)
    leader_id: NodeId | None = None
    cluster_id: int = 0
    generation: int = 1
    origin_id: int = 0

    @property
    def lineage(self) -> int:
        """What all generations of one cluster share, 0 where clusters have no id."""
        return self.origin_id or self.cluster_id
