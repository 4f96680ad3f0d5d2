"""The configuration of a node: everything a person may choose, checked once, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from zlib import crc32

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.values import Acks
from ourolog.storage.types import NODE_ID, NodeId

MAX_BATCH_BYTES: Final = 32 * 1024 * 1024
"""No batch may be larger, however a node is configured."""

MAX_CLUSTER_BYTES: Final = 64
"""The longest name of a cluster: it stands in every datagram."""

MAX_FOUNDERS: Final = 31
"""How many nodes can found a cluster together: more voters make a quorum slower, and hardly any safer."""

MAX_ELECTION_BYTES: Final = 100
"""The longest value of `--election` that is claimed as it is."""

_MAX_UDP_PAYLOAD_BYTES: Final = 65_507


class FieldName(str):
    """The name of a field of a configuration, in a sentence about it."""

    __slots__ = ()


class InvalidFieldError(ValueError):
    """A configuration's field that has an impossible value."""

    def __init__(self, *parts: str) -> None:
        """Say what is wrong.

        parts: of the sentence, in order; names of fields in it are each a FieldName.
        """
        super().__init__("".join(parts))
        self._parts = parts

    def sentence(self, name_of: Callable[[str], str]) -> str:
        """The sentence with each field called what `name_of` calls it, as by the flag that sets it."""
        return "".join(name_of(part) if isinstance(part, FieldName) else part for part in self._parts)


class Cycle(StrEnum):
    """What a node without a leader does with a copy of a batch that it already has.

    BREAK: drop it: each identity is appended once.
    ALLOW: append it again, as the book's service does.
    """

    BREAK = "break"
    ALLOW = "allow"


