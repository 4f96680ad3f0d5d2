"""The claim that nobody stops leading without a cause: each way to break it is seen, and what is a cause is not."""

from __future__ import annotations

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LeaderChanged, LogAppended
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchOutcome, FetchRequest
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, MessageTold, NodePaused, NodeResumed, NodeSaid
from ourolog.storage.control import Voter, VoterSet
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.elected_scene import NODES, RAFT, lead, scene_of
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene
from tests.simulation.scene_messages import response


def leader() -> Scene:
    """n1 leads term 2, and nothing holds it up."""
    scene = scene_of("leads_end_for_cause", RAFT)
    scene.wait(1)
    lead(scene, N1, 2, N1, N2)
    return scene


def fetch(scene: Scene, voter: NodeId = N2, *, term: int = 2, epoch: int | None = None, call_id: int = 1) -> None:
    """The node fetches from n1: with its own disk, or with that epoch."""
    log_epoch = EPOCH + NODES.index(voter) if epoch is None else epoch
    request = FetchRequest("ourolog", voter, log_epoch, True, Term(term), Index(0), None, 0, Index(0), 1000, 0.5)
    scene.tell("", "n1.replicator", CallReceived(call_id, request, Probe()))


def answer(
    scene: Scene, outcome: FetchOutcome = FetchOutcome.BATCHES, *, actor: str = "replicator", call_id: int = 1
) -> None:
    scene.tell(f"n1.{actor}", "network", CallAnswer(call_id, response(outcome, term=Term(2))))


def give_up(scene: Scene, term: int = 2, leader_id: NodeId | None = None) -> None:
    for actor in ("server", "replicator"):
        scene.tell("n1.election", f"n1.{actor}", LeaderChanged(Term(term), leader_id))


@pytest.mark.parametrize("how", ["answered", "read by the store", "unanswered", "cancelled", "delivered twice"])
def test_a_leader_from_which_a_majority_has_fetched_lately_may_not_give_up(how: str) -> None:
    scene = leader()
    scene.wait(3)
    fetch(scene)
    match how:
        case "answered":
            answer(scene)
        case "read by the store":
            scene.wait(0.5)
            answer(scene, actor="store")
        case "cancelled":
            scene.wait(0.5)
            scene.tell("", "n1.replicator", CallCancelled(1))
        case "delivered twice":
            scene.wait(0.2)
            fetch(scene)
            answer(scene)
        case _:
            pass
    scene.wait(0.6)
    with pytest.raises(Violation, match=r"n1 gave up the lead of term 2, .* majority of its voters .* since 4\.\d+ s"):
        give_up(scene)


def test_of_five_voters_two_must_have_fetched() -> None:
    names = tuple(NodeId(f"n{number}") for number in range(1, 6))
    raft = ElectionChoice("raft", ",".join(names), voters=names)
    for others in (1, 2):
        scene = Scene("leads_end_for_cause")
        for number, name in enumerate(names):
            scene.start(name, settings={"election": raft}, log_epoch=EPOCH + number)
        scene.wait(1)
        lead(scene, N1, 2, N1, N2, N3)
        scene.wait(3)
        for call_id, voter in enumerate((N2, N3)[:others]):
            fetch(scene, voter, call_id=call_id)
            answer(scene, call_id=call_id)
        if others == 2:
            with pytest.raises(Violation, match="gave up the lead"):
                give_up(scene)
        else:
            give_up(scene)


def test_a_leader_has_time_from_when_it_begins() -> None:
    scene = leader()
    scene.wait(1)
    with pytest.raises(Violation, match="gave up the lead"):
        give_up(scene)


def test_who_votes_alone_has_its_majority_always() -> None:
    alone = ElectionChoice("raft", "n1", voters=(N1,))
    scene = Scene("leads_end_for_cause")
    scene.start("n1", settings={"election": alone}, log_epoch=EPOCH)
    lead(scene, N1, 1, N1)
    scene.wait(10)
    with pytest.raises(Violation, match="gave up the lead"):
        give_up(scene, 1)


