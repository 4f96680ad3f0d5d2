"""Repair calls on the wire: a damaged entry is asked for, and sent."""

from __future__ import annotations

from ourolog.actors.config import check_node_id
from ourolog.actors.messages.peer_calls import RepairRequest, RepairResponse
from ourolog.rpc.peer_values import (
    PROTOCOL,
    check_name,
    clipped,
    decode_place,
    decoding_answer,
    decoding_request,
    encode_place,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.types import Index


def encode_repair_request(request: RepairRequest) -> pb.RepairRequest:
    return pb.RepairRequest(
        protocol=PROTOCOL,
        cluster=request.cluster,
        cluster_id=request.cluster_id,
        node_id=request.node_id,
        log_epoch=request.log_epoch,
        index=request.index,
        place=encode_place(request.place),
    )


def decode_repair_request(request: pb.RepairRequest) -> RepairRequest:
    """The actor's request. Raises PeerCodecError."""
    with decoding_request():
        return RepairRequest(
            cluster=check_name(request.cluster),
            cluster_id=request.cluster_id,
            node_id=check_node_id(request.node_id),
            log_epoch=request.log_epoch,
            index=Index(request.index),
            place=decode_place(request.place),
        )


def encode_repair_response(response: RepairResponse) -> pb.RepairResponse:
    """The answer for the wire, but for its batch, which follows it."""
    return pb.RepairResponse(
        protocol=PROTOCOL,
        node_id=response.node_id,
        log_epoch=response.log_epoch,
        why_not=response.why_not,
        is_final=response.is_final,
    )


def decode_repair_response(response: pb.RepairResponse) -> RepairResponse:
    """The actor's answer, but for its batch. Raises PeerCodecError."""
    with decoding_answer(response.protocol):
        node_id = check_node_id(response.node_id)
    why_not = clipped(response.why_not)
    return RepairResponse(node_id, response.log_epoch, b"", why_not, response.is_final)
