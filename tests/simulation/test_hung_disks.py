"""The claims that a leader whose disk hangs or has failed lets others lead: what breaks them is seen, nothing else."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.store import StoreFailed
from ourolog.simulation import Options, simulate
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, NodePaused
from ourolog.storage.types import NodeId, Term
from tests.simulation.elected_scene import RAFT, scene_of
from tests.simulation.scene import EPOCH, N1, N2, Scene


def lead(scene: Scene, leader_id: NodeId | None, term: int = 1) -> None:
    for actor in ("replicator", "server"):
        scene.tell("n1.election", f"n1.{actor}", LeaderChanged(Term(term), leader_id))


def leader_with_hung_disk(*, for_s: float = 8.0) -> Scene:
    """n1 leads term 1, and its disk hangs."""
    scene = scene_of("hung_disks_end_leads", RAFT)
    lead(scene, N1)
    scene.see(FaultInjected(scene.tick(), "disk_hangs", "n1", until_s=scene.time_s + for_s))
    return scene


def test_a_leader_whose_disk_hangs_has_three_election_timeouts() -> None:
    scene = leader_with_hung_disk()
    scene.wait(2.9)
    with pytest.raises(Violation, match=r"n1 still leads term 1, and its disk hangs since 0\.\d+ s"):
        scene.wait(0.2)


def test_a_later_term_gives_it_as_much_again() -> None:
    scene = leader_with_hung_disk()
    scene.wait(2.9)
    lead(scene, N1, 2)
    scene.wait(2.9)
    with pytest.raises(Violation, match="still leads term 2"):
        scene.wait(0.2)


@pytest.mark.parametrize("how", ["answers", "gives up", "follows", "crashes", "is slow", "stands still", "another's"])
def test_who_has_a_disk_again_or_cannot_or_need_not_see_that_it_has_none_is_not_asked_for_more(how: str) -> None:
    scene = leader_with_hung_disk(for_s=2.5 if how == "answers" else 8.0)
    scene.wait(1)
    match how:
        case "gives up":
            lead(scene, None)
        case "follows":
            lead(scene, N2)
        case "crashes":
            scene.crash("n1")
            scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH)
            lead(scene, N1)
        case "is slow":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        case "stands still":
            scene.see(NodePaused(scene.tick(), N1))
        case "another's":
            lead(scene, None)
            scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(2), N2))
        case _:
            pass
    scene.wait(4)


def test_leaders_whose_disks_hang_are_reached_and_give_up() -> None:
    reached = 0
    for seed in range(4):
        result = simulate(Options(seed, nodes=3, election="raft", faults=("disk_hangs",), minutes=0.3))
        assert result.violations == ()
        reached += result.states.get("lead_given_up_hung", 0)
    assert reached


# ---------------------------------------------------------------- disks that have failed


def leader_with_failed_disk(*, hung_for_s: float = 0.0) -> Scene:
    """n1 leads term 1, and its store has just said that it has failed."""
    scene = scene_of("failed_disks_end_leads", RAFT)
    lead(scene, N1)
    scene.wait(2.0)
    if hung_for_s:
        scene.see(FaultInjected(scene.tick(), "disk_hangs", "n1", until_s=scene.time_s + hung_for_s))
    scene.tell("n1.store", "n1.election", StoreFailed("No space left on device"))
    return scene


def test_a_leader_whose_disk_has_failed_has_no_time_to_lose() -> None:
    scene = leader_with_failed_disk()
    scene.wait(0.05)
    with pytest.raises(Violation, match=r"n1 still leads term 1, and its store has failed at 2\.\d+ s"):
        scene.wait(0.1)


@pytest.mark.parametrize("how", ["gives up", "crashes", "is slow", "stands still", "another's"])
def test_who_leads_no_more_or_cannot_know_that_its_disk_has_failed_is_not_asked_to_give_up(how: str) -> None:
    scene = leader_with_failed_disk()
    match how:
        case "gives up":
            lead(scene, None)
        case "crashes":
            scene.crash("n1")
            scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH)
            lead(scene, N1, 2)
        case "is slow":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        case "stands still":
            scene.see(NodePaused(scene.tick(), N1))
        case _:
            lead(scene, None)
            scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(2), N2))
    scene.wait(4)


def test_what_a_store_says_after_its_disk_has_hung_the_election_hears_when_that_is_over() -> None:
    scene = leader_with_failed_disk(hung_for_s=3.0)
    scene.wait(2.9)
    with pytest.raises(Violation, match="its store has failed"):
        scene.wait(0.4)