@pytest.mark.parametrize("what", ["nothing", "an earlier fetch", "a disk without a vote", "an older term", "refused"])
def test_who_has_not_heard_from_a_majority_for_long_may(what: str) -> None:
    scene = leader()
    scene.wait(1.3 if what == "nothing" else 3)
    match what:
        case "an earlier fetch":
            fetch(scene)
            answer(scene)
            scene.wait(1.3)
        case "a disk without a vote":
            fetch(scene, epoch=EPOCH + 9)
            answer(scene)
        case "an older term":
            fetch(scene, term=1)
            answer(scene)
        case "refused":
            fetch(scene)
            answer(scene, FetchOutcome.DIVERGED)
        case _:
            pass
    give_up(scene)


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_fetch_that_has_only_just_come_need_not_have_been_looked_at(is_cancelled: bool) -> None:
    scene = leader()
    scene.wait(3)
    fetch(scene)
    if is_cancelled:
        scene.see(MessageTold(scene.time_s, "", "n1.replicator", CallCancelled(1)))
    scene.see(MessageTold(scene.time_s, "n1.election", "n1.replicator", LeaderChanged(Term(2), None)))


@pytest.mark.parametrize("cause", ["a later term", "another leader", "its disk", "a crash", "it leads already"])
def test_other_causes_are_as_good(cause: str) -> None:
    scene = leader()
    match cause:
        case "a later term":
            give_up(scene, 3)
        case "another leader":
            give_up(scene, 3, N2)
        case "its disk":
            warned = NodeWarned(N1, "election", WarningKind.LEAD_GIVEN_UP, "its disk has not answered")
            scene.see(NodeSaid(scene.tick(), N1, warned))
            give_up(scene)
        case "a crash":
            scene.crash("n1")
            scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH)
            give_up(scene)
        case _:
            give_up(scene, 2, N1)


def test_other_warnings_and_those_of_earlier_terms_are_no_cause() -> None:
    scene = leader()
    scene.see(NodeSaid(scene.tick(), N1, NodeWarned(N1, "election", WarningKind.LEAD_GIVEN_UP, "its disk")))
    give_up(scene)
    lead(scene, N1, 3, N1, N2)
    scene.see(NodeSaid(scene.tick(), N1, NodeWarned(N1, "election", WarningKind.TWO_LEADERS, "two lead")))
    with pytest.raises(Violation, match="gave up the lead of term 3"):
        give_up(scene, 3)


@pytest.mark.parametrize("hindrance", ["slow", "paused for a moment"])
def test_who_is_held_up_may_look_at_fetches_late(hindrance: str) -> None:
    scene = leader()
    scene.wait(3)
    if hindrance == "slow":
        scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
    else:
        scene.see(NodePaused(scene.tick(), N1))
    fetch(scene)
    if hindrance != "slow":
        scene.see(NodeResumed(scene.tick(), N1))
    scene.wait(0.1)
    give_up(scene)


def test_who_stood_still_looks_at_what_came_meanwhile_first() -> None:
    for then_s in (0.1, 0.25):
        scene = leader()
        scene.see(NodePaused(scene.tick(), N1))
        scene.wait(3)
        scene.see(NodeResumed(scene.tick(), N1))
        scene.wait(then_s)
        if then_s < 0.2:
            with pytest.raises(Violation, match=r"n1 gave up the lead of term 2, and had stood still until 4\.\d+ s"):
                give_up(scene)
        else:
            give_up(scene)


def test_a_leader_without_a_vote_may_leave_though_it_stood_still() -> None:
    scene = leader()
    others = tuple(Voter(node_id, EPOCH + NODES.index(node_id), "h:1", "h:2") for node_id in (N2, N3))
    named = VoterSet(Index(0), Term(2), others)
    scene.tell("n1.store", "n1.replicator", LogAppended((Position(Index(1), Offset(0)),), TermHistory(), named))
    scene.see(NodePaused(scene.tick(), N1))
    scene.wait(3)
    scene.see(NodeResumed(scene.tick(), N1))
    give_up(scene)
