"""Questions for the commit index, over real sockets: they reach the replicator, and never wait behind fetches."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.peer.hello import Lane
from ourolog.rpc.peer_codec import (
    decode_read_index_request,
    decode_read_index_response,
    encode_read_index_request,
    encode_read_index_response,
)
from ourolog.rpc.peer_values import MAX_DETAIL_CHARS, PROTOCOL, PeerCodecError
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.types import Index, NodeId, Term
from tests.rpc.peers import N2, REQUEST, Answers, Replicator, network, service_of, serving, u64

N1, N3 = NodeId("n1"), NodeId("n3")
ASKED = ReadIndexRequest("c", N1, 5, Term(3))
TOLD = ReadIndexResponse(N2, Term(3), N2, Index(7))


class Leader(Replicator):
    """A replicator that keeps fetches, and answers questions for the commit index at once."""

    def __init__(self, told: ReadIndexResponse | CallRefused = TOLD) -> None:
        super().__init__()
        self.told = told

    def tell(self, message: Any) -> None:
        if isinstance(message, CallReceived) and isinstance(message.request, ReadIndexRequest):
            message.reply_to.tell(CallAnswer(message.request_id, self.told))
        super().tell(message)


async def test_a_question_reaches_the_replicator_whole_and_so_does_its_answer() -> None:
    leader, answers = Leader(), Answers()
    async with serving(service_of(leader)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, ASKED, answers)
        assert await answers.queue.get() == CallReturned(N2, 7, TOLD)
        assert (await leader.next(CallReceived)).request == ASKED


async def test_a_refusal_fails_the_question_with_its_own_sentence() -> None:
    answers = Answers()
    async with serving(service_of(Leader(CallRefused("n2 is of another cluster")))) as addr, network() as net:
        net.call(Peer(N2, addr), 7, ASKED, answers)
        assert await answers.queue.get() == CallFailed(N2, 7, "n2 is of another cluster", is_declined=True)


async def test_a_question_has_a_connection_of_its_own_beside_a_parked_fetch_and_outlives_the_pull() -> None:
    leader, fetches, answers = Leader(), Answers(), Answers()
    async with serving(service_of(leader)) as addr, network() as net:
        net.call(Peer(N2, addr), 1, REQUEST, fetches)
        await leader.next(CallReceived)
        net.call(Peer(N2, addr), 2, ASKED, answers)
        net.forget(N2)
        net.call(Peer(N2, addr), 3, ASKED, answers)
        assert {(await answers.queue.get()).request_id for _ in range(2)} == {2, 3}
        assert (await fetches.queue.get()).request_id == 1
        assert set(net._connections) == {(N2, Lane.URGENT)}


@given(
    st.builds(
        ReadIndexRequest,
        cluster=st.text(max_size=20),
        node_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True),
        log_epoch=u64,
        term=u64,
    )
)
def test_a_request_survives_the_wire(asked: ReadIndexRequest) -> None:
    raw = encode_read_index_request(asked).SerializeToString()
    assert decode_read_index_request(pb.ReadIndexRequest.FromString(raw)) == asked


@given(
    st.builds(
        ReadIndexResponse,
        node_id=st.just(N2),
        term=u64,
        leader_id=st.none() | st.just(N3),
        committed=st.none() | u64,
        detail=st.text(max_size=MAX_DETAIL_CHARS),
    )
)
def test_an_answer_survives_the_wire_and_no_index_is_not_index_0(told: ReadIndexResponse) -> None:
    raw = encode_read_index_response(told).SerializeToString()
    assert decode_read_index_response(pb.ReadIndexResponse.FromString(raw)) == told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (pb.ReadIndexResponse(protocol=PROTOCOL + 1, node_id="n2"), "same version"),
        (pb.ReadIndexResponse(protocol=PROTOCOL), "means nothing"),
        (pb.ReadIndexResponse(protocol=PROTOCOL, node_id="n2", leader_id="\n"), "means nothing"),
    ],
)
def test_an_answer_of_another_protocol_or_of_nobody_means_nothing(answer: pb.ReadIndexResponse, why: str) -> None:
    with pytest.raises(PeerCodecError, match=why):
        decode_read_index_response(answer)


@given(
    st.builds(pb.ReadIndexRequest, node_id=st.text(), cluster=st.text())
    | st.builds(pb.ReadIndexResponse, protocol=st.integers(0, PROTOCOL + 1), node_id=st.text(), leader_id=st.text())
)
def test_hostile_messages_raise_nothing_but_the_codecs_own_error(message: Any) -> None:
    decode = decode_read_index_request if isinstance(message, pb.ReadIndexRequest) else decode_read_index_response
    with contextlib.suppress(PeerCodecError):
        decode(message)  # type: ignore[operator]
