"""Calls over framed connections: one end each, whatever becomes of the connection, and it is opened again at once."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from typing import Any

import pytest

from ourolog.actors.messages.peer_calls import (
    Answerer,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchOutcome,
    FetchRequest,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.fetch_limiter import MIB
from ourolog.rpc.gossip_port import listen_for_peers
from ourolog.rpc.peer import network as network_module
from ourolog.rpc.peer import outgoing
from ourolog.rpc.peer.frames import HEAD, Frame, FrameKind
from ourolog.rpc.peer.listener import PeerListener
from ourolog.rpc.peer.refusals import refusal_frame
from ourolog.rpc.peer.service import MAX_CALLS_EACH, PeerService
from ourolog.rpc.peer.testing import frames_of, scripted_peer
from ourolog.rpc.peer_codec import CODECS
from ourolog.storage.types import START, NodeId, Term
from tests.rpc.peer.certificates import Certificates
from tests.rpc.peers import N2, REQUEST, Answers, Replicator, listening, network, response, service_of, serving

ELECTED: FetchRequest = dataclasses.replace(REQUEST, elected=True, max_bytes=16 * MIB)


def asked(term: int) -> LogEndRequest:
    return LogEndRequest("c", NodeId("n1"), 5, "none", Term(term))


def told(term: int) -> LogEndResponse:
    return LogEndResponse(N2, 9, Term(term), None, START, None, START)


async def answer_next(replicator: Replicator, batches: bytes) -> None:
    received = await replicator.next(CallReceived)
    received.reply_to.tell(CallAnswer(received.request_id, response(batches)))


async def test_calls_are_answered_in_any_order_each_with_its_own_answer() -> None:
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    async with serving(service) as addr, network() as net:
        for number in range(MAX_CALLS_EACH // 2):
            net.call(Peer(N2, addr), number, asked(number), answers)
        received = [await election.next(CallReceived) for _ in range(MAX_CALLS_EACH // 2)]
        for call in reversed(received):
            call.reply_to.tell(CallAnswer(call.request_id, told(call.request.term)))
            number = call.request.term
            assert await answers.queue.get() == CallReturned(N2, number, told(number))


async def test_a_call_that_is_given_up_is_cancelled_and_the_connection_goes_on() -> None:
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    async with serving(service) as addr, network(timeout_s=lambda request: 0.1 if request.term == 1 else 60.0) as net:
        net.call(Peer(N2, addr), 2, asked(2), answers)
        other = await election.next(CallReceived)
        net.call(Peer(N2, addr), 1, asked(1), answers)
        given_up = await election.next(CallReceived)
        assert (await answers.queue.get()).request_id == 1
        assert await election.next(CallCancelled) == CallCancelled(given_up.request_id)
        given_up.reply_to.tell(CallAnswer(given_up.request_id, told(1)))  # too late, and harmless
        other.reply_to.tell(CallAnswer(other.request_id, told(2)))
        assert await answers.queue.get() == CallReturned(N2, 2, told(2))


async def answer_call(election: Replicator) -> None:
    received = await election.next(CallReceived)
    received.reply_to.tell(CallAnswer(received.request_id, told(received.request.term)))


async def test_a_connection_where_anything_came_meanwhile_is_kept_when_a_call_is_late() -> None:
    """Also if it came within the same millisecond, which uvloop's clock does not tell apart: hence many of them."""
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    async with serving(service) as addr, contextlib.AsyncExitStack() as stack:
        nets = []
        for _ in range(MAX_CALLS_EACH - 2):
            timed = network(timeout_s=lambda request: 0.5 if request.term == 1 else 60.0)
            net = await stack.enter_async_context(timed)
            net.call(Peer(N2, addr), 1, asked(1), answers)
            await election.next(CallReceived)
            (connection,) = net._connections.values()
            net.call(Peer(N2, addr), 2, asked(2), answers)
            await answer_call(election)
            assert (await answers.queue.get()).request_id == 2
            nets.append((net, connection))
        for _ in nets:
            assert (await answers.queue.get()).request_id == 1
        for net, connection in nets:
            assert list(net._connections.values()) == [connection]
            net.call(Peer(N2, addr), 3, asked(3), answers)
            await answer_call(election)
            assert await answers.queue.get() == CallReturned(N2, 3, told(3))


