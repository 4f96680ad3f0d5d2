"""The demonstration of `ourolog cycle`, in four parts. Nothing sleeps for effect: each waits for what it claims."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from ourolog.cycle_narration import Narration
from ourolog.local_cluster import ClusterError, LocalCluster
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_types import LogRecord
from ourolog.rpc.cluster_status import cluster_status

T = TypeVar("T")

MAX_HOPS: Final = 8
_WAIT_S: Final = 15.0
_POLL_S: Final = 0.02
_VALUE: Final = b"foo"
_BEFORE_THE_KILL: Final = 20
_AFTER_THE_KILL: Final = 20


async def run_demo(narration: Narration | None = None) -> bool:
    """Run all parts; True if all their claims were seen."""
    narration = narration or Narration()
    narration.tell("One record, real nodes, real sockets: what becomes of it? Arrows show where records flow.")
    for part in (allowed, broken, led, elected):
        try:
            await part(narration)
        except (ClusterError, LogError, OSError, TimeoutError) as error:
            narration.check("this part could be shown to its end", False, str(error))
    return narration.end()


async def allowed(narration: Narration) -> None:
    """The cycle as in the book: two servers that discover each other copy each other's copies."""
    flags = ("--election", "none", "--cycle", "allow", "--max-hops", str(MAX_HOPS))
    narration.chapter(1, "Nobody leads, every copy counts as new", " ".join(flags))
    async with _cluster(2, *flags) as cluster:
        await _show_graph(narration, cluster, "the two discovered each other, and each pulls from the other")
        offset = await _produce(cluster, "n1")
        narration.tell(f'"foo" is produced once, to n1: offset {offset}.')
        copies = await _until(lambda: _copies(cluster), lambda found: len(found) > MAX_HOPS)
        for node_id, record in copies:
            narration.tell(f"      {node_id} offset {record.offset:<3} came by {' -> '.join(_path(record))}")
        narration.check(
            "one record in, many out, until the hop limit ends it",
            len(copies) == MAX_HOPS + 1,  # the record itself, and a copy a hop
            f"{len(copies)} records, {' and '.join(_counts(cluster, copies))}",
        )
        lengths = [len(_path(record)) for _, record in copies]
        narration.check(
            "each copy went one node further than the one before",
            lengths == list(range(1, len(copies) + 1)),
            f"paths of {lengths[0]} to {lengths[-1]} nodes",
        )
        seen = await asyncio.to_thread(cluster["n1"].wait_for, "cycle_seen", _WAIT_S)
        narration.check(
            "n1 noticed that it copies what it already had",
            not seen.fields["broken"],
            f"cycle seen, {' -> '.join(seen.fields['path'])}",
        )


async def broken(narration: Narration) -> None:
    """The cycle broken: each node appends each identity once."""
    narration.chapter(2, "Nobody leads, what comes back is dropped", "--election none --cycle break")
    async with _cluster(3, "--election", "none", "--cycle", "break") as cluster:
        await _show_graph(narration, cluster, "everyone pulls from everyone: the same cycles, and more of them")
        offset = await _produce(cluster, "n1")
        narration.tell(f'"foo" is produced once, to n1: offset {offset}.')
        status = await _until(lambda: _status(cluster), _has_settled)
        narration.check(
            "its copies came back to n1, and were dropped",
            bool(status["nodes"][0]["cycles_seen"]),
            f"{status['nodes'][0]['cycles_seen']} cycles seen by n1",
        )
        narration.check(
            "nothing is left to pull, so nothing more will come",
            _has_settled(status),
            f"{sum(len(node['pulls']) for node in status['nodes'])} pulls, each with lag 0",
        )
        copies = await _copies(cluster)
        for node_id, record in copies:
            narration.tell(f"      {node_id} offset {record.offset:<3} came by {' -> '.join(_path(record))}")
        narration.check(
            "one record stays one, on every node",
            [node_id for node_id, _ in copies] == ["n1", "n2", "n3"],
            " and ".join(_counts(cluster, copies)),
        )


async def led(narration: Narration) -> None:
    """A leader: the pull graph is a star, which has no cycle to break."""
    narration.chapter(3, "n1 leads, everyone else pulls from it", "--election static:n1,n2,n3")
    async with _cluster(3, "--election", "static:n1,n2,n3") as cluster:
        await _show_graph(narration, cluster, "the pulls form a star: no cycle is possible", leader="n1")
        offset = await _produce(cluster, "n1")
        narration.tell(f'"foo" is produced once, to n1: offset {offset}.')
        leaders = [await _leader_by(node.rpc_addr) for node in cluster]
        narration.check(
            "everyone knows who takes produces",
            leaders == ["n1"] * len(leaders),
            ", ".join(f"{node.node_id} names {leader}" for node, leader in zip(cluster, leaders, strict=True)),
        )
        wanted = f'"{_VALUE.decode()}"'
        for node in cluster:
            answer = await _until(partial(_answer_to_consume, node.rpc_addr, offset), wanted.__eq__)
            narration.check(f"{node.node_id} has it", answer == wanted, f"Consume({offset}) answers {answer}")
            answer = await _answer_to_consume(node.rpc_addr, offset + 1)
            narration.check(
                f"{node.node_id} has nothing after it",
                answer == "OUT_OF_RANGE",
                f"Consume({offset + 1}) answers {answer}",
            )


