"""What elections ask each other, on the wire: log ends, votes, the beginning and the end of a term, founding.

Every decoder raises PeerCodecError for a message that means nothing.
"""

from __future__ import annotations

from typing import Any

from ourolog.actors.config import MAX_FOUNDERS, check_node_id
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    EndTermRequest,
    FoundRequest,
    FoundResponse,
    LogEndRequest,
    LogEndResponse,
    TermResponse,
    VoteRequest,
    VoteResponse,
    VoterRequest,
)
from ourolog.rpc.peer_values import (
    PROTOCOL,
    check_name,
    clipped,
    decode_answerer,
    decode_place,
    decode_position,
    decoding_answer,
    decoding_request,
    encode_place,
    encode_position,
    encode_voter,
    voter_fields,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, Term

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
    with decoding_request():
        node_id = check_node_id(request.node_id)
        cluster, election = check_name(request.cluster), check_name(request.election)
    return LogEndRequest(cluster, node_id, request.log_epoch, election, Term(request.term))


def encode_log_end_response(response: LogEndResponse) -> pb.LogEndResponse:
    return pb.LogEndResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        term=response.term,
        leader_id=response.leader_id or "",
        end=encode_position(response.end),
        last=encode_place(response.last),
        committed=encode_position(response.committed),
    )


def decode_log_end_response(response: pb.LogEndResponse) -> LogEndResponse:
    """The actor's answer. Raises PeerCodecError."""
    node_id, leader_id = decode_answerer(response)
    with decoding_answer(response.protocol):
        last = decode_place(response.last) if response.HasField("last") else None
    return LogEndResponse(
        node_id=node_id,
        log_epoch=response.log_epoch,
        term=Term(response.term),
        leader_id=leader_id,
        end=decode_position(response.end),
        last=last,
        committed=decode_position(response.committed),
    )


# ---------------------------------------------------------------- votes


def encode_vote_request(request: VoteRequest) -> pb.VoteRequest:
    return pb.VoteRequest(
        **_encode_head(request),
        last_term=request.last.term,
        end_index=request.last.index,
        is_pre_vote=request.is_pre_vote,
        by_leave=request.by_leave,
    )


def decode_vote_request(request: pb.VoteRequest) -> VoteRequest:
    with decoding_request():
        return VoteRequest(
            **_decode_head(request),
            last=LastEntry(Term(request.last_term), Index(request.end_index)),
            is_pre_vote=request.is_pre_vote,
            by_leave=request.by_leave,
        )


def encode_vote_response(response: VoteResponse) -> pb.VoteResponse:
    return pb.VoteResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        term=response.term,
        leader_id=response.leader_id or "",
        granted=response.granted,
        detail=response.detail,
    )


def decode_vote_response(response: pb.VoteResponse) -> VoteResponse:
    node_id, leader_id = decode_answerer(response)
    return VoteResponse(
        node_id, response.log_epoch, Term(response.term), leader_id, response.granted, clipped(response.detail)
    )


# ---------------------------------------------------------------- the beginning and the end of a leader's term


def encode_begin_term_request(request: BeginTermRequest) -> pb.BeginTermRequest:
    return pb.BeginTermRequest(**_encode_head(request))


def decode_begin_term_request(request: pb.BeginTermRequest) -> BeginTermRequest:
    with decoding_request():
        return BeginTermRequest(**_decode_head(request))


def encode_end_term_request(request: EndTermRequest) -> pb.EndTermRequest:
    return pb.EndTermRequest(
        **_encode_head(request),
        successors=[_encode_key(key) for key in request.successors],
    )


def decode_end_term_request(request: pb.EndTermRequest) -> EndTermRequest:
    with decoding_request():
        return EndTermRequest(
            **_decode_head(request),
            successors=tuple(_decode_key(key) for key in request.successors),
        )


def encode_term_response(response: TermResponse) -> pb.TermResponse:
    return pb.TermResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        term=response.term,
        leader_id=response.leader_id or "",
        accepted=response.accepted,
    )


def decode_term_response(response: pb.TermResponse) -> TermResponse:
    node_id, leader_id = decode_answerer(response)
    return TermResponse(node_id, response.log_epoch, Term(response.term), leader_id, response.accepted)


# ---------------------------------------------------------------- founding a cluster


def encode_found_request(request: FoundRequest) -> pb.FoundRequest:
    return pb.FoundRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        names=request.names,
        founding=_encode_founding(request.founding),
    )


def decode_found_request(request: pb.FoundRequest) -> FoundRequest:
    with decoding_request():
        if len(request.names) > MAX_FOUNDERS:
            raise ValueError(f"{len(request.names)} nodes are more than can found a cluster")
        return FoundRequest(
            cluster=check_name(request.cluster),
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            names=tuple(check_node_id(name) for name in request.names),
            founding=_decode_founding(request),
        )


def encode_found_response(response: FoundResponse) -> pb.FoundResponse:
    return pb.FoundResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        rpc_addr=response.rpc_addr,
        gossip_addr=response.gossip_addr,
        own_peer_addr=response.own_peer_addr,
        agrees=response.agrees,
        founding=_encode_founding(response.founding),
        detail=response.detail,
    )


def decode_found_response(response: pb.FoundResponse) -> FoundResponse:
    with decoding_answer(response.protocol):
        return FoundResponse(
            check_node_id(response.node_id),
            response.log_epoch,
            check_name(response.rpc_addr),
            check_name(response.gossip_addr),
            response.agrees,
            _decode_founding(response),
            clipped(response.detail),
            check_name(response.own_peer_addr),
        )


# ---------------------------------------------------------------- what they share


def _encode_head(request: VoterRequest) -> dict[str, Any]:
    """What every request of one voter to another begins with."""
    return {
        "protocol": PROTOCOL,
        "cluster": request.cluster,
        "cluster_id": request.cluster_id,
        "node_id": request.node_id,
        "log_epoch": request.log_epoch,
        "voter": _encode_key(request.voter),
        "term": request.term,
    }


def _decode_head(request: pb.VoteRequest | pb.BeginTermRequest | pb.EndTermRequest) -> dict[str, Any]:
    """What it begins with, as fields of the actor's request. Raises ValueError."""
    return {
        "cluster": check_name(request.cluster),
        "cluster_id": request.cluster_id,
        "node_id": check_node_id(request.node_id),
        "log_epoch": request.log_epoch,
        "voter": _decode_key(request.voter),
        "term": Term(request.term),
    }


def _encode_key(key: VoterKey) -> pb.VoterKey:
    return pb.VoterKey(node_id=key.node_id, log_epoch=key.log_epoch)


def _decode_key(key: pb.VoterKey) -> VoterKey:
    return VoterKey(check_node_id(key.node_id), key.log_epoch)


def _encode_founding(founding: Founding | None) -> pb.Founding | None:
    if founding is None:
        return None
    return pb.Founding(cluster_id=founding.cluster_id, voters=[encode_voter(voter) for voter in founding.voters])


def _decode_founding(message: Any) -> Founding | None:
    """The promise in a message. Raises ValueError."""
    if not message.HasField("founding"):
        return None
    encoded = message.founding
    return Founding.decode({"cluster_id": encoded.cluster_id, "voters": voter_fields(encoded.voters)})