async def test_a_connection_outlives_the_time_for_hello_and_is_not_idle_while_a_call_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "WELCOMED_WITHIN_S", 0.05)
    monkeypatch.setattr(outgoing, "IDLE_S", 0.05)
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    async with (
        serving(service) as addr,
        network(timeout_s=lambda request: 0.2 if request.term == 1 else 60.0) as net,
    ):
        net.call(Peer(N2, addr), 2, asked(2), answers)
        kept = await election.next(CallReceived)
        net.call(Peer(N2, addr), 1, asked(1), answers)
        assert "in time" in (await answers.queue.get()).reason
        kept.reply_to.tell(CallAnswer(kept.request_id, told(2)))
        assert await answers.queue.get() == CallReturned(N2, 2, told(2))


async def test_a_connection_with_an_open_call_is_no_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "IDLE_S", 0.05)
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    async with serving(service) as addr, network() as net:
        net.call(Peer(N2, addr), 1, asked(1), answers)
        kept = await election.next(CallReceived)
        (connection,) = net._connections.values()
        connection._idle_since_s -= 60.0
        looked = asyncio.Event()
        look = connection._look_whether_idle
        connection._timer.cancel()
        asyncio.get_running_loop().call_soon(lambda: (look(), looked.set()))
        await looked.wait()
        assert connection.is_usable
        kept.reply_to.tell(CallAnswer(kept.request_id, told(1)))
        assert await answers.queue.get() == CallReturned(N2, 1, told(1))


async def test_the_timer_of_a_call_ends_with_it() -> None:
    election, answers = Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    async with serving(service) as addr, network(timeout_s=lambda request: 0.1 * request.term) as net:
        net.call(Peer(N2, addr), 1, asked(1), answers)
        await answer_call(election)
        net.call(Peer(N2, addr), 2, asked(2), answers)
        assert [(await answers.queue.get()).request_id for _ in range(2)] == [1, 2]
    assert wrong == []


async def test_what_is_given_up_while_it_connects_has_one_end() -> None:
    answers = Answers()
    wrong: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    async with serving(service_of(Replicator())) as addr, network() as net:
        for turns in range(12):
            net.call(Peer(N2, addr), turns, ELECTED, answers)
            for _ in range(turns):
                await asyncio.sleep(0)
            net.forget(N2)
            failed = await answers.queue.get()
            assert (type(failed), failed.request_id) == (CallFailed, turns)
        while net._retired:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
    assert wrong == []
    assert answers.queue.empty()


def test_what_is_given_up_the_moment_it_is_connected_has_one_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def give_up() -> None:
        answers = Answers()
        wrong: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        async with serving(service_of(Replicator())) as addr, network() as net:
            net.call(Peer(N2, addr), 1, ELECTED, answers)
            assert "given up" in (await answers.queue.get()).reason
            while net._retired:  # noqa: ASYNC110  # it has no event for that
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
        assert wrong == []
        assert answers.queue.empty()

    monkeypatch.setattr(outgoing.OutgoingConnection, "opened", lambda connection: connection.abort("given up"))
    # On asyncio's own loop, which tells both the attempt and the connection of its end.
    asyncio.run(give_up())


