"""From a run that fails to the smallest one found that fails in the same way.

Every step is a whole run, made from scratch, and counts only if the same claim is violated in
it. A smaller run is another run: with fewer nodes or operations the same seed draws something else.
So where the smaller run of the same seed does not fail, a few other seeds are tried, and the result may have
another seed than the original; it can be repeated just as well. (Shrinking what is drawn from, and not what was
drawn: MacIver and Donaldson, "Test-Case Reduction via Test-Case Generation", ECOOP 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ourolog.simulation.checker import Violation
from ourolog.simulation.options import Options, replay_command
from ourolog.simulation.plan import draw_plan
from ourolog.simulation.simulate import simulate as simulate_one

DEFAULT_BUDGET: Final = 300
"""How many runs shrinking may take."""

SEEDS_A_STEP: Final = 4
_LEAST_MINUTES: Final = 0.01


class Outcome(Protocol):
    """What a run must report; `ourolog.simulation.Result` does."""

    @property
    def violations(self) -> tuple[Violation, ...]: ...

    @property
    def events(self) -> int: ...


Simulate = Callable[[Options], Outcome]


@dataclass(frozen=True, slots=True)
class ShrunkFailure:
    """A run that fails, and the smallest one found that fails in the same way.

    original: the options of the run that failed first.
    options: the options of the smallest run that violates the same claim.
    violation: what that run showed.
    events: how many events it has.
    runs: how many runs it took to find it.
    is_minimal: whether nothing smaller that was tried fails; otherwise the budget was used up.
    steps: what was taken away, in order.
    """

    original: Options
    options: Options
    violation: Violation
    events: int
    runs: int
    is_minimal: bool
    steps: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command that runs it again."""
        return replay_command(self.options)


def shrink(
    options: Options,
    violation: Violation,
    simulate: Simulate = simulate_one,
    budget: int = DEFAULT_BUDGET,
    on_step: Callable[[str, Options], None] | None = None,
) -> ShrunkFailure:
    """Make the failing run smaller until nothing more can be taken from it, or `budget` runs are used up.

    violation: what the run of `options` showed.
    on_step: called after every success.
    Raises ValueError when a run of `options` does not violate that claim: then it is not repeatable.
    """
    return _Shrinking(violation.claim, simulate, budget, on_step).run(options)


class _BudgetSpentError(Exception):
    pass


class _Shrinking:
    def __init__(
        self, claim: str, simulate: Simulate, budget: int, on_step: Callable[[str, Options], None] | None
    ) -> None:
        self._claim = claim
        self._simulate = simulate
        self._budget = budget
        self._on_step = on_step
        self._runs = 0
        self._tried: dict[Options, tuple[Violation, int] | None] = {}

    def run(self, original: Options) -> ShrunkFailure:
        found = self._try(original)
        if found is None:
            raise ValueError(f"{replay_command(original)} does not violate {self._claim}: the failure does not repeat")
        best, (violation, events) = original, found
        steps: list[str] = []
        is_minimal = False
        try:
            while not is_minimal:
                is_minimal = True
                for step, smaller in _smaller(best, violation):
                    success = self._try_seeds(smaller)
                    if success is not None:
                        best, violation, events = success
                        steps.append(step)
                        if self._on_step is not None:
                            self._on_step(step, best)
                        is_minimal = False
                        break
        except _BudgetSpentError:
            is_minimal = False
        return ShrunkFailure(original, best, violation, events, self._runs, is_minimal, tuple(steps))

    def _try_seeds(self, options: Options) -> tuple[Options, Violation, int] | None:
        for seed in range(options.seed, options.seed + SEEDS_A_STEP):
            candidate = replace(options, seed=seed)
            found = self._try(candidate)
            if found is not None:
                return candidate, *found
        return None

    def _try(self, options: Options) -> tuple[Violation, int] | None:
        """The violation of our claim in that run, and how many events the run has."""
        if options not in self._tried:
            if self._runs >= self._budget:
                raise _BudgetSpentError
            self._runs += 1
            outcome = self._simulate(options)
            ours = [violation for violation in outcome.violations if violation.claim == self._claim]
            self._tried[options] = (ours[0], outcome.events) if ours else None
        return self._tried[options]


# ---------------------------------------------------------------- what could be less


def _smaller(options: Options, violation: Violation) -> Iterator[tuple[str, Options]]:
    """Runs that have less of one thing and no more of any other, the boldest of each kind first."""
    yield from _shorter(options, violation)
    yield from _with_fewer_faults(options)
    yield from _with_fewer_nodes(options)
    yield from _with_fewer(options, "clients", 1)
    yield from _with_fewer(options, "operations", 1)
    if not options.election_choice().elects and options.cycle == "allow":
        yield from _with_fewer(options, "max_hops", 1)
    yield from _with_half_the_time(options)


def _shorter(options: Options, violation: Violation) -> Iterator[tuple[str, Options]]:
    """The run ended where it failed: up to there nothing changes."""
    minutes = math.ceil(violation.time_s / 0.6) / 100.0
    if minutes < options.minutes:
        yield f"the faults end after {minutes:g} minutes", replace(options, minutes=minutes)


def _with_half_the_time(options: Options) -> Iterator[tuple[str, Options]]:
    for part in (0.25, 0.5, 0.8):
        minutes = round(options.minutes * part, 2)
        if _LEAST_MINUTES <= minutes < options.minutes:
            yield f"the faults end after {minutes:g} minutes", replace(options, minutes=minutes)


def _with_fewer_faults(options: Options) -> Iterator[tuple[str, Options]]:
    kinds = draw_plan(options).kinds
    if kinds:
        yield "no faults", replace(options, faults=())
    if len(kinds) > 3:
        half = len(kinds) // 2
        yield f"no {', '.join(kinds[half:])}", replace(options, faults=kinds[:half])
        yield f"no {', '.join(kinds[:half])}", replace(options, faults=kinds[half:])
    if len(kinds) > 1:
        for kind in kinds:
            yield f"no {kind}", replace(options, faults=tuple(other for other in kinds if other != kind))


def _with_fewer_nodes(options: Options) -> Iterator[tuple[str, Options]]:
    for nodes in range(1, options.nodes):
        try:
            yield f"{nodes} nodes", replace(options, nodes=nodes)
        except ValueError:
            continue  # the election names a node that would not be there


def _with_fewer(options: Options, what: str, least: int) -> Iterator[tuple[str, Options]]:
    present = getattr(options, what)
    candidates = sorted({max(least, round(present * part)) for part in (0.0, 0.125, 0.25, 0.5, 0.75)} | {present - 1})
    for number in candidates:
        if least <= number < present:
            yield f"{number} {what.replace('_', ' ')}", replace(options, **{what: number})
