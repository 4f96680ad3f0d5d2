"""What a leader holds while it hands over: the claim about it, and the rare states of it."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import HoldProduces, LeaderChanged, ProducesHeld, ReleaseProduces
from ourolog.actors.messages.server import (
    Produce,
    Produced,
    Refusal,
    RequestRefused,
)
from ourolog.actors.messages.store import AppendBatch, BatchAppended
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Violation
from ourolog.simulation.events import MessageTold
from ourolog.simulation.holding_states import HOLDING_STATES, HoldingStates
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.simulation.scene import Scene

N1, N2 = NodeId("n1"), NodeId("n2")


def batch(value: str) -> NewBatch:
    return NewBatch(encode_record(value.encode()), 1)


def produce(request_id: int, value: str) -> Produce:
    return Produce(request_id, batch(value), Acks.QUORUM, 5.0, Probe())


class HandOver:
    """n1 leads term 1; what its server is told and tells."""

    def __init__(self) -> None:
        self.scene = Scene("hand_over_keeps_still")
        self.scene.start("n1", "static:n1,n2,n3")
        self.to_server(LeaderChanged(Term(1), N1))

    def to_server(self, *messages: object) -> None:
        for message in messages:
            self.scene.tell("", "n1.server", message)

    def append(self, append_id: int, value: str) -> None:
        self.scene.tell("n1.server", "n1.store", AppendBatch(append_id, batch(value), Term(1), Probe()))

    def drained(self, hold_id: int = 1) -> None:
        self.scene.tell("n1.server", "n1.election", ProducesHeld(hold_id, is_drained=True))

    def answer(self, answer: Produced | RequestRefused) -> None:
        self.scene.tell("n1.server", "c1", answer)


def hold(hold_id: int = 1) -> HoldProduces:
    return HoldProduces(hold_id, 1.0, Probe())


APPENDED = BatchAppended(7, Offset(0), Index(1), Term(1), Position(Index(2), Offset(1)))


def test_what_comes_while_a_leader_hands_over_is_not_appended_before_that_has_ended() -> None:
    for ends in (ReleaseProduces(), LeaderChanged(Term(2), N1), None):
        of = HandOver()
        of.to_server(produce(1, "before"), hold(), produce(2, "held"))
        of.append(7, "before")
        if ends is not None:
            of.to_server(ends)
            of.append(8, "held")
        else:
            with pytest.raises(Violation, match="'held', which it holds"):
                of.append(8, "held")


def test_a_server_is_drained_once_all_is_answered_and_its_store_has_no_append_under_way() -> None:
    for is_answered, is_appended in ((True, True), (True, False), (False, True)):
        of = HandOver()
        of.to_server(produce(1, "a"), hold(), produce(2, "held"))
        of.append(7, "a")
        if is_appended:
            of.to_server(APPENDED)
        if is_answered:
            of.answer(Produced(1, Offset(0), Term(1), Index(0)))
        if is_answered and is_appended:
            of.drained()
        else:
            with pytest.raises(Violation, match="says that it is drained"):
                of.drained()


def test_an_answer_to_an_older_question_says_nothing_of_the_present_one() -> None:
    of = HandOver()
    of.to_server(hold(1), produce(1, "a"), ReleaseProduces(), hold(2))
    of.drained(1)
    with pytest.raises(Violation, match="says that it is drained"):
        of.drained(2)


def reached(*told: object) -> set[str]:
    """The states that n1's server reaches by what it is told, and by what it tells of requests (a pair)."""
    counts: dict[str, int] = {}
    states = HoldingStates(lambda state: counts.update({state: 1}))
    for message in told:
        is_answer = isinstance(message, Produced | RequestRefused | ProducesHeld)
        sender, receiver = ("n1.server", "c1") if is_answer else ("", "n1.server")
        handle = states.on_message.get(type(message))
        assert handle is not None
        handle(MessageTold(1.0, sender, receiver, message))
    return set(counts)


NOBODY = LeaderChanged(Term(2), None)
PRODUCED = Produced(1, Offset(0), Term(2), Index(0))


@pytest.mark.parametrize(
    ("told", "states"),
    [
        ((NOBODY, produce(1, "a"), LeaderChanged(Term(3), N1), PRODUCED), {"produce_held", "held_appended"}),
        ((NOBODY, produce(1, "a"), RequestRefused(1, Refusal.NOT_LEADER, "")), {"produce_held", "held_sent_on"}),
        ((NOBODY, produce(1, "a"), RequestRefused(1, Refusal.LEADER_UNKNOWN, "")), {"produce_held", "held_refused"}),
        ((NOBODY, produce(1, "a"), RequestRefused(1, Refusal.STOPPING, "")), {"produce_held"}),
        ((hold(), produce(1, "a"), ReleaseProduces()), {"produce_held", "hand_over_called_off"}),
        ((hold(), ReleaseProduces()), set()),
        ((hold(), ProducesHeld(1, is_drained=True)), {"hand_over_drained"}),
        ((hold(), ProducesHeld(1, is_drained=False)), {"hand_over_undrained"}),
        ((LeaderChanged(Term(2), N1), produce(1, "a"), PRODUCED), set()),
        ((LeaderChanged(Term(2), None, "n2 is gone"), produce(1, "a")), set()),
    ],
)
def test_a_state_is_noted_when_it_is_reached(told: tuple[object, ...], states: set[str]) -> None:
    assert reached(*told) == states
    assert states <= set(HOLDING_STATES)
