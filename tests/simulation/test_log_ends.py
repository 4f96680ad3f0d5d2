"""What a node says of where its log ends, when another one asks: held against its disk."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.election.static import StaticElection
from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned, LogEndRequest, LogEndResponse
from ourolog.actors.messages.store import LogDescribed
from ourolog.actors.messages.values import Peer
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import Operation, OperationKind
from ourolog.simulation.links import Chances
from ourolog.simulation.network import NodeNetwork
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import Place
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, Scene, ballot_saved, batch, sized

ASKED = LogEndRequest("ourolog", N2, EPOCH, "static:n1,n2,n3", Term(0))


def at(index: int) -> Position:
    return Position(Index(index), Offset(index))


def answer(request_id: int, end: int, **changed: Any) -> CallAnswer[LogEndResponse]:
    fields: dict[str, Any] = {
        "node_id": N1,
        "log_epoch": EPOCH,
        "term": Term(0),
        "leader_id": None,
        "end": at(end),
        "last": Place(Term(0), (N1, EPOCH)) if end else None,
        "committed": START,
        **changed,
    }
    return CallAnswer(request_id, LogEndResponse(**fields))


def asked_with_two_entries() -> Scene:
    """n1 has two entries on its disk, and n2 has asked it with request 1."""
    scene = Scene("log_ends_true")
    scene.start("n1", "static:n1,n2")
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.tell("", "n1.election", CallReceived(1, ASKED, Probe()))
    return scene


def test_an_end_is_that_of_the_question_or_any_that_was_reached_on_disk_before_the_answer() -> None:
    for end in (2, 3):
        scene = asked_with_two_entries()
        scene.append("n1", batch(2, "c"))
        scene.tell("n1.election", "n2", answer(1, end))
        scene.tell("", "n1.election", CallReceived(2, ASKED, Probe()))
        with pytest.raises(Violation, match="ends at index 1, where all below 3"):
            scene.tell("n1.election", "n2", answer(2, 1))


def test_an_end_that_is_not_on_disk_is_seen() -> None:
    scene = asked_with_two_entries()
    scene.append("n1", batch(2, "c"), sync=False)
    with pytest.raises(Violation, match="never more than what is below 2"):
        scene.tell("n1.election", "n2", answer(1, 3))


def test_a_log_that_is_cut_meanwhile_may_end_where_it_was_cut() -> None:
    scene = asked_with_two_entries()
    scene.truncate("n1", sized(batch(0, "a")))
    scene.tell("n1.election", "n2", answer(1, 1))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"last": Place(Term(3), (N1, EPOCH))}, "its last entry 1 is"),
        ({"last": None}, "its last entry 1 is None"),
        ({"log_epoch": EPOCH + 1}, "that of epoch"),
        ({"term": Term(4)}, "in term 4, and had promised 5"),
    ],
)
def test_another_place_disk_or_term_is_seen(changed: dict[str, Any], what: str) -> None:
    scene = Scene("log_ends_true")
    scene.start("n1", "static:n1,n2", ballot=Ballot(Term(2), N1, N1))
    scene.append("n1", batch(0, "a"), batch(1, "b"))
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(5), N1, N1)))
    scene.tell("", "n1.election", CallReceived(1, ASKED, Probe()))
    with pytest.raises(Violation, match=what):
        scene.tell("n1.election", "n2", answer(1, 2, **{"term": Term(5), **changed}))


# ---------------------------------------------------------------- in a cluster


def played(cluster: Cluster) -> list[Any]:
    """Produces all the time, lost packets and a power cut, while n3 asks the two others where their logs end."""
    answers, request_ids = Probe(), itertools.count(1)
    network = NodeNetwork(cluster.network, NodeId("n3"), "n3:8401")
    cluster.network.links.chances = Chances(loss=0.05, duplicate=0.05, replay=0.05)
    for number in range(60):
        value = f"record {number}".encode()
        cluster.calls.produce("app", N1, Operation(OperationKind.PRODUCE, value), 5.0, lambda *_: None)
        for name in ("n1", "n2"):
            network.call(Peer(NodeId(name), f"{name}:8400"), next(request_ids), ASKED, answers)
        cluster.run_for(0.01)
        if number == 30:
            cluster.crash("n2", power=True)
            cluster.restart("n2")
    cluster.network.links.heal()
    cluster.run_for(8.0)
    return answers.all(CallReturned)


@pytest.mark.parametrize("seed", range(5))
def test_elections_that_ask_their_store_tell_the_truth(seed: int) -> None:
    with Cluster(seed, nodes=3, election="static") as cluster:
        returned = played(cluster)
    assert len(returned) > 60
    assert len({answered.response.end for answered in returned}) > 10


def test_an_election_that_says_what_it_remembers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[NodeId, LogOpened] = {}
    on_log_opened, on_described = StaticElection._on_log_opened, StaticElection._on_described

    def remember(self: StaticElection, message: LogOpened) -> None:
        opened[self.node_id] = message
        on_log_opened(self, message)

    def remembered(self: StaticElection, described: LogDescribed) -> None:
        if described.request_id in self._asking:
            then = opened[self.node_id]
            described = replace(described, end=then.end, last=then.terms.last_place)
        on_described(self, described)

    monkeypatch.setattr(StaticElection, "_on_log_opened", remember)
    monkeypatch.setattr(StaticElection, "_on_described", remembered)
    with pytest.raises(Violation, match="log_ends_true"), Cluster(1, nodes=3, election="static") as cluster:
        played(cluster)
