"""UdpDatagrams on real sockets of the loopback interface."""

from __future__ import annotations

import asyncio
import errno
import queue
import socket
import threading
from random import Random
from typing import Any

import pytest

from ourolog.actors.addresses import split_address
from ourolog.actors.config import NodeConfig
from ourolog.actors.looping import LoopRuntime, LoopTimers
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.events import MemberJoined, MemberLeft
from ourolog.actors.messages.membership import DatagramReceived, LeaveCluster, LeftCluster
from ourolog.actors.ports import Ports
from ourolog.actors.threaded import SystemClock
from ourolog.rpc.datagram_rate_limit import DatagramRateLimiter
from ourolog.rpc.datagrams import UdpDatagrams
from ourolog.storage.types import NodeId


class Inbox:
    """A mailbox that lets a coroutine wait for what it is told."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[DatagramReceived] = asyncio.Queue()

    def tell(self, message: DatagramReceived) -> None:
        self.queue.put_nowait(message)

    async def next(self) -> DatagramReceived:
        async with asyncio.timeout(10):
            return await self.queue.get()


def test_a_datagram_arrives_with_its_sender_s_address() -> None:
    async def play() -> None:
        one, other = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0")
        inbox = Inbox()
        other.deliver_to(inbox)
        one.send(other.bound_addr, b"hello")
        assert await inbox.next() == DatagramReceived(one.bound_addr, b"hello")
        one.close()
        other.close()

    asyncio.run(play())


def test_any_thread_may_send_and_a_host_name_is_resolved() -> None:
    async def play() -> None:
        one, other = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0")
        inbox = Inbox()
        other.deliver_to(inbox)
        addr = f"localhost:{split_address(other.bound_addr)[1]}"
        thread = threading.Thread(target=one.send, args=(addr, b"from a thread"))
        thread.start()
        assert (await inbox.next()).payload == b"from a thread"
        thread.join()
        one.close()
        other.close()

    asyncio.run(play())


def test_a_port_in_use_is_an_error_that_says_so() -> None:
    async def play() -> None:
        holder = await UdpDatagrams.bind("127.0.0.1:0")
        with pytest.raises(OSError, match=f"{holder.bound_addr} .*in use") as caught:
            await UdpDatagrams.bind(holder.bound_addr)
        assert caught.value.errno == errno.EADDRINUSE
        holder.close()

    asyncio.run(play())


def test_an_address_of_another_machine_is_an_error_that_says_so() -> None:
    async def play() -> None:
        with pytest.raises(OSError, match="not an address of this machine"):
            await UdpDatagrams.bind("203.0.113.7:0")  # RFC 5737: nobody's

    asyncio.run(play())


def test_datagrams_beyond_the_bound_are_dropped_and_counted_and_half_the_room_is_for_members() -> None:
    async def play() -> None:
        one, other = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0", max_waiting=4)
        inbox = Inbox()
        other.deliver_to(inbox, waiting=inbox.queue.qsize)
        for number in range(5):
            other.datagram_received(bytes((number,)), ("127.0.0.1", 1))
        assert (inbox.queue.qsize(), other.dropped) == (2, 3)
        other.introduce(one.bound_addr)
        for payload in (b"member", b"again"):
            one.send(other.bound_addr, payload)
        assert [(await inbox.next()).payload for _ in range(4)] == [b"\0", b"\1", b"member", b"again"]
        one.close()
        other.close()

    asyncio.run(play())


def test_a_flood_of_strangers_datagrams_is_shed_and_members_are_heard() -> None:
    async def play() -> None:
        member, port = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0")
        inbox = Inbox()
        port.deliver_to(inbox)
        port.introduce(member.bound_addr)
        host, number = split_address(port.bound_addr)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for round_number in range(50):
                for _ in range(40):
                    stranger.sendto(b"flood", (host, number))
                member.send(port.bound_addr, b"%d" % round_number)
                while (heard := await inbox.next()).payload == b"flood":
                    pass
                assert heard.payload == b"%d" % round_number
        assert port.dropped > 1000
        member.close()
        port.close()

    asyncio.run(play())


def test_each_member_has_its_own_bound_and_all_strangers_share_one() -> None:
    now_s = 0.0
    guard = DatagramRateLimiter(lambda: now_s, strangers_per_s=2, each_member_per_s=3)
    guard.introduce(("a", 1))
    guard.introduce(("b", 1))
    assert [guard.admits(("a", 1)) for _ in range(4)] == [True, True, True, False]
    assert [guard.admits(("b", 1)) for _ in range(4)] == [True, True, True, False]
    assert [guard.admits((stranger, 1)) for stranger in "cde"] == [True, True, False]
    now_s = 0.5
    assert [guard.admits((stranger, 1)) for stranger in "cd"] == [True, False]
    guard.dismiss(("a", 1))
    assert not guard.admits(("a", 1))


def test_names_of_strangers_that_resolve_slowly_leave_resolvers_to_members(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        one = await UdpDatagrams.bind("127.0.0.1:0")
        asked: list[str] = []
        answer = asyncio.Event()

        async def slow(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            await answer.wait()
            raise OSError

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
        one.introduce("member:1")
        for number in range(50):
            one.send(f"stranger{number}:1", b"x")
        one.send("member:1", b"x")
        await asyncio.sleep(0)
        assert asked == ["stranger0", "stranger1", "member"]
        assert one.unsent == 48
        answer.set()
        one.close()

    asyncio.run(play())


def test_a_member_s_name_is_not_forgotten_for_strangers() -> None:
    async def play() -> None:
        one = await UdpDatagrams.bind("127.0.0.1:0")
        one.introduce("127.0.0.1:9")
        one.send("127.0.0.1:9", b"x")
        for port in range(10_000, 12_000):
            one.send(f"127.0.0.1:{port}", b"x")
        assert "127.0.0.1:9" in one._names
        assert len(one._names) == 1024
        one.close()

    asyncio.run(play())


def test_a_member_that_is_known_by_a_host_name_is_known_once_the_name_is_resolved() -> None:
    async def play() -> None:
        one, other = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0")
        inbox = Inbox()
        other.deliver_to(inbox)
        port = other.bound_addr.rpartition(":")[2]
        one.introduce(f"localhost:{port}")
        one.send(f"localhost:{port}", b"x")
        await inbox.next()
        assert one._rate_limiter.is_member(("127.0.0.1", int(port)))
        one.close()
        other.close()

    asyncio.run(play())


def test_more_than_the_bound_from_another_thread_is_dropped_before_the_loop_sees_it() -> None:
    async def play() -> None:
        one = await UdpDatagrams.bind("127.0.0.1:0", max_waiting=3)
        # The loop is busy here, so nothing that the thread hands over is sent meanwhile.
        thread = threading.Thread(target=lambda: [one.send(one.bound_addr, b"x") for _ in range(5)])
        thread.start()
        thread.join()
        assert one.unsent == 2
        one.close()

    asyncio.run(play())


@pytest.mark.parametrize("addr", ["no-such-host.invalid:1", "", "nonsense", "127.0.0.1:99999", "[::1]:9", "a..b:1"])
def test_an_address_that_leads_nowhere_is_as_good_as_loss(addr: str) -> None:
    async def play() -> None:
        one, other = await UdpDatagrams.bind("127.0.0.1:0"), await UdpDatagrams.bind("127.0.0.1:0")
        inbox = Inbox()
        other.deliver_to(inbox)
        one.send(addr, b"lost")
        one.send(other.bound_addr, b"next")
        assert (await inbox.next()).payload == b"next"
        one.close()
        other.close()

    asyncio.run(play())


def test_a_peer_that_is_gone_does_not_end_the_port() -> None:
    async def play() -> None:
        one, other, gone = [await UdpDatagrams.bind("127.0.0.1:0") for _ in range(3)]
        inbox = Inbox()
        one.deliver_to(inbox)
        gone.close()
        for _ in range(3):  # answered by ICMP port unreachable, which the socket then reports
            one.send(gone.bound_addr, b"anybody?")
        other.send(one.bound_addr, b"still there")
        assert (await inbox.next()).payload == b"still there"
        one.close()
        other.close()

    asyncio.run(play())


def test_sending_after_close_and_after_the_loop_is_no_error() -> None:
    async def play() -> UdpDatagrams:
        one = await UdpDatagrams.bind("127.0.0.1:0")
        one.close()
        one.send("127.0.0.1:9", b"late")
        return one

    one = asyncio.run(play())
    thread = threading.Thread(target=one.send, args=("127.0.0.1:9", b"later"))
    thread.start()
    thread.join()
    assert one.unsent == 2


def test_a_closed_port_is_free_at_once() -> None:
    async def play() -> str:
        one = await UdpDatagrams.bind("127.0.0.1:0")
        one.close()
        return one.bound_addr

    addr = asyncio.run(play())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(split_address(addr))


def test_two_nodes_find_each_other_over_real_sockets_and_part() -> None:
    class Events:
        def __init__(self) -> None:
            self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def tell(self, message: Any) -> None:
            self.queue.put(message)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        runtime, timers = LoopRuntime(loop), LoopTimers(loop)
        events = [Events(), Events()]
        sockets = [await UdpDatagrams.bind("127.0.0.1:0") for _ in events]
        refs = []
        for number, (socket_, observer) in enumerate(zip(sockets, events, strict=True)):
            config = NodeConfig(
                node_id=NodeId(f"n{number}"),
                data_dir="/data",
                rpc_addr=f"127.0.0.1:{9000 + number}",
                gossip_addr=socket_.bound_addr,
                join=(sockets[0].bound_addr.replace("127.0.0.1", "localhost"),),
            )
            ports = Ports(timers, SystemClock(), Random(number), None, socket_, None, observer)  # type: ignore[arg-type]
            ref = runtime.spawn(MembershipActor, config=config, ports=ports)
            socket_.deliver_to(ref, waiting=ref.actor_inbox.qsize)
            refs.append(ref)
        try:
            for observer, other in zip(events, ("n1", "n0"), strict=True):
                joined = await asyncio.to_thread(observer.queue.get, timeout=20)
                assert isinstance(joined, MemberJoined)
                assert joined.member.node_id == other
            left = Events()
            refs[1].tell(LeaveCluster(1, left))
            assert await asyncio.to_thread(left.queue.get, timeout=20) == LeftCluster(1)
            assert isinstance(await asyncio.to_thread(events[0].queue.get, timeout=20), MemberLeft)
        finally:
            for ref in refs:
                await asyncio.to_thread(runtime.stop, ref)
            timers.close()
            for socket_ in sockets:
                socket_.close()

    asyncio.run(play())
