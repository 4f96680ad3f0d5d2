"""Terms and their writers: where two logs part, and that finding it ends."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ourolog.storage.state import LogState
from ourolog.storage.terms import Place, Run, TermHistory, place_of
from ourolog.storage.types import Index, NodeId, Term

A, B, C = (NodeId("a"), 1), (NodeId("b"), 2), (NodeId("c"), 3)


def history(*runs: tuple[int, tuple[NodeId, int], int]) -> TermHistory:
    return TermHistory(tuple(Run(Term(term), writer, Index(first)) for term, writer, first in runs))


def test_an_entry_has_the_place_of_the_run_it_is_in() -> None:
    terms = history((1, A, 0), (3, B, 4))
    assert [terms.place_of(Index(at)) for at in (0, 3, 4, 9)] == [(1, A), (1, A), (3, B), (3, B)]
    assert history((3, B, 4)).place_of(Index(3)) is None


def test_the_writer_of_a_term_is_who_made_its_entries_and_of_no_term_whose_log_it_is() -> None:
    n1, n2 = NodeId("n1"), NodeId("n2")
    assert place_of(Term(2), (n1,), 7) == Place(Term(2), (n1, 7))
    assert place_of(Term(0), (n1,), 7) == place_of(Term(0), (n2, n1), 8) == Place(Term(0), (n1, 0))


def test_a_leader_goes_below_a_term_that_another_wrote() -> None:
    leader = history((1, A, 0), (2, B, 4))
    assert leader.parting(Place(Term(2), B), Index(9)) == (Place(Term(1 + 1), B), 9)
    assert leader.parting(Place(Term(2), C), Index(9)) == (Place(Term(1), A), 4)
    assert leader.parting(Place(Term(1), C), Index(9)) == (None, 0)


def test_what_a_state_knows_of_terms_survives_its_encoding() -> None:
    state = LogState(NodeId("n1"), history((0, (NodeId("n1"), 0), 0), (5, B, 4)))
    assert LogState.decode(NodeId("n1"), state.encode()).terms == state.terms


# ---------------------------------------------------------------- any two logs


@st.composite
def logs(draw: st.DrawFn) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Two logs as lists of places: a common beginning, then each its own way, by writers of its own.

    They may write the same terms, and one of them is another with a new disk.
    """

    def runs(least_term: int, writers: tuple[tuple[NodeId, int], ...]) -> list[Place]:
        entries: list[Place] = []
        term = least_term
        for length in draw(st.lists(st.integers(1, 4), max_size=4)):
            term += draw(st.integers(1, 2))
            entries += [Place(Term(term), draw(st.sampled_from(writers)))] * length
        return entries

    shared = runs(0, (A, B, C))
    top = shared[-1].term if shared else 0

    def tail(*writers: tuple[NodeId, int]) -> list[Place]:
        # A term of the beginning may go on in either.
        more = [shared[-1]] * draw(st.integers(0, 3)) if shared else []
        return more + runs(top, writers)

    return (*shared, *tail(A, B)), (*shared, *tail(C, (A[0], 9)))


def of(entries: tuple[Place, ...]) -> TermHistory:
    terms = TermHistory()
    for at, place in enumerate(entries):
        terms = terms.with_entry(place, Index(at))
    return terms


@given(logs())
@settings(max_examples=500, deadline=None)
def test_asking_and_cutting_ends_with_a_prefix_and_never_cuts_into_what_is_shared(
    both: tuple[tuple[Place, ...], tuple[Place, ...]],
) -> None:
    leader, follower = both
    shared = next(
        (at for at, (one, other) in enumerate(zip(leader, follower, strict=False)) if one != other),
        min(len(leader), len(follower)),
    )
    leaders = of(leader)
    rounds = 0
    while follower and (len(follower) > len(leader) or leaders.place_of(Index(len(follower) - 1)) != follower[-1]):
        answer, end = leaders.parting(follower[-1], Index(len(leader)))
        cut = of(follower).cut(answer, end, Index(len(follower)))
        assert shared <= cut < len(follower)
        follower = follower[:cut]
        rounds += 1
    assert leader[: len(follower)] == follower
    assert rounds <= len(of(both[1]).runs) + 1
