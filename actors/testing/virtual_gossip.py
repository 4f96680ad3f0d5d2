"""For tests of membership: whole clusters of it in virtual time, and somebody who says what a test wants."""

from __future__ import annotations

from random import Random
from typing import Any

from ourolog.actors.actor import NodeRef
from ourolog.actors.config import GossipConfig, NodeConfig
from ourolog.actors.gossip.codec import VERSION, Ack, Body, Datagram, Ping, Rumours, decode, encode
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.actors.messages.status import MembershipStatus, ReportStatus, StatusReported
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.actors.testing.virtual_datagrams import Sent, VirtualDatagramNet
from ourolog.storage.types import NodeId


class SkewedClock:
    """A machine's own idea of the time of day."""

    def __init__(self, runtime: SteppingRuntime, ahead_s: float) -> None:
        self._runtime = runtime
        self._ahead_s = ahead_s

    def monotonic_s(self) -> float:
        return self._runtime.monotonic_s()

    def wall_ms(self) -> int:
        return self._runtime.wall_ms() + int(self._ahead_s * 1000)


class GossipCluster:
    """Nodes that are nothing but their membership, on one network, each with a probe that hears its events."""

    def __init__(self, seed: int = 1, loss: float = 0.0, gossip: GossipConfig | None = None) -> None:
        self.seed = seed
        self.gossip = gossip or GossipConfig()
        self.trace: list[tuple[float, Sent]] = []
        self.runtime = SteppingRuntime(seed)
        self.net = VirtualDatagramNet(self.runtime, seed, loss=loss, watch=self._watch)
        self.nodes: dict[str, NodeRef] = {}
        self.probes: dict[str, Probe] = {}
        self._started = 0

    def _watch(self, sent: Sent) -> None:
        self.trace.append((self.runtime.now_s, sent))

    def start(
        self,
        name: str,
        join: tuple[str, ...] = (),
        addr: str | None = None,
        body: type[MembershipActor] = MembershipActor,
        clock_ahead_s: float = 0,
        **chosen: Any,
    ) -> Probe:
        """Start a node; `addr` names its place and is its name if not given."""
        place = addr or name
        self._started += 1
        node_id = name.partition("@")[0]
        probe = Probe()
        config = NodeConfig(
            node_id=NodeId(node_id),
            data_dir="",
            rpc_addr=f"{place}:8400",
            gossip_addr=f"{place}:8401",
            join=tuple(f"{seed}:8401" for seed in join),
            gossip=self.gossip,
            **chosen,
        )
        ports = stepping_ports(
            self.runtime,
            None,  # type: ignore[arg-type]  # membership keeps nothing on disk
            rng=Random(f"{self.seed} {self._started}"),  # noqa: S311  # chance of a test, not a secret
            clock=SkewedClock(self.runtime, clock_ahead_s),
            datagrams=self.net.port(config.gossip_addr),
            observer=probe,
        )
        ref = self.runtime.spawn(body, config=config, ports=ports)
        self.net.attach(config.gossip_addr, ref)
        self.nodes[name] = ref
        self.probes[name] = probe
        return probe

    def start_many(self, count: int) -> list[str]:
        names = [f"n{number:02}" for number in range(1, count + 1)]
        for name in names:
            self.start(name, join=() if name == names[0] else (names[0],))
        return names

    def kill(self, name: str, addr: str | None = None) -> None:
        self.net.detach(f"{addr or name}:8401")
        self.runtime.kill(self.nodes.pop(name))

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
    return encode(Datagram("ourolog", sender, 1, body or Rumours(), updates), version)


class Speaker:
    """Whoever reads and speaks at one address, so that it can prove where it is, and says what a test wants.

    heard: what came, decoded. answers: whether it answers pings, as a member does that is well.
    """

    def __init__(self, cluster: GossipCluster, member: Member, *, answers: bool = True) -> None:
        self.member = member
        self.heard: list[Datagram] = []
        self.answers = answers
        self._cluster = cluster
        self._cookies: dict[str, int] = {}
        self._sequence = 0
        cluster.net.attach(member.gossip_addr, self)

    def tell(self, received: DatagramReceived) -> None:
        datagram = decode(received.payload)
        assert isinstance(datagram, Datagram)
        self.heard.append(datagram)
        self._cookies[datagram.sender.gossip_addr] = datagram.offers
        if self.answers and datagram.body == Ping(self.member.node_id):
            self.say(datagram.sender.gossip_addr, Ack(datagram.sequence))

    def say(self, addr: str, body: Body | None = None, *updates: Member, sender: Member | None = None) -> None:
        """Send that to the node at the address, with its cookie if it has offered one."""
        self._sequence += 1
        said = Datagram(
            "ourolog",
            sender or self.member,
            self._sequence,
            body or Rumours(),
            updates,
            shows=self._cookies.get(addr, 0),
            offers=1,
        )
        self._cluster.net.send(self.member.gossip_addr, addr, encode(said))

    def meet(self, *addrs: str) -> None:
        """Become a member there: be challenged, and speak again."""
        for addr in addrs:
            self.say(addr)
            self._cluster.runtime.run_until(lambda addr=addr: addr in self._cookies, timeout_s=1)  # type: ignore[misc]
            self.say(addr)
        self._cluster.runtime.run_for(0.02)
