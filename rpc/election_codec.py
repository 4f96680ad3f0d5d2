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
)
from ourolog.rpc.peer_values import (
    PROTOCOL,
    PeerCodecError,
    check_name,
    clipped,
    decode_place,
    decode_position,
    encode_place,
    encode_position,
    encode_voter,
    other_answer,
    voter_fields,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

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
        cluster, election = check_name(request.cluster), check_name(request.election)
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
        end=encode_position(response.end),
        last=encode_place(response.last),
        committed=encode_position(response.committed),
    )


def decode_log_end_response(response: pb.LogEndResponse) -> LogEndResponse:
    """The actor's answer. Raises PeerCodecError."""
    if response.protocol != PROTOCOL:
        raise PeerCodecError(other_answer(response.protocol))
    try:
        node_id = check_node_id(response.node_id)
        leader_id = check_node_id(response.leader_id) if response.leader_id else None
        last = decode_place(response.last) if response.HasField("last") else None
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error
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
        protocol=PROTOCOL,
        cluster=request.cluster,
        cluster_id=request.cluster_id,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        voter=_encode_key(request.voter),
        term=request.term,
        last_term=request.last.term,
        end_index=request.last.index,
        is_pre_vote=request.is_pre_vote,
        by_leave=request.by_leave,
    )


def decode_vote_request(request: pb.VoteRequest) -> VoteRequest:
    try:
        return VoteRequest(
            cluster=check_name(request.cluster),
            cluster_id=request.cluster_id,
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            voter=_decode_key(request.voter),
            term=Term(request.term),
            last=LastEntry(Term(request.last_term), Index(request.end_index)),
            is_pre_vote=request.is_pre_vote,
            by_leave=request.by_leave,
        )
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


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
    node_id, leader_id = _answerer(response)
    return VoteResponse(
        node_id, response.log_epoch, Term(response.term), leader_id, response.granted, clipped(response.detail)
    )


# ---------------------------------------------------------------- the beginning and the end of a leader's term


def encode_begin_term_request(request: BeginTermRequest) -> pb.BeginTermRequest:
    return pb.BeginTermRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        cluster_id=request.cluster_id,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        voter=_encode_key(request.voter),
        term=request.term,
    )


def decode_begin_term_request(request: pb.BeginTermRequest) -> BeginTermRequest:
    try:
        return BeginTermRequest(
            cluster=check_name(request.cluster),
            cluster_id=request.cluster_id,
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            voter=_decode_key(request.voter),
            term=Term(request.term),
        )
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


def encode_end_term_request(request: EndTermRequest) -> pb.EndTermRequest:
    return pb.EndTermRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        cluster_id=request.cluster_id,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        voter=_encode_key(request.voter),
        term=request.term,
        successors=[_encode_key(key) for key in request.successors],
    )


def decode_end_term_request(request: pb.EndTermRequest) -> EndTermRequest:
    try:
        return EndTermRequest(
            cluster=check_name(request.cluster),
            cluster_id=request.cluster_id,
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            voter=_decode_key(request.voter),
            term=Term(request.term),
            successors=tuple(_decode_key(key) for key in request.successors),
        )
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


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
    node_id, leader_id = _answerer(response)
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
    try:
        if len(request.names) > MAX_FOUNDERS:
            raise ValueError(f"{len(request.names)} nodes are more than can found a cluster")
        return FoundRequest(
            cluster=check_name(request.cluster),
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            names=tuple(check_node_id(name) for name in request.names),
            founding=_decode_founding(request),
        )
    except ValueError as error:
        raise PeerCodecError(str(error)) from error


def encode_found_response(response: FoundResponse) -> pb.FoundResponse:
    return pb.FoundResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        rpc_addr=response.rpc_addr,
        gossip_addr=response.gossip_addr,
        agrees=response.agrees,
        founding=_encode_founding(response.founding),
        detail=response.detail,
    )


def decode_found_response(response: pb.FoundResponse) -> FoundResponse:
    if response.protocol != PROTOCOL:
        raise PeerCodecError(other_answer(response.protocol))
    try:
        return FoundResponse(
            check_node_id(response.node_id),
            response.log_epoch,
            check_name(response.rpc_addr),
            check_name(response.gossip_addr),
            response.agrees,
            _decode_founding(response),
            clipped(response.detail),
        )
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error


# ---------------------------------------------------------------- what they share


def _answerer(response: Any) -> tuple[NodeId, NodeId | None]:
    """Who answers, and whom it holds for the leader."""
    if response.protocol != PROTOCOL:
        raise PeerCodecError(other_answer(response.protocol))
    try:
        return check_node_id(response.node_id), check_node_id(response.leader_id) if response.leader_id else None
    except ValueError as error:
        raise PeerCodecError(f"the peer's answer means nothing: {error}") from error


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
