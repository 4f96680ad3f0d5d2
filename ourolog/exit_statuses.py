"""Exit statuses of the `ourolog` command that stand for a signal, as shells have them: 128 and its number."""

from __future__ import annotations

from typing import Final

INTERRUPTED: Final = 130
"""SIGINT: Ctrl-C."""

BROKEN_PIPE: Final = 141
"""SIGPIPE: the reader went away."""
