"""The Membership actor on the stepping runtime: whole clusters in virtual time."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ourolog.actors.config import GossipConfig
from ourolog.actors.gossip.codec import Challenge, Datagram, Exchange, Ping, Updates, decode
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft, MemberUpdated
from ourolog.actors.messages.membership import DatagramReceived, LeaveCluster, LeftCluster
from ourolog.actors.messages.observer import NameClashed, NodeWarned, WarningKind
from ourolog.actors.messages.values import MemberState
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.types import NodeId
from tests.gossip_cluster import GossipCluster, Sent, Speaker, forged, stranger


@pytest.mark.parametrize(("count", "bound_s"), [(2, 0.5), (5, 3.0), (20, 6.0)])
def test_nodes_that_share_a_seed_all_find_each_other(count: int, bound_s: float) -> None:
    cluster = GossipCluster()
    names = cluster.start_many(count)
    cluster.run_until_all_see(names, bound_s)
    for viewer in names:
        assert sorted(cluster.seen(viewer, MemberJoined)) == [name for name in names if name != viewer]


def test_a_node_may_start_long_before_its_seed() -> None:
    cluster = GossipCluster()
    cluster.start("n02", join=("n01",))
    cluster.runtime.run_for(60)
    cluster.start("n01")
    # The retries back off to 5 s, give or take a fifth.
    cluster.run_until_all_see(["n01", "n02"], 6.5)


def test_two_nodes_may_each_be_the_other_s_seed() -> None:
    cluster = GossipCluster()
    cluster.start("n01", join=("n01", "n02"))
    cluster.start("n02", join=("n01", "n02"))
    cluster.run_until_all_see(["n01", "n02"], 2)


def test_a_failure_is_known_everywhere_within_probes_suspicion_and_spread() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(5)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n03")
    survivors = [name for name in names if name != "n03"]
    # Someone pings it within one round of 4 x 0.5 s (two rounds if it was just pinged), 0.5 s a
    # probe, 2.5 s suspicion, and the news spreads in less than a second.
    cluster.runtime.run_for(2 * 4 * 0.5 + 0.5 + 2.5 + 1)
    for viewer in survivors:
        assert cluster.seen(viewer, MemberFailed) == ["n03"]
        assert cluster.alive(viewer) == survivors
        held = cluster.member(viewer, "n03")
        assert held is not None
        assert held.state is MemberState.FAILED


@pytest.mark.parametrize(("count", "seed"), [(2, 1), (5, 1), (10, 10)])
def test_with_a_fifth_of_the_datagrams_lost_nobody_is_taken_for_failed_in_three_minutes(count: int, seed: int) -> None:
    # Not a proof: suspicions do arise, and for these seeds each was refuted in time.
    cluster = GossipCluster(seed=seed, loss=0.2)
    names = cluster.start_many(count)
    cluster.runtime.run_for(180)
    assert {viewer: cluster.seen(viewer, MemberFailed) for viewer in names} == {viewer: [] for viewer in names}


def test_other_members_vouch_for_a_node_that_one_of_them_cannot_reach() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(4)
    cluster.run_until_all_see(names, 5)
    cluster.cut("n01", "n02")
    suspected = []
    for _ in range(600):
        cluster.runtime.run_for(0.1)
        suspected += [m for m in cluster.status("n01").members if m.state is not MemberState.ALIVE]
    assert suspected == []


def test_a_suspect_hears_of_it_by_way_of_those_that_are_asked_to_ping_it() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(5)
    cluster.run_until_all_see(names, 5)
    before = cluster.member("n01", "n02")
    assert before is not None
    cluster.split(["n01"], ["n02"])
    slanderer = Speaker(cluster, stranger())
    slanderer.meet("n01:8401")
    slanderer.say("n01:8401", Updates(), replace(before, state=MemberState.SUSPECT))
    # It tells others as often as it tells news, in vain.
    cluster.drops = lambda sent: sent.source_addr == "n01:8401"
    cluster.runtime.run_for(0.8)
    cluster.drops = None
    cluster.runtime.run_for(10)
    assert "n02" not in cluster.seen("n01", MemberFailed)
    after = cluster.member("n01", "n02")
    assert after is not None
    assert (after.state, after.incarnation) == (MemberState.ALIVE, before.incarnation + 1)


def test_without_anybody_to_vouch_a_one_way_link_does_make_a_suspect() -> None:
    # That the test above can fail.
    cluster = GossipCluster()
    cluster.start_many(2)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.cut("n01", "n02")
    cluster.runtime.run_for(10)
    assert cluster.seen("n01", MemberFailed) == ["n02"]


@pytest.mark.parametrize("state", [MemberState.SUSPECT, MemberState.FAILED, MemberState.LEFT])
def test_a_node_refutes_what_is_said_against_it(state: MemberState) -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    before = cluster.member("n02", "n02")
    assert before is not None
    slanderer = Speaker(cluster, stranger())
    slanderer.meet("n01:8401")
    slander = replace(before, state=state, incarnation=before.incarnation + 3)
    slanderer.say("n01:8401", Updates(), slander)
    cluster.runtime.run_for(2)
    for viewer in names:
        after = cluster.member(viewer, "n02")
        assert after is not None
        assert (after.state, after.incarnation) == (MemberState.ALIVE, before.incarnation + 4)
        for gone in (MemberFailed, MemberLeft):
            assert "n02" not in cluster.seen(viewer, gone), "it is asked before it is given up"


def test_a_suspect_is_told_of_the_suspicion_by_whoever_it_talks_to_after_the_news_is_spent() -> None:
    cluster = GossipCluster(gossip=GossipConfig(suspicion_s=30, full_exchange_interval_s=1e9))
    cluster.start_many(2)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.split(["n01"], ["n02"])
    cluster.runtime.run_for(10)
    assert cluster.alive("n01") == ["n01"]
    cluster.heal()
    cluster.run_until_all_see(["n01", "n02"], 2)


def test_a_leaver_is_known_to_have_left_not_to_have_failed() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(5)
    cluster.run_until_all_see(names, 5)
    answers = Probe()
    cluster.nodes["n02"].tell(LeaveCluster(7, answers))
    cluster.runtime.run_until(lambda: bool(answers.received), timeout_s=0.2)
    assert answers.received == [LeftCluster(7)]
    cluster.kill("n02")
    cluster.runtime.run_for(20)
    for viewer in ("n01", "n03", "n04", "n05"):
        assert cluster.seen(viewer, MemberLeft) == ["n02"]
        assert cluster.seen(viewer, MemberFailed) == []


def test_a_leave_is_announced_again_when_it_is_lost_and_ends_even_if_nobody_hears_it() -> None:
    cluster = GossipCluster()
    cluster.start_many(2)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.loss = 1.0
    answers = Probe()
    cluster.nodes["n02"].tell(LeaveCluster(1, answers))
    cluster.runtime.run_for(0.3)
    assert answers.received == []
    cluster.loss = 0.0
    cluster.runtime.run_until(lambda: bool(answers.received), timeout_s=0.3)
    assert cluster.seen("n01", MemberLeft) == ["n02"]

    cluster.start("n03", join=("n01",))
    cluster.run_until_all_see(["n01", "n03"], 5)
    cluster.loss = 1.0
    cluster.nodes["n03"].tell(LeaveCluster(2, answers))
    cluster.runtime.run_until(lambda: LeftCluster(2) in answers.received, timeout_s=1)


def test_a_node_alone_leaves_at_once() -> None:
    cluster = GossipCluster()
    cluster.start("n01")
    answers = Probe()
    cluster.nodes["n01"].tell(LeaveCluster(1, answers))
    cluster.nodes["n01"].tell(LeaveCluster(2, answers))
    cluster.runtime.run_until_idle()
    assert answers.received == [LeftCluster(1), LeftCluster(2)]


def test_a_restart_at_the_same_place_goes_unnoticed() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n02")
    cluster.start("n02", join=("n01",))
    cluster.runtime.run_for(20)
    cluster.run_until_all_see(names, 1)
    for viewer in ("n01", "n03"):
        assert cluster.seen(viewer, MemberJoined).count("n02") == 1
        assert cluster.seen(viewer, MemberFailed) == []


@pytest.mark.parametrize("place", ["n02", "moved"])
@pytest.mark.parametrize("noticed", [True, False])
def test_a_restart_behind_its_former_clock_is_alive_again_within_seconds(place: str, noticed: bool) -> None:
    cluster = GossipCluster()
    for name in ("n01", "n02", "n03"):
        cluster.start(name, join=("n01",), clock_ahead_s=3600)
    cluster.run_until_all_see(["n01", "n02", "n03"], 5)
    cluster.kill("n02")
    cluster.runtime.run_for(15 if noticed else 0.1)
    assert ("n02" in cluster.seen("n01", MemberFailed)) is noticed
    restarted = cluster.start("n02", join=("n01",), place=place)
    # Four unanswered calls at 0.25 s each at the seed, then at n03; n02 need not ask anybody.
    cluster.runtime.run_for(2.6)
    for viewer in ("n01", "n03"):
        now = cluster.member(viewer, "n02")
        assert now is not None
        assert (now.state, now.gossip_addr) == (MemberState.ALIVE, f"{place}:8401")
    assert restarted.all(NameClashed) == []


def test_a_restart_at_another_place_is_an_update_and_never_a_second_entry() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n02")
    cluster.start("n02", join=("n01",), place="moved")
    # Four unanswered calls at 0.25 s to its former place, at the seed and then at the others.
    cluster.runtime.run_for(3)
    for viewer in ("n01", "n03"):
        assert [e.member.gossip_addr for e in cluster.probes[viewer].all(MemberUpdated)] == ["moved:8401"]
        assert [m.node_id for m in cluster.status(viewer).members] == names
        assert cluster.seen(viewer, MemberFailed) == []
    assert cluster.probes["n02"].all(NameClashed) == []


def test_a_restart_at_another_place_after_the_failure_was_noticed_joins_again_at_once() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n02")
    cluster.runtime.run_for(10)
    assert cluster.seen("n01", MemberFailed) == ["n02"]
    cluster.start("n02", join=("n01",), place="moved")
    cluster.runtime.run_for(0.5)
    for viewer in ("n01", "n03"):
        last = cluster.probes[viewer].last(MemberJoined).member
        assert (last.node_id, last.gossip_addr) == ("n02", "moved:8401")
        assert [m.node_id for m in cluster.status(viewer).members] == names


@pytest.mark.parametrize("count", [4, 10])
def test_a_partition_into_halves_heals_to_full_membership(count: int) -> None:
    cluster = GossipCluster()
    names = cluster.start_many(count)
    cluster.run_until_all_see(names, 6)
    one, other = names[: count // 2], names[count // 2 :]
    cluster.split(one, other)
    cluster.runtime.run_for(60)
    for half, gone in ((one, other), (other, one)):
        for viewer in half:
            assert cluster.alive(viewer) == half
            assert sorted(cluster.seen(viewer, MemberFailed)) == gone
    for probe in cluster.probes.values():
        probe.take()
    cluster.heal()
    # Someone of a dozen tries someone who failed every 10 s, give or take a fifth.
    cluster.run_until_all_see(names, 15)
    cluster.runtime.run_for(30)
    for viewer in names:
        assert cluster.seen(viewer, MemberFailed) == [], "healing must not fail anybody anew"


def test_a_partition_heals_when_no_seed_is_left_to_ask() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(5)
    cluster.run_until_all_see(names, 6)
    cluster.kill("n01")
    rest = names[1:]
    cluster.split(["n02", "n03"], ["n04", "n05"])
    cluster.runtime.run_for(60)
    assert cluster.alive("n02") == ["n02", "n03"]
    cluster.heal()
    # Four nodes each try one of three that failed every 10 s, n01 among them.
    cluster.run_until_all_see(rest, 30)


def test_a_node_that_lost_everybody_finds_its_seed_again_even_if_all_have_forgotten_each_other() -> None:
    cluster = GossipCluster(gossip=GossipConfig(forget_after_s=20))
    cluster.start_many(2)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.split(["n01"], ["n02"])
    cluster.runtime.run_for(60)
    assert [m.node_id for m in cluster.status("n01").members] == ["n01"]
    assert [m.node_id for m in cluster.status("n02").members] == ["n02"]
    cluster.heal()
    cluster.run_until_all_see(["n01", "n02"], 7)


def test_two_clusters_that_grew_apart_unite_when_a_seed_of_one_is_in_the_other() -> None:
    cluster = GossipCluster()
    cluster.split(["n01", "n02"], ["n03", "n04"])
    cluster.start("n01")
    cluster.start("n02", join=("n01",))
    cluster.start("n03", join=("n04", "n01"))
    cluster.start("n04", join=("n03",))
    cluster.runtime.run_for(20)
    assert cluster.alive("n03") == ["n03", "n04"]
    cluster.heal()
    cluster.run_until_all_see(["n01", "n02", "n03", "n04"], 15)


def test_the_newcomer_of_two_with_one_name_is_refused_and_the_holder_not_disturbed() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    refused = cluster.start("n02@elsewhere", join=("n01", "n03"), place="elsewhere")
    cluster.runtime.run_until(lambda: bool(refused.all(NameClashed)), timeout_s=1)
    assert refused.all(NameClashed) == [NameClashed(NodeId("n02"), "n02:8401")]
    cluster.runtime.run_for(30)
    assert len(refused.all(NameClashed)) == 1
    for viewer in names:
        held = cluster.member(viewer, "n02")
        assert held is not None
        assert (held.state, held.gossip_addr) == (MemberState.ALIVE, "n02:8401")
        for disturbance in (MemberUpdated, MemberFailed, MemberLeft, NameClashed):
            assert cluster.probes[viewer].all(disturbance) == []


def test_the_newcomer_is_refused_even_if_its_clock_makes_it_look_older() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    refused = cluster.start("n02@elsewhere", join=("n01",), place="elsewhere", clock_ahead_s=-3600)
    cluster.runtime.run_for(5)
    assert refused.all(NameClashed) == [NameClashed(NodeId("n02"), "n02:8401")]
    assert [cluster.probes[viewer].all(NameClashed) for viewer in names] == [[], [], []]


def test_a_node_that_answers_under_its_former_address_too_does_not_clash_with_itself() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n02")
    restarted = cluster.start("n02", join=("n01",), place="alias")
    cluster.listen("n02", cluster.nodes["n02"])
    cluster.runtime.run_for(5)
    assert restarted.all(NameClashed) == []
    for viewer in ("n01", "n03"):
        held = cluster.member(viewer, "n02")
        assert held is not None
        assert (held.state, held.gossip_addr) == (MemberState.ALIVE, "alias:8401")


def test_the_holder_itself_refuses_a_newcomer_that_joins_by_it() -> None:
    cluster = GossipCluster()
    holder = cluster.start("n01")
    refused = cluster.start("n01@elsewhere", join=("n01",), place="elsewhere")
    cluster.runtime.run_for(1)
    assert refused.all(NameClashed) == [NameClashed(NodeId("n01"), "n01:8401")]
    assert holder.all(NameClashed) == []


def test_a_seed_that_lists_itself_under_another_name_keeps_its_own_against_a_newcomer() -> None:
    cluster = GossipCluster()
    holder = cluster.start("n01", join=("alias",), clock_ahead_s=3600)
    cluster.listen("alias", cluster.nodes["n01"])
    cluster.start("n02", join=("n01",))
    cluster.run_until_all_see(["n01", "n02"], 5)
    refused = cluster.start("n01@elsewhere", join=("n01", "n02"), place="elsewhere")
    cluster.runtime.run_for(20)
    assert refused.all(NameClashed) == [NameClashed(NodeId("n01"), "n01:8401")]
    assert holder.all(NameClashed) == []


def test_one_of_two_namesakes_that_start_together_as_each_other_s_seeds_stays() -> None:
    cluster = GossipCluster()
    one = cluster.start("n01", join=("elsewhere",))
    other = cluster.start("n01@elsewhere", join=("n01",), place="elsewhere")
    cluster.runtime.run_for(10)
    assert len(one.all(NameClashed)) + len(other.all(NameClashed)) == 1


def test_a_name_whose_holder_has_left_is_free_at_once() -> None:
    cluster = GossipCluster()
    cluster.start_many(3)
    cluster.run_until_all_see(["n01", "n02", "n03"], 5)
    cluster.nodes["n02"].tell(LeaveCluster(1, Probe()))
    cluster.runtime.run_for(1)
    newcomer = cluster.start("n02@elsewhere", join=("n01",), place="elsewhere")
    cluster.runtime.run_for(0.5)
    for viewer in ("n01", "n03"):
        held = cluster.member(viewer, "n02")
        assert held is not None
        assert (held.state, held.gossip_addr) == (MemberState.ALIVE, "elsewhere:8401")
    assert newcomer.all(NameClashed) == []


@pytest.mark.parametrize("seed", range(5))
def test_of_two_namesakes_born_in_a_partition_the_elder_stays_when_it_heals(seed: int) -> None:
    cluster = GossipCluster(seed=seed)
    names = cluster.start_many(4)
    cluster.run_until_all_see(names, 6)
    cluster.split(["n01", "n02"], ["n03", "n04", "elsewhere"])
    cluster.runtime.run_for(30)
    younger = cluster.start("n02@elsewhere", join=("n03",), place="elsewhere")
    cluster.runtime.run_for(30)
    held = cluster.member("n04", "n02")
    assert held is not None
    assert held.gossip_addr == "elsewhere:8401"
    cluster.heal()
    cluster.runtime.run_until(lambda: bool(younger.all(NameClashed)), timeout_s=30)
    cluster.kill("n02@elsewhere", place="elsewhere")
    cluster.runtime.run_for(30)
    for viewer in names:
        held = cluster.member(viewer, "n02")
        assert held is not None
        assert (held.state, held.gossip_addr) == (MemberState.ALIVE, "n02:8401")
        assert cluster.probes[viewer].all(NameClashed) == []
    for viewer in ("n01", "n02"):
        assert "n02" not in [e.member.node_id for e in cluster.probes[viewer].all(MemberUpdated)]


def test_an_elder_that_only_the_younger_s_friends_can_hear_gets_its_name_back() -> None:
    cluster = GossipCluster()
    cluster.start_many(2)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.split(["n01", "elsewhere"], ["n02"])
    cluster.runtime.run_for(30)
    younger = cluster.start("n02@elsewhere", join=("n01",), place="elsewhere")
    cluster.runtime.run_for(30)
    assert younger.all(NameClashed) == []
    cluster.heal()
    cluster.runtime.run_until(lambda: bool(younger.all(NameClashed)), timeout_s=15)
    cluster.kill("n02@elsewhere", place="elsewhere")
    cluster.runtime.run_for(20)
    held = cluster.member("n01", "n02")
    assert held is not None
    assert (held.state, held.gossip_addr) == (MemberState.ALIVE, "n02:8401")
    assert cluster.probes["n02"].all(NameClashed) == []


@pytest.mark.parametrize(("interval_s", "repaired"), [(10.0, True), (1e9, False)])
def test_a_full_exchange_makes_good_what_gossip_lost(interval_s: float, repaired: bool) -> None:
    def is_lost(sent: Sent) -> bool:
        """All that speaks of n04 to n02 and n03, but for whole tables and what they need."""
        datagram = decode(sent.payload)
        assert isinstance(datagram, Datagram)
        spoken_of = {member.node_id for member in (datagram.sender, *datagram.updates)}
        return (
            "n04" in spoken_of
            and sent.to_addr in ("n02:8401", "n03:8401")
            and not isinstance(datagram.body, Exchange | Challenge)
        )

    cluster = GossipCluster(gossip=GossipConfig(full_exchange_interval_s=interval_s))
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.drops = is_lost
    cluster.start("n04", join=("n01",))
    cluster.runtime.run_for(30)
    assert ("n04" in cluster.seen("n02", MemberJoined)) is repaired
    assert ("n04" in cluster.seen("n03", MemberJoined)) is repaired


def test_no_datagram_exceeds_its_size_with_a_hundred_members() -> None:
    cluster = GossipCluster()
    cluster.start("n00")
    for number in range(100):
        Speaker(cluster, stranger(f"member-with-a-long-name-{number:03}.example")).meet("n00:8401")
    cluster.start("n01", join=("n00",))
    cluster.runtime.run_for(1)
    assert len(cluster.status("n01").members) == 102
    sizes = [len(sent.payload) for _, sent in cluster.trace]
    assert max(sizes) <= 1200
    assert max(sizes) > 1100, "the datagrams are filled, or the bound was not tried"


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    def trace(seed: int) -> list[tuple[float, Sent]]:
        cluster = GossipCluster(seed=seed, loss=0.1)
        cluster.start_many(5)
        cluster.runtime.run_for(30)
        cluster.kill("n03")
        cluster.runtime.run_for(30)
        return cluster.trace

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_a_node_of_another_cluster_is_not_a_member_and_both_warn_once() -> None:
    cluster = GossipCluster()
    probe = cluster.start("n01")
    refused = cluster.start("n02", join=("n01",), cluster="another")
    cluster.runtime.run_for(20)
    assert cluster.alive("n01") == ["n01"]
    assert [(w.kind, w.reason) for w in probe.all(NodeWarned)] == [
        (
            WarningKind.GOSSIP_OF_OTHER_CLUSTER,
            "n02 at n02:8401 belongs to cluster 'another', this node to 'ourolog': what it sends is dropped",
        )
    ]
    assert [w.reason for w in refused.all(NodeWarned)] == [
        "n01 at n01:8401 belongs to cluster 'ourolog', this node to 'another': what it sends is dropped"
    ]
    assert cluster.status("n01").datagrams_dropped > 3


def test_another_gossip_version_is_dropped_and_warned_about_once() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(2)
    cluster.run_until_all_see(names, 5)
    for _ in range(3):
        cluster.send("n02:8401", "n01:8401", forged(stranger(), version=9))
        cluster.send("n77:8401", "n01:8401", forged(stranger(), version=9))
    cluster.runtime.run_for(1)
    assert cluster.alive("n01") == names
    warnings = cluster.probes["n01"].all(NodeWarned)
    assert {warning.kind for warning in warnings} == {WarningKind.GOSSIP_OF_OTHER_VERSION}
    assert sorted(warning.reason for warning in warnings) == [
        "a node at n77:8401 speaks gossip version 9, this node 2",
        "n02 at n02:8401 speaks gossip version 9, this node 2",
    ]


def test_a_flood_of_noise_is_counted_changes_nothing_and_fills_neither_memory_nor_log() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(2)
    cluster.run_until_all_see(names, 5)
    rng = Random(1)
    for number in range(1000):
        cluster.send(f"x{number % 500}:1", "n01:8401", rng.randbytes(rng.randrange(1500)))
    cluster.runtime.run_for(5)
    assert cluster.alive("n01") == names
    assert cluster.status("n01").datagrams_dropped == 1000
    warnings = cluster.probes["n01"].all(NodeWarned)
    assert {warning.kind for warning in warnings} == {WarningKind.GOSSIP_DAMAGED}
    warned = [warning.reason for warning in warnings]
    assert len(warned) == len(set(warned)) == 257
    assert "only counted" in warned[-1]


def test_an_incarnation_of_the_far_future_is_not_believed() -> None:
    cluster = GossipCluster()
    names = cluster.start_many(2)
    cluster.run_until_all_see(names, 5)
    before = cluster.member("n02", "n02")
    assert before is not None
    slanderer = Speaker(cluster, stranger())
    slanderer.meet("n01:8401")
    slanderer.say("n01:8401", Updates(), replace(before, state=MemberState.FAILED, incarnation=2**62))
    cluster.runtime.run_for(1)
    assert cluster.member("n01", "n02") == before


def test_a_failed_member_is_remembered_for_a_while_and_stale_news_does_not_revive_it() -> None:
    cluster = GossipCluster(gossip=GossipConfig(forget_after_s=60))
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    stale = cluster.member("n01", "n03")
    assert stale is not None
    cluster.kill("n03")
    cluster.runtime.run_for(15)
    teller = Speaker(cluster, stranger())
    teller.meet("n01:8401")
    teller.say("n01:8401", Updates(), stale)
    cluster.runtime.run_for(2)
    assert cluster.seen("n01", MemberJoined).count("n03") == 1
    held = cluster.member("n01", "n03")
    assert held is not None
    assert held.state is MemberState.FAILED
    cluster.runtime.run_for(70)
    assert cluster.member("n01", "n03") is None
    assert cluster.member("n02", "n03") is None


class PausableMembership(MembershipActor):
    """Can be held up as by SIGSTOP: "pause" and "resume". Then timers come before what the socket held."""

    held_up: list[Any] | None = None

    def on_receive(self, message: Any) -> None:
        if message == "pause":
            self.held_up = []
        elif message == "resume":
            held_up, self.held_up = self.held_up or [], None
            for late in sorted(held_up, key=lambda m: isinstance(m, DatagramReceived)):
                super().on_receive(late)
        elif self.held_up is not None:
            self.held_up.append(message)
        else:
            super().on_receive(message)


def test_an_answer_that_waits_behind_the_timers_of_a_held_up_node_makes_no_suspect() -> None:
    cluster = GossipCluster()
    for name in ("n01", "n02"):
        cluster.start(name, join=("n01",), body=PausableMembership)
    cluster.run_until_all_see(["n01", "n02"], 5)
    cluster.trace.clear()

    def has_pinged() -> bool:
        datagrams = [decode(sent.payload) for _, sent in cluster.trace if sent.source_addr == "n01:8401"]
        return any(isinstance(d, Datagram) and isinstance(d.body, Ping) for d in datagrams)

    cluster.runtime.run_until(has_pinged)
    cluster.nodes["n01"].tell("pause")
    cluster.runtime.run_for(1.5)
    cluster.trace.clear()
    cluster.nodes["n01"].tell("resume")
    cluster.runtime.run_for(2)
    said = [decode(sent.payload) for _, sent in cluster.trace if sent.source_addr == "n01:8401"]
    assert said
    assert not [u for d in said if isinstance(d, Datagram) for u in d.updates if u.state is MemberState.SUSPECT]


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_was_held_up_itself_does_not_blame_the_others(seed: int) -> None:
    cluster = GossipCluster(seed=seed)
    names = ["n01", "n02", "n03"]
    for name in names:
        cluster.start(name, join=("n01",), body=PausableMembership)
    cluster.run_until_all_see(names, 5)
    # Long enough for a suspicion begun before to run out meanwhile, too short for the others to give n01 up.
    cluster.cut("n02", "n01")
    cluster.cut("n03", "n01")
    cluster.runtime.run_until(
        lambda: any(m.state is MemberState.SUSPECT for m in cluster.status("n01").members), timeout_s=3
    )
    cluster.heal()
    cluster.nodes["n01"].tell("pause")
    cluster.runtime.run_for(4)
    cluster.nodes["n01"].tell("resume")
    cluster.runtime.run_for(10)
    assert cluster.seen("n01", MemberFailed) == []
    cluster.run_until_all_see(names, 1)


def test_the_dead_are_forgotten_although_members_that_met_later_compare_their_tables() -> None:
    cluster = GossipCluster(gossip=GossipConfig(forget_after_s=60))
    names = cluster.start_many(3)
    cluster.run_until_all_see(names, 5)
    cluster.kill("n03")
    cluster.runtime.run_for(40)
    cluster.start("n04", join=("n01",))
    cluster.runtime.run_for(200)
    for viewer in ("n01", "n02", "n04"):
        assert [m.node_id for m in cluster.status(viewer).members] == ["n01", "n02", "n04"]


def test_the_status_lists_this_node_among_the_members_sorted() -> None:
    cluster = GossipCluster()
    cluster.start("n02")
    cluster.start("n01", join=("n02",))
    cluster.run_until_all_see(["n01", "n02"], 5)
    assert [m.node_id for m in cluster.status("n02").members] == ["n01", "n02"]
    me = cluster.member("n02", "n02")
    assert me is not None
    assert (me.rpc_addr, me.gossip_addr, me.state) == ("n02:8400", "n02:8401", MemberState.ALIVE)


def test_a_node_that_cannot_be_gossiped_is_told_when_it_is_made() -> None:
    cluster = GossipCluster()
    with pytest.raises(ValueError, match="too few"):
        GossipCluster(gossip=GossipConfig(max_datagram_bytes=500)).start("n01")
    with pytest.raises(ValueError, match="64 bytes"):
        cluster.start("n01", cluster="c" * 65)
