"""Villains that speak the protocol of nodes: calls that are too many, too large, unread or absurd."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any, Final

from ourolog.actors.messages.peer_calls import FetchRequest, LogEndRequest, PeerRequest
from ourolog.rpc.peer.frames import HEAD, Frame, FrameKind
from ourolog.rpc.peer.hello import MAGIC, Hello, Lane
from ourolog.rpc.peer.testing import FrameClient
from ourolog.rpc.peer_codec import CODECS
from ourolog.rpc.peer_values import PROTOCOL
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.batch import path_of, scan
from torture.villains.target import Target, Wrong, villain

_MIB: Final = 1024 * 1024
_TLS_HELLO: Final = bytes.fromhex("160301020001000001fc0303")


def fetch(target: Target, node_id: str = "villain", **fields: int | bool) -> pb.FetchRequest:
    """An elected fetch from the beginning of the log, unless `fields` say otherwise."""
    request = pb.FetchRequest(protocol=PROTOCOL, cluster=target.cluster, node_id=node_id, elected=True)
    request.max_bytes = 4 * _MIB
    request.max_wait_ms = 60_000
    for name, value in fields.items():
        setattr(request, name, value)
    return request


async def ask(client: FrameClient, request: pb.FetchRequest, timeout_s: float) -> tuple[pb.FetchResponse, bytes]:
    """The answer to a fetch, and its batches. Raises RefusedError."""
    frame = await asyncio.wait_for(client.call(FetchRequest, request), timeout_s)
    if frame.kind is not FrameKind.ANSWER:
        raise RefusedError(frame.kind)
    return pb.FetchResponse.FromString(frame.message), frame.payload


class RefusedError(Exception):
    """A call was refused.

    kind: how.
    """

    def __init__(self, kind: FrameKind) -> None:
        super().__init__(kind.name)
        self.kind = kind


@contextlib.asynccontextmanager
async def connected(addr: str, lane: Lane) -> AsyncIterator[FrameClient]:
    client = await FrameClient.open(addr, lane)
    try:
        yield client
    finally:
        await client.close()


async def term_of(target: Target) -> int:
    """The leader's term, as a fetch is told it."""
    async with connected(target.leader.peer_addr, Lane.BULK) as client:
        response, _ = await ask(client, fetch(target, elected=True, max_wait_ms=0), 10)
    return int(response.term)


def follow(request: pb.FetchRequest, answer: pb.FetchResponse, batches: bytes) -> None:
    """Continue after what was answered, as a follower that has it on its disk."""
    heads = list(scan(batches))
    if heads:
        last = heads[-1]
        request.next_index = last.index + 1
        writer = path_of(batches, last)[0]
        request.last.CopyFrom(pb.Place(term=last.term, writer=writer, writer_epoch=last.origin_epoch))
    elif answer.outcome != pb.FetchOutcome.BATCHES:
        request.next_index = 0
        request.ClearField("last")


@villain
async def fetches_unread(target: Target) -> None:
    """400 fetches of 4 MiB by a peer that never reads what it is sent."""
    term = await term_of(target)

    async def hold(number: int) -> None:
        while not target.is_over:
            client = await FrameClient.open(target.leader.peer_addr, Lane.BULK)
            client.stop_reading()
            for _ in range(20):
                client.call(FetchRequest, fetch(target, f"villain{number}", term=term))
                target.count("fetches")
            await asyncio.sleep(min(target.left_s, 20.0))
            await client.close()

    await target.until_over(*(hold(number) for number in range(20)), wave=2)


@villain
async def fetch_storm(target: Target) -> None:
    """1,000 fetches of 4 MiB under way at once, each read, and followed by another."""
    term = await term_of(target)

    async def storm(number: int) -> None:
        async with connected(target.leader.peer_addr, Lane.BULK) as client:
            request = fetch(target, f"villain{number}", term=term, max_wait_ms=1000)

            async def one() -> None:
                while not (target.is_over or client.ended.done()):
                    try:
                        await ask(client, request, 30)
                        target.count("fetches")
                    except (RefusedError, TimeoutError) as error:
                        target.count(f"fetches, {error}")
                        await asyncio.sleep(0.1)

            await asyncio.gather(*(one() for _ in range(50)))

    async def go_on(number: int) -> None:
        while not target.is_over:
            with contextlib.suppress(OSError):  # the node may be away for a while
                await storm(number)
            await asyncio.sleep(0.1)

    await target.until_over(*(go_on(number) for number in range(20)))


