"""TransferLeader: what the edge makes of the election's answers, and how clients find the leader to ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.election import LeaderTransferred, TransferLeader
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.values import Member, ReadLevel
from ourolog.actors.occupants import parse_election
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_types import LeaderTransfer
from ourolog.rpc.testing import SilentActor
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.types import NodeId, Term

N1, N2 = NodeId("n1"), NodeId("n2")


class Elections:
    """An occupant that answers as it is told, given the node that is to lead."""

    def __init__(self, answer: Callable[[NodeId | None], tuple[NodeId | None, int, str]]) -> None:
        self.answer = answer
        self.asked: list[NodeId | None] = []

    def tell(self, message: Any) -> None:
        assert isinstance(message, TransferLeader)
        self.asked.append(message.to)
        leader_id, term, why_not = self.answer(message.to)
        message.reply_to.tell(LeaderTransferred(message.request_id, leader_id, Term(term), why_not))


VOTING = ElectionChoice("voting", voters=(N1, N2))


async def test_the_answer_says_who_leads_now_and_who_did(edge: Any) -> None:
    elections = Elections(lambda to: (to or N2, 5, ""))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address) as client:
        assert await client.transfer_leader() == LeaderTransfer("n2", 5, "n1")
        assert await client.transfer_leader("n1") == LeaderTransfer("n1", 5, "n1")
    assert elections.asked == [None, N1]


async def test_a_client_that_asks_a_follower_is_led_to_the_leader(edge: Any) -> None:
    follower, leader = Elections(lambda _: (N2, 4, "n1 does not lead; n2 does")), Elections(lambda _: (N2, 5, ""))
    async with edge(election=(VOTING, leader)) as there, edge(election=(VOTING, follower)) as here:
        here.server.members = (Member(N2, there.address, "h:2"),)
        async with LogClient(here.address) as client:
            assert (await client.transfer_leader()).term == 5
    assert (follower.asked, leader.asked) == ([None], [None])


async def test_who_does_not_lead_answers_with_a_hint_like_a_produce(edge: Any, details_of: Any) -> None:
    async with edge(election=(VOTING, Elections(lambda _: (N2, 4, "n1 does not lead; n2 does")))) as e:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await e.stub.TransferLeader(pb.TransferLeaderRequest())
    hint = details_of(refused.value, pb.LeaderHint)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (hint.leader_id, hint.leader_addr) == ("n2", "h2:1")


async def test_why_it_cannot_be_is_said_once_and_the_client_does_not_ask_again(edge: Any) -> None:
    elections = Elections(lambda _: (N1, 4, "n3 is 3,000 entries behind"))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address) as client:
        with pytest.raises(LogError, match="n3 is 3,000 entries behind") as refused:
            await client.transfer_leader("n3")
    assert (refused.value.code, refused.value.reason) == ("FAILED_PRECONDITION", "NOT_TRANSFERRED")
    assert elections.asked == [NodeId("n3")]


@pytest.mark.parametrize(("flag", "leader_id"), [("none", None), ("static:n2,n1", N2), ("static:n2,n1", None)])
async def test_where_voters_do_not_decide_nobody_is_sent_elsewhere(
    edge: Any, flag: str, leader_id: NodeId | None
) -> None:
    elections = Elections(lambda _: (leader_id, 0, "a person decrees who leads"))
    async with edge(election=(parse_election(flag), elections)) as e, LogClient(e.address) as client:
        with pytest.raises(LogError, match="a person decrees who leads") as refused:
            await client.transfer_leader()
    assert refused.value.reason == "NOT_TRANSFERRED"


async def test_while_nobody_leads_a_client_asks_again_until_its_time_is_up(edge: Any) -> None:
    elections = Elections(lambda _: (None, 4, "nobody leads in term 4"))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address, timeout_s=0.5) as client:
        with pytest.raises(LogError, match="nobody leads in term 4"):
            await client.transfer_leader()
    assert len(elections.asked) > 1


async def test_an_election_that_does_not_answer_leaves_it_open_what_happens(edge: Any) -> None:
    async with edge(election=(VOTING, SilentActor())) as e, LogClient(e.address, timeout_s=0.4) as client:
        with pytest.raises(LogError, match="look at the status before you ask again"):
            await client.transfer_leader()


async def test_a_name_that_no_node_can_have_is_refused(edge: Any) -> None:
    async with edge(election=(VOTING, SilentActor())) as e, LogClient(e.address) as client:
        with pytest.raises(LogError, match="cannot be the id of a node") as refused:
            await client.transfer_leader("n 2")
    assert list(refused.value.fields) == ["node_id"]


# ---------------------------------------------------------------- three voters, and a client that produces meanwhile


class Producing:
    """A client that produces one record after the other, and what it was answered."""

    def __init__(self, client: LogClient) -> None:
        self.client = client
        self.offsets: list[int] = []
        self._task = asyncio.create_task(self._produce())
        self._more = asyncio.Event()
        self._ends = False

    async def _produce(self) -> None:
        while not self._ends:
            self.offsets.append(await self.client.produce(b"%d" % len(self.offsets)))
            self._more.set()

    async def some_more(self) -> None:
        wanted = len(self.offsets) + 5
        while len(self.offsets) < wanted and not self._task.done():
            self._more.clear()
            more = asyncio.ensure_future(self._more.wait())
            await asyncio.wait((self._task, more), return_when=asyncio.FIRST_COMPLETED)
            more.cancel()

    async def end(self) -> None:
        """Raises what a produce failed with."""
        self._ends = True
        await self._task


@contextlib.asynccontextmanager
async def three_voters(node: Any) -> AsyncIterator[dict[str, Any]]:
    election = parse_election("raft:n1,n2,n3")
    async with (
        node("n1", election=election, ready=False) as n1,
        node("n2", election=election, ready=False, join=(n1.gossip_addr,)) as n2,
        node("n3", election=election, ready=False, join=(n1.gossip_addr,)) as n3,
    ):
        for one in (n1, n2, n3):
            await one.until(lambda event: isinstance(event, LeaderChanged) and event.leader_id is not None)
        yield {"n1": n1, "n2": n2, "n3": n3}


async def test_the_lead_goes_where_a_person_wants_it_while_clients_produce_and_no_produce_fails(node: Any) -> None:
    async with three_voters(node) as nodes, LogClient([one.rpc_addr for one in nodes.values()]) as client:
        producing = Producing(client)
        await producing.some_more()
        async with LogClient(nodes["n1"].rpc_addr) as person:
            for to in ("n2", "n3", "n1", "n2"):
                assert (await person.transfer_leader(to)).leader == to
                await producing.some_more()
            first = await person.transfer_leader()
            assert (first.leader, first.previous_leader) in {("n1", "n2"), ("n3", "n2")}
            with pytest.raises(LogError, match="n4"):
                await person.transfer_leader("n4")
        await producing.end()
        stored = [record.value async for record in client.consume_stream(0, stop_at_end=True, read=ReadLevel.LATEST)]
    assert stored == [b"%d" % number for number in range(len(producing.offsets))]
    assert producing.offsets == list(range(len(stored)))


async def test_a_leader_that_stops_in_good_order_costs_no_produce(node: Any) -> None:
    async with three_voters(node) as nodes, LogClient([one.rpc_addr for one in nodes.values()]) as client:
        producing = Producing(client)
        await producing.some_more()
        leader = next(server.node_id for server in await client.get_servers() if server.is_leader)
        await nodes[leader].server.stop(5.0)
        await producing.some_more()
        await producing.end()
        stored = [record.value async for record in client.consume_stream(0, stop_at_end=True, read=ReadLevel.LATEST)]
    assert stored == [b"%d" % number for number in range(len(producing.offsets))]
