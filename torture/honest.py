"""Honest clients: they produce and consume all the time, measure every wait and remember every promise."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from ourolog.actors.messages.values import Acks
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError

PREFIX: Final = b"honest "
_PRODUCE_TIMEOUT_S: Final = 60.0
_BATCH_RECORDS: Final = 50
_PAUSE_S: Final = 0.02
_STRANGER_EVERY_S: Final = 0.5
_STRANGER_TIMEOUT_S: Final = 30.0


class Phase(StrEnum):
    """The three parts of a scenario.

    CALM: nobody but honest clients.
    ATTACK: the villain acts.
    AFTER: the villain is gone.
    """

    CALM = "calm"
    ATTACK = "attack"
    AFTER = "after"


@dataclass(slots=True)
class Waits:
    """Waiting times in seconds, as they were measured."""

    seconds: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)

    @property
    def longest(self) -> float:
        return max(self.seconds, default=0.0)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else 0.0


@dataclass(slots=True)
class Seen:
    """What honest clients met with in one phase. failures: of calls, each a sentence."""

    produces: Waits = field(default_factory=Waits)
    strangers: Waits = field(default_factory=Waits)
    behind: Waits = field(default_factory=Waits)
    refused: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Honest:
    """Two producers, a consumer that follows the end, and strangers that come, do both, and go.

    crowd: how many more producers there are, of one record at a time.
    addresses: of the nodes, the one to produce to first.
    acknowledged: value by offset.
    sent: how many values were made up, each different.
    """

    def __init__(self, addresses: Sequence[str], *, strangers: bool, crowd: int = 0) -> None:
        self.addresses = list(addresses)
        self.phase = Phase.CALM
        self.seen = {phase: Seen() for phase in Phase}
        self.acknowledged: dict[int, bytes] = {}
        self.sent = 0
        self.violations: list[str] = []
        self._with_strangers = strangers
        self._producers = [("one", 1), ("many", _BATCH_RECORDS), *(("crowd", 1) for _ in range(crowd))]
        self._acknowledged_at_s: dict[int, float] = {}
        self._consumed = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Honest:
        work = [self._produce(name, count) for name, count in self._producers]
        work.append(self._consume())
        if self._with_strangers:
            work.append(self._strangers())
        self._tasks = [asyncio.create_task(one) for one in work]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop(within_s=0.0)

    async def stop(self, within_s: float = _PRODUCE_TIMEOUT_S) -> None:
        """End all calls. Producers in the middle of a call get this long for it."""
        self._stopping = True
        producers, others = self._tasks[: len(self._producers)], self._tasks[len(self._producers) :]
        for task in others:
            task.cancel()
        if producers and within_s:
            await asyncio.wait(producers, timeout=within_s)
        for task in producers:
            task.cancel()
        for done in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(done, Exception):
                self.violations.append(f"an honest client broke: {done!r}")
        self._tasks = []

    async def wait_for_more(self, count: int, within_s: float) -> bool:
        """Whether that many more records were acknowledged and consumed within that time."""
        target = len(self.acknowledged) + count

        def reached() -> bool:
            return len(self.acknowledged) >= target and self._consumed > max(self.acknowledged, default=-1) - count

        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(reached)
        except TimeoutError:
            return False
        return True

    async def wait_until_consumed(self, within_s: float) -> bool:
        """Whether all that has been acknowledged by now reached the consumer within that time."""
        last = max(self.acknowledged, default=-1)
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self._consumed > last)
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ producers

    async def _produce(self, name: str, count: int) -> None:
        loop = asyncio.get_running_loop()
        async with LogClient(self.addresses, timeout_s=_PRODUCE_TIMEOUT_S) as client:
            while not self._stopping:
                values = self._values(name, count)
                began, began_s = self.phase, loop.time()
                offset = await self._store(client, values, name)
                if offset is not None:
                    self._during(began).produces.add(loop.time() - began_s)
                await asyncio.sleep(_PAUSE_S)

    def _values(self, name: str, count: int) -> list[bytes]:
        first, self.sent = self.sent, self.sent + count
        return [PREFIX + f"{name} {number}".encode() for number in range(first, first + count)]

    async def _store(self, client: LogClient, values: list[bytes], name: str) -> int | None:
        """Produce, and return the first offset; None where it failed, which is recorded."""
        loop = asyncio.get_running_loop()
        began, began_s = self.phase, loop.time()
        try:
            if len(values) == 1:
                offset = await client.produce(values[0], acks=Acks.QUORUM)
            else:
                offset = await client.produce_batch(values, acks=Acks.QUORUM)
        except LogError as error:
            seen = self._during(began)
            text = f"{name} after {loop.time() - began_s:.1f} s: {error.code} {error.reason}: {error}"
            (seen.unknown if error.outcome_unknown else seen.refused).append(text)
            return None
        now_s = loop.time()
        for at, value in enumerate(values, offset):
            if at in self.acknowledged:
                self.violations.append(f"offset {at} was acknowledged twice: {self.acknowledged[at]!r}, {value!r}")
            self.acknowledged[at] = value
            self._acknowledged_at_s[at] = now_s
        async with self._changed:
            self._changed.notify_all()
        return offset

    def _during(self, began: Phase) -> Seen:
        """The phase of a call: it counts for the attack if any part of it lay in it."""
        return self.seen[Phase.ATTACK if Phase.ATTACK in {began, self.phase} else self.phase]

    # ------------------------------------------------------------ consumers

    async def _consume(self) -> None:
        loop = asyncio.get_running_loop()
        async with LogClient(self.addresses, timeout_s=_PRODUCE_TIMEOUT_S) as client:
            while not self._stopping:
                try:
                    async for batch in client.consume_batches(self._consumed):
                        for at, value in enumerate(batch.values, batch.base_offset):
                            self._take(at, value, loop.time())
                        async with self._changed:
                            self._changed.notify_all()
                except LogError as error:
                    self.seen[self.phase].refused.append(f"consumer: {error.code} {error.reason}: {error}")
                    await asyncio.sleep(0.1)

    def _take(self, at: int, value: bytes, now_s: float) -> None:
        if at < self._consumed:
            return  # batches come whole
        if at > self._consumed:
            self.violations.append(f"the consumer got offset {at} after {self._consumed - 1}")
        self._consumed = at + 1
        acknowledged = self.acknowledged.get(at)
        if acknowledged is None:
            return
        if acknowledged != value:
            self.violations.append(f"offset {at} was acknowledged for {acknowledged!r} and consumed as {value[:40]!r}")
        self.seen[self.phase].behind.add(now_s - self._acknowledged_at_s[at])

    # ------------------------------------------------------------ strangers

    async def _strangers(self) -> None:
        """Connect anew: clients that were connected before may be served while nobody else gets in."""
        loop = asyncio.get_running_loop()
        while not self._stopping:
            began, began_s = self.phase, loop.time()
            async with LogClient(self.addresses, timeout_s=_STRANGER_TIMEOUT_S) as client:
                offset = await self._store(client, self._values("stranger", 1), "stranger")
                if offset is not None:
                    await self._read_back(client, offset)
                    self._during(began).strangers.add(loop.time() - began_s)
            await asyncio.sleep(_STRANGER_EVERY_S)

    async def _read_back(self, client: LogClient, offset: int) -> None:
        try:
            record = await client.consume(offset)
        except LogError as error:
            text = f"stranger reads {offset}: {error.code} {error.reason}: {error}"
            if not error.is_out_of_range:
                self.seen[self.phase].refused.append(text)
            elif error.addr == self.addresses[0]:
                # A follower may lag; the node that acknowledged a record must not deny it.
                self.violations.append(text)
            return
        if record.value != self.acknowledged[offset]:
            self.violations.append(
                f"offset {offset} was acknowledged for {self.acknowledged[offset]!r} and read as {record.value[:40]!r}"
            )
