"""The mutants still fit the code, and the way they are hunted works. The whole score is `make mutants`."""

from __future__ import annotations

import json
import subprocess
import sys


def run_python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_enough_mutants_and_each_finds_what_it_changes() -> None:
    apply_all = (
        "import mutants.in_actors, mutants.in_storage\n"
        "from mutants.mutant import MUTANTS\n"
        "for mutant in MUTANTS.values(): mutant.apply()\n"
        "print(len(MUTANTS))"
    )
    assert int(run_python("-c", apply_all)) >= 25


def test_a_mutant_is_killed_in_a_process_of_its_own_by_the_checker_that_is_for_it() -> None:
    found = run_python("-m", "mutants.child", "ack_before_sync", "--election none --cycle break", "1", "3")
    assert json.loads(found) == {"seeds": 1, "claim": "promised_on_disk"}


def test_nothing_that_is_shipped_knows_of_the_mutants() -> None:
    shipped = "import sys, ourolog, simulation, rpc.server\nprint([name for name in sys.modules if 'mutant' in name])"
    assert run_python("-c", shipped).strip() == "[]"
