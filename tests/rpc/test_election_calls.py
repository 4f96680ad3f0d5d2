"""Calls that an election answers, over real sockets: one end each, and none waits behind others."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.events import VotersChanged
from ourolog.actors.messages.peer_calls import (
    CALL_KINDS,
    Answerer,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    FetchRequest,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.election_codec import (
    decode_log_end_request,
    decode_log_end_response,
    encode_log_end_request,
    encode_log_end_response,
)
from ourolog.rpc.fetch_limiter import MIB
from ourolog.rpc.peer.frames import Frame, FrameKind
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.refusals import sentence_of
from ourolog.rpc.peer.service import MAX_CALLS_EACH, PeerService
from ourolog.rpc.peer.testing import FrameClient, scripted_peer
from ourolog.rpc.peer_codec import CODECS, encode_fetch_request
from ourolog.rpc.peer_values import MAX_DETAIL_CHARS, MAX_NAME_CHARS, PROTOCOL, PeerCodecError
from ourolog.rpc.urgent_call_limiter import MAX_CALLS_PER_NAME
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.rpc.peers import REQUEST, Answers, Replicator, caller, network, places, positions, response, serving, u64

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ASKED = LogEndRequest("c", N1, 5, "static:n1,n2,n3", Term(3))
TOLD = LogEndResponse(
    N2, 9, Term(4), N3, Position(Index(7), Offset(11)), Place(Term(2), (N3, 8)), Position(Index(6), Offset(10))
)


class Actor(Replicator):
    """An election that is the test; it answers by itself once told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = False
        self.most_at_once = 0
        self.open: set[int] = set()

    def tell(self, message: Any) -> None:
        match message:
            case CallReceived():
                self.open.add(message.request_id)
                self.most_at_once = max(self.most_at_once, len(self.open))
                if self.answers:
                    self.answer(message)
            case CallCancelled():
                self.open.discard(message.request_id)
            case _:
                pass
        super().tell(message)

    def answer(self, received: CallReceived[Any], told: LogEndResponse | CallRefused = TOLD) -> None:
        self.open.discard(received.request_id)
        received.reply_to.tell(CallAnswer(received.request_id, told))


def service_of(election: Any, *voters: NodeId, replicator: Any = None) -> PeerService:
    answerers = {Answerer.ELECTION: election, Answerer.REPLICATOR: replicator or Replicator()}
    return PeerService(N2, answerers, voters)


def log_end(client: FrameClient, asked: LogEndRequest = ASKED) -> asyncio.Future[Frame]:
    return client.call(LogEndRequest, encode_log_end_request(asked))


async def ask(client: FrameClient, asked: LogEndRequest = ASKED) -> FrameKind:
    return (await log_end(client, asked)).kind


# ---------------------------------------------------------------- there and back


async def test_every_call_has_a_row_and_a_codec_with_a_number_of_its_own_and_all_are_served() -> None:
    assert set(CODECS) == set(CALL_KINDS)
    assert len({codec.number for codec in CODECS.values()}) == len(CODECS)
    assert len({kind.name for kind in CALL_KINDS.values()}) == len(CALL_KINDS)
    async with serving(service_of(Actor())) as addr, caller(addr) as client:
        for kind in CODECS:
            assert (await client.call(kind, b"\xff")).kind is FrameKind.INVALID


def test_the_numbers_of_calls_are_those_that_the_contract_names() -> None:
    contract = (pathlib.Path(__file__).parents[2] / "proto" / "peer.proto").read_text("utf-8")
    named = re.findall(r"//   (\d+) (\w+), (\w+), (\w+)\.", contract)
    made = [
        (str(codec.number), codec.method, codec.request_class.DESCRIPTOR.name, codec.response_class.DESCRIPTOR.name)
        for codec in CODECS.values()
    ]
    assert sorted(named) == sorted(made)


async def test_a_call_reaches_the_election_whole_and_so_does_its_answer() -> None:
    election, answers = Actor(), Answers()
    async with serving(service_of(election)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, ASKED, answers)
        received = await election.next(CallReceived)
        assert received.request == ASKED
        election.answer(received)
        assert await answers.queue.get() == CallReturned(N2, 7, TOLD)


