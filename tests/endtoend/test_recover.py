"""`ourolog cluster recover` on real processes: two of three disks are lost, and the third goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ourolog.child_processes import child_environment, python_command
from ourolog.local_cluster import LocalCluster, NodeProcess
from tests.endtoend.conftest import ForeignClient

RAFT = ("--election", "raft:n1,n2,n3", "--acks", "all")
VALUES = [f"record {number}".encode() for number in range(20)]

StartCluster = Callable[..., LocalCluster]
Connect = Callable[[str], ForeignClient]


def recover(node: NodeProcess, *words: str) -> subprocess.CompletedProcess[str]:
    command = python_command("-m", "ourolog", "cluster", "recover", "--data-dir", node.data_dir, *words)
    return subprocess.run(
        command,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def produce_all(cluster: LocalCluster, connect: Connect, values: list[bytes]) -> None:
    leader = cluster.leader()
    assert leader is not None
    client = connect(leader.rpc_addr)
    for value in values:
        client.produce(value)


def begin_anew(cluster: LocalCluster, node: NodeProcess) -> None:
    """Start it on an empty disk, to join the cluster."""
    shutil.rmtree(node.data_dir)
    node.flags = ("--election", "raft")
    node.start(cluster.seeds_of(node))


@pytest.mark.parametrize("survivor", ["n1", "n2", "n3"])
def test_the_disks_of_any_two_are_lost_and_the_third_has_all_that_all_had_and_goes_on(
    survivor: str, start_cluster: StartCluster, connect: Connect, eventually: Any
) -> None:
    cluster = start_cluster(3, *RAFT)
    produce_all(cluster, connect, VALUES)
    for node in cluster:
        node.kill()
    lost = [node for node in cluster if node.node_id != survivor]
    for node in lost:
        shutil.rmtree(node.data_dir)
    alone = cluster[survivor]

    asked = recover(alone, "--timeout", "500ms")
    assert asked.returncode == 2
    assert "give --yes if this is wanted. Nothing was changed." in asked.stderr
    done = recover(alone, "--timeout", "500ms", "--yes")
    assert done.returncode == 0, done.stderr
    names = " and ".join(node.node_id for node in lost)
    assert f"{names} could not be asked." in done.stderr
    assert f"{survivor} is generation 2 of the cluster" in done.stdout

    alone.start(cluster.seeds_of(alone))
    alone.wait_for("ready")
    client = connect(alone.rpc_addr)
    status = eventually(lambda: (found := client.status()).leader == survivor and found, "it leads")
    assert (list(status.voters), status.generation) == ([survivor], 2)
    assert client.everything() == VALUES
    assert client.produce(b"afterwards", acks=2) == len(VALUES)

    for node in lost:
        Path(node.data_dir).mkdir()
        begin_anew(cluster, node)
        node.wait_for("ready")
        other = connect(node.rpc_addr)
        eventually(lambda c=other: c.everything() == [*VALUES, b"afterwards"], f"{node.node_id} has all of it")


def test_nodes_of_the_former_generation_have_no_part_in_it_and_say_so_also_after_a_restart(
    start_cluster: StartCluster, connect: Connect, eventually: Any
) -> None:
    cluster = start_cluster(3, *RAFT)
    produce_all(cluster, connect, VALUES)
    for node in cluster:
        node.terminate()  # so that each notes what it knows to be committed
        node.wait()
    assert recover(cluster["n1"], "--timeout", "500ms", "--yes").returncode == 0
    for node in cluster:
        node.start(cluster.seeds_of(node))
    client = connect(cluster["n1"].rpc_addr)
    eventually(lambda: client.status().leader == "n1", "it leads its generation")
    for name in ("n2", "n3"):
        warned = cluster[name].wait_for("node_warned", kind="superseded")
        assert f"this cluster was recovered without {name}" in warned.fields["reason"]
    cluster["n1"].send_signal(signal.SIGKILL)
    cluster["n1"].wait()
    for name in ("n2", "n3"):
        cluster[name].kill()
        cluster.restart(name)
    for name in ("n2", "n3"):
        refused = connect(cluster[name].rpc_addr)
        status = refused.status()
        assert (status.leader, "recovered without" in status.not_ready) == ("", True), "a majority of the old voters"
        assert refused.everything() == VALUES, "what is committed there can be read"


def test_what_is_wrong_to_recover_is_refused_and_nothing_is_changed(
    start_cluster: StartCluster, connect: Connect
) -> None:
    cluster = start_cluster(3, *RAFT)
    produce_all(cluster, connect, VALUES[:5])
    running = recover(cluster["n1"], "--yes")
    assert (running.returncode, "in use" in running.stderr) == (1, True)
    leader = cluster.leader()
    assert leader is not None
    follower = next(node for node in cluster if node is not leader)
    follower.kill()
    can_elect = recover(follower, "--yes")
    assert can_elect.returncode == 1
    assert "nothing has to be recovered" in can_elect.stderr
    client = connect(leader.rpc_addr)
    for value in VALUES[5:]:
        client.produce(value, acks=2)
    third = next(node for node in cluster if node not in (leader, follower))
    third.kill()
    behind = recover(follower, "--yes")
    assert behind.returncode == 1
    assert f"{leader.node_id} is further" in behind.stderr
    for node in (follower, third):
        cluster.restart(node.node_id)


def test_two_survivors_that_were_recovered_separately_acknowledge_nothing(
    start_cluster: StartCluster, connect: Connect, eventually: Any
) -> None:
    cluster = start_cluster(3, *RAFT)
    produce_all(cluster, connect, VALUES)
    for node in cluster:
        node.kill()
    for name in ("n1", "n2"):
        assert recover(cluster[name], "--timeout", "500ms", "--yes").returncode == 0
    for name in ("n1", "n2"):
        cluster[name].start(cluster.seeds_of(cluster[name]))
    for name, other in (("n1", "n2"), ("n2", "n1")):
        cluster[name].wait_for("ready")
        client = connect(cluster[name].rpc_addr)
        said = f"{name} and {other} were recovered separately"
        eventually(lambda c=client, text=said: text in c.status().not_ready, "it says so")
