"""The clients of a run: producers, consumers and watchers at a pace, and a probe that asks whether it works."""

from __future__ import annotations

from random import Random

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import NodeReady
from ourolog.simulation.clients import Consumer, Producer, Watcher
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.disks.rot import Rotted
from ourolog.simulation.events import Event, FaultInjected, NodeSaid
from ourolog.simulation.numbered_producer import NumberedProducer
from ourolog.simulation.own_writes import OwnReader
from ourolog.simulation.paced_clients import PacedClient
from ourolog.simulation.plan import Plan
from ourolog.simulation.rot_reader import RotReader
from ourolog.storage.types import NodeId

PROBE_INTERVAL_S = 1.0
NUMBERED_SHARE = 0.7
"""In how many runs a client numbers its batches."""
OWN_READERS_SHARE = 1 / 8
"""How often who reads what it has written writes, as a part of what producers and consumers do together."""
WATCHERS_SHARE = 1 / 8
"""How often a watcher asks, as a part of what producers and consumers do together."""


class SwarmPace:
    """Operations at random times, this many a second on average; none after `stop`."""

    def __init__(self, rng: Random, per_second: float) -> None:
        self._rng = rng
        self._per_second = per_second
        self._stopped = False

    def pause_s(self) -> float | None:
        if self._stopped or self._per_second <= 0:
            return None
        return self._rng.expovariate(self._per_second)

    def stop(self) -> None:
        self._stopped = True


class Swarm:
    """The clients: every second one consumes, the others produce.

    Where somebody leads, each node has a watcher, one more client reads what rots, and in most runs one numbers what it
    produces.
    """

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        options = cluster.options
        self._cluster = cluster
        self._clients: list[PacedClient | RotReader] = []
        self._watchers: list[Watcher] = []
        self._paces: list[SwarmPace] = []
        self._probe: Producer | None = None
        elected = options.election_choice().elects
        for number in range(1, options.clients + 1):
            name = f"c{number}"
            rng = cluster.chance(f"client/{name}")
            pace = self._pace(rng, options.operations / 60.0 / options.clients)
            client: Producer | Consumer
            if number % 2 == 0:
                client = Consumer(name, cluster.runtime, cluster.calls, rng, pace, may_move=elected)
            else:
                client = Producer(name, cluster.runtime, cluster.calls, rng, pace, plan.acks)
            self._clients.append(client)
        self._numbered: NumberedProducer | None = None
        if elected and options.clients:
            rng = cluster.chance("client/own")
            pace = self._pace(rng, options.operations / 60.0 * OWN_READERS_SHARE)
            self._clients.append(OwnReader("own", cluster.runtime, cluster.calls, rng, pace))
            for node_id in cluster.configs:
                name = f"watcher-{node_id}"
                rng = cluster.chance(f"client/{name}")
                pace = self._pace(rng, options.operations / 60.0 * WATCHERS_SHARE)
                self._watchers.append(Watcher(name, cluster.runtime, cluster.calls, rng, pace, node_id))
            self._clients += self._watchers
            self._rot_reader = RotReader("rot", cluster.runtime, cluster.calls, cluster.chance("client/rot"))
            self._clients.append(self._rot_reader)
            rng = cluster.chance("client/numbered")
            if rng.random() < NUMBERED_SHARE:
                pace = self._pace(rng, options.operations / 60.0 / options.clients)
                acks = tuple(acks for acks in plan.acks if acks != "leader")
                self._numbered = NumberedProducer("numbered", cluster.runtime, cluster.calls, rng, pace, acks)
                self._clients.append(self._numbered)
            cluster.subscribe(self._on_event)

    def _pace(self, rng: Random, per_second: float) -> SwarmPace:
        pace = SwarmPace(rng, per_second)
        self._paces.append(pace)
        return pace

    def _on_event(self, event: Event) -> None:
        """Have the watchers ask when a node begins to lead, and when it has committed something and is ready.

        Have who numbers its batches send them to whoever begins to lead, and have what rots be read.
        """
        if type(event) is FaultInjected:
            self._on_fault(event)
        if type(event) is not NodeSaid:
            return
        said = event.event
        leads = isinstance(said, LeaderChanged) and said.leader_id == event.node_id
        if leads and self._numbered is not None:
            self._numbered.leader_begun(event.node_id)
        if leads or isinstance(said, NodeReady):
            for watcher in self._watchers:
                watcher.ask_soon()

    def _on_fault(self, event: FaultInjected) -> None:
        node_id = NodeId(event.where)
        rotted = Rotted.told(event.detail) if event.kind == "bit_rot" else None
        if rotted is not None:
            content = self._cluster.disks[node_id].durable().get(rotted.path, b"")
            self._rot_reader.rotted(node_id, rotted, content)

    def start(self) -> None:
        for client in self._clients:
            client.start(tuple(self._cluster.configs))

    def retire(self, core: tuple[NodeId, ...]) -> None:
        """Ask only these nodes from now on; a probe also asks them, once a second.

        Where a voter is out of reach nobody waits for all copies any more: little room for waiting requests would be
        taken up by what cannot be answered.
        """
        is_whole = set(self._cluster.sets.voters or self._cluster.options.election_choice().voters) <= set(core)
        for client in self._clients:
            client.node_ids = core
            if isinstance(client, Producer | NumberedProducer) and not is_whole:
                client.acks = tuple(acks for acks in client.acks if acks != "all")
        cluster = self._cluster
        rng = cluster.chance("client/probe")
        self._probe = Producer(
            "probe", cluster.runtime, cluster.calls, rng, self._pace(rng, 1 / PROBE_INTERVAL_S), ("default",)
        )
        self._probe.start(core)

    def ask(self, node_ids: tuple[NodeId, ...]) -> None:
        """Ask only these nodes from now on, the probe included."""
        for client in (*self._clients, *([self._probe] if self._probe is not None else [])):
            client.node_ids = node_ids

    @property
    def probed(self) -> int:
        """How many of the probe's records were acknowledged."""
        return self._probe.produced if self._probe is not None else 0

    def stop(self) -> None:
        """Begin nothing new."""
        for pace in self._paces:
            pace.stop()
