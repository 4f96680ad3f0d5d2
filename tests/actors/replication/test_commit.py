"""How far the log is committed: what voters have on disk, and the positions between batches."""

from __future__ import annotations

import pytest

import ourolog.actors.replication.commit
from ourolog.actors.replication.commit import Boundaries, LeaderCommit, everywhere_index, majority_index
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import Run, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3, N4 = (NodeId(f"n{number}") for number in range(1, 5))
THREE = (N1, N2, N3)


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


# ---------------------------------------------------------------- what voters have on disk


def test_a_majority_is_more_than_half_and_where_nobody_votes_nothing_is_known() -> None:
    on_disk = {N1: Index(9), N2: Index(7), N3: Index(5), N4: Index(3)}
    for voters, majority, everywhere in (
        ((N1,), 9, 9),
        ((N1, N2), 7, 7),
        (THREE, 7, 5),
        ((*THREE, N4), 5, 3),
        ((N1, NodeId("n9"), NodeId("n8")), 0, 0),
        ((), 0, 0),
    ):
        assert (majority_index(voters, on_disk), everywhere_index(voters, on_disk)) == (majority, everywhere)


def test_what_a_disk_has_fetched_that_votes_no_more_is_forgotten() -> None:
    commit = LeaderCommit(Term(1), THREE)
    for voter, index in ((N1, 9), (N2, 7), (N3, 5)):
        commit.fetched(voter, 11, Index(index))
    commit.set_voters((N1, N2, N4), frozenset())
    assert commit.on_disk == {N1: 9, N2: 7}
    commit.set_voters(THREE, frozenset())
    assert commit.on_disk == {N1: 9, N2: 7}

    # From now on it matters which disk a voter has: that of n1 is the one that has fetched, that of n2 is not.
    keys = frozenset({VoterKey(N1, 11), VoterKey(N2, 99), VoterKey(N3, 33)})
    commit.set_voters(THREE, keys)
    assert commit.on_disk == {N1: 9}
    assert not commit.fetched(N2, 11, Index(8))
    assert commit.fetched(N2, 99, Index(4))
    assert commit.on_disk == {N1: 9, N2: 4}
    commit.set_voters(THREE, keys)
    assert commit.on_disk == {N1: 9, N2: 4}


def test_what_is_committed_is_in_the_leaders_own_term_at_a_boundary_and_only_ever_more() -> None:
    terms = TermHistory((Run(Term(1), (N1, 11), Index(0)), Run(Term(2), (N2, 22), Index(4))))
    boundaries = Boundaries()
    boundaries.extend((at(2), at(4), at(6), at(8)))
    commit = LeaderCommit(Term(2), THREE)
    commit.fetched(N1, 11, Index(8))

    def advanced(index: int) -> tuple[bool, Position, int]:
        commit.fetched(N2, 22, Index(index))
        return commit.advance(terms, boundaries), commit.committed, len(boundaries)

    assert [advanced(index) for index in (1, 2, 4)] == [(False, START, 4)] * 3
    assert advanced(5) == (False, START, 4)
    assert advanced(7) == (True, at(6), 1)
    for index in (7, 6, 2, 0):
        assert advanced(index) == (False, at(6), 1)
    assert advanced(8) == (True, at(8), 0)
