"""A pytest plugin for tests of applications: a cluster that fails on purpose, and seeds that repeat a failure.

    @pytest.mark.seeds(50)
    def test_my_consumer_reads_every_record_once(cluster): ...

    @pytest.mark.cluster(nodes=5, election="static")
    def test_with_a_leader(cluster): ...

`cluster` is a started `ourolog.simulation.Cluster`, whose checkers run their final checks when the test has
passed. With `seeds(n)` the test runs for the seeds 0 to n-1, and a failing one is printed as a
command that runs it alone. `--simulation-seeds` runs more of them, `--simulation-seed` one, and
`--simulation-report DIRECTORY` writes a page for every test that fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ourolog.simulation.checker import Violation

if TYPE_CHECKING:
    from ourolog.simulation.report.rows import Window

_RECORDER = pytest.StashKey[Any]()
_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation", "simulated clusters")
    group.addoption("--simulation-seed", type=int, metavar="N", help="run tests of a simulated cluster with this seed")
    group.addoption("--simulation-seeds", type=int, metavar="N", help="run them with so many seeds, beyond their mark")
    group.addoption("--simulation-report", metavar="DIRECTORY", help="write an HTML page for every one that fails")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "seeds(n): run the test with the seeds 0 to n-1 of its simulated cluster")
    config.addinivalue_line("markers", "cluster(**settings): what the test's simulated cluster is made of")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "simulation_seed" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("seeds")
    one = metafunc.config.getoption("--simulation-seed")
    many = metafunc.config.getoption("--simulation-seeds")
    if one is not None:
        seeds: range = range(one, one + 1)
    elif mark is not None:
        (count,) = mark.args
        if not isinstance(count, int) or count < 1:
            raise pytest.UsageError(f"seeds is 1 or more, not {count!r}, at {metafunc.definition.nodeid}")
        seeds = range(many or count)
    else:
        seeds = range(many or 1)
    metafunc.parametrize("simulation_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture
def simulation_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run of the test, also for a test that makes its own Cluster."""
    return int(request.param)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, simulation_seed: int) -> Iterator[Any]:
    """A started cluster. Its checkers' final checks are part of the test, if the test has passed so far."""
    from ourolog.simulation.cluster import Cluster
    from ourolog.simulation.report import Recorder

    mark = request.node.get_closest_marker("cluster")
    settings = dict(mark.kwargs) if mark is not None else {}
    # Watching for a report makes a test take several times as long.
    recorder = Recorder() if request.config.getoption("--simulation-report") else None
    made = Cluster(seed=simulation_seed, observers=() if recorder is None else (recorder,), **settings)
    request.node.stash[_SEED] = simulation_seed
    if recorder is not None:
        request.node.stash[_RECORDER] = recorder
    try:
        made.start()
        yield made
        if not _has_failed(request.node):
            made.finish()
    finally:
        made.close()


_FAILED = pytest.StashKey[BaseException]()


def _has_failed(item: pytest.Item) -> bool:
    return item.stash.get(_FAILED, None) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is None or not report.failed:
        return report
    item.stash[_FAILED] = call.excinfo.value
    if "simulation_seed" not in getattr(item, "fixturenames", ()):
        return report
    seed = getattr(item, "callspec").params["simulation_seed"]  # noqa: B009  # only parametrized items have one
    lines = [f"seed {seed} fails; this runs it alone:", f"    {replay(item.nodeid, seed)}"]
    directory = item.config.getoption("--simulation-report")
    if directory and _RECORDER in item.stash:
        path = _write_report(Path(directory), item, call.excinfo.value)
        lines.append(f"what happened: {path}")
    report.sections.append(("simulated cluster", "\n".join(lines)))
    return report


def replay(nodeid: str, seed: int) -> str:
    """The command that runs the test with that seed, whether or not the seed is one of its mark's."""
    return f"pytest {shlex.quote(nodeid)} --simulation-seed {seed}"


def _records_named(window: Window, text: str) -> tuple[bytes, ...]:
    """The records that a failed test speaks of. Its words are the user's own: nothing else says which it means."""
    words = set(re.findall(r"[\w.:/-]+", text))
    values = {row.record: row.record.decode(errors="replace") for row in window.rows if row.record}
    return tuple(record for record, value in values.items() if value in words)


def _write_report(directory: Path, item: pytest.Item, error: BaseException) -> Path:
    from ourolog.simulation.checkers import ALL
    from ourolog.simulation.report import Header, render_report
    from ourolog.simulation.run_claims import STATEMENTS, THE_TEST_PASSES

    recorder = item.stash[_RECORDER]
    seed = item.stash[_SEED]
    if isinstance(error, Violation):
        violation = error
    else:
        violation = THE_TEST_PASSES.violated(f"{type(error).__name__}: {error}", recorder.now_s)
        violation.records = _records_named(recorder.window(), str(error))
    header = Header(
        title=f"{item.name}",
        replay=replay(item.nodeid, seed),
        facts={"seed": str(seed), "test": item.nodeid},
        statements={checker.name: checker.statement for checker in ALL.values()} | STATEMENTS,
    )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-") + ".html")
    path.write_text(render_report(recorder.window(), header, [violation]), encoding="utf-8")
    return path
