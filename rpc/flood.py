"""A bound on how often somebody is heard, so that a flood of datagrams is shed for the price of its receipt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

STRANGERS_PER_S: Final = 300.0
EACH_MEMBER_PER_S: Final = 300.0
MAX_MEMBERS: Final = 4096


class TokenBucket:
    """So many a second, and as many at once as come in one second."""

    __slots__ = ("_at_s", "_per_s", "_tokens")

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._tokens = per_s
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        self._tokens = min(self._per_s, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class FloodGuard:
    """Each member is heard so often, by the address that its datagrams come from; all others together so often.

    A member that is behind a translated address counts among the others.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        strangers_per_s: float = STRANGERS_PER_S,
        each_member_per_s: float = EACH_MEMBER_PER_S,
    ) -> None:
        self._now_s = now_s
        self._each_member_per_s = each_member_per_s
        self._strangers = TokenBucket(strangers_per_s, now_s())
        self._members: OrderedDict[tuple[Any, ...], TokenBucket] = OrderedDict()

    def introduce(self, socket_addr: tuple[Any, ...]) -> None:
        """This is a member's address. The one that was introduced longest ago goes when there are too many."""
        if socket_addr not in self._members:
            if len(self._members) >= MAX_MEMBERS:
                self._members.popitem(last=False)
            self._members[socket_addr] = TokenBucket(self._each_member_per_s, self._now_s())

    def dismiss(self, socket_addr: tuple[Any, ...]) -> None:
        self._members.pop(socket_addr, None)

    def is_member(self, socket_addr: tuple[Any, ...]) -> bool:
        return socket_addr in self._members

    def admits(self, socket_addr: tuple[Any, ...]) -> bool:
        """Whether one more datagram from there is heard now."""
        return self._members.get(socket_addr, self._strangers).take(self._now_s())
