"""The Peer service: calls of other nodes, handed to the actor that answers them, within bounds.

Fetches have the limiters of `ourolog.rpc.fetch_limiter`. All other calls are urgent: those of elections, questions
for the commit index, and fetches that want no batches. They have limits of their own, where messages arrive and where
they wait, so that neither clients nor fetches can keep them out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    Answerer,
    CallAnswer,
    CallCancelled,
    CallReceived,
    CallRefused,
    FetchRequest,
    FetchResponse,
    PeerRequest,
    is_empty_fetch,
)
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.errors import ServiceError, invalid
from ourolog.rpc.fetch_limiter import MEMBERS, STRANGERS, VOTERS, FetchLimiter, FetchLimits, FetchPermit, replaced_error
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.peer_codec import (
    CODECS,
    PeerCodec,
    decode_fetch_request,
    encode_fetch_response,
    other_protocol,
    refusal,
)
from ourolog.rpc.peer_values import PeerCodecError, clipped
from ourolog.rpc.server_calls import OpenCalls, ServerCall
from ourolog.rpc.urgent_call_limiter import UrgentCallLimiter
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.types import NodeId

PEER_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Peer"].full_name
# Requests of fetches that may be on their way in at once, and as many of urgent calls.
ARRIVING: Final = 8
# An urgent call is a few hundred bytes, which come with its headers.
URGENT_CALL_ARRIVES_WITHIN_S: Final = 1.0
# Urgent calls that are open, those among them that have not yet said who asks: in all, and for each connection.
MAX_URGENT_CALLS: Final = 1024
MAX_URGENT_CALLS_EACH: Final = 16


class PeerService:
    """The Peer service of one node, on the loop of its gRPC server.

    A call is one future, and one CallReceived for the actor that answers it. A caller that goes away frees its
    permit, and the actor is told. Fetches are served as a stream, which on the wire is the same, since only that
    tells when gRPC has room for an answer: until then its bytes count as under way.
    """

    def __init__(
        self,
        node_id: NodeId,
        answerers: Mapping[Answerer, Mailbox[Any]],
        voters: Iterable[NodeId] = (),
        *,
        voter_limits: FetchLimits = VOTERS,
        member_limits: FetchLimits = MEMBERS,
        stranger_limits: FetchLimits = STRANGERS,
    ) -> None:
        """Prepare the service; `add_to` registers its methods.

        answerers: the mailboxes of this node's actors that answer calls.
        voters: those known from its configuration.
        """
        self._node_id = node_id
        self._answerers = answerers
        self._voters = frozenset(voters)
        self._members: set[NodeId] = set()
        self._voter_fetches = FetchLimiter(voter_limits)
        self._member_fetches = FetchLimiter(member_limits)
        self._stranger_fetches = FetchLimiter(stranger_limits)
        # Places of their own for what arrives: clients cannot take those of peers, nor fetches those of urgent calls.
        self._fetches = OpenCalls(ArrivalLimiter(ARRIVING))
        self._urgent_calls = OpenCalls(
            ArrivalLimiter(ARRIVING, URGENT_CALL_ARRIVES_WITHIN_S), MAX_URGENT_CALLS, MAX_URGENT_CALLS_EACH
        )
        self._urgent_call_limiter = UrgentCallLimiter()
        self._requests = PendingRequests(asyncio.get_running_loop())

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods, before the server is started."""
        handlers = {"Fetch": self._fetches.stream(self._fetch, pb.FetchRequest, pb.FetchResponse)}
        for request_class, kind in CALL_KINDS.items():
            if not kind.is_bulk:
                codec = CODECS[request_class]
                handlers[codec.method] = self._urgent_calls.unary(
                    functools.partial(self._answer, codec), codec.request_class, codec.response_class
                )
        server.add_registered_method_handlers(PEER_SERVICE, handlers)

    def set_voters(self, voters: Iterable[NodeId]) -> None:
        """Set the voters from now on."""
        self._voters = frozenset(voters)

    def introduce(self, node_id: NodeId) -> None:
        """Note that gossip knows a node of that name."""
        self._members.add(node_id)

    def dismiss(self, node_id: NodeId) -> None:
        """Note that gossip says that it failed or left. If it still calls, it is treated like a newcomer."""
        self._members.discard(node_id)

    def end(self, error: ServiceError) -> None:
        """The actors are gone: everything open, and every later call, fails with `error`."""
        self._fetches.end(error)
        self._urgent_calls.end(error)
        self._requests.close(error)

    # ------------------------------------------------------------ fetches

    async def _fetch(self, call: ServerCall[pb.FetchRequest]) -> None:
        request = await call.request()
        if problem := other_protocol(self._node_id, request):
            # As an answer and not as a status: whoever pulls complains of a refusal once, for a person to read.
            await call.write(encode_fetch_response(refusal(problem)))
            return
        try:
            decoded = decode_fetch_request(request)
        except PeerCodecError as error:
            raise invalid("node_id", "is not a node id", clipped(str(error))) from error
        if is_empty_fetch(decoded):
            with self._urgent_permit(decoded.node_id, call.client):
                await call.write(encode_fetch_response(await self._ask_actor(decoded)))
            return
        limiter, name = self._limiter_of(decoded.node_id)
        permit = await limiter.acquire(name, call.client, decoded.max_bytes)
        try:
            answer = await self._ask_for_batches(dataclasses.replace(decoded, max_bytes=permit.granted_bytes), permit)
            permit.answered(len(answer.batches))
            response = encode_fetch_response(answer)
            del answer  # one copy less, for as long as it is not taken
            await call.write(response)
        finally:
            permit.release()

    async def _ask_for_batches(self, request: FetchRequest, permit: FetchPermit) -> FetchResponse:
        """The replicator's answer. Raises ServiceError when a newer fetch replaces this one meanwhile."""
        replicator = self._answerers[Answerer.REPLICATOR]
        request_id, future = self._requests.open()
        replicator.tell(CallReceived(request_id, request, self._requests))
        try:
            await asyncio.wait((future, permit.replaced), return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise replaced_error()
            response: FetchResponse = _response(future.result())
            return response
        finally:
            if self._requests.forget(request_id):
                replicator.tell(CallCancelled(request_id))

    def _limiter_of(self, node_id: NodeId) -> tuple[FetchLimiter, str]:
        if node_id in self._voters:
            return self._voter_fetches, node_id
        if node_id in self._members:
            return self._member_fetches, node_id
        return self._stranger_fetches, ""

    # ------------------------------------------------------------ urgent calls

    async def _answer(self, codec: PeerCodec, call: ServerCall[Any]) -> Message:
        request = await call.request()
        if problem := other_protocol(self._node_id, request):
            raise ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "OTHER_PROTOCOL", problem)
        try:
            decoded = codec.decode_request(request)
        except PeerCodecError as error:
            raise invalid("request", "means nothing", clipped(str(error))) from error
        with self._urgent_permit(decoded.node_id, call.client):
            return codec.encode_response(await self._ask_actor(decoded))

    def _urgent_permit(self, node_id: NodeId, client: str) -> AbstractContextManager[None]:
        is_known = node_id in self._voters or node_id in self._members
        return self._urgent_call_limiter.permit(node_id if is_known else "", client)

    async def _ask_actor(self, request: PeerRequest[Any]) -> Any:
        """The answer of the actor that answers such calls. Raises ServiceError when it does not, or declines to."""
        kind = CALL_KINDS[type(request)]
        actor = self._answerers[kind.answered_by]
        request_id, future = self._requests.open()
        actor.tell(CallReceived(request_id, request, self._requests))
        try:
            async with asyncio.timeout(kind.timeout_s(request)):
                return _response(await future)
        except TimeoutError:
            late = f"the {kind.answered_by} of {self._node_id} did not answer in time"
            raise ServiceError(grpc.StatusCode.DEADLINE_EXCEEDED, "TIMED_OUT", late) from None
        finally:
            if self._requests.forget(request_id):
                actor.tell(CallCancelled(request_id))


def _response(answer: CallAnswer[Any]) -> Any:
    """Raises ServiceError when the actor refuses to answer."""
    match answer.response:
        case CallRefused(detail):
            # What does not fit into gRPC's headers would end the call with an error of gRPC's own.
            raise ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "REFUSED", clipped(detail))
        case response:
            return response
