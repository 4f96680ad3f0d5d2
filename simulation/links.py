"""The links between machines: how long a packet takes on each, and what happens to it.

Every directed link has a least delay and a random one on top, so packets overtake each other.
Chances are those of the present phase of the run; the plan sets them, healing clears them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

LEAST_DELAY_S = 0.0002
USUAL_EXTRA_S = 0.001
REPLAY_WITHIN_S = 2.0

Link = tuple[str, str]


@dataclass(slots=True)
class Chances:
    """How likely each fault is for one packet, from 0 to 1.

    loss: it is lost.
    duplicate: it comes twice, if it may.
    replay: it comes again after a while, if it may.
    reply_lost: it is an answer and is lost.
    stream_cut: it is a request, and the connection of its call breaks soon.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    replay: float = 0.0
    reply_lost: float = 0.0
    stream_cut: float = 0.0


@dataclass(slots=True)
class Fate:
    """What becomes of one packet.

    delays_s: how long each delivery takes, in seconds; none if it is lost, the first is its own.
    fault: the fault that befell it; "" for none.
    """

    delays_s: list[float] = field(default_factory=list)
    fault: str = ""


class Links:
    """All links of a cluster. Sources and targets are names of nodes and of clients."""

    def __init__(self, rng: Random) -> None:
        self.chances = Chances()
        self._rng = rng
        self._least_s: dict[Link, float] = {}
        self._slow_s: dict[Link, float] = {}
        self._clogged_until_s: dict[Link, float] = {}
        self._blocked: dict[Link, None] = {}
        self._filtered: dict[Link, None] = {}

    # ------------------------------------------------------------ what is broken

    def block(self, links: Iterable[Link]) -> None:
        self._blocked.update(dict.fromkeys(links))

    def filter_datagrams(self, links: Iterable[Link]) -> None:
        """Drop all datagrams there, as a firewall does that knows TCP only; calls go on."""
        self._filtered.update(dict.fromkeys(links))

    def unblock_all(self) -> None:
        self._blocked.clear()
        self._filtered.clear()

    @property
    def blocked(self) -> tuple[Link, ...]:
        return tuple(self._blocked)

    @property
    def is_any_blocked(self) -> bool:
        return bool(self._blocked or self._filtered)

    def is_blocked(self, source: str, target: str) -> bool:
        return (source, target) in self._blocked

    def drops_datagrams(self, source: str, target: str) -> bool:
        return (source, target) in self._filtered

    def slow_down(self, link: Link, extra_s: float) -> None:
        self._slow_s[link] = extra_s

    def clog(self, link: Link, until_s: float) -> None:
        self._clogged_until_s[link] = until_s

    def heal(self) -> None:
        """Undo everything but the partitions: all fault chances become 0, and no link is slow or clogged."""
        self.chances = Chances()
        self._slow_s.clear()
        self._clogged_until_s.clear()

    # ------------------------------------------------------------ one packet

    def delay_s(self, source: str, target: str, now_s: float) -> float:
        """How long a packet that is sent now takes."""
        link = (source, target)
        rng = self._rng
        least_s = self._least_s.get(link)
        if least_s is None:
            least_s = self._least_s[link] = LEAST_DELAY_S * (1 + 2 * rng.random())
        # Mostly short, occasionally several times as long, as in real networks.
        delay_s = least_s + USUAL_EXTRA_S * rng.random() ** 3
        if self._slow_s:
            delay_s += self._slow_s.get(link, 0.0) * rng.random()
        if self._clogged_until_s:
            until_s = self._clogged_until_s.get(link, 0.0)
            if until_s > now_s:
                delay_s += until_s - now_s
        return delay_s

    def fate(self, source: str, target: str, now_s: float, *, may_repeat: bool, is_reply: bool) -> Fate:
        """Draw what becomes of one packet.

        may_repeat: whether the packet may come twice.
        is_reply: whether it is an answer, for which work was done.
        """
        fate = Fate()
        chances, draw = self.chances, self._rng.random
        if chances.loss and draw() < chances.loss:
            fate.fault = "loss"
            return fate
        if is_reply and chances.reply_lost and draw() < chances.reply_lost:
            fate.fault = "reply_lost"
            return fate
        fate.delays_s.append(self.delay_s(source, target, now_s))
        if may_repeat:
            if chances.duplicate and draw() < chances.duplicate:
                fate.fault = "duplicate"
                fate.delays_s.append(self.delay_s(source, target, now_s))
            elif chances.replay and draw() < chances.replay:
                fate.fault = "replay"
                fate.delays_s.append(self.delay_s(source, target, now_s) + draw() * REPLAY_WITHIN_S)
        return fate


def links_between(groups: Sequence[Sequence[str]]) -> tuple[Link, ...]:
    """Both directions of every link from one group to another."""
    return tuple(
        (source, target)
        for at, group in enumerate(groups)
        for other_at, other in enumerate(groups)
        if at != other_at
        for source in group
        for target in other
    )


def ring(names: Sequence[str]) -> tuple[Link, ...]:
    """Links to block so that each node talks to its neighbours on either side only.

    With five nodes that leaves every node in a majority, and no two nodes in the same one.
    """
    count = len(names)
    reach = max(1, count // 4)
    return tuple(
        (names[a], names[b])
        for a in range(count)
        for b in range(count)
        if a != b and min((a - b) % count, (b - a) % count) > reach
    )
