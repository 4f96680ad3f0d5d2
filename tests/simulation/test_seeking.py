"""A node that knows of no leader asks the voters: each way not to is seen."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ourolog.actors.messages.events import LeaderChanged, MemberJoined, MemberLeft, VotersChanged
from ourolog.actors.messages.peer_calls import EMPTY_FETCH, CallFailed, CallReturned
from ourolog.actors.messages.values import Member
from ourolog.actors.replication.leader_search import MAX_OPEN
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import NodePaused, PacketSent
from ourolog.storage.types import NodeId, Term
from tests.simulation.scene import N1, N2, N3, Scene


def seeking(*known: NodeId, voters: Sequence[NodeId] = (N2, N3)) -> Scene:
    """n1, which votes with those voters, knows these members, and has just been told that it knows of no leader."""
    scene = Scene("voters_asked_for_leader")
    scene.start("n1", f"static:{','.join(voters)},n1")
    for node_id in known:
        scene.tell("n1.membership", "n1.replicator", MemberJoined(Member(node_id, f"{node_id}:1", f"{node_id}:2")))
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    return scene


def test_the_last_keep_alive_of_a_pull_that_ends_is_no_question() -> None:
    scene = seeking(N2, N3)
    for _ in range(2):
        scene.see(PacketSent(scene.time_s, 1, N1, N2, EMPTY_FETCH))


def ask(scene: Scene, target: NodeId, what: str = EMPTY_FETCH) -> None:
    scene.wait(0.5)
    scene.see(PacketSent(scene.tick(), 1, N1, target, what))


def test_who_asks_one_after_the_other_does_right() -> None:
    scene = seeking(N2, N3)
    for target in (N3, N2, N3):
        ask(scene, target)
    scene.wait(30.0)


def test_who_asks_nobody_is_seen() -> None:
    scene = seeking(N3)
    ask(scene, N3, "log end")
    with pytest.raises(Violation, match="has asked no voter, though it knows one"):
        scene.wait(1.1)


@pytest.mark.parametrize("known", [(), (NodeId("n9"),), (N1,)])
def test_who_knows_no_other_voter_has_nobody_to_ask(known: tuple[NodeId, ...]) -> None:
    seeking(*known).wait(30.0)


def test_who_is_held_up_or_has_a_leader_again_asks_nobody() -> None:
    scene = seeking(N2)
    scene.see(NodePaused(scene.tick(), N1))
    scene.wait(30.0)
    scene = seeking(N2)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N2))
    for _ in range(3):
        ask(scene, N2)


def test_who_asks_the_same_voter_again_is_seen_if_it_knows_another() -> None:
    scene = seeking(N2)
    ask(scene, N2)
    ask(scene, N2)
    scene = seeking(N2, N3)
    ask(scene, N2)
    with pytest.raises(Violation, match=r"asked n2 at .* and once more, though it knows n3"):
        ask(scene, N2)


def test_who_is_gone_is_remembered_by_those_that_have_been_told_that_it_votes() -> None:
    for knows_voters in (False, True):
        scene = seeking(N2, N3)
        if knows_voters:
            scene.tell("n1.election", "n1.replicator", VotersChanged((N1, N2, N3)))
        scene.tell("n1.membership", "n1.replicator", MemberLeft(Member(N3, "n3:1", "n3:2")))
        ask(scene, N2)
        if knows_voters:
            with pytest.raises(Violation, match=r"asked n2 at .* and once more, though it knows n3"):
                ask(scene, N2)
        else:
            ask(scene, N2)


def test_who_awaits_an_answer_without_asking_another_is_seen() -> None:
    scene = seeking(N2)
    ask(scene, N2)
    scene.wait(30.0)
    scene = seeking(N2, N3)
    ask(scene, N3)
    ask(scene, N2)
    scene.tell("", "n1.replicator", CallFailed(N3, -1, "lost"))
    with pytest.raises(Violation, match=r"awaits an answer of n2 .* has not asked n3"):
        scene.wait(1.1)


def test_who_has_asked_as_many_as_it_may_has_its_time_once_one_of_them_has_answered() -> None:
    others = [NodeId(f"n{number}") for number in range(2, MAX_OPEN + 3)]
    scene = seeking(*others, voters=others)
    for other in others[:MAX_OPEN]:
        ask(scene, other)
    scene.wait(30.0)
    scene.tell("", "n1.replicator", CallFailed(N2, -1, "lost"))
    scene.wait(0.9)
    with pytest.raises(Violation, match=rf"awaits an answer of {others[MAX_OPEN - 1]} .* has not asked"):
        scene.wait(0.2)


def test_who_awaits_an_answer_may_ask_another_twice() -> None:
    scene = seeking(N2, N3)
    ask(scene, N2)
    for number in range(5):
        ask(scene, N3)
        scene.tell("", "n1.replicator", CallReturned(N3, -1 - number, None))
    scene.tell("", "n1.replicator", CallFailed(N2, 9, "lost"))
    ask(scene, N3)
    scene.tell("", "n1.replicator", CallFailed(N3, -7, "lost"))
    scene.tell("", "n1.replicator", CallFailed(N2, -8, "lost"))
    ask(scene, N3)
    with pytest.raises(Violation, match=r"asked n3 at .* and once more, though it knows n2"):
        ask(scene, N3)


def test_who_is_started_again_begins_anew() -> None:
    scene = seeking(N2, N3)
    ask(scene, N2)
    scene.crash("n1")
    scene.start("n1", "static:n2,n3,n1")
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    for node_id in (N2, N3):
        scene.tell("n1.membership", "n1.replicator", MemberJoined(Member(node_id, f"{node_id}:1", f"{node_id}:2")))
    ask(scene, N2)
