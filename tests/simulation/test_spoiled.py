"""When a disk counts as spoiled and when as whole again, for each way there and back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from random import Random
from typing import Any, ClassVar

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.store import LogTruncated
from ourolog.simulation import Cluster, Options
from ourolog.simulation.budget import FaultBudget
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.acknowledged import is_on_disk
from ourolog.simulation.checkers.model import NodeModel
from ourolog.simulation.cluster import ProcessEnd
from ourolog.simulation.disks.rot import Rot
from ourolog.simulation.events import DiskRestored, FaultInjected
from ourolog.simulation.known_sets import KnownSets
from ourolog.simulation.nemesis import Nemesis
from ourolog.simulation.operator import Operator
from ourolog.simulation.plan import draw_plan
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, Kind, encode_batch
from ourolog.storage.control import Voter, VoterSet, VotersSet, encode_control
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import N1, N2, N3, SEGMENT, Scene, batch, config, sized

STATIC = "static:n1,n2,n3"


def entry(index: int, term: int = 1, value: str = "") -> Any:
    return batch(index, value or f"v{index}", term=Term(term))


def fault(scene: Scene, kind: str, node: str = "n2") -> None:
    scene.see(FaultInjected(scene.tick(), kind, node))


def restored(scene: Scene, kind: str, node: NodeId = N2) -> None:
    scene.see(DiskRestored(scene.tick(), node, kind))


def lie(scene: Scene, index: int, term: int = 1) -> None:
    """An append whose sync is said to be done, and is not."""
    scene.append("n2", entry(index, term), sync=False)
    fault(scene, "fsync_lies")
    on_disk = scene.synced.get(N2, {}).get(SEGMENT, 0)
    scene.sync("n2")
    scene.synced[N2][SEGMENT] = on_disk


def led(*, entries: int = 3, election: str = STATIC) -> tuple[Scene, NodeModel]:
    """Two nodes with the same log; faults happen to n2."""
    scene = Scene("restart_keeps")
    for name in ("n1", "n2"):
        scene.start(name, election)
        scene.append(name, *(entry(index) for index in range(entries)))
    return scene, scene.checker.model.node(N2)  # type: ignore[attr-defined]


def lose_disk(scene: Scene, kind: str = "disk_lost", left: int = 0) -> None:
    scene.crash("n2")
    fault(scene, kind)
    scene.files[N2] = {SEGMENT: scene.files[N2][SEGMENT][: sized(*(entry(index) for index in range(left)))]}
    scene.start("n2", STATIC)


def excused(scene: Scene, node: NodeModel, index: int, term: int = 1) -> bool:
    """Whether an entry of n1's may be counted as on n2's disk."""
    other = Scene("restart_keeps")
    other.start("n1", STATIC)
    other.append("n1", *(entry(number) for number in range(index)), entry(index, term))
    wanted = other.checker.model.node(N1).log.entry(index)  # type: ignore[attr-defined]
    assert wanted is not None
    return is_on_disk(node, wanted)


# ---------------------------------------------------------------- a lying disk


def test_a_disk_that_has_written_what_it_lied_about_is_as_good_as_another_at_once() -> None:
    scene, node = led()
    lie(scene, 3)
    assert node.spoiled == {"fsync_lies"}
    scene.synced[N2][SEGMENT] = len(scene.files[N2][SEGMENT])
    restored(scene, "fsync_lies")
    assert (node.spoiled, node.was_spoiled, node.lost) == (set(), False, None)
    # So that it is seen at once when it loses something.
    scene.crash("n2")
    scene.files[N2][SEGMENT] = scene.files[N2][SEGMENT][: sized(entry(0))]
    with pytest.raises(Violation, match="came back without it"):
        scene.start("n2", STATIC)


def test_what_a_lie_was_about_may_be_lost_with_the_power_and_counts_until_it_is_there_again() -> None:
    scene, node = led()
    lie(scene, 3)
    scene.crash("n2")
    assert node.was_spoiled
    scene.start("n2", STATIC)
    assert node.lost == (1, 4)
    assert excused(scene, node, 3)
    assert not excused(scene, node, 4)
    scene.append("n2", entry(3))
    assert (node.spoiled, node.lost) == (set(), None)


def test_a_disk_that_lies_still_when_the_process_is_started_again_is_spoiled_until_it_has_written() -> None:
    scene, node = led()
    lie(scene, 3)
    content, size = scene.files[N2][SEGMENT], scene.synced[N2][SEGMENT]
    scene.crash("n2", keep=True)
    # The node reads what the page cache has; its disk shows less.
    scene.files[N2][SEGMENT] = content[:size]
    scene.start("n2", STATIC)
    scene.files[N2][SEGMENT] = content
    scene.append("n2", entry(4), sync=False)
    assert (node.spoiled, node.is_blind) == ({"fsync_lies"}, True)
    assert excused(scene, node, 3)
    scene.sync("n2")
    restored(scene, "fsync_lies")
    assert (node.spoiled, node.is_blind, node.log.end.index, node.was_spoiled) == (set(), False, 5, False)
    scene.append("n2", entry(5))
    assert node.log.durable_index == 6


# ---------------------------------------------------------------- disks that were lost, and old ones


@pytest.mark.parametrize(("kind", "left"), [("disk_lost", 0), ("old_disk", 1)])
def test_another_disk_may_come_back_with_less_and_from_then_on_promises_anew(kind: str, left: int) -> None:
    scene, node = led()
    lose_disk(scene, kind, left)
    scene.append("n2", entry(left))
    assert (node.spoiled, node.lost) == (set(), (1, 3))
    assert [excused(scene, node, index) for index in range(left + 1, 4)] == [True] * (2 - left) + [False]
    scene.crash("n2")
    scene.files[N2][SEGMENT] = b""
    with pytest.raises(Violation, match="came back without it"):
        scene.start("n2", STATIC)


@pytest.mark.parametrize(
    ("copied", "whole"),
    [
        ([entry(0), entry(1)], False),
        ([entry(0), entry(1), entry(2)], True),
        ([entry(index, term=0) for index in range(9)], False),  # of who had led before: longer, and not the same
        ([entry(0), entry(1, term=2)], True),  # all that was acknowledged comes before what a later leader has
    ],
)
def test_a_disk_is_whole_when_it_has_what_it_had(copied: list[Any], whole: bool) -> None:
    scene, node = led()
    lose_disk(scene)
    scene.append("n2", *copied)
    assert (node.lost is None) is whole


def test_a_log_that_begins_behind_what_was_lost_is_whole() -> None:
    scene, node = led()
    lose_disk(scene)
    scene.files[N2] = {}
    start = Position(Index(7), Offset(7))
    scene.tell("n2.store", "n2.replicator", LogTruncated(start, start, TermHistory()))
    path = "/data/log/00000000000000000007-00000000000000000007.log"
    scene.append("n2", path=path)
    assert node.lost is None


def test_who_loses_two_disks_must_have_what_the_first_one_had() -> None:
    scene, node = led()
    lose_disk(scene)
    scene.append("n2", entry(0))
    lose_disk(scene)
    scene.append("n2", entry(0), entry(1))
    assert node.lost == (1, 3)
    scene.append("n2", entry(2))
    assert node.lost is None


def test_a_log_that_was_cut_before_its_disk_was_lost_is_whole_with_what_was_left_of_it() -> None:
    scene, node = led()
    scene.truncate("n2", sized(entry(0)))
    lose_disk(scene)
    scene.append("n2", entry(0))
    assert node.lost is None


def test_with_nobody_elected_a_new_disk_owes_nothing() -> None:
    scene = Scene("restart_keeps")
    scene.start("n2")
    scene.append("n2", batch(0, "a", path="n2"))
    scene.crash("n2")
    fault(scene, "disk_lost")
    scene.files[N2] = {}
    scene.start("n2")
    scene.append("n2", batch(0, "b", path="n2"))
    node = scene.checker.model.node(N2)  # type: ignore[attr-defined]
    assert (node.spoiled, node.lost) == (set(), None)


# ---------------------------------------------------------------- an honest disk


def test_what_retention_took_may_be_back_after_a_power_cut_and_is_no_second_copy() -> None:
    scene = Scene("contiguous")
    scene.start("n2", STATIC)
    later = "/data/log/00000000000000000001-00000000000000000001.log"
    scene.append("n2", entry(0))
    scene.append("n2", entry(1), path=later)
    content = scene.files[N2][SEGMENT]
    scene.truncate("n2", 0)
    scene.files[N2][SEGMENT] = content
    scene.crash("n2")
    scene.start("n2", STATIC)
    with pytest.raises(Violation, match="in its log already"):
        scene.append("n2", entry(2, value="other"), batch(3, "v1", term=Term(1), origin_sequence=1), path=later)


def test_slow_operations_of_one_turn_take_their_time_in_a_row() -> None:
    scene, _ = led()
    for _ in range(7):
        scene.see(FaultInjected(scene.time_s, "slow_disk", "n2", "sync"))
    began_s = scene.time_s
    hindrances = scene.checker.model.hindrances  # type: ignore[attr-defined]
    assert hindrances.node_clear_s(N2) == pytest.approx(began_s + 7 * 0.31)


# ---------------------------------------------------------------- rot


@pytest.mark.parametrize("how", ["restored", "disk_lost", "old_disk"])
def test_a_file_that_was_restored_or_thrown_away_is_rotten_no_more(how: str) -> None:
    scene, node = led()
    fault(scene, "bit_rot")
    assert node.is_rotten
    if how == "restored":
        restored(scene, "bit_rot")
        assert node.is_rotten, "what was read of it may be answered yet"
        scene.time_s += 6.0
        scene.append("n2", entry(3))
    else:
        scene.crash("n2")
        fault(scene, how)
    assert not node.is_rotten


# ---------------------------------------------------------------- the budget


def spoiling(seed: int = 1, nodes: int = 5) -> tuple[Cluster, FaultBudget, Operator]:
    voters = ",".join(f"n{number}" for number in range(1, nodes + 1))
    cluster = Cluster(options=Options(seed, nodes=nodes, election=f"oracle:{voters}", faults=()), checkers=[])
    nemesis = Nemesis(cluster, draw_plan(cluster.options))
    cluster.start()
    oracle = cluster.oracle
    assert oracle is not None
    oracle.trusts = lambda node_id: not nemesis.budget.is_lost(node_id)
    oracle.change()
    cluster.run_for(2.0)
    assert oracle.leader_id is not None
    cluster.client("app").produce(b"a")
    cluster.run_for(2.0)
    return cluster, nemesis.budget, nemesis.operator


def follower_of(cluster: Cluster) -> NodeId:
    return next(node_id for node_id in cluster.configs if node_id != cluster.leader_id)


def test_a_disk_that_lost_to_lies_does_not_lie_on_and_pass_for_whole() -> None:
    cluster, budget, operator = spoiling()
    with closing(cluster):
        node_id = follower_of(cluster)
        budget.spoil("fsync_lies", node_id)
        cluster.disks[node_id].faults.lies = True
        operator.bring_down(node_id, power=True)
        assert budget.is_lost(node_id)
        cluster.run_until(lambda: cluster.is_ready(node_id))
        cluster.run_for(3.0)
        budget.review()
        assert node_id not in budget.spoiled
        assert not cluster.disks[node_id].faults.lies


def test_a_file_is_restored_once_what_was_read_of_it_while_the_disk_hung_has_been_reported() -> None:
    cluster, _, operator = spoiling()
    with closing(cluster):
        node_id = follower_of(cluster)
        disk = cluster.disks[node_id]
        rot = Rot.draw(disk, Random(1))
        assert rot is not None
        rot.strike(disk)
        operator.note_rot(node_id, rot)
        disk.hangs_until_s = cluster.now_s + 30.0
        operator.restore(node_id)
        cluster.run_for(30.5)
        assert operator.is_rotten(node_id)
        cluster.run_for(1.0)
        assert not operator.is_rotten(node_id)


@pytest.mark.parametrize(("since_s", "is_excused"), [(0.0, True), (1.4, True), (1.6, False)])
def test_who_gives_up_over_what_had_rotted_has_a_cause_though_the_file_is_restored_before_it_ends(
    since_s: float, *, is_excused: bool
) -> None:
    cluster, budget, operator = spoiling()
    with closing(cluster):
        node_id = follower_of(cluster)
        rot = Rot.draw(cluster.disks[node_id], Random(1))
        assert rot is not None
        rot.strike(cluster.disks[node_id])
        operator.note_rot(node_id, rot)
        operator.restore(node_id)
        assert node_id not in budget.spoiled
        cluster.run_for(since_s)
        cluster.crash(node_id)
        cluster.on_process_end(node_id, ProcessEnd.GAVE_UP, "the log is damaged")
        if is_excused:
            cluster.run_for(1.0)
        else:
            with pytest.raises(Violation, match="gave up though nothing was wrong with its disk"):
                cluster.run_for(1.0)


@pytest.mark.parametrize("kind", ["fsync_lies", "bit_rot"])
def test_nobody_is_whole_by_the_word_of_a_leader_whose_own_disk_is_spoiled(kind: str) -> None:
    cluster, budget, operator = spoiling()
    with closing(cluster):
        node_id, leader_id = follower_of(cluster), cluster.leader_id
        assert leader_id is not None
        cluster.crash(node_id, power=True)
        operator.replace_disk(node_id)
        budget.spoil(kind, leader_id)
        assert cluster.oracle is not None
        cluster.oracle.calm(tuple(cluster.configs))
        cluster.run_for(15.0)
        budget.review()
        assert budget.is_lost(node_id)
        budget.restore(leader_id)
        budget.review()
        assert node_id not in budget.spoiled


class VotedWorld:
    """Three voters and a fourth node, with votes that belong to disks; `write` puts entries into a node's log."""

    leader_id = N1
    is_lead_passed_on = are_terms_local = is_vote_of_disk = True
    running: ClassVar[dict[NodeId, Any]] = {}

    def __init__(self) -> None:
        voted = ElectionChoice("raft", "n1,n2,n3", voters=(N1, N2, N3))
        self.configs = {node_id: replace(config(node_id), election=voted) for node_id in (N1, N2, N3, NodeId("n4"))}
        self.files: dict[NodeId, bytes] = {}
        self.sets = KnownSets()

    def write(self, node_id: NodeId, *batches: Batch) -> None:
        self.files[node_id] = b"".join(encode_batch(one) for one in batches)

    def durable(self, node_id: NodeId) -> dict[str, bytes]:
        return {SEGMENT: self.files.get(node_id, b"")}

    def open_files(self, node_id: NodeId) -> int:
        return 0


