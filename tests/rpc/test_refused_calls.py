"""A call to a process that has ended fails as refused, one to a process that stands still does not: real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.peer_calls import CallAnswer, CallFailed, CallReceived, CallReturned, FetchRequest
from ourolog.actors.messages.values import Peer
from ourolog.rpc.peer import connect
from ourolog.rpc.peer.connect import Connector, NobodyListensError
from ourolog.storage.types import NodeId
from tests.rpc.peers import N2, REQUEST, Answers, Replicator, network, response, service_of, serving


@contextlib.contextmanager
def bound(host: str = "127.0.0.1", *, backlog: int | None = None) -> Iterator[int]:
    """A port that is taken, so that nobody else gets it, and where nobody listens unless there is a backlog."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        if backlog is not None:
            taken.listen(backlog)
        yield taken.getsockname()[1]


@contextlib.asynccontextmanager
async def relay(listening: socket.socket, addr: str) -> AsyncIterator[None]:
    """Connections to that socket go to that address."""
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*split_address(addr))
        pumps.add(asyncio.create_task(pump(reader, there_writer)))
        pumps.add(asyncio.create_task(pump(there_reader, writer)))

    async with await asyncio.start_server(connected, sock=listening):
        yield
    for task in pumps:
        task.cancel()
    await asyncio.gather(*pumps, return_exceptions=True)


class Prompt(Replicator):
    """Answers each fetch at once."""

    def tell(self, message: Any) -> None:
        if isinstance(message, CallReceived):
            message.reply_to.tell(CallAnswer(message.request_id, response()))
        super().tell(message)


async def refuses(addr: str) -> bool:
    """Whether an attempt to connect there says that nobody listens."""
    try:
        sock, _ = await Connector().connect(addr)
    except NobodyListensError:
        return True
    except (OSError, ValueError):
        return False
    sock.close()
    return False


def resolved(monkeypatch: pytest.MonkeyPatch, *found: Any) -> None:
    """Names have these addresses from now on."""

    async def resolve(*_: Any) -> list[Any]:
        return list(found)

    monkeypatch.setattr(Connector, "_resolve", resolve)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has other options")
async def test_a_dead_link_is_noticed_within_seconds_and_small_frames_are_not_held_back() -> None:
    with bound(backlog=1) as port:
        sock, _ = await Connector().connect(f"127.0.0.1:{port}")
        with sock:
            options = {
                name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            }
            assert list(options.values()) == [1, 10, 5, 1, 15_000]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_port_where_nobody_listens_refuses_by_number_and_by_name() -> None:
    with bound() as port:
        assert await refuses(f"127.0.0.1:{port}")
        assert await refuses(f"localhost:{port}")
    with bound("::1") as port:
        assert await refuses(f"[::1]:{port}")


async def test_a_name_with_an_address_where_somebody_listens_does_not_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    with bound(backlog=1) as port:
        resolved(monkeypatch, *((socket.AF_INET, (address, port)) for address in ("127.0.0.2", "127.0.0.1")))
        assert not await refuses(f"n2.example:{port}")
    assert await refuses(f"n2.example:{port}")


async def test_who_listens_and_stands_still_does_not_refuse_with_room_for_the_connection_or_without() -> None:
    with bound(backlog=0) as port, contextlib.ExitStack() as stack:
        assert not await refuses(f"127.0.0.1:{port}")
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await refuses(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["no.such.name.invalid:1", "nonsense", "x" * 300 + ":1", "a..b:1"])
async def test_an_address_that_is_none_does_not_refuse_and_fails_the_call(address: str) -> None:
    assert not await refuses(address)
    answers = Answers()
    async with network() as net:
        net.call(Peer(N2, address), 7, REQUEST, answers)
        failed = await answers.queue.get()
        assert (type(failed), failed.is_refused) == (CallFailed, False)
        assert "cannot connect" in failed.reason


async def test_a_network_that_this_machine_does_not_have_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unreachable(family: int, sockaddr: Any) -> socket.socket:
        raise OSError(errno.ENETUNREACH if family == socket.AF_INET6 else errno.ECONNREFUSED, "")

    monkeypatch.setattr(connect, "_connect", unreachable)
    resolved(monkeypatch, (socket.AF_INET6, ("::1", 1)), (socket.AF_INET, ("127.0.0.1", 1)))
    assert await refuses("n2.example:1")
    resolved(monkeypatch, (socket.AF_INET6, ("::1", 1)))
    assert not await refuses("n2.example:1")


