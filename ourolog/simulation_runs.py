"""What `ourolog simulate` does with runs: prints them, and makes failures readable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from itertools import chain
from typing import Any, Final

import click

from ourolog.options import RunningError
from ourolog.seed_file import write_seed
from ourolog.simulation.checker import Violation
from ourolog.simulation.options import VERSION, Options, replay_command
from ourolog.simulation.reach import missed_states, never_reached
from ourolog.simulation.simulate import simulate
from ourolog.sweep import ClaimViolation, Outcome, Totals, outcome_of, run_seed
from ourolog.sweep_progress import counts_of

_SHRINK_RUNS: Final = 150

Sweep = Callable[[Iterator[Options], Totals, int], Iterator[Outcome]]


class SimulationRuns:
    """The runs of one use of the command.

    must_reach: whether a sweep fails that misses a rare state which its mode must reach.
    report, save_seed: paths, or None. The report shows the smallest run that fails, else the first run.
    """

    def __init__(
        self, *, report: str | None, is_json: bool, is_shrunk: bool, save_seed: str | None, must_reach: bool = False
    ) -> None:
        self.report = report
        self.is_json = is_json
        self.is_shrunk = is_shrunk
        self.save_seed = save_seed
        self.must_reach = must_reach
        self._totals = Totals()

    def run(self, runs: Iterator[Options], total: int, sweep: Sweep) -> int:
        """0 when every claim held in every run, and what must be reached was, else 1."""
        if total == 1 and not self.must_reach:
            return self._one(next(runs))
        first = next(runs)
        for outcome in sweep(chain([first], runs), self._totals, total):
            del outcome
        failing = self._totals.failing
        reached = self._totals.states
        never = never_reached(first, reached)
        missed = missed_states(first, reached) if self.must_reach else {}
        if self.is_json:
            click.echo(json.dumps(as_sums(self._totals) | {"never": never, "missed": list(missed)}, ensure_ascii=False))
        else:
            click.echo(f"{_summary(self._totals)}\n  never   {', '.join(never) or 'none'}")
        for state, sentence in missed.items():
            click.echo(f"missed: {state}\n  {sentence} {total} seeds of this mode must reach that.", err=True)
        if failing:
            self._explain(Options.parse(failing[0].options), failing[0].violations[0])
            return 1
        if self.report is not None:
            self._write_report(first)
        return 1 if missed else 0

    def _one(self, options: Options) -> int:
        if self.report is not None:
            outcome, page = _recorded(options)
        else:
            outcome, page = run_seed(options.to_text()), ""
        self._totals.add(outcome)
        click.echo(json.dumps(as_json(outcome), ensure_ascii=False) if self.is_json else _outcome_text(outcome))
        if outcome.failed:
            self._explain(options, outcome.violations[0], page)
            return 1
        if self.report is not None:
            _write(self.report, page)
            click.echo(f"report: {self.report}", err=True)
        return 0

    def _explain(self, options: Options, violation: ClaimViolation, page: str = "") -> None:
        """On standard error: the claim, the seed, the command; then a smaller run that fails the same way."""
        statement = _statements(options).get(violation.claim, "")
        click.echo(f"\nviolated: {violation.claim}", err=True)
        if statement:
            click.echo(f"  claim:  {statement}", err=True)
        click.echo(f"  seen:   {violation.detail} (at {violation.at_seconds:.6f} virtual seconds)", err=True)
        click.echo(f"  replay: {replay(options)}", err=True)
        smallest = options
        if self.is_shrunk:
            smallest = self._shrink(options, violation)
        if self.save_seed is not None:
            write_seed(self.save_seed, smallest, f"{violation.claim}: {violation.detail}")
            click.echo(f"  kept:   {self.save_seed}", err=True)
        if self.report is not None:
            if smallest == options and page:
                _write(self.report, page)
            else:
                self._write_report(smallest)
            click.echo(f"  report: {self.report}", err=True)

    def _shrink(self, options: Options, violation: ClaimViolation) -> Options:
        """The smallest run found that violates the same claim; the one given where that is not to be had."""
        from ourolog.simulation.shrink import shrink

        click.echo("  looking for a smaller run that fails the same way …", err=True)
        wanted = Violation(violation.claim, violation.detail, violation.at_seconds)
        try:
            failure = shrink(options, wanted, budget=_SHRINK_RUNS)
        except ValueError as error:
            raise RunningError(str(error)) from error
        if failure.options == options:
            click.echo(f"  smaller: none found in {failure.runs} runs", err=True)
        else:
            click.echo(f"  smaller: {replay(failure.options)}", err=True)
            click.echo(f"           {failure.events:,} events, found in {failure.runs} runs", err=True)
            click.echo(f"           {failure.violation.detail}", err=True)
        return failure.options

    def _write_report(self, options: Options) -> None:
        assert self.report is not None
        _write(self.report, _recorded(options)[1])


def replay(options: Options) -> str:
    """The command that runs exactly this again.

    Its seed carries the version (`--seed 7@3`): another version refuses it instead of running something else.
    """
    seed = f"--seed {options.seed}"
    return replay_command(options).replace(seed, f"{seed}@{VERSION}", 1)


def _recorded(options: Options) -> tuple[Outcome, str]:
    """A run, and its page."""
    from ourolog.simulation.report import Header, Recorder, render_report

    recorder = Recorder()
    result = simulate(options, observers=(recorder,), clock=time.perf_counter)
    outcome = outcome_of(result)
    header = Header(
        title=f"Simulation, seed {options.seed}",
        replay=replay(options),
        facts={
            "seed": str(options.seed),
            "nodes": str(options.nodes),
            "election": options.election,
            **({"cycle": options.cycle} if not options.election_choice().elects else {}),
            "virtual": f"{outcome.virtual_seconds:.1f} s",
            "events": f"{outcome.events:,}",
            "faults": ", ".join(f"{name} {count}" for name, count in outcome.faults.items()) or "none",
            "trace": outcome.trace_hash,
        },
        statements=_statements(options),
        note=_note(options, outcome),
    )
    return outcome, render_report(recorder.window(), header, result.violations)


def _note(options: Options, outcome: Outcome) -> str:
    many = f"{options.nodes} nodes" if options.nodes > 1 else "1 node"
    return f"{many} for {outcome.virtual_seconds:.1f} virtual seconds, from seed {options.seed}."


def _statements(options: Options) -> dict[str, str]:
    """Each claim that is checked, as a sentence."""
    from ourolog.simulation.checkers import default_checkers
    from ourolog.simulation.run_claims import STATEMENTS

    return {checker.name: checker.statement for checker in default_checkers(options)} | STATEMENTS


def _write(path: str, page: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        raise RunningError(f"cannot write the report {path}: {error.strerror}") from error


# ---------------------------------------------------------------- text and JSON


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One seed: the trace hash is the same whenever and wherever it is run."""
    return {
        "seed": outcome.seed,
        "trace_hash": outcome.trace_hash,
        "violations": [_violation_as_json(outcome, violation) for violation in outcome.violations],
        "virtual_seconds": outcome.virtual_seconds,
        "wall_seconds": outcome.wall_seconds,
        "events": outcome.events,
        "claims": len(outcome.claims),
        "faults": outcome.faults,
        "states": outcome.states,
    }


