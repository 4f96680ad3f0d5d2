"""`ourolog simulate` as a person and a script meet it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click
import pytest

from ourolog.cli import cli
from ourolog.simulation import VERSION, Checker, Options, Violation, World
from ourolog.simulation.events import ClientReturned, Event

Run = Callable[..., Any]

SMALL = ("--minutes", "0.05", "--operations", "60")
# In this process, so that a test can put a wrong claim among the checkers; its workers are threads.
HERE = ("--executor", "concurrent.futures:ThreadPoolExecutor")


class NobodyIsAnswered:
    """A claim that does not hold in any run with clients."""

    name: ClassVar[str] = "nobody_is_answered"
    statement: ClassVar[str] = "No client is ever answered."

    def see(self, event: Event, world: World) -> None:
        del world
        if isinstance(event, ClientReturned):
            raise Violation(self.name, f"{event.client} was answered: {event.operation.kind}", event.time_s)

    def finish(self, world: World) -> None:
        """Said all along."""


class TimePasses:
    """A claim that holds in every run."""

    name: ClassVar[str] = "time_passes"
    statement: ClassVar[str] = "Something happens."

    def see(self, event: Event, world: World) -> None:
        """Whatever it is."""

    def finish(self, world: World) -> None:
        """It did."""


class LooksAway(TimePasses):
    """A claim that nothing is ever shown to."""

    sees: ClassVar[tuple[type, ...]] = ()


def watch(monkeypatch: pytest.MonkeyPatch, *checkers: Checker) -> None:
    for module in ("ourolog.simulation.cluster", "ourolog.simulation.checkers"):
        monkeypatch.setattr(f"{module}.default_checkers", lambda options: checkers)


@pytest.fixture
def wrong_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch, NobodyIsAnswered())


@pytest.fixture
def right_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of what is printed about runs without a violation."""
    watch(monkeypatch, TimePasses())


def simulate(*words: str) -> int:
    """The command in this process; its exit status."""
    try:
        code = cli.main(["simulate", *words], prog_name="ourolog", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return int(code or 0)


def test_one_seed_twice_prints_the_same_trace_hash(run_afresh: Run) -> None:
    words = ("simulate", "--seed", "7", *SMALL, "--output", "json", "--no-shrink")
    first, second = (json.loads(run_afresh(*words, PYTHONHASHSEED=seed).stdout) for seed in ("1", "2"))
    assert first["trace_hash"] == second["trace_hash"]
    assert first["events"] == second["events"] > 0


@pytest.mark.usefixtures("right_claim")
def test_json_of_one_seed_has_the_keys_that_were_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seed", "3", *SMALL, "--output", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "seed",
        "trace_hash",
        "violations",
        "virtual_seconds",
        "wall_seconds",
        "events",
        "claims",
        "faults",
        "states",
    ]
    assert found["seed"] == 3
    assert found["violations"] == []
    assert found["wall_seconds"] > 0
    assert found["claims"] == 1
    assert all(isinstance(count, int) for count in {**found["faults"], **found["states"]}.values())


@pytest.mark.usefixtures("right_claim")
def test_json_of_a_sweep_has_the_sums_of_its_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for seed in ("5", "6"):
        assert simulate("--seed", seed, *SMALL, "--output", "json") == 0
        parts.append(json.loads(capsys.readouterr().out))
    assert simulate("--seeds", "2", "--from", "5", *SMALL, "--output", "json", *HERE) == 0
    sums = json.loads(capsys.readouterr().out)
    assert (sums["seeds"], sums["failing_seeds"], sums["claims"]) == (2, [], 1)
    assert sums["events"] == sum(part["events"] for part in parts)
    assert sums["virtual_seconds"] == pytest.approx(sum(part["virtual_seconds"] for part in parts))
    for key in ("faults", "states"):
        names = {name for part in parts for name in part[key]}
        assert sums[key] == {name: sum(part[key].get(name, 0) for part in parts) for name in names}


@pytest.mark.usefixtures("wrong_claim")
def test_a_violation_exits_1_with_the_claim_and_a_command_that_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seeds", "4", "--from", "11", *SMALL, "--no-shrink", *HERE) == 1
    shown = capsys.readouterr()
    assert "violated: nobody_is_answered" in shown.err
    assert "No client is ever answered." in shown.err
    (command,) = [line.split("replay: ")[1] for line in shown.err.splitlines() if "replay: " in line]
    assert command.startswith("ourolog simulate --seed 11")
    assert "11" in shown.out

    assert simulate(*command.split()[2:], "--no-shrink") == 1
    assert "violated: nobody_is_answered" in capsys.readouterr().err


