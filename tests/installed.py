"""ourolog as its users have it: built by pip, installed into a virtual environment, used outside of the repository."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
_TIMEOUT_S = 110


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `directory` that has what ourolog depends on, from the tests' own, and no ourolog."""

    directory: Path

    @classmethod
    def create(cls, directory: Path) -> Self:
        venv.create(directory, with_pip=False, symlinks=True)
        (site,) = directory.glob("lib/python*/site-packages")
        ours = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        (site / "dependencies.pth").write_text("\n".join(ours) + "\n")
        return cls(directory)

    @property
    def python(self) -> str:
        return str(self.directory / "bin" / "python")

    @property
    def variables(self) -> dict[str, str]:
        """As of somebody who has activated it, and has set nothing that concerns ourolog or Python."""
        unset = ("OUROLOG_", "PYTHON", "PYTEST", "NO_COLOR")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
        path = os.pathsep.join((str(self.directory / "bin"), kept.get("PATH", "")))
        return {**kept, "VIRTUAL_ENV": str(self.directory), "PATH": path, "COLUMNS": "100"}

    def run(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in the directory `cwd`."""
        return subprocess.run(
            words,
            cwd=cwd,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )


class Installed(Environment):
    """An Environment into which a wheel of this tree has been installed."""

    @property
    def command(self) -> str:
        """The `ourolog` command, as pip wrote it."""
        return str(self.directory / "bin" / "ourolog")

    @property
    def wheel(self) -> Path:
        """The file that was installed."""
        (wheel,) = (self.directory / "wheel").iterdir()
        return wheel


def install(directory: Path) -> Installed:
    """Build the wheel and install it in `directory`; once for all that ask, other processes too."""
    with open(f"{directory}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "wheel").exists():
            installed = Installed.create(directory)
            wheel = build_wheel(ROOT, directory / "building")
            pip("--python", installed.python, "install", "--no-deps", "--no-index", str(wheel))
            (directory / "building").rename(directory / "wheel")
    return Installed(directory)


def build_wheel(source: Path, into: Path) -> Path:
    """What pip makes of a source tree or an sdist: the file, alone in the new directory `into`."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), str(source))
    (wheel,) = into.iterdir()
    return wheel


def build_sdist(into: Path) -> Path:
    """The sdist of this tree: the file, alone in the new directory `into`."""
    _run([sys.executable, "-P", "-m", "hatchling", "build", "--target", "sdist", "--directory", str(into)])
    (sdist,) = into.iterdir()
    return sdist


def pip(*words: str) -> None:
    _run([sys.executable, "-P", "-m", "pip", "--quiet", "--disable-pip-version-check", *words])


def _run(words: Sequence[str]) -> None:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
