"""docs/election.md, followed to the letter from an empty folder outside of the repository."""

from __future__ import annotations

import re
import signal
import subprocess
import venv
from pathlib import Path

import pytest

from tests.installed import Installed, pip

PAGE = (Path(__file__).parents[3] / "docs" / "election.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    """The page's block of that language with that number."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number]


@pytest.fixture(scope="module")
def follower(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> tuple[Installed, Path]:
    """Somebody who has Ourolog, and an empty folder in which they have made the page's files and installed them."""
    theirs = tmp_path_factory.mktemp("rotating")
    environment = Installed(theirs / "venv")
    venv.create(environment.directory, with_pip=False, symlinks=True)
    (site,) = environment.directory.glob("lib/python*/site-packages")
    (ours,) = installed.directory.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text((ours / "dependencies.pth").read_text())
    pip("--python", environment.python, "install", "--no-deps", "--no-index", str(installed.wheel))
    folder = theirs / "rotating-election"
    folder.mkdir()
    for name, text in (
        ("rotating.py", block("python")),
        ("pyproject.toml", block("toml")),
        ("test_rotating.py", block("python", 1)),
    ):
        (folder / name).write_text(text)
    wheels = theirs / "wheels"
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(folder))
    (wheel,) = wheels.iterdir()
    pip("--python", environment.python, "install", "--no-deps", "--no-index", str(wheel))
    return environment, folder


def commands(number: int) -> list[list[str]]:
    return [line.split() for line in block("sh", number).splitlines()]


def test_the_commands_are_these() -> None:
    assert [words[0] for words in commands(0)] == ["pip", "python", "ourolog", "ourolog", "ourolog"]


def test_the_conformance_suite_and_the_cluster_pass(follower: tuple[Installed, Path]) -> None:
    environment, folder = follower
    done = environment.run(*commands(0)[1], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


def test_the_conformance_suite_of_several_nodes_runs_and_finds_what_the_page_says(
    follower: tuple[Installed, Path], tmp_path: Path
) -> None:
    environment, _ = follower
    (tmp_path / "test_rotating_cluster.py").write_text(block("python", 2))
    done = environment.run(*commands(1)[0], cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    # Which node it is, and in which term, is for chance to say.
    complaint = r"Violation: leader_completeness: n\d leads term \d+ with a log that ends at index \d+, and lacks entry"
    for text in (PAGE, done.stdout):
        assert re.search(complaint, text), text
    assert re.search(r"\d+ failed, \d+ passed", done.stdout)


def test_the_simulation_runs_it_and_finds_what_is_wrong_with_it(follower: tuple[Installed, Path]) -> None:
    environment, folder = follower
    done = environment.run(environment.command, *commands(0)[2][1:], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    many = environment.run(environment.command, *commands(2)[0][1:], cwd=folder, OUROLOG_NO_SHRINK="1")
    assert many.returncode == 1
    shown = PAGE[PAGE.index("```\nviolated: ") :].split("```")[1].strip()
    assert shown in many.stderr


def test_a_node_and_a_cluster_of_real_ones_run_by_it(follower: tuple[Installed, Path]) -> None:
    environment, folder = follower
    ports = ["--rpc-addr", "127.0.0.1:0", "--gossip-addr", "127.0.0.1:0"]
    for words, said in (
        ([*commands(0)[3][1:], *ports, "--log-format", "json"], '"leader": "n2"'),
        ([*commands(0)[4][1:], "--rpc-port", "0"], "n2 leads term 1"),
    ):
        with subprocess.Popen(
            [environment.command, *words],
            cwd=folder,
            env=environment.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if said in line:
                    break
            else:
                pytest.fail("".join(lines))
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            assert process.wait(60) == 0
