"""Joining: call the seeds until one has answered, and call again members that were lost.

A call is a Join or, from a node that is a member already, its whole table. A node without the cookie of
the one it calls is challenged first, and then sends the call again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.gossip.codec import Challenge, Datagram, Join, Updates
from ourolog.actors.gossip.sender import GossipSender
from ourolog.actors.messages.membership import JoinRetryDue
from ourolog.actors.ports import Timer

MAX_CALLS: Final = 64
"""How many calls may wait for their answer; the oldest are forgotten."""

_REPEATS: Final = 2
_BACKOFF: Final = 1.5
_RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Call:
    """A call to an address that has not been answered yet.

    repeats: how often it may still be sent again when challenged.
    """

    addr: str
    repeats: int


class Joining:
    """How this node gets into the cluster, and finds members again that it has lost.

    is_established: whether another node counts this one as a member.
    is_answered: whether a seed's table has arrived.
    """

    def __init__(
        self, config: NodeConfig, sender: GossipSender, rng: Random, after: Callable[[float, JoinRetryDue], Timer]
    ) -> None:
        self._seeds = tuple(dict.fromkeys(seed for seed in config.join if seed != config.gossip_addr))
        self.is_established = not self._seeds
        self.is_answered = not self._seeds
        self._retry_s = config.gossip.join_retry_s
        self._sender = sender
        self._rng = rng
        self._after = after
        self._calls: dict[int, _Call] = {}
        self._timer: Timer | None = None

    def ask_seeds(self, attempt: int = 0) -> None:
        """Call the seeds until one has answered; after total isolation again, as a seed may be back first."""
        if attempt == 0 and self._timer is not None:
            return
        for seed in self._seeds:
            self.call(seed)
        if self._seeds:
            wait_s = min(self._retry_s * _BACKOFF ** min(attempt, 32), max(_RETRY_MAX_S, self._retry_s))
            self._timer = self._after(wait_s * self._rng.uniform(0.8, 1.2), JoinRetryDue(attempt + 1))

    def retry(self, attempt: int, *, is_alone: bool) -> None:
        self._timer = None
        if not self.is_answered or is_alone:
            self.ask_seeds(attempt)

    def call_missing_seed(self, known: Collection[str]) -> None:
        """Call one seed that is not a member, unless all are being called anyway."""
        strangers = [seed for seed in self._seeds if seed not in known]
        if strangers and self._timer is None:
            self.call(self._rng.choice(strangers))

    def call(self, addr: str, repeats: int = _REPEATS) -> None:
        """Ask the node at that address to let this node in, or to compare tables."""
        if not self.is_established:
            sequence = self._sender.send(addr, Join())
        elif self._sender.cookies.received_from(addr):
            sequence = self._sender.send_table(addr, asks_back=True)
        else:
            # A table without a cookie is ignored: get the cookie first.
            sequence = self._sender.send(addr, Updates())
        if len(self._calls) >= MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        self._calls[sequence] = _Call(addr, repeats)

    def challenged(self, answers: int, addr: str) -> None:
        """Send a call again, with the cookie that the called node has issued."""
        call = self._calls.pop(answers, None)
        if call is not None and call.repeats:
            self.call(addr, call.repeats - 1)

    def redirected(self, unproven: Datagram) -> None:
        """The called node says that it has another address (it was called as `localhost`, for instance): call that."""
        assert isinstance(unproven.body, Challenge)
        call = self._calls.get(unproven.body.answers)
        if call is not None and unproven.echoed_cookie == self._sender.cookies.issue(call.addr):
            self.challenged(unproven.body.answers, unproven.sender.gossip_addr)

    def answered(self, answers: int) -> None:
        """Take a table that has come: if this node had asked for it, this node is let in."""
        if answers in self._calls:
            self.is_established = self.is_answered = True
