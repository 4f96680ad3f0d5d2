"""A majority of the disks is lost at once, and people recover a survivor: what holds, and that breaches are seen."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.election.raft.founding import FoundingTalks
from ourolog.simulation import Options, simulate
from ourolog.simulation.checkers import default_checkers
from ourolog.simulation.checkers.generations import AcknowledgedByAllSurvive
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.disaster_states import DISASTER_STATES
from ourolog.simulation.disasters import Disasters
from ourolog.simulation.faults import SPOILING
from ourolog.simulation.plan import draw_plan
from ourolog.simulation.reach import MUST_REACH, mode_of
from ourolog.storage.founding import Founding
from ourolog.storage.identity import DataDirectory
from ourolog.storage.recovering import Survivor

SEEDS = range(6)


def run(seed: int) -> Any:
    return simulate(Options(seed, election="disasters", minutes=0.2))


def first_claim(seeds: range = range(30)) -> str:
    """The claim that the first seed with a violation violates; "" if there is none."""
    return next((found[0].claim for seed in seeds if (found := run(seed).violations)), "")


def test_disasters_are_a_mode_of_their_own_that_nodes_know_as_raft() -> None:
    options = Options(1, nodes=4, election="disasters")
    assert (str(options.election_choice()), options.has_disaster) == ("raft:n1,n2,n3", True)
    assert options.is_vote_of_disk
    assert mode_of(options) == "disasters"
    assert not Options(1, election="raft").has_disaster
    assert set(MUST_REACH["disasters"]) == set(DISASTER_STATES)


def test_until_then_no_other_fault_takes_what_was_durable() -> None:
    for seed in range(20):
        assert SPOILING.isdisjoint(draw_plan(Options(seed, election="disasters")).kinds)


def test_what_one_history_alone_can_promise_is_not_claimed_and_what_holds_between_generations_is() -> None:
    whole = {checker.name for checker in default_checkers(Options(1, election="raft"))}
    recovered = {checker.name for checker in default_checkers(Options(1, election="disasters"))}
    assert recovered - whole == {"acknowledged_by_all_survive", "generations_fenced"}
    assert {"acknowledged_durable", "restart_keeps", "known_committed_kept", "leader_elected"} <= recovered
    assert {"log_matching", "one_leader_a_term", "founded_by_all"} <= whole - recovered


def test_survivors_are_recovered_and_all_claims_stand() -> None:
    reached: set[str] = set()
    for seed in SEEDS:
        result = run(seed)
        assert result.violations == (), f"seed {seed}"
        reached |= result.states.keys()
    assert {"cluster_recovered", "recovered_with_tail", "superseded"} <= reached


def test_the_same_seed_is_the_same_run() -> None:
    assert run(3).trace_hash == run(3).trace_hash


def test_a_survivor_that_does_not_write_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    started = Disasters._write_at

    def on_a_machine_that_stands_still(self: Disasters, survivor: Any) -> None:
        self._cluster.after(0.01, lambda: self._cluster.pause(survivor))
        started(self, survivor)

    monkeypatch.setattr(Disasters, "_write_at", on_a_machine_that_stands_still)
    assert first_claim() == "recovered_writable"


def test_a_fence_that_is_not_on_disk_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataDirectory, "save_superseded", lambda *_: None)
    assert first_claim() == "generations_fenced"


def test_a_node_that_joins_and_forgets_which_generation_it_joined_is_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    join = FoundingTalks.join
    monkeypatch.setattr(FoundingTalks, "join", lambda self, founding: join(self, Founding(founding.cluster_id)))
    assert first_claim() == "generations_fenced"


def test_a_record_that_all_had_and_a_recovery_drops_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    recover = Survivor.recover

    def drop_tail(self: Survivor, *arguments: Any) -> Any:
        if self.committed.index < self.end.index:
            self._log.truncate(self.committed.index)
        return recover(self, *arguments)

    monkeypatch.setattr(Survivor, "recover", drop_tail)
    options = (Options(seed, election="disasters", minutes=0.2) for seed in range(30))
    found = (simulate(one, checkers=[AcknowledgedByAllSurvive()]).violations for one in options)
    # Where the survivor's log is not known at that moment, it is seen at the end that the record is gone.
    first = next(violations[0] for violations in found if violations and "recovered without" in str(violations[0]))
    assert first.claim == "acknowledged_by_all_survive"


@pytest.mark.parametrize(("min_in_sync", "is_named_by_all"), [(2, False), (2, True), (None, True)])
def test_what_fewer_than_all_are_said_to_have_may_be_lost_with_them(
    min_in_sync: int | None, is_named_by_all: bool
) -> None:
    checker = AcknowledgedByAllSurvive()
    cluster = Cluster(seed=3, nodes=3, election="raft:n1,n2,n3", checkers=[checker], min_in_sync=min_in_sync)
    with cluster:
        cluster.run_until(lambda: cluster.leader_id is not None)
        assert cluster.leader_id is not None
        away = next(name for name in cluster.names if name != cluster.leader_id)
        if not is_named_by_all:
            cluster.crash(away)
            cluster.run_for(10.0)
        cluster.client().produce(b"taken", acks="all")
        founding = checker.cluster_of[away]
        for name in cluster.running.copy():
            cluster.crash(name)
        [by_all] = [by_all for value, by_all in checker._acked[founding].values() if value == b"taken"]
        assert by_all is is_named_by_all
