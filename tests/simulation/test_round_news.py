"""The claim that a round of reads spreads at once: who is left waiting is seen, and who may wait on is not."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import LeaderChanged, LogAppended, VotersChanged
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, FetchRequest
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, MessageTold, NodePaused, NodeResumed
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.elected_scene import NODES, RAFT, lead, scene_of
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene
from tests.simulation.scene_messages import response

FETCHES = {N2: 2, N3: 3}
"""The number of each follower's call."""


def led_by_n1(voters: tuple[NodeId, ...] = NODES) -> Scene:
    """n1 leads term 1, and its log ends at index 1."""
    scene = scene_of("rounds_spread", RAFT)
    scene.tell("n1.election", "n1.replicator", VotersChanged(voters))
    lead(scene, N1, 1, *voters)
    append(scene, 1)
    scene.wait(1)
    return scene


def append(scene: Scene, end: int) -> None:
    """Something is appended to the leader's log, which ends there now."""
    scene.tell("n1.store", "n1.replicator", LogAppended((Position(Index(end), Offset(0)),), TermHistory()))


def fetch(scene: Scene, node_id: NodeId, next_index: int = 1) -> None:
    """The node fetches from n1."""
    log_epoch = EPOCH + NODES.index(node_id)
    request = FetchRequest(
        "ourolog", node_id, log_epoch, True, Term(1), Index(next_index), None, 0, Index(0), 1000, 0.5
    )
    scene.tell("", "n1.replicator", CallReceived(FETCHES[node_id], request, Probe()))


def answer(scene: Scene, node_id: NodeId, number: int, *, term: int = 1, actor: str = "replicator") -> None:
    """n1 answers the node's fetch with that number of a round, in the same instant as what went before."""
    answered = CallAnswer(FETCHES[node_id], response(term=Term(term), read_round=number))
    scene.see(MessageTold(scene.time_s, f"n1.{actor}", "network", answered))


def waiting() -> Scene:
    """Both others wait at the end of n1's log."""
    scene = led_by_n1()
    for node_id in FETCHES:
        fetch(scene, node_id)
    scene.wait(0.1)
    return scene


def test_who_waits_is_told_in_the_same_instant() -> None:
    scene = waiting()
    for number in (7, 8):
        for node_id in FETCHES:
            answer(scene, node_id, number)
        for node_id in FETCHES:
            fetch(scene, node_id)
        scene.wait(0.4)


@pytest.mark.parametrize("first", [N2, N3])
def test_who_is_left_waiting_is_seen(first: NodeId) -> None:
    (other,) = FETCHES.keys() - {first}
    seen = rf"n1 gave the number 7 .* at 1\.\d+ s, and let the fetch of {other} wait on, which had come at 1\.\d+ s"
    scene = waiting()
    answer(scene, first, 7)
    with pytest.raises(Violation, match=seen):
        scene.wait(0.01)
    scene = waiting()
    answer(scene, first, 7)
    scene.time_s += 0.01
    with pytest.raises(Violation, match=seen):
        answer(scene, other, 7)


def test_who_is_left_waiting_in_a_later_round_is_seen() -> None:
    scene = waiting()
    for node_id in FETCHES:
        answer(scene, node_id, 7)
    for node_id in FETCHES:
        fetch(scene, node_id)
    answer(scene, N2, 8)
    with pytest.raises(Violation, match="gave the number 8"):
        scene.wait(0.01)


def test_who_comes_when_the_round_is_known_to_others_may_wait() -> None:
    """It may have echoed the number; or a majority has, and the round is over."""
    scene = led_by_n1()
    fetch(scene, N2)
    answer(scene, N2, 7)
    fetch(scene, N3)
    fetch(scene, N2)
    scene.wait(0.1)
    answer(scene, N2, 7)
    scene.wait(0.4)


@pytest.mark.parametrize("how", ["no round", "another term", "no lead", "the store", "alone"])
def test_what_shows_no_round_that_is_open_asks_nothing(how: str) -> None:
    scene = led_by_n1((N1,)) if how == "alone" else led_by_n1()
    if how == "no lead":
        scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    for node_id in FETCHES:
        fetch(scene, node_id)
    scene.wait(0.1)
    match how:
        case "no round":
            answer(scene, N2, 0)
        case "another term":
            answer(scene, N2, 7, term=2)
        case "the store":
            answer(scene, N2, 7, actor="store")
        case _:
            answer(scene, N2, 7)
    scene.wait(0.4)


@pytest.mark.parametrize("how", ["read", "overtaken", "cancelled", "slow", "stood still", "crashed"])
def test_whose_batches_are_read_who_is_gone_or_not_looked_at_need_not_be_told(how: str) -> None:
    scene = led_by_n1()
    fetch(scene, N2)
    if how == "slow":
        scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
    elif how == "stood still":
        scene.see(NodePaused(scene.tick(), N1))
    fetch(scene, N3, 0 if how == "read" else 1)
    match how:
        case "overtaken":
            append(scene, 2)
        case "cancelled":
            scene.tell("", "n1.replicator", CallCancelled(FETCHES[N3]))
        case "stood still":
            scene.see(NodeResumed(scene.tick(), N1))
        case _:
            pass
    answer(scene, N2, 7)
    if how == "crashed":
        scene.crash("n1")
    scene.wait(0.4)
