"""The oracle: its changes of leader are safe, and without that they are noticed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged, VotersChanged
from ourolog.actors.messages.store import AppendControl, SaveBallot
from ourolog.actors.occupants import parse_election
from ourolog.actors.testing.election_conformance import ElectionConformance, Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Cluster, Options, simulate
from ourolog.simulation.events import Event, FaultInjected, LeaderDecided
from ourolog.simulation.oracle import Oracle
from ourolog.simulation.oracle_election import (
    ORACLE,
    DiskTrusted,
    LeaderTold,
    LeadGiven,
    OracleElection,
    VoteAsked,
    VotersWanted,
    VoteSaved,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VotersSet
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
VOTERS = OracleElection.choose(ORACLE, "n1,n2,n3")


class TestOracleElection(ElectionConformance):
    occupant = OracleElection
    election = VOTERS


def slot_of(ballot: Ballot = Ballot(), *, trusted: bool = True) -> Slot:  # noqa: B008
    slot = Slot(OracleElection, NodeConfig(N1, "/data", "n1:1", "n1:2", election=VOTERS), ballot)
    if trusted:
        slot.ref.tell(DiskTrusted())
    slot.open_log()
    return slot


def last(slot: Slot) -> tuple[int, NodeId | None]:
    changed = slot.listener.last(LeaderChanged)
    return changed.term, changed.leader_id


def stands(term: int, oracle: Probe) -> VoteAsked:
    return VoteAsked(Term(term), N1, None, oracle)


def votes(term: int, candidate_id: NodeId, oracle: Probe, last: tuple[int, int] = (0, 0)) -> VoteAsked:
    return VoteAsked(Term(term), candidate_id, LastEntry(Term(last[0]), Index(last[1])), oracle)


EMPTY = LastEntry(Term(0), Index(0))


def test_a_vote_is_answered_once_it_is_on_disk_and_ends_the_older_term() -> None:
    slot, oracle = slot_of(), Probe()
    slot.disk_answers = False
    slot.ref.tell(votes(3, N2, oracle))
    slot.settle(seconds=5)
    asked = slot.store.last(SaveBallot)
    assert (asked.ballot, asked.candidate, oracle.received) == (Ballot(Term(3), N2), EMPTY, [])
    slot.disk_answers = True
    slot.settle(seconds=5)
    assert oracle.received == [VoteSaved(Term(3), True, EMPTY)]
    slot.settle(seconds=5)
    assert last(slot) == (3, None)


def test_a_vote_that_is_refused_is_said_and_a_later_term_is_announced_all_the_same() -> None:
    slot, oracle = slot_of(Ballot(Term(3), N2)), Probe()
    slot.ref.tell(votes(3, N3, oracle))
    slot.ref.tell(votes(2, N3, oracle))
    slot.settle(seconds=5)
    assert oracle.received == [VoteSaved(Term(3), False, EMPTY), VoteSaved(Term(2), False, EMPTY)]
    assert last(slot) == (3, None)
    slot.end, slot.last = Position(Index(7), Offset(7)), Place(Term(3), (N1, 1))
    slot.ref.tell(votes(4, N3, oracle, (2, 9)))
    slot.settle(seconds=5)
    slot.settle(seconds=5)
    assert oracle.received[-1] == VoteSaved(Term(4), False, LastEntry(Term(3), Index(7)))
    assert (slot.on_disk, last(slot)) == (Ballot(Term(4)), (4, None))


def test_who_stands_votes_for_itself_and_once_it_is_given_the_lead_announces_it() -> None:
    slot, oracle = slot_of(), Probe()
    slot.ref.tell(stands(3, oracle))
    slot.settle(seconds=5)
    assert (slot.store.last(SaveBallot).candidate, slot.on_disk) == (None, Ballot(Term(3), N1))
    slot.ref.tell(LeadGiven(Term(3)))
    slot.settle(seconds=5)
    assert (slot.on_disk, last(slot)) == (Ballot(Term(3), N1, N1), (3, N1))


def test_who_has_voted_for_another_does_not_take_the_lead() -> None:
    slot, oracle = slot_of(), Probe()
    slot.ref.tell(votes(3, N2, oracle))
    slot.ref.tell(LeadGiven(Term(3)))
    slot.settle()
    slot.settle(seconds=5)
    assert last(slot) == (3, None)


def test_the_lead_of_a_term_that_is_over_is_not_taken() -> None:
    slot, oracle = slot_of(), Probe()
    slot.ref.tell(stands(3, oracle))
    slot.ref.tell(stands(4, oracle))
    slot.ref.tell(LeadGiven(Term(3)))
    slot.settle()
    slot.settle(seconds=5)
    assert last(slot) == (4, None)


def test_a_leader_writes_who_votes_and_nobody_else_does() -> None:
    slot, oracle = slot_of(), Probe()
    slot.ref.tell(VotersWanted(Term(0)))
    slot.ref.tell(stands(3, oracle))
    slot.ref.tell(LeadGiven(Term(3)))
    slot.settle(seconds=5)
    slot.ref.tell(VotersWanted(Term(2)))
    slot.settle()
    assert slot.store.all(AppendControl) == []
    slot.ref.tell(VotersWanted(Term(3)))
    slot.settle()
    (append,) = slot.store.all(AppendControl)
    assert isinstance(append.entry, VotersSet)
    assert ([voter.node_id for voter in append.entry.voters], append.term) == ([N1, N2, N3], 3)


def test_who_led_and_was_started_again_does_not_lead_again_in_that_term() -> None:
    slot = slot_of(Ballot(Term(3), N1, N1))
    assert last(slot) == (3, None)
    slot.ref.tell(LeadGiven(Term(3)))
    slot.ref.tell(LeaderTold(Term(3), N1))
    slot.settle(seconds=5)
    assert last(slot) == (3, None)


def test_a_restart_says_again_what_the_ballot_says_only_if_the_disk_is_what_it_was() -> None:
    ballot = Ballot(Term(3), N2, N2)
    trusted, forgetful = slot_of(ballot), slot_of(ballot, trusted=False)
    assert last(forgetful) == (3, None)
    for slot in (trusted, forgetful):
        slot.ref.tell(LeaderTold(Term(3), N2))
        slot.settle(seconds=5)
        assert last(slot) == (3, N2)
        assert slot.listener.received[0] == VotersChanged((N1, N2, N3))


def test_a_newer_term_is_learnt_from_others_and_with_it_who_leads() -> None:
    slot = slot_of()
    slot.ref.tell(HigherTermSeen(Term(5), N3, N2))
    slot.settle(seconds=5)
    assert (slot.on_disk, last(slot)) == (Ballot(Term(5), None, N3), (5, N3))
    slot.ref.tell(HigherTermSeen(Term(6), N1, N2))
    slot.settle(seconds=5)
    assert last(slot) == (6, None), "it does not know that it leads, so it has lost what it led with"


def test_nothing_is_promised_before_the_disk_has_said_what_was_promised_before() -> None:
    slot = Slot(OracleElection, NodeConfig(N1, "/data", "n1:1", "n1:2", election=VOTERS), Ballot(Term(7)))
    for early in (votes(3, N2, Probe()), LeadGiven(Term(3)), LeaderTold(Term(3), N2)):
        slot.ref.tell(early)
    slot.open_log()
    slot.settle(seconds=5)
    assert slot.store.all(SaveBallot) == []


@pytest.mark.parametrize("text", ["oracle", "oracle:n1", "oracle:n1,n2,n3"])
def test_no_node_can_be_started_with_an_oracle(text: str) -> None:
    with pytest.raises(ValueError, match="unknown election"):
        parse_election(text)
    assert Options(1, election=text).has_oracle


# ---------------------------------------------------------------- whole clusters


def decided(seed: int, **options: Any) -> list[LeaderDecided]:
    seen: list[LeaderDecided] = []

    def observe(event: Event) -> None:
        if isinstance(event, LeaderDecided):
            seen.append(event)

    result = simulate(Options(seed, election=ORACLE, **options), observers=(observe,))
    assert result.violations == ()
    return seen


def test_leaders_change_often_each_in_a_term_of_its_own_and_of_a_majority() -> None:
    changes = [change for seed in range(5) for change in decided(seed, faults=(), minutes=0.5, operations=30)]
    assert len(changes) > 50
    assert {change.leader_id for change in changes} == {N1, N2, N3}
    assert all(len(change.voters) >= 2 and change.leader_id in change.voters for change in changes)
    assert {voter for change in changes if len(change.voters) == 2 for voter in change.voters} == {N1, N2, N3}


def test_without_faults_no_term_is_found_a_leader_for_twice() -> None:
    terms = [change.term for change in decided(3, faults=(), minutes=2.0, operations=30)]
    assert len(terms) == len(set(terms)) > 5


def test_who_has_what_was_acknowledged_leads() -> None:
    with Cluster(seed=1, election=ORACLE) as cluster:
        assert cluster.oracle is not None
        cluster.oracle.change()
        cluster.run_until(lambda: cluster.leader_id is not None)
        client = cluster.client()
        offset = client.produce(b"precious")
        stale = next(name for name in cluster.names if name != cluster.leader_id)
        cluster.crash(stale, power=True)
        offset = client.produce(b"precious, too")
        for _ in range(5):
            cluster.oracle.change()
            cluster.run_for(3.0)
            assert cluster.leader_id != stale
        cluster.restart(stale)
        for _ in range(8):
            cluster.oracle.change()
            cluster.run_for(3.0)
        assert client.consume(offset) == b"precious, too"


def test_who_lost_its_disk_has_no_vote_until_it_has_all_again() -> None:
    lost: dict[NodeId, float] = {}
    early: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, FaultInjected) and event.kind == "disk_lost":
            lost[NodeId(event.where)] = event.time_s
        elif isinstance(event, LeaderDecided):
            early.extend(voter for voter in event.voters if event.time_s - lost.get(voter, -10.0) < 3.0)

    for seed in range(6):
        lost.clear()
        options = Options(seed, election=ORACLE, faults=("disk_lost", "kill"), minutes=0.5, operations=30)
        simulate(options, checkers=(), observers=(observe,))
        assert early == []
    assert lost


def is_noticed(seeds: Iterable[int]) -> bool:
    return any(simulate(Options(seed, election=ORACLE, minutes=0.5)).violations for seed in seeds)


def test_an_oracle_that_lets_whoever_stands_lead_without_votes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Oracle, "has_won", lambda self, candidate_id, votes: candidate_id in votes)
    assert is_noticed(range(40))


def test_who_is_refused_for_a_short_log_lets_a_better_one_lead_before_long() -> None:
    with Cluster(seed=1, election=ORACLE) as cluster:
        assert cluster.oracle is not None
        cluster.oracle.change()
        cluster.run_until(lambda: cluster.leader_id is not None)
        first = cluster.leader_id
        stale = next(name for name in cluster.names if name != first)
        cluster.crash(stale)
        cluster.client().produce(b"precious")
        cluster.partition([stale], [name for name in cluster.names if name != stale])
        cluster.restart(stale)
        cluster.run_for(1.0)
        cluster.oracle.change(NodeId(stale))
        cluster.run_for(5.0)
        assert cluster.oracle.leader_id not in (None, stale)
        assert cluster.oracle.term > 1
        assert cluster.states.counts["vote_refused_short_log"] >= 1


def test_an_oracle_that_counts_less_than_a_majority_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Oracle, "_majority", 1)
    assert is_noticed(range(40))
