from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ourolog.local_cluster import LocalCluster
from tests.command_server import CommandServer, command_server

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment() -> dict[str, str]:
    """What a command inherits: nothing of ourolog's own, wherever the tests are run."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OUROLOG_", "NO_COLOR"))}
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandServer]:
    with command_server(str(tmp_path_factory.mktemp("commands") / "socket")) as server:
        yield server


@pytest.fixture
def run(commands: CommandServer, environment: dict[str, str]) -> Run:
    """Run `ourolog …` to its end, as a process of its own."""

    def run(*words: str, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return commands.run(words, given, {**environment, **variables}, timeout_s=110)

    return run


@pytest.fixture
def run_afresh(environment: dict[str, str]) -> Run:
    """The same, in an interpreter that has imported nothing yet."""

    def run_afresh(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "ourolog", *words],
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
            env={**environment, **variables},
        )

    return run_afresh


@pytest.fixture
def one_node(tmp_path: Path) -> Iterator[LocalCluster]:
    """One node that serves, on any ports."""
    with LocalCluster(str(tmp_path), 1) as cluster:
        cluster.start()
        yield cluster


@pytest.fixture
def run_python(environment: dict[str, str]) -> Callable[[str], str]:
    """Run a little program in a fresh interpreter and give what it printed."""

    def run_python(program: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment,
        )
        return done.stdout

    return run_python


@pytest.fixture
def unused_addr() -> Iterator[str]:
    """An address where nobody listens, kept so while the test runs: the port is bound, and not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{sock.getsockname()[1]}"
