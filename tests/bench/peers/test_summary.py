"""Ratios are taken round by round; what is judged, and what the tables and the JSON say of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.peers.tables import print_run


def comparison(run: dict[str, Any], title: str) -> Any:
    return next(one for one in run["sessions"][0]["comparisons"] if one["title"] == title)


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians(run: dict[str, Any]) -> None:
    found = comparison(run, "64 in flight")
    assert found["ratio"] == {"median": 0.75, "min": 0.5, "max": 1.0, "values": [0.5, 1.0]}
    assert found["verdict"] == "aim reached"


def test_where_less_is_better_the_ratio_is_that_of_the_times(run: dict[str, Any]) -> None:
    found = comparison(run, "one at a time: p50")
    assert found["ratio"]["values"] == [2.0, 4.0]
    assert found["verdict"] == "NOT REACHED"


def test_an_idle_cluster_is_judged_by_its_busiest_node_and_a_peer_is_not_judged(run: dict[str, Any]) -> None:
    ours, etcd = run["sessions"][0]["idle"]
    assert ours["verdict"] == "NOT REACHED"
    assert "verdict" not in etcd


def test_everything_is_plain_json(run: dict[str, Any]) -> None:
    assert json.loads(json.dumps(run)) == run


def test_the_tables_say_ratios_costs_what_was_tried_what_failed_and_who_was_skipped(
    run: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_run(run)
    said = " ".join(capsys.readouterr().out.split())
    for part in (
        "ourolog / etcd",
        ">= 0.45 (aim 0.6)",
        "NOT REACHED",
        "other processes had 5% of the processors' time",
        "etcd: Put & more was the best of: Put 500, Put & more 700 records/s",
        "made again: etcd: Put & more: no leader",
        "kafka was skipped: there is no java on the PATH",
    ):
        assert part in said
