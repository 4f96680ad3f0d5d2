"""The simulated network: datagrams, and calls with an answer, as packets over links that fail.

A call uses a connection, and ends as calls over TCP do: it is answered
once; or its connection breaks (the caller learns that sooner or later, and never whether the
work was done); or nobody listens, which the caller is told at once, unless the whole machine is without power; or its
time is up.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol, TypeVar

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    EMPTY_FETCH,
    Answerer,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    PeerRequest,
    is_empty_fetch,
)
from ourolog.actors.messages.values import Peer
from ourolog.actors.node import Node
from ourolog.actors.stepping import VirtualTimer
from ourolog.simulation.events import (
    DATAGRAM,
    Event,
    FaultInjected,
    LossCause,
    MessageTold,
    PacketDelivered,
    PacketLost,
    PacketSent,
)
from ourolog.simulation.links import Links
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId

A = TypeVar("A")

PULLS: Final = frozenset(kind.name for kind in CALL_KINDS.values() if kind.is_bulk) | {EMPTY_FETCH}
"""The kinds of call that end when a node stops pulling from another one."""

UNNOTICED_S = 15.0
"""After how long the ends of a connection notice that the other end is silently gone (keepalive)."""


class Callee(Protocol):
    """The serving side of some kinds of call."""

    def receive(self, node: Node, call: Call, reply_to: Mailbox[Any]) -> None:
        """The request has arrived."""

    def cancel(self, node: Node, call: Call) -> None:
        """The caller has gone away."""


@dataclass(slots=True, eq=False)
class Call:
    """One call under way, of a client or of a node.

    call_id: unique in the run; identifies the call to the serving side.
    kind: what its packets are called in events.
    source, target: the caller, and the node that is called.
    callee: the serving side of such calls.
    request: what is asked.
    on_answer: called with the answer.
    on_failed: called with the reason, and with whether the target has certainly done nothing.
    reply_to: where the serving side tells its answer.
    may_repeat: whether the network may deliver the request twice.
    is_open: whether the caller still waits.
    has_arrived: whether the request has reached the target.
    is_refused: whether it failed since nobody listens at the target.
    timer: ends it when its time is up.
    riders: calls whose requests travel in the same packet.
    """

    call_id: int
    kind: str
    source: NodeId
    target: NodeId
    callee: Callee
    request: Any
    on_answer: Callable[[Any], None]
    on_failed: Callable[[str, bool], None]
    reply_to: Mailbox[Any] | None = None
    may_repeat: bool = False
    is_open: bool = True
    has_arrived: bool = False
    is_refused: bool = False
    timer: VirtualTimer | None = None
    riders: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class _Packet:
    """One packet on its way, see `Network.transmit`."""

    packet_id: int
    source: NodeId
    target: NodeId
    what: str
    arrive: Callable[[], None]
    needs_node: bool
    on_lost: Callable[[LossCause], None] | None


class Network:
    """The network of all machines. Nodes are attached to it while their process runs.

    links: what becomes of packets between any two machines.
    emit: called with each event.
    """

    def __init__(self, runtime: SimulatedRuntime, rng: Random, emit: Callable[[Event], None]) -> None:
        self.runtime = runtime
        self.links = Links(rng)
        self._rng = rng
        self._emit = emit
        self._nodes: dict[NodeId, Node] = {}
        self._without_power: set[NodeId] = set()
        self._packet_ids = itertools.count(1)
        self._call_ids = itertools.count(1)
        self._open: dict[int, Call] = {}

    # ------------------------------------------------------------ processes

    def attach(self, node_id: NodeId, node: Node) -> None:
        self._without_power.discard(node_id)
        self._nodes[node_id] = node

    def detach(self, node_id: NodeId, *, silently: bool) -> None:
        """The node's process has ended.

        silently: whether its machine ended with it, so that nobody is told.
        """
        self._nodes.pop(node_id, None)
        if silently:
            self._without_power.add(node_id)
        for call in [call for call in self._open.values() if node_id in (call.source, call.target)]:
            if call.source == node_id:
                self._close(call)
                if call.has_arrived:
                    wait_s = UNNOTICED_S if silently else self._delay_s(call.source, call.target)
                    self.runtime.call_later(wait_s, _cancelling(self, call))
            elif call.has_arrived and not silently:
                # The kernel closes what a process leaves open.
                self._break(call, f"{node_id} closed the connection", chance=1.0)

    def forget(self, source: NodeId, peer_id: NodeId) -> None:
        """`source` drops the connection over which it pulled from a peer: its open fetches there fail."""
        for call in list(self._open.values()):
            if (call.source, call.target) == (source, peer_id) and call.kind in PULLS:
                self._give_up(call, f"the connection to {peer_id} was dropped")

    # ------------------------------------------------------------ packets

    def _delay_s(self, source: NodeId, target: NodeId) -> float:
        return self.links.delay_s(source, target, self.runtime.now_s)

    def transmit(
        self,
        source: NodeId,
        target: NodeId,
        what: str,
        arrive: Callable[[], None],
        *,
        may_repeat: bool = False,
        is_reply: bool = False,
        needs_node: bool = True,
        on_lost: Callable[[LossCause], None] | None = None,
    ) -> None:
        """Send one packet. Calls `arrive` when it arrives, or `on_lost(cause)` if it never will."""
        packet_id = next(self._packet_ids)
        now_s = self.runtime.now_s
        emit = self._emit
        emit(PacketSent(now_s, packet_id, source, target, what))
        links = self.links
        if links.is_blocked(source, target) or (what == DATAGRAM and links.drops_datagrams(source, target)):
            emit(PacketLost(now_s, packet_id, source, target, what, LossCause.PARTITION))
            if on_lost is not None:
                on_lost(LossCause.PARTITION)
            return
        fate = links.fate(source, target, self.runtime.present_s, may_repeat=may_repeat, is_reply=is_reply)
        if fate.fault:
            emit(FaultInjected(now_s, fate.fault, f"{source}>{target}", packet=what))
        if not fate.delays_s:
            cause = LossCause.REPLY_LOST if fate.fault == "reply_lost" else LossCause.LOSS
            emit(PacketLost(now_s, packet_id, source, target, what, cause))
            if on_lost is not None:
                on_lost(cause)
            return
        for at, delay_s in enumerate(fate.delays_s):
            packet = _Packet(packet_id, source, target, what, arrive, needs_node, None if at else on_lost)
            self.runtime.after(delay_s, self, packet)

    def tell(self, packet: _Packet) -> None:
        """Timer -> network: a packet has reached its target."""
        source, target = packet.source, packet.target
        cause: LossCause | None = None
        if self.links.is_blocked(source, target):
            cause = LossCause.PARTITION
        elif packet.needs_node and target not in self._nodes:
            cause = LossCause.DOWN
        now_s = self.runtime.now_s
        if cause is not None:
            self._emit(PacketLost(now_s, packet.packet_id, source, target, packet.what, cause))
            if packet.on_lost is not None:
                packet.on_lost(cause)
            return
        self._emit(PacketDelivered(now_s, packet.packet_id, source, target, packet.what))
        packet.arrive()

    # ------------------------------------------------------------ datagrams

    def send_datagram(self, source: NodeId, source_addr: str, addr: str, payload: bytes) -> None:
        target = NodeId(addr.partition(":")[0])

        def arrive() -> None:
            self._nodes[target].membership.tell(DatagramReceived(source_addr, payload))

        self.transmit(source, target, DATAGRAM, arrive, may_repeat=True)

    # ------------------------------------------------------------ calls

    def call(
        self,
        kind: str,
        source: NodeId,
        target: NodeId,
        callee: Callee,
        request: Any,
        timeout_s: float,
        on_answer: Callable[[Any], None],
        on_failed: Callable[[str, bool], None],
        *,
        may_repeat: bool = False,
        beside: Call | None = None,
    ) -> Call:
        """Begin a call; exactly one of on_answer and on_failed follows, within timeout_s.

        beside: a call just begun in whose packet the request travels, so that both arrive at once, or neither.
        """
        call = Call(next(self._call_ids), kind, source, target, callee, request, on_answer, on_failed)
        call.may_repeat = may_repeat
        call.reply_to = _Wire(self, call)
        self._open[call.call_id] = call
        call.timer = self.runtime.call_later(timeout_s, lambda: self._give_up(call, f"{target} did not answer in time"))
        if beside is None:
            self.transmit(
                source,
                target,
                kind,
                lambda: self._arrived(call),
                may_repeat=may_repeat,
                on_lost=lambda cause: self._request_lost(call, cause),
            )
        else:
            assert (beside.source, beside.target) == (source, target), "one packet goes to one place"
            beside.riders.append(call)
        if self.links.chances.stream_cut and self._rng.random() < self.links.chances.stream_cut:
            self.runtime.call_later(self._rng.random() * 0.05, lambda: self._cut(call))
        return call

    def cancel(self, call: Call) -> None:
        """The caller no longer wants the answer; it is told nothing more."""
        if call.is_open:
            self._close(call)
            self._tell_callee(call)

    def _arrived(self, call: Call) -> None:
        node = self._nodes[call.target]
        if call.has_arrived:
            # A second delivery of the same request; nobody waits for this answer.
            again = Call(
                next(self._call_ids),
                call.kind,
                call.source,
                call.target,
                call.callee,
                call.request,
                _ignore,
                _ignore,
                is_open=False,
            )
            call.callee.receive(node, again, _Wire(self, again))
            return
        call.has_arrived = True
        assert call.reply_to is not None
        call.callee.receive(node, call, call.reply_to)
        for rider in call.riders:
            self._arrived(rider)

    def told(self, call: Call, message: Any) -> None:
        """An actor has answered: what the answer promises must hold from this moment on."""
        self._emit(MessageTold(self.runtime.now_s, self.runtime.current(), call.source, message))

    def answer(self, call: Call, message: Any) -> None:
        """The serving side has told its answer: send it back."""
        if call.is_open:
            self.transmit(
                call.target,
                call.source,
                f"{call.kind} answer",
                lambda: self._answered(call, message),
                is_reply=True,
                needs_node=False,
                on_lost=lambda cause: self._break(call, f"the connection to {call.target} broke: {cause}"),
            )

    def _answered(self, call: Call, message: Any) -> None:
        if call.is_open:
            self._close(call)
            call.on_answer(message)

    def _request_lost(self, call: Call, cause: LossCause) -> None:
        if cause is LossCause.DOWN and call.target not in self._without_power:
            self.runtime.call_later(self._delay_s(call.target, call.source), lambda: self._refuse(call))
        elif cause is LossCause.LOSS:
            self._break(call, f"the connection to {call.target} broke")
        # In a partition, and from a machine without power, nothing comes back, and the caller's time runs out.
        for rider in call.riders:
            self._request_lost(rider, cause)

    def _refuse(self, call: Call) -> None:
        call.is_refused = True
        self._fail(call, f"nobody listens at {call.target}", certain=True)

    def _break(self, call: Call, reason: str, *, chance: float = 0.5) -> None:
        """Break the connection: by that chance the caller is told, otherwise it has to find out."""
        if call.is_open and self._rng.random() < chance and not self.links.is_blocked(call.target, call.source):
            self.runtime.call_later(
                self._delay_s(call.target, call.source),
                lambda: self._fail(call, reason, certain=not call.has_arrived),
            )

    def _cut(self, call: Call) -> None:
        if call.is_open:
            self._emit(
                FaultInjected(self.runtime.now_s, "stream_cut", f"{call.source}>{call.target}", packet=call.kind)
            )
            self._give_up(call, f"the connection to {call.target} was reset")

    def _give_up(self, call: Call, reason: str) -> None:
        """The caller stops waiting; the serving side is told if it can be reached."""
        if call.is_open:
            self._fail(call, reason, certain=False)
            self._tell_callee(call)

    def _tell_callee(self, call: Call) -> None:
        self.transmit(call.source, call.target, f"{call.kind} cancelled", lambda: self.cancelled(call))

    def cancelled(self, call: Call) -> None:
        """The serving side learns that the caller has gone."""
        node = self._nodes.get(call.target)
        if node is not None and call.has_arrived:
            call.callee.cancel(node, call)

    def _fail(self, call: Call, reason: str, *, certain: bool) -> None:
        if call.is_open:
            self._close(call)
            call.on_failed(reason, certain)

    def _close(self, call: Call) -> None:
        call.is_open = False
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        self._open.pop(call.call_id, None)


def _ignore(*_: object) -> None:
    """Nobody waits."""


def _cancelling(network: Network, call: Call) -> Callable[[], None]:
    return lambda: network.cancelled(call)


class _Wire:
    """The reply mailbox of a call, which sends what it is told across the network."""

    __slots__ = ("_call", "_network")

    def __init__(self, network: Network, call: Call) -> None:
        self._network = network
        self._call = call

    def tell(self, message: Any) -> None:
        network = self._network
        network.told(self._call, message)
        network.answer(self._call, message)


class _PeerCallee:
    """The actor of the peer that answers such calls."""

    def receive(self, node: Node, call: Call, reply_to: Mailbox[CallAnswer[Any]]) -> None:
        _answerer(node, call).tell(CallReceived(call.call_id, call.request, reply_to))

    def cancel(self, node: Node, call: Call) -> None:
        _answerer(node, call).tell(CallCancelled(call.call_id))


def _answerer(node: Node, call: Call) -> Mailbox[Any]:
    match CALL_KINDS[type(call.request)].answered_by:
        case Answerer.REPLICATOR:
            return node.replicator
        case Answerer.ELECTION:
            return node.election


class NodeNetwork:
    """The PeerNetwork and Datagrams ports of one node."""

    _callee = _PeerCallee()

    def __init__(self, network: Network, node_id: NodeId, gossip_addr: str) -> None:
        self._network = network
        self._node_id = node_id
        self._gossip_addr = gossip_addr

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[A], reply_to: Mailbox[CallReturned[A] | CallFailed]
    ) -> None:
        kind = CALL_KINDS[type(request)]

        def answered(answer: CallAnswer[A]) -> None:
            match answer.response:
                case CallRefused(detail):
                    reply_to.tell(CallFailed(peer.node_id, request_id, detail, is_declined=True))
                case response:
                    reply_to.tell(CallReturned(peer.node_id, request_id, response))

        def failed(reason: str, _: bool) -> None:
            reply_to.tell(CallFailed(peer.node_id, request_id, reason, call.is_refused))

        call = self._network.call(
            EMPTY_FETCH if is_empty_fetch(request) else kind.name,
            self._node_id,
            NodeId(peer.addr.partition(":")[0]),
            self._callee,
            request,
            kind.timeout_s(request),
            answered,
            failed,
            may_repeat=True,
        )

    def forget(self, peer_id: NodeId) -> None:
        self._network.forget(self._node_id, peer_id)

    def send(self, addr: str, payload: bytes) -> None:
        self._network.send_datagram(self._node_id, self._gossip_addr, addr, payload)
