"""The founding of a cluster: who promises what, when it is founded, and what a person is told meanwhile."""

from __future__ import annotations

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft.founding import MAX_CANDIDATES, why_not_ours
from ourolog.actors.messages.observer import WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallRefused, FoundRequest, FoundResponse
from ourolog.actors.messages.store import FoundingSaved
from ourolog.actors.messages.values import Member
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import Voter
from ourolog.storage.founding import Founding
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.founding_cluster import Disk, FoundingCluster, TalkingNode, config_of, moved, opened_with

THREE = "n1,n2,n3"
N1, N2, N3 = (NodeId(f"n{number}") for number in (1, 2, 3))


def cluster_of(*configs: NodeConfig) -> FoundingCluster:
    cluster = FoundingCluster()
    for config in configs:
        cluster.start(config)
    return cluster


def named(names: str = THREE, only: str = "") -> list[NodeConfig]:
    return [config_of(name, names=names) for name in (only or names).split(",")]


def expecting(count: int, *names: str) -> list[NodeConfig]:
    return [config_of(name, expect=count) for name in names]


def asked(node: TalkingNode, request: FoundRequest) -> FoundResponse | CallRefused:
    """What the node answers, once."""
    caller = Probe()
    node.talks.on_asked(CallReceived(9, request, caller))
    (answer,) = caller.all(CallAnswer)
    response = answer.response
    assert isinstance(response, FoundResponse | CallRefused)
    return response


def question(name: str = "n1", epoch: int = 1, names: str = THREE, founding: Founding | None = None) -> FoundRequest:
    return FoundRequest("ourolog", NodeId(name), epoch, tuple(NodeId(at) for at in names.split(",") if at), founding)


def voter(name: str, epoch: int) -> Voter:
    config = config_of(name)
    return Voter(config.node_id, epoch, config.rpc_addr, config.gossip_addr)


def promise_of(cluster: FoundingCluster, names: str = THREE, cluster_id: int = 77) -> Founding:
    return Founding(cluster_id, tuple(voter(name, cluster.disks[name].log_epoch) for name in names.split(",")))


# ---------------------------------------------------------------- a directory that is not fresh


@pytest.mark.parametrize(("ballot", "entries"), [(Ballot(Term(3)), 0), (Ballot(), 5), (Ballot(Term(3)), 5)])
def test_a_directory_with_a_term_or_records_and_without_a_promise_is_refused_with_a_sentence(
    ballot: Ballot, entries: int
) -> None:
    why = why_not_ours(N1, opened_with(4, None, ballot, Position(Index(entries), Offset(entries))))
    assert why is not None
    assert f"holds {entries} records and term {ballot.term}" in why
    assert "start n1 on an empty --data-dir" in why


def test_a_promise_that_was_copied_from_another_directory_is_refused_with_a_sentence() -> None:
    why = why_not_ours(N1, opened_with(4, Founding(7, (voter("n1", 5), voter("n2", 6)))))
    assert why is not None
    assert "it names n1 and n2, and not this disk of n1" in why


def test_a_fresh_directory_and_one_of_a_cluster_are_not_refused() -> None:
    begun = Ballot(Term(3))
    for founding in (Founding(7), Founding(7, (voter("n1", 4),))):
        assert why_not_ours(N1, opened_with(4, founding, begun)) is None
        assert why_not_ours(N1, opened_with(4, founding)) is None
    assert why_not_ours(N1, opened_with(4)) is None


@pytest.mark.parametrize("flags", [{"names": "n1,n8"}, {"expect": 5}, {"join": True}, {}])
def test_flags_are_ignored_where_a_promise_and_a_term_are_on_disk(flags: dict[str, object]) -> None:
    cluster = FoundingCluster()
    promise = Founding(7, (voter("n1", 4), voter("n2", 5), voter("n3", 6)))
    cluster.disks["n1"] = Disk(4, promise, Ballot(Term(1)))
    node = cluster.start(config_of("n1", **flags))  # type: ignore[arg-type]
    assert node.founded == [promise]
    cluster.settle()
    assert (cluster.calls, node.standbys, node.progress, node.warnings) == ([], 0, [], [])


