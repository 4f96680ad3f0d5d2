"""Gossip on the wire: one datagram, one message, and the updates that are piggybacked on it.

Layout, little-endian; `str` is u8 size and UTF-8 bytes:

    frame   magic u16, version u8, kind u8, crc u32
    body    cluster str, sender member, sequence u32, echoed_cookie u64, issued_cookie u64, claim, what the kind
            brings, count u16, members
    claim   election str, and unless that is empty: term u64, leader str (empty for nobody), cluster_id u64, whose
            highest bit says that the cluster was recovered, and that origin_id u64 and generation u32 follow
    member  node_id str, rpc_addr str, gossip_addr str, state u8, incarnation u64; where the highest bit of the state
            is set, own_peer_addr str follows

`crc` is CRC32C (RFC 3720) over the whole datagram but itself. The frame is the same in every
version to come, so that a node can tell a peer of another version from noise. The sender
introduces itself in every datagram: whoever receives one knows it, and its incarnation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import Final, TypeAlias, assert_never

import google_crc32c

from ourolog.actors.config import MAX_CLUSTER_BYTES, MAX_ELECTION_BYTES
from ourolog.actors.messages.values import ElectionClaim, Member, MemberState
from ourolog.storage.founding import MAX_GENERATION
from ourolog.storage.types import NODE_ID, NodeId, Term

MAGIC: Final = 0x474F  # "OG"
VERSION: Final = 2
MAX_ADDR_BYTES: Final = 128
MAX_ADDRS_BYTES: Final = 2 * MAX_ADDR_BYTES
"""Of all addresses of a member together, so that three take no more room than two."""

MAX_INCARNATION: Final = 2**63 - 1
MIN_DATAGRAM_BYTES: Final = 1166
"""Room for the longest names there can be, and one update beside them."""

_FRAME: Final = Struct("<HBBI")
_COVERED: Final = Struct("<HBB")
_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_HEADER: Final = Struct("<IQQ")
_U64: Final = Struct("<Q")
_GENERATION: Final = Struct("<QQI")
_IS_RECOVERED: Final = 1 << 63
_STANDING: Final = Struct("<BQ")
_ADDR: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[A-Za-z0-9.:%]+\]):([0-9]{1,5})")
_STATES: Final = tuple(MemberState)
_HAS_OWN_PEER_ADDR: Final = 0x80


class GossipDecodeError(Exception):
    """Bytes that claim to be gossip and are not, or are damaged."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? `target_id` tells a node that took over the address that it is not the one meant."""

    target_id: NodeId


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to a ping: I am here.

    answers: the sequence of the Ping, or of the PingRequest when a relay passes it on.
    """

    answers: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """I am here, but cannot tell yet whether you are where you say: send it again, with my cookie.

    The only answer that a stranger ever gets, see cookies.py.

    answers: the sequence of the datagram that is answered.
    """

    answers: int


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Ping that node for me; my own link to it may be broken (SWIM section 3.1)."""

    target_id: NodeId
    target_addr: str


@dataclass(frozen=True, slots=True)
class Updates:
    """Nothing but the updates that every datagram carries; no answer is wanted."""


@dataclass(frozen=True, slots=True)
class Join:
    """Let me in: sent to seeds by a node that nobody has answered yet. Answered by Exchange or Reject."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A part of the sender's whole table, in place of queued updates.

    asks_back: whether the receiver is to send its table, too.
    answers: the sequence of the Join or Exchange that asked, else 0.
    """

    asks_back: bool
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """Your name is taken by the node at `holder_addr`, which is alive: ask it yourself."""

    holder_addr: str


