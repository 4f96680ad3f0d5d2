"""A whole node on one asyncio loop: its actors, its ports, its services, and its orderly stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

import grpc

from ourolog import __version__
from ourolog.actors.addresses import is_wildcard, join_address, split_address
from ourolog.actors.config import NodeConfig
from ourolog.actors.looping import LoopRuntime, LoopTimers
from ourolog.actors.messages.election import HandOver
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft, MemberUpdated, VotersChanged
from ourolog.actors.messages.membership import LeaveCluster
from ourolog.actors.messages.observer import (
    FailureKind,
    NameClashed,
    NodeEvent,
    NodeFailed,
    NodeNotReady,
    NodeReady,
    NodeWarned,
    WarningKind,
)
from ourolog.actors.messages.peer_calls import Answerer
from ourolog.actors.messages.server import StopHolding
from ourolog.actors.node import FAILED_HANDS_OVER_WITHIN_S, HANDS_OVER_WITHIN_S, Node
from ourolog.actors.ports import Ports
from ourolog.actors.threaded import SystemClock
from ourolog.rpc.arrival_limiter import ArrivalLimiter
from ourolog.rpc.errors import unavailable
from ourolog.rpc.gossip_port import bind_gossip_port
from ourolog.rpc.health import HEALTH_SERVICE, HealthService
from ourolog.rpc.listen_addresses import check_listenable, own_host
from ourolog.rpc.listener import RpcListener
from ourolog.rpc.log_service import ClientLimits, LogService
from ourolog.rpc.loop_mailboxes import LoopMailbox, PendingRequests
from ourolog.rpc.node_status import StatusSources
from ourolog.rpc.open_files import max_connections
from ourolog.rpc.peer.listener import PeerListener
from ourolog.rpc.peer.network import TcpPeerNetwork
from ourolog.rpc.peer.service import PeerService
from ourolog.rpc.peer_values import MAX_MESSAGE_BYTES
from ourolog.rpc.record_checks import RecordLimits
from ourolog.rpc.reflection import ReflectionService
from ourolog.rpc.server_calls import OpenCalls
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.disk import DiskFiles

LOG_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Log"].full_name
_LEAVE_WITHIN_S: Final = 2.0
_CLOSE_WITHIN_S: Final = 2.0
_GOAWAY_WITHIN_S: Final = 0.05
_MESSAGE_MARGIN_BYTES: Final = 1024 * 1024
_MAX_PENDING_CALLS: Final = 8192
# Open calls of the health and reflection services, for the most part watchers; and messages of theirs that arrive.
_MAX_AUXILIARY_CALLS: Final = 1024
_MAX_AUXILIARY_ARRIVING: Final = 8
_HANDSHAKE_WITHIN_MS: Final = 10_000
_MAX_IDLE_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class AdvertisedAddresses:
    """The addresses at which others reach a node, HOST:PORT, ports resolved.

    rpc_addr: of its gRPC services.
    gossip_addr: of its gossip, over UDP.
    peer_addr: of calls between nodes, over TCP; the same unless it was given another one.
    """

    rpc_addr: str
    gossip_addr: str
    peer_addr: str


class NodeServer:
    """One node. `start`, then `stop`, once each, on the same running loop.

    config: its rpc_addr, gossip_addr and own_peer_addr are where to listen; port 0 means any free one.
    on_event: called on the loop with everything that the node reports.
    advertise_rpc_addr, advertise_gossip_addr, advertise_peer_addr: what others shall use instead, for a node behind a
        wildcard address or a translated one; port 0 means the port that was bound.
    client_limits: the limits on clients; None for the defaults.
    failed: a future that is done when the node must not go on; its result says why. The owner
        then stops the node and the process.
    """

    failed: asyncio.Future[NodeFailed | NameClashed]

    def __init__(
        self,
        config: NodeConfig,
        on_event: Callable[[NodeEvent], None] = lambda _: None,
        *,
        advertise_rpc_addr: str | None = None,
        advertise_gossip_addr: str | None = None,
        advertise_peer_addr: str | None = None,
        client_limits: ClientLimits | None = None,
    ) -> None:
        self.config = config
        self._on_event = on_event
        self._advertise_rpc_addr = advertise_rpc_addr
        self._advertise_gossip_addr = advertise_gossip_addr
        self._advertise_peer_addr = advertise_peer_addr
        self._client_limits = client_limits or ClientLimits()
        self._cleanup = contextlib.AsyncExitStack()
        self._node: Node | None = None
        self._ready = asyncio.Event()
        self._stopping = False

    async def start(self) -> AdvertisedAddresses:
        """Bind, start the actors, and serve. NodeReady or NodeNotReady follows as an event.

        Raises OSError when an address is in use or not this machine's, ValueError when one is
        malformed; nothing is left running then.
        """
        try:
            return await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise

    async def wait_ready(self) -> None:
        """Return once clients are served. Raises NodeFailedError when the node fails instead."""
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait((ready, self.failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self.failed.done():
            raise NodeFailedError(self.failed.result())

    async def stop(self, grace_s: float = 5.0) -> None:
        """Drain and stop: report not healthy, hand over the lead, leave the cluster, finish open calls, close the log.

        grace_s: how many seconds open calls get to end.

        Safe to call again, and after a failed start. Raises ActorStuckError when an actor does not
        end; everything else is closed then, the log too if it can be.
        """
        if self._stopping:
            return
        self._stopping = True
        try:
            if self._node is not None:
                await self._drain(self._node, grace_s)
        finally:
            await self._cleanup.aclose()

    async def _drain(self, node: Node, grace_s: float) -> None:
        self._health.end()
        # While produces and fetches go on: a leader hands over to a node that has all of its log.
        await self._hand_over(node)
        node.server.tell(StopHolding())
        await self._leave_cluster(node)
        self._service.drain()
        # Before the port is closed: gRPC kills what comes or is open then as CANCELLED, which says nothing.
        await self._service.stop(grace_s)
        # Produces are done, so nobody needs the followers' fetches any more.
        error = unavailable("STOPPING", f"{self.config.node_id} is stopping")
        self._peers.end(error.message)
        self._auxiliary_calls.end(error)
        closing = asyncio.create_task(self._listener.stop(_CLOSE_WITHIN_S))
        # By then gRPC has sent GOAWAY on every connection. A client that is refused after that does not call again
        # by the same connection, only to be ended as CANCELLED.
        await asyncio.wait((closing,), timeout=_GOAWAY_WITHIN_S)
        self._service.refuse_late_calls()
        await closing

    async def _start(self) -> AdvertisedAddresses:
        loop = asyncio.get_running_loop()
        self.failed = loop.create_future()
        await check_listenable(self.config.rpc_addr)
        # Before the gRPC port: a gRPC server that never started gives its port back only when it is collected.
        peer_socket, datagrams = await bind_gossip_port(self.config.gossip_addr, self.config.own_peer_addr)
        self._cleanup.callback(peer_socket.close)
        self._cleanup.callback(datagrams.close)
        self._datagrams = datagrams
        self._listener = RpcListener(self._server_options(), self._listener_restarted, self._listener_lost)
        rpc_addr = self._listener.bind(self.config.rpc_addr)
        self._cleanup.push_async_callback(self._listener.stop, None)
        observer: LoopMailbox[NodeEvent] = LoopMailbox(loop, self._observe)
        gossip_addr = _advertised(datagrams.bound_addr, self._advertise_gossip_addr)
        peer_addr, bound_peer_addr = gossip_addr, join_address(*peer_socket.getsockname()[:2])
        if self.config.own_peer_addr or self._advertise_peer_addr is not None:
            peer_addr = _advertised(bound_peer_addr, self._advertise_peer_addr)
        addresses = AdvertisedAddresses(_advertised(rpc_addr, self._advertise_rpc_addr), gossip_addr, peer_addr)
        self._warn_of_wildcard(observer, "gRPC", rpc_addr, addresses.rpc_addr, self._advertise_rpc_addr)
        self._warn_of_wildcard(observer, "gossip", datagrams.bound_addr, gossip_addr, self._advertise_gossip_addr)
        if self.config.own_peer_addr:
            self._warn_of_wildcard(observer, "calls of nodes", bound_peer_addr, peer_addr, self._advertise_peer_addr)
        timers = LoopTimers(loop)
        self._cleanup.callback(timers.close)
        network = TcpPeerNetwork(loop)
        self._cleanup.push_async_callback(network.close)
        self.config = dataclasses.replace(
            self.config,
            rpc_addr=addresses.rpc_addr,
            gossip_addr=gossip_addr,
            own_peer_addr=peer_addr if peer_addr != gossip_addr else "",
        )
        ports = Ports(timers, SystemClock(), SystemRandom(), network, datagrams, DiskFiles(), observer)
        node = Node(self.config, LoopRuntime(loop), ports)
        node.start()
        # On a thread: the actors' last answers need the loop, and closing the log may take a while.
        self._cleanup.push_async_callback(asyncio.to_thread, node.stop)
        # Nothing is awaited up to here, so no event comes before there is a receiver.
        self._make_services(node)
        self._node = node
        datagrams.deliver_to(node.membership, getattr(node.membership.actor_inbox, "qsize", None))
        self._peer_listener = PeerListener(self._peers)
        self._cleanup.push_async_callback(self._peer_listener.close, _CLOSE_WITHIN_S)
        self._peer_listener.start(peer_socket)
        await self._listener.start(self._register)
        return addresses

    def _server_options(self) -> list[tuple[str, int]]:
        largest = max(self.config.max_record_bytes, self.config.max_batch_bytes) + _MESSAGE_MARGIN_BYTES
        return [
            # gRPC shares ports by default, and two nodes would silently share one's clients.
            ("grpc.so_reuseport", 0),
            # Somewhat more than the limit, so that what is somewhat too large is refused with a sentence.
            ("grpc.max_receive_message_length", largest),
            # What a call may send before it is read stays at 64 KiB; gRPC would let it grow with the line's speed.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # gRPC drops calls at random, as CANCELLED, when from 1,000 on wait to be looked at. An honest burst of
            # thousands must get to where it is refused with a word about when to retry. The hard limit is the
            # same: each takes some 60 KiB, and streams that are reset at once (CVE-2023-44487) would fill both.
            ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # Clients may ask every 5 s whether the connection is alive, calls open or not.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # Connections never take the descriptors that the log and other nodes need.
            ("grpc.max_allowed_incoming_connections", max_connections()),
            # Those that never say HTTP/2, or have no call for so long, make room for others.
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_WITHIN_MS),
            ("grpc.max_connection_idle_ms", _MAX_IDLE_MS),
        ]

    def _make_services(self, node: Node) -> None:
        sources = StatusSources(self.config, __version__, node.store, node.membership, node.replicator, node.election)
        limits = RecordLimits(self.config.max_record_bytes, self.config.max_batch_bytes)
        self._service = LogService(node.server, sources, limits, self._client_limits)
        self._auxiliary_calls = OpenCalls(ArrivalLimiter(_MAX_AUXILIARY_ARRIVING), _MAX_AUXILIARY_CALLS)
        self._health = HealthService(self._auxiliary_calls, "", LOG_SERVICE)
        answerers = {Answerer.REPLICATOR: node.replicator, Answerer.ELECTION: node.election}
        self._peers = PeerService(self.config.node_id, answerers, self.config.election.voters)

    def _register(self, server: grpc.aio.Server) -> None:
        self._service.add_to(server)
        self._health.add_to(server)
        ReflectionService(self._auxiliary_calls, (LOG_SERVICE, HEALTH_SERVICE)).add_to(server)

    def _listener_restarted(self, why: str) -> None:
        reason = f"the gRPC server ended by itself ({why}) and serves again; open calls went on"
        self._observe(NodeWarned(self.config.node_id, "rpc", WarningKind.LISTENER_RESTARTED, reason))

    def _listener_lost(self, why: str) -> None:
        self._observe(NodeFailed(self.config.node_id, "rpc", FailureKind.LISTENER_LOST, why))

    async def _hand_over(self, node: Node) -> None:
        """Let the election make sure that another node can lead, if this one does."""
        await self._ask(
            lambda request_id, reply_to: node.election.tell(HandOver(request_id, reply_to)),
            FAILED_HANDS_OVER_WITHIN_S if self.failed.done() else HANDS_OVER_WITHIN_S,
        )

    async def _leave_cluster(self, node: Node) -> None:
        """Announce that this node leaves. Do not wait for long: members that miss it find out by themselves."""
        await self._ask(
            lambda request_id, reply_to: node.membership.tell(LeaveCluster(request_id, reply_to)),
            0.0 if self.failed.done() else _LEAVE_WITHIN_S,
        )

    async def _ask(self, tell: Callable[[int, PendingRequests], None], within_s: float) -> None:
        """Tell an actor something, and wait at most this long for its answer."""
        requests = PendingRequests(asyncio.get_running_loop())
        request_id, answered = requests.open()
        tell(request_id, requests)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered, within_s)

    def _observe(self, event: NodeEvent) -> None:
        match event:
            case MemberJoined(member) | MemberUpdated(member):
                self._peers.introduce(member.node_id)
                self._datagrams.introduce(member.gossip_addr)
            case MemberFailed(member):
                # Its datagrams are accepted as before, since it may say that it is alive.
                self._peers.dismiss(member.node_id)
            case MemberLeft(member):
                self._peers.dismiss(member.node_id)
                self._datagrams.dismiss(member.gossip_addr)
            case VotersChanged(voters):
                self._peers.set_voters(voters)
            case _:
                pass
        if isinstance(event, NodeReady | NodeNotReady) and not self._stopping:
            self._ready.set()
            self._health.set_serving(isinstance(event, NodeReady))
        if isinstance(event, NodeFailed | NameClashed) and not self.failed.done():
            self.failed.set_result(event)
            self._health.end()
            error = unavailable("NODE_FAILED", f"{self.config.node_id} has failed: {why_failed(event)}")
            self._service.end(error)
            self._peers.end(error.message)
        self._on_event(event)

    def _warn_of_wildcard(
        self, observer: LoopMailbox[NodeEvent], what: str, bound: str, advertised: str, given: str | None
    ) -> None:
        if given is None and bound != advertised:
            reason = (
                f"{what} listens on every interface ({bound}); others are told {advertised}, "
                "which is a guess: say which address to advertise if they cannot reach it"
            )
            observer.tell(NodeWarned(self.config.node_id, "node", WarningKind.ADDRESS_GUESSED, reason))


class NodeFailedError(Exception):
    """The node must stop; the text says why."""

    def __init__(self, event: NodeFailed | NameClashed) -> None:
        super().__init__(why_failed(event))
        self.event = event


def why_failed(event: NodeFailed | NameClashed) -> str:
    """Why the node had to stop, as a sentence for whoever runs it."""
    match event:
        case NodeFailed():
            return event.reason
        case NameClashed():
            return (
                f"the name {event.node_id} is in use by another live node at {event.gossip_addr}; "
                "give this node another --node-id, or stop that one"
            )


def _advertised(bound: str, advertise: str | None) -> str:
    host, port = split_address(bound)
    if advertise is not None:
        wanted_host, wanted_port = split_address(advertise)
        return join_address(wanted_host, wanted_port or port)
    return join_address(own_host(host), port) if is_wildcard(host) else bound
