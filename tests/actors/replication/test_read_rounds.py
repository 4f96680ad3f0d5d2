"""Rounds of reads alone: which echoes count, and which reads they confirm."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from ourolog.actors.replication.read_rounds import ReadRounds
from ourolog.storage.types import Index, NodeId

N1, N2, N3, N4, N5 = (NodeId(f"n{number}") for number in range(1, 6))
THREE, FIVE = (N1, N2, N3), (N1, N2, N3, N4, N5)


def rounds_of(leader_id: NodeId = N1) -> ReadRounds[str]:
    return ReadRounds(leader_id, lambda: 100)


def test_a_round_is_confirmed_at_the_index_at_which_it_was_opened_by_the_echoes_of_a_majority() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.join("b")
    assert rounds.open(Index(7))
    for voter in (N2, N3):
        assert rounds.confirmed(FIVE) is None
        rounds.echo(voter, 100)
    assert rounds.confirmed(FIVE) == (7, ("a", "b"))
    assert rounds.confirmed(FIVE) is None


def test_a_leader_without_a_vote_does_not_count_itself() -> None:
    rounds = rounds_of(N4)
    rounds.join("a")
    rounds.open(Index(7))
    rounds.echo(N2, 100)
    assert rounds.confirmed(THREE) is None
    rounds.echo(N3, 100)
    assert rounds.confirmed(THREE) == (7, ("a",))


def test_a_leader_that_is_the_only_voter_needs_nobody() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.open(Index(7))
    assert rounds.confirmed((N1,)) == (7, ("a",))


def test_without_voters_nothing_is_confirmed() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.open(Index(7))
    assert rounds.confirmed(()) is None


def test_a_read_that_comes_during_a_round_waits_for_the_next_one() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.open(Index(7))
    rounds.join("b")
    assert not rounds.open(Index(8))
    rounds.echo(N2, 100)
    assert rounds.confirmed(THREE) == (7, ("a",))
    assert rounds.open(Index(9))
    rounds.echo(N2, 100)
    assert rounds.confirmed(THREE) is None
    rounds.echo(N2, 101)
    assert rounds.confirmed(THREE) == (9, ("b",))


def test_no_round_is_opened_for_nobody() -> None:
    rounds = rounds_of()
    assert not rounds.open(Index(7))
    rounds.join("a")
    rounds.forget("a")
    assert not rounds.open(Index(7))


def test_a_read_that_nobody_waits_for_is_not_among_the_confirmed() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.join("b")
    rounds.open(Index(7))
    rounds.forget("a")
    rounds.echo(N3, 100)
    assert rounds.confirmed(THREE) == (7, ("b",))


def test_who_does_not_vote_does_not_confirm() -> None:
    rounds = rounds_of()
    rounds.join("a")
    rounds.open(Index(7))
    rounds.echo(N4, 100)
    rounds.echo(N5, 100)
    assert rounds.confirmed(THREE) is None
    assert rounds.silent(THREE) == (N2, N3)


@given(st.lists(st.tuples(st.sampled_from(FIVE), st.integers(95, 110)), max_size=30), st.data())
def test_a_round_needs_a_majority_that_echoed_its_own_number_while_it_was_open(
    echoes: list[tuple[NodeId, int]], data: st.DataObject
) -> None:
    rounds, reads = ReadRounds[int](N1, lambda: 100), count()
    opened: dict[int, int] = {}
    echoed: set[NodeId] = set()
    for voter, number in echoes:
        if data.draw(st.booleans()):
            read = next(reads)
            rounds.join(read)
            if rounds.open(Index(read)):
                opened[rounds.number], echoed = read, {N1}
        rounds.echo(voter, number)
        if rounds.is_open and number == rounds.number:
            echoed.add(voter)
        is_due = rounds.is_open and len(echoed) >= 3
        ended = rounds.confirmed(FIVE)
        assert is_due == (ended is not None)
        if ended is not None:
            assert ended[0] == opened[rounds.number]
