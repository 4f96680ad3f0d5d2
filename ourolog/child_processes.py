"""Python processes that are started from this one: the nodes of `dev` and `cycle`, the torture's villains, benchmarks.

They import from where this process imports, and nothing from their working directory:
`python -m` puts that first on the path, and a user's own logging.py there would be taken for Python's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def python_command(*words: str) -> list[str]:
    """The command line of this interpreter with `words`, e.g. "-m", "ourolog", "status"; see child_environment."""
    return [sys.executable, "-P", *words]


def child_environment() -> dict[str, str]:
    """This process's environment for such a child, without OUROLOG_*: those are for this process alone.

    A checkout of the repository is put on the path, so that it need not be installed.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OUROLOG_")}
    environment.pop("NOTIFY_SOCKET", None)
    root = Path(__file__).resolve().parent.parent
    if root.name not in {"site-packages", "dist-packages"}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH", ""))))
    return environment
