"""`ourolog cluster add` and `cluster remove` on real nodes: who votes is changed through the log."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ourolog.local_cluster import LocalCluster

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def cluster(tmp_path: Path) -> Any:
    with LocalCluster(str(tmp_path), 4, flags=("--election", "raft:n1,n2,n3")) as nodes:
        nodes.start()
        yield nodes


def status(run: Run, addresses: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run("status", "--addr", addresses, "--output", "json").stdout)
    return shown


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
    shown = status(run, addresses)
    assert shown["leader"] in left
    roles = {node["id"]: node["role"] for node in shown["nodes"]}
    assert roles[leader] == "standby"
