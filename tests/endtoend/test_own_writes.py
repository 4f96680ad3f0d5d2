"""Who was acknowledged at one node reads it at any other: clients that say what they have seen, and two commands."""

from __future__ import annotations

import asyncio
from typing import Any

from click.testing import CliRunner, Result

from ourolog.cli import cli
from ourolog.rpc.client import LogClient

RAFT = ("--election", "raft")
ROUNDS = 60


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def test_what_one_node_acknowledged_the_commands_read_from_another(start_cluster: Any) -> None:
    cluster = start_cluster(3, *RAFT)
    first, _, third = (node.rpc_addr for node in cluster)
    for number in range(ROUNDS):
        produced = run("produce", f"value {number}", "--addr", first, "--timeout", "20s")
        assert produced.exit_code == 0, produced.output
        read = run("consume", "--addr", third, "--from", produced.stdout.strip(), "--output", "raw")
        assert (read.exit_code, read.stdout, read.stderr) == (0, f"value {number}\n", "")


def test_a_lone_survivor_is_read_from_and_it_is_said_that_there_may_be_more(start_cluster: Any) -> None:
    cluster = start_cluster(3, *RAFT)
    addr = cluster["n3"].rpc_addr
    assert run("produce", "one", "two", "--addr", addr, "--acks", "all", "--timeout", "20s").exit_code == 0
    assert run("consume", "--addr", addr, "--output", "raw").stdout == "one\ntwo\n"
    for name in ("n1", "n2"):
        cluster[name].kill()
    read = run("consume", "--addr", addr, "--output", "raw")
    assert (read.exit_code, read.stdout) == (0, "one\ntwo\n")
    (line,) = [line for line in read.stderr.splitlines() if not line.startswith("Waiting")]
    assert line.startswith("Not confirmed that this is all; it is what is committed here: ")
    assert run("consume", "--addr", addr, "--read", "latest", "--timeout", "2s").exit_code == 1


def test_where_nobody_is_elected_each_node_is_read_for_itself_without_a_word(start_cluster: Any) -> None:
    cluster = start_cluster(2, "--election", "none")
    addr = cluster["n2"].rpc_addr
    assert run("produce", "one", "--addr", addr).exit_code == 0
    read = run("consume", "--addr", addr, "--output", "raw", "--count", "1")
    assert (read.exit_code, read.stdout, read.stderr) == (0, "one\n", "")


def test_a_client_reads_from_every_node_what_another_one_has_seen(start_cluster: Any) -> None:
    cluster = start_cluster(3, *RAFT)
    addrs = [node.rpc_addr for node in cluster]

    async def read_everywhere() -> None:
        async with LogClient(addrs, timeout_s=20.0) as producer:
            for number in range(ROUNDS):
                offset = await producer.produce(b"%d" % number)
                assert producer.seen_end == offset + 1
                for addr in addrs:
                    async with LogClient(addr, seen_end=producer.seen_end) as reader:
                        assert (await reader.consume(offset)).value == b"%d" % number
                        read = [record.value async for record in reader.consume_stream(offset, stop_at_end=True)]
                        assert read == [b"%d" % number]

    asyncio.run(read_everywhere())
