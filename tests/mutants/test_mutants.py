"""The mutants still fit the code, and the way they are hunted works. The whole score is `make mutants`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mutants.__main__ import LIVES, Score, page, rows_of
from mutants.catalog import MUTANTS
from mutants.mutant import STATIC, Mutant
from ourolog.child_processes import child_environment, python_command
from ourolog.simulation.checkers import ALL
from ourolog.simulation.run_claims import RUN_CLAIMS

PAGE = Path("docs/mutants.md")

UNIT_TESTS_ONLY = {
    "progress": "A core that does nothing at all is seen by the phase itself, a_healthy_core_makes_progress.",
    "cycle_growth": "Whatever makes a cycle grow too fast is seen sooner, by copies_faithful, where the copy is made.",
    "acknowledged_kept_as_decreed": "It is acknowledged_kept as far as that holds while people decree leaders.",
    "retention_waits_for_commit": "In half a minute retention hardly ever comes to what is not committed.",
    "same_place_same_bytes": "While each term has one leader, log_matching sees an entry that differs first.",
    "leader_append_only": "No election tells a leader's store to cut: what would is no single change of the code.",
    "acknowledged_by_all_survive": "A survivor that drops anything is seen when it opens its log, by restart_keeps.",
    "leader_completeness": "What breaks it is seen sooner, at a vote or a commit: tests/simulation/test_figure_8.py.",
    "majority_is_led": "tests/simulation/test_raft_claims.py breaks it in whole runs.",
    "no_actor_raises": "An actor that raises is a bug of any kind: tests/simulation/test_cluster.py breaks one.",
    "no_node_fails_without_a_cause": "Checkers see it first, as fails_for_cause; here a run without any is watched.",
    "claims_are_watched": "It is about the simulation and not the nodes: tests/ourolog/test_simulate.py breaks it.",
    "the_test_passes": "It is about somebody's own test: tests/simulation/test_pytest_plugin.py has one that fails.",
}
"""Claims that no mutant needs, and why. Each has unit tests that it can fail."""


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        python_command(*arguments), env=child_environment(), capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_enough_mutants_and_each_finds_what_it_changes() -> None:
    apply_all = (
        "from mutants.catalog import MUTANTS\nfor mutant in MUTANTS.values(): mutant.apply()\nprint(len(MUTANTS))"
    )
    assert int(run_python("-c", apply_all)) >= 25


def test_a_mutant_is_killed_in_a_process_of_its_own_by_the_checker_that_is_for_it() -> None:
    found = run_python("-m", "mutants.child", "ack_before_sync", "--election none --cycle break", "1", "3")
    assert json.loads(found) == {"seeds": 1, "claim": "promised_on_disk"}


def test_nothing_that_is_shipped_knows_of_the_mutants() -> None:
    shipped = (
        "import sys, ourolog.simulation, ourolog.rpc.node_server\n"
        "print([name for name in sys.modules if 'mutant' in name])"
    )
    assert run_python("-c", shipped).strip() == "[]"


def test_every_checker_has_killed_a_mutant_or_a_reason_why_it_never_is_the_first() -> None:
    """Where this fails for a new checker: run its mutants with `python -m mutants --merge --only ...`."""
    killers = {claim for score in rows_of(PAGE.read_text(encoding="utf-8")).values() for claim in score.claims}
    registered = {*ALL, *RUN_CLAIMS}
    assert registered - killers - set(UNIT_TESTS_ONLY) == set()
    assert set(UNIT_TESTS_ONLY) <= registered
    assert killers <= registered


def test_a_page_is_read_again_as_it_was_written() -> None:
    first, second, *_ = (mutant for mutant in MUTANTS.values() if not mutant.equivalent)
    scores = {
        first.name: Score(first, 2.5, 7, ("contiguous", "convergence")),
        second.name: Score(second, None, None, ()),
    }
    written = page(scores, 3, 200)
    assert rows_of(written) == scores
    assert "1 of 2 deliberate bugs are found" in written
    assert LIVES in written


def test_what_no_run_can_show_is_told_with_its_reason_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = Mutant("no_bug", "It does the same.", (STATIC,), lambda: None, equivalent="Nobody can tell.")
    monkeypatch.setitem(MUTANTS, mutant.name, mutant)
    written = page({mutant.name: Score(mutant, None, None, ())}, 3, 200)
    assert "0 of 0 deliberate bugs are found" in written
    assert "| no_bug | It does the same. | Nobody can tell. |" in written
