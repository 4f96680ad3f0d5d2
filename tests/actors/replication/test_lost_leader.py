"""How a follower notices that it has lost its leader, and how soon it looks for it again."""

from __future__ import annotations

from ourolog.actors.messages.election import LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import LeaderChanged, MemberJoined, NobodyElected
from ourolog.actors.messages.peer_calls import FetchOutcome
from ourolog.storage.types import Term
from tests.replicator_stage import N2, N3, STATIC, Stage, member, response


def following() -> Stage:
    """n1, which follows n2 in term 1; its first fetch is open."""
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    return stage


def until_fetched(stage: Stage) -> float:
    """Let time pass until a fetch is open; how long that took, in seconds."""
    before_s = stage.runtime.now_s
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=10)
    return stage.runtime.now_s - before_s


def test_a_pull_from_the_leader_that_broke_is_tried_again_at_once_but_once_only() -> None:
    stage = following()
    stage.network.take(N2).fail()
    assert until_fetched(stage) == 0
    assert stage.status().pulls[0].detail == "the connection broke"
    stage.network.take(N2).fail()
    assert until_fetched(stage) > 0
    stage.network.take(N2).answer(response(term=Term(1)))
    until_fetched(stage)
    stage.network.take(N2).fail()
    assert until_fetched(stage) == 0
    assert stage.election.all(LeaderUnreachable) == []


def test_that_nobody_listens_where_the_leader_was_is_told_once_a_loss() -> None:
    stage = following()
    stage.network.take(N2).fail()
    stage.runtime.run_until_idle()
    for _ in range(5):
        until_fetched(stage)
        stage.network.take(N2).fail(is_refused=True)
        stage.runtime.run_until_idle()
        assert stage.election.received == [LeaderUnreachable(Term(1), N2)]
    until_fetched(stage)
    stage.network.take(N2).answer(response(FetchOutcome.NOT_LEADER, term=Term(1)))
    until_fetched(stage)
    stage.network.take(N2).fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert stage.election.received == [LeaderUnreachable(Term(1), N2)] * 2


def test_a_refusal_needs_no_second_try_and_is_told_of_each_leader_anew() -> None:
    stage = following()
    stage.network.take(N2).fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert stage.network.open == []
    assert stage.election.received == [LeaderUnreachable(Term(1), N2)]
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    stage.network.take(N3).fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert stage.election.received == [LeaderUnreachable(Term(1), N2), LeaderUnreachable(Term(2), N3)]


def test_an_answer_of_the_old_pull_to_which_nobody_listens_any_more_tells_nothing_of_the_new_leader() -> None:
    stage = following()
    old = stage.network.take(N2)
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    old.fail(is_refused=True)
    stage.runtime.run_until_idle()
    assert stage.election.received == []


def test_a_leader_that_is_lost_is_looked_for_soon_and_often() -> None:
    stage = following()
    waits_s = []
    for _ in range(20):
        stage.network.take(N2).fail(is_refused=True)
        stage.runtime.run_until_idle()
        waits_s.append(until_fetched(stage))
    assert 0.025 <= waits_s[0] <= 0.05
    assert all(0.25 <= wait_s <= 0.5 for wait_s in waits_s[5:])
    stage.network.take(N2).answer(response(term=Term(1)))
    stage.runtime.run_until_idle()
    assert [answered.term for answered in stage.election.all(LeaderAnswered)] == [1]


def test_with_nobody_elected_a_pull_that_broke_waits_and_tells_no_election() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    for is_refused in (False, True):
        stage.network.take(N2).fail(is_refused=is_refused)
        stage.runtime.run_until_idle()
        assert until_fetched(stage) >= 0.05
    assert stage.election.received == []
