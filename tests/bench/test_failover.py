"""What the benchmark of failover takes for a pause, for the next acknowledgement, and for a loss."""

from __future__ import annotations

import asyncio

import pytest

from bench.failover import Acknowledged, Clients


@pytest.fixture
def clients() -> Clients:
    found = Clients([], "test")
    for called_s, returned_s in ((0.0, 1.0), (1.5, 2.0), (1.2, 5.0), (2.5, 4.5), (5.0, 5.25)):
        offset = len(found.acknowledged)
        found.acknowledged.append(Acknowledged(called_s, returned_s, offset, b"%d" % offset))
    return found


def test_a_pause_begins_with_the_last_acknowledgement_before_the_fault(clients: Clients) -> None:
    assert clients.longest_pause_s(3.0, 6.0) == 2.5
    assert clients.longest_pause_s(4.6, 5.3) == 0.5


def test_a_pause_lasts_until_the_end_where_nothing_was_acknowledged_any_more(clients: Clients) -> None:
    assert clients.longest_pause_s(4.0, 30.0) == 24.75


def test_the_next_acknowledgement_is_one_of_a_call_after_the_fault(clients: Clients) -> None:
    async def next_after(at_s: float) -> float:
        return (await clients.next_after(at_s)).returned_s

    assert asyncio.run(next_after(1.6)) == 4.5  # and not the one at 2.0, which was asked for before
    assert asyncio.run(next_after(2.6)) == 5.25
