"""The Peer service: other nodes' fetches, handed to the Replicator within the bounds of ourolog.rpc.fetch_limits."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Final

import grpc

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import FetchRequest
from ourolog.actors.messages.replicator import FetchAnswer, FetchCancelled, FetchReceived, ReplicatorMessage
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.calls import Call, Calls
from ourolog.rpc.errors import ServiceError, invalid
from ourolog.rpc.fetch_limits import MEMBERS, STRANGERS, VOTERS, FetchRoom, Place, RoomLimits, replaced_error
from ourolog.rpc.mailbox import PendingRequests
from ourolog.rpc.peer_codec import PROTOCOL, PeerCodecError, decode_request, encode_response, refuse_protocol
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.types import NodeId

PEER_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Peer"].full_name
ARRIVING: Final = 8


class PeerService:
    """A fetch is one future; a fetcher that goes away frees its long poll at the Replicator.

    Served as a stream, which on the wire is the same, since only that tells when gRPC has room for
    an answer: until then its bytes count as under way.
    """

    def __init__(
        self,
        node_id: NodeId,
        replicator: Mailbox[ReplicatorMessage],
        voters: Iterable[NodeId] = (),
        *,
        voters_room: RoomLimits = VOTERS,
        members_room: RoomLimits = MEMBERS,
        strangers_room: RoomLimits = STRANGERS,
    ) -> None:
        self._node_id = node_id
        self._replicator = replicator
        self._voters = frozenset(voters)
        self._members: set[NodeId] = set()
        self._voters_room = FetchRoom(voters_room)
        self._members_room = FetchRoom(members_room)
        self._strangers_room = FetchRoom(strangers_room)
        # Places of its own for what arrives: clients cannot take those of peers.
        self._calls = Calls(ArrivalLimiter(ARRIVING))
        self._requests = PendingRequests(asyncio.get_running_loop())

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the one method, before the server is started."""
        handler = self._calls.stream(self._fetch, pb.FetchRequest, pb.FetchResponse)
        server.add_registered_method_handlers(PEER_SERVICE, {"Fetch": handler})

    def introduce(self, node_id: NodeId) -> None:
        """Gossip knows a node of that name."""
        self._members.add(node_id)

    def dismiss(self, node_id: NodeId) -> None:
        """Gossip says that it failed or left. Who fetches all the same is no worse off than a newcomer."""
        self._members.discard(node_id)

    def end(self, error: ServiceError) -> None:
        """The replicator is gone: everything open, and everything that comes, fails with `error`."""
        self._calls.end(error)
        self._requests.close(error)

    async def _fetch(self, call: Call[pb.FetchRequest]) -> None:
        request = await call.request()
        if request.protocol != PROTOCOL:
            await call.write(refuse_protocol(self._node_id, request))
            return
        try:
            decoded = decode_request(request)
        except PeerCodecError as error:
            raise invalid("node_id", "is not a node id", str(error)) from error
        room, name = self._room_of(decoded.node_id)
        place = await room.enter(name, call.client, decoded.max_bytes)
        try:
            answer = await self._ask(dataclasses.replace(decoded, max_bytes=place.granted_bytes), place)
            place.answered(len(answer.response.batches))
            response = encode_response(answer.response)
            del answer  # one copy less, for as long as it is not taken
            await call.write(response)
        finally:
            place.leave()

    async def _ask(self, request: FetchRequest, place: Place) -> FetchAnswer:
        """What the replicator answers. Raises ServiceError when a newer fetch takes the place meanwhile."""
        request_id, future = self._requests.open()
        self._replicator.tell(FetchReceived(request_id, request, self._requests))
        try:
            await asyncio.wait((future, place.replaced), return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                raise replaced_error()
            answer: FetchAnswer = future.result()
            return answer
        finally:
            if self._requests.forget(request_id):
                self._replicator.tell(FetchCancelled(request_id))

    def _room_of(self, node_id: NodeId) -> tuple[FetchRoom, str]:
        if node_id in self._voters:
            return self._voters_room, node_id
        if node_id in self._members:
            return self._members_room, node_id
        return self._strangers_room, ""
