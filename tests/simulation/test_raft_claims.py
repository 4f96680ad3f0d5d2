"""Raft in whole runs: what voters, candidates and leaders promise, each broken once and found by its own claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ourolog.actors.election.raft import rules
from ourolog.actors.election.raft.rules import Raft, Role
from ourolog.simulation import Cluster, Options, simulate
from ourolog.simulation.events import Event, FaultInjected, Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.faults import SPOILING
from ourolog.simulation.simulate import Result


def run(seed: int, election: str = "raft", nodes: int = 4, minutes: float = 0.3) -> Result:
    return simulate(Options(seed, nodes, election, minutes=minutes))


@pytest.mark.parametrize("seed", range(3))
def test_clusters_that_elect_their_leader_hold_what_is_claimed(seed: int) -> None:
    assert run(seed).violations == ()


def holds_on_to_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "is_sticky", lambda *_: False)


def never_resigns(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "resigned", lambda raft: (raft, ()))


def leads_with_its_own_vote(patch: pytest.MonkeyPatch) -> None:
    original = Raft.is_majority
    patch.setattr(Raft, "is_majority", lambda raft, keys: raft.role is Role.CANDIDATE or original(raft, keys))


def stands_unwanted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Raft, "is_majority", lambda raft, keys: raft.me in keys)


def keeps_its_lead_to_itself(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "_leads", lambda raft, ballot, _: (replace(raft, ballot=ballot), ()))


def never_stands(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "election_timed_out", lambda raft, _: (raft, ()))


def stands_without_its_own_vote(patch: pytest.MonkeyPatch) -> None:
    original = rules._stand

    def stand(raft: Raft, *, by_leave: bool = False) -> rules.Step:
        raft, effects = original(raft, by_leave=by_leave)
        return raft, tuple(
            replace(effect, ballot=replace(effect.ballot, voted_for=None, voted_for_epoch=0))
            if isinstance(effect, rules.SaveThen)
            else effect
            for effect in effects
        )

    patch.setattr(rules, "_stand", stand)


@pytest.mark.parametrize(
    ("break_it", "claim"),
    [
        (holds_on_to_nobody, "led_voters_hold_on"),
        (never_resigns, "check_quorum"),
        (leads_with_its_own_vote, "leader_elected"),
        (keeps_its_lead_to_itself, "leads_once_elected"),
        (never_stands, "majority_is_led"),
        (stands_unwanted, "stands_when_wanted"),
        (stands_without_its_own_vote, "ballots_on_disk"),
    ],
)
def test_a_promise_that_is_broken_is_found_by_its_claim(
    break_it: Callable[[pytest.MonkeyPatch], None], claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    for seed in range(20):
        violations = run(seed).violations
        if violations:
            assert violations[0].claim == claim
            return
    pytest.fail(f"20 seeds, and {claim} saw nothing")


def test_a_leader_that_stood_still_acknowledges_nothing_when_it_wakes() -> None:
    """What it was asked meanwhile it finds in its inbox, before all news of the leader that follows it."""
    with Cluster(seed=2, nodes=3, election="raft") as cluster:
        cluster.run_for(3.0)
        frozen = cluster.leader_id
        assert frozen is not None
        cluster.pause(frozen)
        cluster.run_until(lambda: cluster.leader_id not in (frozen, None), 10.0)
        cluster.run_for(3.0)
        results: list[OperationResult] = []
        produce = Operation(OperationKind.PRODUCE, value=b"too late")
        cluster.calls.produce("late", frozen, produce, 5.0, lambda result, _: results.append(result))
        cluster.run_for(0.1)
        cluster.resume(frozen)
        cluster.run_until(lambda: bool(results), 10.0)
        assert results[0].outcome is not Outcome.OK
        assert cluster.states.counts["produce_after_freeze"] == 1
        cluster.run_for(5.0)


def test_only_a_minority_of_the_voters_ever_loses_its_disk_and_no_disk_forgets() -> None:
    spoiled: list[FaultInjected] = []

    def observe(event: Event) -> None:
        if isinstance(event, FaultInjected) and event.kind in SPOILING:
            spoiled.append(event)

    all_lost = set()
    for seed in range(3):
        faults = ("disk_lost", "old_disk", "fsync_lies", "kill")
        options = Options(seed, 4, "raft", faults=faults, minutes=0.4, operations=30)
        assert simulate(options, observers=(observe,)).violations == ()
        assert {event.kind for event in spoiled} <= {"disk_lost"}
        lost = {event.where for event in spoiled if event.where != "n4"}
        assert len(lost) <= 1
        all_lost |= lost
        spoiled.clear()
    assert all_lost
