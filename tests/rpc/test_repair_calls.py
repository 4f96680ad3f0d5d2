"""Calls for a damaged entry, over real sockets: they reach the replicator, and the batch comes back as it is."""

from __future__ import annotations

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
    RepairRequest,
    RepairResponse,
)
from ourolog.actors.messages.values import Peer
from ourolog.rpc.peer_values import MAX_DETAIL_CHARS, PROTOCOL, PeerCodecError
from ourolog.rpc.repair_codec import (
    decode_repair_request,
    decode_repair_response,
    encode_repair_request,
)
from ourolog.rpc.v1 import peer_pb2 as pb
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Term
from tests.rpc.peers import N2, Answers, Replicator, network, over_the_wire, service_of, serving, u64

N1, N3 = NodeId("n1"), NodeId("n3")
ASKED = RepairRequest("c", 9, N1, 5, Index(7), Place(Term(3), (N3, 8)))
TOLD = RepairResponse(N2, 6, b"a batch")
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


class Replica(Replicator):
    """A replicator that answers each call for an entry with the same."""

    def __init__(self, told: RepairResponse | CallRefused) -> None:
        super().__init__()
        self.told = told

    def tell(self, message: Any) -> None:
        if isinstance(message, CallReceived) and isinstance(message.request, RepairRequest):
            message.reply_to.tell(CallAnswer(message.request_id, self.told))
        super().tell(message)


@pytest.mark.parametrize(
    "told", [TOLD, RepairResponse(N2, 6, b"", "not here", is_final=True), RepairResponse(N2, 6, bytes(5_000_000))]
)
async def test_a_call_reaches_the_replicator_whole_and_so_does_its_answer(told: RepairResponse) -> None:
    replica, answers = Replica(told), Answers()
    async with serving(service_of(replica)) as addr, network() as net:
        net.call(Peer(N2, addr), 7, ASKED, answers)
        assert await answers.queue.get() == CallReturned(N2, 7, told)
        assert (await replica.next(CallReceived)).request == ASKED


async def test_a_refusal_fails_the_call_with_its_own_sentence() -> None:
    answers = Answers()
    async with serving(service_of(Replica(CallRefused("n2 is of another cluster")))) as addr, network() as net:
        net.call(Peer(N2, addr), 7, ASKED, answers)
        assert await answers.queue.get() == CallFailed(N2, 7, "n2 is of another cluster", is_declined=True)


@given(
    st.builds(
        RepairRequest,
        cluster=st.text(max_size=20),
        cluster_id=u64,
        node_id=names,
        log_epoch=u64,
        index=u64,
        place=st.builds(Place, term=u64, writer=st.tuples(names, u64)),
    )
)
def test_a_request_survives_the_wire(asked: RepairRequest) -> None:
    raw = encode_repair_request(asked).SerializeToString()
    assert decode_repair_request(pb.RepairRequest.FromString(raw)) == asked


@given(
    st.builds(
        RepairResponse,
        node_id=names,
        log_epoch=u64,
        batch=st.binary(max_size=100),
        why_not=st.text(max_size=MAX_DETAIL_CHARS),
        is_final=st.booleans(),
    )
)
def test_an_answer_survives_the_wire(told: RepairResponse) -> None:
    assert over_the_wire(RepairRequest, told) == told


def test_what_names_nobody_or_is_of_another_protocol_means_nothing_and_a_long_reason_is_clipped() -> None:
    for request in (pb.RepairRequest(), pb.RepairRequest(node_id="n1"), pb.RepairRequest(node_id="\n")):
        with pytest.raises(PeerCodecError):
            decode_repair_request(request)
    with pytest.raises(PeerCodecError, match="same version"):
        decode_repair_response(pb.RepairResponse(protocol=PROTOCOL + 1, node_id="n2"))
    with pytest.raises(PeerCodecError, match="means nothing"):
        decode_repair_response(pb.RepairResponse(protocol=PROTOCOL))
    long = pb.RepairResponse(protocol=PROTOCOL, node_id="n2", why_not="x" * 10_000)
    assert len(decode_repair_response(long).why_not) <= MAX_DETAIL_CHARS + 1
