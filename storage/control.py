"""Control batches: what a log says about the cluster that writes it, in entries that no user reads.

A control batch takes an index and no offset. Its payload is one JSON object in canonical form (keys
sorted, no spaces, ASCII) with at least two fields: `type`, a name, and `version`, a number from 1 on.

| type | fields beside type and version |
| --- | --- |
| leader-started | leader: [node id, log epoch]; voters and granted_by: node ids |
| voters-set | voters: [node id, log epoch, rpc address, gossip address] each; removed: [node id, log epoch] each |
| producer-registered | none: the index of the entry is the producer's id |

A batch whose type or version this software does not know is stored and passed on unchanged, and is
otherwise ignored: a newer node may have written it.

`removed` is left out where nobody was. It came later than the rest, and yet has no version of its own: who ignored
such an entry would count the votes of voters that are voters no more. Software that does not know the field refuses
the entry, and stops copying.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ourolog.storage.types import NODE_ID, Index, NodeId, Term

MAX_CONTROL_BYTES: Final = 256 * 1024
"""The largest payload of a control batch."""

MAX_EPOCH: Final = 2**53 - 1
"""The largest epoch of a log: JSON carries integers exactly up to here."""

_LEADER_STARTED: Final = "leader-started"
_VOTERS_SET: Final = "voters-set"
_PRODUCER_REGISTERED: Final = "producer-registered"
_VERSION: Final = 1
MAX_REMOVED: Final = 64
"""How many disks a set of voters names that a person has removed; of more it forgets the earliest."""

_ADDRESS: Final = re.compile(r"[!-~]{1,255}:[0-9]{1,5}")


class VoterKey(NamedTuple):
    """A voter: a node together with its disk (KIP-853's directory id). A node whose disk was wiped is another voter.

    node_id: the node's name.
    log_epoch: the epoch of the log on its disk.
    """

    node_id: NodeId
    log_epoch: int


@dataclass(frozen=True, slots=True)
class Voter:
    """A member of a voter set, with the addresses at which it can be reached.

    node_id: the node's name.
    log_epoch: the epoch of the log on its disk, 1 to MAX_EPOCH.
    rpc_addr: its gRPC address, HOST:PORT.
    gossip_addr: its gossip address, HOST:PORT.
    own_peer_addr: where other nodes call it, if that is not its gossip address, HOST:PORT; "" if it is.
    """

    node_id: NodeId
    log_epoch: int
    rpc_addr: str
    gossip_addr: str
    own_peer_addr: str = ""

    @property
    def key(self) -> VoterKey:
        return VoterKey(self.node_id, self.log_epoch)

    @property
    def peer_addr(self) -> str:
        """Where other nodes call it, HOST:PORT."""
        return self.own_peer_addr or self.gossip_addr


@dataclass(frozen=True, slots=True)
class LeaderStarted:
    """The first entry of a leader's term, so that entries of earlier terms can be committed (Raft section 8).

    leader: who leads, and with which log.
    voters: whose disks count for a quorum, as the leader knew when it wrote this.
    granted_by: who voted for the leader; empty if a person decreed it.
    """

    leader: VoterKey
    voters: tuple[NodeId, ...] = ()
    granted_by: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True)
class VotersSet:
    """The voters from this entry on: the whole set, and not only what changed.

    voters: at least one, no node twice.
    removed: the disks that a person has removed, which do not come back by themselves; at most MAX_REMOVED, none of
        them in `voters`.
    """

    voters: tuple[Voter, ...]
    removed: tuple[VoterKey, ...] = ()


@dataclass(frozen=True, slots=True)
class ProducerRegistered:
    """A producer exists from this entry on; the entry's index is its id. See `ourolog.storage.producers`."""


ControlEntry = LeaderStarted | VotersSet | ProducerRegistered


@dataclass(frozen=True, slots=True)
class VoterSet:
    """The voters that a log names, and the entry that named them.

    index: of that entry.
    term: of that entry.
    voters: the whole set.
    removed: the disks that a person has removed, as in `VotersSet`.
    """

    index: Index
    term: Term
    voters: tuple[Voter, ...]
    removed: tuple[VoterKey, ...] = ()

    @property
    def keys(self) -> tuple[VoterKey, ...]:
        return tuple(voter.key for voter in self.voters)

    def encode(self) -> dict[str, Any]:
        """The set as a value that JSON can carry."""
        fields: dict[str, Any] = {"index": self.index, "term": self.term, "voters": encode_voters(self.voters)}
        return {**fields, "removed": encode_keys(self.removed)} if self.removed else fields

    @classmethod
    def decode(cls, value: Any) -> VoterSet:
        """The set that was encoded. Raises ValueError for any other value."""
        match value:
            case {"index": int(index), "term": int(term), "voters": list(voters), **rest} if rest.keys() <= {"removed"}:
                named = decode_voters(voters)
                removed = _removed(rest["removed"], named) if rest else ()
                return cls(Index(_number(index)), Term(_number(term)), named, removed)
            case _:
                raise ValueError("a set of voters has an index, a term and voters")


def encode_control(entry: ControlEntry) -> bytes:
    """The payload of a control batch. Raises ValueError for an entry that other nodes would refuse."""
    fields: dict[str, Any]
    match entry:
        case LeaderStarted():
            fields = {
                "type": _LEADER_STARTED,
                "leader": list(entry.leader),
                "voters": list(entry.voters),
                "granted_by": list(entry.granted_by),
            }
        case VotersSet():
            fields = {"type": _VOTERS_SET, "voters": encode_voters(entry.voters)}
            if entry.removed:
                fields["removed"] = encode_keys(entry.removed)
        case ProducerRegistered():
            fields = {"type": _PRODUCER_REGISTERED}
    payload = _canonical({**fields, "version": _VERSION})
    decode_control(payload)
    return payload


def decode_control(payload: bytes) -> ControlEntry | None:
    """What a control batch says; None if it is of a type or version that this software does not know.

    Raises ValueError, with a sentence, for a payload that no node writes.
    """
    if len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"{len(payload)} bytes are more than the {MAX_CONTROL_BYTES} of any control batch")
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is no JSON") from error
    match value:
        case {"type": str(kind), "version": int(version)} if version >= 1 and type(version) is int:
            if version > _VERSION or kind not in (_LEADER_STARTED, _VOTERS_SET, _PRODUCER_REGISTERED):
                return None
        case _:
            raise ValueError("it is no JSON object with a type and a version")
    try:
        is_canonical = _canonical(value) == payload
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not is_canonical:
        raise ValueError("it is not in canonical form")
    match value:
        case {
            "type": "leader-started",
            "leader": [str(node_id), int(log_epoch)],
            "voters": list(voters),
            "granted_by": list(granted_by),
        } if len(value) == 5:
            return LeaderStarted(
                VoterKey(_node_id(node_id), _epoch(log_epoch)), _node_ids(voters), _node_ids(granted_by)
            )
        case {"type": "voters-set", "voters": list(voters)} if len(value) == 3:
            return VotersSet(decode_voters(voters))
        case {"type": "voters-set", "voters": list(voters), "removed": removed} if len(value) == 4:
            named = decode_voters(voters)
            return VotersSet(named, _removed(removed, named))
        case {"type": "producer-registered"} if len(value) == 2:
            return ProducerRegistered()
        case _:
            raise ValueError(f"{value['type']} has not the fields that it should have")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def encode_voters(voters: Sequence[Voter]) -> list[list[Any]]:
    """The voters as a value that JSON can carry. A fifth element is written where a voter has it, and nowhere else."""
    return [
        [voter.node_id, voter.log_epoch, voter.rpc_addr, voter.gossip_addr]
        + ([voter.own_peer_addr] if voter.own_peer_addr else [])
        for voter in voters
    ]


