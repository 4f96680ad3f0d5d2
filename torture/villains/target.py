"""What a villain is set upon, how long, and what it has counted."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import resource
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

_LOOK_EVERY_S: Final = 0.1
VILLAINS: dict[str, Villain] = {}


class Wrong(StrEnum):
    """What an attack may count that no node may do: a scenario in which there was any of it has failed.

    BROKE: calls that ended as INTERNAL or UNKNOWN, as they do when a handler breaks.
    MOVED_TERM: terms that a node has gone on to on a stranger's word.
    EXIT_STATUS: exits with another status than the one that is promised.
    """

    BROKE = "calls that broke a handler"
    MOVED_TERM = "terms moved on a stranger's word"
    EXIT_STATUS = "exits with a wrong status"


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node under attack: its name, and HOST:PORT of its two ports."""

    node_id: str
    rpc_addr: str
    gossip_addr: str

    @property
    def peer_addr(self) -> str:
        """Where other nodes call it."""
        return self.gossip_addr


@dataclass(slots=True)
class Target:
    """What a villain attacks, for how long, and what it has counted.

    nodes: the one that leads first.
    seconds: how long to go on.
    enough: when all of this has been counted, the attack is over at once; empty for going on all the time.
    cluster: the name of the nodes' cluster.
    counts: what was done and seen.
    began_s: when it began, by time.monotonic.
    """

    nodes: tuple[NodeAddress, ...]
    seconds: float
    enough: Mapping[str, int] = field(default_factory=dict)
    cluster: str = "ourolog"
    counts: Counter[str] = field(default_factory=Counter)
    began_s: float = field(default_factory=time.monotonic)

    @classmethod
    def parse(cls, text: str) -> Target:
        fields = json.loads(text)
        return cls(tuple(NodeAddress(*node) for node in fields["nodes"]), fields["seconds"], fields["enough"])

    def __str__(self) -> str:
        nodes = [dataclasses.astuple(node) for node in self.nodes]
        return json.dumps({"nodes": nodes, "seconds": self.seconds, "enough": dict(self.enough)})

    @property
    def leader(self) -> NodeAddress:
        return self.nodes[0]

    @property
    def left_s(self) -> float:
        return max(0.0, self.began_s + self.seconds - time.monotonic())

    @property
    def is_over(self) -> bool:
        done = bool(self.enough) and all(self.counts[what] >= least for what, least in self.enough.items())
        return done or self.left_s <= 0

    def count(self, what: str, many: int = 1) -> None:
        self.counts[what] += many

    async def until_over(self, *work: Coroutine[Any, Any, object], wave: int = 50) -> None:
        """Run all of them, `wave` more every twentieth of a second, and cancel them when the time is over.

        If a villain breaks on what a node does, that is counted and does not stop the others.
        """
        tasks: list[asyncio.Task[None]] = []
        for at, one in enumerate(work):
            tasks.append(asyncio.create_task(self._guarded(one)))
            if at % wave == wave - 1:
                await asyncio.sleep(0.05)
        while not self.is_over and not all(task.done() for task in tasks):
            await asyncio.wait(tasks, timeout=min(_LOOK_EVERY_S, self.left_s))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:  # see until_over
            self.count(f"broke off: {type(error).__name__}")


Villain = Callable[[Target], Awaitable[None]]


def villain(act: Villain) -> Villain:
    """Register the function as the villain of its name."""
    VILLAINS[act.__name__] = act
    return act


def take_all_descriptors() -> None:
    """Raise the villain's own limit of open files as far as possible."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