NAMED = VoterSet(
    Index(0), Term(1), tuple(Voter(node_id, 7, f"{node_id}:1", f"{node_id}:2") for node_id in (N1, N2, N3))
)


def names_all(index: int) -> Batch:
    voters = tuple(Voter(node_id, 7, f"{node_id}:1", f"{node_id}:2") for node_id in (N1, N2, N3))
    payload = encode_control(VotersSet(voters))
    return batch(index, "", term=Term(1), kind=Kind.CONTROL, record_count=0, payload=payload)


def test_where_votes_belong_to_disks_none_is_lost_before_a_majority_of_the_logs_names_the_voters() -> None:
    world = VotedWorld()
    budget = FaultBudget(world)
    for node_id in (N1, N2):
        assert not budget.may_spoil("disk_lost", N3)
        assert not budget.is_founded()
        assert budget.may_spoil("disk_lost", NodeId("n4"))
        world.write(node_id, batch(0, "a", term=Term(1)), names_all(1))
    assert budget.may_spoil("disk_lost", N3)
    assert budget.is_founded()


def test_where_votes_belong_to_disks_a_lost_vote_never_comes_back_and_none_forgets() -> None:
    world = VotedWorld()
    budget = FaultBudget(world)
    for node_id in (N1, N2, N3):
        world.write(node_id, names_all(0))
        world.sets.note(node_id, LogOpened(START, START, TermHistory(), 7, Ballot(), (), START, NAMED))
    budget.spoil("disk_lost", N3)
    world.sets.lost(N3)
    budget.review()
    assert not budget.may_spoil("disk_lost", N2)
    assert not budget.may_spoil("bit_rot", N1)
    assert budget.withheld == {"disk_lost": 1, "bit_rot": 1}
    for kind in ("old_disk", "fsync_lies"):
        assert not FaultBudget(world).may_spoil(kind, N1)


def test_what_retention_has_left_of_a_log_belongs_to_a_founded_cluster() -> None:
    world = VotedWorld()
    for node_id in (N1, N2):
        world.write(node_id, batch(9, "a", term=Term(1)))
    assert FaultBudget(world).is_founded()
