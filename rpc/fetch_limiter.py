"""A limit on other nodes' fetches under way at once, and on the bytes of their answers.

A fetch asks for up to some megabytes, waits for up to half a minute, and its answer stays in
memory until the fetcher has taken it, which may be never. Anybody can write any name into a
fetch. So there is a limiter for each kind of fetcher, and strangers cannot exhaust that of the others:
voters (named by this node's configuration), members (known from gossip), and everybody else, who
gets as much as a newcomer needs until gossip has introduced it.

To a limiter a fetcher is a name on a connection. It has one fetch at a time, as nodes do: a newer one
replaces the older. A fetch is granted a part of the bytes that are free, so that the
first cannot take them all; what its answer really takes replaces that when it has been read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from ourolog.rpc.peer.refusals import PeerRefusedError, overloaded

MIB: Final = 1024 * 1024
# An answer is in memory as it was read, and as it was joined of what the store gave.
COPIES: Final = 2
LEAST_GRANT_BYTES: Final = 64 * 1024
# A part of what is free goes to one fetch, the rest is for those who come after it.
_PART: Final = 4
# How soon a newer fetch may replace one that has no answer: so fast can one fetcher
# that does not wait for answers have the log read.
REPLACE_AFTER_S: Final = 0.1
# A fetcher that paused for longer than this counts as a newcomer.
REMEMBERED_FOR_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The figures of one limiter.

    max_fetchers: how many fetchers, each a name on a connection, it counts at once.
    max_bytes: of all grants and answers, copies counted; a single answer may be larger, since a batch comes whole.
    max_fetch_bytes: how much one fetch may be granted.
    max_connections: for one name.
    """

    max_fetchers: int
    max_bytes: int
    max_fetch_bytes: int
    max_connections: int


VOTERS: Final = FetchLimits(64, 128 * MIB, 16 * MIB, 4)
MEMBERS: Final = FetchLimits(128, 128 * MIB, 16 * MIB, 4)
# One name for all of them: strangers may call themselves anything, as often as they like.
STRANGERS: Final = FetchLimits(16, 32 * MIB, 256 * 1024, 16)


class FetchPermit:
    """The permit of one fetch. `release` once, whatever becomes of it.

    granted_bytes: how many bytes of batches it may ask for.
    replaced: done when a newer fetch replaces this one; the fetch then ends with `replaced_error`.
    """

    def __init__(self, limiter: FetchLimiter, fetcher: _Fetcher) -> None:
        self._limiter = limiter
        self._fetcher = fetcher
        self._held_bytes = 0
        self.granted_bytes = 0
        self.is_answered = False
        self.handed_over_at_s: float | None = None
        self.replaced: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def grant(self, granted_bytes: int, now_s: float) -> None:
        self.granted_bytes = granted_bytes
        self.handed_over_at_s = now_s
        self._hold(granted_bytes * COPIES)

    def answered(self, size_bytes: int) -> None:
        """The answer has come, and stays until it is taken. Raises PeerRefusedError when it does not fit."""
        self.is_answered = True
        self._hold(0)
        if not self._limiter.fits(size_bytes * COPIES):
            raise overloaded(
                f"an answer of {size_bytes} bytes does not fit beside the {self._limiter.used_bytes} bytes of "
                "answers that others have not taken yet"
            )
        self._hold(size_bytes * COPIES)

    def replace(self) -> None:
        if not self.replaced.done():
            self.replaced.set_result(None)

    def release(self) -> None:
        self._hold(0)
        self.replaced.cancel()
        self._limiter.released(self, self._fetcher)

    def _hold(self, held_bytes: int) -> None:
        self._limiter.used_bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes


