"""What both sides of the replicator know: the log's extent, who leads, and which members exist."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ourolog.actors.actor import NodeRef
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeEvent, NodeWarned, WarningKind
from ourolog.actors.messages.store import StoreMessage
from ourolog.actors.messages.values import Member
from ourolog.actors.other_clusters import MAX_STRANGERS, why_of_other_cluster
from ourolog.actors.ports import Ports
from ourolog.actors.replication.divergence import LogExtent
from ourolog.actors.replication.log_tail import LogTail
from ourolog.actors.terms import is_ahead
from ourolog.storage.control import VoterSet
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, NodeId, Position, Term


class Role(StrEnum):
    """What a node is in replication, by what the election slot announced.

    STARTING: the election slot has announced nothing yet.
    PEER: nobody is elected; it pulls from everyone.
    LEADER: it leads in the present term.
    FOLLOWER: another node leads, or nobody is known to.
    """

    STARTING = "starting"
    PEER = "peer"
    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(slots=True)
class ReplicationState:
    """What the pulling and the serving side share; only the replicator actor changes it.

    config: the node's configuration.
    ports: the node's ports.
    store: the store's mailbox.
    me: the replicator's own mailbox.
    role: what this node is in replication.
    term, leader_id: as the election slot announced last.
    tail: where this node leads, the end of its log in memory, which may reach beyond what is on disk.
    start, end: where the log on disk begins and ends.
    terms: the terms of the whole log on disk.
    voters_before_start: the voter set in force where the log begins, None if there is none.
    producers_before_start: what is remembered of producers there, see `ourolog.storage.producers`.
    log_epoch: the epoch of the log: the identity of its disk.
    cluster_id: of the cluster that this node belongs to; 0 where clusters have none, or it is not known yet.
    opened: whether the store has opened the log.
    committed: the commit position; never falls.
    members: all other nodes with their addresses, including those that gossip counts as gone while that may matter.
    gone: those of the members that failed or left.
    voter_addrs: where the voters are called, as the disk knows them: for those that gossip has not found.
    reports_every_fetch: whether the election is told of each fetch of a voter, since it waits for one to catch up.
    read_round: where this node leads, the number of the last round of reads in this term, 0 before the first.
    awaits_echoes: whether that round is open, so that voters should be told of it at once.
    """

    config: NodeConfig
    ports: Ports
    store: Mailbox[StoreMessage]
    me: NodeRef
    tail: LogTail
    role: Role = Role.STARTING
    term: Term = Term(0)
    leader_id: NodeId | None = None
    start: Position = START
    end: Position = START
    terms: TermHistory = field(default_factory=TermHistory)
    voters_before_start: VoterSet | None = None
    producers_before_start: bytes = b""
    log_epoch: int = 0
    cluster_id: int = 0
    opened: bool = False
    committed: Position = START
    members: dict[NodeId, Member] = field(default_factory=dict)
    gone: set[NodeId] = field(default_factory=set)
    voter_addrs: dict[NodeId, str] = field(default_factory=dict)
    reports_every_fetch: bool = False
    _strangers: set[NodeId] = field(default_factory=set)
    read_round: int = 0
    awaits_echoes: bool = False

    @property
    def node_id(self) -> NodeId:
        return self.config.node_id

    @property
    def elected(self) -> bool:
        return self.role in (Role.LEADER, Role.FOLLOWER)

    @property
    def fetch_wait_s(self) -> float:
        """How long a fetch may wait at its source's end, in seconds.

        Where somebody leads it is short beside the election timeout, since each answer says that the leader is there.
        """
        config = self.config
        return min(config.fetch_wait_s, config.election_timeout_s / 4) if self.elected else config.fetch_wait_s

    @property
    def extent(self) -> LogExtent:
        """The log as it is on disk."""
        return LogExtent(self.start, self.end, self.terms)

    @property
    def offered(self) -> LogExtent:
        """The log as others may copy it: a leader's reaches as far as what it is about to write."""
        tail = self.tail
        return LogExtent(self.start, tail.end, tail.terms) if tail.end > self.end else self.extent

    def address_of(self, node_id: NodeId | None) -> str | None:
        """Where a member or a voter is called, by gossip if it knows the node; None if none is known."""
        if node_id is None:
            return None
        member = self.members.get(node_id)
        return member.peer_addr if member is not None else self.voter_addrs.get(node_id)

    def is_ahead(self, term: Term) -> bool:
        """Whether a peer that mentions this term knows of a later one than this node."""
        return is_ahead(term, self.term)

    def observe(self, event: NodeEvent) -> None:
        self.ports.observer.tell(event)

    def is_of_other_cluster(self, node_id: NodeId, cluster_id: int) -> bool:
        """Whether that node's disk belongs to another cluster than this one's; warns of it once.

        cluster_id: the other node's, 0 if it has none or does not know it yet.
        """
        if cluster_id in (0, self.cluster_id) or self.cluster_id == 0:
            return False
        if node_id not in self._strangers and len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(node_id)
            self.warn(WarningKind.OTHER_CLUSTER, self.why_of_other_cluster(node_id, cluster_id), node_id)
        return True

    def why_of_other_cluster(self, node_id: NodeId, cluster_id: int) -> str:
        return why_of_other_cluster(self.node_id, self.cluster_id, node_id, cluster_id)

    def warn(self, kind: WarningKind, reason: str, about: NodeId) -> None:
        self.observe(NodeWarned(self.node_id, "replicator", kind, reason, about))
