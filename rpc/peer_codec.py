"""The pull between nodes on the wire: actors' messages to protobuf and back.

`PROTOCOL` goes up with every change that an older node would misread. Two nodes that speak
different ones refuse each other with a sentence instead of guessing.
"""

from __future__ import annotations

from typing import Final

from ourolog.actors.config import check_node_id
from ourolog.actors.messages.peer_calls import FetchOutcome, FetchRequest, FetchResponse
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.terms import Place
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

PROTOCOL: Final = 2
# A message holds at most one batch more than was asked for; storage bounds a batch at 64 MiB.
MAX_MESSAGE_BYTES: Final = 80 * 1024 * 1024
MAX_DETAIL_CHARS: Final = 500
MAX_FETCH_BYTES: Final = 16 * 1024 * 1024
MAX_WAIT_S: Final = 60.0


class PeerCodecError(ValueError):
    """A message of a peer means nothing; its text says what is wrong with it."""


def encode_request(request: FetchRequest) -> pb.FetchRequest:
    return pb.FetchRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        elected=request.elected,
        term=request.term,
        next_index=request.next_index,
        last=_encode_place(request.last),
        source_epoch=request.source_epoch,
        committed_index=request.committed,
        max_bytes=request.max_bytes,
        max_wait_ms=round(request.max_wait_s * 1000),
    )


def decode_request(request: pb.FetchRequest) -> FetchRequest:
    """Bounds are clamped to what this node answers. Raises PeerCodecError."""
    try:
        node_id = check_node_id(request.node_id)
        last = _decode_place(request.last) if request.HasField("last") else None
    except ValueError as error:
        raise PeerCodecError(str(error)) from error
    return FetchRequest(
        cluster=request.cluster,
        node_id=node_id,
        elected=request.elected,
        term=Term(request.term),
        next_index=Index(request.next_index),
        last=last,
        source_epoch=request.source_epoch,
        committed=Index(request.committed_index),
        max_bytes=min(request.max_bytes, MAX_FETCH_BYTES),
        max_wait_s=min(request.max_wait_ms / 1000, MAX_WAIT_S),
    )


def encode_response(response: FetchResponse) -> pb.FetchResponse:
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
        detail=response.detail,
    )


def decode_response(response: pb.FetchResponse) -> FetchResponse:
    """Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        return refusal(
            f"the peer speaks peer protocol {response.protocol}, this node {PROTOCOL}: "
            "run the same version of ourolog on both" + (f" ({_clipped(response.detail)})" if response.detail else "")
        )
    try:
        outcome = FetchOutcome(response.outcome)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
        before_start = _decode_place(response.before_start) if response.HasField("before_start") else None
        diverged = _decode_place(response.diverged) if response.HasField("diverged") else None
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
        diverged=diverged,
        diverged_at=Index(response.diverged_at),
        detail=_clipped(response.detail),
    )


def _clipped(detail: str) -> str:
    """It is logged and shown in the status, and a peer may have written a book."""
    return detail if len(detail) <= MAX_DETAIL_CHARS else detail[:MAX_DETAIL_CHARS] + "…"


def refusal(detail: str) -> FetchResponse:
    """REFUSED, with nothing said about any log."""
    return FetchResponse(FetchOutcome.REFUSED, Term(0), 0, START, START, START, detail=detail)


def refuse_protocol(node_id: NodeId, request: pb.FetchRequest) -> pb.FetchResponse:
    """The answer to a peer of another protocol, in this node's own."""
    return encode_response(
        refusal(
            f"{request.node_id[:63] or 'the peer'} speaks peer protocol {request.protocol}, {node_id} speaks "
            f"{PROTOCOL}: run the same version of ourolog on both"
        )
    )


def _encode_place(place: Place | None) -> pb.Place | None:
    if place is None:
        return None
    return pb.Place(term=place.term, writer=place.writer[0], writer_epoch=place.writer[1])


def _decode_place(place: pb.Place) -> Place:
    """Raises ValueError."""
    return Place(Term(place.term), (check_node_id(place.writer), place.writer_epoch))


def _encode_position(position: Position) -> pb.Position:
    return pb.Position(index=position.index, offset=position.offset)


def _decode_position(position: pb.Position) -> Position:
    return Position(Index(position.index), Offset(position.offset))
