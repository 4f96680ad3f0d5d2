"""A leader's election hears of its voters' fetches as often as it needs to, and not of each."""

from __future__ import annotations

from ourolog.actors.messages.election import VoterFetched
from ourolog.actors.messages.events import LeaderChanged
from ourolog.storage.types import Index, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage


def leading() -> Stage:
    """n1, which leads in term 1 with a log up to index 10."""
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(10, 9)
    return stage


def told(stage: Stage) -> list[tuple[str, int]]:
    """What the election was told since this was asked last: voters and their ends."""
    return [(news.voter_id, news.end) for news in stage.election.take() if isinstance(news, VoterFetched)]


def test_of_each_voter_an_election_hears_the_first_fetch_and_then_twenty_a_timeout_at_most() -> None:
    stage = leading()
    for number in range(100):
        stage.fetch(2 * number, N2, 5)
        stage.fetch(2 * number + 1, N3, 6)
        if not number:
            assert told(stage) == [("n2", 5), ("n3", 6)]
        stage.runtime.run_for(0.01)
    news = told(stage)
    assert 2 * 16 <= len(news) <= 2 * 19
    assert set(news) == {("n2", 5), ("n3", 6)}


def test_that_a_voter_has_reached_the_end_is_told_at_once_and_once() -> None:
    stage = leading()
    stage.fetch(1, N2, 9)
    assert told(stage) == [("n2", 9)]
    stage.fetch(2, N2, 10)
    assert told(stage) == [("n2", 10)]
    stage.fetch(3, N2, 10)
    stage.appended(11, 10)
    stage.fetch(4, N2, 10)
    stage.fetch(5, N2, 11)
    assert told(stage) == []
    stage.runtime.run_for(0.05)
    stage.appended(12, 11)
    stage.fetch(6, N2, 11)
    stage.fetch(7, N2, 12)
    assert told(stage) == [("n2", 11), ("n2", 12)]


def test_a_voter_that_only_wants_what_comes_at_the_end_has_not_reached_it() -> None:
    stage = leading()
    stage.fetch(1, N2, 10, disk_index=Index(9))
    stage.fetch(2, N2, 10)
    assert told(stage) == [("n2", 9), ("n2", 10)]


def test_another_disk_is_told_at_once_and_so_is_a_later_term() -> None:
    stage = leading()
    stage.fetch(1, N2, 10)
    stage.fetch(2, N2, 0, log_epoch=2)
    assert told(stage) == [("n2", 10), ("n2", 0)]
    stage.tell(LeaderChanged(Term(2), N1))
    stage.fetch(3, N2, 0, log_epoch=2, term=Term(2))
    assert told(stage) == [("n2", 0)]


def test_every_fetch_is_told_while_somebody_wants_to_know() -> None:
    stage = leading()
    actor = stage.ref.actor_inbox.actor
    actor.state.reports_every_fetch = True
    for number in range(5):
        stage.fetch(number, N2, 5)
    assert told(stage) == [("n2", 5)] * 5
    actor.state.reports_every_fetch = False
    stage.fetch(6, N2, 5)
    assert told(stage) == []
