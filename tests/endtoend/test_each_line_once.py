"""A command and a stream that know three nodes, while their leader is killed again and again: each record once."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from ourolog.child_processes import child_environment, python_command
from ourolog.local_cluster import LocalCluster
from ourolog.rpc.client import LogClient

LINES = 20_000
RECORDS = 200_000
KILLS_AFTER = (3_000, 8_000, 13_000)


def test_each_of_20000_lines_stands_once_and_in_order_on_every_node_though_the_leader_is_killed_three_times(
    start_cluster: Callable[..., LocalCluster], connect: Any, eventually: Any
) -> None:
    cluster = start_cluster(3, "--election", "raft", "--election-timeout", "500ms")
    addrs = [node.rpc_addr for node in cluster]
    lines = [b"line %d" % number for number in range(LINES)]
    wait_for_voters(addrs, connect, eventually)

    with subprocess.Popen(
        python_command("-m", "ourolog", "produce", "--addr", ",".join(addrs), "--timeout", "60s", "--batch", "25"),
        env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeder = threading.Thread(target=_feed, args=(process.stdin, lines), daemon=True)
        feeder.start()
        offsets: list[int] = []
        killed: list[str] = []
        for line in process.stdout:
            offsets.append(int(line))
            if len(killed) < len(KILLS_AFTER) and len(offsets) == KILLS_AFTER[len(killed)]:
                if killed:
                    cluster.restart(killed[-1])
                killed.append(kill_leader(cluster, connect, eventually))
        said = process.stderr.read().decode()
        feeder.join(60)
    assert process.returncode == 0, said
    assert len(killed) == len(KILLS_AFTER)
    assert offsets == list(range(LINES))
    cluster.restart(killed[-1])
    for addr in addrs:
        assert asyncio.run(everything(addr, LINES)) == lines


def test_each_of_200000_records_of_a_stream_stands_once_and_in_order_though_the_leader_is_killed_three_times(
    start_cluster: Callable[..., LocalCluster], connect: Any, eventually: Any
) -> None:
    cluster = start_cluster(3, "--election", "raft", "--election-timeout", "500ms")
    addrs = [node.rpc_addr for node in cluster]
    wait_for_voters(addrs, connect, eventually)
    values = [b"%d" % number for number in range(RECORDS)]
    offsets: list[int] = []
    killed: list[str] = []

    async def stream() -> None:
        async with LogClient(addrs, timeout_s=60.0) as client:
            async for offset in client.produce_stream(values):
                offsets.append(offset)
                if len(killed) < len(KILLS_AFTER) and len(offsets) == 10 * KILLS_AFTER[len(killed)]:
                    if killed:
                        cluster.restart(killed[-1])
                    killed.append(kill_leader(cluster, connect, eventually))

    asyncio.run(stream())
    assert len(killed) == len(KILLS_AFTER)
    assert offsets == list(range(RECORDS))
    cluster.restart(killed[-1])
    for addr in addrs:
        assert asyncio.run(everything(addr, RECORDS)) == values


def wait_for_voters(addrs: list[str], connect: Any, eventually: Any) -> None:
    """Until all vote: the first node founds the cluster alone and adds the others, and of two none could be killed."""
    eventually(lambda: len(connect(addrs[0]).status().voters) == len(addrs), "all of them vote")


def kill_leader(cluster: LocalCluster, connect: Any, eventually: Any) -> str:
    """Kill the leader once there is one. Returns its name."""

    def leader_id() -> str:
        for node in cluster:
            if node.is_running and (leader := connect(node.rpc_addr).status().leader):
                return str(leader)
        return ""

    eventually(leader_id, "somebody leads")
    killed = leader_id()
    cluster[killed].kill()
    return killed


async def everything(addr: str, end: int) -> list[bytes]:
    async with LogClient(addr, seen_end=end, timeout_s=60.0) as client:
        return [value async for batch in client.consume_batches(stop_at_end=True) for value in batch.values]


def _feed(stdin: Any, lines: list[bytes]) -> None:
    for line in lines:
        stdin.write(line + b"\n")
    stdin.close()