async def test_a_refusal_fails_the_call_with_its_own_sentence_and_a_book_is_clipped() -> None:
    election, answers = Actor(), Answers()
    async with serving(service_of(election)) as addr, network() as net:
        for sentence in ('n2 runs with --election none, which does not answer the call "log end"', "x" * 5000):
            net.call(Peer(N2, addr), 7, ASKED, answers)
            election.answer(await election.next(CallReceived), CallRefused(sentence))
            failed = await answers.queue.get()
            assert isinstance(failed, CallFailed)
            assert failed.reason[:MAX_DETAIL_CHARS] == sentence[:MAX_DETAIL_CHARS]
            assert len(failed.reason) <= MAX_DETAIL_CHARS + 1


async def test_whoever_stops_pulling_from_a_node_goes_on_asking_its_election() -> None:
    election, replicator, answers, fetches = Actor(), Replicator(), Answers(), Answers()
    async with serving(service_of(election, replicator=replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, ASKED, answers)
        net.call(Peer(N2, addr), 2, REQUEST, fetches)
        received = await election.next(CallReceived)
        await replicator.next(CallReceived)
        net.forget(N2)
        assert isinstance(await fetches.queue.get(), CallFailed)
        election.answer(received)
        assert await answers.queue.get() == CallReturned(N2, 1, TOLD)


async def test_a_connection_on_which_an_election_has_asked_all_makes_room_and_an_open_one_does_not() -> None:
    election, answers = Actor(), Answers()
    async with serving(service_of(election)) as addr, network(most_connections=1) as net:
        net.call(Peer(N2, addr), 1, ASKED, answers)
        received = await election.next(CallReceived)
        net.call(Peer(N3, addr), 2, ASKED, answers)
        assert "open files" in (await answers.queue.get()).reason
        election.answer(received)
        assert (await answers.queue.get()).request_id == 1
        election.answers = True
        while True:  # its answer is there before its call has ended
            net.call(Peer(N3, addr), 3, ASKED, answers)
            if isinstance(await answers.queue.get(), CallReturned):
                break


# ---------------------------------------------------------------- one end each


async def test_a_caller_that_goes_away_or_is_closed_has_its_call_cancelled_and_ended_once() -> None:
    election, answers = Actor(), Answers()
    async with serving(service_of(election)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, ASKED, answers)
        received = await election.next(CallReceived)
        await net.close()
        assert isinstance(await answers.queue.get(), CallFailed)
        assert await election.next(CallCancelled) == CallCancelled(received.request_id)
        election.answer(received)  # too late, and harmless
        net.call(Peer(N2, addr), 2, ASKED, answers)
        assert (await answers.queue.get()).reason == "this node is stopping"
        assert answers.queue.empty()


async def test_an_election_that_never_answers_is_not_waited_for_by_a_caller_without_a_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soon = dataclasses.replace(CALL_KINDS[LogEndRequest], timeout_s=lambda _: 0.05)
    monkeypatch.setattr("ourolog.rpc.peer.service.CALL_KINDS", {**CALL_KINDS, LogEndRequest: soon})
    election = Actor()
    async with serving(service_of(election)) as addr, caller(addr) as client:
        assert await ask(client) is FrameKind.TIMED_OUT
        received = await election.next(CallReceived)
        assert await election.next(CallCancelled) == CallCancelled(received.request_id)


async def test_when_the_node_ends_each_open_call_ends_once_and_so_does_each_later_one() -> None:
    election, answers = Actor(), Answers()
    service = service_of(election)
    async with serving(service) as addr, network() as net:
        for request_id in range(5):
            net.call(Peer(N2, addr), request_id, ASKED, answers)
            await election.next(CallReceived)
        service.end("n2 is stopping")
        net.call(Peer(N2, addr), 5, ASKED, answers)
        ended = [await answers.queue.get() for _ in range(6)]
        assert sorted(failed.request_id for failed in ended) == list(range(6))
        assert all(isinstance(failed, CallFailed) and "n2 is stopping" in failed.reason for failed in ended)
        assert answers.queue.empty()
        assert election.received == []  # nobody is there any more to be told of it


# ---------------------------------------------------------------- what is no call


async def test_a_request_of_another_protocol_is_declined_with_both_numbers_and_the_election_never_hears_of_it() -> None:
    election = Actor()
    async with serving(service_of(election)) as addr, caller(addr) as client:
        request = encode_log_end_request(ASKED)
        request.protocol = PROTOCOL + 1
        refused = await client.call(LogEndRequest, request)
        assert refused.kind is FrameKind.DECLINED
        assert re.search(rf"protocol {PROTOCOL + 1}.*speaks {PROTOCOL}:", sentence_of(refused))
        assert election.received == []


async def test_what_is_no_call_is_invalid_is_logged_nowhere_and_the_election_never_hears_of_it(
    logged: Callable[[], list[str]],
) -> None:
    election = Actor()
    nobody, long = encode_log_end_request(ASKED), encode_log_end_request(ASKED)
    nobody.node_id = "../etc"
    long.election = "x" * (MAX_NAME_CHARS + 1)
    async with serving(service_of(election)) as addr, caller(addr) as client:
        for raw, why in (
            (nobody.SerializeToString(), "node id"),
            (long.SerializeToString(), "longer than"),
            (b"\xff\xff\xff", "not an encoded"),
            (b"\x00" * 60_000, "not an encoded"),
        ):
            refused = await client.call(LogEndRequest, raw)
            assert refused.kind is FrameKind.INVALID
            assert why in sentence_of(refused)
        assert "protocol 0" in sentence_of(await client.call(LogEndRequest, b""))
        assert (await client.request(77, 99, b"")).kind is FrameKind.UNKNOWN_CALL
    assert election.received == []
    assert logged() == []


async def test_fetches_of_batches_and_all_else_have_connections_of_their_own() -> None:
    election = Actor()
    async with (
        serving(service_of(election)) as addr,
        caller(addr, Lane.BULK) as bulk,
        caller(addr, Lane.URGENT) as urgent,
    ):
        for refused in (await log_end(bulk), await urgent.call(FetchRequest, encode_fetch_request(REQUEST))):
            assert refused.kind is FrameKind.INVALID
            assert "connection of their own" in sentence_of(refused)
    assert election.received == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (pb.LogEndResponse(protocol=PROTOCOL + 1, node_id="n2"), "same version"),
        (pb.LogEndResponse(protocol=PROTOCOL), "means nothing"),
        (pb.LogEndResponse(protocol=PROTOCOL, node_id="n2", leader_id="\n"), "means nothing"),
        (pb.LogEndResponse(protocol=PROTOCOL, node_id="n2", last=pb.Place(writer="..")), "means nothing"),
    ],
)
async def test_an_answer_that_means_nothing_fails_the_call_and_says_whose_it_was(
    answer: pb.LogEndResponse, why: str
) -> None:
    def told(request: Frame) -> Frame:
        return Frame(FrameKind.ANSWER, request.call_id, message=answer.SerializeToString())

    answers = Answers()
    async with scripted_peer(told) as addr, network() as net:
        net.call(Peer(N2, addr), 1, ASKED, answers)
        failed = await answers.queue.get()
        assert isinstance(failed, CallFailed)
        assert why in failed.reason
        assert "n2 at 127.0.0.1" in failed.reason


