"""The Peer service: other nodes' fetches, handed to the Replicator within the bounds of rpc.fetch_limits."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from actors.messages import FetchAnswer, FetchCancelled, FetchReceived, FetchRequest, Mailbox, ReplicatorMessage
from rpc.errors import ServiceError, invalid
from rpc.fetch_limits import MEMBERS, STRANGERS, VOTERS, FetchRoom, Place, RoomLimits, replaced_error
from rpc.mailbox import Requests
from rpc.peer_codec import PROTOCOL, PeerCodecError, decode_request, encode_response, refuse_protocol
from rpc.v1 import peer_pb2 as pb
from storage.types import NodeId

PEER_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Peer"].full_name
# Fetches are small and come whole; who sends none takes a place for so long.
MAX_ARRIVING: Final = 64
ARRIVE_WITHIN_S: Final = 2.0

Context = grpc.aio.ServicerContext[Any, Any]


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
        self._arriving = asyncio.Semaphore(MAX_ARRIVING)
        self._requests = Requests(asyncio.get_running_loop())

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the one method, before the server is started."""
        handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(self._serve)
        server.add_registered_method_handlers(PEER_SERVICE, {"Fetch": handler})

    def introduce(self, node_id: NodeId) -> None:
        """Gossip knows a node of that name."""
        self._members.add(node_id)

    def dismiss(self, node_id: NodeId) -> None:
        """Gossip says that it failed or left. Who fetches all the same is no worse off than a newcomer."""
        self._members.discard(node_id)

    def end(self, error: ServiceError) -> None:
        """The replicator is gone: everything open, and everything that comes, fails with `error`."""
        self._requests.close(error)

    async def _serve(self, _: Any, context: Context) -> None:
        try:
            request = await self._receive(context)
            if request.protocol != PROTOCOL:
                await context.write(refuse_protocol(self._node_id, request).SerializeToString())
            else:
                await self._fetch(request, context)
        except ServiceError as error:
            await error.abort(context)

    async def _receive(self, context: Context) -> pb.FetchRequest:
        try:
            async with self._arriving, asyncio.timeout(ARRIVE_WITHIN_S):
                received: Any = await context.read()
        except TimeoutError:
            late = f"the fetch did not arrive within {ARRIVE_WITHIN_S:g} s"
            raise ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_SLOW", late) from None
        try:
            return pb.FetchRequest.FromString(b"" if received is grpc.aio.EOF else received)
        except DecodeError as error:
            raise invalid("request", "is no FetchRequest", "these bytes are no message of this service") from error

    async def _fetch(self, request: pb.FetchRequest, context: Context) -> None:
        try:
            decoded = decode_request(request)
        except PeerCodecError as error:
            raise invalid("node_id", "is not a node id", str(error)) from error
        room, name = self._room_of(decoded.node_id)
        place = await room.enter(name, context.peer(), decoded.max_bytes)
        try:
            answer = await self._ask(dataclasses.replace(decoded, max_bytes=place.granted_bytes), place)
            place.answered(len(answer.response.batches))
            raw = encode_response(answer.response).SerializeToString()
            del answer
            await context.write(raw)
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
