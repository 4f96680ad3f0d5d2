"""Clients of the cluster under torture. They produce and read all the time, and write down every call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from random import Random
from typing import Final

from ourolog.actors.messages.values import Acks, ReadLevel
from ourolog.rpc.client import LogClient
from ourolog.rpc.client_errors import LogError
from ourolog.rpc.client_types import LogBatch, LogRecord
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.storage.types import NodeId, Offset
from torture.elections.recording import Recorder

_PRODUCE_S: Final = 4.0
_READ_S: Final = 2.0
_PAUSE_S: Final = 0.02
_READ_PAUSE_S: Final = 0.04
_PRODUCERS: Final = 4
_BATCH: Final = 8
_BATCH_PAUSE_S: Final = 0.15
_FOLLOW_S: Final = (1.0, 8.0)
_READS_A_CLIENT: Final = 20


class Clients:
    """Producers, followers and readers; a context that ends them.

    addresses: by node.
    counts: how often each kind of call ended how.
    violations: a sentence for each answer that no order of calls allows.
    acknowledged: how many records were acknowledged.
    known_end: the offset after the last record that any client knows of.
    longest_gap_s: the longest time without an acknowledgement.
    followed: how far each follower has read.
    """

    def __init__(self, addresses: Mapping[str, str], recorder: Recorder, rng: Random) -> None:
        self._addresses = dict(addresses)
        self._recorder = recorder
        self._rng = rng
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._acknowledged_at_s = time.monotonic()
        self.counts = Counter[str]()
        self.violations: list[str] = []
        self.acknowledged = 0
        self.known_end = 0
        self.longest_gap_s = 0.0
        self.followed = {"f1": 0, "f2": 0}

    async def __aenter__(self) -> Clients:
        self._acknowledged_at_s = time.monotonic()
        work = [self._produce(f"p{number}", 1, _PAUSE_S) for number in range(1, _PRODUCERS)]
        work.append(self._produce("batch", _BATCH, _BATCH_PAUSE_S))
        work += [*map(self._follow, self.followed), self._read_anything()]
        work += [self._read_the_end() for _ in range(2)]
        self._tasks = [asyncio.create_task(one) for one in work]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End all calls. Produces get a while for it; one that is cancelled then has no known outcome."""
        self._is_stopping = True
        producers = self._tasks[:_PRODUCERS]
        for task in self._tasks[_PRODUCERS:]:
            task.cancel()
        if producers:
            await asyncio.wait(producers, timeout=_PRODUCE_S + 1)
        for task in self._tasks:
            task.cancel()
        for done in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(done, Exception):
                self.violations.append(f"a client broke: {type(done).__name__}: {done}")
        self._tasks = []

    @property
    def gap_s(self) -> float:
        """How long ago the last acknowledgement was."""
        return time.monotonic() - self._acknowledged_at_s

    async def wait_for_more(self, count: int, within_s: float) -> bool:
        """Whether so many more records were acknowledged within that time."""
        target = self.acknowledged + count
        try:
            async with asyncio.timeout(within_s), self._changed:
                await self._changed.wait_for(lambda: self.acknowledged >= target)
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ producers

    async def _produce(self, name: str, count: int, pause_s: float) -> None:
        rng = Random(f"{self._rng.random()} {name}")
        addresses = list(self._addresses.values())
        rng.shuffle(addresses)
        sent = 0
        async with LogClient(addresses, timeout_s=_PRODUCE_S) as client:
            while not self._is_stopping:
                await self._store(client, [f"{name}-{number}".encode() for number in range(sent, sent + count)])
                sent += count
                await asyncio.sleep(pause_s * rng.uniform(0.5, 1.5))

    async def _store(self, client: LogClient, values: Sequence[bytes]) -> None:
        numbers = [self._recorder.began(Operation(OperationKind.PRODUCE, value, acks="quorum")) for value in values]
        try:
            if len(values) == 1:
                first = await client.produce(values[0], acks=Acks.QUORUM)
            else:
                first = await client.produce_batch(values, acks=Acks.QUORUM)
        except LogError as error:
            outcome = Outcome.UNKNOWN if error.outcome_unknown else Outcome.REFUSED
            self.counts[f"produces {outcome}"] += len(values)
            detail = f"{error.code} {error.reason} {error}"
            for number in numbers:
                self._recorder.returned(number, OperationResult(outcome, detail=detail))
            return
        for offset, number in enumerate(numbers, first):
            self._recorder.returned(number, OperationResult(Outcome.OK, Offset(offset)))
        await self._note_acknowledged(first, len(values))

    async def _note_acknowledged(self, first: int, count: int) -> None:
        now_s = time.monotonic()
        gap_s, self._acknowledged_at_s = now_s - self._acknowledged_at_s, now_s
        self.longest_gap_s = max(self.longest_gap_s, gap_s)
        self.counts["produces ok"] += count
        self.acknowledged += count
        self.known_end = max(self.known_end, first + count)
        async with self._changed:
            self._changed.notify_all()

    # ------------------------------------------------------------ readers

    async def _follow(self, name: str) -> None:
        """Read the log as a stream, and go on with another node now and then."""
        while not self._is_stopping:
            node, address = self._any_node()
            async with LogClient(address, timeout_s=_READ_S) as client:
                stream = client.consume_batches(self.followed[name])
                with contextlib.suppress(TimeoutError, LogError):
                    async with asyncio.timeout(self._rng.uniform(*_FOLLOW_S)):
                        await self._take(name, node, stream)
                await stream.aclose()
            await asyncio.sleep(_READ_PAUSE_S)

    async def _take(self, name: str, node: NodeId, stream: AsyncGenerator[LogBatch, None]) -> None:
        began_ns = time.monotonic_ns()
        async for batch in stream:
            expected = self.followed[name]
            if batch.base_offset > expected:
                self.violations.append(f"{node} sent offset {batch.base_offset} where {expected} was next")
            for offset, value in enumerate(batch.values, batch.base_offset):
                if offset >= expected:
                    self._recorder.read(node, offset, value, began_ns)
                    self.counts["records followed"] += 1
            self.followed[name] = max(expected, batch.base_offset + len(batch.values))

    async def _read_anything(self) -> None:
        """Read records here and there, as they are committed where they are asked for: that may lag."""
        while not self._is_stopping:
            node, address = self._any_node()
            async with LogClient(address, timeout_s=_READ_S) as client:
                for _ in range(_READS_A_CLIENT):
                    offset = self._rng.randrange(self.known_end + 2)
                    await self._read(client.consume(offset), node, offset, "reads")
                    await asyncio.sleep(_READ_PAUSE_S)

    async def _read_the_end(self) -> None:
        """Ask any node for the end of the log: its answer has to hold all that was acknowledged before."""
        while not self._is_stopping:
            node, address = self._any_node()
            async with LogClient(address, timeout_s=_READ_S) as client:
                for _ in range(_READS_A_CLIENT):
                    offset = max(0, self.known_end - self._rng.randrange(2))
                    reading = client.consume(offset, read=ReadLevel.LATEST)
                    await self._read(reading, node, offset, "reads of the end", knows_end=True)
                    await asyncio.sleep(_READ_PAUSE_S)

    async def _read(
        self, reading: Awaitable[LogRecord], node: NodeId, offset: int, what: str, *, knows_end: bool = False
    ) -> None:
        number = self._recorder.began(Operation(OperationKind.CONSUME, offset=Offset(offset)), node)
        try:
            record = await reading
        except LogError as error:
            end = error.end_offset if knows_end and error.is_out_of_range else None
            result = OperationResult(
                Outcome.REFUSED, end_offset=None if end is None else Offset(end), detail=f"{error.code} {error.reason}"
            )
            self.counts[f"{what} {'that named it' if end is not None else 'without an answer'}"] += 1
        else:
            result = OperationResult(Outcome.OK, Offset(record.offset), record.value)
            self.known_end = max(self.known_end, record.offset + 1)
            self.counts[f"{what} ok"] += 1
        self._recorder.returned(number, result)

    def _any_node(self) -> tuple[NodeId, str]:
        node = self._rng.choice(list(self._addresses))
        return NodeId(node), self._addresses[node]