@pytest.mark.usefixtures("wrong_claim")
def test_a_failure_is_shrunk_and_kept_and_what_was_kept_fails_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "failing.seed"
    assert simulate("--seed", "7", "--nodes", "5", *SMALL, "--save-seed", str(kept)) == 1
    shown = capsys.readouterr().err
    assert "smaller: ourolog simulate --seed " in shown
    small = Options.parse(kept.read_text().splitlines()[-1])
    assert small.nodes < 5
    assert simulate("--seed-file", str(kept), "--no-shrink") == 1
    assert "violated: nobody_is_answered" in capsys.readouterr().err


@pytest.mark.usefixtures("wrong_claim")
def test_a_failing_run_is_written_as_a_page_that_marks_the_claim(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    assert simulate("--seed", "7", *SMALL, "--no-shrink", "--report", str(page)) == 1
    assert "Violated: nobody_is_answered" in page.read_text()


@pytest.mark.usefixtures("wrong_claim")
def test_a_sweep_that_keeps_going_names_every_failing_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("--seeds", "3", *SMALL, "--keep-going", "--no-shrink", "--output", "json", *HERE) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["failing_seeds"] == [0, 1, 2]
    assert found["violations"][0]["replay"].startswith("ourolog simulate --seed 0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--faults", "gremlins"], "unknown fault 'gremlins'"),
        (["--nodes", "0"], "1 to 32 nodes, not 0"),
        (["--nodes", "three"], "not a valid integer"),
        (["--minutes", "-1"], "minutes is 0"),
        (["--election", "raffle"], "unknown election 'raffle'"),
        (["--election", "static:n9"], "names n9"),
        (["--cycle", "bend"], "unknown cycle 'bend'"),
        (["--seed", "-1"], "is no seed"),
        (["--seed", "x"], "is no seed"),
        (["--seeds", "0"], "not in the range"),
        (["--seed", "1", "--seeds", "2"], "exclude each other"),
        (["--seed-file", "/no/such/file.seed"], "cannot read the seed file /no/such/file.seed"),
        (["--executor", "nobody"], "no executor is named 'nobody'"),
        (["--executor", "json:nothing"], "cannot be loaded"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_use_exits_2_with_a_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(*words) == 2
    assert said in capsys.readouterr().err


def test_a_seed_of_an_older_version_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "old.seed"
    kept.write_text(f"# from long ago\n{Options(seed=7).to_text().replace(f'version={VERSION}', 'version=0')}\n")
    assert simulate("--seed-file", str(kept)) == 2
    told = capsys.readouterr().err
    assert f"{kept}, line 2: seed 7 was made with version 0" in told
    assert simulate("--seed", "7@0") == 2
    assert "seed 7 was made with version 0" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "# nothing but this\n", "seed 7\n", "version=1 nodes=3\n", "\udcff"])
def test_a_file_that_names_no_seed_exits_2(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "wrong.seed"
    kept.write_bytes(text.encode(errors="surrogateescape"))
    assert simulate("--seed-file", str(kept)) == 2
    assert str(kept) in capsys.readouterr().err


def test_a_sweep_runs_in_processes_of_its_own(run: Run) -> None:
    done = run("simulate", "--seeds", "3", "--jobs", "2", "--minutes", "0", "--clients", "0", "--faults", "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 seeds: no violation")


@pytest.mark.parametrize("checkers", [(), (LooksAway(),)], ids=["no claim", "a claim that is shown nothing"])
@pytest.mark.parametrize("seeds", [("--seed", "3"), ("--seeds", "2", *HERE)], ids=["a seed", "a sweep"])
def test_a_run_that_no_claim_watched_has_failed(
    checkers: tuple[Checker, ...],
    seeds: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch(monkeypatch, *checkers)
    assert simulate(*seeds, *SMALL, "--no-shrink") == 1
    shown = capsys.readouterr()
    assert "violated: claims_are_watched" in shown.err
    assert f"none of {len(checkers)} claims was shown an event, so that the run proves nothing" in shown.err
    assert "watched by 0 claims" in shown.out


def test_every_claim_that_there_is_watches_a_run(run: Run) -> None:
    from ourolog.simulation.checkers import default_checkers

    found = json.loads(run("simulate", "--seed", "7", *SMALL, "--output", "json").stdout)
    assert found["claims"] == len(default_checkers(Options(7)))


def test_checkers_that_cannot_be_imported_end_the_command_and_do_not_pass(tmp_path: Path, run_afresh: Run) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['ourolog.simulation.checkers'] = None\n")
    done = run_afresh("simulate", "--seed", "7", *SMALL, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "no violation" not in done.stdout
