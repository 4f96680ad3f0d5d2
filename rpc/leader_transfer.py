"""The call TransferLeader: a person asks the leader to let another voter lead."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.election import LeaderTransferred, TransferLeader
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import ListServers, Refusal, RequestRefused, ServerMessage, ServersListed
from ourolog.rpc.errors import ServiceError, from_refusal, invalid
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.types import NODE_ID, NodeId

# An election takes a fraction of a second, and the election gives up after a while; this is for one that hangs.
_WITHIN_S: Final = 10.0


class LeaderTransferHandler:
    """Passes requests to the election of this node, and makes statuses of its answers."""

    def __init__(
        self,
        config: NodeConfig,
        requests: PendingRequests,
        election: Mailbox[TransferLeader],
        server: Mailbox[ServerMessage],
    ) -> None:
        self._config = config
        self._requests = requests
        self._election = election
        self._server = server

    async def transfer(
        self, request: pb.TransferLeaderRequest, remaining_s: float | None = None
    ) -> pb.TransferLeaderResponse:
        """Let another node lead; answer once it does. Raises ServiceError.

        remaining_s: how long the caller waits at the most, if that is known.
        """
        if request.node_id and not NODE_ID.fullmatch(request.node_id):
            raise invalid("node_id", "is no node's id", f"{request.node_id[:80]!r} cannot be the id of a node")
        within_s = _WITHIN_S if remaining_s is None else min(_WITHIN_S, remaining_s * 0.9)
        request_id, answered = self._requests.open()
        self._election.tell(
            TransferLeader(request_id, NodeId(request.node_id) if request.node_id else None, self._requests)
        )
        try:
            async with asyncio.timeout(within_s):
                transferred: LeaderTransferred = await answered
        except TimeoutError:
            raise ServiceError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "TIMED_OUT",
                f"{self._config.node_id} did not say within {within_s:.1f} s that another node leads; it may happen "
                "yet: look at the status before you ask again",
            ) from None
        finally:
            self._requests.forget(request_id)
        if transferred.why_not:
            raise await self._refusal(transferred)
        return pb.TransferLeaderResponse(
            leader=transferred.leader_id or "", term=transferred.term, previous_leader=self._config.node_id
        )

    async def _refusal(self, transferred: LeaderTransferred) -> ServiceError:
        leader_id, why_not, election = transferred.leader_id, transferred.why_not, self._config.election
        voters_decide = election.elects and not election.is_decreed
        if not voters_decide or leader_id == self._config.node_id:
            return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "NOT_TRANSFERRED", why_not)
        if leader_id is None:
            return from_refusal(RequestRefused(transferred.request_id, Refusal.LEADER_UNKNOWN, why_not))
        addr = await self._addr_of(leader_id)
        return from_refusal(RequestRefused(transferred.request_id, Refusal.NOT_LEADER, why_not, leader_id, addr))

    async def _addr_of(self, node_id: NodeId) -> str:
        request_id, answered = self._requests.open()
        self._server.tell(ListServers(request_id, self._requests))
        try:
            listed: ServersListed = await answered
        finally:
            self._requests.forget(request_id)
        return next((member.rpc_addr for member in listed.servers if member.node_id == node_id), "")
