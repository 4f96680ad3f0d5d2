"""The pull between nodes over real gRPC: each fetch is answered exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
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
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.errors import ServiceError
from ourolog.rpc.fetch_limiter import COPIES, MIB, STRANGERS
from ourolog.rpc.loop_mailboxes import LoopMailbox
from ourolog.rpc.network import GrpcPeerNetwork
from ourolog.rpc.peer_codec import (
    CODECS,
    decode_fetch_request,
    decode_fetch_response,
    encode_fetch_request,
    encode_fetch_response,
)
from ourolog.rpc.peer_service import PeerService
from ourolog.rpc.peer_values import MAX_DETAIL_CHARS, MAX_FETCH_BYTES, MAX_WAIT_S, PROTOCOL, PeerCodecError
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.rpc.v1 import peer_pb2_grpc as pb_grpc
from ourolog.storage.control import Voter, VoterSet
from ourolog.storage.producers import ProducerBatch, ProducerMemory
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.raw_http2 import INITIAL_WINDOW_SIZE, call

REQUEST = FetchRequest(
    "c",
    NodeId("n1"),
    5,
    False,
    Term(3),
    Index(4),
    Place(Term(2), (NodeId("n9"), 7)),
    99,
    Index(1),
    1000,
    0.25,
    disk_index=Index(3),
)
N2 = NodeId("n2")

u64 = st.integers(0, 2**64 - 1)
places = st.builds(lambda term, epoch: Place(Term(term), (NodeId("n3"), epoch)), u64, u64)
positions = st.builds(lambda index, offset: Position(Index(index), Offset(offset)), u64, u64)


def response(batches: bytes = b"") -> FetchResponse:
    end = Position(Index(5), Offset(6))
    return FetchResponse(FetchOutcome.BATCHES, Term(3), 99, Position(Index(0), Offset(0)), end, end, batches=batches)


class Replicator:
    """Keeps fetches and their cancellations; answers when told to."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.changed = asyncio.Event()

    def tell(self, message: Any) -> None:
        self.received.append(message)
        self.changed.set()

    async def next(self, kind: type) -> Any:
        while True:
            for message in self.received:
                if isinstance(message, kind):
                    self.received.remove(message)
                    return message
            self.changed.clear()
            await self.changed.wait()


def service_of(replicator: Any, *voters: NodeId, **rooms: Any) -> PeerService:
    """A Peer service whose replicator is the test."""
    return PeerService(N2, {Answerer.REPLICATOR: replicator}, voters, **rooms)


