from __future__ import annotations

import io

import pytest
from rich.console import Console

from ourolog.live_view import LiveView
from ourolog.local_cluster import LogLine

CASES = [
    ('{"event": "ready", "rpc_addr": "h:1", "gossip_addr": "h:2"}', "n1   ready       gRPC on h:1, gossip on h:2"),
    ('{"event": "not_ready", "reason": "no quorum yet"}', "n1   not ready   no quorum yet"),
    ('{"event": "member_joined", "member": "n2", "rpc_addr": "h:3"}', "n1   joined      n2 at h:3"),
    ('{"event": "member_failed", "member": "n2"}', "n1   failed      n2 no longer answers"),
    ('{"event": "pull_started", "source": "n2"}', "n1   pulling     n1 <- n2"),
    ('{"event": "pull_stopped", "source": "n2", "reason": "it left"}', "n1   stopped     n1 <- n2 (it left)"),
    (
        '{"event": "cycle_seen", "path": ["n1", "n2", "n1"], "count": 2, "broken": true}',
        "n1   cycle seen  n1 -> n2 -> n1 (2 batches dropped)",
    ),
    (
        '{"event": "cycle_seen", "path": ["n1", "n2", "n1"], "count": 1, "broken": false}',
        "n1   cycle seen  n1 -> n2 -> n1 (1 batch appended once more)",
    ),
    ('{"event": "leader_changed", "leader": "n1", "term": 1}', "n1   leader      n1 leads term 1"),
    ('{"event": "leader_changed", "leader": null, "term": 2}', "n1   leader      nobody yet in term 2"),
    ('{"event": "voters_changed", "voters": ["n1", "n2"]}', "n1   voters      n1, n2"),
    ('{"event": "node_failed", "reason": "disk full"}', "n1   failed      disk full"),
    ("Segmentation fault", "n1   said        Segmentation fault"),
]


def shown(text: str) -> str:
    stream = io.StringIO()
    LiveView(Console(file=stream)).show(LogLine.parse("n1", text))
    return stream.getvalue()


@pytest.mark.parametrize(("logged", "line"), CASES)
def test_an_event_that_matters_is_one_readable_line(logged: str, line: str) -> None:
    assert shown(logged) == f"  {line}\n"


@pytest.mark.parametrize("event", ["listening", "stopping", "nobody_elected", "never heard of"])
def test_what_only_a_log_needs_is_not_shown(event: str) -> None:
    assert shown(f'{{"event": "{event}"}}') == ""


@pytest.mark.parametrize(
    "logged",
    ['{"event": "leader_changed", "leader": null, "term": 0}', '{"event": "voters_changed", "voters": []}'],
)
def test_that_a_node_which_begins_knows_nothing_yet_is_not_shown(logged: str) -> None:
    assert shown(logged) == ""


def test_a_long_line_is_not_wrapped() -> None:
    assert shown('{"event": "node_failed", "reason": "' + "x" * 500 + '"}').count("\n") == 1


@pytest.mark.parametrize("text", ["5", "[]", "null", "{", '{"event": 5}'])
def test_output_that_is_no_log_line_does_no_harm(text: str) -> None:
    assert LogLine.parse("n1", text).node_id == "n1"
