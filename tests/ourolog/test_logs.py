"""Logs of a process: tried in a process of its own, since logging is the process's."""

from __future__ import annotations

import json
from collections.abc import Callable

PROGRAM = """
import logging, sys
import structlog
from ourolog.logs import configure_logs
configure_logs({level!r}, {format!r}, sys.stdout)
log = structlog.stdlib.get_logger().bind(node_id="n1")
log.debug("too_much")
log.info("ready", rpc_addr="127.0.0.1:1")
logging.getLogger("some.library").warning("its %s", "own words")
"""


def test_json_has_event_level_timestamp_and_fields_and_libraries_log_alike(run_python: Callable[[str], str]) -> None:
    lines = [json.loads(line) for line in run_python(PROGRAM.format(level="info", format="auto")).splitlines()]
    assert [line["event"] for line in lines] == ["ready", "its own words"]
    assert lines[0].pop("timestamp").endswith("Z")
    assert lines[0] == {"event": "ready", "level": "info", "node_id": "n1", "rpc_addr": "127.0.0.1:1"}
    assert lines[1]["level"] == "warning"


def test_text_is_for_people_and_has_no_colours_off_a_terminal(run_python: Callable[[str], str]) -> None:
    shown = run_python(PROGRAM.format(level="debug", format="text"))
    assert "too_much" in shown
    assert "rpc_addr=127.0.0.1:1" in shown
    assert "\x1b" not in shown


def test_what_is_below_the_level_is_not_logged(run_python: Callable[[str], str]) -> None:
    assert run_python(PROGRAM.format(level="error", format="json")) == ""
