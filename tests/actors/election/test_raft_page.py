"""docs/raft.md speaks of functions, classes and numbers that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ourolog.actors.election.raft import decisions, founding, hand_over, rules, steps, voter_changer
from ourolog.actors.messages import events, store
from ourolog.actors.replication import commit, standby_rounds

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "raft.md").read_text(encoding="utf-8")
PLACES: tuple[Any, ...] = (
    rules,
    steps,
    decisions,
    hand_over,
    founding,
    voter_changer,
    standby_rounds,
    commit,
    store,
    events,
    rules.Role,
)


def test_every_name_on_the_page_is_in_the_code() -> None:
    names = set(re.findall(r"`([A-Za-z_]+)`", PAGE))
    assert len(names) > 20
    assert sorted(name for name in names if not any(hasattr(place, name) for place in PLACES)) == []


def test_every_file_on_the_page_is_there() -> None:
    for name in re.findall(r"`([a-z_/]+\.py)`", PAGE):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize(("name", "shown"), re.findall(r"\| `([A-Z_]+)` \| ([0-9.]+(?: to [0-9.]+)?) \|", PAGE))
def test_the_timeouts_are_those_of_the_code(name: str, shown: str) -> None:
    value = getattr(rules, name)
    assert tuple(float(part) for part in shown.split(" to ")) == (value if isinstance(value, tuple) else (value,))
