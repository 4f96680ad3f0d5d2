"""The pure half of gossip: how news is judged, spread and when members are pinged."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.gossip.codec import MAX_INCARNATION, member_size_bytes
from ourolog.actors.gossip.table import (
    Judgement,
    MemberTable,
    ProbeOrder,
    UpdateQueue,
    overrides,
    retransmit_limit,
    suspicion_s,
)
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft, MemberUpdated
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.types import NodeId

ME = Member(NodeId("me"), "me:1", "me:2")


def member(name: str, state: MemberState = MemberState.ALIVE, incarnation: int = 1, at: str = "") -> Member:
    return Member(NodeId(name), f"{at or name}:8400", f"{at or name}:8401", state, incarnation)


news = st.builds(
    member, st.sampled_from(["a", "b", "c"]), st.sampled_from(MemberState), st.integers(0, 3)
)  # each name at one address: what moves has to be asked about, see Judgement.CONTESTED


def believed(heard: list[Member]) -> list[Member]:
    """By somebody who knows them all."""
    table = MemberTable(ME)
    for name in ("a", "b", "c"):
        table.adopt(member(name, incarnation=0), 0.0)
    for one in heard:
        if table.judge(one) is Judgement.ADOPT:
            table.adopt(one, 0.0)
    return table.everybody()


@given(st.lists(news, max_size=12), st.randoms(use_true_random=False))
def test_the_same_news_in_any_order_and_number_leads_to_the_same_belief(heard: list[Member], rng: Random) -> None:
    shuffled = heard + heard[: len(heard) // 2]
    rng.shuffle(shuffled)
    assert believed(heard) == believed(shuffled)


def test_the_worse_state_wins_at_an_incarnation_and_the_higher_incarnation_always() -> None:
    states = [MemberState.ALIVE, MemberState.SUSPECT, MemberState.FAILED, MemberState.LEFT]
    ascending = [member("a", state, incarnation) for incarnation in (1, 2) for state in states]
    for at, one in enumerate(ascending):
        assert [overrides(one, other) for other in ascending] == [other < at for other in range(8)]


@pytest.mark.parametrize("state", [MemberState.ALIVE, MemberState.SUSPECT])
def test_a_present_member_s_gossip_address_is_contested_but_that_of_a_gone_one_is_free(state: MemberState) -> None:
    table = MemberTable(ME)
    table.adopt(member("a", state), 0.0)
    assert table.judge(member("a", incarnation=9, at="elsewhere")) is Judgement.CONTESTED
    assert table.judge(member("a", MemberState.LEFT, incarnation=9, at="elsewhere")) is Judgement.CONTESTED
    assert table.judge(replace(member("a", incarnation=9), rpc_addr="elsewhere:1")) is Judgement.ADOPT
    table.adopt(member("a", MemberState.FAILED), 0.0)
    assert table.judge(member("a", incarnation=9, at="elsewhere")) is Judgement.ADOPT


def test_each_change_is_one_event_and_suspicion_is_none() -> None:
    table = MemberTable(ME)
    alive, suspect = member("a"), member("a", MemberState.SUSPECT)
    failed, left = member("a", MemberState.FAILED), member("a", MemberState.LEFT)
    back, moved = member("a", incarnation=2), replace(member("a", incarnation=3), rpc_addr="elsewhere:1")
    assert table.adopt(alive, 0.0) == MemberJoined(alive)
    assert table.adopt(suspect, 0.0) is None
    assert table.adopt(failed, 0.0) == MemberFailed(failed)
    assert table.adopt(left, 0.0) is None, "who has failed is gone already"
    assert table.adopt(back, 0.0) == MemberJoined(back)
    assert table.adopt(moved, 0.0) == MemberUpdated(moved)
    gone = replace(moved, state=MemberState.LEFT)
    assert table.adopt(gone, 0.0) == MemberLeft(gone)


def test_the_gone_are_forgotten_after_their_time_and_the_present_never() -> None:
    table = MemberTable(ME)
    table.adopt(member("a"), 1.0)
    table.adopt(member("b", MemberState.FAILED), 1.0)
    table.adopt(member("c", MemberState.LEFT), 5.0)
    table.forget_gone(before_s=3.0)
    assert [m.node_id for m in table.everybody()] == ["a", "c"]


def test_a_full_table_gives_up_the_longest_gone_for_a_newcomer_and_nobody_present() -> None:
    table = MemberTable(ME, capacity=3)
    table.adopt(member("a"), 1.0)
    table.adopt(member("b", MemberState.FAILED), 2.0)
    table.adopt(member("c", MemberState.FAILED), 1.0)
    assert table.judge(member("d")) is Judgement.ADOPT
    table.adopt(member("d"), 3.0)
    assert [m.node_id for m in table.everybody()] == ["a", "b", "d"]
    table.adopt(member("e"), 3.0)
    assert table.judge(member("f")) is Judgement.FULL
    assert table.judge(member("a", incarnation=2)) is Judgement.ADOPT


def test_a_refutation_is_above_what_it_refutes_and_within_the_format() -> None:
    table = MemberTable(ME)
    assert table.refute(5).incarnation == 6
    assert table.refute(2).incarnation == 7
    assert table.refute(MAX_INCARNATION).incarnation == MAX_INCARNATION


def test_news_is_told_least_told_first_and_no_more_often_than_its_limit() -> None:
    queue = UpdateQueue()
    a, b, c = member("a"), member("b"), member("c")
    room_for_two = 2 * member_size_bytes(a)
    for one in (c, a, b):
        queue.push(one)
    told = [queue.take(room_for_two, limit=2) for _ in range(4)]
    assert told == [[a, b], [c, a], [b, c], []]
    assert len(queue) == 0


def test_newer_news_about_a_member_replaces_the_older_and_starts_anew() -> None:
    queue = UpdateQueue()
    queue.push(member("a"))
    queue.take(1000, limit=3)
    suspect = member("a", MemberState.SUSPECT)
    queue.push(suspect)
    assert [queue.take(1000, limit=2) for _ in range(3)] == [[suspect], [suspect], []]


@pytest.mark.parametrize(("count", "limit"), [(1, 3), (2, 3), (9, 3), (10, 6), (99, 6), (100, 9)])
def test_news_is_passed_on_three_times_the_logarithm_of_the_members(count: int, limit: int) -> None:
    assert retransmit_limit(count) == limit


def test_a_suspect_has_longer_in_a_larger_cluster() -> None:
    assert [suspicion_s(2.0, count) for count in (1, 3, 10, 100)] == [2.0, 2.0, 2.0, 4.0]


@given(st.integers(1, 12), st.integers(0, 1000))
def test_everybody_is_pinged_once_a_round_and_rounds_differ(count: int, seed: int) -> None:
    order = ProbeOrder(Random(seed))
    present = [member(f"n{number:02}") for number in range(count)]
    ids = [one.node_id for one in present]
    rounds = [[order.next(present) for _ in ids] for _ in range(20)]
    assert all(sorted(a_round, key=str) == ids for a_round in rounds)
    assert count < 4 or any(a_round != rounds[0] for a_round in rounds)


def test_a_newcomer_is_pinged_within_the_round_and_who_is_gone_is_not() -> None:
    order = ProbeOrder(Random(1))
    present = [member(f"n{number}") for number in range(5)]
    order.next(present)
    present = [one for one in present if one.node_id != "n3"] + [member("n9")]
    pinged = [order.next(present) for _ in range(5)]
    assert "n9" in pinged
    assert "n3" not in pinged


def test_nobody_is_pinged_when_nobody_is_there() -> None:
    assert ProbeOrder(Random(1)).next([]) is None
