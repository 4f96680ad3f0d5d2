"""Sweeps: what is sent to workers, in which order answers count, and when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import EntryPoint
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ourolog.executors import GROUP, UnknownExecutorError, find_factory, opened, processes
from ourolog.simulation import Options
from ourolog.sweep import ClaimViolation, Outcome, Totals, sweep, with_seeds
from ourolog.sweep_progress import SweepProgress

RUNS = Options(seed=0, minutes=0.1)


def outcome(options_text: str, *, fails: bool = False) -> Outcome:
    options = Options.parse(options_text)
    violations = (ClaimViolation("claim", "not so", 1.0),) if fails else ()
    return Outcome(options.seed, options_text, "hash", violations, 2.0, 0.5, 10, ("claim",), {"kill": 1}, {})


def failing(*seeds: int) -> Callable[[str], Outcome]:
    return lambda text: outcome(text, fails=Options.parse(text).seed in seeds)


class Backwards:
    """Answers when all has been submitted, the last one first, as a cluster of unequal machines might."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._todo: list[tuple[Future[Any], Any, tuple[Any, ...]]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._todo.append((future, function, arguments))
        if len(self._todo) == self._count:
            threading.Thread(target=self._answer).start()
        return future

    def _answer(self) -> None:
        for future, function, arguments in reversed(self._todo):
            if future.set_running_or_notify_cancel():
                future.set_result(function(*arguments))


def test_every_seed_is_run_once() -> None:
    with ThreadPoolExecutor(3) as executor:
        seeds = [done.seed for done in sweep(with_seeds(RUNS, range(50)), executor, function=outcome)]
    assert sorted(seeds) == list(range(50))


def test_a_sweep_ends_with_the_lowest_failing_seed_in_whatever_order_answers_come() -> None:
    totals = Totals()
    for done in sweep(with_seeds(RUNS, range(20)), Backwards(20), function=failing(5, 9, 17)):
        totals.add(done)
    assert totals.failing[0].seed == 5


def test_after_a_violation_no_more_seeds_are_begun() -> None:
    begun = []

    def run(text: str) -> Outcome:
        begun.append(text)
        return failing(0)(text)

    with ThreadPoolExecutor(1) as executor:
        found = list(sweep(with_seeds(RUNS, range(1_000_000)), executor, function=run))
    assert [done.seed for done in found if done.failed] == [0]
    assert len(begun) < 2_000


def test_a_sweep_that_keeps_going_runs_them_all() -> None:
    with ThreadPoolExecutor(2) as executor:
        found = list(sweep(with_seeds(RUNS, range(30)), executor, keep_going=True, function=failing(0, 29)))
    assert len(found) == 30


def test_totals_are_sums() -> None:
    totals = Totals()
    for seed in range(4):
        totals.add(outcome(Options(seed=seed).to_text()))
    assert (totals.seeds, totals.events, totals.virtual_seconds, totals.faults) == (4, 40, 8.0, {"kill": 4})


def test_the_bar_counts_faults_states_and_failures() -> None:
    totals = Totals()
    totals.add(outcome(Options(seed=1).to_text()))
    totals.add(outcome(Options(seed=2).to_text(), fails=True))
    totals.states["torn_tail_cut"] += 1
    shown = StringIO()
    with SweepProgress(2, Console(file=shown, force_terminal=True, width=150, no_color=True)) as bar:
        bar.show(totals)
    assert "2/2" in shown.getvalue()
    assert "2 faults of 1 kinds · 1 rare states · 1 failing" in shown.getvalue()


def test_the_bar_is_not_drawn_where_nobody_looks() -> None:
    shown = StringIO()
    with SweepProgress(2, Console(file=shown, force_terminal=False)) as bar:
        bar.show(Totals())
    assert shown.getvalue() == ""


def test_what_a_worker_raises_is_raised_here() -> None:
    def run(text: str) -> Outcome:
        raise ValueError(text)

    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="seed=0"):
        list(sweep(with_seeds(RUNS, range(3)), executor, function=run))


def test_an_executor_is_found_by_its_import_path() -> None:
    assert find_factory("concurrent.futures:ThreadPoolExecutor") is ThreadPoolExecutor


def test_an_executor_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    farm = EntryPoint("farm", "concurrent.futures:ThreadPoolExecutor", GROUP)
    monkeypatch.setattr("ourolog.executors.entry_points", lambda *, group: [farm] if group == GROUP else [])
    assert find_factory("farm") is ThreadPoolExecutor


@pytest.mark.parametrize("name", ["nobody", "no.such.module:x", "json:nothing", "json:__doc__", ":", "json:"])
def test_an_executor_that_is_not_there_is_told_in_a_sentence(name: str) -> None:
    with pytest.raises(UnknownExecutorError, match=r"executor|factory"):
        find_factory(name)


def test_processes_are_spawned_and_end_with_the_block() -> None:
    with opened(lambda: processes(1)) as executor:
        pid = executor.submit(_pid).result()
        workers: Any = list(getattr(executor, "_processes").values())  # noqa: B009  # nobody else can tell
    for worker in workers:
        worker.join(100)
    assert [worker.pid for worker in workers] == [pid]
    assert not any(worker.is_alive() for worker in workers)


def _pid() -> int:
    import os

    return os.getpid()