def test_a_node_that_joined_a_cluster_stands_by_whatever_its_flags_say() -> None:
    cluster = FoundingCluster()
    cluster.disks["n1"] = Disk(4, Founding(7))
    node = cluster.start(config_of("n1", names=THREE))
    assert (node.standbys, node.founded) == (1, [])


# ---------------------------------------------------------------- alone


@pytest.mark.parametrize("flags", [{}, {"names": "n1"}, {"expect": 1}])
def test_a_node_that_is_told_nothing_of_others_is_a_cluster_of_one_and_says_that_it_has_the_only_copy(
    flags: dict[str, object],
) -> None:
    cluster = cluster_of(config_of("n1", **flags))  # type: ignore[arg-type]
    node = cluster.nodes["n1"]
    assert node.founded == []
    cluster.settle()
    (founding,) = node.founded
    assert founding == node.disk.promise
    assert [found.node_id for found in founding.voters] == [N1]
    assert [warned.kind for warned in node.warnings] == [WarningKind.ONE_COPY]
    assert cluster.calls == []


def test_a_cluster_of_one_is_founded_after_its_promise_is_on_disk_and_not_before() -> None:
    cluster = FoundingCluster()
    node = cluster.start(config_of("n1"), opens=False)
    node.saves_to_disk = False
    node.open()
    cluster.settle()
    assert node.founded == []
    cluster.stop("n1")
    again = cluster.start(config_of("n1"))
    cluster.settle()
    assert again.founded == [again.disk.promise]


def test_a_cluster_of_one_that_starts_again_is_the_same_cluster_and_warns_again() -> None:
    cluster = cluster_of(config_of("n1"))
    cluster.settle()
    cluster.stop("n1")
    again = cluster.start(config_of("n1", expect=3))
    assert again.founded == [cluster.disks["n1"].promise]
    assert [warned.kind for warned in again.warnings] == [WarningKind.ONE_COPY]


def test_a_node_that_only_joins_stands_by_at_once_and_founds_nothing() -> None:
    cluster = cluster_of(config_of("n4", join=True))
    node = cluster.nodes["n4"]
    assert node.standbys == 1
    cluster.settle()
    assert (node.founded, node.disk.promise, cluster.calls) == ([], None, [])


def test_a_node_that_is_not_among_the_named_stands_by() -> None:
    assert cluster_of(config_of("n4", names=THREE)).nodes["n4"].standbys == 1


def test_who_stands_by_belongs_to_the_first_cluster_that_it_joins_and_to_no_other() -> None:
    cluster = cluster_of(config_of("n4", join=True))
    node = cluster.nodes["n4"]
    node.talks.join(Founding(11))
    node.talks.join(Founding(12))
    assert node.joined == []
    cluster.settle()
    node.talks.join(Founding(13))
    cluster.settle()
    assert node.joined == [Founding(11)]
    assert node.disk.promise == node.talks.promise == Founding(11)


# ---------------------------------------------------------------- three that are named


def test_three_that_are_named_found_one_cluster_with_their_disks() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    cluster.settle(0.3)
    (founding,) = cluster.foundings()
    for name, node in cluster.nodes.items():
        assert node.founded == [founding]
        assert node.disk.promise == founding
        assert voter(name, node.disk.log_epoch) in founding.voters
        assert node.warnings == []


def test_nobody_promises_before_all_have_agreed() -> None:
    cluster = cluster_of(*named(only="n1,n2"))
    cluster.introduce()
    cluster.settle()
    assert all(disk.promise is None for disk in cluster.disks.values())
    why = "waits for n3, which has not been discovered yet, to found the cluster: 2 of 3 have agreed"
    assert [node.why for node in cluster.nodes.values()] == [f"n1 {why}", f"n2 {why}"]


def test_nobody_but_the_lowest_name_promises_first() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n1"].saves_to_disk = False
    cluster.introduce()
    cluster.settle()
    assert all(disk.promise is None for disk in cluster.disks.values())
    assert cluster.nodes["n3"].why == "n3 waits for n1 to found the cluster: 3 of 3 have agreed"


