"""Villains on the gossip port: made-up members, forged updates, floods."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Iterator
from typing import Final

from ourolog.actors.gossip.codec import (
    Ack,
    Body,
    Datagram,
    Exchange,
    GossipDecodeError,
    Join,
    Ping,
    Reject,
    Updates,
    decode,
    encode,
)
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId
from torture.villains.target import Target, villain

_MEMBERS: Final = 30_000
_MEMBERS_A_DATAGRAM: Final = 12
_DATAGRAMS_A_SECOND: Final = 1_000


class Forger:
    """Sends any gossip from a port of its own, under any name.

    It reads what it is sent, so it can prove that it is at its own address, and nowhere else.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._sequence = 0
        self._cookies: dict[str, int] = {}
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self.socket, self._hear)

    def _hear(self) -> None:
        with contextlib.suppress(OSError, GossipDecodeError):
            heard = decode(self.socket.recv(65_535))
            if isinstance(heard, Datagram):
                self._cookies[heard.sender.gossip_addr] = heard.issued_cookie
                self._target.count("answers")

    @property
    def addr(self) -> str:
        host, port = self.socket.getsockname()
        return f"{host}:{port}"

    def send(self, addr: str, sender: Member, body: Body, updates: tuple[Member, ...] = ()) -> None:
        self._sequence += 1
        echoed = self._cookies.get(addr, 0)
        self.send_bytes(addr, encode(Datagram(self._target.cluster, sender, self._sequence, body, updates, echoed, 7)))

    def member(self, name: str) -> Member:
        """A member of that name that really lives at this port."""
        return Member(NodeId(name), self.addr, self.addr, MemberState.ALIVE, int(time.time() * 1000))

    def send_bytes(self, addr: str, payload: bytes) -> None:
        host, _, port = addr.rpartition(":")
        try:
            self.socket.sendto(payload, (host, int(port)))
        except OSError:
            self._target.count("datagrams lost")
        self._target.count("datagrams")


def made_up(number: int, now_ms: int) -> Member:
    port = 20_000 + number % 40_000
    addr = f"127.{number % 250 + 1}.{number // 250 % 250}.9:{port}"
    return Member(NodeId(f"made-up-{number}"), addr, addr, MemberState.ALIVE, now_ms)


async def _paced(target: Target, sends: Iterator[None], a_second: int) -> None:
    """That many acts, until the time is over or there are no more."""
    while not target.is_over:
        for _ in range(max(1, a_second // 50)):
            if next(sends, "none") == "none":
                return
        await asyncio.sleep(0.02)


@villain
async def gossip_members(target: Target) -> None:
    """30,000 made-up members, told of by 64 that do live somewhere; each of them would be pulled from."""
    forgers = [Forger(target) for _ in range(64)]
    now_ms = int(time.time() * 1000)

    def tell() -> Iterator[None]:
        for first in range(0, _MEMBERS, _MEMBERS_A_DATAGRAM):
            members = tuple(made_up(number, now_ms) for number in range(first, first + _MEMBERS_A_DATAGRAM))
            which = first // _MEMBERS_A_DATAGRAM
            teller = forgers[which % len(forgers)]
            body = Exchange(asks_back=False) if which % 2 else Updates()
            for node in target.nodes:
                # Every fourth claims to be one of the made-up itself.
                sender = members[0] if which % 4 == 0 else teller.member(f"teller-{which % len(forgers)}")
                teller.send(node.gossip_addr, sender, body, members[1:])
            target.count("made-up members", _MEMBERS_A_DATAGRAM)
            yield

    await _paced(target, tell(), min(_DATAGRAMS_A_SECOND, int(_MEMBERS / _MEMBERS_A_DATAGRAM / target.seconds * 1.5)))
    await target.until_over(asyncio.sleep(target.left_s))


@villain
async def gossip_forged(target: Target) -> None:
    """Updates that every node has failed, or left, or lives elsewhere, told to every other one, again and again."""
    forger = Forger(target)
    rng = random.Random(6)

    def forge() -> Iterator[None]:
        while True:
            now_ms = int(time.time() * 1000)
            about = rng.choice(target.nodes)
            to = rng.choice(target.nodes)
            state = rng.choice(tuple(MemberState))
            incarnation = rng.choice((now_ms, now_ms + 1, now_ms + rng.randrange(10**6), now_ms + 10**9))
            elsewhere = rng.random() < 0.2
            addr = forger.addr if elsewhere else about.gossip_addr
            forged = Member(NodeId(about.node_id), about.rpc_addr, addr, state, incarnation)
            stranger = forger.member("forger")
            body = rng.choice(
                (Updates(), Exchange(asks_back=True), Join(), Ping(NodeId(to.node_id)), Reject(forger.addr), Ack(9))
            )
            sender = forged if rng.random() < 0.5 else stranger
            forger.send(to.gossip_addr, sender, body, (forged,))
            target.count("forged updates")
            yield

    await _paced(target, forge(), 200)


@villain
async def gossip_flood(target: Target) -> None:
    """As many datagrams as go: noise, damaged gossip, other versions and clusters, pings that want answers."""
    forger = Forger(target)
    rng = random.Random(7)
    stranger = forger.member("flooder")
    good = encode(Datagram(target.cluster, stranger, 1, Ping(NodeId(target.leader.node_id))))
    payloads = [
        good,
        good[:-1],
        good[:4] + b"\x00\x00\x00\x00" + good[8:],
        encode(Datagram(target.cluster, stranger, 2, Updates()), version=9),
        encode(Datagram("another-cluster", stranger, 3, Join())),
        encode(Datagram(target.cluster, stranger, 4, Exchange(asks_back=True))),
        b"",
        b"\xff" * 65_000,
        *(rng.randbytes(rng.randrange(1500)) for _ in range(20)),
    ]

    async def flood() -> None:
        while not target.is_over:
            for _ in range(200):
                forger.send_bytes(target.leader.gossip_addr, rng.choice(payloads))
            await asyncio.sleep(0.01)

    await target.until_over(flood())
