"""Calls between nodes on the wire: actors' requests and answers to protobuf and back.

`CODECS` has a row for each kind of call, as `ourolog.actors.messages.peer_calls.CALL_KINDS` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from ourolog.actors.config import check_node_id
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    EndTermRequest,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    FoundRequest,
    LogEndRequest,
    PeerRequest,
    ReadIndexRequest,
    ReadIndexResponse,
    RepairRequest,
    VoteRequest,
)
from ourolog.rpc import election_codec, repair_codec
from ourolog.rpc.peer_values import (
    MAX_FETCH_BYTES,
    MAX_WAIT_S,
    PROTOCOL,
    PeerCodecError,
    check_name,
    clipped,
    decode_answerer,
    decode_place,
    decode_position,
    decode_voters,
    decoding_request,
    encode_place,
    encode_position,
    encode_voters,
    other_answer,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.producers import ProducerMemory
from ourolog.storage.types import START, Index, NodeId, Term


@dataclass(frozen=True, slots=True)
class PeerCodec:
    """How one kind of call crosses the wire.

    number: which call it is, in the head of its request. It stays the same, and is never given to another call.
    method: its name, for people.
    request_class, response_class: its messages in proto/peer.proto.
    encode_request, encode_response: an actor's request or answer as such a message.
    decode_request, decode_response: the way back. They raise PeerCodecError for what means nothing.
    payload: the field of the actor's answer whose bytes follow the message as they are; "" if there is none.
    """

    number: int
    method: str
    request_class: type[Message]
    response_class: type[Message]
    encode_request: Callable[[Any], Message]
    decode_request: Callable[[Any], Any]
    encode_response: Callable[[Any], Message]
    decode_response: Callable[[Any], Any]
    payload: str = ""

    def message_of(self, request: bytes) -> Any:
        """The message of a request that crossed the wire. Raises PeerCodecError."""
        return self._parsed(self.request_class, request)

    def answer_to_wire(self, answer: Any) -> tuple[bytes, bytes]:
        """An actor's answer as a message and a payload."""
        return self.encode_response(answer).SerializeToString(), getattr(answer, self.payload) if self.payload else b""

    def answer_from_wire(self, message: bytes, payload: bytes) -> Any:
        """The way back. Raises PeerCodecError."""
        answer = self.decode_response(self._parsed(self.response_class, message))
        if not payload:
            return answer
        if not self.payload:
            raise PeerCodecError(f"the peer's answer means nothing: a {self.method} brings no payload")
        return replace(answer, **{self.payload: payload})

    def _parsed(self, message_class: type[Message], message: bytes) -> Message:
        try:
            return message_class.FromString(message)
        except DecodeError:
            raise PeerCodecError(f"the bytes received are not an encoded {message_class.DESCRIPTOR.name}") from None


# ---------------------------------------------------------------- protocols


def other_protocol(node_id: NodeId, request: Any) -> str:
    """Why a request of another protocol is refused, for a person to read; "" if it is of this one."""
    if request.protocol == PROTOCOL:
        return ""
    return (
        f"{request.node_id[:63] or 'the peer'} speaks peer protocol {request.protocol}, {node_id} speaks "
        f"{PROTOCOL}: run the same version of ourolog on both"
    )


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
        last=encode_place(request.last),
        source_epoch=request.source_epoch,
        committed_index=request.committed,
        max_bytes=request.max_bytes,
        max_wait_ms=round(request.max_wait_s * 1000),
        cluster_id=request.cluster_id,
        read_round=request.read_round,
        disk_index=request.disk_index,
    )


def decode_fetch_request(request: pb.FetchRequest) -> FetchRequest:
    """The actor's request. Bounds are clamped to what this node allows. Raises PeerCodecError."""
    try:
        node_id = check_node_id(request.node_id)
        last = decode_place(request.last) if request.HasField("last") else None
    except ValueError as error:
        raise PeerCodecError(str(error)) from error
    if request.disk_index > request.next_index:
        raise PeerCodecError(f"entry {request.next_index} is wanted, and all below {request.disk_index} is on disk")
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
        cluster_id=request.cluster_id,
        read_round=request.read_round,
        disk_index=Index(request.disk_index),
    )


def encode_fetch_response(response: FetchResponse) -> pb.FetchResponse:
    """The answer for the wire, but for its batches, which follow it. `unreadable` is the fetcher's own."""
    begins_anew = response.outcome in (FetchOutcome.OUT_OF_RANGE, FetchOutcome.DIVERGED)
    return pb.FetchResponse(
        protocol=PROTOCOL,
        outcome=pb.FetchOutcome.ValueType(int(response.outcome)),
        term=response.term,
        log_epoch=response.log_epoch,
        start=encode_position(response.start),
        end=encode_position(response.end),
        committed=encode_position(response.committed),
        leader_id=response.leader_id or "",
        before_start=encode_place(response.before_start),
        diverged=encode_place(response.diverged),
        diverged_at=response.diverged_at,
        voters_before_start=encode_voters(response.voters_before_start) if begins_anew else None,
        producers_before_start=response.producers_before_start if begins_anew else b"",
        detail=response.detail,
        read_round=response.read_round,
        cluster_id=response.cluster_id,
    )


