"""examples/go and examples/node, built as their readers would, while the leader is killed under them.

They run where their toolchains are, and where what they depend on can be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from ourolog.local_cluster import LocalCluster
from tests.endtoend.test_failover import addresses_of, out_of

ROOT: Final = Path(__file__).resolve().parents[2]
BUILT_WITHIN_S: Final = 400.0
ENDS_WITHIN_S: Final = 90.0
BATCH_RECORDS: Final = 100
LINES: Final = [f"line {number}" for number in range(30 * BATCH_RECORDS)]

StartCluster = Callable[..., LocalCluster]


def copy_of(name: str, directory: Path) -> Path:
    """The example, and the contract that it is generated from, where they can be built in."""
    shutil.copytree(ROOT / "proto", directory / "proto")
    ignored = shutil.ignore_patterns("node_modules", "bin", "logv1", "client")
    return Path(shutil.copytree(ROOT / "examples" / name, directory / "examples" / name, ignore=ignored))


def build(directory: Path, *words: str) -> None:
    """Run a step of a build; skip the test if what it needs cannot be fetched here."""
    environment = {**os.environ, "PROTOC": f"{sys.executable} -m grpc_tools.protoc", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        words, cwd=directory, env=environment, capture_output=True, text=True, timeout=BUILT_WITHIN_S, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != 0 and any(sign in said for sign in ("dial tcp", "no such host", "ENOTFOUND", "ECONN")):
        pytest.skip(f"what this example depends on cannot be fetched here: {said[-300:]}")
    assert done.returncode == 0, said


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"there is no {tool} here")
    return found


@pytest.fixture
def go_client(tmp_path: Path) -> Sequence[str]:
    go = needs("go")
    directory = copy_of("go", tmp_path)
    build(directory, "./generate.sh")
    build(directory, go, "vet", ".")
    build(directory, go, "build", "-o", "client", ".")
    return (str(directory / "client"), "-addr")


@pytest.fixture
def node_client(tmp_path: Path) -> Sequence[str]:
    node, npm = needs("node"), needs("npm")
    directory = copy_of("node", tmp_path)
    build(directory, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    return (node, str(directory / "client.js"))


@pytest.mark.parametrize("language", ["go", "node"])
def test_each_line_is_stored_once_and_in_order_while_the_leader_is_killed_twice(
    language: str, start_cluster: StartCluster, request: pytest.FixtureRequest
) -> None:
    client: Sequence[str] = request.getfixturevalue(f"{language}_client")
    cluster = start_cluster(3, "--election", "raft:n1,n2,n3")
    with subprocess.Popen(
        [*client, addresses_of(cluster), "produce"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as producer:
        try:
            stdin, done = producer.stdin, 0
            assert stdin is not None
            for part in range(3):
                give = LINES[part * 1000 : (part + 1) * 1000]
                stdin.write("".join(f"{line}\n" for line in give))
                stdin.flush()
                if part < 2:
                    # Some of its batches are on their way then.
                    assert out_of(producer).readline() == f"{BATCH_RECORDS} records from offset {done} on\n"
                    done += BATCH_RECORDS
                    leader = cluster.leader()
                    assert leader is not None
                    leader.kill()
                    cluster.restart(leader.node_id)
            stdin.close()
            out = out_of(producer).read()
            producer.wait(ENDS_WITHIN_S)
        finally:
            producer.kill()
    assert producer.returncode == 0
    offsets = range(done, len(LINES), BATCH_RECORDS)
    assert out.splitlines() == [f"{BATCH_RECORDS} records from offset {offset} on" for offset in offsets]
    for node in cluster:
        read = subprocess.run(
            [*client, node.rpc_addr, "consume"], capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=True
        )
        assert read.stdout.splitlines() == LINES, f"all of them, as {node.node_id} has them"


@pytest.mark.parametrize("language", ["go", "node"])
def test_what_it_cannot_do_it_says_in_a_sentence(language: str, request: pytest.FixtureRequest) -> None:
    client: Sequence[str] = request.getfixturevalue(f"{language}_client")
    wrong = subprocess.run(
        [*client, "127.0.0.1:1", "fetch"], capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("usage: ")
