"""Real nodes in processes of their own, for as long as a group of cases needs them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from ourolog.local_cluster import LocalCluster
from ourolog.rpc.channels import open_channel
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.rpc.v1 import log_pb2_grpc as pb_grpc

# What every measured node runs with, beside the defaults: 10,000 records of 1 KiB are one batch.
FLAGS: Final = ("--fsync", "always", "--max-batch-bytes", "16MiB")


@dataclass(frozen=True, slots=True)
class Nodes:
    """Real nodes that are measured.

    addr, stub: of the first node, which leads where somebody does.
    pids: the processes of all nodes.
    """

    addr: str
    stub: pb_grpc.LogAsyncStub
    pids: tuple[int, ...]

    async def status(self) -> pb.GetStatusResponse:
        return await self.stub.GetStatus(pb.GetStatusRequest(), timeout=10)


@contextlib.asynccontextmanager
async def fresh_nodes(directory: str, count: int = 1, flags: Sequence[str] = ()) -> AsyncIterator[Nodes]:
    """New nodes on empty directories, which are removed at the end. `directory`: where to make them."""
    async with fresh_directory(directory) as data, nodes_on(data, count, flags) as nodes:
        yield nodes


@contextlib.asynccontextmanager
async def elected_nodes(directory: str, count: int, flags: Sequence[str] = ()) -> AsyncIterator[Nodes]:
    """New nodes on empty directories that have elected a leader, which stands first. `directory`: where to make them.

    Raises TimeoutError if nobody leads within 30 s.
    """
    voters = ",".join(f"n{number}" for number in range(1, count + 1))
    async with fresh_nodes(directory, count, ("--election", f"raft:{voters}", "--acks", "quorum", *flags)) as nodes:
        async with asyncio.timeout(30):
            while not (leads := [server for server in await _servers(nodes) if server.is_leader]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # nobody tells when
        leader = int(leads[0].id.removeprefix("n")) - 1
        pids = (nodes.pids[leader], *(pid for number, pid in enumerate(nodes.pids) if number != leader))
        async with open_channel(leads[0].rpc_addr) as channel:
            yield Nodes(leads[0].rpc_addr, pb_grpc.LogStub(channel), pids)


async def _servers(nodes: Nodes) -> Sequence[pb.Server]:
    return (await nodes.stub.GetServers(pb.GetServersRequest(), timeout=10)).servers


@contextlib.asynccontextmanager
async def nodes_on(data: str, count: int = 1, flags: Sequence[str] = ()) -> AsyncIterator[Nodes]:
    """Nodes n1, n2, … on <data>/n1, …; stopped at the end, killed if they will not."""
    cluster = LocalCluster(data, count, flags=(*FLAGS, *flags))
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_until_joined)
        addr = cluster["n1"].rpc_addr
        async with open_channel(addr) as channel:
            yield Nodes(addr, pb_grpc.LogStub(channel), tuple(node.pid for node in cluster))
    finally:
        await asyncio.to_thread(cluster.stop)


@contextlib.asynccontextmanager
async def fresh_directory(within: str) -> AsyncIterator[str]:
    path = tempfile.mkdtemp(dir=within)
    try:
        yield path
    finally:
        await asyncio.to_thread(shutil.rmtree, path)
