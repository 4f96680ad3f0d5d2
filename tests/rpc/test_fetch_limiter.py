"""Limits on fetches: who gets a permit, how many bytes, and who has to go."""

from __future__ import annotations

import pytest

from ourolog.rpc import fetch_limiter
from ourolog.rpc.fetch_limiter import COPIES, LEAST_GRANT_BYTES, MIB, FetchLimiter, FetchLimits
from ourolog.rpc.peer.refusals import PeerRefusedError

LIMITS = FetchLimits(max_fetchers=3, max_bytes=15 * MIB, max_fetch_bytes=MIB, max_connections=2)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer fetch need not wait before it replaces an older one."""
    monkeypatch.setattr(fetch_limiter, "REPLACE_AFTER_S", 0.0)


async def test_a_fetch_is_granted_what_it_asks_for_up_to_the_limit_of_one() -> None:
    limiter = FetchLimiter(LIMITS)
    assert (await limiter.acquire("n1", "a", 5)).granted_bytes == 5
    assert (await limiter.acquire("n2", "b", 100 * MIB)).granted_bytes == MIB


async def test_grants_get_smaller_as_the_limit_nears_and_end_when_nothing_is_free() -> None:
    limiter = FetchLimiter(FetchLimits(100, 8 * MIB, 16 * MIB, 100))
    grants: list[int] = []

    async def fill() -> None:
        for number in range(100):
            grants.append((await limiter.acquire("n1", str(number), 16 * MIB)).granted_bytes)

    with pytest.raises(PeerRefusedError, match="not taken yet"):
        await fill()
    assert grants == sorted(grants, reverse=True)
    assert grants[0] == MIB
    assert grants[-1] == LEAST_GRANT_BYTES
    assert limiter.used_bytes <= 8 * MIB


async def test_an_answer_counts_with_its_copies_until_its_fetch_leaves() -> None:
    limiter = FetchLimiter(LIMITS)
    permit = await limiter.acquire("n1", "a", MIB)
    assert limiter.used_bytes == COPIES * MIB
    permit.answered(1000)
    assert limiter.used_bytes == COPIES * 1000
    permit.release()
    assert (limiter.used_bytes, len(limiter)) == (0, 0)


async def test_a_batch_that_is_larger_than_the_limit_passes_alone_and_not_beside_others() -> None:
    limiter = FetchLimiter(LIMITS)
    first, second = await limiter.acquire("n1", "a", 1), await limiter.acquire("n2", "b", 1)
    with pytest.raises(PeerRefusedError, match="does not fit"):
        first.answered(100 * MIB)
    first.release()
    second.answered(100 * MIB)


@pytest.mark.usefixtures("at_once")
async def test_a_newcomer_takes_the_place_of_whoever_has_waited_longest_under_its_name() -> None:
    limiter = FetchLimiter(LIMITS)
    first, second = await limiter.acquire("n1", "a", 1), await limiter.acquire("n1", "b", 1)
    third = await limiter.acquire("n1", "c", 1)
    assert [permit.replaced.done() for permit in (first, second, third)] == [True, False, False]


@pytest.mark.usefixtures("at_once")
async def test_a_newcomer_to_a_full_limiter_takes_a_place_of_the_name_with_the_most_connections() -> None:
    limiter = FetchLimiter(LIMITS)
    other = await limiter.acquire("n1", "a", 1)
    crowd = [await limiter.acquire("n2", connection, 1) for connection in "bc"]
    await limiter.acquire("n3", "d", 1)
    assert not other.replaced.done()
    assert crowd[0].replaced.done()


@pytest.mark.usefixtures("at_once")
async def test_whoever_has_an_answer_to_take_cannot_be_replaced() -> None:
    limiter = FetchLimiter(LIMITS)
    for connection in "ab":
        (await limiter.acquire("n1", connection, 1)).answered(1)
    with pytest.raises(PeerRefusedError, match="being answered"):
        await limiter.acquire("n1", "c", 1)
    with pytest.raises(PeerRefusedError, match="older fetch"):
        await limiter.acquire("n1", "a", 1)


async def test_those_who_have_just_come_are_not_replaced_so_that_a_flood_is_few_reads() -> None:
    limiter = FetchLimiter(LIMITS)
    for connection in "ab":
        await limiter.acquire("n1", connection, 1)
    with pytest.raises(PeerRefusedError, match="try again"):
        await limiter.acquire("n1", "c", 1)


async def test_a_fetcher_is_remembered_between_two_fetches_beside_those_who_have_just_come() -> None:
    limiter = FetchLimiter(LIMITS)
    (await limiter.acquire("n1", "a", 1)).release()
    await limiter.acquire("n2", "b", 1)
    await limiter.acquire("n2", "c", 1)
    with pytest.raises(PeerRefusedError, match="try again"):
        await limiter.acquire("n2", "d", 1)
    await limiter.acquire("n1", "a", 1)


async def test_an_idle_permit_goes_to_a_newcomer_of_the_same_name_first() -> None:
    limiter = FetchLimiter(LIMITS)
    (await limiter.acquire("n1", "a", 1)).release()
    waiting = await limiter.acquire("n1", "b", 1)
    await limiter.acquire("n1", "c", 1)
    assert not waiting.replaced.done()


async def test_whoever_has_not_fetched_for_a_while_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_limiter, "REMEMBERED_FOR_S", 0.0)
    limiter = FetchLimiter(LIMITS)
    for number in range(10):
        (await limiter.acquire(f"n{number}", "a", 1)).release()
    assert len(limiter._fetchers) <= LIMITS.max_fetchers
