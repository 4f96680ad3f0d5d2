"""The pull between nodes over real sockets: each fetch is answered exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.messages.peer_calls import (
    Answerer,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallReturned,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    LogEndRequest,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.fetch_limiter import COPIES, MIB, STRANGERS
from ourolog.rpc.peer.frames import Frame, FrameKind
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer.refusals import sentence_of
from ourolog.rpc.peer.service import PeerService
from ourolog.rpc.peer.testing import FrameClient, scripted_peer
from ourolog.rpc.peer_codec import (
    CODECS,
    decode_fetch_request,
    decode_fetch_response,
    encode_fetch_request,
    encode_fetch_response,
)
from ourolog.rpc.peer_values import MAX_DETAIL_CHARS, MAX_FETCH_BYTES, MAX_WAIT_S, PROTOCOL, PeerCodecError
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.control import Voter, VoterSet
from ourolog.storage.producers import ProducerBatch, ProducerMemory
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.rpc.peers import (
    N2,
    REQUEST,
    Answers,
    Replicator,
    caller,
    network,
    over_the_wire,
    places,
    positions,
    response,
    service_of,
    serving,
    serving_grpc,
    u64,
)


def fetch(client: FrameClient, request: FetchRequest = REQUEST) -> asyncio.Future[Frame]:
    return client.call(FetchRequest, encode_fetch_request(request))


def answer_to(request: Frame, message: Any) -> Frame:
    return Frame(FrameKind.ANSWER, request.call_id, message=message.SerializeToString())


async def test_a_fetch_reaches_the_replicator_whole_and_so_does_its_answer() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, REQUEST, answers)
        received = await replicator.next(CallReceived)
        assert received.request == REQUEST
        sent = response(bytes(10_000_000))
        received.reply_to.tell(CallAnswer(received.request_id, sent))
        assert await answers.queue.get() == CallReturned(N2, 7, sent)


async def test_a_peer_that_is_not_there_fails_the_fetch_naming_it() -> None:
    answers = Answers()
    async with network() as net:
        net.call(Peer(N2, "127.0.0.1:1"), 7, REQUEST, answers)
        failed = await answers.queue.get()
        assert isinstance(failed, CallFailed)
        assert "n2 at 127.0.0.1:1" in failed.reason


async def test_something_that_is_no_node_fails_the_fetch_saying_so() -> None:
    answers = Answers()
    async with serving_grpc() as addr, network() as net:
        net.call(Peer(N2, addr), 7, REQUEST, answers)
        assert "no ourolog node" in (await answers.queue.get()).reason


async def test_a_peer_that_never_answers_fails_the_fetch_after_the_margin_and_is_told() -> None:
    replicator, answers = Replicator(), Answers()
    async with (
        serving(service_of(replicator)) as addr,
        network(timeout_s=lambda _: 0.3) as net,
    ):
        net.call(Peer(N2, addr), 7, REQUEST, answers)
        received = await replicator.next(CallReceived)
        assert "in time" in (await answers.queue.get()).reason
        assert await replicator.next(CallCancelled) == CallCancelled(received.request_id)


async def test_forgetting_a_peer_fails_its_open_fetches_once_and_frees_its_long_poll() -> None:
    replicator, answers = Replicator(), Answers()
    other: FetchRequest = dataclasses.replace(REQUEST, node_id=NodeId("n4"))
    async with serving(service_of(replicator, NodeId("n1"), NodeId("n4"))) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        net.call(Peer(N2, addr), 2, other, answers)
        await replicator.next(CallReceived)
        await replicator.next(CallReceived)
        net.forget(N2)
        failed = [await answers.queue.get() for _ in range(2)]
        assert sorted(failure.request_id for failure in failed) == [1, 2]
        assert all(isinstance(failure, CallFailed) for failure in failed)
        await replicator.next(CallCancelled)
        await replicator.next(CallCancelled)
        assert answers.queue.empty()
        net.call(Peer(N2, addr), 3, REQUEST, answers)
        again = await replicator.next(CallReceived)
        again.reply_to.tell(CallAnswer(again.request_id, response()))
        assert (await answers.queue.get()).request_id == 3


async def test_a_fetch_that_is_forgotten_before_it_began_fails_as_well() -> None:
    answers = Answers()
    async with network() as net:
        net.call(Peer(N2, "127.0.0.1:1"), 1, REQUEST, answers)
        net.forget(N2)
        assert isinstance(await answers.queue.get(), CallFailed)


async def test_closing_the_network_fails_what_is_open_and_what_comes() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        await replicator.next(CallReceived)
        await net.close()
        net.call(Peer(N2, addr), 2, REQUEST, answers)
        assert [(await answers.queue.get()).request_id for _ in range(2)] == [1, 2]


async def test_a_peer_that_moved_is_fetched_from_at_its_new_address() -> None:
    old, new, answers = Replicator(), Replicator(), Answers()
    async with (
        serving(service_of(old)) as old_addr,
        serving(service_of(new)) as new_addr,
        network() as net,
    ):
        net.call(Peer(N2, old_addr), 1, REQUEST, answers)
        await old.next(CallReceived)
        net.call(Peer(N2, new_addr), 2, REQUEST, answers)
        received = await new.next(CallReceived)
        received.reply_to.tell(CallAnswer(received.request_id, response()))
        assert [type(await answers.queue.get()) for _ in range(2)] == [CallFailed, CallReturned]


async def test_more_peers_than_there_are_descriptors_for_are_not_called() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(service_of(replicator)) as addr, network(most_connections=1) as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        await replicator.next(CallReceived)
        net.call(Peer(NodeId("n3"), addr), 2, REQUEST, answers)
        failed = await answers.queue.get()
        assert (type(failed), failed.request_id) == (CallFailed, 2)
        assert "open files" in failed.reason
        net.forget(N2)
        net.call(Peer(NodeId("n3"), addr), 3, REQUEST, answers)
        await replicator.next(CallReceived)


async def test_a_fetch_of_another_protocol_is_refused_with_both_numbers() -> None:
    replicator = Replicator()
    async with serving(service_of(replicator)) as addr, caller(addr, Lane.BULK) as client:
        request = encode_fetch_request(REQUEST)
        request.protocol = PROTOCOL + 1
        answer = pb.FetchResponse.FromString((await client.call(FetchRequest, request)).message)
        assert answer.outcome == pb.REFUSED
        assert f"protocol {PROTOCOL + 1}" in answer.detail
        assert f"speaks {PROTOCOL}:" in answer.detail
        assert replicator.received == []


async def test_a_peer_that_answers_in_another_protocol_is_a_refusal() -> None:
    answers = Answers()
    newer = pb.FetchResponse(protocol=PROTOCOL + 1, outcome=pb.BATCHES)
    async with scripted_peer(lambda request: answer_to(request, newer)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        returned = await answers.queue.get()
        assert returned.response.outcome is FetchOutcome.REFUSED
        assert "same version" in returned.response.detail


async def test_an_answer_that_means_nothing_fails_the_fetch() -> None:
    answers = Answers()
    odd = pb.FetchResponse(protocol=PROTOCOL, outcome=77)  # type: ignore[arg-type]
    async with scripted_peer(lambda request: answer_to(request, odd)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        assert isinstance(await answers.queue.get(), CallFailed)


async def test_whatever_goes_wrong_with_a_fetch_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("nobody foresaw this")

    answers = Answers()
    async with serving(service_of(replicator := Replicator())) as addr, network() as net:
        for part in ("encode_request", "decode_response"):
            codec = dataclasses.replace(CODECS[FetchRequest], **{part: broken})
            monkeypatch.setattr("ourolog.rpc.peer.network.CODECS", {FetchRequest: codec})
            net.call(Peer(N2, addr), 1, REQUEST, answers)
            if part == "decode_response":
                received = await replicator.next(CallReceived)
                received.reply_to.tell(CallAnswer(received.request_id, response()))
            failed = await answers.queue.get()
            assert isinstance(failed, CallFailed)
            assert "nobody foresaw this" in failed.reason


async def test_a_bug_at_answering_ends_that_call_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("nobody foresaw this")

    replicator, answers = Replicator(), Answers()
    service = service_of(replicator, NodeId("n1"))
    async with serving(service) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        received = await replicator.next(CallReceived)
        monkeypatch.setattr("ourolog.rpc.peer_codec.PeerCodec.answer_to_wire", broken)
        received.reply_to.tell(CallAnswer(received.request_id, response()))
        assert "by a bug" in (await answers.queue.get()).reason
    assert len(service._voter_fetches) == service._voter_fetches.used_bytes == 0
    assert len(logged()) == 1
    assert "nobody foresaw this" in logged()[0]


async def test_a_fetch_of_nobody_and_bytes_that_are_no_fetch_are_invalid_and_log_nothing(
    logged: Callable[[], list[str]],
) -> None:
    async with serving(service_of(Replicator())) as addr, caller(addr, Lane.BULK) as client:
        nobody = encode_fetch_request(REQUEST)
        nobody.node_id = "../etc"
        for raw, why in ((nobody.SerializeToString(), "node id"), (b"\xff\xff\xff", "not an encoded")):
            refused = await client.call(FetchRequest, raw)
            assert refused.kind is FrameKind.INVALID
            assert why in sentence_of(refused)
    assert logged() == []


def test_a_fetch_that_claims_more_than_it_is_writing_means_nothing() -> None:
    encoded = encode_fetch_request(REQUEST)
    encoded.disk_index = REQUEST.next_index + 1
    with pytest.raises(PeerCodecError, match="entry 4 is wanted, and all below 5 is on disk"):
        decode_fetch_request(encoded)


async def test_a_newer_fetch_of_a_node_takes_the_place_of_its_older_one() -> None:
    replicator = Replicator()
    async with serving(service_of(replicator)) as addr, caller(addr, Lane.BULK) as client:
        older = fetch(client)
        first = await replicator.next(CallReceived)
        newer = fetch(client)
        assert (await older).kind is FrameKind.OVERLOADED
        assert await replicator.next(CallCancelled) == CallCancelled(first.request_id)
        second = await replicator.next(CallReceived)
        second.reply_to.tell(CallAnswer(second.request_id, response()))
        assert (await newer).kind is FrameKind.ANSWER


async def test_a_thousand_fetches_at_once_of_one_stranger_are_a_few_reads() -> None:
    replicator = Replicator()
    async with serving(service_of(replicator)) as addr, caller(addr, Lane.BULK) as client:
        reads = ended = 0
        most_have_ended = asyncio.Event()

        async def one() -> FrameKind:
            nonlocal ended
            answer = await fetch(client)
            ended += 1
            if ended >= 900:
                most_have_ended.set()
            return answer.kind

        async def answer_all() -> None:
            nonlocal reads
            while True:
                received = await replicator.next(CallReceived)
                reads += 1
                await most_have_ended.wait()
                received.reply_to.tell(CallAnswer(received.request_id, response()))

        answering = asyncio.create_task(answer_all())
        kinds = Counter(await asyncio.gather(*(one() for _ in range(1000))))
        answering.cancel()
        assert set(kinds) == {FrameKind.ANSWER, FrameKind.OVERLOADED}
        assert 0 < reads < 100


async def test_strangers_fill_their_own_limiter_and_members_and_voters_have_theirs() -> None:
    replicator = Replicator()
    service = PeerService(
        N2,
        {Answerer.REPLICATOR: replicator},
        [NodeId("n3")],
        stranger_limits=dataclasses.replace(STRANGERS, max_fetchers=2),
    )
    service.introduce(NodeId("n4"))
    async with serving(service) as addr, contextlib.AsyncExitStack() as stack:

        async def fetch_as(node_id: str) -> asyncio.Future[Frame]:
            client = await stack.enter_async_context(caller(addr, Lane.BULK))
            return fetch(client, dataclasses.replace(REQUEST, node_id=NodeId(node_id)))

        strangers = [await fetch_as("x1"), await fetch_as("x2")]
        for _ in strangers:
            await replicator.next(CallReceived)
        refused = await fetch_as("x3")
        assert (await refused).kind is FrameKind.OVERLOADED  # the others have just come
        for known in ("n3", "n4"):
            answered = await fetch_as(known)
            received = await replicator.next(CallReceived)
            assert received.request.node_id == known
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert (await answered).kind is FrameKind.ANSWER
        assert not any(call.done() for call in strangers)
        service.end("n2 is stopping")
        assert [(await call).kind for call in strangers] == [FrameKind.UNAVAILABLE] * 2


async def test_a_stranger_and_who_was_a_member_get_a_part_of_what_they_ask_for() -> None:
    replicator = Replicator()
    service = service_of(replicator)
    service.introduce(REQUEST.node_id)
    service.dismiss(REQUEST.node_id)
    async with serving(service) as addr, caller(addr, Lane.BULK) as client:
        call = fetch(client, dataclasses.replace(REQUEST, max_bytes=16 * MIB))
        received = await replicator.next(CallReceived)
        assert received.request.max_bytes == STRANGERS.max_fetch_bytes
        assert len(service._stranger_fetches) == 1
        received.reply_to.tell(CallAnswer(received.request_id, response()))
        assert (await call).kind is FrameKind.ANSWER


async def test_an_urgent_call_counts_until_its_answer_is_taken() -> None:
    election = Replicator()
    service = PeerService(N2, {Answerer.ELECTION: election}, [NodeId("n1")])
    taken: list[Callable[[], None]] = []

    class Call:
        codec = CODECS[LogEndRequest]
        request = codec.encode_request(LogEndRequest("c", NodeId("n1"), 5, "none", Term(3))).SerializeToString()
        lane, client = Lane.URGENT, "client"

        def encode(self, answer: Any) -> Any:
            return answer

        def send(self, _: Any, when_taken: Callable[[], None]) -> None:
            taken.append(when_taken)

    answering = asyncio.create_task(service.answer(Call()))  # type: ignore[arg-type]
    received = await election.next(CallReceived)
    received.reply_to.tell(CallAnswer(received.request_id, response()))
    await answering
    assert len(service._urgent_call_limiter) == 1
    taken.pop()()
    assert len(service._urgent_call_limiter) == 0


async def test_answers_that_are_not_taken_count_until_their_fetcher_goes() -> None:
    replicator = Replicator()
    service = service_of(replicator, NodeId("n1"))
    limiter = service._voter_fetches
    size = 12 * MIB  # more than the kernel takes for one connection
    async with serving(service) as addr:
        client = await FrameClient.open(addr, Lane.BULK)
        call = fetch(client, dataclasses.replace(REQUEST, max_bytes=size + MIB))
        received = await replicator.next(CallReceived)
        client.stop_reading()
        received.reply_to.tell(CallAnswer(received.request_id, response(bytes(size))))
        while limiter.used_bytes != COPIES * size:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert limiter.used_bytes == COPIES * size
        await client.close()
        while limiter.used_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(limiter) == 0
        assert (await call).kind is FrameKind.UNAVAILABLE


@given(
    st.builds(
        FetchRequest,
        cluster=st.text(max_size=20),
        node_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
        log_epoch=u64,
        elected=st.booleans(),
        term=u64,
        next_index=u64,
        last=st.none() | places,
        source_epoch=u64,
        committed=u64,
        max_bytes=st.integers(0, MAX_FETCH_BYTES),
        max_wait_s=st.integers(0, int(MAX_WAIT_S * 1000)).map(lambda ms: ms / 1000),
        read_round=u64,
    )
)
def test_a_request_survives_the_wire(request: FetchRequest) -> None:
    assert (
        decode_fetch_request(pb.FetchRequest.FromString(encode_fetch_request(request).SerializeToString())) == request
    )


@given(
    st.builds(
        FetchResponse,
        outcome=st.sampled_from(FetchOutcome),
        term=u64,
        log_epoch=u64,
        start=positions,
        end=positions,
        committed=positions,
        leader_id=st.none() | st.just("n9"),
        batches=st.binary(max_size=100),
        before_start=st.none() | places,
        diverged=st.none() | places,
        diverged_at=u64,
        detail=st.text(max_size=20),
        read_round=u64,
    )
)
def test_a_response_survives_the_wire(sent: FetchResponse) -> None:
    assert over_the_wire(FetchRequest, sent) == sent


VOTERS = VoterSet(Index(3), Term(2), (Voter(NodeId("n1"), 5, "h:1", "h:2"), Voter(NodeId("n2"), 6, "h:3", "h:4")))


@pytest.mark.parametrize("outcome", FetchOutcome)
def test_voters_cross_the_wire_where_somebody_may_begin_anew(outcome: FetchOutcome) -> None:
    at = Position(Index(4), Offset(4))
    sent = dataclasses.replace(response(), outcome=outcome, start=at, end=at, voters_before_start=VOTERS)
    got = decode_fetch_response(pb.FetchResponse.FromString(encode_fetch_response(sent).SerializeToString()))
    may_begin = outcome in (FetchOutcome.OUT_OF_RANGE, FetchOutcome.DIVERGED)
    assert got.voters_before_start == (VOTERS if may_begin else None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda voters: voters.ClearField("voters"),
        lambda voters: setattr(voters, "index", 4),
        lambda voters: setattr(voters.voters[0], "node_id", "n2"),
        lambda voters: setattr(voters.voters[0], "log_epoch", 0),
        lambda voters: setattr(voters.voters[0], "rpc_addr", ""),
    ],
)
def test_voters_that_cannot_be_make_the_answer_mean_nothing(spoil: Callable[[pb.VoterSet], None]) -> None:
    at = Position(Index(4), Offset(4))
    sent = dataclasses.replace(
        response(), outcome=FetchOutcome.OUT_OF_RANGE, start=at, end=at, voters_before_start=VOTERS
    )
    encoded = encode_fetch_response(sent)
    spoil(encoded.voters_before_start)
    with pytest.raises(PeerCodecError, match="means nothing"):
        decode_fetch_response(encoded)


def memory_of_producers() -> bytes:
    memory = ProducerMemory()
    memory.registered(Index(1), 5)
    memory.appended(1, ProducerBatch(0, 3, Index(2), Offset(1), 77), 6)
    return memory.encode()


@pytest.mark.parametrize("outcome", FetchOutcome)
def test_what_is_remembered_of_producers_crosses_the_wire_where_somebody_may_begin_anew(outcome: FetchOutcome) -> None:
    at, memory = Position(Index(4), Offset(4)), memory_of_producers()
    sent = dataclasses.replace(response(), outcome=outcome, start=at, end=at, producers_before_start=memory)
    got = decode_fetch_response(pb.FetchResponse.FromString(encode_fetch_response(sent).SerializeToString()))
    may_begin = outcome in (FetchOutcome.OUT_OF_RANGE, FetchOutcome.DIVERGED)
    assert got.producers_before_start == (memory if may_begin else b"")


@pytest.mark.parametrize(
    ("start", "spoil"),
    [
        (Position(Index(2), Offset(4)), lambda memory: memory),
        (Position(Index(4), Offset(3)), lambda memory: memory),
        (Position(Index(4), Offset(4)), lambda memory: memory[:-1]),
        (Position(Index(4), Offset(4)), lambda memory: memory + bytes(20_000_000)),
        (Position(Index(4), Offset(4)), lambda _: b"nonsense"),
    ],
)
def test_a_memory_of_producers_that_cannot_be_makes_the_answer_mean_nothing(
    start: Position, spoil: Callable[[bytes], bytes]
) -> None:
    sent = dataclasses.replace(response(), outcome=FetchOutcome.OUT_OF_RANGE, start=start, end=start)
    encoded = encode_fetch_response(sent)
    encoded.producers_before_start = spoil(memory_of_producers())
    with pytest.raises(PeerCodecError, match="means nothing"):
        decode_fetch_response(encoded)


def test_what_a_peer_says_beside_its_answer_is_clipped() -> None:
    book = encode_fetch_response(dataclasses.replace(response(), outcome=FetchOutcome.REFUSED, detail="x" * 1_000_000))
    assert len(decode_fetch_response(book).detail) <= MAX_DETAIL_CHARS + 1
    book.protocol = PROTOCOL + 1
    assert len(decode_fetch_response(book).detail) < 2 * MAX_DETAIL_CHARS


def test_what_a_stranger_asks_for_is_clamped() -> None:
    request = encode_fetch_request(REQUEST)
    request.max_bytes = 2**32 - 1
    request.max_wait_ms = 2**32 - 1
    decoded = decode_fetch_request(request)
    assert (decoded.max_bytes, decoded.max_wait_s) == (MAX_FETCH_BYTES, MAX_WAIT_S)


@given(st.builds(pb.FetchResponse, protocol=st.just(PROTOCOL), outcome=st.integers(-100, 100), leader_id=st.text()))
def test_hostile_answers_raise_nothing_but_the_codecs_own_error(answer: pb.FetchResponse) -> None:
    try:
        decode_fetch_response(answer)
    except PeerCodecError:
        return
    assert answer.outcome in [int(outcome) for outcome in FetchOutcome]
