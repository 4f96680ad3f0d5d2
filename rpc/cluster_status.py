"""The status of a whole cluster: one node is asked for the members, then each member for its own status.

The shape is that of `ourolog status --output json`; programs read it, so keys are added and
never renamed.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import to_log_error
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc


async def cluster_status(addr: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The status of all members: `election`, `leader` (None where there is none) and `nodes`, sorted by id.

    A member that does not answer has its addresses, the state that gossip gives it, and None
    for everything that only the member itself knows. Raises LogError when the node at `addr` does not answer.
    """
    asked = await _ask(addr, timeout_s)
    if isinstance(asked, grpc.aio.AioRpcError):
        raise to_log_error(asked, addr) from asked
    members = sorted(asked.members, key=lambda member: member.id)
    others = [member for member in members if member.id != asked.node_id]
    answers = await asyncio.gather(*(_ask(member.rpc_addr, timeout_s) for member in others))
    own: dict[str, pb.GetStatusResponse] = {asked.node_id: asked}
    for member, answer in zip(others, answers, strict=True):
        # Another node may have been started since at the address of one that is gone.
        if isinstance(answer, pb.GetStatusResponse) and answer.node_id == member.id:
            own[member.id] = answer
    return {
        "election": asked.election,
        "leader": asked.leader or None,
        "nodes": [_node(member, own.get(member.id)) for member in members],
    }


def node_status(response: pb.GetStatusResponse) -> dict[str, Any]:
    """One node's own part: an entry of `nodes`."""
    for member in response.members:
        if member.id == response.node_id:
            return _node(member, response)
    return _node(pb.MemberStatus(id=response.node_id), response)


async def _ask(addr: str, timeout_s: float) -> pb.GetStatusResponse | grpc.aio.AioRpcError:
    async with open_channel(addr) as channel:
        try:
            return await pb_grpc.LogStub(channel).GetStatus(pb.GetStatusRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error


def _node(member: pb.MemberStatus, own: pb.GetStatusResponse | None) -> dict[str, Any]:
    return {
        "id": member.id,
        "rpc_addr": member.rpc_addr,
        "gossip_addr": member.gossip_addr,
        "state": member.state,
        "role": own.role if own else None,
        "term": own.term if own else None,
        "first_offset": own.first_offset if own else None,
        "end_offset": own.end_offset if own else None,
        "committed_offset": own.committed_offset if own else None,
        "pulls": [_pull(pull) for pull in own.pulls] if own else None,
        "cycles_seen": own.cycles_seen if own else None,
        "not_ready": (own.not_ready or None) if own else None,
        "claims": [_claim(claim) for claim in own.claims] if own else None,
    }


def _claim(claim: pb.ElectionClaim) -> dict[str, Any]:
    return {"id": claim.id, "election": claim.election, "term": claim.term, "leader": claim.leader or None}


def _pull(pull: pb.PullStatus) -> dict[str, Any]:
    return {
        "from": getattr(pull, "from"),
        "next_offset": pull.next_offset if pull.HasField("next_offset") else None,
        "lag": pull.lag if pull.HasField("lag") else None,
    }
