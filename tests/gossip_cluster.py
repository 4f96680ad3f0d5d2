"""Memberships alone on the simulated network, and somebody who says there what a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from ourolog.actors.actor import NodeActor, NodeRef
from ourolog.actors.config import GossipConfig, NodeConfig
from ourolog.actors.gossip.codec import VERSION, Ack, Body, Datagram, Ping, Updates, decode, encode
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.messages.status import MembershipStatus, ReportStatus, StatusReported
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.simulation.clocks import NodeClock
from ourolog.simulation.links import links_between
from ourolog.simulation.network import Network
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.storage.types import NodeId


class Sent(NamedTuple):
    """One datagram as it was handed to the network, whether or not it arrived."""

    source_addr: str
    to_addr: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Datagrams:
    """The Datagrams port of the node at one address."""

    cluster: GossipCluster
    addr: str

    def send(self, addr: str, payload: bytes) -> None:
        self.cluster.send(self.addr, addr, payload)


@dataclass(frozen=True, slots=True)
class _Listener:
    """What the network knows of a node here: nothing but its membership."""

    membership: Mailbox[DatagramReceived]


class GossipCluster:
    """Nodes that are nothing but their membership, each with a probe that hears its events.

    loss: the share of datagrams that are lost.
    trace: every datagram that was sent, with the time.
    drops: which of them are lost on purpose; None for none.
    nodes, probes: by the name that a node was started with.
    """

    def __init__(self, seed: int = 1, loss: float = 0.0, gossip: GossipConfig | None = None) -> None:
        self.seed = seed
        self.gossip = gossip or GossipConfig()
        self.trace: list[tuple[float, Sent]] = []
        self.drops: Callable[[Sent], bool] | None = None
        self.runtime = SimulatedRuntime(Random(f"{seed}/order"), None, lambda *_: None, lambda _: None, self._raise_bug)
        self.network = Network(self.runtime, Random(f"{seed}/network"), lambda _: None)
        self.loss = loss
        self.nodes: dict[str, NodeRef] = {}
        self.probes: dict[str, Probe] = {}
        self._started = 0

    @staticmethod
    def _raise_bug(_actor: NodeActor, _message: object, error: Exception) -> None:
        raise error

    # ------------------------------------------------------------ the network

    @property
    def loss(self) -> float:
        return self.network.links.chances.loss

    @loss.setter
    def loss(self, share: float) -> None:
        self.network.links.chances.loss = share

    def send(self, source_addr: str, to_addr: str, payload: bytes) -> None:
        sent = Sent(source_addr, to_addr, payload)
        self.trace.append((self.runtime.now_s, sent))
        if self.drops is None or not self.drops(sent):
            self.network.send_datagram(NodeId(source_addr.partition(":")[0]), source_addr, to_addr, payload)

    def listen(self, place: str, mailbox: Mailbox[DatagramReceived]) -> None:
        """From now on what is sent to any address of that place arrives there."""
        self.network.attach(NodeId(place), _Listener(mailbox))

    def cut(self, source: str, target: str) -> None:
        """No datagram passes from one place to another; the other way stays open."""
        self.network.links.block([(source, target)])

    def split(self, *groups: Iterable[str]) -> None:
        """No datagram passes between groups of places."""
        self.network.links.block(links_between([tuple(group) for group in groups]))

    def heal(self) -> None:
        """Undo every cut."""
        self.network.links.unblock_all()

    # ------------------------------------------------------------ nodes

    def start(
        self,
        name: str,
        join: tuple[str, ...] = (),
        place: str | None = None,
        body: type[MembershipActor] = MembershipActor,
        clock_ahead_s: float = 0,
        **chosen: Any,
    ) -> Probe:
        """Start a node; `place` is the host of its addresses, and its name if not given.

        What follows an @ in the name tells it from a namesake and is no part of its node id.
        """
        place = place or name
        self._started += 1
        probe = Probe()
        config = NodeConfig(
            node_id=NodeId(name.partition("@")[0]),
            data_dir="/data",
            rpc_addr=f"{place}:8400",
            gossip_addr=f"{place}:8401",
            join=tuple(f"{seed}:8401" for seed in join),
            gossip=self.gossip,
            **chosen,
        )
        clock = NodeClock(self.runtime)
        clock.jump(clock_ahead_s)
        ports = stepping_ports(
            self.runtime,
            rng=Random(f"{self.seed} {self._started}"),
            clock=clock,
            datagrams=_Datagrams(self, config.gossip_addr),
            observer=probe,
        )
        ref = self.runtime.spawn(body, config=config, ports=ports)
        self.listen(place, ref)
        self.nodes[name] = ref
        self.probes[name] = probe
        return probe

    def start_many(self, count: int) -> list[str]:
        names = [f"n{number:02}" for number in range(1, count + 1)]
        for name in names:
            self.start(name, join=() if name == names[0] else (names[0],))
        return names

    def kill(self, name: str, place: str | None = None) -> None:
        self.network.detach(NodeId(place or name), silently=False)
        self.runtime.kill(self.nodes.pop(name))

    # ------------------------------------------------------------ what they know

    def status(self, name: str) -> MembershipStatus:
        probe = Probe()
        self.nodes[name].tell(ReportStatus(1, probe))
        self.runtime.run_until(lambda: bool(probe.received))
        status = probe.last(StatusReported).status
        assert isinstance(status, MembershipStatus)
        return status

    def member(self, viewer: str, name: str) -> Member | None:
        return next((m for m in self.status(viewer).members if m.node_id == name), None)

    def alive(self, viewer: str) -> list[str]:
        return [m.node_id for m in self.status(viewer).members if m.state is MemberState.ALIVE]

    def seen(self, viewer: str, kind: type[Any]) -> list[str]:
        return [event.member.node_id for event in self.probes[viewer].all(kind)]

    def run_until_all_see(self, names: list[str], timeout_s: float) -> float:
        """Until each of the nodes sees exactly these, alive; the virtual seconds that took."""
        began_s = self.runtime.now_s
        while any(self.alive(viewer) != names for viewer in names):
            assert self.runtime.now_s - began_s < timeout_s, {viewer: self.alive(viewer) for viewer in names}
            self.runtime.run_for(0.05)
        return self.runtime.now_s - began_s


def stranger(name: str = "n99", incarnation: int = 5) -> Member:
    """A member that nobody knows."""
    return Member(NodeId(name), f"{name}:8400", f"{name}:8401", MemberState.ALIVE, incarnation)


def forged(sender: Member, *updates: Member, body: Body | None = None, version: int = VERSION) -> bytes:
    """What a stranger would send who knows no cookie."""
    return encode(Datagram("ourolog", sender, 1, body or Updates(), updates), version)


class Speaker:
    """Whoever reads and speaks at one address, so that it can prove where it is, and says what a test wants.

    heard: what came, decoded.
    answers: whether it answers pings, as a member does that is well.
    """

    def __init__(self, cluster: GossipCluster, member: Member, *, answers: bool = True) -> None:
        self.member = member
        self.heard: list[Datagram] = []
        self.answers = answers
        self._cluster = cluster
        self._cookies: dict[str, int] = {}
        self._sequence = 0
        cluster.listen(member.gossip_addr.partition(":")[0], self)

    def tell(self, received: DatagramReceived) -> None:
        datagram = decode(received.payload)
        assert isinstance(datagram, Datagram)
        self.heard.append(datagram)
        self._cookies[datagram.sender.gossip_addr] = datagram.issued_cookie
        if self.answers and datagram.body == Ping(self.member.node_id):
            self.say(datagram.sender.gossip_addr, Ack(datagram.sequence))

    def say(self, addr: str, body: Body | None = None, *updates: Member, sender: Member | None = None) -> None:
        """Send that to the node at the address, with its cookie if it has offered one."""
        self._sequence += 1
        said = Datagram(
            "ourolog",
            sender or self.member,
            self._sequence,
            body or Updates(),
            updates,
            echoed_cookie=self._cookies.get(addr, 0),
            issued_cookie=1,
        )
        self._cluster.send(self.member.gossip_addr, addr, encode(said))

    def meet(self, *addrs: str) -> None:
        """Become a member there: be challenged, and speak again."""
        for addr in addrs:
            self.say(addr)
            self._cluster.runtime.run_until(lambda addr=addr: addr in self._cookies, timeout_s=1)
            self.say(addr)
        self._cluster.runtime.run_for(0.02)
