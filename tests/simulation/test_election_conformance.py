"""The conformance suite of several nodes: right elections pass, and each that breaks a promise turns its test red."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from ourolog.actors.election.none import NoElection
from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.peer_calls import CALL_KINDS
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.election_conformance import ElectionConformance
from ourolog.simulation import simulate
from ourolog.simulation.checkers import following
from ourolog.simulation.election_conformance import ElectionCluster, ElectionClusterConformance
from ourolog.simulation.options import Options
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import LastEntry
from tests.simulation import voting_elections
from tests.simulation.voting_elections import VotingElection


@pytest.fixture(scope="module", autouse=True)
def elections(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every election of voting_elections, installed under the name of its class; and its calls are carried."""
    info = tmp_path_factory.mktemp("elections") / "voting_elections-1.dist-info"
    info.mkdir()
    classes = [
        name
        for name, found in vars(voting_elections).items()
        if inspect.isclass(found) and issubclass(found, ElectionActor) and found.__module__ == voting_elections.__name__
    ]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: voting_elections\nVersion: 1\n")
    points = "\n".join(f"{name} = {voting_elections.__name__}:{name}" for name in classes)
    (info / "entry_points.txt").write_text(f"[ourolog.elections]\n{points}\n")
    kinds = {**CALL_KINDS, **voting_elections.KINDS}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(info.parent))
        patch.setattr("ourolog.simulation.network.CALL_KINDS", kinds)
        patch.setattr("ourolog.actors.election.occupant.CALL_KINDS", kinds)
        asked_by = following._ASKED_BY | {kind.name: str(kind.answered_by) for kind in voting_elections.KINDS.values()}
        patch.setattr(following, "_ASKED_BY", asked_by)
        yield


class TestVotingElectionAlone(ElectionConformance):
    occupant = VotingElection
    election = VotingElection.choose("VotingElection", "n1,n2,n3")


class TestVotingElection(ElectionClusterConformance):
    election = "VotingElection:n1,n2,n3"


class TestStaticElection(ElectionClusterConformance):
    election = "static:n2,n1,n3"


class TestNoElection(ElectionClusterConformance):
    election = "none"


BROKEN = [
    ("KeepsVotesInMemory", "test_a_vote_is_not_given_again_in_its_term_after_a_power_cut", "one_leader_a_term"),
    ("KeepsVotesInMemory", "test_nobody_leads_before_a_majority_has_voted_for_it_on_disk", "hold a vote for it"),
    ("BelievesEveryAnswer", "test_two_who_stand_at_once_do_not_both_lead", "leader_completeness|one_leader_a_term"),
    ("LeadsAlone", "test_a_term_has_one_leader_whoever_is_cut_off_from_whom", "one_leader_a_term"),
    ("VotesForAnybody", "test_who_lacks_what_a_majority_acknowledged_does_not_lead", "leader_completeness"),
    ("RemembersItsEnd", "test_who_lacks_what_a_majority_acknowledged_does_not_lead", "leader_completeness"),
    ("ComparesLengths", "test_who_has_the_longer_log_of_an_older_term_does_not_lead", "leader_completeness"),
    ("LeadsUnheard", "test_a_leader_that_a_majority_has_left_does_not_go_on_leading", "goes on leading for 30 s"),
    ("GivesUp", "test_one_leads_again_whatever_was_broken", "have no leader for 30 s"),
    ("IgnoresLaterTerms", "test_one_leads_again_whatever_was_broken", "have no leader for 30 s"),
    ("SaysNothingAfterARestart", "test_one_leads_again_whatever_was_broken", "never said whether they serve"),
    ("LeadsOnce", "test_one_leads_again_whatever_was_broken", "have no leader for 30 s"),
    (
        "LeadsWhereNobodyShould",
        "test_where_nobody_is_elected_nobody_leads_and_what_was_apart_comes_together",
        "nobody is elected, and n1 says that it leads",
    ),
]


@pytest.mark.parametrize(("name", "red", "why"), BROKEN)
def test_an_election_that_breaks_a_promise_turns_the_test_of_it_red(name: str, red: str, why: str) -> None:
    argument = "" if issubclass(getattr(voting_elections, name), NoElection) else ":n1,n2,n3"
    suite: Any = type("Suite", (ElectionClusterConformance,), {"election": f"{name}{argument}"})()
    with pytest.raises(AssertionError, match=why):
        getattr(suite, red)()


def test_a_store_that_votes_twice_in_a_term_is_seen_on_its_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def may_vote(_: StoreActor, asked: Ballot, candidates: LastEntry, own: LastEntry) -> bool:
        return candidates >= own

    class Unwatched(ElectionClusterConformance):
        election = "VotingElection:n1,n2,n3"

        def cluster(self, seed: int) -> ElectionCluster:
            return ElectionCluster(self.election, seed, self.leads_within_s, checkers=())

    monkeypatch.setattr(StoreActor, "_may_vote", may_vote)
    with pytest.raises(AssertionError, match="for whom their disks have voted"):
        Unwatched().test_a_disk_holds_one_vote_a_term_wherever_the_power_is_cut()


def test_every_test_of_the_suite_is_turned_red_by_something() -> None:
    named = {red for _, red, _ in BROKEN} | {"test_a_disk_holds_one_vote_a_term_wherever_the_power_is_cut"}
    assert named == {name for name in dir(ElectionClusterConformance) if name.startswith("test_")}


@pytest.mark.parametrize("seed", range(4))
def test_the_right_one_comes_through_whole_simulations(seed: int) -> None:
    result = simulate(Options(seed, election="VotingElection:n1,n2,n3", minutes=0.5))
    assert result.violations == ()
