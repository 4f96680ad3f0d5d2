"""A rate limit on received datagrams, so that a flood of them costs no more than receiving it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

STRANGERS_PER_S: Final = 300.0
EACH_MEMBER_PER_S: Final = 300.0
MAX_MEMBERS: Final = 4096


class TokenBucket:
    """A token bucket that fills at a rate per second and holds one second's worth.

    per_s: the rate.
    now_s: the present time, by the clock that `take` is told.
    """

    __slots__ = ("_at_s", "_per_s", "_tokens")

    def __init__(self, per_s: float, now_s: float) -> None:
        self._per_s = per_s
        self._tokens = per_s
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token, if there is one."""
        self._tokens = min(self._per_s, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class DatagramRateLimiter:
    """One rate for each member, recognized by the source address of its datagrams, and one for all others together.

    A member behind a translated address counts among the others.
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
        """Note a member's address. When there are too many, the one introduced longest ago is forgotten."""
        if socket_addr not in self._members:
            if len(self._members) >= MAX_MEMBERS:
                self._members.popitem(last=False)
            self._members[socket_addr] = TokenBucket(self._each_member_per_s, self._now_s())

    def dismiss(self, socket_addr: tuple[Any, ...]) -> None:
        """Forget a member's address."""
        self._members.pop(socket_addr, None)

    def is_member(self, socket_addr: tuple[Any, ...]) -> bool:
        """Whether a member sends from this address."""
        return socket_addr in self._members

    def admits(self, socket_addr: tuple[Any, ...]) -> bool:
        """Whether one more datagram from this address is accepted now."""
        return self._members.get(socket_addr, self._strangers).take(self._now_s())
