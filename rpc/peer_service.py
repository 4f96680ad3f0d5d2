"""The Peer service: other nodes' fetches, handed to the Replicator."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from actors.messages import FetchAnswer, FetchCancelled, FetchReceived, Mailbox, ReplicatorMessage
from rpc.errors import ServiceError, invalid, overloaded
from rpc.mailbox import Requests
from rpc.peer_codec import PROTOCOL, PeerCodecError, decode_request, encode_response, refuse_protocol
from rpc.v1 import peer_pb2 as pb
from rpc.v1 import peer_pb2_grpc as pb_grpc
from storage.types import NodeId

MAX_FETCHES: Final = 1024


class PeerService(pb_grpc.PeerServicer):
    """A fetch is one future; a fetcher that goes away frees its long poll at the Replicator."""

    def __init__(self, node_id: NodeId, replicator: Mailbox[ReplicatorMessage], max_fetches: int = MAX_FETCHES) -> None:
        self._node_id = node_id
        self._replicator = replicator
        self._max_fetches = max_fetches
        self._requests = Requests(asyncio.get_running_loop())

    def end(self, error: ServiceError) -> None:
        """The replicator is gone: everything open, and everything that comes, fails with `error`."""
        self._requests.close(error)

    async def Fetch(  # noqa: N802
        self, request: pb.FetchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.FetchResponse:
        if request.protocol != PROTOCOL:
            return refuse_protocol(self._node_id, request)
        try:
            return await self._fetch(request)
        except ServiceError as error:
            await error.abort(context)

    async def _fetch(self, request: pb.FetchRequest) -> pb.FetchResponse:
        try:
            decoded = decode_request(request)
        except PeerCodecError as error:
            raise invalid("node_id", "is not a node id", str(error)) from error
        if len(self._requests) >= self._max_fetches:
            raise overloaded(f"{self._node_id} answers {self._max_fetches} fetches already", 1.0)
        request_id, future = self._requests.open()
        self._replicator.tell(FetchReceived(request_id, decoded, self._requests))
        try:
            answer: FetchAnswer = await future
        finally:
            if self._requests.forget(request_id):
                self._replicator.tell(FetchCancelled(request_id))
        return encode_response(answer.response)
