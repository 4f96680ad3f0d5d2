"""What a server has taken goes to its store soon: the claim, told by scenes."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import ClaimsDisputed, HoldProduces, LeaderChanged, NobodyElected
from ourolog.actors.messages.server import CancelRequest, GatherExpired, Produce, Refusal, RequestRefused
from ourolog.actors.messages.store import AppendBatch
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Violation
from ourolog.simulation.events import MessageTold
from ourolog.simulation.holding_states import HoldingStates
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import NodeId, Term
from tests.simulation.scene import Scene

N1, N2 = NodeId("n1"), NodeId("n2")
LATE = "has not told its store of produce 1"


def batch(*values: str) -> NewBatch:
    return NewBatch(b"".join(encode_record(value.encode()) for value in values), len(values))


def taken(election: str = "static:n1,n2,n3", first: object = LeaderChanged(Term(1), N1)) -> Scene:
    """n1 takes produce 1."""
    scene = Scene("produces_handed_on")
    scene.start("n1", election)
    scene.tell("", "n1.server", first)
    scene.tell("", "n1.server", Produce(1, batch("a"), Acks.QUORUM, 5.0, Probe()))
    return scene


def test_a_produce_that_is_not_handed_on_is_seen() -> None:
    for scene in (taken(), taken("none", NobodyElected())):
        with pytest.raises(Violation, match=LATE):
            scene.wait(2.0)


def test_one_of_several_in_one_append_is_handed_on_and_one_that_is_left_out_is_seen() -> None:
    for values, is_whole in ((("a", "b"), True), (("b",), False)):
        scene = taken()
        scene.tell("", "n1.server", Produce(2, batch("b"), Acks.QUORUM, 5.0, Probe()))
        scene.tell("n1.server", "n1.store", AppendBatch(1, batch(*values), Term(1), Probe()))
        if is_whole:
            scene.wait(2.0)
        else:
            with pytest.raises(Violation, match=LATE):
                scene.wait(2.0)


@pytest.mark.parametrize(
    ("sender", "receiver", "message"),
    [
        ("n1.server", "c1", RequestRefused(1, Refusal.TIMED_OUT, "")),
        ("", "n1.server", CancelRequest(1, Probe())),
        ("n1.election", "n1.server", LeaderChanged(Term(2), N2)),
        ("n1.election", "n1.server", HoldProduces(1, 1.0, Probe())),
        ("n1.election", "n1.server", ClaimsDisputed("n2 claims it, too")),
    ],
)
def test_what_is_refused_given_up_or_held_need_not_be_handed_on(sender: str, receiver: str, message: object) -> None:
    scene = taken()
    scene.tell(sender, receiver, message)
    scene.wait(2.0)


def test_a_node_that_does_not_lead_takes_nothing() -> None:
    taken(first=LeaderChanged(Term(1), N2)).wait(2.0)


def test_a_wait_for_company_that_is_over_is_noted() -> None:
    seen: set[str] = set()
    states = HoldingStates(seen.add)
    states.on_message[GatherExpired](MessageTold(0.0, "", "n1.server", GatherExpired()))
    assert seen == {"gather_expired"}
