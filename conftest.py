"""The pytest plugin that is shipped, in use on ourselves; installed or not."""

from __future__ import annotations

pytest_plugins = ["simulation.pytest_plugin"]
