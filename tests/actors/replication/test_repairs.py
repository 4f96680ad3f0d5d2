"""Repairs by the replicator: whom it asks for a damaged entry, what it does with the answers, and what it answers."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import NOBODY_ELECTED
from ourolog.actors.messages.events import LeaderChanged, LogStartMoved, MemberJoined, NobodyElected, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallRefused,
    RepairRequest,
    RepairResponse,
)
from ourolog.actors.messages.repair import (
    BatchRepaired,
    DamageFound,
    RepairAbandoned,
    RepairBatch,
    RepairRejected,
)
from ourolog.actors.messages.store import BatchesRead, ReadBatches, ReadProblem, ReadRefused
from ourolog.actors.replication.repairs import ASK_AGAIN_AFTER_S
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, NodeId, Offset, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, member, place

N4 = NodeId("n4")


def follower(committed: int = 10, end: int = 10) -> Stage:
    """n1, which follows n2, with that much in its log and known to be committed."""
    stage = Stage(election=STATIC)
    stage.open(at(end), history((1, 0)), committed=at(committed))
    stage.follow()
    stage.tell(MemberJoined(member(N3)))
    stage.network.take(N2)
    stage.store.take()
    return stage


def calls(stage: Stage) -> list[Any]:
    return [call for call in stage.network.open if isinstance(call.request, RepairRequest)]


def take(stage: Stage) -> Any:
    """The one call that is open, which is then taken."""
    (call,) = calls(stage)
    stage.network.open.remove(call)
    return call


def answer(stage: Stage, batch: bytes = b"", why_not: str = "", *, is_final: bool = False) -> NodeId:
    call = take(stage)
    call.answer(RepairResponse(call.peer.node_id, 5, batch, why_not, is_final))
    stage.runtime.run_until_idle()
    return call.peer.node_id


def fail(stage: Stage, **how: Any) -> NodeId:
    call = take(stage)
    call.fail(**how)
    stage.runtime.run_until_idle()
    return call.peer.node_id


def found(stage: Stage, index: int = 4) -> None:
    stage.tell(DamageFound(Index(index), Offset(index)))


def test_a_voter_is_asked_for_the_entry_by_its_place_and_what_it_sends_goes_to_the_store() -> None:
    stage = follower()
    found(stage)
    call = take(stage)
    assert call.request == RepairRequest("ourolog", 0, N1, 77, Index(4), place(1))
    call.answer(RepairResponse(call.peer.node_id, 5, b"a batch"))
    stage.runtime.run_until_idle()
    assert stage.store.take() == [RepairBatch(Index(4), b"a batch", call.peer.node_id, stage.ref)]
    stage.tell(BatchRepaired(Index(4), call.peer.node_id))
    stage.runtime.run_for(60.0)
    assert calls(stage) == []


@pytest.mark.parametrize("how", ["is silent", "has none", "sends another one", "refuses"])
def test_the_next_voter_is_asked_when_the_first_does_not_help(how: str) -> None:
    stage = follower()
    found(stage)
    match how:
        case "is silent":
            first = fail(stage)
        case "has none":
            first = answer(stage, why_not="not here", is_final=True)
        case "refuses":
            first = fail(stage, is_declined=True)
        case _:
            first = answer(stage, b"another")
            stage.tell(RepairRejected(Index(4), first, "its checksum does not hold"))
    assert {first, take(stage).peer.node_id} == {N2, N3}


def test_a_repair_is_tried_again_and_again_while_somebody_who_may_have_the_entry_does_not_answer() -> None:
    stage = follower()
    found(stage)
    asked = []
    for _ in range(6):
        for _ in range(2):
            node_id = take(stage)
            asked.append(node_id.peer.node_id)
            if node_id.peer.node_id == N2:
                node_id.answer(RepairResponse(N2, 5, b"", "it is damaged on n2 as well", is_final=True))
            else:
                node_id.fail()
            stage.runtime.run_until_idle()
        assert calls(stage) == []
        stage.runtime.run_for(2.0)
    assert asked.count(N2) == asked.count(N3) == 6
    assert stage.store.all(RepairAbandoned) == []
    call = take(stage)
    call.answer(RepairResponse(call.peer.node_id, 5, b"a batch"))
    stage.runtime.run_until_idle()
    assert stage.store.last(RepairBatch).batch == b"a batch"


def test_it_is_given_up_when_all_have_said_that_they_do_not_have_it_and_says_why() -> None:
    stage = follower()
    found(stage)
    for _ in range(2):
        node_id = take(stage)
        why = f"it is damaged on {node_id.peer.node_id} as well"
        node_id.answer(RepairResponse(node_id.peer.node_id, 5, b"", why, is_final=True))
        stage.runtime.run_until_idle()
    why = "it is damaged on n2 as well; it is damaged on n3 as well"
    assert stage.store.last(RepairAbandoned) == RepairAbandoned(Index(4), why, ASK_AGAIN_AFTER_S)
    stage.runtime.run_for(60.0)
    assert calls(stage) == []
    found(stage)
    assert len(calls(stage)) == 1, "whoever finds it again asks again"


def test_what_comes_before_something_else_is_repaired_is_asked_for_again_later() -> None:
    stage = follower()
    found(stage)
    source_id = answer(stage, b"a batch")
    stage.tell(RepairRejected(Index(4), source_id, "entry 3 is damaged", is_too_early=True))
    assert calls(stage) == []
    stage.runtime.run_for(2.0)
    assert len(calls(stage)) == 1


def test_what_was_repaired_and_is_damaged_again_is_asked_for_again() -> None:
    stage = follower()
    found(stage)
    stage.tell(BatchRepaired(Index(4), answer(stage, b"a batch")))
    found(stage)
    assert len(calls(stage)) == 1


def test_what_was_said_in_an_earlier_round_is_no_reason_any_more() -> None:
    stage = follower()
    found(stage)
    for why in ("n3 has another entry there", "it is damaged"):
        for _ in range(2):
            call = take(stage)
            if why == "it is damaged":
                call.answer(RepairResponse(call.peer.node_id, 5, b"", f"{why} on {call.peer.node_id}", is_final=True))
            elif call.peer.node_id == N3:
                call.answer(RepairResponse(N3, 5, b"", why, is_final=True))
            else:
                call.fail()
            stage.runtime.run_until_idle()
        stage.runtime.run_for(2.0)
    assert stage.store.last(RepairAbandoned).reason == "it is damaged on n2; it is damaged on n3"


def test_who_does_not_vote_is_asked_after_the_voters_and_who_is_gone_is_not() -> None:
    stage = follower()
    stage.tell(MemberJoined(type(member(N2))(N4, "127.0.0.1:4", "gossip-n4")))
    found(stage)
    assert {answer(stage, why_not="no", is_final=True), answer(stage, why_not="no", is_final=True)} == {N2, N3}
    assert answer(stage, why_not="no", is_final=True) == N4
    assert stage.store.all(RepairAbandoned)


def test_a_voter_without_others_asks_nobody_and_says_so_at_once() -> None:
    stage = Stage(election=STATIC)
    stage.open(at(10), history((1, 0)), committed=at(10))
    stage.tell(VotersChanged((N1,)), LeaderChanged(Term(2), N1))
    found(stage)
    assert "no other node" in stage.store.last(RepairAbandoned).reason


def test_what_is_not_known_to_be_committed_is_not_asked_for() -> None:
    stage = follower(committed=4)
    found(stage)
    assert calls(stage) == []
    assert "not known to be committed" in stage.store.last(RepairAbandoned).reason


def test_a_node_that_does_not_know_who_votes_waits_until_it_does() -> None:
    stage = Stage(election=STATIC)
    stage.open(at(10), history((1, 0)), committed=at(10))
    found(stage)
    assert calls(stage) == []
    assert stage.store.all(RepairAbandoned) == []
    stage.follow()
    stage.runtime.run_for(3.0)
    assert calls(stage)


# ---------------------------------------------------------------- answering


def ask(stage: Stage, index: int = 4, of: Place | None = None, **changed: Any) -> Any:
    """What the stage's node answers to n3, None if it asks its store first."""
    fields: dict[str, Any] = {
        "cluster": "ourolog",
        "cluster_id": 0,
        "node_id": N3,
        "log_epoch": 9,
        "index": Index(index),
        "place": of or place(1),
        **changed,
    }
    stage.store.take()
    stage.tell(CallReceived(6, RepairRequest(**fields), stage.edge))
    answers = [answer.response for answer in stage.edge.take() if isinstance(answer, CallAnswer)]
    return answers[0] if answers else None


