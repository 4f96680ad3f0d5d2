"""Calls between nodes on the wire: actors' requests and answers to protobuf and back.

`CODECS` has a row for each kind of call, as `ourolog.actors.messages.peer_calls.CALL_KINDS` does.

`PROTOCOL` goes up with every change that an older node would misread. Two nodes that speak
different ones refuse each other with a sentence instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import Message

from ourolog.actors.config import check_node_id
from ourolog.actors.messages.peer_calls import (
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    LogEndRequest,
    LogEndResponse,
    PeerRequest,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.control import VoterSet
from ourolog.storage.terms import Place
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

PROTOCOL: Final = 4
# A message holds at most one batch more than was asked for; storage bounds a batch at 64 MiB.
MAX_MESSAGE_BYTES: Final = 80 * 1024 * 1024
MAX_DETAIL_CHARS: Final = 500
MAX_FETCH_BYTES: Final = 16 * 1024 * 1024
MAX_WAIT_S: Final = 60.0
# Names of clusters and elections come from flags; longer ones are meant to fill memory and logs.
MAX_NAME_CHARS: Final = 4096


class PeerCodecError(ValueError):
    """A message of a peer is invalid; its text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class PeerCodec:
    """How one kind of call crosses the wire.

    method: its name in proto/peer.proto.
    request_class, response_class: its messages there.
    encode_request, encode_response: an actor's request or answer as such a message.
    decode_request, decode_response: the way back. They raise PeerCodecError for what means nothing.
    """

    method: str
    request_class: type[Message]
    response_class: type[Message]
    encode_request: Callable[[Any], Message]
    decode_request: Callable[[Any], Any]
    encode_response: Callable[[Any], Message]
    decode_response: Callable[[Any], Any]


# ---------------------------------------------------------------- protocols


def other_protocol(node_id: NodeId, request: Any) -> str:
    """Why a request of another protocol is refused, for a person to read; "" if it is of this one."""
    if request.protocol == PROTOCOL:
        return ""
    return (
        f"{request.node_id[:63] or 'the peer'} speaks peer protocol {request.protocol}, {node_id} speaks "
        f"{PROTOCOL}: run the same version of ourolog on both"
    )


def _other_answer(protocol: int) -> str:
    return f"the peer speaks peer protocol {protocol}, this node {PROTOCOL}: run the same version of ourolog on both"


# ---------------------------------------------------------------- fetch


def encode_fetch_request(request: FetchRequest) -> pb.FetchRequest:
    return pb.FetchRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        elected=request.elected,
        term=request.term,
        next_index=request.next_index,
        last=_encode_place(request.last),
        source_epoch=request.source_epoch,
        committed_index=request.committed,
        max_bytes=request.max_bytes,
        max_wait_ms=round(request.max_wait_s * 1000),
        read_round=request.read_round,
    )


def decode_fetch_request(request: pb.FetchRequest) -> FetchRequest:
    """The actor's request. Bounds are clamped to what this node allows. Raises PeerCodecError."""
    try:
        node_id = check_node_id(request.node_id)
        last = _decode_place(request.last) if request.HasField("last") else None
    except ValueError as error:
        raise PeerCodecError(str(error)) from error
    return FetchRequest(
        cluster=request.cluster,
        node_id=node_id,
        log_epoch=request.log_epoch,
        elected=request.elected,
        term=Term(request.term),
        next_index=Index(request.next_index),
        last=last,
        source_epoch=request.source_epoch,
        committed=Index(request.committed_index),
        max_bytes=min(request.max_bytes, MAX_FETCH_BYTES),
        max_wait_s=min(request.max_wait_ms / 1000, MAX_WAIT_S),
        read_round=request.read_round,
    )


def encode_fetch_response(response: FetchResponse) -> pb.FetchResponse:
    """The answer for the wire. `unreadable` is the fetcher's own and is not sent."""
    begins_anew = response.outcome in (FetchOutcome.OUT_OF_RANGE, FetchOutcome.DIVERGED)
    return pb.FetchResponse(
        protocol=PROTOCOL,
        outcome=pb.FetchOutcome.ValueType(int(response.outcome)),
        term=response.term,
        log_epoch=response.log_epoch,
        start=_encode_position(response.start),
        end=_encode_position(response.end),
        committed=_encode_position(response.committed),
        leader_id=response.leader_id or "",
        batches=response.batches,
        before_start=_encode_place(response.before_start),
        diverged=_encode_place(response.diverged),
        diverged_at=response.diverged_at,
        voters_before_start=_encode_voters(response.voters_before_start) if begins_anew else None,
        detail=response.detail,
        read_round=response.read_round,
    )


def decode_fetch_response(response: pb.FetchResponse) -> FetchResponse:
    """The actor's answer; one of another protocol is REFUSED. Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        detail = f" ({clipped(response.detail)})" if response.detail else ""
        return refusal(_other_answer(response.protocol) + detail)
    try:
        outcome = FetchOutcome(response.outcome)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
        before_start = _decode_place(response.before_start) if response.HasField("before_start") else None
        diverged = _decode_place(response.diverged) if response.HasField("diverged") else None
        voters = _decode_voters(response) if response.HasField("voters_before_start") else None
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error
    return FetchResponse(
        outcome=outcome,
        term=Term(response.term),
        log_epoch=response.log_epoch,
        start=_decode_position(response.start),
        end=_decode_position(response.end),
        committed=_decode_position(response.committed),
        leader_id=leader_id,
        batches=response.batches,
        before_start=before_start,
        voters_before_start=voters,
        diverged=diverged,
        diverged_at=Index(response.diverged_at),
        detail=clipped(response.detail),
        read_round=response.read_round,
    )


def refusal(detail: str) -> FetchResponse:
    """A REFUSED answer, which says nothing about any log."""
    return FetchResponse(FetchOutcome.REFUSED, Term(0), 0, START, START, START, detail=detail)


# ---------------------------------------------------------------- the end of a voter's log


def encode_log_end_request(request: LogEndRequest) -> pb.LogEndRequest:
    return pb.LogEndRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        election=request.election,
        term=request.term,
    )


def decode_log_end_request(request: pb.LogEndRequest) -> LogEndRequest:
    """The actor's request. Raises PeerCodecError."""
    try:
        node_id = check_node_id(request.node_id)
        cluster, election = _check_name(request.cluster), _check_name(request.election)
    except ValueError as error:
        raise PeerCodecError(str(error)) from error
    return LogEndRequest(cluster, node_id, request.log_epoch, election, Term(request.term))


