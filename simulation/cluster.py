"""A whole cluster in virtual time: start it, break it, ask it, and let the checkers watch.

    with Cluster(seed=7, nodes=3) as cluster:
        offset = cluster.produce("n1", b"hello")
        cluster.crash("n1", power=True)
        cluster.restart("n1")
        assert cluster.consume("n1", offset) == b"hello"

Methods that wait let virtual time pass; the others take none. If a claim does not hold, the next
method that lets time pass raises Violation.
"""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from random import Random
from types import TracebackType
from typing import Any, Self

from ourolog.actors.actor import Envelope, NodeActor
from ourolog.actors.config import Cycle, NodeConfig
from ourolog.actors.message_names import message_name
from ourolog.actors.messages.election import (
    AddVoter,
    HandedOver,
    HandOver,
    LeaderTransferred,
    RemoveVoter,
    TransferLeader,
    VotersChangeAnswered,
)
from ourolog.actors.messages.events import LeaderChanged, LogAppended, LogCut, LogOpened
from ourolog.actors.messages.membership import LeaveCluster, LeftCluster
from ourolog.actors.messages.observer import NameClashed, NodeEvent, NodeFailed, NodeNotReady, NodeReady
from ourolog.actors.messages.server import StopHolding
from ourolog.actors.messages.values import ReadLevel
from ourolog.actors.node import FAILED_HANDS_OVER_WITHIN_S, HANDS_OVER_WITHIN_S, Node
from ourolog.actors.ports import Ports
from ourolog.actors.stepping import StepLimitError
from ourolog.simulation.calls import ClientCalls
from ourolog.simulation.checker import Checker, Violation
from ourolog.simulation.checkers import default_checkers
from ourolog.simulation.client import Client, Record
from ourolog.simulation.clocks import NodeClock
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.events import (
    DATAGRAMS,
    Event,
    FaultInjected,
    MessageHandled,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    PartitionHealed,
    PartitionMade,
)
from ourolog.simulation.known_sets import KnownSets
from ourolog.simulation.links import Link, links_between, ring
from ourolog.simulation.network import Network, NodeNetwork
from ourolog.simulation.options import Options
from ourolog.simulation.oracle import Oracle
from ourolog.simulation.oracle_election import SIMULATED_OCCUPANTS
from ourolog.simulation.rare_states import RareStates
from ourolog.simulation.run_claims import NO_ACTOR_RAISES
from ourolog.simulation.runtime import SimulatedRuntime
from ourolog.simulation.status import WATCH_INTERVAL_S, NodeStatus, StatusRequests
from ourolog.simulation.stream import EventStream
from ourolog.storage.types import NodeId

SEGMENT_BYTES = 16 * 1024
READY_WITHIN_S = 30.0
LEADS_WITHIN_S = 2.0


class _Observer:
    """The observer of one process of a node."""

    def __init__(self, cluster: Cluster, node_id: NodeId) -> None:
        self._cluster = cluster
        self._node_id = node_id
        self.is_ready = False
        self.serves = False

    def tell(self, event: NodeEvent) -> None:
        if isinstance(event, NodeReady | NodeNotReady):
            self.is_ready = True
            self.serves = isinstance(event, NodeReady)
        self._cluster.node_said(self._node_id, self, event)


class ProcessEnd(StrEnum):
    """How a process has ended by itself.

    POWER_LOSS: its machine has lost power.
    GAVE_UP: its node has said that it must stop.
    """

    POWER_LOSS = "power loss"
    GAVE_UP = "gave up"


