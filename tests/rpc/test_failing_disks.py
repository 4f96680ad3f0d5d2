"""A whole node whose disk fails under open produces, and clients that go on: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from ourolog.actors.election.static import StaticElection
from ourolog.actors.gossip.leaving import Leaving
from ourolog.actors.messages.election import HandedOver, HandOver
from ourolog.actors.messages.events import MemberJoined
from ourolog.actors.messages.peer_calls import CallReturned
from ourolog.actors.messages.store import StoreFailed
from ourolog.actors.messages.values import Peer
from ourolog.actors.occupants import parse_election
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.storage.disk import DiskFile, DiskFiles
from ourolog.storage.files import Part

CLIENTS = 16
RECORDS_EACH = 30


class Fuse:
    """Blows once, at the operation that it is set to."""

    def __init__(self) -> None:
        self.operation = ""
        self.left = 0
        self.code = 0

    def light(self, operation: str, after: int, code: int) -> None:
        self.operation, self.left, self.code = operation, after, code

    def blows_at(self, operation: str) -> bool:
        if operation != self.operation:
            return False
        self.left -= 1
        return self.left <= 0

    def error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))


class FailingFile(DiskFile):
    def __init__(self, fd: int, fuse: Fuse) -> None:
        super().__init__(fd)
        self._fuse = fuse

    def append(self, parts: Sequence[Part]) -> None:
        if self._fuse.blows_at("append"):
            # All but a bit of it is there: a batch that will be cut, behind some that will not.
            whole = b"".join(parts)
            super().append([whole[: max(1, len(whole) - 3)]])
            raise self._fuse.error()
        super().append(parts)

    def sync(self) -> None:
        super().sync()
        if self._fuse.blows_at("sync"):
            raise self._fuse.error()


class FailingDisk(DiskFiles):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    def open(self, path: str, *, create: bool = False) -> DiskFile:
        return FailingFile(os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644), self._fuse)


async def produce_all(
    address: str, name: int, acknowledged: dict[bytes, int], unsure: set[bytes], codes: set[str]
) -> None:
    async with LogClient(address, timeout_s=20.0) as client:
        for n in range(RECORDS_EACH):
            value = b"%d-%d" % (name, n)
            try:
                if name % 2:
                    acknowledged[value] = await client.produce(value)
                else:
                    async for offset in client.produce_stream([value]):
                        acknowledged[value] = offset
            except LogError as error:
                codes.add(f"{error.code} {error.reason}")
                if error.outcome_unknown:
                    unsure.add(value)


@pytest.mark.parametrize(("operation", "code"), [("sync", errno.EIO), ("append", errno.ENOSPC), ("append", errno.EIO)])
async def test_when_a_disk_fails_under_open_produces_none_is_stored_twice_and_none_that_was_acknowledged_is_lost(
    node: Any, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    acknowledged: dict[bytes, int] = {}
    unsure: set[bytes] = set()
    codes: set[str] = set()
    fuse = Fuse()
    monkeypatch.setattr("ourolog.rpc.node_server.DiskFiles", lambda: FailingDisk(fuse))
    async with node() as n:
        address = n.rpc_addr
        clients = [asyncio.create_task(produce_all(address, k, acknowledged, unsure, codes)) for k in range(CLIENTS)]
        while len(acknowledged) < 50:  # noqa: ASYNC110  # in the midst of it
            await asyncio.sleep(0.001)
        fuse.light(operation, 3, code)
        await asyncio.shield(n.server.failed)
    fuse.light("", 0, 0)
    async with node(rpc_addr=address), LogClient(address) as reader:
        await asyncio.gather(*clients)
        stored = {record.offset: record.value async for record in reader.consume_stream(0, stop_at_end=True)}
    counted = Counter(stored.values())
    assert [value for value, times in counted.items() if times > 1] == []
    assert {value: stored.get(offset) for value, offset in acknowledged.items()} == {v: v for v in acknowledged}
    # The rest was refused for certain and is not there, or its client was told that it may be.
    assert set(counted) - set(acknowledged) <= unsure
    assert len(acknowledged) > 50
    # A connection that broke has no reason of ours.
    assert codes <= {"UNAVAILABLE NODE_FAILED", "UNAVAILABLE STOPPING", "UNAVAILABLE NOT_READY", "UNAVAILABLE "}


async def test_a_node_whose_disk_is_full_lets_its_election_act_before_it_ends(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has still to say to another node has left, and come back, before the process ends."""
    receive = StaticElection.on_receive
    told: list[str] = []
    waiting: list[HandOver] = []
    peers: list[Peer] = []

    def go_on() -> None:
        """Whichever comes last lets the node go on."""
        if waiting and len(told) == 2:
            waiting[0].reply_to.tell(HandedOver(waiting[0].request_id))

    def act(self: StaticElection, message: Any) -> None:
        if self.node_id != "n1":
            receive(self, message)
            return
        match message:
            case MemberJoined(member) if member.node_id == "n2":
                peers.append(Peer(member.node_id, member.peer_addr))
                receive(self, message)
            case StoreFailed():
                told.append(message.reason)
                self.ports.network.call(peers[0], 1_000_000, self._question(), self.me)
            case HandOver():
                waiting.append(message)
                go_on()
            case CallReturned(request_id=1_000_000):
                told.append("the other node has heard of it")
                go_on()
            case _:
                receive(self, message)

    begin = Leaving.begin

    def leave(self: Leaving, message: Any) -> None:
        told.append("the node leaves")
        begin(self, message)

    monkeypatch.setattr(Leaving, "begin", leave)
    monkeypatch.setattr(StaticElection, "on_receive", act)
    monkeypatch.setattr("ourolog.rpc.node_server.FAILED_HANDS_OVER_WITHIN_S", 30.0)
    fuse = Fuse()
    monkeypatch.setattr("ourolog.rpc.node_server.DiskFiles", lambda: FailingDisk(fuse))
    election = parse_election("static:n1,n2")
    async with node("n2", election=election) as n2, node("n1", election=election, join=(n2.gossip_addr,)) as n1:
        async with LogClient(n1.rpc_addr) as client:
            await client.produce(b"a")
            fuse.light("append", 1, errno.ENOSPC)
            with pytest.raises(LogError):
                await client.produce(b"b", timeout_s=0.5)
        failed = await asyncio.shield(n1.server.failed)
        await n1.server.stop(0.0)
        assert told == [failed.reason, "the other node has heard of it", "the node leaves"]
