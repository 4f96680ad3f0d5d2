"""The status of a whole cluster: one node is asked for the members, then each member for its own status.

The shape is that of `ourolog status --output json`; programs read it, so keys are added and
never renamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.client_errors import LogError, not_understood, to_log_error
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

# How long a node is waited for before the next one is asked as well, and how long those that do not answer may keep
# the table of the others from being shown.
_ASK_ANOTHER_AFTER_S: Final = 0.3
_MEMBERS_WITHIN_S: Final = 2.0


async def cluster_status(addresses: str | Sequence[str], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The status of all members: `election`, `leader` (None where there is none), `term` and `nodes`, sorted by id.

    `voters` and `generation` (1 as the cluster was founded, one more after each recovery; None where none has an id)
    are those that the same node names; `replicas` says how far the others are that copy from the leader,
    None where it does not answer, and `voter_change` which change of voters is under way, None if none is.

    Who leads is what those say that know the highest term; what each node says of it is in `nodes`. A member that
    does not answer has its addresses, the state that gossip gives it, and None for everything that only the
    member itself knows. Raises LogError when none of the nodes answers.

    addresses: HOST:PORT of one node, or of several; the first that answers is asked for the members.
    """
    asked = await _first_answer([addresses] if isinstance(addresses, str) else addresses, timeout_s)
    members = sorted(asked.members, key=lambda member: member.id)
    others = [member for member in members if member.id != asked.node_id]
    answers = await asyncio.gather(
        *(ask_status(member.rpc_addr, min(timeout_s, _MEMBERS_WITHIN_S)) for member in others)
    )
    own: dict[str, pb.GetStatusResponse] = {asked.node_id: asked}
    for member, answer in zip(others, answers, strict=True):
        # Another node may have been started since at the address of one that is gone.
        if isinstance(answer, pb.GetStatusResponse) and answer.node_id == member.id:
            own[member.id] = answer
    newest = max(
        own.values(),
        key=lambda status: (status.term, bool(status.leader), status.leader == status.node_id, status is asked),
    )
    return {
        "election": asked.election,
        "leader": newest.leader or None,
        "term": newest.term,
        "generation": newest.generation if newest.cluster_id else None,
        "voters": list(newest.voters),
        "replicas": [_replica(one) for one in newest.replicas] if newest.node_id == newest.leader else None,
        "voter_change": newest.voter_change or None,
        "nodes": [_node(member, own.get(member.id)) for member in members],
    }


async def _first_answer(addresses: Sequence[str], timeout_s: float) -> pb.GetStatusResponse:
    """Ask one node, the next one too where it takes long, and so on. Raises the LogError of the last that failed."""
    waiting = list(addresses)
    asking: set[asyncio.Task[pb.GetStatusResponse | LogError]] = set()
    failures: list[LogError] = []
    try:
        while waiting or asking:
            if waiting:
                asking.add(asyncio.create_task(ask_status(waiting.pop(0), timeout_s)))
            done, asking = await asyncio.wait(
                asking, timeout=_ASK_ANOTHER_AFTER_S if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for answer in (task.result() for task in done):
                if not isinstance(answer, LogError):
                    return answer
                failures.append(answer)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    last = failures[-1]
    if len(failures) > 1:
        last.args = (f"none of {', '.join(addresses)} answers; the last: {last}",)
    raise last


def node_status(response: pb.GetStatusResponse) -> dict[str, Any]:
    """One node's own part: an entry of `nodes`."""
    for member in response.members:
        if member.id == response.node_id:
            return _node(member, response)
    return _node(pb.MemberStatus(id=response.node_id), response)


async def ask_status(addr: str, timeout_s: float) -> pb.GetStatusResponse | LogError:
    """What the node at that address says of itself, or why it does not."""
    async with open_channel(addr) as channel:
        try:
            response = await pb_grpc.LogStub(channel).GetStatus(pb.GetStatusRequest(), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return to_log_error(error, addr)
    return response if response is not None else not_understood(addr)


def _node(member: pb.MemberStatus, own: pb.GetStatusResponse | None) -> dict[str, Any]:
    return {
        "id": member.id,
        "rpc_addr": member.rpc_addr,
        "gossip_addr": member.gossip_addr,
        "peer_addr": member.peer_addr,
        "state": member.state,
        "role": own.role if own else None,
        "term": own.term if own else None,
        "leader": (own.leader or None) if own else None,
        "cluster_id": f"{own.cluster_id:x}" if own and own.cluster_id else None,
        "generation": own.generation if own and own.cluster_id else None,
        "first_offset": own.first_offset if own else None,
        "end_offset": own.end_offset if own else None,
        "committed_offset": own.committed_offset if own else None,
        "pulls": [_pull(pull) for pull in own.pulls] if own else None,
        "cycles_seen": own.cycles_seen if own else None,
        "not_ready": (own.not_ready or None) if own else None,
        "damaged_found": own.damaged_found if own else None,
        "repaired": own.repaired if own else None,
        "scrubbed_ms": (own.scrubbed_ms or None) if own else None,
        "claims": [_claim(claim) for claim in own.claims] if own else None,
    }


def _replica(replica: pb.ReplicaStatus) -> dict[str, Any]:
    return {
        "id": replica.id,
        "votes": replica.votes,
        "lag": replica.lag if replica.HasField("lag") else None,
        "fetches": replica.fetches,
        "caught_up": replica.caught_up if not replica.votes else None,
    }


def _claim(claim: pb.ElectionClaim) -> dict[str, Any]:
    return {"id": claim.id, "election": claim.election, "term": claim.term, "leader": claim.leader or None}


def _pull(pull: pb.PullStatus) -> dict[str, Any]:
    return {
        "from": getattr(pull, "from"),
        "next_offset": pull.next_offset if pull.HasField("next_offset") else None,
        "lag": pull.lag if pull.HasField("lag") else None,
    }