class Cluster:
    """Simulated nodes, named n1 to n<nodes>, their disks, and the network between them.

    A `with` block starts all nodes; at its end it runs the final check of every checker.

    seed, nodes, election, cycle, max_hops: as in Options.
    checkers: the claims that are watched; None for all there are.
    observers: called with every event.
    options: instead of seed, nodes, election, cycle and max_hops.
    settings: fields of every node's NodeConfig.
    """

    def __init__(
        self,
        seed: int = 0,
        nodes: int = 3,
        election: str = "none",
        cycle: str = "break",
        max_hops: int = 4,
        *,
        checkers: Sequence[Checker] | None = None,
        observers: Iterable[Callable[[Event], None]] = (),
        options: Options | None = None,
        **settings: Any,
    ) -> None:
        self.options = options or Options(seed, nodes, election, cycle, max_hops, faults=())
        self.states = RareStates()
        self.stream = EventStream(self, default_checkers(self.options) if checkers is None else checkers, self.states)
        for observer in observers:
            self.stream.subscribe(observer)
        self.runtime = SimulatedRuntime(
            self.chance("order"), self._tap, self._on_handled, self._on_power_cut, self._on_bug
        )
        self.stream.now_s = lambda: self.runtime.now_s
        self.emit = self.stream.emit
        self.stream.on_violation = self._halt
        self.network = Network(self.runtime, self.chance("network"), self.emit)
        self.calls = ClientCalls(self.network, self.emit)
        self.configs: dict[NodeId, NodeConfig] = {}
        self.running: dict[NodeId, Node] = {}
        self.disks: dict[NodeId, SimulatedDisk] = {}
        self.clocks: dict[NodeId, NodeClock] = {}
        self.paused: dict[NodeId, None] = {}
        self.on_process_end: Callable[[NodeId, ProcessEnd, str], None] = _nobody_asks
        self._observers: dict[NodeId, _Observer] = {}
        self.stopping: dict[NodeId, list[Any]] = {}
        self._starts: dict[NodeId, int] = {}
        self.sets = KnownSets()
        self._status = StatusRequests(self.runtime)
        self._transfers = itertools.count(1)
        self.decree = self.options.election_choice()
        self.oracle = Oracle(self, self.decree.voters, self.chance("oracle")) if self.options.has_oracle else None
        self._announced: LeaderChanged | None = None
        self._configure(settings)

    def chance(self, purpose: str) -> Random:
        """A random stream for one purpose, so that what one purpose draws does not change the others."""
        return Random(f"{self.options.seed}/{purpose}")  # noqa: S311  # a simulation's, not a secret

    def _configure(self, settings: dict[str, Any]) -> None:
        options = self.options
        names = options.node_ids()
        for node_id in names:
            others = tuple(f"{other}:8401" for other in names if other != node_id)
            self.configs[node_id] = NodeConfig(
                **{
                    "node_id": node_id,
                    "data_dir": "/data",
                    "rpc_addr": f"{node_id}:8400",
                    "gossip_addr": f"{node_id}:8401",
                    "join": others[:4],
                    "election": options.election_choice(),
                    "cycle": Cycle(options.cycle),
                    "max_hops": options.max_hops,
                    "segment_bytes": SEGMENT_BYTES,
                    **settings,
                }
            )
            self.disks[node_id] = SimulatedDisk(
                node_id,
                self.chance(f"disk/{node_id}"),
                self.emit,
                lambda: self.runtime.now_s,
                self.runtime.spend,
            )
            self.clocks[node_id] = NodeClock(self.runtime)

    # ------------------------------------------------------------ as a world

    @property
    def now_s(self) -> float:
        """Virtual seconds since the beginning."""
        return self.runtime.now_s

    @property
    def names(self) -> tuple[NodeId, ...]:
        """All nodes, running or not."""
        return tuple(self.configs)

    @property
    def leader_id(self) -> NodeId | None:
        """The leader, as whoever decides it knows; None if there is none, or none has been found yet."""
        if self.oracle is not None:
            return self.oracle.leader_id
        if self.decree.is_decreed:
            return self.decree.decreed_leader
        return self._announced.leader_id if self._announced is not None else None

    @property
    def is_lead_passed_on(self) -> bool:
        """Whether another node may become leader."""
        return self.options.decrees_change or (self.decree.elects and not self.decree.is_decreed)

    @property
    def are_terms_local(self) -> bool:
        """Whether several nodes that take terms from their own disks may become leader."""
        return self.is_lead_passed_on and self.oracle is None

    @property
    def is_vote_of_disk(self) -> bool:
        """Whether a voter is a node with a certain disk, so that a node with a new disk has no vote."""
        return self.options.is_vote_of_disk

    @property
    def checkers(self) -> tuple[Checker, ...]:
        return self.stream.checkers

    @property
    def trace_hash(self) -> str:
        """The hash of all events so far."""
        return self.stream.trace.hexdigest()

    def durable(self, node_id: NodeId) -> dict[str, bytes]:
        return self.disks[node_id].durable()

    def open_files(self, node_id: NodeId) -> int:
        return self.disks[node_id].open_files

    def subscribe(self, observer: Callable[[Event], None]) -> None:
        """Call the observer with every event from now on."""
        self.stream.subscribe(observer)

    # ------------------------------------------------------------ processes

    def start(self, *names: str, wait: bool = True, **settings: Any) -> None:
        """Start nodes (with no names, all that are not running), and wait until they serve clients."""
        wanted = self._known(names) if names else [node_id for node_id in self.configs if node_id not in self.running]
        for node_id in wanted:
            self.launch(node_id, **settings)
        if wait:
            self.run_until(lambda: all(self.is_ready(node_id) for node_id in wanted), READY_WITHIN_S)
            self._wait_for_decreed_leader(wanted)

    def _wait_for_decreed_leader(self, started: list[NodeId]) -> None:
        """One that finds a majority of the voters leads at once; one that does not is not waited for."""
        asking = [node_id for node_id in started if self.configs[node_id].election.is_decreed]
        with contextlib.suppress(StepLimitError):
            self.run_until(lambda: all(self._observers[node_id].serves for node_id in asking), LEADS_WITHIN_S)

    restart = start

    def configure(self, node_id: NodeId, **settings: Any) -> None:
        """Give a node other settings, from its next start on; `election` may be written as for `--election`."""
        if isinstance(settings.get("election"), str):
            settings["election"] = self.options.choice_of(settings["election"])
        self.configs[node_id] = _replaced(self.configs[node_id], settings)

    def launch(self, node_id: NodeId, **settings: Any) -> None:
        """Start one node's process without waiting."""
        assert node_id not in self.running, f"{node_id} is running"
        if settings:
            self.configure(node_id, **settings)
        config = self.configs[node_id]
        self._starts[node_id] = self._starts.get(node_id, 0) + 1
        network = NodeNetwork(self.network, node_id, config.gossip_addr)
        observer = self._observers[node_id] = _Observer(self, node_id)
        ports = Ports(
            timers=self.clocks[node_id],
            clock=self.clocks[node_id],
            rng=self.chance(f"node/{node_id}/{self._starts[node_id]}"),
            network=network,
            datagrams=network,
            files=self.disks[node_id],
            observer=observer,
        )
        self.emit(NodeStarted(self.now_s, node_id, config))
        node = self.running[node_id] = Node(config, self.runtime, ports, SIMULATED_OCCUPANTS)
        self.network.attach(node_id, node)
        node.start()
        if self.oracle is not None:
            self.oracle.launched(node_id, node)

    def is_ready(self, name: str) -> bool:
        """Whether the node runs and serves clients."""
        node_id = NodeId(name)
        return node_id in self.running and self._observers[node_id].is_ready

    def stop(self, *names: str) -> None:
        """Stop nodes in good order (with no names, all), and wait until they have stopped."""
        wanted = self._known(names) if names else list(self.running)
        for node_id in wanted:
            self.begin_stop(node_id)
        self.run_until(lambda: all(node_id not in self.running for node_id in wanted))

    def begin_stop(self, node_id: NodeId) -> None:
        """Hand over, announce that the node leaves, then end the actors one by one, the store last."""
        if node_id not in self.running or node_id in self.stopping:
            return
        self.resume(node_id)
        node = self.running[node_id]
        self.stopping[node_id] = list(node.refs)
        leaving = _Once(lambda: self._announce_leave(node_id, node))
        self.after(HANDS_OVER_WITHIN_S, leaving)
        node.election.tell(HandOver(1, _Answered(leaving)))

    def _announce_leave(self, node_id: NodeId, node: Node) -> None:
        if self.running.get(node_id) is node:
            node.server.tell(StopHolding())
            node.membership.tell(LeaveCluster(1, _Answered(lambda: self._stop_next(node_id, node))))

    def _stop_next(self, node_id: NodeId, node: Node) -> None:
        left = self.stopping.get(node_id)
        if left is None or self.running.get(node_id) is not node:
            return
        if left:
            self.runtime.begin_stop(left.pop(0), lambda: self._stop_next(node_id, node))
            return
        del self.stopping[node_id]
        self._end(node_id, silently=False)
        self.disks[node_id].end_process()
        self.emit(NodeStopped(self.now_s, node_id))

    def crash(self, name: str, *, power: bool = False) -> None:
        """End the node's process where it stands.

        power: whether the machine goes with it, and all writes that are not synced.
        """
        (node_id,) = self._known((name,))
        node = self.running.get(node_id)
        if node is None:
            return
        for ref in node.refs:
            self.runtime.kill(ref)
        self.stopping.pop(node_id, None)
        self._end(node_id, silently=power)
        disk = self.disks[node_id]
        if power:
            disk.lose_power()
        else:
            disk.end_process()
        self.emit(NodeCrashed(self.now_s, node_id, power))

    def _end(self, node_id: NodeId, *, silently: bool) -> None:
        del self.running[node_id]
        self.paused.pop(node_id, None)
        self.runtime.forget(node_id)
        self.runtime.set_slowness(node_id, None)
        self.network.detach(node_id, silently=silently)

    def wipe(self, name: str) -> None:
        """Replace the disk of a node that is not running with an empty one."""
        (node_id,) = self._known((name,))
        assert node_id not in self.running, "the disk of a running node is not replaced"
        self.disks[node_id].format()
        self.sets.lost(node_id)
        self.emit(FaultInjected(self.now_s, "disk_lost", node_id))

    def pause(self, name: str) -> None:
        """Pause the node, as SIGSTOP would."""
        (node_id,) = self._known((name,))
        if node_id in self.running and node_id not in self.paused:
            self.paused[node_id] = None
            self.runtime.pause(node_id)
            self.emit(NodePaused(self.now_s, node_id))

    def resume(self, name: str) -> None:
        (node_id,) = self._known((name,))
        if node_id in self.paused:
            del self.paused[node_id]
            self.runtime.resume(node_id)
            self.emit(NodeResumed(self.now_s, node_id))

    # ------------------------------------------------------------ partitions

    def partition(self, *groups: Iterable[str] | str) -> None:
        """Let nothing pass between groups of nodes; a single name is a group. The remaining nodes form one more."""
        named = [self._known((group,) if isinstance(group, str) else tuple(group)) for group in groups]
        rest = [node_id for node_id in self.configs if not any(node_id in group for group in named)]
        sides = [*named, rest] if rest else named
        self.block("halves" if len(sides) == 2 else "groups", links_between(sides))

    def isolate(self, name: str) -> None:
        """Cut one node off from all others."""
        (node_id,) = self._known((name,))
        rest = [other for other in self.configs if other != node_id]
        self.block("isolate", links_between([[node_id], rest]))

    def cut(self, source: str, target: str) -> None:
        """Let nothing pass from one node to another; the opposite direction stays open."""
        source_id, target_id = self._known((source, target))
        self.block("one-way", ((source_id, target_id),))

    def partition_ring(self) -> None:
        """Let each node talk to its neighbours only, so that majorities overlap."""
        self.block("ring", ring(list(self.configs)))

    def block(self, shape: str, links: Sequence[Link]) -> None:
        self.network.links.block(links)
        blocked = tuple((NodeId(source), NodeId(target)) for source, target in links)
        self.emit(PartitionMade(self.now_s, shape, blocked))

    def transfer_lead(self, leader: str, to: str | None = None) -> None:
        """Tell a node to let another voter lead, the given one or whoever is furthest; what comes of it is its own."""
        (node_id,) = self._known((leader,))
        asked = TransferLeader(next(self._transfers), NodeId(to) if to else None, _Answered(lambda: None))
        self.running[node_id].election.tell(asked)

    def change_voters(self, node: str, voter: str, *, is_addition: bool) -> None:
        """Ask a node to add or remove a voter, as a person does; what comes of it is its own."""
        (node_id,) = self._known((node,))
        command = AddVoter if is_addition else RemoveVoter
        asked = command(next(self._transfers), NodeId(voter), _ChangeAnswered(self.states))
        self.running[node_id].election.tell(asked)

    def filter_datagrams(self, name: str) -> None:
        """Drop all gossip to and from a node, until `heal`; calls go on."""
        (node_id,) = self._known((name,))
        rest = [other for other in self.configs if other != node_id]
        links = links_between([[node_id], rest])
        self.network.links.filter_datagrams(links)
        filtered = tuple((NodeId(source), NodeId(target)) for source, target in links)
        self.emit(PartitionMade(self.now_s, DATAGRAMS, filtered))

    def heal(self) -> None:
        """End every partition."""
        if self.network.links.is_any_blocked:
            self.network.links.unblock_all()
            self.emit(PartitionHealed(self.now_s))

    # ------------------------------------------------------------ asking

    def client(self, name: str = "app", *, timeout_s: float = 5.0) -> Client:
        """A client for an application's code, in place of a real one; when it waits, virtual time passes."""
        return Client(name, self, timeout_s)

    def produce(self, name: str, value: bytes | str, *, acks: str = "default") -> int:
        """Append one record at that node and return its offset. Raises what `Client.produce` raises."""
        return Client("console", self, 5.0, (NodeId(name),), attempts=1).produce(value, acks=acks)

    def consume(self, name: str, offset: int, *, read: ReadLevel = ReadLevel.COMMITTED) -> bytes:
        """The record at that offset of that node. Raises what `Client.consume` raises."""
        return Client("console", self, 5.0, (NodeId(name),), attempts=1).consume(offset, read=read)

    def records(self, name: str, offset: int = 0) -> list[Record]:
        """All records that a reader of that node gets from `offset` to the end."""
        return list(Client("console", self, 5.0, (NodeId(name),), attempts=1).records(offset))

    def status(self, name: str) -> NodeStatus:
        """The node's status, as it reports it."""
        (node_id,) = self._known((name,))
        return self._status.ask(self.running[node_id])

    def watch(self) -> None:
        """Ask every replicator for its status at intervals from now on; the answers are in the stream of events."""
        for node_id, node in self.running.items():
            if node_id not in self.stopping:
                self._status.ask_replicator(node)
        self.after(WATCH_INTERVAL_S, self.watch)

    def pulls(self) -> dict[str, tuple[str, ...]]:
        """The present pull graph: for each running node, the nodes that it pulls from."""
        return {
            node_id: tuple(pull.source_id for pull in self.status(node_id).replicator.pulls) for node_id in self.running
        }

    # ------------------------------------------------------------ time

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass. Raises Violation."""
        self.runtime.run_for(seconds)
        self._raise_if_halted()

    def run_until(self, happened: Callable[[], bool], timeout_s: float = 60.0) -> None:
        """Let time pass until `happened()`. Raises StepLimitError after timeout_s, and Violation."""
        self.runtime.run_until(happened, timeout_s)
        self._raise_if_halted()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, for instance break something while an application is being run."""
        self.runtime.call_later(delay_s, action)

    def finish(self) -> None:
        """Run the final check of every checker. Raises Violation."""
        self._raise_if_halted()
        self.stream.finish()
        self._raise_if_halted()

    def close(self) -> None:
        """Release everything; nothing is written any more."""
        for node in self.running.values():
            for ref in node.refs:
                self.runtime.kill(ref)
        self.running.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self.close()

    # ------------------------------------------------------------ what the runtime and the nodes tell

    def _tap(self, envelope: Envelope) -> None:
        if isinstance(envelope.message, LogOpened | LogAppended | LogCut):
            self.sets.note(NodeId(envelope.sender.rpartition(".")[0]), envelope.message)
        by_timer = not envelope.sender and envelope.message is self.runtime.fired
        self.emit(MessageTold(self.runtime.now_s, envelope.sender, envelope.receiver, envelope.message, by_timer))

    def _on_handled(self, receiver: str, message: object) -> None:
        self.emit(MessageHandled(self.runtime.now_s, receiver, message))

    def _on_power_cut(self, node_id: NodeId) -> None:
        self.emit(FaultInjected(self.now_s, "power_loss", node_id, "in the middle of a write", is_mid_write=True))
        self.crash(node_id, power=True)
        self.on_process_end(node_id, ProcessEnd.POWER_LOSS, "power loss")

    def _on_bug(self, actor: NodeActor, message: object, error: Exception) -> None:
        *_, last = traceback.extract_tb(error.__traceback__)
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno} in {last.name}"
        detail = f"{actor.me.name} raised {type(error).__name__}: {error} ({where}) at a {message_name(message)}"
        violation = NO_ACTOR_RAISES.violated(detail, self.now_s)
        violation.__cause__ = error
        self.violated(violation)

    def node_said(self, node_id: NodeId, observer: _Observer, event: NodeEvent) -> None:
        """Take what the observer of a node's process was told."""
        if self._observers.get(node_id) is not observer:
            return
        if isinstance(event, LeaderChanged):
            known = self._announced
            if known is None or event.term > known.term or (event.term == known.term and known.leader_id is None):
                self._announced = event
        self.emit(NodeSaid(self.now_s, node_id, event))
        if isinstance(event, NodeFailed | NameClashed):
            node = self.running.get(node_id)

            def end() -> None:
                # The process ends itself, as the service does; the machine keeps running.
                if node is not None and self.running.get(node_id) is node:
                    self.crash(node_id)
                    self.on_process_end(
                        node_id, ProcessEnd.GAVE_UP, event.reason if isinstance(event, NodeFailed) else "name clashed"
                    )

            if node is not None:
                ending = _Once(lambda: self.after(0.01, end))
                self.after(FAILED_HANDS_OVER_WITHIN_S, ending)
                node.election.tell(HandOver(1, _Answered(ending)))

    def violated(self, violation: Violation) -> None:
        """Record a violation that was found by something other than a checker."""
        self.stream.violated(violation)

    def _halt(self, violation: Violation) -> None:
        if self.runtime.halted is None:
            self.runtime.halted = violation

    def _raise_if_halted(self) -> None:
        if self.runtime.halted is not None:
            raise self.runtime.halted

    def _known(self, names: Iterable[str]) -> list[NodeId]:
        """The names as node ids. Raises ValueError for a name that no node has."""
        known = [NodeId(name) for name in names]
        for node_id in known:
            if node_id not in self.configs:
                raise ValueError(f"there is no node {node_id!r}: the nodes are {', '.join(self.configs)}")
        return known


def _nobody_asks(*_: object) -> None:
    """Do nothing: no operator handles processes that ended by themselves."""


class _Answered:
    """Is told that a node has done what it was told to do."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def tell(self, _: HandedOver | LeaderTransferred | LeftCluster) -> None:
        self._then()


class _ChangeAnswered:
    """The mailbox of a person who wants other voters."""

    def __init__(self, states: RareStates) -> None:
        self._states = states

    def tell(self, answered: VotersChangeAnswered) -> None:
        self._states.change_answered(answered)


class _Once:
    """Calls an action the first time it is called, and never again."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def __call__(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


def _replaced(config: NodeConfig, settings: dict[str, Any]) -> NodeConfig:
    return replace(config, **settings)
