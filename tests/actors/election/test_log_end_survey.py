"""Where voters' logs end: who is told, and what the decreed leader that asks makes of the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.log_end_survey import AGAIN_AFTER_S
from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import NodeWarned
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallRefused,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.store import DescribeLog
from ourolog.actors.occupants import find_occupant, parse_election
from ourolog.actors.testing.election_conformance import Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import Place, Writer
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
THREE = "static:n1,n2,n3"


def slot_of(node_id: NodeId, election: str = THREE, ballot: Ballot = Ballot()) -> Slot:  # noqa: B008
    choice = parse_election(election)
    config = NodeConfig(node_id, "/data", "127.0.0.1:1", "127.0.0.1:2", election=choice)
    return Slot(find_occupant(choice.name), config, ballot)


def at(index: int) -> Position:
    return Position(Index(index), Offset(index))


def response(voter: NodeId, end: int = 0, term: int = 1, writer: Writer = (N1, 1)) -> LogEndResponse:
    return LogEndResponse(voter, 2, Term(term), None, at(end), Place(Term(term), writer) if end else None, START)


# ---------------------------------------------------------------- who asks


def asking(election: str = THREE, *, end: int = 3) -> Slot:
    """n1 in term 1 with that many entries that it made itself; peers that a test does not put back are silent."""
    slot = slot_of(N1, election, Ballot(Term(1), N1, N1))
    slot.end, slot.last = at(end), Place(Term(1), (N1, 1)) if end else None
    slot.peers.clear()
    slot.open_log()
    return slot


def warned(slot: Slot) -> list[str]:
    observer = slot.ref._actor_weakref().observer
    assert isinstance(observer, Probe)
    return [warning.reason for warning in observer.all(NodeWarned)]


def test_a_voter_with_another_maker_s_entry_at_the_same_end_keeps_the_lead_from_it() -> None:
    slot = asking()
    slot.peers[N2] = response(N2, 3, writer=(N3, 7))
    slot.settle()
    (withheld,) = slot.leaders()[1:]
    assert (withheld.leader_id, withheld.needs_person) == (None, True)
    assert "n2 has another entry than this node at index 2 of term 1" in withheld.why_nobody
    assert warned(slot) == [withheld.why_nobody]


@pytest.mark.parametrize("end", [0, 2, 3])
def test_a_voter_that_has_nothing_else_lets_it_lead(end: int) -> None:
    slot = asking()
    slot.peers[N2] = response(N2, end)
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(2), N1)


@pytest.mark.parametrize(("election", "enough"), [(THREE, 1), ("static:n1,n2,n3,n4", 2), ("static:n1,n2", 1)])
def test_it_leads_with_the_answer_that_makes_a_majority_and_not_before(election: str, enough: int) -> None:
    slot = asking(election)
    for number, voter in enumerate((N2, N3, N4)[:enough], 1):
        assert slot.leaders()[-1].leader_id is None
        slot.peers[voter] = response(voter, 3)
        slot.settle()
        assert (slot.leaders()[-1].leader_id == N1) is (number == enough)


def test_what_was_answered_in_one_round_does_not_count_in_the_next() -> None:
    slot = asking("static:n1,n2,n3,n4,n5")
    for answering in (N2, N3, N4, N2):
        assert {call.peer.node_id for call in slot.network.open} == {N2, N3, N4, N5}
        for call in list(slot.network.open):
            slot.network.open.remove(call)
            if call.peer.node_id == answering:
                call.answer(response(answering, 3))
            else:
                call.fail("it is down")
        slot.settle()
        assert slot.leaders()[-1].leader_id is None
        slot.settle(AGAIN_AFTER_S)
        slot.settle()


def test_what_was_answered_before_it_led_does_not_count_when_it_asks_again() -> None:
    slot = asking()
    slot.peers[N2] = response(N2, 3)
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(2), N1)
    slot.peers.clear()
    slot.ref.tell(HigherTermSeen(Term(9), None, N3))
    slot.settle(1.0)
    assert slot.leaders()[-1] == LeaderChanged(Term(2), N1)
    slot.peers[N2] = response(N2, 3)
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(10), N1)


# ---------------------------------------------------------------- who is asked


def answers(slot: Slot, request: LogEndRequest) -> list[LogEndResponse | CallRefused]:
    """What the node says to that question."""
    asker = Probe()
    slot.ref.tell(CallReceived(7, request, asker))
    slot.settle()
    found = asker.all(CallAnswer)
    assert [answer.request_id for answer in found] == [7]
    return [answer.response for answer in found]


def question(slot: Slot) -> LogEndRequest:
    return LogEndRequest(slot.config.cluster, N1, 4, slot.config.election.claimed, Term(3))


def test_a_voter_says_what_is_on_its_disk_to_who_runs_by_the_same_decree() -> None:
    slot = slot_of(N2, ballot=Ballot(Term(5), N1, N1))
    slot.open_log()
    slot.end, slot.last = at(12), Place(Term(4), (N1, 1))
    (answer,) = answers(slot, question(slot))
    assert answer == LogEndResponse(N2, 1, Term(5), N1, at(12), Place(Term(4), (N1, 1)), START)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"election": "static:n3,n2,n1"}, f"n2 runs with --election {THREE}, n1 with static:n3,n2,n1"),
        ({"election": "static:n1,n2"}, f"n2 runs with --election {THREE}, n1 with static:n1,n2"),
        ({"election": "none"}, f"n2 runs with --election {THREE}, n1 with none"),
        ({"cluster": "another"}, "n2 is of cluster 'ourolog', n1 of 'another'"),
    ],
)
def test_a_node_of_another_decree_or_cluster_is_told_so_and_not_where_the_log_ends(
    changed: dict[str, str], why: str
) -> None:
    slot = slot_of(N2, ballot=Ballot(Term(5), N1, N1))
    slot.open_log()
    assert answers(slot, replace(question(slot), **changed)) == [CallRefused(why)]  # type: ignore[arg-type]
    assert slot.store.all(DescribeLog) == []


def test_a_node_that_is_starting_is_asked_again_later() -> None:
    slot = slot_of(N2, ballot=Ballot(Term(5), N1, N1))
    assert answers(slot, question(slot)) == [CallRefused("n2 is starting")]
    assert slot.store.all(DescribeLog) == []
