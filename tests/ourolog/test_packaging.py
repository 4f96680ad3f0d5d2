"""What pip makes of the tree, and that it works for a user whose own modules are called storage, rpc or logging."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ourolog.child_processes import child_environment, python_command
from tests.installed import ROOT, Environment, Installed, build_sdist, build_wheel

FOLDERS = ("actors", "rpc", "simulation", "storage")

PRODUCE_AND_CONSUME = """
import sys
import actors, rpc, simulation, storage
from ourolog import BlockingLogClient, LogClient, LogRecord

with BlockingLogClient(sys.argv[1]) as log:
    print(log.consume(log.produce(b"hello")) == LogRecord(0, b"hello"))
print(LogClient.__module__, storage.WHOSE, simulation.WHOSE)
"""

A_TEST_OF_THEIRS = """
import pytest, rpc, simulation, storage

@pytest.mark.seeds(2)
@pytest.mark.cluster(nodes=1)
def test_it(cluster):
    assert cluster.consume("n1", cluster.produce("n1", "foo")) == b"foo"
    assert storage.WHOSE == "theirs: storage.py"
"""


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tracked() -> dict[str, bytes]:
    """What a wheel has to hold: every file of the package and of the folders that it links to."""
    found = {}
    for folder in ("ourolog", *FOLDERS):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.is_symlink():
                within = path.relative_to(ROOT)
                found[str(within if folder == "ourolog" else "ourolog" / within)] = path.read_bytes()
    return found


@contextlib.contextmanager
def dev(environment: Environment, *command: str, cwd: Path) -> Iterator[str]:
    """The address of the one node of an `ourolog dev`, which is started with `command` in the directory `cwd`."""
    with subprocess.Popen(
        [*command, "dev", "--nodes", "1", "--rpc-port", "0"],
        cwd=cwd,
        env=environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = ""
            while (line := process.stdout.readline()) and "--addr " not in line:
                said += line
            assert line, said
            yield line.split("--addr ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    assert process.returncode == 0


def test_a_wheel_holds_the_whole_package_and_nothing_else(installed: Installed) -> None:
    held = members(installed.wheel)
    assert {name.split("/")[0] for name in held} == {"ourolog", "ourolog-0.1.0.dist-info"}
    assert {name: data for name, data in held.items() if name.startswith("ourolog/")} == tracked()
    for data_file in ("py.typed", "simulation/report/page_parts/page.html", "rpc/v1/log_pb2.pyi"):
        assert f"ourolog/{data_file}" in held


def test_a_wheel_from_an_sdist_is_the_same_and_the_sdist_has_what_its_makefile_runs(
    installed: Installed, tmp_path: Path
) -> None:
    sdist = build_sdist(tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = set(re.findall(r"\.ci/[\w.-]+", (ROOT / "Makefile").read_text()))
    assert {".ci/make-venv", ".ci/generated.py"} <= wanted <= held
    from_sdist = members(build_wheel(sdist, tmp_path / "wheel"))
    record = "ourolog-0.1.0.dist-info/RECORD"
    assert from_sdist.keys() == members(installed.wheel).keys()
    assert {**from_sdist, record: b""} == {**members(installed.wheel), record: b""}


def test_what_is_installed_is_used_and_not_the_checkout(installed: Installed, their_directory: Path) -> None:
    program = "import ourolog, ourolog.storage.log; print(ourolog.__file__, ourolog.storage.log.__file__)"
    for path in installed.run(installed.python, "-c", program, cwd=their_directory).stdout.split():
        assert Path(path).is_relative_to(installed.directory)


def test_importing_it_does_not_load_grpc(installed: Installed, their_directory: Path) -> None:
    program = "import sys, ourolog.{}; print(sorted(name for name in sys.modules if name in ('grpc', 'google')))"
    for module in ("storage.log", "simulation", "actors.node", "cli"):
        done = installed.run(installed.python, "-P", "-c", program.format(module), cwd=their_directory)
        assert done.stdout == "[]\n", (module, done.stderr)


def test_a_program_beside_modules_of_such_names_and_the_nodes_of_dev(
    installed: Installed, crowded_directory: Path, tmp_path: Path
) -> None:
    """`ourolog dev` is started in a directory full of wrong modules; the program has its own rpc.py and storage.py."""
    program = tmp_path / "program"
    program.mkdir()
    for name in ("actors", "rpc", "simulation", "storage"):
        (program / f"{name}.py").write_text(f"WHOSE = '{name}'\n")
    (program / "app.py").write_text(PRODUCE_AND_CONSUME)
    with dev(installed, installed.command, cwd=crowded_directory) as addr:
        done = installed.run(installed.python, str(program / "app.py"), addr, cwd=program)
    assert done.stdout == "True\nourolog.rpc.client storage simulation\n", done.stderr


def test_the_workers_of_a_sweep_import_nothing_from_there(installed: Installed, crowded_directory: Path) -> None:
    words = ("simulate", "--seeds", "2", "--jobs", "2", "--minutes", "0.02", "--operations", "30")
    done = installed.run(installed.command, *words, cwd=crowded_directory)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_checkout_need_not_be_installed(tmp_path: Path) -> None:
    environment = Environment.create(tmp_path / "environment")
    with dev(environment, environment.python, "-m", "ourolog", cwd=ROOT) as addr:
        assert (
            environment.run(environment.python, "-m", "ourolog", "produce", "x", "--addr", addr, cwd=ROOT).stdout
            == "0\n"
        )
    words = ("-m", "ourolog", "simulate", "--seeds", "2", "--jobs", "2", "--minutes", "0.02", "--operations", "30")
    done = environment.run(environment.python, *words, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_children_are_started_by_any_program_as_the_command_starts_its_own(crowded_directory: Path) -> None:
    words = python_command("-c", "import logging, ourolog.logs, sys; print(logging.__file__)")
    done = subprocess.run(
        words, cwd=crowded_directory, env=child_environment(), capture_output=True, text=True, check=True
    )
    assert not Path(done.stdout).is_relative_to(crowded_directory)


def test_the_pytest_plugin_beside_modules_of_such_names(installed: Installed, their_directory: Path) -> None:
    (their_directory / "test_theirs.py").write_text(A_TEST_OF_THEIRS)
    done = installed.run(installed.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=their_directory)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
