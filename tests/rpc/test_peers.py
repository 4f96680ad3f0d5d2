"""The pull between nodes over real gRPC: each fetch is answered exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.messages import (
    FetchAnswer,
    FetchCancelled,
    FetchFailed,
    FetchOutcome,
    FetchReceived,
    FetchRequest,
    FetchResponse,
    FetchReturned,
)
from rpc.mailbox import LoopMailbox
from rpc.network import GrpcPeerNetwork
from rpc.peer_codec import (
    MAX_FETCH_BYTES,
    MAX_WAIT_S,
    PROTOCOL,
    PeerCodecError,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from rpc.peer_service import PeerService
from rpc.v1 import peer_pb2 as pb
from rpc.v1 import peer_pb2_grpc as pb_grpc
from storage.types import Index, NodeId, Offset, Position, Term

REQUEST = FetchRequest("c", NodeId("n1"), False, Term(3), Index(4), Term(2), 99, Index(1), 1000, 0.25)
N2 = NodeId("n2")

u64 = st.integers(0, 2**64 - 1)
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


class Answers:
    """Where a network tells its answers."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.tell = LoopMailbox[Any](asyncio.get_running_loop(), self.queue.put_nowait).tell


@contextlib.asynccontextmanager
async def serving(servicer: pb_grpc.PeerServicer | None) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if servicer is not None:
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
    async with serving(PeerService(N2, replicator)) as addr, network() as net:
        net.fetch(N2, addr, 7, REQUEST, answers)
        received = await replicator.next(FetchReceived)
        assert received.request == REQUEST
        sent = response(bytes(10_000_000))
        received.reply_to.tell(FetchAnswer(received.request_id, sent))
        assert await answers.queue.get() == FetchReturned(N2, 7, sent)


async def test_a_peer_that_is_not_there_fails_the_fetch_naming_it() -> None:
    answers = Answers()
    async with network() as net:
        net.fetch(N2, "127.0.0.1:1", 7, REQUEST, answers)
        failed = await answers.queue.get()
        assert isinstance(failed, FetchFailed)
        assert "n2 at 127.0.0.1:1" in failed.reason


async def test_something_that_is_no_node_fails_the_fetch_saying_so() -> None:
    answers = Answers()
    async with serving(None) as addr, network() as net:
        net.fetch(N2, addr, 7, REQUEST, answers)
        assert "no ourolog node" in (await answers.queue.get()).reason


async def test_a_peer_that_never_answers_fails_the_fetch_after_the_margin_and_is_told() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(PeerService(N2, replicator)) as addr, network(margin_s=0.05) as net:
        net.fetch(N2, addr, 7, REQUEST, answers)
        received = await replicator.next(FetchReceived)
        assert "in time" in (await answers.queue.get()).reason
        assert await replicator.next(FetchCancelled) == FetchCancelled(received.request_id)


async def test_forgetting_a_peer_fails_its_open_fetches_once_and_frees_its_long_poll() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(PeerService(N2, replicator)) as addr, network() as net:
        net.fetch(N2, addr, 1, REQUEST, answers)
        net.fetch(N2, addr, 2, REQUEST, answers)
        await replicator.next(FetchReceived)
        await replicator.next(FetchReceived)
        net.forget(N2)
        failed = [await answers.queue.get() for _ in range(2)]
        assert sorted(failure.request_id for failure in failed) == [1, 2]
        assert all(isinstance(failure, FetchFailed) for failure in failed)
        await replicator.next(FetchCancelled)
        await replicator.next(FetchCancelled)
        assert answers.queue.empty()
        net.fetch(N2, addr, 3, REQUEST, answers)
        again = await replicator.next(FetchReceived)
        again.reply_to.tell(FetchAnswer(again.request_id, response()))
        assert (await answers.queue.get()).request_id == 3


async def test_a_fetch_that_is_forgotten_before_it_began_fails_as_well() -> None:
    answers = Answers()
    async with network() as net:
        net.fetch(N2, "127.0.0.1:1", 1, REQUEST, answers)
        net.forget(N2)
        assert isinstance(await answers.queue.get(), FetchFailed)


async def test_closing_the_network_fails_what_is_open_and_what_comes() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(PeerService(N2, replicator)) as addr, network() as net:
        net.fetch(N2, addr, 1, REQUEST, answers)
        await replicator.next(FetchReceived)
        await net.close()
        net.fetch(N2, addr, 2, REQUEST, answers)
        assert [(await answers.queue.get()).request_id for _ in range(2)] == [1, 2]


async def test_a_peer_that_moved_is_fetched_from_at_its_new_address() -> None:
    old, new, answers = Replicator(), Replicator(), Answers()
    async with serving(PeerService(N2, old)) as old_addr, serving(PeerService(N2, new)) as new_addr, network() as net:
        net.fetch(N2, old_addr, 1, REQUEST, answers)
        await old.next(FetchReceived)
        net.fetch(N2, new_addr, 2, REQUEST, answers)
        received = await new.next(FetchReceived)
        received.reply_to.tell(FetchAnswer(received.request_id, response()))
        assert [type(await answers.queue.get()) for _ in range(2)] == [FetchFailed, FetchReturned]


