"""What the store says of a leader's batches before they are on disk."""

from __future__ import annotations

from ourolog.actors.messages.store import AppendFetched, FetchedAppended, FetchedRejected, FetchedTaken
from ourolog.storage.types import Index, Term
from tests.actors.store_stage import N1, Stage, at, leader_and_follower


def told(follower: Stage) -> list[object]:
    kinds = FetchedTaken | FetchedAppended | FetchedRejected
    return [message for message in follower.client.take() if isinstance(message, kinds)]


def test_if_there_is_more_to_come_it_says_first_that_it_has_taken_them() -> None:
    leader, follower = leader_and_follower()
    leader.append(b"a", b"b", term=1)
    follower.tell(AppendFetched(N1, Term(1), leader.read(until=1).batches, follower.client, Index(2)))
    taken, appended = told(follower)
    assert isinstance(taken, FetchedTaken)
    assert taken == FetchedTaken(N1, Term(1), at(1), taken.last)
    assert taken.last is not None
    assert (taken.last.term, taken.last.writer[0]) == (1, N1)
    assert appended == FetchedAppended(N1, Term(1), at(1))
    follower.tell(AppendFetched(N1, Term(1), leader.read(1).batches, follower.client, Index(2)))
    assert told(follower) == [FetchedAppended(N1, Term(1), at(2))]


def test_what_it_rejects_it_has_not_taken() -> None:
    leader, follower = leader_and_follower()
    leader.append(b"a", b"b", term=1)
    follower.tell(AppendFetched(N1, Term(1), leader.read(1).batches, follower.client, Index(9)))
    (rejected,) = told(follower)
    assert isinstance(rejected, FetchedRejected)
