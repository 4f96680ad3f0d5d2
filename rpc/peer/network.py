"""Calls to other nodes over framed TCP: the PeerNetwork port of a production node."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    CallFailed,
    CallReturned,
    FetchRequest,
    FetchResponse,
    PeerRequest,
    is_bulk,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.fetched_batches import readable_prefix
from ourolog.rpc.loop_mailboxes import LoopMailbox
from ourolog.rpc.open_files import max_peers
from ourolog.rpc.peer.connect import Connector
from ourolog.rpc.peer.frames import Frame, FrameKind
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.outgoing import OutgoingConnection
from ourolog.rpc.peer.refusals import sentence_of
from ourolog.rpc.peer_codec import CODECS, PeerCodec, refusal
from ourolog.storage.types import NodeId

A = TypeVar("A")

_DROPPED: Final = "the connection was dropped"
_STOPPING: Final = "this node is stopping"


@dataclass(frozen=True, slots=True)
class _Order:
    """An actor asks for a call."""

    peer: Peer
    request_id: int
    request: PeerRequest[Any]
    reply_to: Mailbox[CallReturned[Any] | CallFailed]


@dataclass(frozen=True, slots=True)
class _Forget:
    """An actor no longer pulls from that peer."""

    peer_id: NodeId


LaneOf = tuple[NodeId, Lane]
"""What shares a connection: the calls of one lane to one peer."""


class _Call:
    """A call that an actor has asked for, until it has been told the one end of it."""

    def __init__(self, order: _Order, codec: PeerCodec, check: Callable[[_Call, FetchResponse], None]) -> None:
        """Prepare a call.

        check: what is done with batches that have to be checked before the actor gets them.
        """
        self.order = order
        self._codec = codec
        self._check = check

    def __str__(self) -> str:
        return f"{self.order.peer.node_id} at {self.order.peer.addr}"

    @property
    def is_fetch(self) -> bool:
        return isinstance(self.order.request, FetchRequest)

    def answer(self, response: Any) -> None:
        self.order.reply_to.tell(CallReturned(self.order.peer.node_id, self.order.request_id, response))

    def fail(self, reason: str, *, is_refused: bool = False, is_declined: bool = False) -> None:
        failed = CallFailed(self.order.peer.node_id, self.order.request_id, reason, is_refused, is_declined)
        self.order.reply_to.tell(failed)

    # ------------------------------------------------------------ OutgoingCall

    def ended(self, frame: Frame) -> None:
        if frame.kind is FrameKind.ANSWER:
            self._answered(frame)
        elif frame.kind is FrameKind.DECLINED and frame.call_id == 0 and self.is_fetch:
            # As an answer and not as a failure: whoever pulls complains of a refusal once, for a person to read.
            self.answer(refusal(sentence_of(frame)))
        elif frame.kind is FrameKind.DECLINED:
            self.fail(sentence_of(frame) or f"{self} refused", is_declined=True)  # with a sentence of its own
        elif frame.kind is FrameKind.UNKNOWN_CALL:
            method = self._codec.method
            self.fail(f"{self} does not know the call {method}: it is of another version of ourolog")
        elif frame.kind is FrameKind.TIMED_OUT:
            self.was_late()
        else:
            self.fail(f"{self}: {frame.kind.name}: {sentence_of(frame)}")

    def broke(self, why: str, *, is_refused: bool = False) -> None:
        self.fail(f"{self}: {why}", is_refused=is_refused)

    def was_late(self) -> None:
        self.fail(f"{self} did not answer in time")

    def _answered(self, frame: Frame) -> None:
        request = self.order.request
        try:
            response = self._codec.answer_from_wire(frame.message, frame.payload)
        except ValueError as error:
            self.fail(f"{self}: {error}")
        except Exception as error:  # whatever the error was, the caller must not wait for ever
            self.fail(f"{self}: {error!r}")
        else:
            if isinstance(request, FetchRequest) and response.batches and not request.elected:
                self._check(self, response)
            else:
                self.answer(response)


class TcpPeerNetwork:
    """A PeerNetwork on an asyncio loop. `call` and `forget` may be called from any thread.

    Each call is answered exactly once, also when the network is closed meanwhile. All calls but those that bring
    batches share a connection of their own to each peer, so that they never wait behind batches.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        timeout_s: Callable[[PeerRequest[Any]], float] = lambda request: CALL_KINDS[type(request)].timeout_s(request),
        most_connections: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare a network without connections.

        timeout_s: how long a call may take, in seconds.
        most_connections: how many there may be at once; None for as many as there are open files for.
        ssl_context: of a TLS client; None for plain TCP.
        """
        self._timeout_s = timeout_s
        self._most_connections = most_connections or max_peers()
        self._ssl_context = ssl_context
        self._connector = Connector()
        self._connections: dict[LaneOf, OutgoingConnection] = {}
        self._retired: dict[OutgoingConnection, LaneOf] = {}
        self._checking: dict[asyncio.Task[FetchResponse], _Call] = {}
        self._none_is_left = asyncio.Event()
        self._closed = False
        self._inbox: LoopMailbox[_Order | _Forget] = LoopMailbox(loop, self._receive)

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[A], reply_to: Mailbox[CallReturned[A] | CallFailed]
    ) -> None:
        """Ask a peer, as `PeerNetwork.call` says."""
        self._inbox.tell(_Order(peer, request_id, request, reply_to))

    def forget(self, peer_id: NodeId) -> None:
        """Close the connection for batches from that peer, and end its other fetches, as `PeerNetwork.forget` says."""
        self._inbox.tell(_Forget(peer_id))

    async def close(self) -> None:
        """On the loop: fail what is open and close every connection."""
        self._closed = True
        for connection in (*self._connections.values(), *self._retired):
            connection.abort(_STOPPING)
        for check in list(self._checking):
            check.cancel()
        if self._checking:
            await asyncio.gather(*self._checking, return_exceptions=True)
        while self._retired:
            self._none_is_left.clear()
            await self._none_is_left.wait()

    def _receive(self, order: _Order | _Forget) -> None:
        match order:
            case _Order():
                self._start(order)
            case _Forget():
                self._forget_peer(order.peer_id)

    def _start(self, order: _Order) -> None:
        request = order.request
        codec = CODECS[type(request)]
        call = _Call(order, codec, self._check)
        if self._closed:
            call.fail(_STOPPING)
            return
        try:
            message = codec.encode_request(request).SerializeToString()
        except Exception as error:  # whatever the error was, the caller must not wait for ever
            call.fail(f"{call}: {error!r}")
            return
        lane = order.peer.node_id, Lane.BULK if is_bulk(request) else Lane.URGENT
        connection = self._connection_for(lane, order.peer.addr)
        if connection is None:
            # Made-up nodes shall not cost the descriptors that the log needs.
            many = len(self._connections)
            call.fail(f"this node has {many} connections to others already, as many as it has open files for")
            return
        connection.begin(call, codec.number, message, self._timeout_s(request))

    def _connection_for(self, lane: LaneOf, addr: str) -> OutgoingConnection | None:
        """The connection of that lane, a new one if there is none; None if there may be no more."""
        connection = self._connections.get(lane)
        if connection is not None and connection.addr != addr:
            connection.abort("it is at another address now")  # it restarted elsewhere
            connection = None
        if connection is None and self._has_room():
            connection = OutgoingConnection(
                addr, lane[1], self._connector, self._ssl_context, self._unusable, self._gone
            )
            self._connections[lane] = connection
        return connection

    def _has_room(self) -> bool:
        """Whether there may be another connection; an idle one of urgent calls makes room."""
        if len(self._connections) < self._most_connections:
            return True
        for (_, lane), connection in self._connections.items():
            if lane is Lane.URGENT and not len(connection):
                connection.retire()
                return True
        return False

    def _unusable(self, connection: OutgoingConnection) -> None:
        """No new call may begin on it; it is kept here until it is gone."""
        lane = next(lane for lane, known in self._connections.items() if known is connection)
        del self._connections[lane]
        self._retired[connection] = lane

    def _gone(self, connection: OutgoingConnection) -> None:
        del self._retired[connection]
        if not self._retired:
            self._none_is_left.set()

    def _forget_peer(self, peer_id: NodeId) -> None:
        present = {connection: lane for lane, connection in self._connections.items()}
        for connection, (node_id, lane) in {**self._retired, **present}.items():
            if node_id == peer_id and lane is Lane.BULK:
                connection.abort(_DROPPED)
            elif node_id == peer_id:
                connection.end_calls(lambda call: isinstance(call, _Call) and call.is_fetch, _DROPPED)
        for check, call in list(self._checking.items()):
            if call.order.peer.node_id == peer_id:
                check.cancel()

    # ------------------------------------------------------------ batches that nobody has checked before

    def _check(self, call: _Call, response: FetchResponse) -> None:
        request = call.order.request
        assert isinstance(request, FetchRequest)
        check = asyncio.create_task(_readable(response, call.order.peer.node_id, request))
        self._checking[check] = call
        check.add_done_callback(self._checked)

    def _checked(self, check: asyncio.Task[FetchResponse]) -> None:
        call = self._checking.pop(check)
        # A task that is cancelled before its first step cannot report that itself.
        if check.cancelled():
            call.broke(_DROPPED)
        elif (error := check.exception()) is not None:
            call.broke(repr(error))
        else:
            call.answer(check.result())


async def _readable(response: FetchResponse, peer_id: NodeId, request: FetchRequest) -> FetchResponse:
    batches, unreadable = await readable_prefix(response.batches, peer_id, request.next_index)
    return replace(response, batches=batches, unreadable=unreadable)
