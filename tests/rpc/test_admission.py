"""The door and the read budget: what is bounded, who waits, and who is let in."""

from __future__ import annotations

import asyncio

import pytest

from rpc.admission import Door, ReadBudget, Share
from rpc.errors import ServiceError


async def test_a_door_counts_requests_and_bytes() -> None:
    door = Door(max_requests=3, max_bytes=100)
    door.enter_or_refuse(60)
    with pytest.raises(ServiceError):
        door.enter_or_refuse(50)
    door.enter_or_refuse(40)
    with pytest.raises(ServiceError):
        door.enter_or_refuse(1)
    door.leave(60)
    door.enter_or_refuse(1)
    assert (door.requests, door.size_bytes) == (2, 41)


async def test_what_is_larger_than_the_door_goes_through_alone() -> None:
    door = Door(max_requests=3, max_bytes=100)
    door.enter_or_refuse(1000)
    with pytest.raises(ServiceError):
        door.enter_or_refuse(1)


async def test_those_who_wait_at_the_door_are_let_in_in_their_order_and_not_overtaken() -> None:
    door = Door(max_requests=10, max_bytes=100)
    door.enter_or_refuse(90)
    entered: list[str] = []

    async def enter(name: str, size: int) -> None:
        await door.enter(size)
        entered.append(name)

    large = asyncio.create_task(enter("large", 95))
    small = asyncio.create_task(enter("small", 5))
    await asyncio.sleep(0)
    assert entered == []
    with pytest.raises(ServiceError):
        door.enter_or_refuse(1)
    door.leave(90)
    await asyncio.gather(large, small)
    assert entered == ["large", "small"]


async def test_who_gives_up_waiting_lets_those_behind_it_in() -> None:
    door = Door(max_requests=10, max_bytes=100)
    door.enter_or_refuse(90)
    large = asyncio.create_task(door.enter(95))
    small = asyncio.create_task(door.enter(5))
    await asyncio.sleep(0)
    large.cancel()
    await small
    assert (door.requests, door.size_bytes) == (2, 95)


async def test_who_is_cancelled_just_after_being_let_in_leaves_again() -> None:
    door = Door(max_requests=1)
    door.enter_or_refuse(5)
    waiting = asyncio.create_task(door.enter(7))
    await asyncio.sleep(0)
    door.leave(5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert (door.requests, door.size_bytes) == (0, 0)


async def test_a_share_that_moves_is_left_alone_and_one_that_stands_still_is_dropped() -> None:
    budget = ReadBudget(max_bytes=100, stalled_after_s=0.01)
    dropped: list[str] = []
    still = Share(lambda: dropped.append("still"))
    moving = Share(lambda: dropped.append("moving"))
    assert budget.hold(still, 60)
    assert budget.hold(moving, 60)
    assert not budget.hold(Share(lambda: None), 1)

    async def move() -> None:
        while True:
            moving.progress += 1
            await asyncio.sleep(0)

    mover = asyncio.create_task(move())
    await budget.room()
    assert dropped == ["still"]
    assert budget.held_bytes == 60
    mover.cancel()


async def test_nobody_is_dropped_while_nobody_waits() -> None:
    budget = ReadBudget(max_bytes=100, stalled_after_s=0.0)
    share = Share(lambda: pytest.fail("nobody waited"))
    assert budget.hold(share, 200)
    for _ in range(20):
        await asyncio.sleep(0)
    budget.give_back(share)
    await budget.room()
    assert budget.held_bytes == 0
