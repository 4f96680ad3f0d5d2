"""What strangers, liars and updates about others can do to membership, and what they can cost: bounds with figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ourolog.actors.gossip.codec import (
    Ack,
    Body,
    Challenge,
    Datagram,
    Exchange,
    Join,
    Ping,
    PingRequest,
    Reject,
    Updates,
    decode,
    encode,
)
from ourolog.actors.gossip.cookies import MAX_COOKIES
from ourolog.actors.gossip.table import MAX_MEMBERS, MAX_QUEUED_UPDATES, MemberTable, UpdateQueue
from ourolog.actors.gossip.unconfirmed import ATTEMPTS, MAX_UNCONFIRMED, PINGS_A_ROUND
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft, MemberUpdated
from ourolog.actors.messages.membership import LeaveCluster
from ourolog.actors.messages.observer import NameClashed, NodeWarned, WarningKind
from ourolog.actors.messages.values import Member, MemberState
from ourolog.actors.stepping import EPOCH_MS
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.types import NodeId
from tests.gossip_cluster import GossipCluster, Sent, Speaker, forged, stranger

N01, N02 = "n01:8401", "n02:8401"


def started(count: int, **chosen: Any) -> GossipCluster:
    """That many nodes that know each other; what happened so far is forgotten."""
    cluster = GossipCluster(**chosen)
    cluster.run_until_all_see(cluster.start_many(count), 6)
    cluster.runtime.run_for(5)
    for probe in cluster.probes.values():
        probe.take()
    cluster.trace.clear()
    return cluster


def sent_by(cluster: GossipCluster, node: str, to: str | None = None) -> list[Sent]:
    return [sent for _, sent in cluster.trace if sent.source_addr == node and to in (None, sent.to_addr)]


def held(cluster: GossipCluster, viewer: str, name: str) -> Member:
    member = cluster.member(viewer, name)
    assert member is not None
    return member


# ---------------------------------------------------------------- strangers who cannot read what is sent


def test_thirty_thousand_invented_members_are_no_event_no_memory_and_a_challenge_for_each_datagram() -> None:
    cluster = started(2)
    before = cluster.status("n01")
    said = 0
    for number in range(3_000):
        lies = [stranger(f"invented-{number}-{at}") for at in range(9)]
        lie = forged(stranger(f"liar-{number}"), *lies)
        said += len(lie)
        cluster.send("x:1", N01, lie)
        cluster.runtime.run_for(0.001)
    cluster.runtime.run_for(30)
    assert cluster.status("n01") == before
    assert cluster.probes["n01"].received == []
    answers = [sent for sent in sent_by(cluster, N01) if sent.to_addr != N02]
    assert len(answers) == 3_000
    assert all(isinstance(decode(sent.payload).body, Challenge) for sent in answers)  # type: ignore[union-attr]
    assert sum(len(sent.payload) for sent in answers) < said


@pytest.mark.parametrize("body", [Updates(), Join(), Ping(NodeId("n01")), Exchange(asks_back=True)])
def test_a_stranger_is_answered_by_one_small_datagram_at_the_address_that_it_gives(body: Body) -> None:
    cluster = started(20)
    lie = forged(stranger("victim"), body=body)
    cluster.send("x:1", N01, lie)
    cluster.runtime.run_for(1)
    strange = [sent for sent in sent_by(cluster, N01) if sent.to_addr in ("x:1", "victim:8401")]
    assert [sent.to_addr for sent in strange] == ["victim:8401"]
    # Our own name and addresses may be longer than the stranger's: that is all there can be more.
    assert len(strange[0].payload) <= len(lie) + 16


@pytest.mark.parametrize("body", [Ack(1), Challenge(1)])
def test_an_answer_from_a_stranger_is_not_answered(body: Body) -> None:
    cluster = started(2)
    cluster.send("x:1", N01, forged(stranger("victim"), body=body))
    cluster.runtime.run_for(1)
    assert sent_by(cluster, N01, "victim:8401") == sent_by(cluster, N01, "x:1") == []


@pytest.mark.parametrize("state", [MemberState.SUSPECT, MemberState.FAILED, MemberState.LEFT])
@pytest.mark.parametrize("jump", [0, 1, 10**12])
def test_a_stranger_s_word_about_a_member_changes_nothing(state: MemberState, jump: int) -> None:
    cluster = started(3)
    before = cluster.status("n01")
    n02 = held(cluster, "n02", "n02")
    lie = replace(n02, state=state, incarnation=n02.incarnation + jump)
    cluster.send("x:1", N01, forged(stranger(), lie))
    cluster.send(N02, N01, forged(lie, body=Ping(NodeId("n01"))))  # in its own name
    cluster.send("n03:8401", N01, forged(held(cluster, "n03", "n03"), lie))  # in another member's
    cluster.runtime.run_for(5)
    assert cluster.status("n01") == before
    assert cluster.probes["n01"].received == []


def test_a_stranger_s_rejection_does_not_stop_a_node() -> None:
    cluster = GossipCluster()
    probe = cluster.start("n01", join=("n02",))
    cluster.send("x:1", N01, forged(stranger(), body=Reject("x:1")))
    cluster.runtime.run_for(10)
    assert probe.all(NameClashed) == []


def test_even_somebody_who_reads_what_it_is_sent_cannot_stop_a_node_by_a_rejection() -> None:
    cluster = started(3)
    liar = Speaker(cluster, stranger("liar"))
    liar.meet(N01)
    for holder_addr in ("liar:8401", "nobody:1", N02):
        liar.say(N01, Reject(holder_addr))
        cluster.runtime.run_for(3)
    assert cluster.probes["n01"].all(NameClashed) == []


def test_cookies_are_of_one_address_and_one_run_of_a_node() -> None:
    cluster = started(2)
    one = Speaker(cluster, stranger("one"))
    one.meet(N01)
    # What was offered to one address proves nothing of another, nor of another member's.
    for other in (stranger("two"), replace(held(cluster, "n02", "n02"), state=MemberState.LEFT)):
        one.say(N01, Updates(), sender=other)
    cluster.runtime.run_for(2)
    assert cluster.seen("n01", MemberJoined) == ["one"]
    assert cluster.seen("n01", MemberLeft) == []
    # n01 starts again: nobody's cookies hold, and all is well again at once.
    cluster.kill("n01")
    cluster.start("n01", join=("n02",))
    cluster.runtime.run_for(2)
    assert cluster.alive("n01") == ["n01", "n02", "one"]
    assert cluster.seen("n02", MemberFailed) == []


# ---------------------------------------------------------------- updates, from members


def test_a_member_that_was_only_heard_of_is_asked_and_announced_when_it_answers_itself() -> None:
    cluster = started(2)
    teller, there = Speaker(cluster, stranger("teller")), Speaker(cluster, stranger("there"))
    teller.meet(N01)
    teller.say(N01, Updates(), there.member, stranger("invented"))
    cluster.runtime.run_for(0.05)
    assert cluster.seen("n01", MemberJoined) == ["teller", "there"]
    cluster.runtime.run_for(30)
    assert cluster.seen("n01", MemberJoined) == ["teller", "there"]
    asked = [decode(sent.payload) for sent in sent_by(cluster, N01, "invented:8401")]
    assert len(asked) == ATTEMPTS
    spoken_of = {
        update.node_id
        for _, sent in cluster.trace
        if sent.source_addr == N01
        for update in decode(sent.payload).updates  # type: ignore[union-attr]
    }
    assert "there" in spoken_of
    assert "invented" not in spoken_of, "what is not verified is not passed on"


def test_updates_about_thirty_thousand_cost_a_bounded_number_of_datagrams_a_second_and_no_event() -> None:
    cluster = started(2)
    teller = Speaker(cluster, stranger("teller"))
    teller.meet(N01)
    cluster.probes["n01"].take()
    cluster.trace.clear()
    for number in range(3_000):
        teller.say(N01, Updates(), *[stranger(f"invented-{number}-{at}") for at in range(10)])
        cluster.runtime.run_for(0.01)
    assert cluster.probes["n01"].received == []
    assert [m.node_id for m in cluster.status("n01").members] == ["n01", "n02", "teller"]
    asked = [sent for sent in sent_by(cluster, N01) if sent.to_addr.startswith("invented")]
    rounds = 30 / cluster.gossip.probe_timeout_s + 1
    assert 0 < len(asked) <= PINGS_A_ROUND * rounds
    # Somebody who is there joins in the middle of it as fast as ever: it speaks for itself.
    cluster.start("n03", join=("n01",))
    cluster.runtime.run_for(1)
    assert "n03" in cluster.seen("n01", MemberJoined)
    cluster.runtime.run_for(5)
    cluster.trace.clear()
    cluster.runtime.run_for(5)
    assert not [sent for sent in sent_by(cluster, N01) if sent.to_addr.startswith("invented")], "it ends"


def test_where_a_member_is_to_be_found_is_believed_from_itself_only() -> None:
    cluster = started(3)
    n02 = held(cluster, "n02", "n02")
    liar = Speaker(cluster, stranger("liar"))
    liar.meet(N01)
    elsewhere = replace(n02, rpc_addr="liar:8400", incarnation=n02.incarnation + 5)
    liar.say(N01, Updates(), elsewhere, replace(elsewhere, gossip_addr="liar:8401"))
    cluster.runtime.run_for(10)
    assert cluster.probes["n01"].all(MemberUpdated) == []
    assert held(cluster, "n01", "n02").rpc_addr == "n02:8400"


@pytest.mark.parametrize("state", [MemberState.FAILED, MemberState.LEFT])
def test_a_member_that_is_said_to_be_gone_is_asked_first_and_if_it_is_gone_believed_so_within_a_second(
    state: MemberState,
) -> None:
    cluster = started(3)
    teller = Speaker(cluster, stranger("teller"))
    teller.meet(N01)
    news = replace(held(cluster, "n01", "n02"), state=state)
    teller.say(N01, Updates(), news)
    cluster.runtime.run_for(5)
    assert cluster.seen("n01", MemberFailed) == cluster.seen("n01", MemberLeft) == []
    news = replace(held(cluster, "n01", "n02"), state=state)
    cluster.kill("n02")
    teller.say(N01, Updates(), news)
    cluster.runtime.run_for(1)
    kind = MemberFailed if state is MemberState.FAILED else MemberLeft
    assert cluster.seen("n01", kind) == ["n02"]


def test_who_spreads_the_highest_incarnation_there_is_does_not_take_a_node_out_of_the_cluster_for_good() -> None:
    cluster = GossipCluster()
    cluster.start("n01", clock_ahead_s=-3600)  # its clock is behind: its bound is lower
    cluster.start("n02", join=("n01",))
    cluster.run_until_all_see(["n01", "n02"], 2)
    liar = Speaker(cluster, stranger("liar"))
    liar.meet(N02)
    year_ms = 365 * 24 * 3600 * 1000
    for years in (71, 70, 69.5, 69, 68):
        now_ms = EPOCH_MS + int(cluster.runtime.now_s * 1000)
        n02 = held(cluster, "n02", "n02")
        for off_ms in (0, 10):
            edge = now_ms + int(years * year_ms) + off_ms
            liar.say(N02, Updates(), replace(n02, state=MemberState.FAILED, incarnation=edge))
        cluster.runtime.run_for(20)
        assert "n02" in cluster.alive("n01"), f"after {years} years"
        assert cluster.seen("n01", MemberFailed) == []


# ---------------------------------------------------------------- members that are real, and too many


def test_more_real_members_than_the_table_holds_are_not_announced_and_said_once() -> None:
    cluster = GossipCluster()
    probe = cluster.start("n01")
    for number in range(MAX_MEMBERS + 20):
        Speaker(cluster, stranger(f"real-{number}")).meet(N01)
    assert len(cluster.status("n01").members) == MAX_MEMBERS + 1
    assert len(probe.all(MemberJoined)) == MAX_MEMBERS
    assert [warning.kind for warning in probe.all(NodeWarned)] == [WarningKind.TOO_MANY_MEMBERS]


def test_one_address_is_one_member_however_many_names_are_used_there() -> None:
    cluster = started(2)
    speaker = Speaker(cluster, stranger("one"))
    speaker.meet(N01)
    for number in range(50):
        speaker.say(N01, Updates(), sender=replace(speaker.member, node_id=NodeId(f"name-{number}")))
    cluster.runtime.run_for(1)
    assert cluster.seen("n01", MemberJoined) == ["one"]
    # When the first name is gone, a node there may have another.
    speaker.say(N01, Updates(), sender=replace(speaker.member, state=MemberState.LEFT))
    speaker.say(N01, Updates(), sender=replace(speaker.member, node_id=NodeId("renamed")))
    cluster.runtime.run_for(0.1)
    assert cluster.seen("n01", MemberJoined) == ["one", "renamed"]


def test_news_of_more_members_than_it_holds_pushes_out_what_was_told_most() -> None:
    queue = UpdateQueue()
    queue.push(stranger("told"))
    assert queue.take(10_000, limit=9)
    for number in range(MAX_QUEUED_UPDATES):
        queue.push(stranger(f"new-{number}"))
    assert len(queue) == MAX_QUEUED_UPDATES
    assert stranger("told") not in queue.take(1_000_000, limit=9)


# ---------------------------------------------------------------- joining stays fast


@pytest.mark.parametrize(("count", "bound_s"), [(3, 0.5), (9, 1.0), (32, 2.0)])
def test_nodes_that_start_together_as_each_other_s_seeds_know_each_other_within(count: int, bound_s: float) -> None:
    cluster = GossipCluster()
    names = [f"n{number:02}" for number in range(1, count + 1)]
    for name in names:
        cluster.start(name, join=tuple(other for other in names if other != name)[:4])
    cluster.run_until_all_see(names, bound_s)


@pytest.mark.parametrize(("count", "bound_s"), [(3, 0.1), (9, 0.5)])
def test_a_node_that_joins_is_known_to_all_within(count: int, bound_s: float) -> None:
    cluster = started(count)
    cluster.start("n99", join=("n01",))
    cluster.run_until_all_see([*sorted(cluster.nodes)], bound_s)


# ---------------------------------------------------------------- any hostile datagrams


_addrs = st.sampled_from(["n01:8401", "n02:8401", "n03:8401", "liar:8401", "other:8401", "nobody:8401"])
_names = st.sampled_from(["n01", "n02", "n03", "liar", "other", "n98", "n99"]).map(NodeId)
_slander = st.builds(
    lambda name, state, incarnation: Member(NodeId(name), f"{name}:8400", f"{name}:8401", state, incarnation),
    st.sampled_from(["n01", "n02", "n03"]),
    st.sampled_from([MemberState.SUSPECT, MemberState.FAILED, MemberState.LEFT]),
    st.integers(EPOCH_MS, EPOCH_MS + 20_000),
)
_members = _slander | st.builds(
    lambda name, place, rpc, state, incarnation: Member(name, rpc, place, state, incarnation),
    _names,
    _addrs,
    st.sampled_from(["n02:8400", "liar:8400"]),
    st.sampled_from(MemberState),
    st.one_of(
        st.integers(EPOCH_MS - 2, EPOCH_MS + 20_000), st.integers(0, 2**63 - 1), st.just(EPOCH_MS + 69 * 31_536_000_000)
    ),
)
_sequences = st.integers(0, 2**32 - 1)
_bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Ping, _names),
    st.builds(Ack, _sequences),
    st.builds(Challenge, _sequences),
    st.builds(PingRequest, _names, _addrs),
    st.just(Updates()),
    st.just(Join()),
    st.builds(Exchange, st.booleans(), _sequences),
    st.builds(Reject, _addrs),
)
_blind = st.tuples(
    _addrs,
    st.sampled_from(["n01:8401", "n02:8401", "n03:8401"]),
    st.builds(
        Datagram,
        st.just("ourolog"),
        _members,
        _sequences,
        _bodies,
        st.lists(_members, max_size=6).map(tuple),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**64 - 1),
    ),
)


# Not shrunk: that would take longer than the test may.
@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(_blind, max_size=30), st.integers(0, 20))
def test_no_datagram_without_a_cookie_is_an_event_or_remembered_or_answered_by_more_than_a_challenge(
    plays: Sequence[tuple[str, str, Datagram]], seed: int
) -> None:
    cluster = started(3, seed=seed)
    before = [cluster.status(name).members for name in cluster.nodes]
    for source, to, datagram in plays:
        cluster.send(source, to, encode(datagram))
    cluster.runtime.run_for(0.02)
    cluster.runtime.run_for(10)
    assert [cluster.status(name).members for name in cluster.nodes] == before
    for probe in cluster.probes.values():
        assert [event for event in probe.received if not isinstance(event, NodeWarned)] == []
    nodes = {f"{name}:8401" for name in cluster.nodes}
    strange = [sent for _, sent in cluster.trace if sent.source_addr in nodes and sent.to_addr not in nodes]
    assert len(strange) <= len(plays)


_told = st.tuples(
    st.sampled_from(["liar", "other"]),
    st.sampled_from(["n01:8401", "n02:8401", "n03:8401"]),
    _bodies,
    st.lists(_members, max_size=6),
    st.one_of(st.none(), _members),
    st.floats(0, 1),
)


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(_told, max_size=25), st.integers(0, 20), st.booleans())
def test_members_that_lie_neither_break_nor_stop_nor_remove_a_node_and_the_truth_comes_back(
    plays: Sequence[tuple[str, str, Body, list[Member], Member | None, float]], seed: int, answers: bool
) -> None:
    cluster = started(3, seed=seed)
    names = list(cluster.nodes)
    liars = {name: Speaker(cluster, stranger(name), answers=answers) for name in ("liar", "other")}
    for liar in liars.values():
        liar.meet("n01:8401", "n02:8401", "n03:8401")
    for who, to, body, updates, posing_as, wait_s in plays:
        liar = liars[who]
        sender = None if posing_as is None else replace(posing_as, gossip_addr=liar.member.gossip_addr)
        liar.say(to, body, *updates, sender=sender)
        cluster.runtime.run_for(wait_s)
    cluster.runtime.run_for(30)
    for viewer in names:
        assert [name for name in cluster.alive(viewer) if name in names] == names
        for event in (NameClashed, MemberFailed, MemberLeft, MemberUpdated):
            assert [e for e in cluster.probes[viewer].all(event) if getattr(e, "member", N01) in names] == []
        status = cluster.status(viewer)
        assert len(status.members) <= len(names) + 2 + len(plays)


def test_the_figures_that_docs_name() -> None:
    assert (MAX_MEMBERS, MAX_UNCONFIRMED, PINGS_A_ROUND, ATTEMPTS, MAX_COOKIES, MAX_QUEUED_UPDATES) == (
        128,
        128,
        32,
        3,
        512,
        256,
    )
    assert MemberTable(stranger())._capacity == MAX_MEMBERS


def test_a_leave_announced_to_a_node_that_has_just_started_again_is_announced_once_more_and_heard() -> None:
    cluster = started(2)
    cluster.kill("n01")
    cluster.start("n01", join=("n02",))
    cluster.runtime.run_until(lambda: "n02" in cluster.seen("n01", MemberJoined), timeout_s=1)
    answers = Probe()
    cluster.nodes["n02"].tell(LeaveCluster(1, answers))
    cluster.runtime.run_until(lambda: bool(answers.received), timeout_s=0.2)
    assert cluster.seen("n01", MemberLeft) == ["n02"]


def test_a_node_that_leaves_before_a_seed_s_table_has_come_announces_it_all_the_same() -> None:
    cluster = GossipCluster()
    cluster.start("n01")
    cluster.start("n02", join=("n01",))
    cluster.runtime.run_until(lambda: "n02" in cluster.seen("n01", MemberJoined), timeout_s=1)
    cluster.drops = lambda sent: sent.to_addr == "n02:8401"
    answers = Probe()
    cluster.nodes["n02"].tell(LeaveCluster(1, answers))
    cluster.runtime.run_until(lambda: bool(answers.received), timeout_s=2)
    cluster.kill("n02")
    cluster.runtime.run_for(10)
    assert cluster.seen("n01", MemberLeft) == ["n02"]
    assert cluster.seen("n01", MemberFailed) == []
