"""The claim that voters go to the later terms that they are told of: each way to break it is seen, and no other."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import FailureKind, NodeFailed
from ourolog.actors.messages.peer_calls import BeginTermRequest, CallReceived, CallReturned, TermResponse, VoteResponse
from ourolog.actors.messages.store import StoreFailed
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, NodePaused, NodeResumed, NodeSaid
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term
from tests.simulation.elected_scene import RAFT, lead, scene_of, vote
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene


def leader() -> Scene:
    """n1 leads term 1."""
    scene = scene_of("later_terms_entered", RAFT)
    lead(scene, N1, 1, N1, N2)
    return scene


def tell(scene: Scene, how: str, term: int = 2, *, peer_id: NodeId = N2) -> None:
    """The election of n1 hears of that term."""
    epoch = EPOCH + 1
    match how:
        case "fetch":
            scene.tell("n1.replicator", "n1.election", HigherTermSeen(Term(term), None, peer_id))
        case "vote":
            scene.tell("", "n1.election", CallReturned(N2, 1, VoteResponse(N2, epoch, Term(term), None, False)))
        case "answer":
            scene.tell("", "n1.election", CallReturned(N2, 1, TermResponse(N2, epoch, Term(term), None, False)))
        case _:
            request = BeginTermRequest("ourolog", 1, N2, epoch, VoterKey(N1, EPOCH), Term(term))
            scene.tell("", "n1.election", CallReceived(1, request, Probe()))


WAYS = ["fetch", "vote", "answer", "leader"]


@pytest.mark.parametrize("how", WAYS)
def test_who_is_told_of_a_later_term_must_go_there_at_once(how: str) -> None:
    scene = leader()
    tell(scene, how)
    vote(scene, N1, 2, None)
    scene.wait(10)
    tell(scene, how, 3)
    with pytest.raises(Violation, match=r"n1 was told by n2 of term 3 at .* s, and had not saved it"):
        scene.wait(0.1)
    with pytest.raises(Violation, match="had not saved it"):
        vote(scene, N1, 3, None)


def test_a_later_term_still_is_as_good() -> None:
    scene = leader()
    tell(scene, "fetch")
    vote(scene, N1, 4, N3)
    scene.wait(10)


@pytest.mark.parametrize("how", WAYS)
def test_its_own_term_and_earlier_ones_are_nothing_to_go_to(how: str) -> None:
    scene = leader()
    tell(scene, how, 1)
    scene.wait(10)


def test_a_slow_machine_stays_slow_when_a_process_goes_on_or_is_started_again() -> None:
    for ended in (False, True):
        scene = leader()
        scene.see(NodePaused(scene.tick(), N1))
        scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        if ended:
            scene.crash("n1")
            scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH)
            lead(scene, N1, 2, N1, N2)
        else:
            scene.see(NodeResumed(scene.tick(), N1))
        scene.wait(1)
        tell(scene, "fetch", 3)
        scene.wait(1)
        vote(scene, N1, 3, None)
        scene.wait(10)
        tell(scene, "fetch", 4)
        with pytest.raises(Violation, match="had not saved it"):
            scene.wait(1)


def test_strangers_and_other_disks_than_those_that_vote_are_not_believed() -> None:
    scene = leader()
    tell(scene, "fetch", peer_id=NodeId("n9"))
    scene.crash("n2")
    scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 9)
    tell(scene, "fetch")
    scene.wait(10)


def test_who_is_held_up_ends_or_takes_no_part_yet_need_not_go_there() -> None:
    for prevents in ("crash", "failure", "failed disk", "pause", "slow", "start"):
        scene = leader()
        if prevents == "slow":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        elif prevents == "start":
            scene.crash("n1")
            scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH)
        elif prevents == "failed disk":
            scene.tell("n1.store", "n1.election", StoreFailed("no room"))
            scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
        tell(scene, "fetch")
        match prevents:
            case "crash":
                scene.crash("n1")
            case "failure":
                failed = NodeFailed(N1, "store", FailureKind.DISK_FULL, "no room")
                scene.see(NodeSaid(scene.tick(), N1, failed))
            case "pause":
                scene.see(NodePaused(scene.tick(), N1))
            case _:
                pass
        scene.wait(10)


def test_a_term_that_is_announced_counts_from_then_on() -> None:
    scene = scene_of("later_terms_entered", RAFT)
    tell(scene, "fetch")
    scene.wait(10)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    tell(scene, "fetch")
    with pytest.raises(Violation, match="had not saved it"):
        scene.wait(0.1)
