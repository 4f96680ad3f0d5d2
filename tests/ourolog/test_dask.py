"""Sweeps on a real Dask cluster of this machine, with worker processes of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ourolog.executors import dask as dask_executor
from ourolog.executors import opened
from ourolog.simulation import Options
from ourolog.sweep import run_seed, sweep, with_seeds

distributed = pytest.importorskip("distributed", reason="the extra ourolog[dask] is not installed")

pytestmark = pytest.mark.timeout(180)

SMALL = Options(seed=0, nodes=2, minutes=0.02, operations=60)


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a cluster with two worker processes."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_sweep_on_a_dask_cluster_finds_what_it_finds_here(scheduler: str) -> None:
    import dask.config

    runs = list(with_seeds(SMALL, range(6)))
    with dask.config.set({"scheduler-address": scheduler}), opened(dask_executor) as executor:
        found = {outcome.seed: outcome.trace_hash for outcome in sweep(iter(runs), executor, keep_going=True)}
    assert found == {options.seed: run_seed(options.to_text()).trace_hash for options in runs}


def test_the_command_runs_a_sweep_on_a_dask_cluster(scheduler: str, run: Callable[..., Any]) -> None:
    words = ("simulate", "--seeds", "4", "--nodes", "2", "--minutes", "0.02", "--keep-going", "--no-shrink")
    there = run(*words, "--output", "json", "--executor", "ourolog.executors:dask", DASK_SCHEDULER_ADDRESS=scheduler)
    here = run(*words, "--output", "json", "--jobs", "1")
    told_there, told_here = json.loads(there.stdout), json.loads(here.stdout)
    assert told_there["seeds"] == 4
    for key in ("seeds", "failing_seeds", "events", "faults", "states"):
        assert told_there[key] == told_here[key]
