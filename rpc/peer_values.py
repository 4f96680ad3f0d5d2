"""What calls between nodes have in common on the wire: the protocol's number, bounds, and values.

`PROTOCOL` goes up with every change that an older node would misread. Two nodes that speak
different ones refuse each other with a sentence instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ourolog.actors.config import check_node_id
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.control import Voter, VoterSet
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term

PROTOCOL: Final = 6
# An answer holds at most one batch more than was asked for; storage bounds a batch at 64 MiB.
MAX_MESSAGE_BYTES: Final = 80 * 1024 * 1024
MAX_DETAIL_CHARS: Final = 500
MAX_FETCH_BYTES: Final = 16 * 1024 * 1024
MAX_WAIT_S: Final = 60.0
# Names of clusters and elections come from flags; longer ones are meant to fill memory and logs.
MAX_NAME_CHARS: Final = 4096


class PeerCodecError(ValueError):
    """A message of a peer is invalid; its text says what is wrong with it."""


@contextmanager
def decoding_request() -> Iterator[None]:
    """A context in which a value that means nothing raises PeerCodecError."""
    try:
        yield
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


@contextmanager
def decoding_answer(protocol: int) -> Iterator[None]:
    """A context in which a value that means nothing raises PeerCodecError; so does an answer of another protocol."""
    if protocol != PROTOCOL:
        raise PeerCodecError(other_answer(protocol))
    try:
        yield
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error


def decode_answerer(response: Any) -> tuple[NodeId, NodeId | None]:
    """Who answers, and whom it holds for the leader. Raises PeerCodecError."""
    with decoding_answer(response.protocol):
        return check_node_id(response.node_id), check_node_id(response.leader_id) if response.leader_id else None


def other_answer(protocol: int) -> str:
    """Why an answer of another protocol means nothing here, for a person to read."""
    return f"the peer speaks peer protocol {protocol}, this node {PROTOCOL}: run the same version of ourolog on both"


def clipped(detail: str) -> str:
    """The text, shortened: it is logged and shown in the status, and a peer may have sent any amount."""
    return detail if len(detail) <= MAX_DETAIL_CHARS else detail[:MAX_DETAIL_CHARS] + "…"


def check_name(name: str) -> str:
    """Raises ValueError for an invalid name."""
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"a name of {len(name)} characters is longer than {MAX_NAME_CHARS}")
    return name


def encode_place(place: Place | None) -> pb.Place | None:
    if place is None:
        return None
    return pb.Place(term=place.term, writer=place.writer[0], writer_epoch=place.writer[1])


def decode_place(place: pb.Place) -> Place:
    """A place. Raises ValueError."""
    return Place(Term(place.term), (check_node_id(place.writer), place.writer_epoch))


def encode_voter(voter: Voter) -> pb.Voter:
    return pb.Voter(
        node_id=voter.node_id,
        log_epoch=voter.log_epoch,
        rpc_addr=voter.rpc_addr,
        gossip_addr=voter.gossip_addr,
        own_peer_addr=voter.own_peer_addr,
    )


def voter_fields(voters: Iterable[pb.Voter]) -> list[list[str | int]]:
    """The voters as `ourolog.storage.control.decode_voters` reads them."""
    encoded: list[list[str | int]] = []
    for voter in voters:
        encoded.append([voter.node_id, voter.log_epoch, voter.rpc_addr, voter.gossip_addr])
        if voter.own_peer_addr:
            encoded[-1].append(voter.own_peer_addr)
    return encoded


def encode_voters(voters: VoterSet | None) -> pb.VoterSet | None:
    if voters is None:
        return None
    return pb.VoterSet(
        index=voters.index,
        term=voters.term,
        voters=[encode_voter(voter) for voter in voters.voters],
        removed=[pb.VoterKey(node_id=key.node_id, log_epoch=key.log_epoch) for key in voters.removed],
    )


def decode_voters(response: pb.FetchResponse) -> VoterSet:
    """A voter set. Raises ValueError."""
    encoded = response.voters_before_start
    if encoded.index >= response.start.index:
        raise ValueError(f"entry {encoded.index} does not stand below the start, {response.start.index}")
    fields = {"index": encoded.index, "term": encoded.term, "voters": voter_fields(encoded.voters)}
    if encoded.removed:
        fields["removed"] = [[key.node_id, key.log_epoch] for key in encoded.removed]
    return VoterSet.decode(fields)


def encode_position(position: Position) -> pb.Position:
    return pb.Position(index=position.index, offset=position.offset)


def decode_position(position: pb.Position) -> Position:
    return Position(Index(position.index), Offset(position.offset))