async def test_more_peers_than_there_are_descriptors_for_are_not_called() -> None:
    replicator, answers = Replicator(), Answers()
    async with serving(PeerService(N2, replicator)) as addr, network(most_peers=1) as net:
        net.fetch(N2, addr, 1, REQUEST, answers)
        await replicator.next(FetchReceived)
        net.fetch(NodeId("n3"), addr, 2, REQUEST, answers)
        failed = await answers.queue.get()
        assert (type(failed), failed.request_id) == (FetchFailed, 2)
        assert "open files" in failed.reason
        net.forget(N2)
        net.fetch(NodeId("n3"), addr, 3, REQUEST, answers)
        await replicator.next(FetchReceived)


async def test_a_fetcher_of_another_protocol_is_refused_with_both_numbers() -> None:
    replicator = Replicator()
    async with serving(PeerService(N2, replicator)) as addr, grpc.aio.insecure_channel(addr) as channel:
        request = encode_request(REQUEST)
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
        net.fetch(N2, addr, 1, REQUEST, answers)
        returned = await answers.queue.get()
        assert returned.response.outcome is FetchOutcome.REFUSED
        assert "same version" in returned.response.detail


async def test_an_answer_that_means_nothing_fails_the_fetch() -> None:
    class Odd(pb_grpc.PeerServicer):
        async def Fetch(self, request: Any, context: Any) -> pb.FetchResponse:  # noqa: N802
            return pb.FetchResponse(protocol=PROTOCOL, outcome=77)  # type: ignore[arg-type]

    answers = Answers()
    async with serving(Odd()) as addr, network() as net:
        net.fetch(N2, addr, 1, REQUEST, answers)
        assert isinstance(await answers.queue.get(), FetchFailed)


async def test_whatever_goes_wrong_with_a_fetch_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("rpc.network.encode_request", broken)
    answers = Answers()
    async with network() as net:
        net.fetch(N2, "127.0.0.1:1", 1, REQUEST, answers)
        failed = await answers.queue.get()
    assert isinstance(failed, FetchFailed)
    assert "nobody foresaw this" in failed.reason


async def test_too_many_fetches_and_fetches_of_nobody_are_refused() -> None:
    replicator = Replicator()
    service = PeerService(N2, replicator, max_fetches=1)
    async with serving(service) as addr, grpc.aio.insecure_channel(addr) as channel:
        stub = pb_grpc.PeerStub(channel)
        nobody = encode_request(REQUEST)
        nobody.node_id = "../etc"
        with pytest.raises(grpc.aio.AioRpcError, match="node id"):
            await stub.Fetch(nobody)
        first = stub.Fetch(encode_request(REQUEST))
        waiting = asyncio.ensure_future(_outcome(first))
        await replicator.next(FetchReceived)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Fetch(encode_request(REQUEST))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        await waiting


async def _outcome(call: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await call


@given(
    st.builds(
        FetchRequest,
        cluster=st.text(max_size=20),
        node_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
        elected=st.booleans(),
        term=u64,
        next_index=u64,
        last_term=u64,
        source_epoch=u64,
        committed=u64,
        max_bytes=st.integers(0, MAX_FETCH_BYTES),
        max_wait_s=st.integers(0, int(MAX_WAIT_S * 1000)).map(lambda ms: ms / 1000),
    )
)
def test_a_request_survives_the_wire(request: FetchRequest) -> None:
    assert decode_request(pb.FetchRequest.FromString(encode_request(request).SerializeToString())) == request


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
        diverged_at=u64,
        detail=st.text(max_size=20),
    )
)
def test_a_response_survives_the_wire(sent: FetchResponse) -> None:
    assert decode_response(pb.FetchResponse.FromString(encode_response(sent).SerializeToString())) == sent


def test_what_a_stranger_asks_for_is_clamped() -> None:
    request = encode_request(REQUEST)
    request.max_bytes = 2**32 - 1
    request.max_wait_ms = 2**32 - 1
    decoded = decode_request(request)
    assert (decoded.max_bytes, decoded.max_wait_s) == (MAX_FETCH_BYTES, MAX_WAIT_S)


@given(st.builds(pb.FetchResponse, protocol=st.just(PROTOCOL), outcome=st.integers(-100, 100), leader_id=st.text()))
def test_hostile_answers_raise_nothing_but_the_codecs_own_error(answer: pb.FetchResponse) -> None:
    try:
        decode_response(answer)
    except PeerCodecError:
        return
    assert answer.outcome in [int(outcome) for outcome in FetchOutcome]
