"""People decree other leaders in mid-run: what holds whoever is decreed, and that a breach of it is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from ourolog.actors.election.claims import Claims
from ourolog.actors.messages.events import ClaimsDisputed, LeaderChanged
from ourolog.actors.occupants import parse_election
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.server import ServerActor
from ourolog.simulation import Cluster, Options, OutOfRangeError, Violation, simulate
from ourolog.simulation.checkers import default_checkers
from ourolog.simulation.events import Event, NodeStarted, Phase, PhaseBegan
from ourolog.simulation.reach import mode_of
from ourolog.storage.types import START, NodeId


def test_decrees_are_a_mode_of_their_own_that_nodes_know_as_static() -> None:
    options = Options(1, nodes=5, election="decrees")
    assert (str(options.election_choice()), options.decrees_change) == ("static:n1,n2,n3", True)
    assert not Options(1, election="static").decrees_change
    assert mode_of(options) == "decrees"
    assert str(Options(1, election="decrees:n2,n3").election_choice()) == "static:n2,n3"
    with pytest.raises(ValueError, match="unknown election"):
        parse_election("decrees:n1")


def test_what_nobody_can_promise_under_changing_decrees_is_not_claimed_and_the_rest_is() -> None:
    fixed = {checker.name for checker in default_checkers(Options(1, election="static"))}
    changing = {checker.name for checker in default_checkers(Options(1, election="decrees"))}
    assert {"acknowledged_kept", "linearizable", "one_leader_a_term"} <= fixed - changing
    assert changing - fixed == {"acknowledged_kept_as_decreed", "rival_decrees_noticed"}
    assert {"known_committed_kept", "same_place_same_bytes", "acknowledged_durable", "convergence"} <= changing & fixed


def test_leaders_are_decreed_by_turns_and_in_the_end_all_run_by_one_decree() -> None:
    decrees: dict[NodeId, str] = {}
    leaders: Counter[str] = Counter()
    mixed: set[Phase] = set()
    phase = Phase.SAFETY

    def observe(event: Event) -> None:
        nonlocal phase
        if isinstance(event, NodeStarted):
            decrees[event.node_id] = str(event.config.election)
            leaders[event.config.election.voters[0]] += 1
            if len(set(decrees.values())) > 1:
                mixed.add(phase)
        elif isinstance(event, PhaseBegan):
            phase = event.phase

    for seed in range(4):
        decrees.clear()
        result = simulate(Options(seed, election="decrees", minutes=0.5), observers=(observe,))
        assert result.violations == ()
        assert len(set(decrees.values())) == 1
    assert set(leaders) == {"n1", "n2", "n3"}
    assert Phase.SAFETY in mixed


def claims_violated(seeds: Iterable[int]) -> set[str]:
    """Of the first seed that violates any."""
    for seed in seeds:
        violations = simulate(Options(seed, election="decrees", minutes=0.5)).violations
        if violations:
            return {violation.claim for violation in violations}
    return set()


def test_a_follower_that_drops_what_it_knows_to_be_committed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ReplicatorActor._on_leader_changed

    def forgets(self: ReplicatorActor, changed: LeaderChanged) -> None:
        original(self, changed)
        self.state.committed = START

    monkeypatch.setattr(ReplicatorActor, "_on_leader_changed", forgets)
    assert claims_violated(range(40)) & {"known_committed_kept", "acknowledged_kept_as_decreed", "commit_forward"}


def test_who_acknowledges_in_a_dispute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ServerActor.on_receive

    def deaf(self: ServerActor, message: Any) -> None:
        if not isinstance(message, ClaimsDisputed):
            original(self, message)

    monkeypatch.setattr(ServerActor, "on_receive", deaf)
    assert "disputes_acknowledge_nothing" in claims_violated(range(40))


def rivals_for(seconds: int) -> None:
    """n2 believes that it leads, and everybody else that n1 does."""
    with Cluster(options=Options(1, election="decrees", faults=())) as cluster:
        cluster.run_for(2.0)
        cluster.crash("n2")
        cluster.restart("n2", election="static:n2,n1,n3")
        for _ in range(seconds):
            with pytest.raises(OutOfRangeError):
                cluster.consume("n3", 100)
            cluster.run_for(1.0)


def test_rival_decrees_are_noticed() -> None:
    rivals_for(10)


def test_rival_decrees_that_nobody_notices_are_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Claims, "dispute", lambda self: "")
    with pytest.raises(Violation, match="rival_decrees_noticed: n1 runs by static:n1,n2,n3 and n2 by static:n2,n1,n3"):
        rivals_for(10)
