"""The election slot's two occupants that need no votes."""

from __future__ import annotations

import pytest

from ourolog.actors.config import NOBODY_ELECTED, ElectionChoice, NodeConfig
from ourolog.actors.election.none import NoElection
from ourolog.actors.election.static import StaticElection
from ourolog.actors.messages.election import HigherTermSeen, LeaderHinted
from ourolog.actors.messages.events import LeaderChanged, LogOpened, NobodyElected, VotersChanged
from ourolog.actors.messages.observer import FailureKind, NodeFailed
from ourolog.actors.messages.peer_calls import LogEndResponse
from ourolog.actors.messages.store import DescribeLog, LogDescribed, SaveBallot
from ourolog.actors.occupants import find_occupant, parse_election
from ourolog.actors.testing.election_conformance import ElectionConformance, Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import Place, Run, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
STATIC = parse_election("static:n1,n2,n3")


class TestNoElection(ElectionConformance):
    occupant = NoElection
    election = parse_election("none")


class TestStaticLeader(ElectionConformance):
    occupant = StaticElection
    election = STATIC
    node_id = N1


class TestStaticFollower(ElectionConformance):
    occupant = StaticElection
    election = STATIC
    node_id = N2


class TestStaticStandby(ElectionConformance):
    occupant = StaticElection
    election = STATIC
    node_id = NodeId("n9")
    informant = N1  # it believes no other of a later term


def slot_of(node_id: NodeId, election: ElectionChoice, ballot: Ballot) -> Slot:
    config = NodeConfig(node_id, "/data", "127.0.0.1:1", "127.0.0.1:2", election=election)
    return Slot(find_occupant(election.name), config, ballot)


def test_nobody_elected_is_said_once_and_nothing_is_saved() -> None:
    slot = slot_of(N1, NOBODY_ELECTED, Ballot())
    slot.open_log()
    assert slot.listener.received == [NobodyElected()]
    assert slot.store.received == []


def test_a_static_leader_takes_a_new_term_at_every_start() -> None:
    ballot = Ballot()
    for term in (1, 2, 3):
        slot = slot_of(N1, STATIC, ballot)
        slot.open_log()
        assert slot.listener.received[0] == VotersChanged((N1, N2, N3))
        assert slot.leaders()[0].leader_id is None
        assert slot.leaders()[-1] == LeaderChanged(Term(term), N1)
        ballot = slot.on_disk


def test_a_static_follower_keeps_its_term_when_it_restarts() -> None:
    slot = slot_of(N2, STATIC, Ballot(Term(4), N1, N1))
    slot.open_log()
    assert slot.store.all(SaveBallot) == []
    assert slot.leaders() == [LeaderChanged(Term(4), N1)]


def test_another_decree_is_a_new_term() -> None:
    slot = slot_of(N2, parse_election("static:n3,n2"), Ballot(Term(4), N1, N1))
    slot.open_log()
    assert slot.leaders() == [LeaderChanged(Term(5), N3)]


def test_another_decree_is_no_new_term_for_a_node_that_does_not_vote() -> None:
    slot = slot_of(N2, parse_election("static:n3"), Ballot(Term(4), N1, N1))
    slot.open_log()
    asking = LeaderChanged(Term(4), None, "n2 asks the voters in which term n3 leads")
    assert slot.leaders() == [asking]
    slot.ref.tell(HigherTermSeen(Term(5), N3, N3))
    slot.settle()
    assert slot.leaders() == [asking, LeaderChanged(Term(5), N3)]
    assert slot.on_disk == Ballot(Term(5), None, N3)


def test_a_node_that_does_not_vote_believes_its_leader_alone_of_a_later_term() -> None:
    slot = slot_of(N2, parse_election("static:n3,n1"), Ballot(Term(4), None, N3))
    slot.open_log()
    for leader_id in (N1, N3, None):
        slot.ref.tell(HigherTermSeen(Term(6), leader_id, N1))
        slot.settle()
    assert (slot.on_disk, slot.leaders()) == (Ballot(Term(4), None, N3), [LeaderChanged(Term(4), N3)])
    slot.ref.tell(HigherTermSeen(Term(5), None, N3))
    slot.settle()
    assert (slot.on_disk, slot.leaders()[-1].leader_id) == (Ballot(Term(5)), None)
    slot.ref.tell(LeaderHinted(Term(5), N3, N1))
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(5), N3)