def test_any_replica_answers_with_one_entry_that_is_committed_there() -> None:
    stage = follower()
    assert ask(stage) is None
    read = stage.store.last(ReadBatches)
    assert (read.index, read.until, read.max_bytes, read.repair_wait_s) == (4, 5, 0, 0.0)
    read.reply_to.tell(BatchesRead(0, b"a batch", at(5)))
    assert stage.edge.last(CallAnswer) == CallAnswer(6, RepairResponse(N1, 77, b"a batch"))


@pytest.mark.parametrize("problem", [ReadProblem.DAMAGED, ReadProblem.REPAIRING])
def test_who_has_the_same_damage_says_so_at_once(problem: ReadProblem) -> None:
    stage = follower()
    ask(stage)
    stage.store.last(ReadBatches).reply_to.tell(ReadRefused(0, problem, "bad", at(0), at(10)))
    told = stage.edge.last(CallAnswer).response
    assert told == RepairResponse(N1, 77, b"", "it is damaged on n1 as well", is_final=True)


def test_who_cannot_read_at_the_moment_does_not_say_that_it_has_none() -> None:
    stage = follower()
    ask(stage)
    stage.store.last(ReadBatches).reply_to.tell(ReadRefused(0, ReadProblem.BUSY, "busy", at(0), at(10)))
    assert stage.edge.last(CallAnswer).response == RepairResponse(N1, 77, b"", "busy")


