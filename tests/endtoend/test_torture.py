"""The cheapest scenarios of the torture, cut short: each ends as soon as its villain has done enough.

The bounds on waiting are wide, since machines that run tests are busy; `make torture` has the real ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from ourolog.child_processes import child_environment, python_command
from torture.bounds import Bounds
from torture.report import lines_of
from torture.scenario import Length, Scenario, run
from torture.scenarios import SCENARIOS
from torture.stage import Stage
from torture.villains.target import Wrong

ROOT = Path(__file__).resolve().parents[2]
BRIEF = ("absurd_metadata", "undecodable", "vanishing", "idle_sockets", "absurd_fetches", "lying_peer", "gossip_forged")
PATIENT_S = 60.0


def patient(scenario: Scenario) -> Scenario:
    bounds = dataclasses.replace(
        scenario.bounds, wait_s=PATIENT_S, typical_s=PATIENT_S, behind_s=PATIENT_S, settle_s=PATIENT_S, stop_s=PATIENT_S
    )
    return dataclasses.replace(scenario, bounds=bounds)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", BRIEF)
def test_a_node_and_its_honest_clients_hold_out_against(name: str, tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == name)
    verdict = asyncio.run(run(patient(scenario), str(tmp_path), PATIENT_S, brief=True))
    assert not verdict.failures, "\n".join(lines_of(verdict))


def test_a_bound_that_is_not_held_fails_the_scenario(tmp_path: Path) -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == "vanishing")
    strict = dataclasses.replace(
        scenario, bounds=Bounds(grown_mib=-1_000, wait_s=-1_000.0), must={"vanished": 1, "never": 1}, fill_mib=0
    )
    verdict = asyncio.run(run(strict, str(tmp_path), 0.5))
    assert any("memory" in text for text in verdict.failures)
    assert any("longest" in text for text in verdict.failures)
    assert any("the attack was none" in text for text in verdict.failures)


def test_whatever_no_node_may_do_fails_the_scenario_that_has_counted_it(tmp_path: Path) -> None:
    async def attack(stage: Stage, length: Length) -> Mapping[str, int]:  # nobody is attacked
        return {"UNKNOWN from /log.v1.Log/Produce": 2, Wrong.BROKE: 2}

    quiet = dataclasses.replace(SCENARIOS[0], attack=attack, must={}, fill_mib=0, needs=())
    verdict = asyncio.run(run(patient(quiet), str(tmp_path), 0.5))
    assert "2 calls that broke a handler" in verdict.failures


def test_the_page_names_every_scenario_and_every_figure() -> None:
    page = (ROOT / "docs" / "torture.md").read_text()
    for scenario in SCENARIOS:
        assert f"`{scenario.name}`" in page
        assert scenario.what in page
    for name, value in dataclasses.asdict(Bounds()).items():
        if not isinstance(value, bool):
            assert f"| `{name}` | {value:g} |" in page


def test_the_page_s_commands_work() -> None:
    page = (ROOT / "docs" / "torture.md").read_text()
    commands = re.findall(r"^\$ python (.*)$", page, re.MULTILINE)
    assert "-m torture --list" in commands
    for command in commands:
        # What would take minutes is only parsed: these end before anything is played.
        ending, shown = ("--help", "--check") if "torture.elections" in command else ("--list", "silent_produces")
        done = subprocess.run(
            python_command(*command.split(), ending),
            env=child_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert shown in done.stdout


def test_an_unknown_scenario_is_refused_and_those_that_exist_are_named() -> None:
    words = python_command("-m", "torture", "--only", "nothing")
    done = subprocess.run(words, env=child_environment(), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "there is no nothing" in done.stderr
    assert "lying_peer" in done.stderr


def test_nothing_that_is_shipped_knows_of_the_torture() -> None:
    shipped = (
        "import sys, ourolog.simulation, ourolog.rpc.node_server\n"
        "print([name for name in sys.modules if 'torture' in name])"
    )
    done = subprocess.run(
        python_command("-c", shipped), env=child_environment(), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
