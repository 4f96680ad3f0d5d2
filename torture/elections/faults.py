"""What is done to the nodes, drawn from a seed: two hands, one for processes and disks, one for the network."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from random import Random
from typing import Final

from ourolog.local_cluster import ClusterError
from torture.elections.disks import fill, free, wipe
from torture.elections.network import CLIENTS, Network, describe, isolate, split
from torture.elections.nodes import TorturedCluster, ended

_READY_S: Final = 30.0
_STOP_S: Final = 15.0
_FULL_S: Final = 8.0
_LEADER_SHARE: Final = 0.6


class Fault(StrEnum):
    """The kinds of fault.

    KILL: kill -9 of one node, which is started again some time later.
    KILL_ALL: kill -9 of every node at once.
    FREEZE: SIGSTOP, and SIGCONT some time later.
    RESTART: SIGTERM, and a new start once it has ended.
    CUT: packets are dropped between hosts, in one direction or both.
    FULL: no room on a node's disk until it has ended.
    WIPE: a node loses its disk.
    """

    KILL = "kill"
    KILL_ALL = "kill_all"
    FREEZE = "freeze"
    RESTART = "restart"
    CUT = "cut"
    FULL = "full"
    WIPE = "wipe"


_WEIGHTS: Final = {Fault.KILL: 5, Fault.KILL_ALL: 1, Fault.FREEZE: 4, Fault.RESTART: 4, Fault.FULL: 2}


class Nemesis:
    """Does one fault after the other until its time is over, and heals everything then.

    cluster: whose nodes suffer.
    network: where they run; None where nothing can be cut.
    seed: what is drawn from; whom it hits depends on who leads, too.
    kinds: those that may be drawn.
    wipeable: which nodes may lose a disk, how many of them at the most.
    fired: how often each kind was done.
    """

    def __init__(
        self,
        cluster: TorturedCluster,
        network: Network | None,
        seed: int,
        kinds: frozenset[Fault],
        tell: Callable[[str], None],
        *,
        wipeable: Sequence[str] = (),
        most_wiped: int = 0,
    ) -> None:
        self.fired = Counter[str]()
        self.failures: list[str] = []
        self._cluster = cluster
        self._network = network
        # A hand of its own for each, so that how long one takes does not change what the other does.
        self._rng = Random(f"{seed} processes")
        self._network_rng = Random(f"{seed} network")
        self._kinds = kinds
        self._tell = tell
        self._wipeable = list(wipeable)
        self._most_wiped = most_wiped
        self._wiped: set[str] = set()
        self._acts: dict[Fault, Callable[[str], Awaitable[None]]] = {
            Fault.KILL: self._kill,
            Fault.KILL_ALL: self._kill_all,
            Fault.FREEZE: self._freeze,
            Fault.RESTART: self._restart,
            Fault.FULL: self._full,
            Fault.WIPE: self._wipe,
        }

    async def run(self, seconds: float) -> None:
        """Go on for so long; everything is healed when this returns or is cancelled."""
        ends_s = time.monotonic() + seconds
        hands = [self._processes(ends_s, seconds)]
        if self._network is not None and Fault.CUT in self._kinds:
            hands.append(self._packets(ends_s))
        try:
            async with asyncio.TaskGroup() as group:
                for hand in hands:
                    group.create_task(hand)
        finally:
            self._heal()

    def _heal(self) -> None:
        if self._network is not None:
            self._network.heal()
        for node in self._cluster.tortured:
            node.thaw()
            free(node.data_dir)
            self._cluster.begin(node.node_id)

    # ------------------------------------------------------------ processes and disks

    async def _processes(self, ends_s: float, seconds: float) -> None:
        began_s = time.monotonic()
        drawn = [kind for kind in _WEIGHTS if kind in self._kinds]
        # A wiped disk is no voter from then on, so most of the run is over before there is one.
        wipe_at_s = [began_s + seconds * share for share in (0.6, 0.8)][: self._most_wiped]
        while (left_s := ends_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, self._rng.uniform(0.5, 3.0)))
            if Fault.WIPE in self._kinds and wipe_at_s and time.monotonic() >= wipe_at_s[0]:
                wipe_at_s.pop(0)
                await self._do(Fault.WIPE, self._rng.choice(self._wipeable))
            elif drawn:
                kind = self._rng.choices(drawn, [_WEIGHTS[kind] for kind in drawn])[0]
                await self._do(kind, self._victim(self._rng))

    async def _do(self, kind: Fault, victim: str) -> None:
        self.fired[kind] += 1
        await self._acts[kind](victim)
        # What ended by itself is a failure that is told in the end; the run goes on with it.
        for node in self._cluster.tortured:
            if not node.is_running:
                self._cluster.begin(node.node_id)

    def _victim(self, rng: Random) -> str:
        is_leader, name = rng.random() < _LEADER_SHARE, rng.choice(self._cluster.names)
        return (self._cluster.newest_leader if is_leader else None) or name

    async def _kill(self, victim: str) -> None:
        self._tell(f"kill -9 {self._title(victim)}")
        self._end(victim, signal.SIGKILL)
        await asyncio.sleep(self._rng.uniform(0.0, 4.0))
        await self._start(victim)

    async def _kill_all(self, _: str) -> None:
        self._tell("kill -9 of all nodes")
        for name in self._cluster.names:
            self._end(name, signal.SIGKILL)
        names = self._cluster.names
        self._rng.shuffle(names)
        for name in names:
            await asyncio.sleep(self._rng.uniform(0.0, 1.0))
            await self._start(name, wait=False)

    async def _freeze(self, victim: str) -> None:
        for_s = self._rng.choice([self._rng.uniform(0.1, 1.0), self._rng.uniform(1.0, 6.0)])
        self._tell(f"SIGSTOP {self._title(victim)} for {for_s:.1f} s")
        node = self._cluster.node(victim)
        node.freeze()
        try:
            await asyncio.sleep(for_s)
        finally:
            node.thaw()

    async def _restart(self, victim: str) -> None:
        self._tell(f"SIGTERM {self._title(victim)}")
        node = self._cluster.node(victim)
        # Until it listens it may not have got so far as to handle the signal.
        listens = any(line.event == "listening" for line in list(node.lines))
        node.may_end = frozenset({0}) if listens else frozenset({0, -signal.SIGTERM})
        node.terminate()
        if await ended(node, _STOP_S) is None:
            self.failures.append(f"{victim} had not ended {_STOP_S:g} s after SIGTERM")
            self._end(victim, signal.SIGKILL)
        await self._start(victim)

    async def _full(self, victim: str) -> None:
        self._tell(f"no room on the disk of {self._title(victim)}")
        node = self._cluster.node(victim)
        node.may_end = frozenset({1})
        await asyncio.to_thread(fill, node.data_dir)
        try:
            # It need not end: cut off it may have nothing to write.
            if await ended(node, _FULL_S) is not None:
                self.fired["full: ended"] += 1
                await asyncio.sleep(self._rng.uniform(0.0, 2.0))
        finally:
            free(node.data_dir)
        if node.is_running:
            await asyncio.sleep(2.0)  # an append that failed before may still end it
            node.may_end = frozenset()
        await self._start(victim)

    async def _wipe(self, victim: str) -> None:
        self._tell(f"{self._title(victim)} loses its disk")
        self._wiped.add(victim)
        self._wipeable = [name for name in self._wipeable if name not in self._wiped]
        node = self._cluster.node(victim)
        self._end(victim, signal.SIGKILL)
        await ended(node, _STOP_S)
        await asyncio.to_thread(wipe, node.data_dir)
        node.is_wiped = True
        await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        await self._start(victim)

    def _end(self, victim: str, number: int) -> None:
        node = self._cluster.node(victim)
        node.may_end = frozenset({-number, 0, 1})  # it may have been about to end
        node.send_signal(number)

    async def _start(self, name: str, *, wait: bool = True) -> None:
        """Start it again once it has ended. That it serves clients again is checked when all is healed."""
        node = self._cluster.node(name)
        if node.is_running and not node.may_end:
            return
        if await ended(node, _STOP_S) is None:
            return
        self._cluster.begin(name)
        if wait:
            try:
                await asyncio.to_thread(node.wait_for, "listening", _READY_S)
            except ClusterError as error:
                self.failures.append(f"{name} did not start again: {error}")

    # ------------------------------------------------------------ the network

    async def _packets(self, ends_s: float) -> None:
        assert self._network is not None
        while (left_s := ends_s - time.monotonic()) > 0:
            rng = self._network_rng
            await asyncio.sleep(min(left_s, rng.uniform(1.0, 6.0)))
            cuts = self._draw_cuts()
            self._tell(f"cut {describe(cuts)}")
            self.fired[Fault.CUT] += 1
            await asyncio.to_thread(self._network.cut, cuts)
            try:
                await asyncio.sleep(rng.choice([rng.uniform(0.2, 1.5), rng.uniform(1.5, 8.0)]))
            finally:
                self._network.heal()
            self._tell("the network is whole again")

    def _draw_cuts(self) -> set[tuple[str, str]]:
        """One node alone, or from its clients, too; two groups; one direction; a node that only one other sees."""
        rng, names = self._network_rng, self._cluster.names
        victim = self._victim(rng)
        others = [name for name in names if name != victim]
        draw = rng.random()
        if draw < 0.3:
            return isolate(victim, others)
        if draw < 0.45:
            return isolate(victim, [*others, CLIENTS])
        if draw < 0.6:
            rng.shuffle(names)
            at = rng.randrange(1, len(names))
            return split(names[:at], names[at:])
        if draw < 0.8:
            outward = {(victim, other) for other in others}
            return outward if rng.random() < 0.5 else {(other, sender) for sender, other in outward}
        return isolate(victim, rng.sample(others, len(others) - 1))

    def _title(self, name: str) -> str:
        return f"{name} (leader)" if name == self._cluster.newest_leader else name
