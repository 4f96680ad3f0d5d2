"""How a node is to behave: everything a person may choose, checked once, before anything starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from ourolog.actors.messages.values import Acks
from ourolog.storage.types import NodeId

NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


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
    """What fills the election slot, e.g. `none` or `static:n1,n2,n3` (the first leads, all of them vote)."""

    kind: str = "none"
    voters: tuple[NodeId, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ElectionChoice:
        """Raises ValueError with a sentence for whoever typed it."""
        kind, colon, names = text.strip().partition(":")
        if kind == "none" and not colon:
            return cls()
        if kind == "static":
            voters = tuple(NodeId(name.strip()) for name in names.split(",") if name.strip())
            if not voters:
                raise ValueError("static needs a leader: static:<leader>[,<voter>…], for instance static:n1,n2,n3")
            for voter in voters:
                check_node_id(voter)
            if len(set(voters)) != len(voters):
                raise ValueError(f"static names a voter twice: {names}")
            return cls("static", voters)
        raise ValueError(f"unknown election {text!r}: use none or static:<leader>[,<voter>…]")

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(self.voters)}" if self.voters else self.kind


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
    rpc_addr and gossip_addr are what other nodes and clients shall use, ports resolved.
    """

    node_id: NodeId
    data_dir: str
    rpc_addr: str
    gossip_addr: str
    cluster: str = "ourolog"
    join: tuple[str, ...] = ()
    election: ElectionChoice = field(default_factory=ElectionChoice)
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