def test_who_has_promised_waits_until_all_have() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n3"].saves_to_disk = False
    cluster.introduce()
    cluster.settle(0.9)
    assert cluster.foundings() == set()
    missing = "waits for n3, which has not promised yet (n3 is about to promise),"
    for name in ("n1", "n2"):
        assert cluster.nodes[name].why == f"{name} {missing} to found the cluster: 2 of 3 have promised"
    cluster.settle()
    assert cluster.foundings() == set()


@pytest.mark.parametrize("crashing", ["n1", "n2", "n3"])
@pytest.mark.parametrize("reaches_disk", [True, False])
def test_a_crash_while_the_promise_is_saved_delays_the_founding_and_changes_nothing_else(
    crashing: str, reaches_disk: bool
) -> None:
    cluster = cluster_of(*named())
    node = cluster.nodes[crashing]
    node.saves_to_disk, node.tells_saved = reaches_disk, False
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    assert (node.disk.promise is not None) is reaches_disk
    before = {disk.promise for disk in cluster.disks.values()} - {None}
    cluster.stop(crashing)
    cluster.settle()
    cluster.start(node.config)
    cluster.introduce()
    cluster.settle()
    founded = [running.founded for running in cluster.nodes.values()]
    (founding,) = cluster.foundings()
    assert founded == [[founding]] * 3
    assert before <= {founding}


def test_all_that_crash_after_their_promises_found_the_same_cluster_without_gossip() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    for node in cluster.nodes.values():
        node.tells_saved = False
    while any(disk.promise is None for disk in cluster.disks.values()) and cluster.runtime.now_s < 10:
        for name in [name for name, node in cluster.nodes.items() if node.disk.promise is not None]:
            if not cluster.nodes[name].tells_saved:
                cluster.stop(name)
                cluster.start(cluster.configs[name])
        cluster.settle(0.1)
    for name in list(cluster.nodes):
        cluster.stop(name)
    promises = {disk.promise for disk in cluster.disks.values()}
    for config in named():
        cluster.start(config)
    cluster.settle()
    assert cluster.foundings() == promises
    assert all(node.founded for node in cluster.nodes.values())


def test_who_finds_its_promise_after_a_restart_asks_the_others_before_it_counts() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    cluster.settle()
    cluster.stop("n2")
    cluster.stop("n3")
    again = cluster.start(config_of("n2", names=THREE))
    cluster.settle()
    assert again.founded == []
    assert "waits for n3, which could not be asked (connection refused)," in again.why
    cluster.start(config_of("n3", names=THREE))
    cluster.settle()
    assert again.founded == [again.disk.promise]


def test_a_founder_is_found_at_its_new_address() -> None:
    cluster = cluster_of(*named(only="n1,n2"))
    cluster.introduce()
    n3 = cluster.start(moved(config_of("n3", names=THREE), 8888))
    cluster.nodes["n1"].talks.met(Member(N3, "127.0.0.1:9003", config_of("n3").gossip_addr))
    cluster.settle()
    assert cluster.foundings() == set()
    cluster.introduce()
    cluster.settle()
    assert n3.founded == [n3.disk.promise]


def test_a_call_of_an_election_of_this_cluster_proves_that_all_have_promised() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n3"].tells_saved = False
    cluster.introduce()
    cluster.settle()
    n1 = cluster.nodes["n1"]
    promise = n1.disk.promise
    assert promise is not None
    n1.talks.proved(promise.cluster_id + 1)
    assert n1.founded == []
    n1.talks.proved(promise.cluster_id)
    n1.talks.proved(promise.cluster_id)
    assert n1.founded == [promise]


def test_nothing_is_proved_to_who_has_promised_nothing() -> None:
    cluster = cluster_of(*named(only="n1"))
    cluster.nodes["n1"].talks.proved(0)
    assert cluster.nodes["n1"].founded == []


def test_who_knows_a_leader_asks_no_more_and_still_answers() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    cluster.settle()
    n1 = cluster.nodes["n1"]
    n1.talks.stop()
    before = len(cluster.calls)
    cluster.settle()
    assert len(cluster.calls) == before
    response = asked(n1, question("n2", founding=n1.disk.promise))
    assert isinstance(response, FoundResponse)
    assert (response.agrees, response.founding) == (True, n1.disk.promise)


# ---------------------------------------------------------------- flags that differ