@villain
async def parked_fetches(target: Target) -> None:
    """2,000 fetches at the end of the log, each under a name of its own, that wait for as long as they may."""
    term = await term_of(target)

    async def park(number: int) -> None:
        async with connected(target.leader.peer_addr, Lane.BULK) as client:

            async def one(which: int) -> None:
                request = fetch(target, f"v{number}-{which}", term=term, committed_index=2**62)
                while not target.is_over:
                    target.count("fetches")
                    try:
                        answer, batches = await ask(client, request, 60)
                        follow(request, answer, batches)
                    except (RefusedError, TimeoutError):
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

    async def go_on(addr: str) -> None:
        async with connected(addr, Lane.BULK) as client:
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
                # One that wants no batches would have to come by another connection.
                request.max_bytes = max(1, request.max_bytes)
                with contextlib.suppress(RefusedError, TimeoutError):
                    answer, _ = await ask(client, request, 5)
                    target.counts["highest term"] = max(target.counts["highest term"], answer.term)
                target.count("absurd fetches")

    await target.until_over(*(go_on(node.peer_addr) for node in target.nodes for _ in range(3)))


@villain
async def election_calls(target: Target) -> None:
    """500 election calls under way at each node, by strangers and under the names of voters, followed by others."""
    names = [node.node_id for node in target.nodes]
    rng = random.Random(5)

    async def go_on(addr: str) -> None:
        async with connected(addr, Lane.URGENT) as client:

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
                        answer = await asyncio.wait_for(client.call(LogEndRequest, request), rng.choice((0.01, 10)))
                    except TimeoutError:
                        continue
                    if answer.kind is not FrameKind.ANSWER:
                        target.count(f"election calls, {answer.kind.name}")
                        if answer.kind is FrameKind.BROKEN:
                            target.count(Wrong.BROKE)
                        await asyncio.sleep(0.05)

            await asyncio.gather(*(one() for _ in range(50)))

    await target.until_over(*(go_on(node.peer_addr) for node in target.nodes for _ in range(10)))


@villain
async def peer_noise(target: Target) -> None:
    """Connections for nodes that send noise, half a hello, impossible frames, TLS, HTTP, or all calls at once."""
    rng = random.Random(3)
    hello = Hello(Lane.URGENT).frame().head_and_message()
    request = pb.LogEndRequest(protocol=PROTOCOL, cluster=target.cluster, node_id="villain").SerializeToString()

    def call(call_id: int, kind: type[PeerRequest[Any]] = LogEndRequest, message: bytes = request) -> bytes:
        return Frame(FrameKind.REQUEST, call_id, CODECS[kind].number, message).head_and_message()

    noises = (
        lambda: rng.randbytes(rng.randrange(1, 4096)),
        lambda: hello[: rng.randrange(1, len(hello))],
        lambda: _TLS_HELLO + rng.randbytes(rng.randrange(0, 500)),
        lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        lambda: hello + rng.randbytes(2048),
        lambda: hello * 2,
        lambda: Frame(FrameKind.HELLO, MAGIC, message=b"\xff" * 6).head_and_message(),
        lambda: Hello(Lane.BULK, protocol=rng.randrange(2**32)).frame().head_and_message(),
        lambda: hello + HEAD.pack(FrameKind.REQUEST, 1, 1, 2**32 - 1, 2**32 - 1),
        lambda: hello + HEAD.pack(FrameKind.REQUEST, 1, 1, 0, 60_000) + bytes(60_000),
        lambda: hello + call(1) + call(1),
        lambda: hello + call(0),
        lambda: hello + b"".join(call(number) for number in range(1, 500)),
        lambda: hello + b"".join(Frame(FrameKind.CANCEL, number).head_and_message() for number in range(2000)),
        lambda: hello + b"".join(call(1, kind, rng.randbytes(300)) for kind in CODECS),
        lambda: hello + Frame(FrameKind.ANSWER, 1, message=b"x").head_and_message(),
        lambda: hello + call(1)[:-1],
    )

    async def make(which: int) -> None:
        while not target.is_over:
            host, _, port = target.leader.peer_addr.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(noises[which % len(noises)]())
            target.count("noisy connections")
            which += 1
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(reader.read(4096), 0.2)
            writer.transport.abort()

    await target.until_over(*(make(number) for number in range(40)))


@villain
async def idle_peers(target: Target) -> None:
    """Connections for nodes that say nothing, or hello and nothing more, or a byte a second; others follow those."""

    async def hold(number: int) -> None:
        hello = Hello(Lane(number % 2)).frame().head_and_message()
        while not target.is_over:
            host, _, port = target.leader.peer_addr.rpartition(":")
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                target.count("not let in")
                await asyncio.sleep(0.5)
                continue
            target.count("sockets")
            with contextlib.suppress(OSError):
                if number % 3 == 1:
                    writer.write(hello)
                while number % 3 == 2 and hello and not writer.transport.is_closing():
                    writer.write(hello[:1])
                    hello = hello[1:]
                    await asyncio.sleep(1)
                while await reader.read(1024):
                    pass
            writer.transport.abort()
            await asyncio.sleep(0.2)

    await target.until_over(*(hold(number) for number in range(400)))
