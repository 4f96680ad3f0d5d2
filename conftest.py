"""The pytest plugin that is shipped, in use on ourselves; installed or not."""

from __future__ import annotations

import signal

pytest_plugins = ["ourolog.simulation.pytest_plugin"]

# A shell starts what runs in its background deaf to Ctrl-C, and children inherit that: the
# commands whose answer to Ctrl-C is under test would never hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
