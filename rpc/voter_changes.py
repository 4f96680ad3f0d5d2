"""The calls AddVoter and RemoveVoter: a person asks the leader to change who votes."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import Final

import grpc

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.election import AddVoter, ChangeProblem, RemoveVoter, VotersChangeAnswered
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.server import ListServers, Refusal, RequestRefused, ServerMessage, ServersListed
from ourolog.rpc.errors import ServiceError, from_refusal, invalid
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.types import NODE_ID, NodeId

# One or two entries are to be committed; this is for a majority that is gone meanwhile.
_WITHIN_S: Final = 10.0

_CODES: Final = MappingProxyType(
    {
        ChangeProblem.UNDER_WAY: (grpc.StatusCode.ABORTED, "CHANGE_UNDER_WAY"),
        ChangeProblem.IS_VOTER: (grpc.StatusCode.ALREADY_EXISTS, "IS_VOTER"),
        ChangeProblem.UNKNOWN: (grpc.StatusCode.NOT_FOUND, "NOT_KNOWN"),
        ChangeProblem.IMPOSSIBLE: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CHANGED"),
        ChangeProblem.UNSUPPORTED: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CHANGED"),
    }
)


class VoterChangeHandler:
    """Passes requests to the election of this node, and makes statuses of its answers."""

    def __init__(
        self,
        config: NodeConfig,
        requests: PendingRequests,
        election: Mailbox[AddVoter | RemoveVoter],
        server: Mailbox[ServerMessage],
    ) -> None:
        self._config = config
        self._requests = requests
        self._election = election
        self._server = server

    async def change(
        self, request: pb.AddVoterRequest | pb.RemoveVoterRequest, remaining_s: float | None = None
    ) -> pb.ChangeVotersResponse:
        """Change who votes; answer once that is committed. Raises ServiceError.

        remaining_s: how long the caller waits at the most, if that is known.
        """
        if not NODE_ID.fullmatch(request.node_id):
            raise invalid("node_id", "is no node's id", f"{request.node_id[:80]!r} cannot be the id of a node")
        within_s = _WITHIN_S if remaining_s is None else min(_WITHIN_S, remaining_s * 0.9)
        request_id, answered = self._requests.open()
        command = AddVoter if isinstance(request, pb.AddVoterRequest) else RemoveVoter
        self._election.tell(command(request_id, NodeId(request.node_id), self._requests))
        try:
            async with asyncio.timeout(within_s):
                answer: VotersChangeAnswered = await answered
        except TimeoutError:
            raise ServiceError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "TIMED_OUT",
                f"{self._config.node_id} did not say within {within_s:.1f} s that the change is committed; it may "
                "happen yet: look at the status before you ask again",
            ) from None
        finally:
            self._requests.forget(request_id)
        if answer.problem is not None:
            raise await self._refusal(answer.problem, answer)
        return pb.ChangeVotersResponse(voters=answer.voters, term=answer.term)

    async def _refusal(self, problem: ChangeProblem, answer: VotersChangeAnswered) -> ServiceError:
        if problem is ChangeProblem.NOT_LEADER:
            if answer.leader_id is None or answer.leader_id == self._config.node_id:
                return from_refusal(RequestRefused(answer.request_id, Refusal.LEADER_UNKNOWN, answer.detail))
            addr = await self._addr_of(answer.leader_id)
            return from_refusal(
                RequestRefused(answer.request_id, Refusal.NOT_LEADER, answer.detail, answer.leader_id, addr)
            )
        if problem is ChangeProblem.LOST:
            why = f"{answer.detail}, and whether the change is made is not known: look at the status"
            return ServiceError(grpc.StatusCode.UNKNOWN, "LEAD_LOST", why)
        code, reason = _CODES[problem]
        return ServiceError(code, reason, answer.detail)

    async def _addr_of(self, node_id: NodeId) -> str:
        request_id, answered = self._requests.open()
        self._server.tell(ListServers(request_id, self._requests))
        try:
            listed: ServersListed = await answered
        finally:
            self._requests.forget(request_id)
        return next((member.rpc_addr for member in listed.servers if member.node_id == node_id), "")
