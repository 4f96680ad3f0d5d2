"""Who votes on real nodes: `ourolog cluster add` and `cluster remove`, and a voter that is killed for good."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ourolog.local_cluster import LocalCluster
from ourolog.rpc.client import LogClient
from ourolog.rpc.cluster_status import cluster_status

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with LocalCluster(str(tmp_path), 4, flags=("--election", "raft:n1,n2,n3")) as nodes:
        nodes.start()
        yield nodes


def status(run: Run, addresses: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run("status", "--addr", addresses, "--output", "json").stdout)
    return shown


def role_of(node_id: str, shown: dict[str, Any]) -> str | None:
    (role,) = (node["role"] for node in shown["nodes"] if node["id"] == node_id)
    return str(role) if role else None


def tried(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as often as it takes for the node to catch up."""
    until_s = time.monotonic() + 30
    while True:
        done = run(*words)
        if done.returncode == 0 or "try again" not in done.stderr or time.monotonic() > until_s:
            return done


def test_voters_are_added_and_removed_the_leader_too_and_what_cannot_be_is_said(
    run: Run, cluster: LocalCluster
) -> None:
    addresses = ",".join(one.rpc_addr for one in cluster)
    to = ("--addr", addresses)
    assert run("produce", "one", *to).returncode == 0
    added = tried(run, "cluster", "add", "n4", *to)
    assert added.stdout == "n4 votes; the voters are n1, n2, n3, n4\n", added
    again = run("cluster", "add", "n4", *to)
    assert (again.returncode, again.stdout) == (1, "")
    assert "n4 votes already" in again.stderr
    leader = status(run, addresses)["leader"]
    removed = run("cluster", "remove", leader, *to)
    left = [name for name in ("n1", "n2", "n3", "n4") if name != leader]
    assert removed.stdout == f"{leader} votes no more; the voters are {', '.join(left)}\n", removed
    stranger = run("cluster", "remove", "n9", *to)
    assert "n9 does not vote" in stranger.stderr
    unknown = run("cluster", "add", "n9", *to)
    assert "no node n9 copies" in unknown.stderr, unknown
    assert run("produce", "two", *to).returncode == 0
    until_s = time.monotonic() + 30  # it votes no more and is not told who leads: it finds out within some timeouts
    while role_of(leader, shown := status(run, addresses)) != "standby":
        assert time.monotonic() < until_s, shown
    assert shown["leader"] in left
    last, *others = left
    assert tried(run, "cluster", "remove", others[0], *to).returncode == 0
    alone = tried(run, "cluster", "remove", others[1], *to)
    assert f"{others[1]} votes no more; {last} votes alone: if its disk is lost" in alone.stdout, alone
    none_left = run("cluster", "remove", last, *to)
    assert (none_left.returncode, f"{last} is the last voter" in none_left.stderr) == (1, True), none_left


async def replicas_when(addresses: list[str], is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status, as soon as it is so."""
    async with asyncio.timeout(60):
        while True:
            shown = await cluster_status(addresses)
            if shown["replicas"] is not None and is_so(shown):
                return shown
            await asyncio.sleep(0.1)


def has_three_replicas(shown: dict[str, Any], without: str = "") -> bool:
    """Whether three vote, that node is none of them, and none of them lacks anything."""
    others = [one for one in shown["replicas"] if one["votes"]]
    is_complete = all(one["fetches"] and one["lag"] == 0 for one in others)
    return len(shown["voters"]) == 3 and without not in shown["voters"] and len(others) == 2 and is_complete


def two_stand_by(shown: dict[str, Any]) -> bool:
    return [one["id"] for one in shown["replicas"] if one["caught_up"]] == ["n4", "n5"]


@pytest.mark.parametrize("killed", ["a follower", "the leader"])
def test_of_five_nodes_three_are_replicas_again_after_one_is_killed_for_good_and_no_produce_fails(
    tmp_path: Path, killed: str
) -> None:
    flags = ("--election", "raft", "--bootstrap-expect", "5", "--replicas", "3", "--replace-after", "3s")
    with LocalCluster(str(tmp_path), 5, flags=flags) as nodes:
        nodes.start()
        addresses = [one.rpc_addr for one in nodes]

        async def run() -> None:
            async with LogClient(addresses, timeout_s=30.0) as client:
                before = await replicas_when(addresses, lambda shown: has_three_replicas(shown) and two_stand_by(shown))
                assert before["voters"] == ["n1", "n2", "n3"]
                leader = before["leader"]
                victim = leader if killed == "the leader" else next(one for one in before["voters"] if one != leader)
                offsets: list[int] = []
                ends = asyncio.Event()

                async def produce() -> None:
                    while not ends.is_set():
                        offsets.append(await client.produce(b"%d" % len(offsets)))

                producing = asyncio.create_task(produce())
                try:
                    nodes[victim].send_signal(signal.SIGKILL)
                    after = await replicas_when(addresses, lambda shown: victim not in shown["voters"])
                    assert len(after["voters"]) in {2, 3}
                    await replicas_when(addresses, lambda shown: len(shown["voters"]) == 3)
                finally:
                    ends.set()
                    await producing
                whole = await replicas_when(addresses, lambda shown: has_three_replicas(shown, victim))
                assert len({*whole["voters"]} & {"n4", "n5"}) == 1
                ends_at = {node["id"]: node["end_offset"] for node in whole["nodes"]}
                (end,) = {ends_at[voter] for voter in whole["voters"]}
                assert end > max(offsets)
                stored = [record.value async for record in client.consume_stream(0, stop_at_end=True)]
                assert {b"%d" % number for number in range(len(offsets))} == set(stored)

        asyncio.run(run())
