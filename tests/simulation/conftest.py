from __future__ import annotations

from collections.abc import Callable

import pytest

from ourolog.simulation import Cluster, Violation
from ourolog.simulation.report import Header, Recorder, render_report


@pytest.fixture(scope="session")
def cycle_page() -> str:
    """The report of one record in a cluster of two that copy each other."""
    recorder = Recorder()
    with Cluster(seed=7, nodes=2, cycle="allow", max_hops=10, observers=(recorder,)) as cluster:
        cluster.run_for(2.0)
        cluster.produce("n1", "foo")
        cluster.run_for(1.0)
    facts = {"seed": "7", "nodes": "2", "election": "none", "cycle": "allow", "max hops": "10"}
    header = Header("The replication cycle", facts=facts, note="Two nodes that discovered each other, and one record.")
    return render_report(recorder.window(), header)


@pytest.fixture(scope="session")
def failing_page() -> str:
    """The report of a run in which something was lost, as somebody would claim."""
    recorder = Recorder()
    with Cluster(seed=7, nodes=3, election="static", observers=(recorder,)) as cluster:
        cluster.run_for(1.0)
        cluster.produce("n1", "precious")
        cluster.isolate("n2")
        cluster.run_for(1.0)
        cluster.crash("n1", power=True)
        cluster.run_for(2.0)
        cluster.heal()
        cluster.restart("n1")
        cluster.run_for(1.0)
        detail = "n1 no longer has precious, which it acknowledged"
        violation = Violation("acknowledged_lost", detail, cluster.now_s, (b"precious",))
    statements = {"acknowledged_lost": "What was acknowledged is never lost."}
    header = Header("A run", "ourolog simulate --seed 7", {"seed": "7"}, statements)
    return render_report(recorder.window(), header, [violation])


@pytest.fixture
def recorded() -> Callable[..., Recorder]:
    """A short run with a record, and what was kept of it."""

    def recorded(limit: int = 20_000, **settings: object) -> Recorder:
        recorder = Recorder(limit)
        with Cluster(**{"seed": 1, "nodes": 3, **settings}, observers=(recorder,)) as cluster:  # type: ignore[arg-type]
            cluster.run_for(1.0)
            cluster.produce("n1", "foo")
            cluster.run_for(2.0)
        return recorder

    return recorded