def test_who_was_started_with_other_names_refuses_and_both_sides_say_the_difference() -> None:
    cluster = cluster_of(*named(only="n1,n3"), config_of("n2", names="n1,n2"))
    cluster.introduce()
    cluster.settle()
    assert all(disk.promise is None for disk in cluster.disks.values())
    difference = "n2 was started with --election raft:n1,n2, and n1 would found the cluster with n1, n2 and n3"
    assert difference in cluster.nodes["n1"].why
    assert "n1 was started with --election raft:n1,n2,n3" in cluster.nodes["n2"].why
    (warned,) = cluster.nodes["n1"].warnings
    assert (warned.kind, warned.about) == (WarningKind.FOUNDING_BLOCKED, N2)
    cluster.stop("n2")
    cluster.start(config_of("n2", names=THREE))
    cluster.introduce()
    cluster.settle()
    assert [len(node.founded) for node in cluster.nodes.values()] == [1, 1, 1]


def test_the_order_of_the_names_makes_no_difference() -> None:
    cluster = cluster_of(
        config_of("n1", names="n3,n1,n2"), config_of("n2", names="n2,n1,n3"), config_of("n3", names=THREE)
    )
    cluster.introduce()
    cluster.settle()
    assert len(cluster.foundings()) == 1


def test_who_was_started_with_another_number_refuses_and_both_sides_say_the_difference() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n3"), *expecting(2, "n2"))
    cluster.introduce()
    cluster.settle()
    assert all(disk.promise is None for disk in cluster.disks.values())
    difference = "n2 was started with --bootstrap-expect 2, and n1 would found the cluster with n1, n2 and n3"
    assert difference in cluster.nodes["n1"].why
    assert "waits for n1 and n2" in cluster.nodes["n2"].why or "refuses" in cluster.nodes["n2"].why


def test_who_is_promised_with_names_that_its_flags_do_not_say_makes_no_promise_and_says_so() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n3"].saves_to_disk = False
    cluster.introduce()
    cluster.settle()
    cluster.stop("n3")
    n3 = cluster.start(config_of("n3", names="n2,n3"))
    cluster.introduce()
    cluster.settle()
    assert n3.disk.promise is None
    assert "n1, n2 and n3, and n3 was started with --election raft:n2,n3" in n3.why
    assert [warned.kind for warned in n3.warnings] == [WarningKind.FOUNDING_BLOCKED]


@pytest.mark.parametrize("phase", ["asking", "promised", "founded", "standing by"])
def test_a_node_of_another_cluster_is_refused_loudly(phase: str) -> None:
    cluster = cluster_of(*named(), config_of("n4", join=True))
    if phase == "promised":
        cluster.nodes["n3"].saves_to_disk = False
    if phase != "asking":
        cluster.introduce()
        cluster.settle()
    node = cluster.nodes["n4" if phase == "standing by" else "n1"]
    request = FoundRequest("another", N2, 5, (), None)
    assert asked(node, request) == CallRefused(f"{node.config.node_id} is of cluster 'ourolog', n2 of 'another'")


def test_another_node_of_the_same_name_is_refused() -> None:
    node = cluster_of(*named()).nodes["n1"]
    assert asked(node, question("n1", 5)) == CallRefused("two nodes are called n1")


# ---------------------------------------------------------------- found by gossip


def test_as_many_as_are_expected_found_one_cluster() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n2", "n3"))
    assert cluster.nodes["n2"].why == "n2 waits for 2 more to found the cluster: 1 of 3 are here, n2"
    cluster.introduce()
    cluster.settle(0.6)
    assert len(cluster.foundings()) == 1
    assert all(node.founded for node in cluster.nodes.values())
    said = [why for node in cluster.nodes.values() for why in node.progress]
    assert any("which has not agreed yet" in why for why in said)
    assert not [why for why in said if ", ," in why]


def test_two_of_three_expected_wait_for_the_third() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n2"))
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    assert cluster.nodes["n2"].why == "n2 waits for 1 more to found the cluster: 2 of 3 are here, n1 and n2"


def test_one_more_than_is_expected_stands_by() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n2", "n3", "n4"))
    cluster.introduce()
    cluster.settle()
    (founding,) = cluster.foundings()
    assert [found.node_id for found in founding.voters] == [N1, N2, N3]
    assert cluster.nodes["n4"].standbys == 1
    assert cluster.nodes["n4"].disk.promise is None


