"""Rooms for fetches: who gets a place, how many bytes, and who has to go."""

from __future__ import annotations

import pytest

from ourolog.rpc import fetch_limits
from ourolog.rpc.errors import ServiceError
from ourolog.rpc.fetch_limits import COPIES, LEAST_GRANT_BYTES, MIB, FetchRoom, RoomLimits

LIMITS = RoomLimits(max_fetchers=3, max_bytes=15 * MIB, max_fetch_bytes=MIB, max_connections=2)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer fetch need not wait before it takes the place of an older one."""
    monkeypatch.setattr(fetch_limits, "REPLACE_AFTER_S", 0.0)


async def test_a_fetch_is_granted_what_it_asks_for_up_to_the_limit_of_one() -> None:
    room = FetchRoom(LIMITS)
    assert (await room.enter("n1", "a", 5)).granted_bytes == 5
    assert (await room.enter("n2", "b", 100 * MIB)).granted_bytes == MIB


async def test_grants_get_smaller_as_the_room_fills_and_end_when_nothing_is_free() -> None:
    room = FetchRoom(RoomLimits(100, 12 * MIB, 16 * MIB, 100))
    grants: list[int] = []

    async def fill() -> None:
        for number in range(100):
            grants.append((await room.enter("n1", str(number), 16 * MIB)).granted_bytes)

    with pytest.raises(ServiceError, match="not taken yet"):
        await fill()
    assert grants == sorted(grants, reverse=True)
    assert grants[0] == MIB
    assert grants[-1] == LEAST_GRANT_BYTES
    assert room.used_bytes <= 12 * MIB


async def test_an_answer_counts_with_its_copies_until_its_fetch_leaves() -> None:
    room = FetchRoom(LIMITS)
    place = await room.enter("n1", "a", MIB)
    assert room.used_bytes == COPIES * MIB
    place.answered(1000)
    assert room.used_bytes == COPIES * 1000
    place.leave()
    assert (room.used_bytes, len(room)) == (0, 0)


async def test_a_batch_that_is_larger_than_the_room_passes_alone_and_not_beside_others() -> None:
    room = FetchRoom(LIMITS)
    first, second = await room.enter("n1", "a", 1), await room.enter("n2", "b", 1)
    with pytest.raises(ServiceError, match="finds no room"):
        first.answered(100 * MIB)
    first.leave()
    second.answered(100 * MIB)


@pytest.mark.usefixtures("at_once")
async def test_a_newcomer_takes_the_place_of_whoever_has_waited_longest_under_its_name() -> None:
    room = FetchRoom(LIMITS)
    first, second = await room.enter("n1", "a", 1), await room.enter("n1", "b", 1)
    third = await room.enter("n1", "c", 1)
    assert [place.replaced.done() for place in (first, second, third)] == [True, False, False]


@pytest.mark.usefixtures("at_once")
async def test_a_newcomer_to_a_full_room_takes_a_place_of_the_name_with_the_most_connections() -> None:
    room = FetchRoom(LIMITS)
    other = await room.enter("n1", "a", 1)
    crowd = [await room.enter("n2", connection, 1) for connection in "bc"]
    await room.enter("n3", "d", 1)
    assert not other.replaced.done()
    assert crowd[0].replaced.done()


@pytest.mark.usefixtures("at_once")
async def test_whoever_has_an_answer_to_take_cannot_be_replaced() -> None:
    room = FetchRoom(LIMITS)
    for connection in "ab":
        (await room.enter("n1", connection, 1)).answered(1)
    with pytest.raises(ServiceError, match="being answered"):
        await room.enter("n1", "c", 1)
    with pytest.raises(ServiceError, match="older fetch"):
        await room.enter("n1", "a", 1)


async def test_those_who_have_just_come_are_not_replaced_so_that_a_flood_is_few_reads() -> None:
    room = FetchRoom(LIMITS)
    for connection in "ab":
        await room.enter("n1", connection, 1)
    with pytest.raises(ServiceError, match="try again"):
        await room.enter("n1", "c", 1)


async def test_a_fetcher_keeps_its_place_between_two_fetches_beside_those_who_have_just_come() -> None:
    room = FetchRoom(LIMITS)
    (await room.enter("n1", "a", 1)).leave()
    await room.enter("n2", "b", 1)
    await room.enter("n2", "c", 1)
    with pytest.raises(ServiceError, match="try again"):
        await room.enter("n2", "d", 1)
    await room.enter("n1", "a", 1)


async def test_an_idle_place_goes_to_a_newcomer_of_the_same_name_first() -> None:
    room = FetchRoom(LIMITS)
    (await room.enter("n1", "a", 1)).leave()
    waiting = await room.enter("n1", "b", 1)
    await room.enter("n1", "c", 1)
    assert not waiting.replaced.done()


async def test_whoever_has_not_fetched_for_a_while_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_limits, "REMEMBERED_FOR_S", 0.0)
    room = FetchRoom(LIMITS)
    for number in range(10):
        (await room.enter(f"n{number}", "a", 1)).leave()
    assert len(room._fetchers) <= LIMITS.max_fetchers