async def elected(narration: Narration) -> None:
    """An elected leader: when the centre of the star dies there is a new one, and the log goes on."""
    flags = ("--election", "raft:n1,n2,n3")
    narration.chapter(4, "The nodes elect a leader, and it is killed", " ".join(flags))
    async with _cluster(3, *flags) as cluster:
        first = await _until(lambda: _status(cluster), _is_agreed)
        old = first["leader"] or "nobody"
        narration.check(
            "all of them name the same leader",
            _is_agreed(first),
            f"{old}, in term {first['term']}",
        )
        await _show_graph(narration, cluster, "the pulls form a star", leader=old)
        async with _Producer(cluster) as producer:
            narration.tell(f'"{producer.name(1)}", "{producer.name(2)}" and so on are produced to whoever leads.')
            await producer.until_acknowledged(_BEFORE_THE_KILL)
            before = len(producer.acknowledged)
            narration.tell(f"After {before} of them: kill -9 of {old}.")
            await asyncio.to_thread(cluster[old].kill)
            killed_s = time.monotonic()
            await producer.until_acknowledged(before + _AFTER_THE_KILL)
        last = await _until(lambda: _status(cluster), lambda found: _is_agreed(found, without=old))
        new = last["leader"] or "nobody"
        narration.check(
            "another one leads, in a new term",
            new not in (old, "nobody") and last["term"] > first["term"],
            f"{new}, in term {last['term']}",
        )
        narration.check(
            "the producer went on by itself",
            len(producer.acknowledged) >= before + _AFTER_THE_KILL,
            f"{len(producer.acknowledged) - before} more, the first {producer.pause_s(killed_s):.2f} s after the kill",
        )
        narration.tell(f"{old} is started again.")
        await asyncio.to_thread(cluster.restart, old)
        await _show_graph(narration, cluster, f"{old} pulls from {new} now: a star again", leader=new)
        await _check_logs(narration, cluster, producer)


async def _check_logs(narration: Narration, cluster: LocalCluster, producer: _Producer) -> None:
    """What became of the records, on each of the nodes."""

    async def logs() -> dict[str, list[str]]:
        found = await _copies(cluster)
        return {
            node.node_id: [record.value.decode() for name, record in found if name == node.node_id] for node in cluster
        }

    complete = max(producer.acknowledged) + 1
    found = await _until(logs, lambda found: all(len(log) >= complete for log in found.values()))
    everything = found["n1"]
    lost = [value for offset, value in producer.acknowledged.items() if everything[offset : offset + 1] != [value]]
    for value in sorted(producer.unknown):
        fate = "is in the log, too" if value in everything else "is not in the log"
        narration.tell(f'"{value}" was on its way to the killed node, and was not answered: it {fate}.')
    kept = len(producer.acknowledged) - len(lost)
    narration.check(
        "nothing that was acknowledged is lost",
        not lost,
        f"{kept} of {len(producer.acknowledged)} are where they were said to be",
    )
    narration.check(
        "each record is there once, without a hole",
        len(set(everything)) == len(everything) and set(everything) <= producer.sent,
        f"offsets 0 to {len(everything) - 1}",
    )
    narration.check(
        "one order, on every node",
        all(log == everything for log in found.values()),
        f"the same {len(everything)} records on {sum(log == everything for log in found.values())} of 3 nodes",
    )


class _Producer:
    """Produces one record after the other, to whoever leads, while it is open.

    acknowledged: what was, by its offset.
    unknown: what may be in the log or not, since its node was lost.
    """

    def __init__(self, cluster: LocalCluster) -> None:
        self._client = LogClient([node.rpc_addr for node in cluster], timeout_s=_WAIT_S)
        self._changed = asyncio.Event()
        self._times_s: list[float] = []
        self._count = 0
        self.acknowledged: dict[int, str] = {}
        self.unknown: set[str] = set()

    async def __aenter__(self) -> _Producer:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()

    @staticmethod
    def name(number: int) -> str:
        """What the record of that number holds."""
        return f"foo {number}"

    @property
    def sent(self) -> set[str]:
        """Everything that may be in the log."""
        return {self.name(number + 1) for number in range(self._count)}

    def pause_s(self, since_s: float) -> float:
        """How long after that time the next record was acknowledged."""
        return next((at_s - since_s for at_s in self._times_s if at_s > since_s), float("inf"))

    async def until_acknowledged(self, count: int) -> None:
        """Return once so many records were. Raises LogError or TimeoutError if that does not come about."""
        async with asyncio.timeout(_WAIT_S):
            while len(self.acknowledged) < count and not self._task.done():
                self._changed.clear()
                await self._changed.wait()
        if self._task.done():
            self._task.result()

    async def _run(self) -> None:
        try:
            while True:
                self._count += 1
                value = self.name(self._count)
                try:
                    offset = await self._client.produce(value.encode())
                except LogError as error:
                    if not error.outcome_unknown:
                        raise
                    self.unknown.add(value)
                else:
                    self._times_s.append(time.monotonic())
                    self.acknowledged[offset] = value
                self._changed.set()
        finally:
            self._changed.set()


