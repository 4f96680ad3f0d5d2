"""Clients with several addresses, while real nodes are killed and frozen."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from ourolog import BlockingLogClient, cluster_status
from ourolog.child_processes import child_environment, python_command
from ourolog.local_cluster import LocalCluster

StartCluster = Callable[..., LocalCluster]
STATIC = ("--election", "static:n1,n2,n3")


def addresses_of(cluster: LocalCluster) -> str:
    return ",".join(node.rpc_addr for node in cluster)


@contextmanager
def command(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        python_command("-m", "ourolog", *words), env=child_environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def give(process: subprocess.Popen[str], *lines: str) -> None:
    stdin = process.stdin
    assert stdin is not None
    stdin.write("".join(f"{line}\n" for line in lines))
    stdin.flush()


def out_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_a_producer_and_a_consumer_go_on_by_themselves_when_their_node_was_killed_three_times(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, *STATIC)
    addr = addresses_of(cluster)
    with (
        command("produce", "--addr", addr, "--timeout", "60s") as producer,
        command("consume", "--follow", "--addr", addr, "--timeout", "60s") as consumer,
    ):
        for number in range(4):
            give(producer, f"record {number}")
            assert out_of(producer).readline() == f"{number}\n"
            assert out_of(consumer).readline() == f"{number}\trecord {number}\n"
            if number < 3:
                cluster["n1"].kill()
                cluster.restart("n1")
        _, error = producer.communicate()
        assert (producer.returncode, error) == (0, "")


def test_what_was_on_its_way_to_a_killed_leader_is_counted_and_nothing_is_stored_twice(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, *STATIC)
    addr = addresses_of(cluster)
    lines = [f"record {number}" for number in range(20_000)]
    with command("produce", "--addr", addr, "--batch", "100", "--timeout", "60s") as producer:
        # More than a pipe holds: the rest is written while records are on their way.
        give(producer, *lines[:1000])
        offsets = [int(out_of(producer).readline()) for _ in range(1000)]
        give(producer, *lines[1000:])
        cluster["n1"].kill()
        cluster.restart("n1")
        out, error = producer.communicate()
    offsets += [int(line) for line in out.splitlines()]
    unknown = [line for line in error.splitlines() if line.startswith("Unknown: records ")]
    lost = 100 * len(unknown)
    assert len(offsets) == len(lines) - lost
    assert producer.returncode == (1 if unknown else 0)
    assert f"{lost} records may be in the log or not" in error or not unknown
    with BlockingLogClient(addr.split(",")) as client:
        kept = [record.value.decode() for record in client.consume_stream(stop_at_end=True)]
    assert len(set(kept)) == len(kept)
    acknowledged = [kept[offset] for offset in offsets]
    whole = set(acknowledged)
    assert acknowledged == [line for line in lines if line in whole]
    assert len(kept) in range(len(offsets), len(lines) + 1)


def test_a_frozen_node_keeps_no_command_waiting(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3, *STATIC)
    addr = ",".join(cluster[name].rpc_addr for name in ("n2", "n3", "n1"))
    cluster["n2"].send_signal(signal.SIGSTOP)
    try:
        for words, expected in ((("produce", "a"), "0\n"), (("consume", "--follow", "--count", "1"), "0\ta\n")):
            with command(*words, "--addr", addr, "--timeout", "60s") as process:
                assert process.communicate() == (expected, "")
        with command("status", "--addr", addr, "--output", "json", "--timeout", "60s") as process:
            found = json.loads(process.communicate()[0])
        assert (found["leader"], [node["role"] for node in found["nodes"]]) == ("n1", ["leader", None, "follower"])
    finally:
        cluster["n2"].send_signal(signal.SIGCONT)


def test_with_an_elected_leader_a_producer_goes_on_while_the_leader_is_killed_three_times(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, "--election", "raft:n1,n2,n3")
    addr = addresses_of(cluster)
    lines = [f"record {number}" for number in range(40)]
    led: list[tuple[int, str]] = []
    with (
        command("produce", "--addr", addr, "--timeout", "60s", "--batch", "1") as producer,
        command("consume", "--follow", "--addr", addr, "--timeout", "60s", "--output", "raw") as consumer,
    ):
        for at in range(0, 40, 10):
            give(producer, *lines[at : at + 10])
            assert [out_of(producer).readline() for _ in range(10)] == [f"{offset}\n" for offset in range(at, at + 10)]
            assert [out_of(consumer).readline().strip() for _ in range(10)] == lines[at : at + 10]
            leader = cluster.leader()
            assert leader is not None
            led.append((asyncio.run(cluster_status(addr.split(",")))["term"], leader.node_id))
            if at < 30:
                leader.kill()
                cluster.restart(leader.node_id)
        _, error = producer.communicate()
        assert (producer.returncode, error) == (0, "")
    terms = [term for term, _ in led]
    assert terms == sorted(set(terms)), f"a new term each time: {led}"
