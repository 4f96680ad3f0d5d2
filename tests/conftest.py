from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.installed import Installed, install


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """ourolog in a virtual environment of its own, made once for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    return install((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed")


@pytest.fixture
def their_directory(tmp_path: Path) -> Path:
    """A working directory with modules of the user's own, named as folders of the repository are."""
    directory = tmp_path / "theirs"
    for name in ("simulation", "storage"):
        (directory / name).mkdir(parents=True)
    for path in ("actors.py", "rpc.py", "storage.py", "simulation/__init__.py"):
        (directory / path).write_text(f"WHOSE = 'theirs: {path}'\n")
    return directory


@pytest.fixture
def crowded_directory(their_directory: Path) -> Path:
    """The same, and none of Python's own modules, nor of those that ourolog needs, may be taken from there either."""
    for name in ("asyncio", "click", "grpc", "json", "logging", "pykka", "queue", "random", "rich", "signal", "socket"):
        (their_directory / f"{name}.py").write_text(f"raise ImportError('{name}.py of the working directory')\n")
    return their_directory
