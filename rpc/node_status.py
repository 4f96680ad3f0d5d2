"""The status of one node, put together from what each actor reports."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.status import (
    ElectionStatus,
    MembershipStatus,
    ReplicatorStatus,
    ReportStatus,
    StatusReported,
    StoreStatus,
)
from ourolog.rpc.errors import unavailable
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.v1 import log_pb2 as pb

TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class StatusSources:
    """The actors that are asked for their part, and what is known without asking.

    config: the node's configuration.
    version: of this software.
    store, membership, replicator, election: the actors' mailboxes.
    """

    config: NodeConfig
    version: str
    store: Mailbox[Any]
    membership: Mailbox[Any]
    replicator: Mailbox[Any]
    election: Mailbox[Any]


async def gather_status(
    requests: PendingRequests, sources: StatusSources, remaining_s: float | None = None
) -> pb.GetStatusResponse:
    """Ask all actors and put their answers together.

    remaining_s: how long the caller waits at the most, if that is known.

    Raises ServiceError (UNAVAILABLE) that names the actors that did not answer in time.
    """
    actors = {
        "store": sources.store,
        "membership": sources.membership,
        "replicator": sources.replicator,
        "election": sources.election,
    }
    asked: dict[str, tuple[int, asyncio.Future[StatusReported]]] = {}
    try:
        for name, actor in actors.items():
            request_id, future = requests.open()
            asked[name] = (request_id, future)
            actor.tell(ReportStatus(request_id, requests))
        timeout_s = TIMEOUT_S if remaining_s is None else min(TIMEOUT_S, remaining_s * 0.9)
        _, silent = await asyncio.wait([future for _, future in asked.values()], timeout=timeout_s)
        if silent:
            names = " and ".join(name for name, (_, future) in asked.items() if future in silent)
            raise unavailable(
                "BUSY", f"the {names} of {sources.config.node_id} did not answer within {timeout_s:.1f} s; try again"
            )
        reported = {type(future.result().status): future.result().status for _, future in asked.values()}
    finally:
        for request_id, _ in asked.values():
            requests.forget(request_id)
    store = reported.get(StoreStatus, StoreStatus())
    membership = reported.get(MembershipStatus, MembershipStatus())
    replicator = reported.get(ReplicatorStatus, ReplicatorStatus())
    election = reported.get(ElectionStatus, ElectionStatus())
    assert isinstance(store, StoreStatus)
    assert isinstance(membership, MembershipStatus)
    assert isinstance(replicator, ReplicatorStatus)
    assert isinstance(election, ElectionStatus)
    return _to_proto(sources, store, membership, replicator, election)


def _to_proto(
    sources: StatusSources,
    store: StoreStatus,
    membership: MembershipStatus,
    replicator: ReplicatorStatus,
    election: ElectionStatus,
) -> pb.GetStatusResponse:
    response = pb.GetStatusResponse(
        node_id=sources.config.node_id,
        cluster=sources.config.cluster,
        version=sources.version,
        election=election.election,
        leader=election.leader_id or "",
        role=election.role,
        term=election.term,
        first_offset=store.start.offset,
        end_offset=store.end.offset,
        committed_offset=replicator.committed.offset,
        first_index=store.start.index,
        end_index=store.end.index,
        committed_index=replicator.committed.index,
        size_bytes=store.size_bytes,
        cycles_seen=replicator.cycles_seen,
        duplicates_dropped=replicator.duplicates_dropped,
        expired_dropped=replicator.expired_dropped,
        voters=election.voters,
        damaged_found=store.damaged_found,
        repaired=store.repaired,
        cluster_id=election.own.cluster_id,
        generation=election.own.generation,
        origin_id=election.own.lineage,
        last_term=store.last_term,
        log_epoch=store.log_epoch,
        scrubbed_bytes=store.scrubbed_bytes,
        scrub_next_offset=store.scrub_next.offset if store.scrub_next is not None else None,
        scrubbed_ms=store.scrubbed_ms,
        not_ready=election.dispute or election.why_nobody or replicator.commit_unknown,
        claims=[
            pb.ElectionClaim(id=node_id, election=claim.election, term=claim.term, leader=claim.leader_id or "")
            for node_id, claim in election.claims
        ],
        cycle=str(sources.config.cycle),
        members=[
            pb.MemberStatus(
                id=member.node_id,
                rpc_addr=member.rpc_addr,
                gossip_addr=member.gossip_addr,
                state=member.state,
                peer_addr=member.peer_addr,
            )
            for member in membership.members
        ],
    )
    response.voter_change = election.voter_change
    for replica in election.replicas:
        one = response.replicas.add(
            id=replica.node_id, votes=replica.votes, fetches=replica.fetches, caught_up=replica.is_caught_up
        )
        if replica.end is not None:
            one.lag = max(0, store.end.index - replica.end)
    for pull in replicator.pulls:
        part = response.pulls.add(next_index=pull.next_index, connected=pull.connected, detail=pull.detail)
        # `from` is a word of Python's, so the field has to be set by name.
        setattr(part, "from", pull.source_id)
        if pull.lag >= 0:
            part.lag = pull.lag
        if pull.next_offset is not None:
            part.next_offset = pull.next_offset
    return response