@pytest.mark.parametrize(
    ("why", "refuses"),
    [
        ((errno.ECONNREFUSED, errno.ECONNRESET), True),
        ((errno.ECONNREFUSED, errno.EHOSTUNREACH), False),
        ((errno.EHOSTUNREACH, errno.ECONNREFUSED), False),
    ],
)
async def test_a_name_refuses_if_all_its_addresses_do(
    why: tuple[int, int], refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter(why)

    async def fail(*_: Any) -> Any:
        raise OSError(next(errors), "no")

    monkeypatch.setattr(connect, "_connect", fail)
    resolved(monkeypatch, (socket.AF_INET, ("127.0.0.2", 1)), (socket.AF_INET, ("127.0.0.1", 1)))
    with pytest.raises(OSError, match=r"nobody|No route") as raised:
        await Connector().connect("n2.example:1")
    assert isinstance(raised.value, NobodyListensError) == refuses


async def test_only_so_many_names_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = 0
    may_answer = asyncio.Event()

    class Loop:
        async def getaddrinfo(self, *_: Any, **__: Any) -> list[Any]:
            nonlocal looking
            looking += 1
            await may_answer.wait()
            return []

    connector = Connector()
    monkeypatch.setattr(connect, "asyncio", SimpleNamespace(get_running_loop=Loop))
    calls = [asyncio.create_task(connector.connect(f"n{number}.example:1")) for number in range(50)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert looking == connect.MAX_RESOLVING
    may_answer.set()
    for failed in await asyncio.gather(*calls, return_exceptions=True):
        assert "no address" in str(failed)


async def test_a_call_to_nobody_fails_as_refused() -> None:
    answers = Answers()
    with bound() as port:
        async with network() as net:
            net.call(Peer(N2, f"127.0.0.1:{port}"), 7, REQUEST, answers)
            failed = await answers.queue.get()
            assert isinstance(failed, CallFailed)
            assert failed.is_refused


async def test_a_call_that_the_peer_ends_is_not_refused_while_it_goes_on_listening() -> None:
    answers, replicator = Answers(), Replicator()
    async with serving(service_of(replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, REQUEST, answers)
        await replicator.next(CallReceived)
        net.forget(N2)
        assert not (await answers.queue.get()).is_refused

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server, network() as net:
        net.call(Peer(N2, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), 8, REQUEST, answers)
        failed = await answers.queue.get()
        assert (failed.request_id, failed.is_refused) == (8, False)


async def test_a_call_to_who_stands_still_runs_out_of_time_and_is_not_refused() -> None:
    answers = Answers()
    with bound(backlog=8) as port:
        async with network(timeout_s=lambda _: 0.2) as net:
            net.call(Peer(N2, f"127.0.0.1:{port}"), 7, REQUEST, answers)
            failed = await answers.queue.get()
            assert not failed.is_refused
            assert "in time" in failed.reason


PEER = """
import asyncio
from tests.rpc.peers import Replicator, listening, service_of
async def main():
    replicator = Replicator()
    async with listening(service_of(replicator)) as (addr, _):
        print(addr, flush=True)
        await replicator.next(object)
        print("asked", flush=True)
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


async def test_a_fetch_from_a_process_that_is_killed_fails_as_refused() -> None:
    answers = Answers()
    with subprocess.Popen([sys.executable, "-P", "-c", PEER], stdout=subprocess.PIPE, text=True) as peer:  # noqa: ASYNC220
        assert peer.stdout is not None
        try:
            addr = (await asyncio.to_thread(peer.stdout.readline)).strip()
            async with network(timeout_s=lambda _: 60.0) as net:
                net.call(Peer(N2, addr), 1, REQUEST, answers)
                assert await asyncio.to_thread(peer.stdout.readline) == "asked\n"
                peer.kill()
                failed = await answers.queue.get()
                # Its port may have been closed a moment later than the connection.
                while not failed.is_refused:
                    net.call(Peer(N2, addr), failed.request_id + 1, REQUEST, answers)
                    failed = await answers.queue.get()
                assert failed.request_id <= 2
        finally:
            peer.kill()


async def test_each_call_after_a_refusal_tries_to_connect_at_once() -> None:
    answers = Answers()
    async with serving(service_of(Prompt())) as addr, network() as net:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            peer = Peer(N2, f"127.0.0.1:{taken.getsockname()[1]}")
            for request_id in range(8):
                net.call(peer, request_id, REQUEST, answers)
                assert (await answers.queue.get()).is_refused
            async with relay(taken, addr):
                net.call(peer, 9, REQUEST, answers)
                assert await answers.queue.get() == CallReturned(N2, 9, response())


async def test_calls_on_a_connection_that_takes_no_new_ones_still_have_their_end() -> None:
    answers, replicator = Answers(), Replicator()
    n4: FetchRequest = dataclasses.replace(REQUEST, node_id=NodeId("n4"))
    async with serving(service_of(replicator, NodeId("n1"), NodeId("n4"))) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        first = await replicator.next(CallReceived)
        next(iter(net._connections.values())).retire()
        net.call(Peer(N2, addr), 2, n4, answers)
        second = await replicator.next(CallReceived)
        for received in (second, first):
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert isinstance(await answers.queue.get(), CallReturned)
        net.call(Peer(N2, addr), 3, REQUEST, answers)
        await replicator.next(CallReceived)
        next(iter(net._connections.values())).retire()
        net.call(Peer(N2, addr), 4, n4, answers)
        await replicator.next(CallReceived)
        net.forget(N2)
        assert sorted([(await answers.queue.get()).request_id for _ in range(2)]) == [3, 4]


async def test_a_call_that_heard_nothing_in_all_its_time_leaves_the_connection_to_the_open_ones_alone() -> None:
    answers, replicator = Answers(), Replicator()
    n4: FetchRequest = dataclasses.replace(REQUEST, node_id=NodeId("n4"), max_bytes=2)
    async with (
        serving(service_of(replicator, NodeId("n1"), NodeId("n4"))) as addr,
        network(timeout_s=lambda request: 0.2 if request.max_bytes == 1 else 60.0) as net,
    ):
        net.call(Peer(N2, addr), 1, n4, answers)
        kept = await replicator.next(CallReceived)
        connection = next(iter(net._connections.values()))
        net.call(Peer(N2, addr), 2, dataclasses.replace(REQUEST, max_bytes=1), answers)
        assert "in time" in (await answers.queue.get()).reason
        assert net._connections == {}
        assert list(net._retired) == [connection]
        net.call(Peer(N2, addr), 3, REQUEST, answers)
        kept.reply_to.tell(CallAnswer(kept.request_id, response()))
        assert (await answers.queue.get()).request_id == 1
        while connection in net._retired:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        assert list(net._connections.values()) != [connection]