def test_of_five_that_found_a_cluster_of_three_replicas_two_stand_by_and_all_five_have_agreed() -> None:
    cluster = cluster_of(*expecting(5, "n1", "n2", "n3", "n4"))
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    cluster.start(config_of("n5", expect=5))
    cluster.introduce()
    cluster.settle()
    (founding,) = cluster.foundings()
    assert [found.node_id for found in founding.voters] == [N1, N2, N3]
    assert [cluster.nodes[name].standbys for name in ("n1", "n2", "n3", "n4", "n5")] == [0, 0, 0, 1, 1]
    assert [cluster.disks[name].promise for name in ("n4", "n5")] == [None, None]


def test_all_that_are_named_vote_however_many_replicas_there_should_be() -> None:
    names = ("n1", "n2", "n3", "n4", "n5")
    cluster = cluster_of(*(config_of(name, names=",".join(names)) for name in names))
    cluster.introduce()
    cluster.settle()
    (founding,) = cluster.foundings()
    assert len(founding.voters) == 5


def test_who_was_started_with_other_replicas_makes_no_promise_and_says_so() -> None:
    cluster = cluster_of(config_of("n1", expect=5), config_of("n2", expect=5, replicas=5))
    for name in ("n3", "n4", "n5"):
        cluster.start(config_of(name, expect=5))
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    warned = [said.reason for said in cluster.nodes["n2"].warnings]
    assert any("n1, n2 and n3, and n2 was started with --bootstrap-expect 5" in why for why in warned), warned


def test_a_lower_name_that_comes_later_stands_by() -> None:
    cluster = cluster_of(*expecting(3, "n2", "n3", "n4"))
    cluster.introduce()
    cluster.settle()
    late = cluster.start(config_of("n1", expect=3))
    cluster.introduce()
    cluster.settle()
    assert (late.standbys, late.founded, late.disk.promise) == (1, [], None)
    assert len(cluster.foundings()) == 1


def test_who_only_joins_is_no_founder_for_those_that_expect_others() -> None:
    cluster = cluster_of(*expecting(3, "n2", "n3"), config_of("n1", join=True))
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    assert "n1 was started to join a cluster (--join) and founds none" in cluster.nodes["n2"].why


def test_names_and_a_number_that_mean_the_same_found_one_cluster() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n2"), config_of("n3", names=THREE))
    cluster.introduce()
    cluster.settle()
    assert len(cluster.foundings()) == 1


def test_no_more_candidates_are_asked_than_the_bound_however_many_names_gossip_brings() -> None:
    node = cluster_of(*expecting(31, "n1")).nodes["n1"]
    for number in range(1000):
        node.talks.met(Member(NodeId(f"x{number:04}"), f"127.0.0.1:{10000 + number}", "127.0.0.1:1"))
    assert len(node.talks._others) == MAX_CANDIDATES
    node.cluster.calls.clear()
    node.cluster.settle(1.1)
    assert len(node.cluster.calls) <= 3 * MAX_CANDIDATES


# ---------------------------------------------------------------- strangers, and promises that do not fit


def test_the_questions_of_strangers_change_nothing_and_cost_nothing() -> None:
    cluster = cluster_of(*expecting(3, "n1", "n2"))
    cluster.introduce()
    cluster.settle()
    n1 = cluster.nodes["n1"]
    cluster.calls.clear()
    lure = Founding(5, (voter("n1", n1.disk.log_epoch), voter("x1", 1), voter("x2", 2)))
    for number in range(1000):
        response = asked(n1, FoundRequest("ourolog", NodeId(f"x{number}"), 1, (N1, NodeId("x1"), NodeId("x2")), lure))
        assert isinstance(response, FoundResponse)
        assert (response.agrees, response.founding) == (False, None)
    assert cluster.calls == []
    assert n1.disk.promise is None


