"""How long a cluster is without a leader: one that is killed, frozen, or restarted in good order; and idle cost.

Three nodes, each a process of its own; clients that know all of them produce one record after the other all
the time. Each round does one thing to the node that leads, and ends when all nodes are well again. A
round that loses a record which was acknowledged breaks the benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import count, pairwise
from random import Random
from typing import Any, Final

import grpc

from bench.nodes import FLAGS, fresh_directory
from bench.processes import cpu_s
from bench.report import Report, number
from bench.rounds import Settings
from ourolog.actors.messages.values import Acks
from ourolog.local_cluster import LocalCluster, LogLine, NodeProcess
from ourolog.rpc.channels import open_channel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

KILL: Final = "kill -9 of the leader to the next acknowledged record"
KILL_LED: Final = "kill -9 of the leader to the next one that leads"
FREEZE: Final = "SIGSTOP of the leader to the next acknowledged record"
FREEZE_LED: Final = "SIGSTOP of the leader to the next one that leads"
RESTART: Final = "restart of the leader (SIGTERM): longest pause between acknowledgements"
FAILED: Final = "restart of the leader (SIGTERM): produces that failed"
IDLE: Final = "idle: processor time of the busiest node"
_NO_FAULT: Final = "no fault: longest pause between acknowledgements"

_GROUP: Final = "failover"
_NODES: Final = 3
_CLIENTS: Final = 4
_PAUSE_S: Final = 0.005
_CALL_S: Final = 10.0
_BEFORE_S: Final = (0.5, 0.9)
_AFTER_S: Final = 0.3
_GIVE_UP_S: Final = 30.0
_THAW_AFTER_S: Final = 0.5
_ASK_EVERY_S: Final = 0.02
_REST_S: Final = 1.0


class LostError(Exception):
    """A record that was acknowledged is not where it was said to be."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A record that was acknowledged, and when its produce was called and returned."""

    called_s: float
    returned_s: float
    offset: int
    value: bytes