@asynccontextmanager
async def _cluster(nodes: int, *flags: str) -> AsyncIterator[LocalCluster]:
    with tempfile.TemporaryDirectory(prefix="ourolog-cycle-") as directory:
        cluster = LocalCluster(directory, nodes, flags=flags)
        try:
            await asyncio.to_thread(cluster.start)
            yield cluster
        finally:
            cluster.stop()


async def _show_graph(narration: Narration, cluster: LocalCluster, claim: str, *, leader: str | None = None) -> None:
    """Wait until the pulls are those expected with that leader, or with none, and draw the actual ones."""
    names = [node.node_id for node in cluster]
    expected = {
        name: sorted(other for other in names if other != name and (leader is None or other == leader))
        for name in names
        if name != leader
    }
    expected = {name: expected.get(name, []) for name in names}
    found = await _until(lambda: _pulls(cluster), lambda graph: graph == expected)
    narration.draw(found)
    narration.check(
        claim, found == expected, ", ".join(f"{name} <- {' and '.join(found[name]) or 'nobody'}" for name in names)
    )


async def _pulls(cluster: LocalCluster) -> dict[str, list[str]]:
    status = await _status(cluster)
    return {node["id"]: sorted(pull["from"] for pull in node["pulls"] or ()) for node in status["nodes"]}


async def _status(cluster: LocalCluster) -> dict[str, Any]:
    return await cluster_status([node.rpc_addr for node in cluster if node.is_running], timeout_s=_WAIT_S)


def _is_agreed(status: dict[str, Any], *, without: str = "") -> bool:
    """Whether all nodes but that one name one leader, another one, in one term."""
    views = [(node["leader"], node["term"]) for node in status["nodes"] if node["id"] != without]
    leader = status["leader"]
    return leader not in (None, without) and views == [(leader, status["term"])] * len(views)


def _has_settled(status: dict[str, Any]) -> bool:
    """Whether every node has pulled all that every other one has, including the record."""
    nodes = status["nodes"]
    came_back = nodes[0]["cycles_seen"] == len(nodes) - 1  # once from each that copied it from n1
    return came_back and all(
        node["end_offset"]
        and len(node["pulls"]) == len(nodes) - 1
        and all(pull["lag"] == 0 and pull["next_offset"] != 0 for pull in node["pulls"])
        for node in nodes
    )


async def _produce(cluster: LocalCluster, node_id: str) -> int:
    async with LogClient(cluster[node_id].rpc_addr, timeout_s=_WAIT_S) as client:
        return await client.produce(_VALUE)


async def _copies(cluster: LocalCluster) -> list[tuple[str, LogRecord]]:
    """All records of all nodes, those with the shortest path first."""
    found: list[tuple[str, LogRecord]] = []
    for node in cluster:
        async with LogClient(node.rpc_addr, timeout_s=_WAIT_S) as client:
            found += [
                (node.node_id, record) async for record in client.consume_stream(0, provenance=True, stop_at_end=True)
            ]
    return sorted(found, key=lambda copy: (len(_path(copy[1])), copy[0], copy[1].offset))


def _path(record: LogRecord) -> Sequence[str]:
    assert record.provenance is not None, "it was asked for"
    return record.provenance.path


def _counts(cluster: LocalCluster, copies: Sequence[tuple[str, LogRecord]]) -> list[str]:
    return [f"{sum(1 for name, _ in copies if name == node.node_id)} on {node.node_id}" for node in cluster]


async def _answer_to_consume(addr: str, offset: int) -> str:
    """The record's value in quotes, or the name of the status code."""
    async with LogClient(addr, timeout_s=_WAIT_S) as client:
        try:
            return f'"{(await client.consume(offset)).value.decode()}"'
        except LogError as error:
            return error.code


async def _leader_by(addr: str) -> str:
    """The leader, according to the node at this address."""
    async with LogClient(addr, timeout_s=_WAIT_S) as client:
        return next((server.node_id for server in await client.get_servers() if server.is_leader), "nobody")


async def _until(look: Callable[[], Awaitable[T]], is_it: Callable[[T], bool]) -> T:
    """Look until it is so or the time is up; returns what was seen last, for the claim to judge."""
    deadline_s = time.monotonic() + _WAIT_S
    while True:
        found = await look()
        if is_it(found) or time.monotonic() > deadline_s:
            return found
        await asyncio.sleep(_POLL_S)