class _Fetcher:
    """A name on a connection."""

    __slots__ = ("name", "newest", "open", "until_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.newest: FetchPermit | None = None
        self.open = 0
        self.until_s = 0.0


class FetchLimiter:
    """The fetches of one kind of fetchers. Lives on one asyncio loop."""

    def __init__(self, limits: FetchLimits) -> None:
        self.limits = limits
        self.used_bytes = 0
        self._fetchers: dict[tuple[str, str], _Fetcher] = {}

    def __len__(self) -> int:
        return sum(fetcher.open for fetcher in self._fetchers.values())

    def fits(self, size_bytes: int) -> bool:
        return not self.used_bytes or self.used_bytes + size_bytes <= self.limits.max_bytes

    async def acquire(self, name: str, connection: str, asked_bytes: int) -> FetchPermit:
        """A permit for a fetch, and its grant. Raises PeerRefusedError."""
        loop = asyncio.get_running_loop()
        fetcher = self._fetcher(name, connection, loop.time())
        older = fetcher.newest
        permit = FetchPermit(self, fetcher)
        fetcher.open += 1
        fetcher.newest = permit
        try:
            if older is not None:
                await self._take_over(older, permit)
            permit.grant(self._granted_bytes(asked_bytes), loop.time())
        except BaseException:
            permit.release()
            raise
        return permit

    def released(self, permit: FetchPermit, fetcher: _Fetcher) -> None:
        fetcher.open -= 1
        # It is remembered until its next fetch.
        fetcher.until_s = asyncio.get_running_loop().time() + REMEMBERED_FOR_S
        if fetcher.newest is permit:
            fetcher.newest = None

    def _fetcher(self, name: str, connection: str, now_s: float) -> _Fetcher:
        found = self._fetchers.get((name, connection))
        if found is not None:
            return found
        if self._is_full(name):
            self._forget(now_s)
        if self._is_full(name):
            self._evict(name, now_s)
        made = self._fetchers[name, connection] = _Fetcher(name)
        return made

    def _is_full(self, name: str) -> bool:
        return len(self._fetchers) >= self.limits.max_fetchers or self._same_name_is_full(name)

    def _same_name_is_full(self, name: str) -> bool:
        return sum(other.name == name for other in self._fetchers.values()) >= self.limits.max_connections

    def _forget(self, now_s: float) -> None:
        """Those who have not fetched for a while."""
        for key, fetcher in list(self._fetchers.items()):
            if not fetcher.open and fetcher.until_s <= now_s:
                del self._fetchers[key]

    def _evict(self, name: str, now_s: float) -> None:
        """Forget a fetcher under this name, or else under the one with the most connections.

        Of those the one that has not fetched for longest goes, or else the fetch that has waited
        longest: a newcomer gets a permit however many wait, and whoever is ended can come again.
        Raises PeerRefusedError when all others are too fresh, or have answers to take.
        """
        crowd = name
        if not self._same_name_is_full(name):
            crowd = Counter(fetcher.name for fetcher in self._fetchers.values()).most_common(1)[0][0]
        idle = [
            (fetcher.until_s, key)
            for key, fetcher in self._fetchers.items()
            if fetcher.name == crowd and not fetcher.open
        ]
        if idle:
            del self._fetchers[min(idle)[1]]
            return
        open_fetches = [
            (permit.handed_over_at_s, key, permit)
            for key, fetcher in self._fetchers.items()
            if fetcher.name == crowd
            and (permit := fetcher.newest) is not None
            and not permit.is_answered
            and permit.handed_over_at_s is not None
            and permit.handed_over_at_s + REPLACE_AFTER_S <= now_s
        ]
        if not open_fetches:
            raise overloaded(f"{len(self._fetchers)} fetch from this node already, and all are being answered")
        _, key, longest = min(open_fetches, key=itemgetter(0))
        longest.replace()
        del self._fetchers[key]

    async def _take_over(self, older: FetchPermit, permit: FetchPermit) -> None:
        """End the older fetch; wait a little if it has just been handed to the replicator."""
        if older.is_answered:
            raise overloaded("the answer to an older fetch has not been taken yet")
        handed_over_at_s = older.handed_over_at_s
        older.replace()
        if handed_over_at_s is None:
            # It was waiting for its own turn, which this one inherits.
            handed_over_at_s = asyncio.get_running_loop().time()
        wait_s = handed_over_at_s + REPLACE_AFTER_S - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.wait((permit.replaced,), timeout=wait_s)
        if permit.replaced.done():
            raise replaced_error()

    def _granted_bytes(self, asked_bytes: int) -> int:
        free_bytes = max(0, self.limits.max_bytes - self.used_bytes) // COPIES
        if free_bytes < LEAST_GRANT_BYTES and self.used_bytes:
            raise overloaded(f"{self.used_bytes} bytes of answers are under way, which others have not taken yet")
        return min(asked_bytes, self.limits.max_fetch_bytes, max(LEAST_GRANT_BYTES, free_bytes // _PART))


def replaced_error() -> PeerRefusedError:
    return overloaded("a newer fetch has taken the place of this one")