async def test_a_node_that_does_not_know_the_call_fails_it_by_its_name() -> None:
    answers = Answers()
    async with (
        scripted_peer(lambda request: Frame(FrameKind.UNKNOWN_CALL, request.call_id)) as addr,
        network() as net,
    ):
        net.call(Peer(N2, addr), 1, ASKED, answers)
        assert "does not know the call LogEnd" in (await answers.queue.get()).reason


@given(
    st.builds(
        LogEndRequest,
        cluster=st.text(max_size=20),
        node_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
        log_epoch=u64,
        election=st.text(max_size=20),
        term=u64,
    )
)
def test_a_request_survives_the_wire(asked: LogEndRequest) -> None:
    raw = encode_log_end_request(asked).SerializeToString()
    assert decode_log_end_request(pb.LogEndRequest.FromString(raw)) == asked


@given(
    st.builds(
        LogEndResponse,
        node_id=st.just(N2),
        log_epoch=u64,
        term=u64,
        leader_id=st.none() | st.just(N3),
        end=positions,
        last=st.none() | places,
        committed=positions,
    )
)
def test_an_answer_survives_the_wire(told: LogEndResponse) -> None:
    raw = encode_log_end_response(told).SerializeToString()
    assert decode_log_end_response(pb.LogEndResponse.FromString(raw)) == told


@given(
    st.builds(pb.LogEndRequest, node_id=st.text(), election=st.text(), cluster=st.text())
    | st.builds(
        pb.LogEndResponse, protocol=st.integers(0, PROTOCOL + 1), node_id=st.text(), leader_id=st.text(), last=st.none()
    )
)
def test_hostile_messages_raise_nothing_but_the_codecs_own_error(message: Any) -> None:
    decode = decode_log_end_request if isinstance(message, pb.LogEndRequest) else decode_log_end_response
    with contextlib.suppress(PeerCodecError):
        decode(message)  # type: ignore[operator]