class Fsync(StrEnum):
    """When what clients append is put on disk.

    ALWAYS: before it is acknowledged.
    INTERVAL: at intervals. What rests on one node alone (acks=leader, and all acks with nobody elected) is acknowledged
        as soon as it is written, so a power cut may lose up to one interval of it. Quorums still count disks only and
        wait for the next sync; peers and consumers see nothing before it.
    """

    ALWAYS = "always"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class ElectionChoice:
    """What fills the election slot, as the occupant itself understood its flag `--election NAME[:ARGUMENT]`.

    Plain data, made by the occupant's `choose`. Whatever depends on the election reads these fields, never the
    name. Raises ValueError for fields that contradict each other.

    name: of the occupant, see `ourolog.actors.occupants`.
    argument: what followed the colon, written the same way on every node; "" if nothing did.
    elects: whether there are terms and leaders; if not, every node pulls from every other.
    voters: the first voters, as the flag names them; () if there are none or only the log knows them.
    is_decreed: whether a person named the leader, the first of the voters, and nobody takes its place.
    is_argument_local: whether the argument says only how a cluster begins, so that it may differ between its nodes.
    """

    name: str
    argument: str = ""
    elects: bool = True
    voters: tuple[NodeId, ...] = ()
    is_decreed: bool = False
    is_argument_local: bool = False

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

    @property
    def claimed(self) -> str:
        """What the node's gossip claims, and nodes compare: the flag, or its beginning and a digest if it is long.

        An argument that is a node's own affair is left out.
        """
        text = self.name if self.is_argument_local else str(self)
        if len(text.encode()) <= MAX_ELECTION_BYTES:
            return text
        mark = f"…{crc32(text.encode()):08x}"
        return text[: MAX_ELECTION_BYTES - len(mark.encode())] + mark

    def __str__(self) -> str:
        """The flag as it is typed."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


NOBODY_ELECTED: Final = ElectionChoice("none", elects=False)


def voters_named(argument: str) -> tuple[NodeId, ...]:
    """The nodes named in `n1,n2,n3`, in that order. Raises ValueError for an invalid name or a node named twice."""
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
    """The intervals and limits of gossip (SWIM: Das et al. 2002, section 5). Raises InvalidFieldError.

    probe_interval_s: seconds between two probes.
    probe_timeout_s: how long an answer may take before others are asked to probe too, in seconds.
    indirect_probes: how many others are asked.
    suspicion_s: how long a member is suspected, in a small cluster, before it counts as failed, in seconds.
    full_exchange_interval_s: seconds, more or less, between two exchanges of whole tables.
    join_retry_s: how soon a node that knows no other asks its seeds again, in seconds.
    forget_after_s: how long a member that failed or left is remembered, in seconds.
    max_datagram_bytes: the largest datagram that is sent.
    """

    probe_interval_s: float = 0.5
    probe_timeout_s: float = 0.25
    indirect_probes: int = 3
    suspicion_s: float = 2.5
    full_exchange_interval_s: float = 10.0
    join_retry_s: float = 0.5
    forget_after_s: float = 600.0
    max_datagram_bytes: int = 1200

    def __post_init__(self) -> None:
        for name in (
            "probe_interval_s",
            "probe_timeout_s",
            "suspicion_s",
            "full_exchange_interval_s",
            "join_retry_s",
            "forget_after_s",
        ):
            _check_positive(name, getattr(self, name))
        _check_range("indirect_probes", self.indirect_probes, 0)
        _check_range("max_datagram_bytes", self.max_datagram_bytes, 1, _MAX_UDP_PAYLOAD_BYTES)
        if self.probe_timeout_s >= self.probe_interval_s:
            raise InvalidFieldError(
                FieldName("probe_timeout_s"),
                f" is {self.probe_timeout_s:g} and must be less than ",
                FieldName("probe_interval_s"),
                f", which is {self.probe_interval_s:g}",
            )


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that one node is told. Raises InvalidFieldError, a ValueError, for impossible values.

    node_id: its name, unique in its cluster.
    data_dir: the directory of its log.
    rpc_addr, gossip_addr: HOST:PORT, as other nodes and clients shall use them; port 0 only until it has started.
    own_peer_addr: where other nodes call it by TCP, if that is not gossip_addr, likewise; "" if it is.
    cluster: the name that all nodes of a cluster share.
    join: gossip addresses, HOST:PORT, of other nodes to begin with.
    election: what fills the election slot.
    cycle, max_hops: with nobody elected, what becomes of copies, and through how many nodes one may have come.
    acks: whose disks a record must be on before it is acknowledged, where the client asks for nothing else.
    min_in_sync: how many voters must have a record that is acknowledged by all of those that are in sync; None if every
        voter must, in sync or not.
    fsync, fsync_interval_s: when what clients append is put on disk, and how often with `interval`, in seconds.
    segment_bytes: a new segment file is begun after this size.
    retention_bytes, retention_s: older segments are removed above this size, or beyond this age; None keeps all.
    retention_check_s: seconds between two checks for such segments.
    scrub_interval_s: how long it takes to read and check the whole log once, again and again, in seconds; 0 for never.
    max_record_bytes, max_batch_bytes: the largest value of a record, and the largest batch, that a client may send.
    max_waiting_requests: how many produces may be open, and how many readers may wait for more; others are refused.
    max_uncommitted_entries, max_uncommitted_bytes: how much a leader may have appended, in one run of the process,
        that no majority has yet; beyond that it refuses produces.
    election_timeout_s: where voters elect, after how long without an answer from the leader a voter stands itself.
    bootstrap_expect: how many nodes found a new cluster together, this one among them; None to join one, or where the
        election names its founders. Ignored once the data directory belongs to a cluster.
    replicas: where voters elect, how many of the nodes vote and have all that was acknowledged; the others stand by.
    replace_after_s: how long a voter may be gone before another node votes in its place, in seconds.
    force_lead: where a person decreed that this node leads, it leads without asking the other voters first.
    fetch_max_bytes, fetch_wait_s: how much one fetch from a peer brings, and how long it may wait for something new.
    pull_backoff_min_s, pull_backoff_max_s: how long a pull rests after its first failure, and at most.
    gossip: the clocks of gossip.
    """

    node_id: NodeId
    data_dir: str
    rpc_addr: str
    gossip_addr: str
    own_peer_addr: str = ""
    cluster: str = "ourolog"
    join: tuple[str, ...] = ()
    force_lead: bool = False
    election: ElectionChoice = NOBODY_ELECTED
    election_timeout_s: float = 1.0
    bootstrap_expect: int | None = None
    replicas: int = 3
    replace_after_s: float = 600.0
    cycle: Cycle = Cycle.BREAK
    max_hops: int = 16
    acks: Acks = Acks.QUORUM
    min_in_sync: int | None = None
    fsync: Fsync = Fsync.ALWAYS
    fsync_interval_s: float = 0.1
    segment_bytes: int = 64 * 1024 * 1024
    retention_bytes: int | None = None
    retention_s: float | None = None
    retention_check_s: float = 30.0
    scrub_interval_s: float = 604_800.0
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

    def __post_init__(self) -> None:
        try:
            check_node_id(self.node_id)
        except ValueError as error:
            raise InvalidFieldError(FieldName("node_id"), f": {error}") from error
        kinds = (("election", ElectionChoice), ("cycle", Cycle), ("fsync", Fsync), ("acks", Acks), ("join", tuple))
        for name, kind in kinds:
            _check_kind(name, getattr(self, name), kind)
        if not self.data_dir:
            raise InvalidFieldError(FieldName("data_dir"), " must name a directory")
        if not 0 < len(self.cluster.encode()) <= MAX_CLUSTER_BYTES:
            raise InvalidFieldError(
                FieldName("cluster"), f" must be a name of at most {MAX_CLUSTER_BYTES} bytes, not {self.cluster[:80]!r}"
            )
        _check_address("rpc_addr", self.rpc_addr)
        _check_address("gossip_addr", self.gossip_addr)
        if self.own_peer_addr:
            _check_address("own_peer_addr", self.own_peer_addr)
        for address in self.join:
            _check_address("join", address, lowest_port=1)
        if self.acks is Acks.DEFAULT:
            raise InvalidFieldError(
                FieldName("acks"), " must say whose disks count: a node's own default cannot be DEFAULT"
            )
        if self.min_in_sync is not None:
            _check_range("min_in_sync", self.min_in_sync, 1)
        _check_range("max_hops", self.max_hops, 1, 255)
        _check_range("segment_bytes", self.segment_bytes, 1)
        if self.retention_bytes is not None:
            _check_range("retention_bytes", self.retention_bytes, 1)
        if self.retention_s is not None:
            _check_not_negative("retention_s", self.retention_s)
        _check_range("max_record_bytes", self.max_record_bytes, 1, MAX_BATCH_BYTES)
        _check_range("max_batch_bytes", self.max_batch_bytes, 1, MAX_BATCH_BYTES)
        if self.max_record_bytes > self.max_batch_bytes:
            raise InvalidFieldError(
                FieldName("max_record_bytes"),
                f" is {self.max_record_bytes} and ",
                FieldName("max_batch_bytes"),
                f" only {self.max_batch_bytes}: such a record would fit no batch",
            )
        _check_range("fetch_max_bytes", self.fetch_max_bytes, 1, MAX_BATCH_BYTES)
        if self.bootstrap_expect is not None:
            self._check_founders(self.bootstrap_expect)
        _check_range("replicas", self.replicas, 1, MAX_FOUNDERS)
        for name in ("max_waiting_requests", "max_uncommitted_entries", "max_uncommitted_bytes"):
            _check_range(name, getattr(self, name), 1)
        for name in ("fsync_interval_s", "fetch_wait_s", "scrub_interval_s"):
            _check_not_negative(name, getattr(self, name))
        for name in (
            "election_timeout_s",
            "replace_after_s",
            "retention_check_s",
            "pull_backoff_min_s",
            "pull_backoff_max_s",
        ):
            _check_positive(name, getattr(self, name))
        if self.pull_backoff_min_s > self.pull_backoff_max_s:
            raise InvalidFieldError(
                FieldName("pull_backoff_min_s"),
                f" is {self.pull_backoff_min_s:g} and ",
                FieldName("pull_backoff_max_s"),
                f" only {self.pull_backoff_max_s:g}",
            )

    @property
    def wanted_replicas(self) -> int:
        """How many voters there should be: whoever names more of them wants more."""
        return max(self.replicas, len(self.election.voters))

    def _check_founders(self, expected: int) -> None:
        _check_range("bootstrap_expect", expected, 1, MAX_FOUNDERS)
        if not self.election.elects or self.election.is_decreed:
            raise InvalidFieldError(
                FieldName("bootstrap_expect"),
                f" is {expected}, and with ",
                FieldName("election"),
                f" {self.election} no voters elect a leader",
            )
        named = len(self.election.voters)
        if named and named != expected:
            raise InvalidFieldError(
                FieldName("bootstrap_expect"),
                f" is {expected}, and ",
                FieldName("election"),
                f" {self.election} names {named}: give one of them only",
            )