def test_nothing_is_sent_that_is_not_committed_or_is_another_entry_or_is_gone() -> None:
    stage = follower(committed=5)
    told = ask(stage, 5)
    assert (told.batch, told.is_final) == (b"", False)
    for other in (place(2), Place(Term(1), (N3, 77)), Place(Term(1), (N1, 78))):
        told = ask(stage, 4, other)
        assert (told.batch, told.is_final) == (b"", True)
    stage.tell(LogStartMoved(at(3)))
    told = ask(stage, 2)
    assert (told.batch, told.is_final) == (b"", True)
    assert stage.store.all(ReadBatches) == []


def test_who_has_not_copied_so_far_says_that_it_has_none_since_it_may_wait_for_the_asker() -> None:
    stage = follower(committed=5, end=7)
    told = ask(stage, 7)
    assert told == RepairResponse(N1, 77, b"", "the log of n1 ends at index 7", is_final=True)
    assert ask(stage, 6).is_final is False, "it has the entry, and may soon know that it is committed"


def test_other_clusters_and_nodes_without_leaders_are_refused() -> None:
    assert isinstance(ask(follower(), cluster="another"), CallRefused)
    peer = Stage(election=NOBODY_ELECTED)
    peer.open(at(10))
    peer.tell(NobodyElected())
    assert isinstance(ask(peer), CallRefused)


def test_a_starting_node_does_not_say_that_it_has_none() -> None:
    stage = Stage(election=STATIC)
    stage.open(at(10), history((1, 0)), committed=at(10))
    assert ask(stage).is_final is False
