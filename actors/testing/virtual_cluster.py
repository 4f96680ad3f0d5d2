"""Whole nodes on one stepping runtime, with a network that delivers everything: for tests and plays.

No faults here beyond nodes that are down; those belong to the simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

from ourolog.actors.actor import NodeRef, Tap
from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.messages.observer import NodeEvent
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    Answerer,
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    PeerRequest,
)
from ourolog.actors.messages.server import Consume, Produce, Produced, RequestRefused
from ourolog.actors.messages.store import BatchesRead, ReadRefused
from ourolog.actors.messages.values import Acks, Peer
from ourolog.actors.node import Node
from ourolog.actors.ports import Ports
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.batch import Batch, Kind, NewBatch, decode_batch, scan
from ourolog.storage.memory import MemoryFiles
from ourolog.storage.types import NodeId, Offset

LATENCY_S = 0.001

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class _Reply:
    """Carries a peer's answer back over the virtual wire."""

    network: VirtualNetwork
    peer_id: NodeId
    request_id: int
    reply_to: Mailbox[CallReturned[Any] | CallFailed]

    def tell(self, message: CallAnswer[Any]) -> None:
        if self.network.open.pop(message.request_id, None) is None:
            return
        if isinstance(message.response, CallRefused):
            self.fail(message.response.detail)
        else:
            returned = CallReturned(self.peer_id, self.request_id, message.response)
            self.network.runtime.after(LATENCY_S, self.reply_to, returned)

    def fail(self, reason: str) -> None:
        self.network.runtime.after(LATENCY_S, self.reply_to, CallFailed(self.peer_id, self.request_id, reason))


class VirtualNetwork:
    """Calls and datagrams between the nodes of a VirtualCluster; every one arrives after LATENCY_S.

    Calls that are open to a node that goes down fail, as they do when a connection breaks.
    """

    def __init__(self, runtime: SteppingRuntime) -> None:
        self.runtime = runtime
        self.nodes: dict[str, Node] = {}
        self.open: dict[int, tuple[Node, _Reply]] = {}
        self._request_ids = 0

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[A], reply_to: Mailbox[CallReturned[A] | CallFailed]
    ) -> None:
        reply = _Reply(self, peer.node_id, request_id, reply_to)
        node = self.nodes.get(peer.rpc_addr)
        if node is None:
            reply.fail(f"nobody listens at {peer.rpc_addr}")
            return
        self._request_ids += 1
        self.open[self._request_ids] = node, reply
        is_pull = CALL_KINDS[type(request)].answered_by is Answerer.REPLICATOR
        answerer = node.replicator if is_pull else node.election
        self.runtime.after(LATENCY_S, answerer, CallReceived(self._request_ids, request, reply))

    def forget(self, peer_id: NodeId) -> None:
        """There are no connections to drop."""

    def drop(self, node: Node) -> None:
        for addr in [addr for addr, known in self.nodes.items() if known is node]:
            del self.nodes[addr]
        for call_id in [call_id for call_id, (peer, _) in self.open.items() if peer is node]:
            self.open.pop(call_id)[1].fail("the connection broke")


@dataclass(frozen=True, slots=True)
class _VirtualDatagrams:
    """The datagram port of one node."""

    network: VirtualNetwork
    source_addr: str

    def send(self, addr: str, payload: bytes) -> None:
        peer = self.network.nodes.get(addr)
        if peer is not None:
            self.network.runtime.after(LATENCY_S, peer.membership, DatagramReceived(self.source_addr, payload))


