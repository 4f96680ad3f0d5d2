"""A run as it is written to JSON: two rounds beside two peers, one of which was skipped."""

from __future__ import annotations

from typing import Any

import pytest

from bench.peers.comparisons import P50, RATE, Comparison, Entry, Wanted
from bench.peers.samples import Load, Sample
from bench.peers.session import Outcome
from bench.peers.summary import plain
from bench.peers.turns import Series


def sample(records: int, p50_us: float = 0.0) -> Sample:
    return Sample(records, 1.0, p50_us, p50_us * 2, 0.25, 0.5, 0.1)


@pytest.fixture
def outcome() -> Outcome:
    loads = {name: Load(name, list, list) for name in ("ourolog: Produce", "etcd: Put", "etcd: Put & more")}
    ours, put, best = (Entry.one(load) for load in loads.values())
    pair = ("ourolog", "etcd")
    return Outcome(
        "etcd",
        [
            Comparison("unary", "one at a time: p50", *pair, ours, put, P50, Wanted(1.6, 1.2, at_most=True)),
            Comparison("calls64", "64 in flight", *pair, ours, put, RATE, Wanted(0.45, 0.6)),
            Comparison("calls64", "64 in flight <its best>", *pair, ours, best, RATE, is_like=False),
        ],
        {
            "ourolog: Produce": Series(loads["ourolog: Produce"], [sample(300, 400.0), sample(100, 800.0)]),
            "etcd: Put": Series(loads["etcd: Put"], [sample(600, 200.0), sample(100, 200.0)]),
            "etcd: Put & more": Series(
                loads["etcd: Put & more"],
                [sample(600), sample(1_000)],
                tried={"etcd: Put": 500.0, "etcd: Put & more": 700.0},
                failures=["etcd: Put & more: no leader in /tmp/somewhere"],
            ),
        },
        [("ourolog", "abc", "3 nodes", [60.0]), ("etcd", "3.6.16", "3 members", [80.0])],
        {"ourolog": [0.4, 1.2], "etcd": [0.9]},
    )


@pytest.fixture
def run(outcome: Outcome) -> dict[str, Any]:
    return {
        "machine": "2 cores (some), Linux 6, ext4, Python 3.11",
        "date": "2026-11-28",
        "quick": False,
        "rounds": 2,
        "seconds": 1.0,
        "took_s": 60.0,
        "others": 0.05,
        "sessions": [plain(outcome)],
        "skipped": {"kafka": "there is no java on the PATH"},
        "broken": "",
    }
