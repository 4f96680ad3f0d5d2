"""AddVoter and RemoveVoter: what the edge makes of the election's answers, and how clients find the leader to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.election import AddVoter, ChangeProblem, RemoveVoter, VotersChangeAnswered
from ourolog.actors.messages.values import Member
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_types import VotersChange
from ourolog.rpc.testing import SilentActor
from ourolog.rpc.v1 import log_pb2 as pb
from ourolog.storage.types import NodeId, Term

N1, N2, N4 = NodeId("n1"), NodeId("n2"), NodeId("n4")
VOTING = ElectionChoice("voting", voters=(N1, N2))


class Elections:
    """An occupant that answers as it is told."""

    def __init__(self, *answers: tuple[ChangeProblem | None, NodeId | None, str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Callable[..., object], NodeId]] = []

    def tell(self, message: Any) -> None:
        assert isinstance(message, AddVoter | RemoveVoter)
        self.asked.append((type(message), message.node_id))
        problem, leader_id, detail = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answered = VotersChangeAnswered(message.request_id, (N1, N2), leader_id, Term(5), problem, detail)
        message.reply_to.tell(answered)


async def test_the_answer_says_who_votes_now(edge: Any) -> None:
    elections = Elections((None, N1, ""))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address) as client:
        assert await client.add_voter("n4") == VotersChange(("n1", "n2"), 5)
        assert await client.remove_voter("n2") == VotersChange(("n1", "n2"), 5)
    assert elections.asked == [(AddVoter, N4), (RemoveVoter, N2)]


async def test_a_client_that_asks_a_follower_is_led_to_the_leader(edge: Any) -> None:
    leader = Elections((None, N2, ""))
    follower = Elections((ChangeProblem.NOT_LEADER, N2, "n1 does not lead"))
    async with edge(election=(VOTING, leader)) as there, edge(election=(VOTING, follower)) as here:
        here.server.members = (Member(N2, there.address, "h:2"),)
        async with LogClient(here.address) as client:
            await client.remove_voter("n4")
    assert (follower.asked, leader.asked) == ([(RemoveVoter, N4)], [(RemoveVoter, N4)])


@pytest.mark.parametrize(
    ("problem", "code", "reason"),
    [
        (ChangeProblem.IS_VOTER, "ALREADY_EXISTS", "IS_VOTER"),
        (ChangeProblem.UNKNOWN, "NOT_FOUND", "NOT_KNOWN"),
        (ChangeProblem.IMPOSSIBLE, "FAILED_PRECONDITION", "NOT_CHANGED"),
        (ChangeProblem.UNSUPPORTED, "FAILED_PRECONDITION", "NOT_CHANGED"),
        (ChangeProblem.LOST, "UNKNOWN", "LEAD_LOST"),
    ],
)
async def test_why_it_cannot_be_is_said_once(edge: Any, problem: ChangeProblem, code: str, reason: str) -> None:
    elections = Elections((problem, N1, "why it is not done"))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address) as client:
        with pytest.raises(LogError, match="why it is not done") as refused:
            await client.add_voter("n4")
    assert (refused.value.code, refused.value.reason) == (code, reason)
    assert len(elections.asked) == 1


async def test_while_another_change_is_under_way_a_client_asks_again_until_its_time_is_up(edge: Any) -> None:
    elections = Elections((ChangeProblem.UNDER_WAY, N1, "n3 is being removed"), (None, N1, ""))
    async with edge(election=(VOTING, elections)) as e, LogClient(e.address) as client:
        await client.add_voter("n4")
    assert len(elections.asked) == 2
    for_ever = Elections((ChangeProblem.UNDER_WAY, N1, "n3 is being removed"))
    async with edge(election=(VOTING, for_ever)) as e, LogClient(e.address, timeout_s=0.5) as client:
        with pytest.raises(LogError, match="n3 is being removed"):
            await client.add_voter("n4")
    assert len(for_ever.asked) > 1


async def test_while_nobody_leads_the_sentence_says_so(edge: Any, details_of: Any) -> None:
    elections = Elections((ChangeProblem.NOT_LEADER, None, "nobody leads in term 5"))
    async with edge(election=(VOTING, elections)) as e:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await e.stub.AddVoter(pb.AddVoterRequest(node_id="n4"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details_of(refused.value, pb.LeaderHint).leader_id == ""


async def test_an_election_that_does_not_answer_leaves_it_open_what_happens(edge: Any) -> None:
    async with edge(election=(VOTING, SilentActor())) as e, LogClient(e.address, timeout_s=0.4) as client:
        with pytest.raises(LogError, match="look at the status before you ask again"):
            await client.remove_voter("n2")


@pytest.mark.parametrize("name", ["", "n 2", "x" * 64])
async def test_a_name_that_no_node_can_have_is_refused(edge: Any, name: str) -> None:
    async with edge(election=(VOTING, SilentActor())) as e, LogClient(e.address) as client:
        with pytest.raises(LogError, match="cannot be the id of a node") as refused:
            await client.add_voter(name)
    assert list(refused.value.fields) == ["node_id"]