# ---------------------------------------------------------------- floods


async def test_a_flood_of_one_caller_has_a_few_calls_at_the_election_and_keeps_no_voter_waiting() -> None:
    election = Actor()
    service = service_of(election, N1)
    async with serving(service) as addr, caller(addr) as flooding, caller(addr) as honest:
        stranger = dataclasses.replace(ASKED, node_id=NodeId("x1"))
        flood = [asyncio.ensure_future(ask(flooding, stranger)) for _ in range(500)]
        first = await election.next(CallReceived)
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)  # nothing is answered yet: one is refused
        voter = asyncio.ensure_future(ask(honest))
        while not any(
            isinstance(message, CallReceived) and message.request.node_id == N1 for message in election.received
        ):
            election.changed.clear()
            await election.changed.wait()
        assert election.most_at_once <= MAX_CALLS_EACH
        election.answers = True
        for received in [first, *election.received]:
            election.answer(received)
        assert await voter == FrameKind.ANSWER
        codes = Counter(await asyncio.gather(*flood))
        assert set(codes) == {FrameKind.ANSWER, FrameKind.OVERLOADED}
        assert sum(codes.values()) == 500
        assert len(service._urgent_call_limiter) == 0


async def test_one_connection_has_so_many_election_calls_open_and_no_more_whoever_it_says_it_is() -> None:
    election = Actor()
    service = service_of(election, *(NodeId(f"v{at}") for at in range(50)))
    async with serving(service) as addr, caller(addr) as client:
        asking = [
            asyncio.ensure_future(ask(client, dataclasses.replace(ASKED, node_id=NodeId(f"v{at}")))) for at in range(50)
        ]
        for _ in range(MAX_CALLS_EACH):
            await election.next(CallReceived)
        while len(asking) > MAX_CALLS_EACH:
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            assert {call.result() for call in done} == {FrameKind.OVERLOADED}
            asking = [call for call in asking if call not in done]
        assert election.received == []
        service.end("over")
        assert set(await asyncio.gather(*asking)) == {FrameKind.UNAVAILABLE}


async def test_a_flood_of_many_strangers_silent_ones_too_shares_the_places_of_strangers_and_no_others() -> None:
    election = Actor()
    service = service_of(election, N1)
    service.introduce(N3)
    async with serving(service) as addr, contextlib.AsyncExitStack() as stack:
        flood = []
        for at in range(30):
            client = await stack.enter_async_context(caller(addr))
            silent = await stack.enter_async_context(caller(addr))
            silent.writer.write(Frame(FrameKind.REQUEST, 1, message=b"x").head_and_message()[:-1])  # it never ends
            stranger = dataclasses.replace(ASKED, node_id=NodeId(f"x{at}"))
            flood += [asyncio.ensure_future(ask(client, stranger)) for _ in range(5)]
        for known in (N1, N3):
            client = await stack.enter_async_context(caller(addr))
            call = asyncio.ensure_future(ask(client, dataclasses.replace(ASKED, node_id=known)))
            while not any(message.request.node_id == known for message in election.received):
                election.changed.clear()
                await election.changed.wait()
            assert len(service._urgent_call_limiter) <= MAX_CALLS_PER_NAME + 2
            for received in list(election.received):
                if received.request.node_id == known:
                    election.answer(received)
            assert await call == FrameKind.ANSWER
        service.end("over")
        codes = Counter(await asyncio.gather(*flood))
        assert set(codes) <= {FrameKind.UNAVAILABLE, FrameKind.OVERLOADED}
        assert sum(codes.values()) == 150


async def test_who_takes_the_name_of_a_voter_takes_places_from_that_voter_alone() -> None:
    election = Actor()
    service = service_of(election, N1)
    service.set_voters((N1, N3))
    async with serving(service) as addr, contextlib.AsyncExitStack() as stack:
        thieves = [await stack.enter_async_context(caller(addr)) for _ in range(10)]
        theft = [asyncio.ensure_future(ask(thief)) for thief in thieves for _ in range(10)]
        while len(election.open) < MAX_CALLS_PER_NAME // 2:
            election.changed.clear()
            await election.changed.wait()
        await asyncio.wait(theft, return_when=asyncio.FIRST_COMPLETED)  # nothing is answered yet: one is refused
        honest = await stack.enter_async_context(caller(addr))
        call = asyncio.ensure_future(ask(honest, dataclasses.replace(ASKED, node_id=N3)))
        while not any(message.request.node_id == N3 for message in election.received):
            election.changed.clear()
            await election.changed.wait()
        assert len(service._urgent_call_limiter) <= MAX_CALLS_PER_NAME + 1
        election.answers = True
        for received in list(election.received):
            election.answer(received)
        assert await call == FrameKind.ANSWER
        assert set(await asyncio.gather(*theft)) == {FrameKind.ANSWER, FrameKind.OVERLOADED}