Body: TypeAlias = Ping | Ack | PingRequest | Updates | Join | Exchange | Reject | Challenge
_KINDS: Final[tuple[type[Body], ...]] = (Ping, Ack, PingRequest, Updates, Join, Exchange, Reject, Challenge)


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram of gossip.

    cluster: the name of the sender's cluster.
    sender: what the sender says of itself.
    sequence: the sender's count of its datagrams, modulo 2**32; answers refer to it.
    body: what the datagram is about.
    updates: states of other members, as the sender knows them.
    echoed_cookie: the cookie that the receiver has issued to the sender's address, 0 if none is known;
        see cookies.py.
    issued_cookie: the cookie that the receiver shall echo from now on.
    claim: what the sender claims about who leads; None to strangers.
    """

    cluster: str
    sender: Member
    sequence: int
    body: Body
    updates: tuple[Member, ...] = field(default=())
    echoed_cookie: int = 0
    issued_cookie: int = 0
    claim: ElectionClaim | None = None


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """An undamaged datagram of a gossip version that this software does not speak."""

    version: int


def encode(datagram: Datagram, version: int = VERSION) -> bytes:
    """The datagram as bytes. Raises ValueError when a name or address does not fit the format."""
    parts = [
        _string(datagram.cluster, MAX_CLUSTER_BYTES, "a cluster's name"),
        _member(datagram.sender),
        _HEADER.pack(datagram.sequence, datagram.echoed_cookie, datagram.issued_cookie),
        _claim(datagram.claim),
        _body(datagram.body),
        _U16.pack(len(datagram.updates)),
        *map(_member, datagram.updates),
    ]
    body = b"".join(parts)
    head = _COVERED.pack(MAGIC, version, _KINDS.index(type(datagram.body)) + 1)
    return head + _U32.pack(_crc(head, body)) + body


def decode(payload: bytes) -> Datagram | OtherVersion:
    """The datagram in these bytes. Raises GossipDecodeError, and nothing else, for what `encode` did not write."""
    if len(payload) < _FRAME.size:
        raise GossipDecodeError(f"{len(payload)} bytes are too few")
    magic, version, kind, crc = _FRAME.unpack_from(payload)
    if magic != MAGIC:
        raise GossipDecodeError("it does not begin as gossip does")
    if crc != _crc(payload[: _COVERED.size], payload[_FRAME.size :]):
        raise GossipDecodeError("its checksum does not hold")
    if version != VERSION:
        return OtherVersion(version)
    reader = _Reader(payload, _FRAME.size)
    cluster = reader.string(MAX_CLUSTER_BYTES)
    sender = reader.member()
    sequence, echoed_cookie, issued_cookie = reader.header()
    claim = reader.claim()
    body = reader.body(kind)
    # One at a time: a false count runs into the end of the datagram and allocates nothing.
    updates = tuple([reader.member() for _ in range(reader.u16())])
    reader.finish()
    return Datagram(cluster, sender, sequence, body, updates, echoed_cookie, issued_cookie, claim)


def member_size_bytes(member: Member) -> int:
    """How many bytes a member takes in a datagram."""
    names = [member.node_id, member.rpc_addr, member.gossip_addr]
    if member.own_peer_addr:
        names.append(member.own_peer_addr)
    return sum(1 + len(name.encode()) for name in names) + _STANDING.size


def room_bytes(datagram: Datagram, max_bytes: int) -> int:
    """How many bytes of members the datagram can still take."""
    return max_bytes - len(encode(datagram))


def split(datagram: Datagram, members: Iterable[Member], max_bytes: int) -> list[tuple[Member, ...]]:
    """The members in as many groups as needed for each to fit beside the datagram; at least one group."""
    room = room_bytes(replace(datagram, updates=()), max_bytes)
    runs: list[list[Member]] = [[]]
    left = room
    for member in members:
        size = member_size_bytes(member)
        if size > left and runs[-1]:
            runs.append([])
            left = room
        runs[-1].append(member)
        left -= size
    return [tuple(run) for run in runs]


def check_member(member: Member, cluster: str) -> None:
    """Raises ValueError when this node's own name, addresses or cluster could not be gossiped.

    This is reported at the start, to a person, instead of by every peer that drops the datagrams.
    """
    if not cluster:
        raise ValueError("a cluster's name must not be empty")
    try:
        payload = encode(Datagram(cluster, member, 0, Updates()))
        decode(payload)
    except GossipDecodeError as error:
        raise ValueError(f"{member.node_id} at {member.gossip_addr} cannot be gossiped: {error}") from error


def _crc(head: bytes, body: bytes) -> int:
    return int(google_crc32c.extend(google_crc32c.value(head), body))


def _string(text: str, max_bytes: int, what: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > max_bytes:
        raise ValueError(f"{what} is at most {max_bytes} bytes in gossip, not {len(encoded)}: {text!r}")
    return bytes((len(encoded),)) + encoded


def _member(member: Member) -> bytes:
    state = _STATES.index(member.state)
    own_peer_addr = b""
    if member.own_peer_addr:
        state |= _HAS_OWN_PEER_ADDR
        own_peer_addr = _string(member.own_peer_addr, MAX_ADDR_BYTES, "an address")
        if sum(len(addr.encode()) for addr in member.addresses) > MAX_ADDRS_BYTES:
            raise ValueError(f"three addresses are at most {MAX_ADDRS_BYTES} bytes together in gossip")
    return b"".join(
        (
            _string(member.node_id, 63, "a node id"),
            _string(member.rpc_addr, MAX_ADDR_BYTES, "an address"),
            _string(member.gossip_addr, MAX_ADDR_BYTES, "an address"),
            _STANDING.pack(state, member.incarnation),
            own_peer_addr,
        )
    )


def _claim(claim: ElectionClaim | None) -> bytes:
    if claim is None:
        return b"\0"
    return b"".join(
        (
            _string(claim.election, MAX_ELECTION_BYTES, "an election"),
            _U64.pack(claim.term),
            _string(claim.leader_id or "", 63, "a node id"),
            _cluster(claim),
        )
    )


def _cluster(claim: ElectionClaim) -> bytes:
    if claim.generation == 1:
        return _U64.pack(claim.cluster_id)
    return _GENERATION.pack(claim.cluster_id | _IS_RECOVERED, claim.lineage, claim.generation)


def _body(body: Body) -> bytes:
    match body:
        case Ping(target_id):
            return _string(target_id, 63, "a node id")
        case Ack(answers) | Challenge(answers):
            return _U32.pack(answers)
        case PingRequest(target_id, target_addr):
            return _string(target_id, 63, "a node id") + _string(target_addr, MAX_ADDR_BYTES, "an address")
        case Updates() | Join():
            return b""
        case Exchange(asks_back, answers):
            return bytes((asks_back,)) + _U32.pack(answers)
        case Reject(holder_addr):
            return _string(holder_addr, MAX_ADDR_BYTES, "an address")
        case _:
            assert_never(body)


class _Reader:
    """Takes a datagram apart, front to back; never reads past its end."""

    def __init__(self, payload: bytes, at: int) -> None:
        self._payload = payload
        self._at = at

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._payload):
            raise GossipDecodeError("it ends too early")
        taken = self._payload[self._at : end]
        self._at = end
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int(_U16.unpack(self.take(_U16.size))[0])

    def header(self) -> tuple[int, int, int]:
        sequence, echoed_cookie, issued_cookie = _HEADER.unpack(self.take(_HEADER.size))
        return sequence, echoed_cookie, issued_cookie

    def u32(self) -> int:
        return int(_U32.unpack(self.take(_U32.size))[0])

    def string(self, max_bytes: int) -> str:
        size = self.u8()
        if not 0 < size <= max_bytes:
            raise GossipDecodeError(f"a name in it has {size} bytes")
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise GossipDecodeError("a name in it is not UTF-8") from error

    def node_id(self) -> NodeId:
        name = self.string(63)
        if not NODE_ID.fullmatch(name):
            raise GossipDecodeError(f"{name!r} is not a node id")
        return NodeId(name)

    def addr(self) -> str:
        addr = self.string(MAX_ADDR_BYTES)
        found = _ADDR.fullmatch(addr)
        if not found or not 0 < int(found[1]) < 65536:
            raise GossipDecodeError(f"{addr!r} is not an address")
        return addr

    def is_empty_string(self) -> bool:
        """Whether an empty string comes next; if so, it is skipped."""
        if self._payload[self._at : self._at + 1] != b"\0":
            return False
        self._at += 1
        return True

    def claim(self) -> ElectionClaim | None:
        if self.is_empty_string():
            return None
        election = self.string(MAX_ELECTION_BYTES)
        term = Term(self.u64())
        leader_id = None if self.is_empty_string() else self.node_id()
        cluster_id = self.u64()
        if not cluster_id & _IS_RECOVERED:
            return ElectionClaim(election, term, leader_id, cluster_id)
        cluster_id, origin_id, generation = cluster_id ^ _IS_RECOVERED, self.u64(), self.u32()
        if not 1 < generation <= MAX_GENERATION or not origin_id or not cluster_id:
            raise GossipDecodeError("the generation of a cluster in it makes no sense")
        return ElectionClaim(election, term, leader_id, cluster_id, generation, origin_id)

    def u64(self) -> int:
        return int(_U64.unpack(self.take(_U64.size))[0])

    def member(self) -> Member:
        node_id, rpc_addr, gossip_addr = self.node_id(), self.addr(), self.addr()
        state, incarnation = _STANDING.unpack(self.take(_STANDING.size))
        own_peer_addr = self.addr() if state & _HAS_OWN_PEER_ADDR else ""
        state &= ~_HAS_OWN_PEER_ADDR
        if state >= len(_STATES) or incarnation > MAX_INCARNATION:
            raise GossipDecodeError(f"the standing of {node_id} makes no sense")
        if own_peer_addr and len(rpc_addr) + len(gossip_addr) + len(own_peer_addr) > MAX_ADDRS_BYTES:
            raise GossipDecodeError(f"the addresses of {node_id} are too long")
        return Member(node_id, rpc_addr, gossip_addr, _STATES[state], incarnation, own_peer_addr)

    def body(self, kind: int) -> Body:
        if not 0 < kind <= len(_KINDS):
            raise GossipDecodeError(f"kind {kind} does not exist")
        chosen = _KINDS[kind - 1]
        if chosen is Ping:
            return Ping(self.node_id())
        if chosen is Ack:
            return Ack(self.u32())
        if chosen is PingRequest:
            return PingRequest(self.node_id(), self.addr())
        if chosen is Updates:
            return Updates()
        if chosen is Join:
            return Join()
        if chosen is Exchange:
            asks_back = self.u8()
            if asks_back > 1:
                raise GossipDecodeError("a yes or no in it is neither")
            return Exchange(bool(asks_back), self.u32())
        if chosen is Challenge:
            return Challenge(self.u32())
        assert chosen is Reject
        return Reject(self.addr())

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise GossipDecodeError(f"{len(self._payload) - self._at} bytes follow its end")