def _check_address(name: str, address: str, lowest_port: int = 0) -> None:
    try:
        _, port = split_address(address)
    except ValueError as error:
        raise InvalidFieldError(FieldName(name), f": {error}") from error
    if port < lowest_port:
        raise InvalidFieldError(FieldName(name), f": nobody can be reached at port 0, as in {address!r}")


def _check_kind(name: str, value: object, kind: type) -> None:
    """Anything else, the text of an enum for instance, would be taken for another choice without a word."""
    if not isinstance(value, kind):
        raise InvalidFieldError(FieldName(name), f" must be of type {kind.__name__}, not {value!r}")


def _check_range(name: str, value: int, lowest: int, highest: int | None = None) -> None:
    if not isinstance(value, int):
        raise InvalidFieldError(FieldName(name), f" must be a whole number, not {value!r}")
    if value < lowest or (highest is not None and value > highest):
        limits = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
        raise InvalidFieldError(FieldName(name), f" must be {limits}, not {value}")


def _check_positive(name: str, seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise InvalidFieldError(FieldName(name), f" must be greater than 0 and finite, not {seconds:g}")


def _check_not_negative(name: str, seconds: float) -> None:
    if not 0 <= seconds < math.inf:
        raise InvalidFieldError(FieldName(name), f" must be 0 or more and less than for ever, not {seconds:g}")
