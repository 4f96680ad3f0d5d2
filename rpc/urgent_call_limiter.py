"""A limit on the urgent calls under way at once, so that useless callers keep no voter waiting.

An urgent call is small, and answered by one look at the disk or one round of fetches. But each costs that, and anybody
can write any name into a call. So each name gets a few permits: every voter (of this node's configuration, and
those that the election announced since), every member that gossip knows, and as many for all strangers together.
A caller that uses a voter's name takes permits from that voter and from nobody else; the permits of one name are
divided among the connections that use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from ourolog.rpc.admission import FairLimit
from ourolog.rpc.peer.refusals import overloaded

MAX_CALLS_PER_NAME: Final = 16
"""For each name: a node has one call of each kind under way, or two where it began anew."""


class UrgentCallLimiter:
    """Permits for urgent calls, under all names. Lives on one asyncio loop."""

    def __init__(self, max_calls: int = MAX_CALLS_PER_NAME) -> None:
        """Prepare a limiter that knows no names.

        max_calls: how many calls of one name may be under way at once.
        """
        self._max_calls = max_calls
        self._open: dict[str, FairLimit] = {}

    def __len__(self) -> int:
        """How many calls have a permit."""
        return sum(limit.count for limit in self._open.values())

    @contextlib.contextmanager
    def permit(self, name: str, connection: str) -> Iterator[None]:
        """A permit for one call, for as long as it lasts. Raises PeerRefusedError if there is none.

        name: of a voter or a member, "" for a stranger.
        """
        limit = self._open.setdefault(name, FairLimit(self._max_calls, 0))
        if not limit.has_room(connection, 0):
            who = f"the name {name}" if name else "strangers"
            raise overloaded(
                f"{limit.count} urgent calls under {who} are open, {self._max_calls} are shared among those who "
                "make them"
            )
        limit.take(connection, 0)
        try:
            yield
        finally:
            limit.release(connection, 0)
            if not limit.count:
                del self._open[name]
