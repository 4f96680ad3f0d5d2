"""The demonstration of `ourolog cycle`, in three parts. Nothing sleeps for effect: each waits for what it claims."""

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


async def run_demo(narration: Narration | None = None) -> bool:
    """Run all parts; True if all their claims were seen."""
    narration = narration or Narration()
    narration.tell("One record, real nodes, real sockets: what becomes of it? Arrows show where records flow.")
    for part in (allowed, broken, led):
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
    return await cluster_status(cluster["n1"].rpc_addr, timeout_s=_WAIT_S)


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