class VirtualCluster:
    """Nodes by name, on virtual time. `files` of a node outlive it, so it can be restarted.

    Nodes join through the first one that was started.
    """

    def __init__(self, seed: int | None = None, tap: Tap | None = None) -> None:
        self.runtime = SteppingRuntime(seed, tap)
        self.network = VirtualNetwork(self.runtime)
        self.nodes: dict[NodeId, Node] = {}
        self.files: dict[NodeId, MemoryFiles] = {}
        self.configs: dict[NodeId, NodeConfig] = {}
        self.observers: dict[NodeId, Probe] = {}
        self._seed = seed or 0
        self._starts: dict[NodeId, int] = {}
        self._request_ids = 0

    def start(self, name: str, **config: Any) -> Node:
        """Start a node, or start it again with its files as they are (config then changes what it was)."""
        node_id = NodeId(name)
        before = self.configs.get(node_id)
        if before is None:
            seeds = tuple(other.gossip_addr for other in self.configs.values())[:1]
            before = NodeConfig(node_id, f"/{name}", f"{name}:8400", f"{name}:8401", join=seeds)
        node_config = replace(before, **config)
        self.configs[node_id] = node_config
        self._starts[node_id] = self._starts.get(node_id, 0) + 1
        observer = self.observers.setdefault(node_id, Probe())
        ports = Ports(
            timers=self.runtime,
            clock=self.runtime,
            rng=Random(f"{self._seed}/{name}/{self._starts[node_id]}"),  # noqa: S311  # chance of a test, not a secret
            network=self.network,
            datagrams=_VirtualDatagrams(self.network, node_config.gossip_addr),
            files=self.files.setdefault(node_id, MemoryFiles()),
            observer=observer,
        )
        node = Node(node_config, self.runtime, ports)
        node.start()
        self.nodes[node_id] = node
        self.network.nodes[node_config.rpc_addr] = node
        self.network.nodes[node_config.gossip_addr] = node
        self.runtime.run_until_idle()
        return node

    def stop(self, name: str) -> None:
        """An orderly stop: files are closed cleanly."""
        node = self.nodes.pop(NodeId(name))
        self.network.drop(node)
        node.stop()

    def kill(self, name: str) -> None:
        """A crash: actors end where they stand, and only what was synced is there afterwards."""
        node_id = NodeId(name)
        node = self.nodes.pop(node_id)
        self.network.drop(node)
        for ref in node.refs:
            self.runtime.kill(ref)
        self.files[node_id] = self.files[node_id].after_crash(keep_unsynced=False)

    def close(self) -> None:
        for name in list(self.nodes):
            self.stop(name)

    def tell_and_wait(self, ref: NodeRef, message: Any, client: Probe) -> Any:
        """Tell, and step until the client was answered."""
        before = len(client.received)
        ref.tell(message)
        self.runtime.run_until(lambda: len(client.received) > before, timeout_s=60)
        return client.received[before]

    def produce(self, name: str, *payloads: bytes, acks: Acks = Acks.DEFAULT) -> Produced | RequestRefused:
        """One record a payload, as one batch. The payloads stand for encoded records here."""
        self._request_ids += 1
        client = Probe()
        batch = NewBatch(b"".join(payloads), len(payloads))
        request = Produce(self._request_ids, batch, acks, 5.0, client)
        answer: Produced | RequestRefused = self.tell_and_wait(self.nodes[NodeId(name)].server, request, client)
        return answer

    def consume(self, name: str, offset: int) -> BatchesRead | ReadRefused | RequestRefused:
        self._request_ids += 1
        client = Probe()
        request = Consume(self._request_ids, Offset(offset), 1 << 20, False, client)
        answer: BatchesRead | ReadRefused | RequestRefused = self.tell_and_wait(
            self.nodes[NodeId(name)].server, request, client
        )
        return answer

    def batches(self, name: str) -> Iterator[Batch]:
        """All data batches that a reader of this node gets, in order."""
        offset = 0
        while isinstance(answer := self.consume(name, offset), BatchesRead):
            for head in scan(answer.batches):
                if head.kind is Kind.DATA:
                    yield decode_batch(answer.batches, head)
            offset = answer.next.offset

    def events(self, name: str) -> list[NodeEvent]:
        return self.observers[NodeId(name)].received