def test_a_promise_that_a_question_claims_is_made_only_when_its_founder_answers_with_it() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    n3 = cluster.nodes["n3"]
    forged = promise_of(cluster)
    before = len(cluster.calls)
    for _ in range(100):
        response = asked(n3, question("n1", cluster.disks["n1"].log_epoch, founding=forged))
        assert isinstance(response, FoundResponse)
        assert (response.agrees, response.founding) == (False, None)
    assert len(cluster.calls) - before <= 8
    cluster.settle()
    (founding,) = cluster.foundings()
    assert founding != forged


def test_an_answer_that_describes_no_possible_voter_is_no_answer() -> None:
    cluster = FoundingCluster()
    n1 = cluster.start(config_of("n1", names="n1,n2"))
    cluster.disks["n2"] = Disk(0)
    cluster.start(config_of("n2", names="n1,n2"))
    cluster.introduce()
    cluster.settle()
    assert n1.disk.promise is None
    assert "its answer means nothing: 0 is no epoch of a log" in n1.why


def test_another_node_at_the_address_of_a_founder_is_no_founder() -> None:
    cluster = cluster_of(*named(only="n1,n2"), config_of("n4", join=True))
    cluster.introduce("n1", "n2")
    n4 = cluster.nodes.pop("n4")
    cluster.nodes["n3"] = n4
    cluster.nodes["n1"].talks.met(Member(N3, "127.0.0.1:9004", n4.config.gossip_addr))
    promise = promise_of(cluster, "n1,n2,n4")
    n4.disk.promise = n4.talks.promise = promise
    cluster.settle()
    assert "n4 answers at its address" in cluster.nodes["n1"].why


def test_the_store_s_word_counts_where_it_had_promised_something_else() -> None:
    cluster = cluster_of(*named())
    n1 = cluster.nodes["n1"]
    earlier = promise_of(cluster, cluster_id=5)
    n1.saves_to_disk = False
    cluster.introduce()
    cluster.settle()
    n1.talks.on_saved(FoundingSaved(n1.talks._saving or 0, earlier))
    n1.disk.promise = earlier
    cluster.settle()
    assert cluster.foundings() == {earlier}


# ---------------------------------------------------------------- lost disks


def test_a_disk_that_is_lost_between_promise_and_founding_is_said_on_all_sides_and_nothing_is_founded() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n3"].tells_saved = False
    cluster.introduce()
    cluster.settle(0.2)
    assert cluster.disks["n3"].promise is not None
    cluster.nodes["n1"].founded.clear()
    for name in ("n1", "n2", "n3"):
        cluster.stop(name)
    cluster.wipe("n3")
    for config in named():
        cluster.start(config)
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    for name in ("n1", "n2"):
        node = cluster.nodes[name]
        assert "n3 has another disk than the one with which n1, n2 and n3 were to found the cluster" in node.why
        assert "empty all their data directories, and start them again" in node.why
        assert [warned.kind for warned in node.warnings] == [WarningKind.FOUNDING_BLOCKED]
    wiped = cluster.nodes["n3"]
    assert "with another disk of n3 than this one" in wiped.why
    assert [warned.kind for warned in wiped.warnings] == [WarningKind.FOUNDING_BLOCKED]
    assert (wiped.standbys, wiped.disk.promise) == (1, None)


def test_a_proposer_whose_disk_is_lost_founds_no_second_cluster_with_who_promised() -> None:
    cluster = cluster_of(*named())
    cluster.nodes["n3"].saves_to_disk = False
    cluster.introduce()
    cluster.settle()
    first = cluster.disks["n2"].promise
    assert first is not None
    cluster.stop("n1")
    cluster.wipe("n1")
    cluster.start(config_of("n1", names=THREE))
    cluster.introduce()
    cluster.settle()
    assert cluster.foundings() == set()
    assert cluster.disks["n1"].promise is None


def test_when_all_directories_were_emptied_a_new_cluster_is_founded() -> None:
    cluster = cluster_of(*named())
    cluster.introduce()
    cluster.settle()
    (first,) = cluster.foundings()
    for name in ("n1", "n2", "n3"):
        cluster.stop(name)
        cluster.wipe(name)
    for config in named():
        cluster.start(config)
    cluster.introduce()
    cluster.settle()
    (second,) = cluster.foundings()
    assert second.cluster_id != first.cluster_id