async def test_a_call_right_behind_the_refusal_of_a_connection_connects_anew() -> None:
    refusals = [refusal_frame(FrameKind.OVERLOADED, "had no call")]
    last: asyncio.Queue[Any] = asyncio.Queue()

    def answer(request: Frame) -> Frame:
        message, payload = CODECS[LogEndRequest].answer_to_wire(told(2))
        return refusals.pop() if refusals else Frame(FrameKind.ANSWER, request.call_id, 0, message, payload)

    async with scripted_peer(answer) as addr, network() as net:

        class AskAgain:
            def tell(self, refused: Any) -> None:
                assert "had no call" in refused.reason
                net._start(network_module._Order(Peer(N2, addr), 2, asked(2), Last()))  # type: ignore[arg-type]

        class Last:
            def tell(self, message: Any) -> None:
                last.put_nowait(message)

        net.call(Peer(N2, addr), 1, asked(1), AskAgain())  # type: ignore[arg-type]
        assert await last.get() == CallReturned(N2, 2, told(2))


async def test_a_connection_for_urgent_calls_that_has_none_makes_room_and_one_for_batches_does_not() -> None:
    election, replicator, answers = Replicator(), Replicator(), Answers()
    service = PeerService(N2, {Answerer.ELECTION: election, Answerer.REPLICATOR: replicator}, [NodeId("n1")])
    n3, n4 = NodeId("n3"), NodeId("n4")
    async with serving(service) as addr, network(most_connections=1) as net:
        for request_id, peer_id in enumerate((N2, n3)):
            net.call(Peer(peer_id, addr), request_id, asked(1), answers)
            await answer_call(election)
            assert await answers.queue.get() == CallReturned(peer_id, request_id, told(1))
        net.call(Peer(n4, addr), 3, ELECTED, answers)
        await answer_next(replicator, b"")
        assert (await answers.queue.get()).request_id == 3
        net.call(Peer(n3, addr), 4, asked(1), answers)
        assert "open files" in (await answers.queue.get()).reason


async def test_forgetting_a_peer_ends_fetches_on_connections_that_take_no_new_ones() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator, NodeId("n1"))) as addr, network() as net:
        net.call(Peer(N2, addr), 1, ELECTED, answers)
        await replicator.next(CallReceived)
        (connection,) = net._connections.values()
        connection.retire()
        net.forget(N2)
        failed = await answers.queue.get()
        assert (failed.request_id, failed.reason) == (1, f"n2 at {addr}: the connection was dropped")


@pytest.mark.parametrize("ends_by", ["forget", "close"])
async def test_a_fetch_whose_batches_are_being_checked_fails_when_nobody_wants_them_any_more(
    ends_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking = asyncio.Event()

    async def check(*_: Any) -> Any:
        checking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(network_module, "readable_prefix", check)
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator, NodeId("n1"))) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        await answer_next(replicator, b"batches")
        await checking.wait()
        if ends_by == "forget":
            net.forget(N2)
        else:
            await net.close()
        failed = await answers.queue.get()
        assert (type(failed), failed.request_id) == (CallFailed, 1)
        assert "dropped" in failed.reason


@pytest.mark.parametrize("elected", [False, True])
async def test_batches_that_nobody_has_elected_are_checked_before_the_actor_gets_them(
    elected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(batches: bytes, *_: Any) -> tuple[bytes, str]:
        return batches[:4], "the rest is noise"

    monkeypatch.setattr(network_module, "readable_prefix", check)
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator, NodeId("n1"))) as addr, network() as net:
        net.call(Peer(N2, addr), 1, dataclasses.replace(REQUEST, elected=elected), answers)
        await answer_next(replicator, b"goodbad")
        got = (await answers.queue.get()).response
        assert (got.batches, got.unreadable) == ((b"goodbad", "") if elected else (b"good", "the rest is noise"))


@pytest.mark.parametrize("size", [0, 1, 1000, 64 * 1024, MIB, 16 * MIB])
async def test_batches_of_any_size_pass_unchanged(size: int) -> None:
    replicator, answers = Replicator(), Answers()
    batches = os.urandom(size)
    async with serving(service_of(replicator, NodeId("n1"))) as addr, network() as net:
        for request_id in range(2):
            net.call(Peer(N2, addr), request_id, ELECTED, answers)
            await answer_next(replicator, batches)
            assert await answers.queue.get() == CallReturned(N2, request_id, response(batches))