def as_sums(totals: Totals) -> dict[str, Any]:
    """A sweep: sums over its seeds, and those that failed."""
    return {
        "seeds": totals.seeds,
        "failing_seeds": [outcome.seed for outcome in totals.failing],
        "violations": [
            {"seed": outcome.seed} | _violation_as_json(outcome, violation)
            for outcome in totals.failing
            for violation in outcome.violations
        ],
        "virtual_seconds": totals.virtual_seconds,
        "wall_seconds": totals.wall_seconds,
        "events": totals.events,
        "claims": len(totals.claims),
        "faults": dict(sorted(totals.faults.items())),
        "states": dict(sorted(totals.states.items())),
    }


def _violation_as_json(outcome: Outcome, violation: ClaimViolation) -> dict[str, Any]:
    return {
        "claim": violation.claim,
        "detail": violation.detail,
        "at_seconds": violation.at_seconds,
        "replay": replay(Options.parse(outcome.options)),
    }


def _outcome_text(outcome: Outcome) -> str:
    held = "no violation" if not outcome.failed else f"{len(outcome.violations)} violated"
    took = f"{outcome.virtual_seconds:.1f} virtual seconds in {outcome.wall_seconds:.2f} s"
    rate = outcome.virtual_seconds / max(outcome.wall_seconds, 1e-9)
    lines = [
        f"seed {outcome.seed}: {held}",
        f"  trace   {outcome.trace_hash}",
        f"  time    {took} ({rate:.0f} times as fast)",
        f"  events  {outcome.events:,}, {_claims(outcome.claims)}",
        f"  faults  {_counts(outcome.faults)}",
        f"  states  {_counts(outcome.states)}",
    ]
    return "\n".join(lines)


def _summary(totals: Totals) -> str:
    failing = ", ".join(str(outcome.seed) for outcome in totals.failing)
    held = f"violated by seed {failing}" if totals.failing else "no violation"
    return (
        f"{totals.seeds} seeds: {held}\n"
        f"  time    {totals.virtual_seconds:.0f} virtual seconds in {totals.wall_seconds:.1f} s of work\n"
        f"  events  {totals.events:,}, {_claims(totals.claims)}, {counts_of(totals)}\n"
        f"  faults  {_counts(totals.faults)}\n"
        f"  states  {_counts(totals.states)}"
    )


def _claims(names: Collection[str]) -> str:
    return f"watched by {len(names)} claims"


def _counts(counts: Any) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
