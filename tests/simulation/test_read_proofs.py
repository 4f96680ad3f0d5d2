"""The claim about how reads of the latest state are confirmed: each way to break it is seen, and no other."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import LeaderChanged, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    FetchRequest,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.replicator import ConfirmRead, ReadConfirmed
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.read_proofs import QUESTION
from ourolog.simulation.events import FaultInjected, PacketSent
from ourolog.storage.types import START, Index, NodeId, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene
from tests.simulation.scene_messages import response

NODES = (N1, N2, N3)


def led_by_n1(term: int = 1) -> Scene:
    scene = Scene("reads_proved")
    for node_id in NODES:
        scene.start(node_id, "static:n1,n2,n3")
        scene.tell(f"{node_id}.election", f"{node_id}.replicator", VotersChanged(NODES))
        lead(scene, node_id, term)
    return scene


def lead(scene: Scene, node_id: NodeId, term: int, leader_id: NodeId = N1) -> None:
    scene.tell(f"{node_id}.election", f"{node_id}.replicator", LeaderChanged(Term(term), leader_id))


def read(scene: Scene, node_id: NodeId = N1) -> None:
    scene.tell(f"{node_id}.server", f"{node_id}.replicator", ConfirmRead(7, 5.0, Probe()))


def confirm(scene: Scene, node_id: NodeId = N1) -> None:
    scene.tell(f"{node_id}.replicator", f"{node_id}.server", ReadConfirmed(7, START))


def publish(scene: Scene, number: int, term: int = 1) -> None:
    """n1 answers a fetch with that number."""
    scene.tell("n1.replicator", "network", CallAnswer(1, response(term=Term(term), read_round=number)))


def echo(scene: Scene, number: int, voter: NodeId = N2, term: int = 1) -> None:
    """The voter fetches from n1 with that number."""
    request = FetchRequest(
        "ourolog", voter, EPOCH, True, Term(term), Index(0), None, 0, Index(0), 1000, 0.5, read_round=number
    )
    scene.tell("", "n1.replicator", CallReceived(1, request, Probe()))


def test_a_majority_that_echoes_what_it_was_told_since_the_read_began_confirms_it() -> None:
    scene = led_by_n1()
    publish(scene, 5)
    read(scene)
    publish(scene, 6)
    echo(scene, 6)
    echo(scene, 5)  # a fetch that comes late
    confirm(scene)


@pytest.mark.parametrize("how", ["nobody", "an old number", "an old term", "a stranger"])
def test_anything_less_does_not(how: str) -> None:
    scene = led_by_n1()
    publish(scene, 5)
    read(scene)
    publish(scene, 6)
    match how:
        case "an old number":
            echo(scene, 5)
        case "an old term":
            echo(scene, 6, term=0)
        case "a stranger":
            echo(scene, 6, NodeId("n9"))
        case _:
            pass
    with pytest.raises(Violation, match=r"n1\.replicator confirmed a read .* only n1 has echoed a number"):
        confirm(scene)


def test_what_was_echoed_in_an_earlier_term_is_over_and_each_term_has_numbers_of_its_own() -> None:
    for number in (0, 2):
        scene = led_by_n1()
        publish(scene, 5)
        read(scene)
        publish(scene, 6)
        echo(scene, 6)
        lead(scene, N1, 2)
        publish(scene, 2, term=2)
        echo(scene, number, term=2)
        if number:
            confirm(scene)
        else:
            with pytest.raises(Violation, match="only n1 has echoed"):
                confirm(scene)


def test_a_leader_that_is_slow_confirms_what_was_echoed_before_it_knows_that_it_was_deposed() -> None:
    for is_slow, number in ((True, 6), (True, 5), (False, 6)):
        scene = led_by_n1()
        publish(scene, 5)
        read(scene)
        publish(scene, 6)
        if is_slow:
            scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        echo(scene, number)
        scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
        if is_slow and number == 6:
            confirm(scene)
        else:
            with pytest.raises(Violation, match="no question that it sent to a leader was answered"):
                confirm(scene)


def ask(scene: Scene) -> None:
    """n2 asks n1 how far the log is committed."""
    scene.see(PacketSent(scene.tick(), 1, N2, N1, QUESTION))


def returned(scene: Scene, committed: Index | None = Index(3)) -> None:
    answer = ReadIndexResponse(N1, Term(1), N1, committed)
    scene.tell("", "n2.replicator", CallReturned(N1, 1, answer))


def test_a_question_that_was_sent_since_confirms_a_read_of_who_does_not_lead() -> None:
    scene = led_by_n1()
    read(scene, N2)
    ask(scene)
    returned(scene)
    confirm(scene, N2)


@pytest.mark.parametrize("how", ["sent before", "not answered", "answered without an index"])
def test_another_question_does_not(how: str) -> None:
    scene = led_by_n1()
    if how == "sent before":
        ask(scene)
        read(scene, N2)
        returned(scene)
    else:
        read(scene, N2)
        ask(scene)
        if how == "answered without an index":
            returned(scene, None)
    with pytest.raises(Violation, match=r"n2\.replicator confirmed a read .* no question that it sent to a leader"):
        confirm(scene, N2)


def test_what_a_leader_answers_to_such_a_question_needs_the_same_echoes() -> None:
    for number in (5, 6):
        scene = led_by_n1()
        publish(scene, 5)
        request = ReadIndexRequest("ourolog", N2, EPOCH, Term(1))
        scene.tell("", "n1.replicator", CallReceived(4, request, Probe()))
        publish(scene, 6)
        echo(scene, number, N3)
        answer = CallAnswer(4, ReadIndexResponse(N1, Term(1), N1, Index(3)))
        if number == 6:
            scene.tell("n1.replicator", "network", answer)
        else:
            with pytest.raises(Violation, match="only n1 has echoed"):
                scene.tell("n1.replicator", "network", answer)
