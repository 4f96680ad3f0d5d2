"""Many seeds, on whatever runs them: each is one call with plain values, and so are the answers."""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Final

from ourolog.executors import Executor, Future
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate

_AHEAD: Final = 1000
_POLL_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ClaimViolation:
    """A claim that did not hold.

    claim: the checker's name.
    detail: what was seen instead.
    at_seconds: when, in virtual seconds.
    """

    claim: str
    detail: str
    at_seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one seed.

    seed: the seed.
    options: as text, see `Options.to_text`.
    trace_hash: a hash over all events of the run.
    violations: the claims that did not hold.
    virtual_seconds, wall_seconds: how long the run took, in virtual and in real time.
    events: how many events there were.
    claims: the names of the checkers that watched.
    faults: how often each kind of fault fired.
    states: how often each rare state was reached.
    """

    seed: int
    options: str
    trace_hash: str
    violations: tuple[ClaimViolation, ...]
    virtual_seconds: float
    wall_seconds: float
    events: int
    claims: tuple[str, ...]
    faults: dict[str, int]
    states: dict[str, int]

    @property
    def failed(self) -> bool:
        return bool(self.violations)


def run_seed(options_text: str) -> Outcome:
    """One run: the function that workers call, wherever they are.

    Options travel as text, with their version: a worker of another version refuses them.
    """
    return outcome_of(simulate(Options.parse(options_text), clock=time.perf_counter))


def outcome_of(result: Any) -> Outcome:
    """The outcome of a Result, without what cannot, or need not, travel."""
    return Outcome(
        seed=result.seed,
        options=result.options.to_text(),
        trace_hash=result.trace_hash,
        violations=tuple(ClaimViolation(one.claim, one.detail, one.time_s) for one in result.violations),
        virtual_seconds=result.virtual_seconds,
        wall_seconds=result.wall_seconds,
        events=result.events,
        claims=tuple(result.claims),
        faults=dict(result.faults),
        states=dict(result.states),
    )


@dataclass(slots=True)
class Totals:
    """The sums over all seeds that have ended."""

    seeds: int = 0
    failing: list[Outcome] = field(default_factory=list)
    virtual_seconds: float = 0.0
    wall_seconds: float = 0.0
    events: int = 0
    claims: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_seconds += outcome.virtual_seconds
        self.wall_seconds += outcome.wall_seconds
        self.events += outcome.events
        self.claims.update(outcome.claims)
        self.faults.update(outcome.faults)
        self.states.update(outcome.states)
        if outcome.failed:
            self.failing.append(outcome)
            self.failing.sort(key=lambda failed: failed.seed)


def with_seeds(options: Options, seeds: Iterable[int]) -> Iterator[Options]:
    for seed in seeds:
        yield replace(options, seed=seed)


def sweep(
    runs: Iterable[Options],
    executor: Executor,
    *,
    keep_going: bool = False,
    on_wait: Callable[[], None] = lambda: None,
    function: Callable[[str], Outcome] = run_seed,
) -> Iterator[Outcome]:
    """Outcomes as they come, at most 1,000 runs ahead. Ends after the first violation unless `keep_going`.

    Runs that had begun by then are waited for if their seeds are lower: the violation that a sweep
    reports first is that of the lowest failing seed, however many workers there are. Raises whatever a
    worker raised. What is under way at the end must be cancelled by the executor's owner, by shutting
    it down: done from here, a process pool stumbles over its own cancelled runs.

    on_wait: called every 0.2 s.
    """
    waiting: dict[int, Future] = {}
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    todo = enumerate(runs)
    limit: int | None = None
    while True:
        room = _AHEAD - len(waiting) if limit is None or keep_going else 0
        for number, options in islice(todo, max(room, 0)):
            future = executor.submit(function, options.to_text())
            waiting[number] = future
            future.add_done_callback(partial(_note, done, number))
        if limit is not None and not keep_going and not any(number < limit for number in waiting):
            return
        if not waiting:
            return
        try:
            number = done.get(timeout=_POLL_S)
        except queue.Empty:
            on_wait()
            continue
        outcome: Outcome = waiting.pop(number).result()
        if outcome.failed and (limit is None or number < limit):
            limit = number
        yield outcome


def _note(done: queue.SimpleQueue[int], number: int, future: Future) -> None:
    del future
    done.put(number)
