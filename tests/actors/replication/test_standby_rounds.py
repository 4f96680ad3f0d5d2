"""Whether a node without a vote keeps up: rounds, each with the leader's end as its goal (D section 4.2.1)."""

from __future__ import annotations

import itertools

from ourolog.actors.messages.election import StandbyFetched
from ourolog.actors.replication.standby_rounds import MAX_STANDBYS, StandbyRounds
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId

KEY = VoterKey(NodeId("n4"), 44)


def fetched(rounds: StandbyRounds, next_index: int, end: int, now_s: float) -> StandbyFetched | None:
    return rounds.fetched(KEY, Index(next_index), Index(end), now_s)


def is_caught_up(rounds: StandbyRounds, next_index: int, end: int, now_s: float) -> bool:
    told = fetched(rounds, next_index, end, now_s)
    assert told is not None
    return told.is_caught_up


def test_who_has_all_at_two_fetches_in_a_row_keeps_up() -> None:
    rounds = StandbyRounds(1.0)
    assert not is_caught_up(rounds, 9, 9, 0.0)
    assert is_caught_up(rounds, 9, 9, 0.25)


def test_what_was_seen_in_an_earlier_term_counts_for_nothing() -> None:
    rounds = StandbyRounds(1.0)
    fetched(rounds, 9, 9, 0.0)
    assert is_caught_up(rounds, 9, 9, 0.25)
    rounds.begin_term()
    assert not is_caught_up(rounds, 9, 9, 0.5)


def test_a_long_log_is_copied_first_and_then_what_came_meanwhile() -> None:
    rounds = StandbyRounds(1.0)
    ends = [(0, 100, 0.0), (40, 110, 0.9), (100, 120, 1.8), (120, 121, 2.5), (121, 122, 2.7)]
    told = [is_caught_up(rounds, *seen) for seen in ends]
    assert told == [False, False, False, False, True]


def test_who_is_slower_than_the_leader_writes_never_catches_up() -> None:
    rounds = StandbyRounds(1.0)
    assert not any(is_caught_up(rounds, 50 * at, 100 + 100 * at, 0.5 * at) for at in range(40))


def test_who_stops_fetching_has_to_begin_again() -> None:
    rounds = StandbyRounds(1.0)
    fetched(rounds, 9, 9, 0.0)
    assert is_caught_up(rounds, 9, 9, 0.5)
    assert not is_caught_up(rounds, 9, 9, 1.6)


def test_a_round_that_takes_too_long_ends_it_before_it_is_over() -> None:
    rounds = StandbyRounds(1.0)
    fetched(rounds, 9, 9, 0.0)
    assert is_caught_up(rounds, 9, 90, 0.5)
    assert is_caught_up(rounds, 10, 90, 1.4)
    assert not is_caught_up(rounds, 11, 90, 1.6)


def test_the_election_is_told_now_and_then_and_of_every_change() -> None:
    rounds = StandbyRounds(1.0)
    told = [fetched(rounds, 9, 9, at / 1000) for at in range(200)]
    said = [news for news in told if news is not None]
    assert [news.is_caught_up for news in said] == [False, True, True, True, True]
    assert [round(later.at_s - one.at_s, 2) for one, later in itertools.pairwise(said)] == [0, *[0.05] * 3]
    assert said[0] == StandbyFetched(NodeId("n4"), 44, Index(9), 0, is_caught_up=False, at_s=0.0)


def test_of_ever_new_names_only_so_many_are_watched_and_the_silent_make_room() -> None:
    rounds = StandbyRounds(1.0)
    for epoch in range(MAX_STANDBYS):
        assert rounds.fetched(VoterKey(NodeId("n5"), epoch), Index(0), Index(9), 0.0) is not None
    assert fetched(rounds, 9, 9, 0.5) is None
    assert fetched(rounds, 9, 9, 2.0) is not None
