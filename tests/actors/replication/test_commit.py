"""The positions between batches, from which a commit index becomes an offset."""

from __future__ import annotations

import pytest

import ourolog.actors.replication.commit
from ourolog.actors.replication.commit import Boundaries
from ourolog.storage.types import Index, Offset, Position


def at(index: int) -> Position:
    return Position(Index(index), Offset(10 * index))


def test_boundaries_are_bounded_and_the_last_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ourolog.actors.replication.commit, "MAX_BOUNDARIES", 64)
    boundaries = Boundaries()
    for index in range(1, 1000):
        boundaries.extend((at(index),))
        assert boundaries.highest(Index(index)) == at(index)
        assert len(boundaries) <= 64
    # What lies between two that are left commits with the next one.
    middle = boundaries.highest(Index(500))
    assert middle is not None
    assert 0 < middle.index <= 500


def test_what_is_committed_or_cut_has_no_boundary_any_more() -> None:
    boundaries = Boundaries()
    boundaries.extend(tuple(at(index) for index in range(1, 10)))
    boundaries.forget(Index(3))
    boundaries.cut(Index(7))
    assert [boundaries.highest(Index(index)) for index in (3, 4, 9)] == [None, at(4), at(7)]