def decode_fetch_response(response: pb.FetchResponse) -> FetchResponse:
    """The actor's answer, but for its batches; one of another protocol is REFUSED. Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        detail = f" ({clipped(response.detail)})" if response.detail else ""
        return refusal(other_answer(response.protocol) + detail)
    try:
        outcome = FetchOutcome(response.outcome)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
        before_start = decode_place(response.before_start) if response.HasField("before_start") else None
        diverged = decode_place(response.diverged) if response.HasField("diverged") else None
        voters = decode_voters(response) if response.HasField("voters_before_start") else None
        ProducerMemory.decode(response.producers_before_start, below=decode_position(response.start))
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error
    return FetchResponse(
        outcome=outcome,
        term=Term(response.term),
        log_epoch=response.log_epoch,
        start=decode_position(response.start),
        end=decode_position(response.end),
        committed=decode_position(response.committed),
        leader_id=leader_id,
        before_start=before_start,
        voters_before_start=voters,
        producers_before_start=response.producers_before_start,
        diverged=diverged,
        diverged_at=Index(response.diverged_at),
        detail=clipped(response.detail),
        read_round=response.read_round,
        cluster_id=response.cluster_id,
    )


def refusal(detail: str) -> FetchResponse:
    """A REFUSED answer, which says nothing about any log."""
    return FetchResponse(FetchOutcome.REFUSED, Term(0), 0, START, START, START, detail=detail)


# ---------------------------------------------------------------- the commit index, for reads of the latest state


def encode_read_index_request(request: ReadIndexRequest) -> pb.ReadIndexRequest:
    return pb.ReadIndexRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        term=request.term,
        cluster_id=request.cluster_id,
    )


def decode_read_index_request(request: pb.ReadIndexRequest) -> ReadIndexRequest:
    """The actor's request. Raises PeerCodecError."""
    with decoding_request():
        return ReadIndexRequest(
            check_name(request.cluster),
            check_node_id(request.node_id),
            request.log_epoch,
            Term(request.term),
            request.cluster_id,
        )


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
    node_id, leader_id = decode_answerer(response)
    return ReadIndexResponse(
        node_id=node_id,
        term=Term(response.term),
        leader_id=leader_id,
        committed=Index(response.committed_index) if response.HasField("committed_index") else None,
        detail=clipped(response.detail),
    )


CODECS: Final[Mapping[type[PeerRequest[Any]], PeerCodec]] = MappingProxyType(
    {
        FetchRequest: PeerCodec(
            1,
            "Fetch",
            pb.FetchRequest,
            pb.FetchResponse,
            encode_fetch_request,
            decode_fetch_request,
            encode_fetch_response,
            decode_fetch_response,
            payload="batches",
        ),
        LogEndRequest: PeerCodec(
            2,
            "LogEnd",
            pb.LogEndRequest,
            pb.LogEndResponse,
            election_codec.encode_log_end_request,
            election_codec.decode_log_end_request,
            election_codec.encode_log_end_response,
            election_codec.decode_log_end_response,
        ),
        VoteRequest: PeerCodec(
            3,
            "Vote",
            pb.VoteRequest,
            pb.VoteResponse,
            election_codec.encode_vote_request,
            election_codec.decode_vote_request,
            election_codec.encode_vote_response,
            election_codec.decode_vote_response,
        ),
        BeginTermRequest: PeerCodec(
            4,
            "BeginTerm",
            pb.BeginTermRequest,
            pb.TermResponse,
            election_codec.encode_begin_term_request,
            election_codec.decode_begin_term_request,
            election_codec.encode_term_response,
            election_codec.decode_term_response,
        ),
        EndTermRequest: PeerCodec(
            5,
            "EndTerm",
            pb.EndTermRequest,
            pb.TermResponse,
            election_codec.encode_end_term_request,
            election_codec.decode_end_term_request,
            election_codec.encode_term_response,
            election_codec.decode_term_response,
        ),
        FoundRequest: PeerCodec(
            6,
            "Found",
            pb.FoundRequest,
            pb.FoundResponse,
            election_codec.encode_found_request,
            election_codec.decode_found_request,
            election_codec.encode_found_response,
            election_codec.decode_found_response,
        ),
        ReadIndexRequest: PeerCodec(
            7,
            "ReadIndex",
            pb.ReadIndexRequest,
            pb.ReadIndexResponse,
            encode_read_index_request,
            decode_read_index_request,
            encode_read_index_response,
            decode_read_index_response,
        ),
        RepairRequest: PeerCodec(
            8,
            "Repair",
            pb.RepairRequest,
            pb.RepairResponse,
            repair_codec.encode_repair_request,
            repair_codec.decode_repair_request,
            repair_codec.encode_repair_response,
            repair_codec.decode_repair_response,
            payload="batch",
        ),
    }
)

CODEC_BY_NUMBER: Final[Mapping[int, PeerCodec]] = MappingProxyType({codec.number: codec for codec in CODECS.values()})