async def test_a_peer_that_dies_in_the_middle_of_an_answer_fails_the_call_once_and_the_next_one_connects() -> None:
    answers = Answers()
    whole = Frame(FrameKind.ANSWER, 1, payload=bytes(3 * MIB))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for frame in frames_of(reader):
            if frame.kind is FrameKind.HELLO:
                writer.write(frame.head_and_message())
            else:
                writer.write(whole.head_and_message() + whole.payload[: 2 * MIB])
                await writer.drain()
                writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, network() as net:
        peer = Peer(N2, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for request_id in range(3):
            net.call(peer, request_id, ELECTED, answers)
            failed = await answers.queue.get()
            assert (type(failed), failed.request_id, failed.is_refused) == (CallFailed, request_id, False)
        assert answers.queue.empty()


async def test_a_peer_that_was_started_again_is_called_again_at_once() -> None:
    replicator, answers = Replicator(), Answers()
    async with network() as net:
        async with serving(service_of(replicator, NodeId("n1"))) as addr:
            net.call(Peer(N2, addr), 1, ELECTED, answers)
            await replicator.next(CallReceived)
        failed = await answers.queue.get()
        assert (failed.request_id, failed.is_refused) == (1, False)
        net.call(Peer(N2, addr), 2, ELECTED, answers)
        assert (await answers.queue.get()).is_refused
        listener = PeerListener(service_of(replicator, NodeId("n1")))
        listener.start(await listen_for_peers(addr))
        net.call(Peer(N2, addr), 3, ELECTED, answers)
        await replicator.next(CallCancelled)
        await answer_next(replicator, b"batches")
        assert await answers.queue.get() == CallReturned(N2, 3, response(b"batches"))
        await listener.close()


async def test_a_peer_that_stands_still_is_not_waited_for_longer_than_it_takes_to_say_hello(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "WELCOMED_WITHIN_S", 0.05)
    answers = Answers()

    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(stand_still, "127.0.0.1", 0) as server, network() as net:
        peer = Peer(N2, f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for request_id in range(2):
            net.call(peer, request_id, ELECTED, answers)
        for request_id in range(2):
            failed = await answers.queue.get()
            assert (failed.request_id, failed.is_refused) == (request_id, False)
            assert "not answered in time" in failed.reason


async def test_a_connection_without_a_call_is_closed_and_the_next_call_opens_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "IDLE_S", 0.05)
    replicator, answers = Replicator(), Answers()
    async with listening(service_of(replicator, NodeId("n1"))) as (addr, listener), network() as net:
        for request_id in range(2):
            net.call(Peer(N2, addr), request_id, ELECTED, answers)
            await answer_next(replicator, b"")
            assert isinstance(await answers.queue.get(), CallReturned)
            while len(listener) or net._connections or net._retired:  # noqa: ASYNC110  # it has no event for that
                await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no ourolog node, or one of another version"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "no ourolog node"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "no ourolog node"),  # the settings of HTTP/2
        (Frame(FrameKind.ANSWER, 1).head_and_message(), "no ourolog node"),
        (b"", "closed the connection"),
    ],
)
async def test_who_does_not_answer_a_hello_as_nodes_do_fails_the_call_saying_so(raw: bytes, why: str) -> None:
    answers = Answers()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, network() as net:
        net.call(Peer(N2, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), 1, ELECTED, answers)
        failed = await answers.queue.get()
        assert isinstance(failed, CallFailed)
        assert why in failed.reason
        assert answers.queue.empty()


