"""The limiters: what is bounded, how it is shared, who waits, and who is let in."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ourolog.rpc.admission import FairLimit, ProduceLimiter, ReadBudget, ReadReservation
from ourolog.rpc.errors import ServiceError


def test_a_client_alone_gets_two_thirds_and_each_further_one_a_part_of_the_rest() -> None:
    limit = FairLimit(1_000_000, 90)
    taken = {}
    for client in ("a", "b", "c"):
        while limit.has_room(client, 1):
            limit.take(client, 1)
        taken[client] = limit.held_by(client)[1]
    assert taken == {"a": 60, "b": 20, "c": 6}
    assert limit.has_room("d", 1)


def test_the_same_holds_for_how_many() -> None:
    limit = FairLimit(9, 1_000_000)
    while limit.has_room("a", 1):
        limit.take("a", 1)
    assert limit.held_by("a") == (6, 6)
    assert limit.has_room("b", 1)


async def test_what_is_larger_than_the_bound_goes_through_alone() -> None:
    limiter = ProduceLimiter(max_requests=3, max_bytes=100)
    limiter.admit_or_refuse("a", 1000)
    with pytest.raises(ServiceError):
        limiter.admit_or_refuse("b", 1)


async def test_a_small_produce_finds_room_beside_greedy_ones() -> None:
    limiter = ProduceLimiter()
    for client in range(200):
        with contextlib.suppress(ServiceError):
            while True:
                limiter.admit_or_refuse(f"greedy {client}", 8 * 1024 * 1024)
    limiter.admit_or_refuse("honest", 100_000)


async def test_those_who_wait_are_let_in_in_their_order_as_far_as_there_is_room() -> None:
    limiter = ProduceLimiter(max_requests=100, max_bytes=100)
    limiter.admit_or_refuse("first", 60)
    entered: list[str] = []

    async def enter(name: str, size: int) -> None:
        await limiter.admit(name, size, 60.0)
        entered.append(name)

    large = asyncio.create_task(enter("large", 50))
    other = asyncio.create_task(enter("other", 20))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert entered == ["other"]
    limiter.release("other", 20)
    limiter.release("first", 60)
    await asyncio.gather(large, other)
    assert entered == ["other", "large"]


async def test_who_finds_no_room_in_time_is_refused_and_forgotten() -> None:
    limiter = ProduceLimiter(max_requests=10, max_bytes=100)
    limiter.admit_or_refuse("first", 90)
    with pytest.raises(ServiceError):
        await limiter.admit("second", 90, 0.001)
    limiter.release("first", 90)
    assert (limiter.limit.count, limiter.limit.size_bytes) == (0, 0)


async def test_a_share_that_moves_is_left_alone_and_one_that_stands_still_is_dropped_but_what_is_in_flight() -> None:
    budget = ReadBudget(max_bytes=100, stalled_after_s=0.01)
    dropped: list[str] = []
    still = ReadReservation("a", lambda: dropped.append("still"))
    moving = ReadReservation("b", lambda: dropped.append("moving"))
    assert budget.resize(still, 60)
    still.in_flight_bytes = 15
    assert budget.resize(moving, 60)
    assert not budget.resize(ReadReservation("b", lambda: None), 1)

    async def move() -> None:
        while True:
            moving.progress += 1
            await asyncio.sleep(0)

    mover = asyncio.create_task(move())
    await budget.reserve(ReadReservation("a", lambda: None), 10)
    assert dropped == ["still"]
    assert budget.held_bytes == 85
    mover.cancel()


async def test_nobody_is_dropped_while_nobody_waits() -> None:
    budget = ReadBudget(max_bytes=100, stalled_after_s=0.0)
    reservation = ReadReservation("a", lambda: pytest.fail("nobody waited"))
    assert budget.resize(reservation, 200)
    for _ in range(20):
        await asyncio.sleep(0)
    budget.release(reservation)
    assert budget.held_bytes == 0


async def test_a_client_that_holds_nothing_finds_room_when_others_have_taken_all() -> None:
    budget = ReadBudget(max_bytes=100, stalled_after_s=60.0)
    for client in range(3):
        reservation = ReadReservation(f"stuck {client}", lambda: None)
        assert budget.resize(reservation, 50)
        reservation.in_flight_bytes = 50
    assert budget.resize(ReadReservation("honest", lambda: None), 50)
    assert not budget.resize(ReadReservation("stuck 1", lambda: None), 50)
    # And that has an end, too: memory is bounded, whoever asks.
    assert not budget.resize(ReadReservation("one too many", lambda: None), 50)


async def test_who_gives_up_in_the_turn_in_which_somebody_leaves_is_forgotten() -> None:
    limiter = ProduceLimiter(max_requests=10, max_bytes=100)
    limiter.admit_or_refuse("first", 30)
    limiter.admit_or_refuse("second", 30)
    waiting = asyncio.create_task(limiter.wait_for_room("third", 90))
    await asyncio.sleep(0)
    waiting.cancel()
    limiter.release("first", 30)
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert waiting.cancelled()
    limiter.release("second", 30)
