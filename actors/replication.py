"""What both sides of the replicator know: the log's extent, who leads, who is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from actors.actor import NodeRef
from actors.config import NodeConfig
from actors.divergence import LogExtent
from actors.messages import Mailbox, Member, NodeEvent, NodeWarned, StoreMessage
from actors.ports import Ports
from storage.terms import TermHistory
from storage.types import START, NodeId, Position, Term

MAX_TERM_STEP = 2**20
"""By how much a peer's term may be ahead of ours to be believed. Terms go up by one, so beyond this it is
no term but garbage, and following it would use up the numbers that there are."""


class Role(StrEnum):
    """STARTING: the election slot has not spoken. PEER: nobody is elected; pulls from everyone."""

    STARTING = "starting"
    PEER = "peer"
    LEADER = "leader"
    FOLLOWER = "follower"


@dataclass(slots=True)
class ReplicationState:
    """Shared by the pulling and the serving side; only the replicator actor changes it.

    start, end: the log on disk. committed: never falls.
    """

    config: NodeConfig
    ports: Ports
    store: Mailbox[StoreMessage]
    me: NodeRef
    role: Role = Role.STARTING
    term: Term = Term(0)
    leader_id: NodeId | None = None
    start: Position = START
    end: Position = START
    terms: TermHistory = field(default_factory=TermHistory)
    log_epoch: int = 0
    opened: bool = False
    committed: Position = START
    members: dict[NodeId, Member] = field(default_factory=dict)

    @property
    def node_id(self) -> NodeId:
        return self.config.node_id

    @property
    def elected(self) -> bool:
        return self.role in (Role.LEADER, Role.FOLLOWER)

    @property
    def extent(self) -> LogExtent:
        return LogExtent(self.start, self.end, self.terms)

    def is_ahead(self, term: Term) -> bool:
        """Whether a peer that speaks of this term knows of a later one than this node."""
        return self.term < term <= self.term + MAX_TERM_STEP

    def observe(self, event: NodeEvent) -> None:
        self.ports.observer.tell(event)

    def warn(self, reason: str) -> None:
        self.observe(NodeWarned(self.node_id, "replicator", reason))
