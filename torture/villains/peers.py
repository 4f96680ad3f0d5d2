"""Villains that speak the protocol of nodes: fetches that are too many, too large, unread or absurd."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Final

import grpc

from rpc.channels import open_channel
from rpc.peer_codec import PROTOCOL
from rpc.v1 import peer_pb2 as pb
from rpc.v1 import peer_pb2_grpc as pb_grpc
from torture.villains.http2 import LARGEST_WINDOW, Connection, grpc_headers
from torture.villains.target import Target, villain

FETCH: Final = b"/ourolog.peer.v1.Peer/Fetch"
_MIB: Final = 1024 * 1024


def fetch(target: Target, node_id: str = "villain", **fields: int | bool) -> pb.FetchRequest:
    """An elected fetch from the beginning of the log, unless `fields` say otherwise."""
    request = pb.FetchRequest(protocol=PROTOCOL, cluster=target.cluster, node_id=node_id, elected=True)
    request.max_bytes = 4 * _MIB
    request.max_wait_ms = 60_000
    for name, value in fields.items():
        setattr(request, name, value)
    return request


async def term_of(target: Target) -> int:
    """The leader's, as a fetch is told it."""
    async with open_channel(target.leader.rpc_addr) as channel:
        response = await pb_grpc.PeerStub(channel).Fetch(fetch(target, elected=True, max_wait_ms=0), timeout=10)
    return int(response.term)


@villain
async def fetches_unread(target: Target) -> None:
    """400 fetches of 4 MiB by a peer that never reads what it is sent."""
    term = await term_of(target)

    async def hold(number: int) -> None:
        connection = await Connection.open(target.leader.rpc_addr, window=LARGEST_WINDOW)
        connection.stop_reading()
        for _ in range(20):
            request = fetch(target, f"villain{number}", term=term)
            connection.request(grpc_headers(FETCH), request.SerializeToString())
            target.count("fetches")
        await asyncio.sleep(target.left_s)

    await target.until_over(*(hold(number) for number in range(20)), wave=2)


@villain
async def fetch_storm(target: Target) -> None:
    """1,000 fetches of 4 MiB under way at once, each read, and followed by another."""
    term = await term_of(target)

    async def storm(number: int) -> None:
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.PeerStub(channel)
            request = fetch(target, f"villain{number}", term=term, max_wait_ms=1000)

            async def one() -> None:
                while not target.is_over:
                    try:
                        await stub.Fetch(request, timeout=30)
                        target.count("fetches")
                    except grpc.aio.AioRpcError as error:
                        target.count(f"fetches, {error.code().name}")
                        await asyncio.sleep(0.1)

            await asyncio.gather(*(one() for _ in range(50)))

    await target.until_over(*(storm(number) for number in range(20)))


@villain
async def parked_fetches(target: Target) -> None:
    """2,000 fetches at the end of the log, each under a name of its own, that wait for as long as they may."""
    term = await term_of(target)

    async def park(number: int) -> None:
        async with open_channel(target.leader.rpc_addr) as channel:
            stub = pb_grpc.PeerStub(channel)

            async def one(which: int) -> None:
                request = fetch(target, f"v{number}-{which}", term=term, max_bytes=1)
                while not target.is_over:
                    target.count("fetches")
                    try:
                        answer = await stub.Fetch(request, timeout=60)
                        request.next_index = answer.end.index
                        request.committed_index = 2**62
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.5)

            await asyncio.gather(*(one(which) for which in range(100)))

    await target.until_over(*(park(number) for number in range(20)), wave=4)


@villain
async def absurd_fetches(target: Target) -> None:
    """Terms, indexes, epochs and names that nobody has, from strangers and under the voters' names."""
    term = await term_of(target)
    rng = random.Random(5)
    terms = (0, 1, term, term + 1, term + 2, term + 2**20, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
    numbers = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
    names = ("villain", *(node.node_id for node in target.nodes), "x" * 63, "", "../../etc", "n1\n", "\u202e")
    fields = [field.name for field in pb.FetchRequest.DESCRIPTOR.fields]

    async def ask(addr: str) -> None:
        async with open_channel(addr) as channel:
            stub = pb_grpc.PeerStub(channel)
            while not target.is_over:
                request = fetch(target, rng.choice(names), elected=rng.random() < 0.9, max_wait_ms=rng.choice((0, 50)))
                request.term = rng.choice(terms)
                # What a voter seems to have on its disk counts: nobody can tell such a lie from the truth.
                for name in ("next_index", "last_term", "committed_index", "source_epoch", "max_bytes"):
                    if name in fields and (request.node_id == "villain" or name != "next_index"):
                        setattr(request, name, rng.choice(numbers) & (2**32 - 1 if name == "max_bytes" else 2**64 - 1))
                request.protocol = PROTOCOL if rng.random() < 0.95 else rng.choice((0, 7, 2**32 - 1))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Fetch(request, timeout=5)
                    target.counts["highest term"] = max(target.counts["highest term"], answer.term)
                target.count("absurd fetches")

    await target.until_over(*(ask(node.rpc_addr) for node in target.nodes for _ in range(3)))
    if target.counts["highest term"] > term + 1:
        target.count("terms moved on a stranger's word", target.counts["highest term"] - term)
