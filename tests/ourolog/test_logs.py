"""Logs of a process: tried in a process of its own, since logging is the process's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from ourolog.logs import LibraryLimit

PROGRAM = """
import logging, sys
from ourolog.logs import EventLog, configure_logs
configure_logs({level!r}, {format!r}, sys.stdout)
log = EventLog(logging.getLogger("ourolog"), node_id="n1")
log.log(logging.DEBUG, "too_much")
log.info("ready", rpc_addr="127.0.0.1:1")
logging.getLogger("some.library").warning("its %s", "own words")
"""


def test_json_has_event_level_timestamp_and_fields_and_libraries_log_alike(run_python: Callable[[str], str]) -> None:
    lines = [json.loads(line) for line in run_python(PROGRAM.format(level="info", format="auto")).splitlines()]
    assert [line["event"] for line in lines] == ["ready", "its own words"]
    assert lines[0].pop("timestamp").endswith("Z")
    assert lines[0] == {"event": "ready", "level": "info", "node_id": "n1", "rpc_addr": "127.0.0.1:1"}
    assert lines[1]["level"] == "warning"


def test_an_error_of_a_library_is_one_line_of_json_with_its_traceback(run_python: Callable[[str], str]) -> None:
    failure = """
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("some.library").exception("a call failed")
log.warning("odd", reason="of several\\nlines", value=sys)
"""
    failed, odd = [
        json.loads(line) for line in run_python(PROGRAM.format(level="warning", format="json") + failure).splitlines()
    ][1:]
    assert list(failed) == ["event", "level", "timestamp", "exception"]
    assert failed["exception"].startswith("Traceback (most recent call last):\n")
    assert failed["exception"].endswith("ZeroDivisionError: division by zero")
    assert list(odd) == ["node_id", "reason", "value", "event", "level", "timestamp"]
    assert (odd["reason"], odd["value"]) == ("of several\nlines", "<module 'sys' (built-in)>")
    shown = run_python(PROGRAM.format(level="warning", format="text") + failure)
    assert shown.count("Traceback") == 1
    assert "ZeroDivisionError: division by zero\n" in shown


def test_text_is_for_people_and_has_no_colours_off_a_terminal(run_python: Callable[[str], str]) -> None:
    shown = run_python(PROGRAM.format(level="debug", format="text"))
    assert "too_much" in shown
    assert "rpc_addr=127.0.0.1:1" in shown
    assert "\x1b" not in shown


def test_what_is_below_the_level_is_not_logged(run_python: Callable[[str], str]) -> None:
    assert run_python(PROGRAM.format(level="error", format="json")) == ""


def test_a_library_that_says_one_thing_for_ever_is_logged_once_and_events_always(
    run_python: Callable[[str], str],
) -> None:
    flood = """
for number in range(1000):
    logging.getLogger("grpc._cython.cygrpc").error("Unexpected [%s]", bytes([255, number % 256]))
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on %s", bytes([255, number % 256]))
    logging.getLogger("grpc._cython.cygrpc").error(
        "ExecuteBatchError raised in core by servicer method [%s]", b"/ourolog.peer.v1.Peer/LogEnd"
    )
    logging.getLogger("asyncio").error("something else %d", number)
    log.info("event")
"""
    lines = [json.loads(line) for line in run_python(PROGRAM.format(level="info", format="json") + flood).splitlines()]
    said = [line["event"] for line in lines[2:]]
    assert said.count("event") == 1000
    assert len(said) == 1002


def test_the_next_time_it_is_said_how_many_were_held_back() -> None:
    limit = LibraryLimit(again_after_s=0.05)
    record = logging.LogRecord("grpc", logging.ERROR, "", 1, "Unexpected [%s]", ("x",), None)
    assert [limit.filter(record) for _ in range(3)] == [True, False, False]
    limit._kinds = {kind: (0.0, held_back) for kind, (_, held_back) in limit._kinds.items()}
    assert limit.filter(record)
    assert record.getMessage() == "Unexpected [x] (2 more like this were not logged)"


def test_a_flood_of_different_kinds_is_one_kind() -> None:
    limit = LibraryLimit(max_kinds=3)
    records = [logging.LogRecord("grpc", logging.ERROR, "", 1, "a" * number, (), None) for number in range(1, 40)]
    assert sum(limit.filter(record) for record in records) == 4