def test_a_node_that_does_not_vote_believes_a_hint_of_its_decreed_leader_alone_and_in_its_own_term() -> None:
    slot = slot_of(N2, parse_election("static:n3"), Ballot(Term(4), None, None))
    slot.open_log()
    for hint in (LeaderHinted(Term(4), N1, N3), LeaderHinted(Term(3), N3, N3)):
        slot.ref.tell(hint)
        slot.settle()
    assert [changed.leader_id for changed in slot.leaders()] == [None]
    slot.ref.tell(LeaderHinted(Term(4), N3, N3))
    slot.settle()
    assert slot.leaders()[-1] == LeaderChanged(Term(4), N3)


def test_a_follower_adopts_the_term_it_hears_of_and_a_leader_goes_past_it() -> None:
    for node_id, expected in ((N2, 9), (N1, 10)):
        slot = slot_of(node_id, STATIC, Ballot(Term(4), N1, N1))
        slot.open_log()
        slot.ref.tell(HigherTermSeen(Term(9), N1, N3))
        slot.settle()
        assert slot.leaders()[-1] == LeaderChanged(Term(expected), N1)


def observed(slot: Slot) -> Probe:
    observer = slot.ref._actor_weakref().observer
    assert isinstance(observer, Probe)
    return observer


@pytest.mark.parametrize("node_id", [N2, NodeId("n9")])
def test_a_follower_refuses_a_log_from_a_time_without_a_leader(node_id: NodeId) -> None:
    slot = slot_of(node_id, STATIC, Ballot())
    end = Position(Index(3), Offset(3))
    slot.ref.tell(LogOpened(START, end, TermHistory((Run(Term(0), (N2, 0), Index(0)),)), 1, Ballot(), (), START))
    slot.settle()
    failed = observed(slot).last(NodeFailed)
    assert failed.kind is FailureKind.REFUSED_TO_RUN
    assert "a time without a leader" in failed.reason
    assert slot.listener.received == []


def test_a_log_that_had_a_leader_is_not_opened_without_one() -> None:
    slot = slot_of(N1, NOBODY_ELECTED, Ballot(Term(2), N1, N1))
    slot.open_log()
    assert "term 2" in observed(slot).last(NodeFailed).reason
    assert slot.listener.received == []


def test_entries_with_terms_are_not_opened_without_a_leader_even_if_the_ballot_is_gone() -> None:
    slot = slot_of(N1, NOBODY_ELECTED, Ballot())
    end = Position(Index(3), Offset(3))
    slot.ref.tell(LogOpened(START, end, TermHistory((Run(Term(1), (N1, 1), Index(0)),)), 1, Ballot(), (), START))
    slot.settle()
    assert "term 1" in observed(slot).last(NodeFailed).reason


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("static", "needs a leader"),
        ("static:", "needs a leader"),
        ("static:n1,n1", "twice"),
        ("static:n 1", "node id"),
        ("paxos", "unknown election"),
        ("none:n1", "none takes nothing"),
        ("static:n1,\nn2", "one line"),
    ],
)
def test_a_wrong_election_is_refused_with_a_sentence(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_election(text)


def test_a_leader_whose_log_grows_while_it_asks_is_not_behind_who_copied_that_from_it() -> None:
    slot = slot_of(N1, STATIC, Ballot())
    slot.open_log()
    slot.settle(seconds=1)
    assert slot.leaders()[-1] == LeaderChanged(Term(1), N1)
    slot.disk_answers, slot.peers = False, {}
    own = Place(Term(1), (N1, 1))

    def store_says(entries: int) -> None:
        slot.runtime.run_until_idle()
        asked = slot.store.last(DescribeLog)
        end = Position(Index(entries), Offset(entries))
        asked.reply_to.tell(LogDescribed(asked.request_id, slot.on_disk, START, end, own, START, None))
        slot.runtime.run_until_idle()

    # Somebody is in a later term, so that the leader asks once more, and goes on appending.
    slot.ref.tell(HigherTermSeen(Term(7), None, N3))
    store_says(10)
    slot.network.take(N2).answer(LogEndResponse(N2, 2, Term(1), N1, Position(Index(12), Offset(12)), own, START))
    store_says(12)
    assert slot.leaders()[-1] == LeaderChanged(Term(1), N1)
    assert slot.store.last(SaveBallot).ballot == Ballot(Term(8), N1, N1)