def test_two_that_promised_different_clusters_say_so_and_neither_is_founded() -> None:
    cluster = FoundingCluster()
    for name in ("n1", "n2", "n3"):
        cluster.disks[name] = Disk(int(name[1:]))
    one, other = promise_of(cluster, cluster_id=5), promise_of(cluster, cluster_id=6)
    cluster.disks["n1"].promise, cluster.disks["n2"].promise = one, other
    for config in named():
        cluster.start(config)
    cluster.settle()
    assert cluster.foundings() == set()
    assert "n2 has promised to found another cluster than n1" in cluster.nodes["n1"].why


# ---------------------------------------------------------------- whatever happens


def _shake(
    cluster: FoundingCluster, names: list[str], steps: int, *, wipes: bool
) -> list[tuple[Founding, frozenset[str]]]:
    """Random faults; every founding that a node took for complete, with its voters whose disks still live."""
    completed: dict[Founding, None] = {}
    rng = cluster.rng
    for _ in range(steps):
        name = rng.choice(names)
        match rng.randrange(8):
            case 0 if name in cluster.nodes:
                cluster.stop(name)
            case 1 if name in cluster.nodes:
                node = cluster.nodes[name]
                node.saves_to_disk, node.tells_saved = rng.random() < 0.5, False
            case 2 if wipes and name not in cluster.nodes and rng.random() < 0.3:
                cluster.wipe(name)
            case 3:
                cluster.groups = [{other for other in names if rng.random() < 0.5}]
            case 4:
                cluster.groups = []
            case 5:
                cluster.lost = rng.choice((0.0, 0.1, 0.5))
            case _ if name not in cluster.nodes:
                cluster.start(cluster.configs[name])
        cluster.introduce()
        cluster.settle(rng.choice((0.01, 0.05, 0.6, 2.5)))
        for founding in cluster.foundings():
            completed[founding] = None
    return [(founding, _living(cluster, founding)) for founding in completed]


def _living(cluster: FoundingCluster, founding: Founding) -> frozenset[str]:
    disks = cluster.disks
    return frozenset(
        found.node_id
        for found in founding.voters
        if found.node_id in disks and disks[found.node_id].log_epoch == found.log_epoch
    )


def _start_kind(cluster: FoundingCluster, kind: str) -> list[str]:
    names = ["n1", "n2", "n3", *(["n4", "n5"] if kind.startswith("two") else [])]
    expected = 5 if kind == "two stand by" else 3
    for name in names:
        cluster.start(config_of(name, names=THREE) if kind == "names" else config_of(name, expect=expected))
    return names


def _end_faults(cluster: FoundingCluster, names: list[str]) -> None:
    cluster.groups, cluster.lost = [], 0.0
    for name in names:
        if name in cluster.nodes:
            cluster.stop(name)
        cluster.start(cluster.configs[name])
    cluster.introduce()
    cluster.settle(30)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", ["names", "expect", "two more", "two stand by"])
def test_no_two_foundings_are_completed_whatever_is_lost_cut_off_or_killed(kind: str, seed: int) -> None:
    cluster = FoundingCluster(seed)
    names = _start_kind(cluster, kind)
    completed = _shake(cluster, names, 60, wipes=True)
    for at, (founding, _) in enumerate(completed):
        for later, _ in completed[at + 1 :]:
            assert not set(founding.voters) & set(later.voters), "a disk is in two clusters"
    # A second one is founded by who cannot know of the first: all who could founded it and lost their disks.
    enough = 2 if kind == "two more" else 1
    assert sum(len(disks) >= enough for _, disks in completed) <= 1


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", ["names", "expect", "two more", "two stand by"])
def test_while_no_disk_is_lost_one_cluster_is_founded_as_soon_as_faults_end(kind: str, seed: int) -> None:
    cluster = FoundingCluster(seed)
    names = _start_kind(cluster, kind)
    completed = _shake(cluster, names, 60, wipes=False)
    _end_faults(cluster, names)
    (founding,) = cluster.foundings()
    assert {founded for founded, _ in completed} <= {founding}
    for name, node in cluster.nodes.items():
        is_founder = name in {found.node_id for found in founding.voters}
        assert (node.founded, node.standbys) == (([founding], 0) if is_founder else ([], 1))
