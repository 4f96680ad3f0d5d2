"""Shrinking: of a failure whose cause is known, what is left is that cause and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.events import Event, FaultInjected, NodeCrashed
from ourolog.simulation.options import Options
from ourolog.simulation.shrink import shrink
from ourolog.simulation.simulate import Result, simulate

LARGE = Options(seed=100, nodes=5, minutes=4.0, clients=6, operations=600)


@dataclass(frozen=True)
class Run:
    violations: tuple[Violation, ...]
    events: int = 1


def failing_when(*conditions: str) -> tuple[object, list[Options]]:
    """A simulation that fails at 30 s if all these expressions over its options hold, and what it was asked for."""
    asked: list[Options] = []

    def run(options: Options) -> Run:
        asked.append(options)
        kinds = options.faults if options.faults is not None else ("loss", "kill", "pause", "bit_rot")
        fails = all(eval(condition, {"o": options, "kinds": kinds}) for condition in conditions)
        return Run((Violation("claim", "broken", 30.0),) if fails else ())

    return run, asked


def shrunk_by(*conditions: str, budget: int = 500, options: Options = LARGE):  # type: ignore[no-untyped-def]
    run, asked = failing_when(*conditions)
    failure = shrink(options, Violation("claim", "broken", 200.0), simulate=run, budget=budget)  # type: ignore[arg-type]
    assert len(asked) == failure.runs
    return failure


def test_everything_goes_that_the_failure_does_not_need() -> None:
    failure = shrunk_by("True")
    assert failure.is_minimal
    assert failure.options == Options(seed=100, nodes=1, faults=(), minutes=0.01, clients=1, operations=1)


def test_what_the_failure_needs_stays() -> None:
    options = replace(LARGE, faults=("loss", "kill", "pause", "power_loss", "slow_disk"))
    failure = shrunk_by("o.nodes >= 3", "'kill' in kinds and 'slow_disk' in kinds", "o.clients >= 2", options=options)
    assert failure.is_minimal
    assert failure.options.nodes == 3
    assert failure.options.faults == ("kill", "slow_disk")
    assert failure.options.clients == 2
    assert failure.options.operations == 1


def test_a_run_ends_where_it_failed() -> None:
    failure = shrunk_by("o.minutes >= 0.5", "o.nodes == 5", "o.clients == 6", "o.operations == 600")
    assert failure.options.minutes == 0.5
    assert failure.steps[0] == "the faults end after 0.5 minutes"


def test_another_claim_does_not_count() -> None:
    def run(options: Options) -> Run:
        claim = "claim" if options.nodes == 5 else "another"
        return Run((Violation(claim, "broken", 240.0),))

    failure = shrink(LARGE, Violation("claim", "broken", 240.0), simulate=run)
    assert failure.options.nodes == 5
    assert failure.violation.claim == "claim"


def test_a_neighbouring_seed_may_show_the_smaller_failure() -> None:
    failure = shrunk_by("o.nodes == 5 or o.seed == 102", "o.clients == 6", "o.operations == 600")
    assert failure.options.nodes == 1
    assert failure.options.seed == 102


def test_the_budget_bounds_the_runs_and_what_was_found_by_then_counts() -> None:
    failure = shrunk_by("True", budget=3)
    assert failure.runs == 3
    assert not failure.is_minimal
    assert failure.options.minutes < LARGE.minutes


def test_a_failure_that_does_not_repeat_is_refused() -> None:
    with pytest.raises(ValueError, match="does not repeat"):
        shrunk_by("False")


def test_the_shrunk_failure_says_how_to_replay_it() -> None:
    failure = shrunk_by("o.nodes >= 2", "o.operations == 600")
    assert failure.command.startswith("ourolog simulate --seed 100 --nodes 2 --faults none")


# ---------------------------------------------------------------- with real runs


class NobodyCrashesTwice(EventChecker):
    """A claim that a simulation with crashes violates soon, and one without them never."""

    name = "nobody_crashes_twice"
    statement = "No node crashes twice."

    def __init__(self) -> None:
        super().__init__()
        self.on = {NodeCrashed: self._on_crashed}
        self._crashed: set[str] = set()

    def _on_crashed(self, event: NodeCrashed) -> None:
        if event.node_id in self._crashed:
            raise self.violated(f"{event.node_id} crashed again")
        self._crashed.add(event.node_id)


def test_a_real_failure_is_shrunk_to_one_node_and_one_kind_of_fault_and_stays_repeatable() -> None:
    def run(options: Options) -> Result:
        return simulate(options, checkers=[NobodyCrashesTwice()])

    options = Options(seed=1, nodes=3, faults=("loss", "kill", "clock_drift"), minutes=1.0, clients=2, operations=60)
    first = run(options)
    assert first.violations
    failure = shrink(options, first.violations[0], simulate=run, budget=60)
    assert failure.options.nodes == 1
    assert failure.options.faults == ("kill",)
    assert failure.events < first.events
    seen: list[Event] = []
    again = simulate(failure.options, checkers=[NobodyCrashesTwice()], observers=[seen.append])
    assert again.violations[0].claim == "nobody_crashes_twice"
    assert again.events == failure.events
    assert {event.kind for event in seen if isinstance(event, FaultInjected)} == {"kill"}
