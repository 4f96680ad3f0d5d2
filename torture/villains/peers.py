"""Villains that speak the protocol of nodes: calls that are too many, too large, unread or absurd."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Final

import grpc

from ourolog.rpc.channels import open_channel
from ourolog.rpc.peer_values import PROTOCOL
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.rpc.v1 import peer_pb2_grpc as pb_grpc
from ourolog.storage.batch import path_of, scan
from torture.villains.http2 import LARGEST_WINDOW, Connection, grpc_headers
from torture.villains.target import Target, Wrong, villain

FETCH: Final = b"/ourolog.peer.v1.Peer/Fetch"
LOG_END: Final = "/ourolog.peer.v1.Peer/LogEnd"
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
    """The leader's term, as a fetch is told it."""
    async with open_channel(target.leader.rpc_addr) as channel:
        response = await pb_grpc.PeerStub(channel).Fetch(fetch(target, elected=True, max_wait_ms=0), timeout=10)
    return int(response.term)


def follow(request: pb.FetchRequest, answer: pb.FetchResponse) -> None:
    """Continue after what was answered, as a follower that has it on its disk."""
    heads = list(scan(answer.batches))
    if heads:
        last = heads[-1]
        request.next_index = last.index + 1
        writer = path_of(answer.batches, last)[0]
        request.last.CopyFrom(pb.Place(term=last.term, writer=writer, writer_epoch=last.origin_epoch))
    elif answer.outcome != pb.BATCHES:
        request.next_index = 0
        request.ClearField("last")


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
                request = fetch(target, f"v{number}-{which}", term=term, committed_index=2**62)
                while not target.is_over:
                    target.count("fetches")
                    try:
                        answer = await stub.Fetch(request, timeout=60)
                        follow(request, answer)
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.5)

            await asyncio.gather(*(one(which) for which in range(100)))

    await target.until_over(*(park(number) for number in range(20)), wave=4)


@villain
async def absurd_fetches(target: Target) -> None:
    """Terms, indexes, epochs and places that nobody has, from strangers."""
    term = await term_of(target)
    await _absurd(target, term, ("villain", "x" * 63, "", "../../etc", "n1\n", "\u202e"))
    if target.counts["highest term"] > term:
        target.count(Wrong.MOVED_TERM, target.counts["highest term"] - term)


@villain
async def forged_voters(target: Target) -> None:
    """Terms, indexes, epochs and places that nobody has, under the names of voters, so that nobody can tell."""
    await _absurd(target, await term_of(target), tuple(node.node_id for node in target.nodes))


async def _absurd(target: Target, term: int, names: tuple[str, ...]) -> None:
    rng = random.Random(5)
    terms = (0, 1, term, term + 1, term + 2, term + 2**20, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
    numbers = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
    voters = {node.node_id for node in target.nodes}

    async def ask(addr: str) -> None:
        async with open_channel(addr) as channel:
            stub = pb_grpc.PeerStub(channel)
            while not target.is_over:
                request = fetch(target, rng.choice(names), elected=rng.random() < 0.9, max_wait_ms=rng.choice((0, 50)))
                request.term = rng.choice(terms)
                # What a voter seems to have on its disk counts: nobody can tell such a lie from the truth.
                if request.node_id not in voters:
                    request.next_index = rng.choice(numbers)
                request.committed_index = rng.choice(numbers)
                request.source_epoch = rng.choice(numbers)
                request.max_bytes = rng.choice(numbers) & (2**32 - 1)
                if rng.random() < 0.7:
                    writer, epoch = rng.choice(names), rng.choice(numbers)
                    request.last.CopyFrom(pb.Place(term=rng.choice(terms), writer=writer, writer_epoch=epoch))
                request.protocol = PROTOCOL if rng.random() < 0.95 else rng.choice((0, 7, 2**32 - 1))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Fetch(request, timeout=5)
                    target.counts["highest term"] = max(target.counts["highest term"], answer.term)
                target.count("absurd fetches")

    await target.until_over(*(ask(node.rpc_addr) for node in target.nodes for _ in range(3)))


@villain
async def election_calls(target: Target) -> None:
    """500 election calls under way at each node, by strangers and under the names of voters, followed by others."""
    names = [node.node_id for node in target.nodes]
    rng = random.Random(5)

    async def ask(addr: str) -> None:
        async with open_channel(addr) as channel:
            stub = pb_grpc.PeerStub(channel)

            async def one() -> None:
                while not target.is_over:
                    name = rng.choice((*names, f"villain{rng.randrange(1000)}"))
                    request = pb.LogEndRequest(
                        protocol=PROTOCOL if rng.random() < 0.95 else 7,
                        cluster=target.cluster if rng.random() < 0.9 else "c" * 3000,
                        node_id=name,
                        log_epoch=rng.choice((0, 1, 2**64 - 1)),
                        election=f"static:{','.join(names)}" if rng.random() < 0.9 else "e" * 3000,
                        term=rng.choice((0, 1, 2**62, 2**64 - 1)),
                    )
                    target.count("election calls")
                    try:
                        await stub.LogEnd(request, timeout=rng.choice((0.01, 10)))
                    except grpc.aio.AioRpcError as error:
                        target.count(f"election calls, {error.code().name}")
                        if error.code() in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}:
                            target.count(Wrong.BROKE)
                        await asyncio.sleep(0.05)

            silent: list[Any] = [channel.stream_unary(LOG_END)() for _ in range(8)]
            await asyncio.gather(*(one() for _ in range(50)))
            for call in silent:
                call.cancel()

    await target.until_over(*(ask(node.rpc_addr) for node in target.nodes for _ in range(10)))
