"""Reads that wait for what their clients have seen."""

from __future__ import annotations

from random import Random

import pytest

from ourolog.actors.messages.server import CancelRequest, Consume
from ourolog.actors.requests.behind import BehindReads
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.types import Offset


def consume(request_id: int, seen_end: int, client: Probe) -> Consume:
    return Consume(request_id, Offset(0), 100, False, client, seen_end=Offset(seen_end))


def test_those_that_have_seen_least_are_taken_first_and_each_only_once_all_of_it_is_there() -> None:
    behind, client = BehindReads(), Probe()
    for request_id, seen_end in ((1, 9), (2, 5), (3, 7), (4, 5)):
        behind.add(consume(request_id, seen_end, client), 1.0)
    taken = []
    for end in (4, 5, 5, 5, 8, 8, 9, 9):
        found = behind.take(Offset(end))
        taken.append(found and found.request_id)
    assert taken == [None, 2, 4, None, 3, None, 1, None]
    assert len(behind) == 0


def test_whose_time_is_up_is_given_back_once_and_the_next_time_is_known() -> None:
    behind, client = BehindReads(), Probe()
    assert behind.next_deadline_s is None
    for request_id, deadline_s in ((1, 3.0), (2, 1.0), (3, 2.0)):
        behind.add(consume(request_id, 9, client), deadline_s)
    assert behind.next_deadline_s == 1.0
    assert [found.request_id for found in behind.expired(2.0)] == [2, 3]
    assert behind.expired(2.9) == []
    assert (behind.next_deadline_s, [found.request_id for found in behind]) == (3.0, [1])


@pytest.mark.parametrize("seed", range(5))
def test_those_that_are_left_are_still_taken_in_order(seed: int) -> None:
    chance, behind, client = Random(seed), BehindReads(), Probe()
    for request_id in range(40):
        behind.add(consume(request_id, chance.randrange(100), client), chance.random())
    behind.expired(0.3)
    for request_id in chance.sample(range(40), 10):
        behind.cancel(CancelRequest(request_id, client))
    left = []
    while (found := behind.take(Offset(100))) is not None:
        left.append(found.seen_end)
    assert 10 < len(left) < 40
    assert left == sorted(left)


def test_a_cancelled_one_is_forgotten_and_no_other_clients() -> None:
    behind, client, other = BehindReads(), Probe(), Probe()
    behind.add(consume(1, 5, client), 1.0)
    behind.add(consume(1, 4, other), 1.0)
    assert not behind.cancel(CancelRequest(2, client))
    assert behind.cancel(CancelRequest(1, client))
    assert not behind.cancel(CancelRequest(1, client))
    assert [found.reply_to for found in behind.take_all()] == [other]
    assert len(behind) == 0