def encode_log_end_response(response: LogEndResponse) -> pb.LogEndResponse:
    return pb.LogEndResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        term=response.term,
        leader_id=response.leader_id or "",
        end=_encode_position(response.end),
        last=_encode_place(response.last),
        committed=_encode_position(response.committed),
    )


def decode_log_end_response(response: pb.LogEndResponse) -> LogEndResponse:
    """The actor's answer. Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        raise PeerCodecError(_other_answer(response.protocol))
    try:
        node_id = check_node_id(response.node_id)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
        last = _decode_place(response.last) if response.HasField("last") else None
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error
    return LogEndResponse(
        node_id=node_id,
        log_epoch=response.log_epoch,
        term=Term(response.term),
        leader_id=leader_id,
        end=_decode_position(response.end),
        last=last,
        committed=_decode_position(response.committed),
    )


# ---------------------------------------------------------------- the commit index, for reads of the latest state


def encode_read_index_request(request: ReadIndexRequest) -> pb.ReadIndexRequest:
    return pb.ReadIndexRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        term=request.term,
    )


def decode_read_index_request(request: pb.ReadIndexRequest) -> ReadIndexRequest:
    """The actor's request. Raises PeerCodecError."""
    try:
        return ReadIndexRequest(
            _check_name(request.cluster), check_node_id(request.node_id), request.log_epoch, Term(request.term)
        )
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


def encode_read_index_response(response: ReadIndexResponse) -> pb.ReadIndexResponse:
    return pb.ReadIndexResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        term=response.term,
        leader_id=response.leader_id or "",
        committed_index=response.committed,
        detail=response.detail,
    )


def decode_read_index_response(response: pb.ReadIndexResponse) -> ReadIndexResponse:
    """The actor's answer. Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        raise PeerCodecError(_other_answer(response.protocol))
    try:
        node_id = check_node_id(response.node_id)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error
    return ReadIndexResponse(
        node_id=node_id,
        term=Term(response.term),
        leader_id=leader_id,
        committed=Index(response.committed_index) if response.HasField("committed_index") else None,
        detail=clipped(response.detail),
    )


# ---------------------------------------------------------------- what they share


def clipped(detail: str) -> str:
    """The text, shortened: it is logged and shown in the status, and a peer may have sent any amount."""
    return detail if len(detail) <= MAX_DETAIL_CHARS else detail[:MAX_DETAIL_CHARS] + "…"


def _check_name(name: str) -> str:
    """Raises ValueError for an invalid name."""
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"a name of {len(name)} characters is longer than {MAX_NAME_CHARS}")
    return name


def _encode_place(place: Place | None) -> pb.Place | None:
    if place is None:
        return None
    return pb.Place(term=place.term, writer=place.writer[0], writer_epoch=place.writer[1])


def _decode_place(place: pb.Place) -> Place:
    """A place. Raises ValueError."""
    return Place(Term(place.term), (check_node_id(place.writer), place.writer_epoch))


def _encode_voters(voters: VoterSet | None) -> pb.VoterSet | None:
    if voters is None:
        return None
    return pb.VoterSet(
        index=voters.index,
        term=voters.term,
        voters=[
            pb.Voter(
                node_id=voter.node_id,
                log_epoch=voter.log_epoch,
                rpc_addr=voter.rpc_addr,
                gossip_addr=voter.gossip_addr,
            )
            for voter in voters.voters
        ],
    )


def _decode_voters(response: pb.FetchResponse) -> VoterSet:
    """A voter set. Raises ValueError."""
    encoded = response.voters_before_start
    if encoded.index >= response.start.index:
        raise ValueError(f"entry {encoded.index} does not stand below the start, {response.start.index}")
    voters = [[voter.node_id, voter.log_epoch, voter.rpc_addr, voter.gossip_addr] for voter in encoded.voters]
    return VoterSet.decode({"index": encoded.index, "term": encoded.term, "voters": voters})


def _encode_position(position: Position) -> pb.Position:
    return pb.Position(index=position.index, offset=position.offset)


def _decode_position(position: pb.Position) -> Position:
    return Position(Index(position.index), Offset(position.offset))


CODECS: Final[Mapping[type[PeerRequest[Any]], PeerCodec]] = MappingProxyType(
    {
        FetchRequest: PeerCodec(
            "Fetch",
            pb.FetchRequest,
            pb.FetchResponse,
            encode_fetch_request,
            decode_fetch_request,
            encode_fetch_response,
            decode_fetch_response,
        ),
        LogEndRequest: PeerCodec(
            "LogEnd",
            pb.LogEndRequest,
            pb.LogEndResponse,
            encode_log_end_request,
            decode_log_end_request,
            encode_log_end_response,
            decode_log_end_response,
        ),
        ReadIndexRequest: PeerCodec(
            "ReadIndex",
            pb.ReadIndexRequest,
            pb.ReadIndexResponse,
            encode_read_index_request,
            decode_read_index_request,
            encode_read_index_response,
            decode_read_index_response,
        ),
    }
)