@dataclass(slots=True)
class Clients:
    """Clients that produce one record after the other, each with a connection of its own; a context that ends them.

    addresses: of all nodes.
    name: what their values begin with.
    acknowledged: every record that was, in the order of its acknowledgement.
    failures: when produces failed, and with what.
    """

    addresses: list[str]
    name: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Clients:
        self._tasks = [asyncio.create_task(self._produce(number)) for number in range(_CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next_after(self, at_s: float) -> Acknowledged:
        """The first acknowledgement of a produce that was called after that."""

        def found() -> list[Acknowledged]:
            return [one for one in self.acknowledged if one.called_s >= at_s]

        async with asyncio.timeout(_GIVE_UP_S), self._changed:
            await self._changed.wait_for(found)
            return min(found(), key=lambda one: one.returned_s)

    def longest_pause_s(self, since_s: float, until_s: float) -> float:
        """The longest time between two acknowledgements, from the last one before `since_s` on."""
        times = sorted(one.returned_s for one in self.acknowledged if one.returned_s <= until_s)
        last = max((at_s for at_s in times if at_s <= since_s), default=since_s)
        times = [last, *(at_s for at_s in times if at_s > since_s), until_s]
        return max(later - earlier for earlier, later in pairwise(times))

    async def _produce(self, at: int) -> None:
        addresses = [*self.addresses[at % _NODES :], *self.addresses[: at % _NODES]]
        async with LogClient(addresses, timeout_s=_CALL_S) as client:
            for number_sent in count():
                await self._store(client, f"{self.name} {at} {number_sent}".encode())
                await asyncio.sleep(_PAUSE_S)

    async def _store(self, client: LogClient, value: bytes) -> None:
        called_s = time.monotonic()
        try:
            offset = await client.produce(value, acks=Acks.QUORUM)
        except LogError as error:
            self.failures.append((time.monotonic(), f"{error.code} {error.reason}: {error}"))
            return
        self.acknowledged.append(Acknowledged(called_s, time.monotonic(), offset, value))
        async with self._changed:
            self._changed.notify_all()


@dataclass(slots=True)
class _Round:
    """What one round works with.

    cluster: whose leader suffers.
    leader: the node that leads when the round begins.
    clients: that produce meanwhile.
    report: where the figures go.
    is_elected: whether another node leads then; with a decreed leader it has to come back itself.
    """

    cluster: _Cluster
    leader: NodeProcess
    clients: Clients
    report: Report
    is_elected: bool

    def add_led(self, name: str, since_s: float) -> None:
        """Note how long it took from then until another node said that it leads."""
        led_at_s = [at_s for at_s, by in self.cluster.led if at_s >= since_s and by != self.leader.node_id]
        if led_at_s:
            self.add(name, (min(led_at_s) - since_s) * 1e3)

    def add(self, name: str, value: float, unit: str = "ms") -> None:
        self.report.series(name, unit, group=_GROUP).add(value)


async def _kill(now: _Round) -> None:
    at_s = time.monotonic()
    now.leader.send_signal(signal.SIGKILL)
    if not now.is_elected:
        await _start_again(now)
    first = await now.clients.next_after(at_s)
    now.add(KILL, (first.returned_s - at_s) * 1e3)
    now.add_led(KILL_LED, at_s)
    if now.is_elected:
        await _start_again(now)


async def _freeze(now: _Round) -> None:
    at_s = time.monotonic()
    now.leader.send_signal(signal.SIGSTOP)
    try:
        if not now.is_elected:
            await asyncio.sleep(_THAW_AFTER_S)
            now.leader.send_signal(signal.SIGCONT)
        first = await now.clients.next_after(at_s)
        now.add(FREEZE, (first.returned_s - at_s) * 1e3)
        now.add_led(FREEZE_LED, at_s)
        await asyncio.sleep(_THAW_AFTER_S)
    finally:
        now.leader.send_signal(signal.SIGCONT)


async def _restart(now: _Round) -> None:
    at_s = time.monotonic()
    now.add(_NO_FAULT, now.clients.longest_pause_s(at_s - _BEFORE_S[0] / 2, at_s) * 1e3)
    now.leader.terminate()
    status = await asyncio.to_thread(now.leader.wait)
    if status:
        raise RuntimeError(f"{now.leader.node_id} ended with status {status} after SIGTERM")
    await _start_again(now)
    over_s = (await now.clients.next_after(time.monotonic())).returned_s
    now.add(RESTART, now.clients.longest_pause_s(at_s, over_s) * 1e3)
    failed = [text for failed_s, text in now.clients.failures if failed_s >= at_s]
    now.add(FAILED, len(failed), "produces")
    if failed:
        now.report.progress(f"failed: {failed[0]}")


async def _start_again(now: _Round) -> None:
    await asyncio.to_thread(now.leader.wait)
    now.leader.start(now.cluster.seeds_of(now.leader))
    await asyncio.to_thread(now.leader.wait_for, "ready")


_CASES: Final[Mapping[str, Callable[[_Round], Coroutine[Any, Any, None]]]] = {
    "kill": _kill,
    "freeze": _freeze,
    "restart": _restart,
}


async def failover(settings: Settings, report: Report) -> None:
    """Rounds of each kind in turn, then the idle cluster."""
    is_elected = settings.election.partition(":")[0] not in {"static", "none"}
    rng = Random(0)
    async with _nodes(settings) as cluster:
        kept: dict[int, bytes] = {}
        for turn in range(settings.failovers):
            for name, act in _CASES.items():
                report.progress(f"failover, round {turn + 1} of {settings.failovers}: {name}")
                leader = cluster[await _well(cluster)]
                addresses = [node.rpc_addr for node in cluster]
                async with Clients(addresses, f"{name} {turn}") as clients:
                    await clients.next_after(time.monotonic())
                    await asyncio.sleep(rng.uniform(*_BEFORE_S))
                    await act(_Round(cluster, leader, clients, report, is_elected))
                    await asyncio.sleep(_AFTER_S)
                kept |= {one.offset: one.value for one in clients.acknowledged}
                await _well(cluster)
                await _check_kept(cluster, clients, {one.offset: one.value for one in clients.acknowledged})
        await _idle(cluster, settings, report)
        await _check_kept(cluster, None, kept)
    if is_elected:
        _targets(report)


def _targets(report: Report) -> None:
    for name, limit, unit, what in (
        (KILL, 500.0, "ms", "kill -9 of the leader"),
        (FREEZE, 1500.0, "ms", "SIGSTOP of the leader"),
        (RESTART, 300.0, "ms", "restart of the leader: pause"),
        (FAILED, 0.0, "", "restart of the leader: failed produces"),
        (IDLE, 2.0, "%", "idle node: of one core"),
    ):
        median = report.all[name].median
        wanted = f"<= {limit:g} {unit}".rstrip()
        report.target(what, f"{number(median)} {unit}".rstrip(), wanted, met=median <= limit)


async def _idle(cluster: LocalCluster, settings: Settings, report: Report) -> None:
    """Processor time of each node while nobody asks for anything."""
    report.progress(f"failover: the idle cluster for {settings.idle_s:g} s")
    await asyncio.sleep(_REST_S)
    before = {node.node_id: cpu_s([node.pid]) for node in cluster}
    began_s = time.monotonic()
    await asyncio.sleep(settings.idle_s)
    took_s = time.monotonic() - began_s
    shares = {node.node_id: (cpu_s([node.pid]) - before[node.node_id]) / took_s * 100 for node in cluster}
    note = ", ".join(f"{name} {share:.1f} %" for name, share in shares.items())
    report.series(IDLE, "% of a core", group=_GROUP, note=note).add(max(shares.values()))


# ------------------------------------------------------------ the cluster


class _Cluster(LocalCluster):
    """Nodes whose word is kept that they lead.

    led: when each of them said so.
    """

    def __init__(self, directory: str, flags: tuple[str, ...]) -> None:
        super().__init__(directory, _NODES, flags=flags, on_log=self._note)
        self.led: list[tuple[float, str]] = []

    def _note(self, line: LogLine) -> None:
        if line.event == "leader_changed" and line.fields.get("leader") == line.node_id:
            self.led.append((time.monotonic(), line.node_id))


@contextlib.asynccontextmanager
async def _nodes(settings: Settings) -> AsyncIterator[_Cluster]:
    async with fresh_directory(settings.directory) as data:
        flags = (*FLAGS, "--acks", "quorum", "--election", settings.election)
        cluster = _Cluster(data, flags)
        try:
            await asyncio.to_thread(cluster.start)
            await asyncio.to_thread(cluster.wait_until_joined)
            yield cluster
        finally:
            for node in cluster:
                node.send_signal(signal.SIGCONT)
            await asyncio.to_thread(cluster.stop)


async def _well(cluster: LocalCluster) -> str:
    """Wait until every node follows the same leader and has all that is committed; the leader."""
    give_up_at_s = time.monotonic() + _GIVE_UP_S
    while True:
        found = [await _status(node.rpc_addr) for node in cluster]
        seen = {(one.leader, one.term, one.committed_index) for one in found}
        if len(seen) == 1 and found[0].leader and not any(one.not_ready for one in found):
            return found[0].leader
        if time.monotonic() > give_up_at_s:
            shown = ", ".join(
                f"{one.node_id} follows {one.leader or 'nobody'} in term {one.term}, committed {one.committed_index}"
                + (f" ({one.not_ready})" if one.not_ready else "")
                for one in found
            )
            raise RuntimeError(f"{_GIVE_UP_S:g} s after a round the nodes do not agree: {shown}")
        await asyncio.sleep(_ASK_EVERY_S)


async def _status(addr: str) -> pb.GetStatusResponse:
    async with open_channel(addr) as channel:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return await pb_grpc.LogStub(channel).GetStatus(pb.GetStatusRequest(), timeout=5)
    return pb.GetStatusResponse()


async def _check_kept(cluster: LocalCluster, clients: Clients | None, acknowledged: Mapping[int, bytes]) -> None:
    """Every acknowledged record is in every node's log at its offset. Raises LostError."""
    if not acknowledged:
        raise LostError("nothing was acknowledged in this round")
    if clients is not None and len(acknowledged) != len(clients.acknowledged):
        raise LostError("two records were acknowledged for one offset")
    for node in cluster:
        held: dict[int, bytes] = {}
        async with LogClient(node.rpc_addr) as client:
            async for record in client.consume_stream(min(acknowledged), stop_at_end=True):
                held[record.offset] = record.value
        lost = [offset for offset, value in sorted(acknowledged.items()) if held.get(offset) != value]
        if lost:
            raise LostError(f"{len(lost)} acknowledged records are not in {node.node_id}'s log, the first at {lost[0]}")