class Answers:
    """Where a network tells its answers."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.tell = LoopMailbox[Any](asyncio.get_running_loop(), self.queue.put_nowait).tell


@contextlib.asynccontextmanager
async def serving(servicer: PeerService | pb_grpc.PeerServicer | None) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if isinstance(servicer, PeerService):
        servicer.add_to(server)
    elif servicer is not None:
        pb_grpc.add_PeerServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextlib.asynccontextmanager
async def network(**options: Any) -> AsyncIterator[GrpcPeerNetwork]:
    made = GrpcPeerNetwork(asyncio.get_running_loop(), **options)
    try:
        yield made
    finally:
        await made.close()


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
    async with serving(None) as addr, network() as net:
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
    async with serving(service_of(replicator)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        net.call(Peer(N2, addr), 2, REQUEST, answers)
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


async def test_a_fetcher_of_another_protocol_is_refused_with_both_numbers() -> None:
    replicator = Replicator()
    async with (
        serving(service_of(replicator)) as addr,
        grpc.aio.insecure_channel(addr) as channel,
    ):
        request = encode_fetch_request(REQUEST)
        request.protocol = PROTOCOL + 1
        answer = await pb_grpc.PeerStub(channel).Fetch(request)
        assert answer.outcome == pb.REFUSED
        assert f"protocol {PROTOCOL + 1}" in answer.detail
        assert f"speaks {PROTOCOL}:" in answer.detail
        assert replicator.received == []


async def test_a_peer_that_answers_in_another_protocol_is_a_refusal() -> None:
    class Newer(pb_grpc.PeerServicer):
        async def Fetch(self, request: Any, context: Any) -> pb.FetchResponse:  # noqa: N802
            return pb.FetchResponse(protocol=PROTOCOL + 1, outcome=pb.BATCHES)

    answers = Answers()
    async with serving(Newer()) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        returned = await answers.queue.get()
        assert returned.response.outcome is FetchOutcome.REFUSED
        assert "same version" in returned.response.detail


async def test_an_answer_that_means_nothing_fails_the_fetch() -> None:
    class Odd(pb_grpc.PeerServicer):
        async def Fetch(self, request: Any, context: Any) -> pb.FetchResponse:  # noqa: N802
            return pb.FetchResponse(protocol=PROTOCOL, outcome=77)  # type: ignore[arg-type]

    answers = Answers()
    async with serving(Odd()) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, answers)
        assert isinstance(await answers.queue.get(), CallFailed)


async def test_whatever_goes_wrong_with_a_fetch_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("nobody foresaw this")

    codec = dataclasses.replace(CODECS[FetchRequest], encode_request=broken)
    monkeypatch.setattr("ourolog.rpc.network.CODECS", {FetchRequest: codec})
    answers = Answers()
    async with network() as net:
        net.call(Peer(N2, "127.0.0.1:1"), 1, REQUEST, answers)
        failed = await answers.queue.get()
    assert isinstance(failed, CallFailed)
    assert "nobody foresaw this" in failed.reason


async def test_a_fetch_of_nobody_and_bytes_that_are_no_fetch_are_invalid_and_log_nothing(
    logged: Callable[[], list[str]],
) -> None:
    async with (
        serving(service_of(Replicator())) as addr,
        grpc.aio.insecure_channel(addr) as channel,
    ):
        nobody = encode_fetch_request(REQUEST)
        nobody.node_id = "../etc"
        fetch = channel.unary_unary("/ourolog.peer.v1.Peer/Fetch")
        for raw, why in ((nobody.SerializeToString(), "node id"), (b"\xff\xff\xff", "not an encoded")):
            with pytest.raises(grpc.aio.AioRpcError, match=why) as raised:
                await fetch(raw)
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert logged() == []


def test_a_fetch_that_claims_more_than_it_is_writing_means_nothing() -> None:
    encoded = encode_fetch_request(REQUEST)
    encoded.disk_index = REQUEST.next_index + 1
    with pytest.raises(PeerCodecError, match="entry 4 is wanted, and all below 5 is on disk"):
        decode_fetch_request(encoded)


async def test_a_newer_fetch_of_a_node_takes_the_place_of_its_older_one() -> None:
    replicator = Replicator()
    async with (
        serving(service_of(replicator)) as addr,
        grpc.aio.insecure_channel(addr) as channel,
    ):
        stub = pb_grpc.PeerStub(channel)
        older = stub.Fetch(encode_fetch_request(REQUEST))
        ended = asyncio.ensure_future(_code(older))
        first = await replicator.next(CallReceived)
        newer = stub.Fetch(encode_fetch_request(REQUEST))
        answer = asyncio.ensure_future(_code(newer))
        assert await ended == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await replicator.next(CallCancelled) == CallCancelled(first.request_id)
        second = await replicator.next(CallReceived)
        second.reply_to.tell(CallAnswer(second.request_id, response()))
        assert await answer == grpc.StatusCode.OK


async def test_a_thousand_fetches_at_once_of_one_stranger_are_a_few_reads() -> None:
    replicator = Replicator()
    async with (
        serving(service_of(replicator)) as addr,
        grpc.aio.insecure_channel(addr) as channel,
    ):
        stub = pb_grpc.PeerStub(channel)
        reads = ended = 0
        most_have_ended = asyncio.Event()

        async def answer_all() -> None:
            nonlocal reads
            while True:
                received = await replicator.next(CallReceived)
                reads += 1
                await most_have_ended.wait()
                received.reply_to.tell(CallAnswer(received.request_id, response()))

        async def fetch() -> grpc.StatusCode:
            nonlocal ended
            code = await _code(stub.Fetch(encode_fetch_request(REQUEST)))
            ended += 1
            if ended >= 900:
                most_have_ended.set()
            return code

        answering = asyncio.create_task(answer_all())
        codes = Counter(await asyncio.gather(*(fetch() for _ in range(1000))))
        answering.cancel()
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
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

        async def fetch(node_id: str) -> asyncio.Future[grpc.StatusCode]:
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(addr, options=options))
            request = dataclasses.replace(REQUEST, node_id=NodeId(node_id))
            return asyncio.ensure_future(_code(pb_grpc.PeerStub(channel).Fetch(encode_fetch_request(request))))

        strangers = [await fetch("x1"), await fetch("x2")]
        for _ in strangers:
            await replicator.next(CallReceived)
        refused = await fetch("x3")
        assert await refused == grpc.StatusCode.RESOURCE_EXHAUSTED  # the others have just come
        for known in ("n3", "n4"):
            answered = await fetch(known)
            received = await replicator.next(CallReceived)
            assert received.request.node_id == known
            received.reply_to.tell(CallAnswer(received.request_id, response()))
            assert await answered == grpc.StatusCode.OK
        assert not any(call.done() for call in strangers)
        service.end(ServiceError(grpc.StatusCode.UNAVAILABLE, "END", "over"))
        assert [await call for call in strangers] == [grpc.StatusCode.UNAVAILABLE] * 2


async def test_answers_that_are_not_taken_count_until_their_fetcher_goes() -> None:
    replicator = Replicator()
    service = service_of(replicator)
    limiter = service._stranger_fetches
    async with serving(service) as addr:
        host, _, port = addr.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        raw = call(
            b"/ourolog.peer.v1.Peer/Fetch", encode_fetch_request(REQUEST).SerializeToString(), (INITIAL_WINDOW_SIZE, 0)
        )
        writer.write(raw)
        received = await replicator.next(CallReceived)
        received.reply_to.tell(CallAnswer(received.request_id, response(bytes(MIB))))
        while limiter.used_bytes != COPIES * MIB:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0)
        writer.transport.abort()
        while limiter.used_bytes:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert len(limiter) == 0


async def _code(call: Any) -> grpc.StatusCode:
    return await call.code()


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
    assert decode_fetch_response(pb.FetchResponse.FromString(encode_fetch_response(sent).SerializeToString())) == sent


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