@pytest.mark.parametrize(
    "answer",
    [
        b"\x99" * 100,
        HEAD.pack(FrameKind.ANSWER, 0, 1, 0, 2**32 - 1),
        Frame(FrameKind.REQUEST, 1, 1).head_and_message(),
        Frame(FrameKind.ANSWER, 1, message=b"\xff\xff").head_and_message(),
        Frame(FrameKind.ANSWER, 1, message=b"", payload=b"payload").head_and_message() + b"payload",
        Frame(FrameKind.BROKEN, 1, message=b"\xff" * 5000).head_and_message(),
    ],
)
async def test_an_answer_that_is_none_fails_the_call_once(answer: bytes) -> None:
    class Raw(Frame):
        def head_and_message(self) -> bytes:
            return answer

    answers = Answers()
    async with scripted_peer(lambda _: Raw(FrameKind.ANSWER)) as addr, network() as net:
        for request_id in range(2):
            net.call(Peer(N2, addr), request_id, asked(1), answers)
            failed = await answers.queue.get()
            assert (type(failed), failed.request_id) == (CallFailed, request_id)
            assert len(failed.reason) < 1000
        assert answers.queue.empty()


async def test_answers_to_calls_that_nobody_made_are_nothing() -> None:
    answers = Answers()
    async with scripted_peer(lambda request: Frame(FrameKind.ANSWER, request.call_id + 7)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, asked(1), answers)
        net.forget(NodeId("n9"))
        await asyncio.sleep(0.05)
        assert answers.queue.empty()


async def test_a_listener_of_another_version_is_a_refusal_to_pulls_and_declines_all_else() -> None:
    why = "the caller speaks peer protocol 5, n2 speaks 6: run the same version of ourolog on both"
    answers = Answers()

    def decline(_: Frame) -> Frame:
        return refusal_frame(FrameKind.DECLINED, why)

    async with scripted_peer(lambda _: None, hello=decline) as addr, network() as net:
        net.call(Peer(N2, addr), 1, ELECTED, answers)
        returned = await answers.queue.get()
        assert (returned.request_id, returned.response.outcome) == (1, FetchOutcome.REFUSED)
        assert returned.response.detail == why
        net.call(Peer(N2, addr), 2, asked(1), answers)
        assert await answers.queue.get() == CallFailed(N2, 2, why, is_declined=True)


# ---------------------------------------------------------------- TLS


async def test_calls_and_large_batches_pass_over_tls_where_both_ends_prove_who_they_are(
    certificates: Certificates,
) -> None:
    replicator, answers = Replicator(), Answers()
    batches = os.urandom(16 * MIB)
    service = service_of(replicator, NodeId("n1"))
    async with (
        listening(service, ssl_context=certificates.listener()) as (addr, _),
        network(ssl_context=certificates.caller()) as net,
    ):
        for request_id in range(3):
            net.call(Peer(N2, addr), request_id, ELECTED, answers)
            await answer_next(replicator, batches)
            assert await answers.queue.get() == CallReturned(N2, request_id, response(batches))
    assert service._voter_fetches.used_bytes == 0


async def test_a_peer_whose_certificate_is_not_for_its_name_is_not_called(certificates: Certificates) -> None:
    replicator, answers = Replicator(), Answers()
    async with (
        listening(service_of(replicator), ssl_context=certificates.listener()) as (addr, _),
        network(ssl_context=certificates.caller()) as net,
    ):
        net.call(Peer(N2, addr.replace("127.0.0.1", "localhost")), 1, ELECTED, answers)
        failed = await answers.queue.get()
        assert (type(failed), failed.is_refused) == (CallFailed, False)
        assert replicator.received == []


async def test_who_speaks_no_tls_or_shows_no_certificate_is_not_answered(
    certificates: Certificates, logged: Any
) -> None:
    replicator, answers = Replicator(), Answers()
    async with contextlib.AsyncExitStack() as stack:
        service = service_of(replicator)
        over_tls, _ = await stack.enter_async_context(listening(service, ssl_context=certificates.listener()))
        plain, _ = await stack.enter_async_context(listening(service))
        for addr, context in (
            (over_tls, None),
            (over_tls, certificates.caller(shows_one=False)),
            (plain, certificates.caller()),
        ):
            net = await stack.enter_async_context(network(ssl_context=context))
            net.call(Peer(N2, addr), 1, ELECTED, answers)
            failed = await answers.queue.get()
            assert (type(failed), failed.is_refused) == (CallFailed, False)
        assert replicator.received == []
    assert logged() == []