async def test_no_call_to_an_election_waits_behind_fetches_of_the_same_two_nodes() -> None:
    election, replicator, answers, fetches = Actor(), Replicator(), Answers(), Answers()
    election.answers = True
    service = service_of(election, replicator=replicator)
    async with serving(service) as addr, network() as net, contextlib.AsyncExitStack() as stack:
        untaken = await stack.enter_async_context(caller(addr, Lane.BULK))
        untaken.stop_reading()
        untaken.call(FetchRequest, encode_fetch_request(REQUEST))
        received = await replicator.next(CallReceived)
        received.reply_to.tell(CallAnswer(received.request_id, response(bytes(12 * MIB))))
        net.call(Peer(N2, addr), 1, dataclasses.replace(REQUEST, max_wait_s=30.0), fetches)  # parked at the replicator
        await replicator.next(CallReceived)
        for _ in range(20):  # more fetches that never arrive
            client = await stack.enter_async_context(caller(addr, Lane.BULK))
            client.writer.write(Frame(FrameKind.REQUEST, 1, message=bytes(1000)).head_and_message()[:-1])
        net.call(Peer(N2, addr), 2, ASKED, answers)
        assert await answers.queue.get() == CallReturned(N2, 2, TOLD)
        assert fetches.queue.empty()


# ---------------------------------------------------------------- whole nodes


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Answers]:
    """`held()`: elections answer no call from here on; the calls that come to them are told there."""

    def hold() -> Answers:
        calls = Answers()
        monkeypatch.setattr(ElectionActor, "_refuse_call", lambda _, received: calls.tell(received))
        return calls

    return hold


async def test_a_node_without_elections_refuses_the_call_with_a_sentence(node: Any) -> None:
    answers = Answers()
    async with node("n2") as n, network() as net:
        net.call(Peer(N2, n.gossip_addr), 1, ASKED, answers)
        assert await answers.queue.get() == CallFailed(
            N2, 1, 'n2 runs with --election none, which does not answer the call "log end"', is_declined=True
        )


async def test_a_node_that_stops_ends_each_open_call_to_its_election_once(node: Any, held: Any) -> None:
    calls, answers = held(), Answers()
    async with node("n2") as n, network() as net:
        for request_id in range(3):
            net.call(Peer(N2, n.gossip_addr), request_id, ASKED, answers)
            await calls.queue.get()
        await n.server.stop(0.0)
        ended = [await answers.queue.get() for _ in range(3)]
        assert {failed.request_id for failed in ended} == {0, 1, 2}
        assert all(isinstance(failed, CallFailed) and "n2 is stopping" in failed.reason for failed in ended)
        assert answers.queue.empty()


async def test_whom_the_election_announces_as_a_voter_has_places_of_its_own(node: Any, held: Any) -> None:
    calls = held()
    async with node("n2") as n, contextlib.AsyncExitStack() as stack:
        flood: set[asyncio.Future[FrameKind]] = set()
        for at in range(4):
            client = await stack.enter_async_context(caller(n.gossip_addr))
            stranger = dataclasses.replace(ASKED, node_id=NodeId(f"x{at}"))
            flood |= {asyncio.ensure_future(ask(client, stranger)) for _ in range(MAX_CALLS_EACH)}
        while len(flood) >= MAX_CALLS_PER_NAME:
            done, flood = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
            assert {call.result() for call in done} == {FrameKind.OVERLOADED}
        client = await stack.enter_async_context(caller(n.gossip_addr))
        assert await ask(client) == FrameKind.OVERLOADED
        n.server._observe(VotersChanged((N1, N2)))
        call = asyncio.ensure_future(ask(client))
        while (await calls.queue.get()).request.node_id != N1:
            pass
        await n.server.stop(0.0)
        assert await call == FrameKind.UNAVAILABLE
        await asyncio.gather(*flood)
