"""How a node is to behave: everything a person may choose, checked once, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.storage.types import NODE_ID, NodeId


class Cycle(StrEnum):
    """What a node without a leader does with a copy of what it already has.

    BREAK: append each identity once. ALLOW: append it again, as the book's service does.
    """

    BREAK = "break"
    ALLOW = "allow"


class Fsync(StrEnum):
    """When what clients append is put on disk. ALWAYS: before it is acknowledged. INTERVAL: every so often.

    INTERVAL acknowledges what rests on one node alone (acks=leader, and all with nobody elected) as soon
    as it is written: a power cut there may cost the interval. Quorums are of disks all the same, and
    wait for the next sync; peers and consumers see nothing before it.
    """

    ALWAYS = "always"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class ElectionChoice:
    """What fills the election slot, as the occupant itself understood its flag `--election NAME[:ARGUMENT]`.

    Plain data, made by the occupant's `choose`. Whatever depends on the election asks these fields, never the
    name. Raises ValueError for fields that contradict each other.

    name: of the occupant, see `ourolog.actors.occupants`.
    argument: what followed the colon, written the same way on every node; "" if nothing did.
    elects: whether there are terms and leaders; if not, every node pulls from every other.
    voters: those that vote first, as the flag names them; () if there are none or the log alone knows them.
    is_decreed: whether a person named the leader, the first of the voters, and nobody takes its place.
    """

    name: str
    argument: str = ""
    elects: bool = True
    voters: tuple[NodeId, ...] = ()
    is_decreed: bool = False

    def __post_init__(self) -> None:
        if not NODE_ID.fullmatch(self.name):
            raise ValueError(f"an election cannot have the name {self.name!r}")
        if self.voters and not self.elects:
            raise ValueError(f"{self.name} has voters, and nobody is elected")
        if self.is_decreed and not self.voters:
            raise ValueError(f"{self.name} has a decreed leader, and does not name it")

    @property
    def decreed_leader(self) -> NodeId | None:
        return self.voters[0] if self.is_decreed else None

    def __str__(self) -> str:
        """As the flag is typed; every node's gossip claims this, and it is compared."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


NOBODY_ELECTED: Final = ElectionChoice("none", elects=False)


def voters_named(argument: str) -> tuple[NodeId, ...]:
    """The nodes named in `n1,n2,n3`, in that order. Raises ValueError: no name of a node, or one named twice."""
    voters = tuple(check_node_id(name.strip()) for name in argument.split(",") if name.strip())
    twice = [voter for at, voter in enumerate(voters) if voter in voters[:at]]
    if twice:
        raise ValueError(f"{twice[0]} is named twice in {argument!r}")
    return voters


def check_node_id(node_id: str) -> NodeId:
    """Raises ValueError when it is not 1 to 63 letters, digits, dots, dashes and underscores."""
    if not NODE_ID.fullmatch(node_id):
        raise ValueError(
            f"node id {node_id!r} must be 1 to 63 letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit"
        )
    return NodeId(node_id)


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """SWIM's clocks (Das et al. 2002, section 5), in seconds."""

    probe_interval_s: float = 0.5
    probe_timeout_s: float = 0.25
    indirect_probes: int = 3
    suspicion_s: float = 2.5
    full_exchange_interval_s: float = 10.0
    join_retry_s: float = 0.5
    forget_after_s: float = 600.0
    max_datagram_bytes: int = 1200


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything one node is told. Sizes in bytes, times in seconds; addresses are HOST:PORT.

    max_waiting_requests: so many produces may be open, and so many readers wait for more, before others are refused.
    max_uncommitted_entries, max_uncommitted_bytes: so much of its own a leader has, in one run of the process,
    that no majority has yet, before it refuses more.
    force_lead: where a person decreed that this node leads, it leads without asking the other voters first.
    rpc_addr and gossip_addr are what other nodes and clients shall use, ports resolved.
    """

    node_id: NodeId
    data_dir: str
    rpc_addr: str
    gossip_addr: str
    cluster: str = "ourolog"
    join: tuple[str, ...] = ()
    force_lead: bool = False
    election: ElectionChoice = NOBODY_ELECTED
    cycle: Cycle = Cycle.BREAK
    max_hops: int = 16
    acks: Acks = Acks.QUORUM
    fsync: Fsync = Fsync.ALWAYS
    fsync_interval_s: float = 0.1
    segment_bytes: int = 64 * 1024 * 1024
    retention_bytes: int | None = None
    retention_s: float | None = None
    retention_check_s: float = 30.0
    max_record_bytes: int = 1024 * 1024
    max_batch_bytes: int = 8 * 1024 * 1024
    max_waiting_requests: int = 65_536
    max_uncommitted_entries: int = 16_384
    max_uncommitted_bytes: int = 256 * 1024 * 1024
    fetch_max_bytes: int = 4 * 1024 * 1024
    fetch_wait_s: float = 0.5
    pull_backoff_min_s: float = 0.05
    pull_backoff_max_s: float = 2.0
    gossip: GossipConfig = field(default_factory=GossipConfig)