def encode_keys(keys: Sequence[VoterKey]) -> list[list[Any]]:
    """The keys as a value that JSON can carry."""
    return [list(key) for key in keys]


def _removed(encoded: Any, voters: tuple[Voter, ...]) -> tuple[VoterKey, ...]:
    """The disks that a person has removed. Raises ValueError for what is none, for too many, and for a voter's."""
    if not isinstance(encoded, list) or not 1 <= len(encoded) <= MAX_REMOVED:
        raise ValueError(f"between 1 and {MAX_REMOVED} removed voters are named, or none are")
    keys = []
    for key in encoded:
        match key:
            case [str(node_id), int(log_epoch)]:
                keys.append(VoterKey(_node_id(node_id), _epoch(log_epoch)))
            case _:
                raise ValueError("a removed voter is a node id and a log epoch")
    if len(set(keys)) != len(keys) or set(keys) & {voter.key for voter in voters}:
        raise ValueError("a removed voter is named twice, or votes")
    return tuple(keys)


def decode_voters(encoded: list[Any]) -> tuple[Voter, ...]:
    """The voters that were encoded. Raises ValueError for any other value, and if there are none."""
    voters = []
    for voter in encoded:
        match voter:
            case [str(node_id), int(log_epoch), str(rpc_addr), str(gossip_addr)]:
                voters.append(Voter(_node_id(node_id), _epoch(log_epoch), _address(rpc_addr), _address(gossip_addr)))
            case [str(node_id), int(log_epoch), str(rpc_addr), str(gossip_addr), str(own_peer_addr)]:
                addrs = _address(rpc_addr), _address(gossip_addr), _address(own_peer_addr)
                voters.append(Voter(_node_id(node_id), _epoch(log_epoch), *addrs))
            case _:
                raise ValueError("a voter is a node id, a log epoch and two or three addresses")
    if not voters:
        raise ValueError("there are no voters")
    _refuse_twice([voter.node_id for voter in voters])
    return tuple(voters)


def _node_ids(names: list[Any]) -> tuple[NodeId, ...]:
    node_ids = tuple(_node_id(name) for name in names)
    _refuse_twice(node_ids)
    return node_ids


def _refuse_twice(node_ids: Sequence[NodeId]) -> None:
    if len(set(node_ids)) != len(node_ids):
        raise ValueError("a node is named twice")


def _node_id(name: Any) -> NodeId:
    if type(name) is not str or not NODE_ID.fullmatch(name):
        raise ValueError(f"{name!r} is no node's id"[:200])
    return NodeId(name)


def _epoch(number: int) -> int:
    if type(number) is not int or not 1 <= number <= MAX_EPOCH:
        raise ValueError(f"{number} is no epoch of a log")
    return number


def _number(number: int) -> int:
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise ValueError(f"{number} is no index or term of a log")
    return number


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"{text!r} is no address"[:200])
    return text
