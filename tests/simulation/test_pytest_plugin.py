"""The pytest plugin as its users meet it: in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FAILS_FOR_SEED_2 = """
import pytest

@pytest.mark.seeds(4)
@pytest.mark.cluster(nodes=1)
@pytest.mark.parametrize("word", ["one", "two words"])
def test_it(cluster, simulation_seed, word):
    offset = cluster.produce("n1", word)
    assert cluster.consume("n1", offset) == word.encode()
    assert (simulation_seed, word) != (2, "two words")
"""

VIOLATES_A_CLAIM = """
import pytest
from ourolog.simulation import Violation

class Never:
    name = "never_at_all"
    statement = "It does not end."
    def see(self, event, world): ...
    def finish(self, world):
        raise Violation(self.name, "it has ended", 1.0)

@pytest.mark.cluster(nodes=1, checkers=(Never(),))
def test_it(cluster): ...
"""

Pytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(tmp_path: Path) -> Pytest:
    def run_pytest(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_app.py").write_text(text)
        return subprocess.run(
            [
                *(sys.executable, "-P", "-m", "pytest"),
                *("-p", "ourolog.simulation.pytest_plugin", "-p", "no:cacheprovider"),
                *("--rootdir", str(tmp_path), "--strict-markers", *words),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    return run_pytest


def test_a_test_runs_once_for_every_seed_and_the_failing_one_is_a_ready_made_command(run_pytest: Pytest) -> None:
    done = run_pytest(FAILS_FOR_SEED_2, "test_app.py")
    assert "1 failed, 7 passed" in done.stdout
    assert "seed 2 fails; this runs it alone:" in done.stdout
    found = re.search(r"^    pytest '(test_app\.py::[^']+)' --simulation-seed 2$", done.stdout, re.MULTILINE)
    assert found is not None

    again = run_pytest(FAILS_FOR_SEED_2, found.group(1), "--simulation-seed", "2")
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout


def test_more_seeds_than_the_mark_says_can_be_asked_for(run_pytest: Pytest) -> None:
    done = run_pytest(FAILS_FOR_SEED_2, "test_app.py", "--simulation-seeds", "6")
    assert "1 failed, 11 passed" in done.stdout


def test_the_checkers_last_look_is_part_of_the_test(run_pytest: Pytest) -> None:
    done = run_pytest(VIOLATES_A_CLAIM, "test_app.py")
    assert done.returncode == 1
    assert "never_at_all: it has ended" in done.stdout
    assert "--simulation-seed 0" in done.stdout


def test_a_failing_test_leaves_a_page_where_it_was_asked_for(run_pytest: Pytest, tmp_path: Path) -> None:
    done = run_pytest(FAILS_FOR_SEED_2, "test_app.py", "--simulation-report", "pages")
    (page,) = (tmp_path / "pages").iterdir()
    assert f"what happened: {page.relative_to(tmp_path)}" in done.stdout
    assert "Violated: the_test_passes" in page.read_text()
    assert "The test that drives the cluster ends without an exception." in page.read_text()


def test_a_wrong_number_of_seeds_is_told_in_a_sentence(run_pytest: Pytest) -> None:
    done = run_pytest(FAILS_FOR_SEED_2.replace("seeds(4)", "seeds(0)"), "test_app.py")
    assert done.returncode != 0
    assert "seeds is 1 or more, not 0" in done.stdout + done.stderr
