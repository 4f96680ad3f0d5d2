"""Who connects to a node as another node: strangers are told so, and nobody costs more than is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import resource
import socket
from collections.abc import Callable
from typing import Any

import pytest

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.peer_calls import (
    Answerer,
    CallAnswer,
    CallCancelled,
    CallReceived,
    FetchRequest,
    LogEndRequest,
)
from ourolog.rpc.election_codec import encode_log_end_request
from ourolog.rpc.fetch_limiter import MIB
from ourolog.rpc.gossip_port import listen_for_peers
from ourolog.rpc.peer.frames import HEAD, Frame, FrameKind
from ourolog.rpc.peer.hello import MAGIC, VERSION, Hello, Lane
from ourolog.rpc.peer.listener import ListenerLimits, PeerListener
from ourolog.rpc.peer.served import MAX_REQUEST_BYTES, ServedConnection
from ourolog.rpc.peer.service import MAX_CALLS_EACH, PeerService
from ourolog.rpc.peer.testing import FrameClient
from ourolog.rpc.peer_codec import CODECS, encode_fetch_request
from ourolog.rpc.peer_values import PROTOCOL
from ourolog.storage.types import NodeId
from tests.rpc.peer.certificates import Certificates
from tests.rpc.peers import N2, REQUEST, Replicator, caller, listening, response, service_of

HELLO = Hello(Lane.URGENT).frame().head_and_message()
LOG_END = CODECS[LogEndRequest].number
ASKED = encode_log_end_request(LogEndRequest("c", NodeId("n1"), 5, "none", 3)).SerializeToString()  # type: ignore[arg-type]
LIMITS = ListenerLimits(max_connections=4, max_each=4, look_every_s=0.01)


def electing(election: Replicator) -> PeerService:
    return PeerService(N2, {Answerer.ELECTION: election, Answerer.REPLICATOR: Replicator()})


def request(call_id: int, message: bytes = ASKED, payload: bytes = b"") -> bytes:
    frame = Frame(FrameKind.REQUEST, call_id, LOG_END, message, payload)
    return frame.head_and_message() + payload


async def talk(addr: str, data: bytes) -> bytes:
    """What somebody gets who sends this, until the connection is closed."""
    reader, writer = await asyncio.open_connection(*split_address(addr))
    writer.write(data)
    got = b""
    with contextlib.suppress(OSError):
        while came := await reader.read(65536):
            got += came
    writer.close()
    return got


async def serves(addr: str, election: Replicator) -> None:
    """A call is answered there."""
    async with caller(addr) as client:
        call = client.request(1, LOG_END, ASKED)
        received = await election.next(CallReceived)
        client.cancel(1)
        assert await election.next(CallCancelled) == CallCancelled(received.request_id)
        call.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # there is no event for that
        await asyncio.sleep(0)


def connections(listener: PeerListener) -> list[ServedConnection]:
    return list(listener._served)


# ---------------------------------------------------------------- strangers


STRANGERS: dict[str, tuple[bytes, bytes]] = {
    "noise": (b"\x99" + random.Random(1).randbytes(3000), b""),
    "a TLS hello": (bytes.fromhex("160301020001000001fc0303") + bytes(200), b""),
    "HTTP/1.1": (b"GET / HTTP/1.1\r\nHost: n2\r\n\r\n", b"where ourolog nodes call each other"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 400"),
    "another magic number": (Frame(FrameKind.HELLO, MAGIC + 1, message=b"abcdef").head_and_message(), b"not served"),
    "a short hello": (Frame(FrameKind.HELLO, MAGIC, message=b"ab").head_and_message(), b"not served"),
    "no such lane": (Frame(FrameKind.HELLO, MAGIC, message=b"\x01\x07\0\0\0\5").head_and_message(), b"no lane 7"),
    "a request before hello": (request(1), b"not served"),
    "another protocol": (
        Hello(Lane.BULK, protocol=PROTOCOL + 1).frame().head_and_message(),
        f"protocol {PROTOCOL + 1}, n2 speaks {PROTOCOL}: run the same version of ourolog on both".encode(),
    ),
    "other frames": (
        Hello(Lane.BULK, version=VERSION + 1).frame().head_and_message(),
        f"version {VERSION + 1} of the frames between nodes, n2 uses {VERSION}".encode(),
    ),
    "hello twice": (HELLO * 2, b"a HELLO is no request"),
    "noise behind hello": (HELLO + b"\x99" * 100, b"begins with the byte 153"),
    "4 GiB": (HELLO + HEAD.pack(FrameKind.REQUEST, LOG_END, 1, 2**32 - 1, 2**32 - 1), b"is larger than"),
    "a request that is too large": (HELLO + request(1, bytes(MAX_REQUEST_BYTES + 1)), b"is larger than"),
    "a payload": (HELLO + request(1, payload=b"x"), b"no payload"),
    "a call without a number": (HELLO + request(0), b"a number of its own"),
    "the same number twice": (HELLO + request(1) * 2, b"a number of its own"),
    "an answer": (HELLO + Frame(FrameKind.ANSWER, 1).head_and_message(), b"a ANSWER is no request"),
}


@pytest.mark.parametrize("what", STRANGERS)
async def test_who_is_no_node_or_of_another_version_is_closed_with_a_sentence_where_it_would_be_understood(
    what: str, logged: Callable[[], list[str]]
) -> None:
    sent, told = STRANGERS[what]
    election = Replicator()
    async with listening(electing(election)) as (addr, listener):
        assert told in await talk(addr, sent)
        await until(lambda: not len(listener))
        election.received.clear()
        await serves(addr, election)
    assert logged() == []


@pytest.mark.parametrize("sent", [b"", HELLO[:1], HELLO[:-1]])
async def test_who_does_not_say_hello_in_time_is_closed(sent: bytes) -> None:
    async with listening(electing(Replicator()), dataclasses.replace(LIMITS, hello_within_s=0.05)) as (addr, _):
        assert await talk(addr, sent) == b""


async def test_who_does_not_shake_hands_in_time_is_closed(certificates: Certificates) -> None:
    limits = dataclasses.replace(LIMITS, hello_within_s=0.05)
    async with listening(electing(Replicator()), limits, certificates.listener()) as (addr, listener):
        async with asyncio.timeout(20):  # which is less than TLS gives it by itself
            assert await talk(addr, b"") == b""
            await until(lambda: not len(listener))


async def test_a_hello_may_say_more_than_this_version_knows() -> None:
    said = Hello(Lane.URGENT).frame()
    async with listening(electing(Replicator())) as (addr, _):
        reader, writer = await asyncio.open_connection(*split_address(addr))
        longer = dataclasses.replace(said, message=said.message + b"more")
        writer.write(longer.head_and_message())
        assert await reader.readexactly(len(HELLO)) == HELLO
        writer.close()


async def test_a_request_that_comes_a_byte_at_a_time_is_not_waited_for() -> None:
    election = Replicator()
    async with (
        listening(electing(election), dataclasses.replace(LIMITS, frame_within_s=0.05)) as (addr, _),
        caller(addr) as client,
    ):
        for byte in request(1) * 1000:
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0.002)
            if client.ended.done():
                break
        assert "did not arrive within" in await client.ended


async def test_requests_that_follow_each_other_without_a_gap_are_no_slow_one() -> None:
    election = Replicator()
    async with (
        listening(electing(election), dataclasses.replace(LIMITS, frame_within_s=0.05)) as (addr, listener),
        caller(addr) as client,
    ):
        await until(lambda: bool(connections(listener)))
        (served,) = connections(listener)
        half = request(1)[:20]
        client.writer.write(half)
        await until(lambda: served.connection.has_begun_frame)
        assert served.begun_s(10.0) == 0.0
        assert served.begun_s(11.0) == 1.0
        client.writer.write(request(1)[20:] + request(2)[:20])
        await election.next(CallReceived)
        assert served.begun_s(12.0) == 0.0
        client.writer.write(request(2)[20:])
        await election.next(CallReceived)
        assert served.begun_s(13.0) == 0.0


# ---------------------------------------------------------------- how many


async def test_silent_strangers_make_room_however_many_they_are() -> None:
    election = Replicator()
    async with listening(electing(election), LIMITS) as (addr, listener), contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(caller(addr, hello=False))
        await serves(addr, election)
        assert len(listener) <= LIMITS.max_connections + 1


async def from_host(stack: contextlib.AsyncExitStack, host: str, addr: str, *, hello: bool = False) -> FrameClient:
    """A caller on another machine; all of 127/8 is this one."""
    client = FrameClient(*await asyncio.open_connection(*split_address(addr), local_addr=(host, 0)))
    if hello:
        client.send(Hello(Lane.URGENT).frame())
    stack.push_async_callback(client.close)
    return client


async def test_a_place_is_that_of_the_oldest_stranger_of_the_machine_that_has_too_many_or_else_of_all() -> None:
    limits = dataclasses.replace(LIMITS, max_each=2, hello_within_s=3600.0)
    async with listening(electing(Replicator()), limits) as (addr, listener), contextlib.AsyncExitStack() as stack:
        other = await from_host(stack, "127.0.0.2", addr)
        clients = [await from_host(stack, "127.0.0.1", addr) for _ in range(3)]
        assert await clients[0].ended == ""
        assert not any(client.ended.done() for client in (other, *clients[1:]))
        for host in ("127.0.0.3", "127.0.0.4"):
            clients.append(await from_host(stack, host, addr))
        assert await other.ended == ""
        await until(lambda: len(listener) == 4)
        assert listener._by_host == {"127.0.0.1": 2, "127.0.0.3": 1, "127.0.0.4": 1}
        for client in clients:
            client.vanish()
        await until(lambda: not len(listener))
        assert listener._by_host == {}


async def test_of_those_that_ask_nothing_the_longest_idle_makes_room() -> None:
    limits = dataclasses.replace(LIMITS, idle_s=3600.0)
    async with listening(electing(Replicator()), limits) as (addr, listener), contextlib.AsyncExitStack() as stack:
        clients = [await from_host(stack, "127.0.0.1", addr, hello=True) for _ in range(4)]
        await until(lambda: [served.lane for served in connections(listener)] == [Lane.URGENT] * 4)
        connections(listener)[2].used_s -= 1.0
        await from_host(stack, "127.0.0.1", addr)
        assert "had no call" in await clients[2].ended
        assert [client.ended.done() for client in clients] == [False, False, True, False]


async def test_a_connection_is_idle_since_its_last_call_has_ended_which_then_takes_no_room() -> None:
    election = Replicator()
    service = electing(election)
    async with listening(service) as (addr, listener), caller(addr) as client:
        await until(lambda: len(listener) == 1)
        (served,) = connections(listener)
        for call_id in range(1, 2 * MAX_CALLS_EACH):
            client.request(call_id, LOG_END, ASKED)
            await election.next(CallReceived)
            served.used_s -= 60.0
            before_s = asyncio.get_running_loop().time()
            client.cancel(call_id)
            await election.next(CallCancelled)
            await until(lambda: served.is_idle)
            assert served.used_s >= before_s
            assert service._open[Lane.URGENT].count == 0


def test_others_are_served_while_many_connect_at_once() -> None:
    async def connect_many() -> int:
        sock = await listen_for_peers("127.0.0.1:0")
        turns = 0
        listener = PeerListener(electing(Replicator()), dataclasses.replace(LIMITS, max_connections=99, max_each=99))
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                stack.enter_context(socket.create_connection(sock.getsockname()))
            listener.start(sock)
            while len(listener) < 50:
                turns += 1
                await asyncio.sleep(0)
        await listener.close()
        return turns

    # On asyncio's own loop, where who accepts does not wait if somebody is there.
    assert asyncio.run(connect_many()) >= 50


async def test_a_node_that_has_no_descriptor_left_accepts_once_it_has() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening(electing(Replicator())) as (addr, _):
        loop = asyncio.get_running_loop()
        with socket.socket() as calling:
            calling.setblocking(False)
            free = os.dup(calling.fileno())
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                await loop.sock_connect(calling, split_address(addr))
                for _ in range(50):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await loop.sock_sendall(calling, HELLO)
            assert await loop.sock_recv(calling, len(HELLO)) == HELLO


async def test_a_listener_that_closes_has_what_is_on_its_way_delivered() -> None:
    replicator = Replicator()
    size = 16 * MIB
    listener = PeerListener(service_of(replicator, NodeId("n1")))
    sock = await listen_for_peers("127.0.0.1:0")
    listener.start(sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    asked = encode_fetch_request(dataclasses.replace(REQUEST, max_bytes=size)).SerializeToString()
    fetch = Frame(FrameKind.REQUEST, 1, CODECS[FetchRequest].number, asked)
    writer.write(Hello(Lane.BULK).frame().head_and_message() + fetch.head_and_message())
    received = await replicator.next(CallReceived)
    received.reply_to.tell(CallAnswer(received.request_id, response(bytes(size))))
    (served,) = connections(listener)
    await until(lambda: served.connection.is_stalled)
    closing = asyncio.create_task(listener.close(60.0))
    got = len(await reader.read())
    assert got > size
    await closing
    writer.close()


async def test_a_listener_that_had_no_connections_for_a_while_closes_those_that_came_since() -> None:
    async with listening(electing(Replicator())) as (addr, listener):
        async with caller(addr):
            await until(lambda: len(listener) == 1)
        await until(lambda: not len(listener))
        client = await FrameClient.open(addr)
        await until(lambda: len(listener) == 1)
    assert await client.ended == ""
    await client.close()


async def test_who_does_not_let_go_of_a_connection_that_is_closed_is_not_waited_for(
    certificates: Certificates,
) -> None:
    limits = dataclasses.replace(LIMITS, idle_s=0.01, taken_within_s=0.05)
    async with (
        listening(electing(Replicator()), limits, certificates.listener()) as (addr, listener),
        caller(addr, ssl_context=certificates.caller()) as client,
    ):
        await until(lambda: [served.lane for served in connections(listener)] == [Lane.URGENT])
        client.stop_reading()
        async with asyncio.timeout(20):  # which is less than TLS waits by itself
            await until(lambda: not len(listener))


async def test_who_asks_nothing_makes_room_and_is_told_and_who_waits_for_an_answer_does_not() -> None:
    election = Replicator()
    async with listening(electing(election), LIMITS) as (addr, listener), contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(4):
            clients.append(await stack.enter_async_context(caller(addr)))
            calls = [clients[-1].request(1, LOG_END, ASKED)]
            received = await election.next(CallReceived)
        client = await stack.enter_async_context(caller(addr))
        assert await client.ended == ""  # all are asking
        clients[-1].cancel(1)
        assert await election.next(CallCancelled) == CallCancelled(received.request_id)
        await serves(addr, election)
        assert "had no call" in await clients[-1].ended
        assert not any(one.ended.done() for one in clients[:-1])
        assert not calls[0].done() or calls[0].result().kind is FrameKind.OVERLOADED
        await until(lambda: len(listener) <= 4)


async def test_one_machine_makes_room_for_itself_and_leaves_the_rest_to_others() -> None:
    election = Replicator()
    limits = dataclasses.replace(LIMITS, max_each=2)
    async with listening(electing(election), limits) as (addr, listener), contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(caller(addr, hello=False))
        await until(lambda: len(listener) <= 2)
        await serves(addr, election)
        assert dict(listener._by_host).get("127.0.0.1", 0) <= 2


async def test_a_connection_without_a_call_is_closed_after_a_while_and_one_with_a_call_is_not() -> None:
    election = Replicator()
    async with (
        listening(electing(election), dataclasses.replace(LIMITS, idle_s=0.05)) as (addr, _),
        caller(addr) as idle,
        caller(addr) as asking,
    ):
        asking.request(1, LOG_END, ASKED)
        received = await election.next(CallReceived)
        assert await idle.ended == ""
        assert not asking.ended.done()
        asking.cancel(1)
        assert await election.next(CallCancelled) == CallCancelled(received.request_id)
        assert await asking.ended == ""


# ---------------------------------------------------------------- how much


async def test_who_does_not_take_its_answers_is_closed_after_a_while_and_they_are_let_go() -> None:
    replicator = Replicator()
    service = service_of(replicator, NodeId("n1"))
    limits = dataclasses.replace(LIMITS, taken_within_s=0.1)
    async with listening(service, limits) as (addr, listener), caller(addr, Lane.BULK) as client:
        client.call(FetchRequest, encode_fetch_request(dataclasses.replace(REQUEST, max_bytes=16 * MIB)))
        received = await replicator.next(CallReceived)
        client.stop_reading()
        received.reply_to.tell(CallAnswer(received.request_id, response(bytes(16 * MIB))))
        await until(lambda: bool(service._voter_fetches.used_bytes))
        async with asyncio.timeout(10):  # which is less than the kernel waits by itself
            await until(lambda: not len(listener))
        assert service._voter_fetches.used_bytes == 0


async def test_who_asks_on_and_on_and_reads_nothing_is_not_read_any_more() -> None:
    async with listening(electing(Replicator()), LIMITS) as (addr, listener), caller(addr) as client:
        await until(lambda: bool(connections(listener)))
        (served,) = connections(listener)
        client.stop_reading()
        unknown = Frame(FrameKind.REQUEST, 1, 99).head_and_message() * 1000  # each is refused with a sentence
        while not served.connection.is_stalled:
            client.writer.write(unknown)
            await asyncio.sleep(0)
        read = served.connection.frames_received
        for _ in range(100):
            client.writer.write(unknown)
            await asyncio.sleep(0)
        assert served.connection.frames_received == read
        assert sum(len(outgoing.data) for outgoing in served.connection._outgoing) < MIB


async def test_a_crowd_of_strangers_that_all_send_noise_leaves_nothing_behind(logged: Any) -> None:
    election = Replicator()
    rng = random.Random(2)
    async with listening(electing(election)) as (addr, listener):

        async def noisy(at: int) -> None:
            client = await FrameClient.open(addr, hello=bool(at % 2))
            client.writer.write(rng.randbytes(rng.randrange(2000)))
            if at % 3:
                client.vanish()
            else:
                await client.close()

        await asyncio.gather(*(noisy(at) for at in range(200)))
        await serves(addr, election)
    assert len(listener) == 0
    assert listener._by_host == {}
    assert logged() == []
