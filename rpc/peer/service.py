"""The calls of other nodes, handed to the actor that answers them, within bounds.

Fetches of batches have the limiters of `ourolog.rpc.fetch_limiter`. All other calls are urgent: those of elections,
questions for the commit index, repairs, and fetches that want no batches. They have connections and limits of their
own, so that fetches cannot keep them out.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final

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
    is_bulk,
)
from ourolog.rpc.admission import FairLimit
from ourolog.rpc.fetch_limiter import MEMBERS, STRANGERS, VOTERS, FetchLimiter, FetchLimits, FetchPermit, replaced_error
from ourolog.rpc.loop_mailboxes import PendingRequests
from ourolog.rpc.peer.frames import FrameKind
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.refusals import PeerRefusedError, invalid, overloaded
from ourolog.rpc.peer.served import ServedCall
from ourolog.rpc.peer_codec import CODECS, other_protocol, refusal
from ourolog.rpc.peer_values import PeerCodecError, clipped
from ourolog.rpc.urgent_call_limiter import UrgentCallLimiter
from ourolog.storage.types import NodeId

MAX_CALLS: Final = 1024
"""How many calls of each lane are open at once, those among them that wait for a permit."""

MAX_CALLS_EACH: Final = 16
"""How many of them on one connection. A node has one of each kind open, or two where it began anew."""


class PeerService:
    """What one node answers to others, on the loop of its listener.

    A call is one future, and one CallReceived for the actor that answers it. A caller that goes away, or no longer
    waits, frees its permit, and the actor is told. An answer counts until the transport has taken it.
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
        """Prepare the service.

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
        self._open = {lane: FairLimit(MAX_CALLS, 0, MAX_CALLS_EACH) for lane in Lane}
        self._urgent_call_limiter = UrgentCallLimiter()
        self._requests = PendingRequests(asyncio.get_running_loop())
        self._ended = ""

    @property
    def node_id(self) -> NodeId:
        return self._node_id

    def set_voters(self, voters: Iterable[NodeId]) -> None:
        """Set the voters from now on."""
        self._voters = frozenset(voters)

    def introduce(self, node_id: NodeId) -> None:
        """Note that gossip knows a node of that name."""
        self._members.add(node_id)

    def dismiss(self, node_id: NodeId) -> None:
        """Note that gossip says that it failed or left. If it still calls, it is treated like a newcomer."""
        self._members.discard(node_id)

    def end(self, why: str) -> None:
        """The actors are gone: everything open, and every later call, is refused with that sentence."""
        if not self._ended:
            self._ended = why
            self._requests.close(PeerRefusedError(FrameKind.UNAVAILABLE, why))

    # ------------------------------------------------------------ PeerCalls

    def take(self, lane: Lane, client: str) -> None:
        if self._ended:
            raise PeerRefusedError(FrameKind.UNAVAILABLE, self._ended)
        limit = self._open[lane]
        if not limit.has_room(client, 0):
            mine, _ = limit.held_by(client)
            raise overloaded(
                f"{self._node_id} has {limit.count} calls of others open, {mine} of them by this connection, which "
                f"are as many as it serves"
            )
        limit.take(client, 0)

    def release(self, lane: Lane, client: str) -> None:
        self._open[lane].release(client, 0)

    async def answer(self, call: ServedCall) -> None:
        try:
            message = call.codec.message_of(call.request)
            if problem := other_protocol(self._node_id, message):
                self._refuse_other_protocol(call, problem)
                return
            request = call.codec.decode_request(message)
        except PeerCodecError as error:
            raise invalid(clipped(str(error))) from error
        if is_bulk(request) != (call.lane is Lane.BULK):
            raise invalid("fetches of batches have a connection of their own, and so have all other calls")
        if is_bulk(request):
            await self._fetch(call, request)
            return
        with ExitStack() as held:
            held.enter_context(self._urgent_permit(request.node_id, call.client))
            answer = call.encode(await self._ask_actor(request))
            call.send(answer, held.pop_all().close)

    def _refuse_other_protocol(self, call: ServedCall, problem: str) -> None:
        if call.codec is not CODECS[FetchRequest]:
            raise PeerRefusedError(FrameKind.DECLINED, problem)
        # As an answer and not as a refusal: whoever pulls complains of it once, for a person to read.
        call.send(call.encode(refusal(problem)))

    # ------------------------------------------------------------ fetches

    async def _fetch(self, call: ServedCall, request: FetchRequest) -> None:
        limiter, name = self._limiter_of(request.node_id)
        permit = await limiter.acquire(name, call.client, request.max_bytes)
        with ExitStack() as held:
            held.callback(permit.release)
            if permit.granted_bytes != request.max_bytes:
                request = dataclasses.replace(request, max_bytes=permit.granted_bytes)
            answer = await self._ask_for_batches(request, permit)
            permit.answered(len(answer.batches))
            encoded = call.encode(answer)
            call.send(encoded, held.pop_all().close)

    async def _ask_for_batches(self, request: FetchRequest, permit: FetchPermit) -> FetchResponse:
        """The replicator's answer. Raises PeerRefusedError when a newer fetch replaces this one meanwhile."""
        replicator = self._answerers[Answerer.REPLICATOR]
        request_id, future = self._requests.open()
        replicator.tell(CallReceived(request_id, request, self._requests))

        def end(replaced: asyncio.Future[None]) -> None:
            if not (replaced.cancelled() or future.done()):
                future.set_exception(replaced_error())

        permit.replaced.add_done_callback(end)
        try:
            response: FetchResponse = _response(await future)
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

    def _urgent_permit(self, node_id: NodeId, client: str) -> AbstractContextManager[None]:
        is_known = node_id in self._voters or node_id in self._members
        return self._urgent_call_limiter.permit(node_id if is_known else "", client)

    async def _ask_actor(self, request: PeerRequest[Any]) -> Any:
        """The answer of the actor that answers such calls. Raises PeerRefusedError when it does not, or declines to."""
        kind = CALL_KINDS[type(request)]
        actor = self._answerers[kind.answered_by]
        request_id, future = self._requests.open()
        actor.tell(CallReceived(request_id, request, self._requests))
        try:
            async with asyncio.timeout(kind.timeout_s(request)):
                return _response(await future)
        except TimeoutError:
            late = f"the {kind.answered_by} of {self._node_id} did not answer in time"
            raise PeerRefusedError(FrameKind.TIMED_OUT, late) from None
        finally:
            if self._requests.forget(request_id):
                actor.tell(CallCancelled(request_id))


def _response(answer: CallAnswer[Any]) -> Any:
    """Raises PeerRefusedError when the actor refuses to answer."""
    match answer.response:
        case CallRefused(detail):
            raise PeerRefusedError(FrameKind.DECLINED, detail)
        case response:
            return response
