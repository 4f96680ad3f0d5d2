"""How much memory a node holds while it serves the end of a large log, and all of one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

from bench.nodes import Nodes, nodes_on
from bench.opening import RECORD_BYTES, built_log, size_name
from bench.payloads import batch_request
from bench.processes import resident_mib
from bench.report import Report, number
from bench.rounds import Settings
from ourolog.rpc.v1 import log_pb2 as pb

_LIMIT_MIB: Final = 150
_SAMPLE_EVERY_S: Final = 0.1
_SLOW_BATCHES_PER_S: Final = 100
_GROUP: Final = "memory"


async def memory(settings: Settings, report: Report) -> None:
    """One node on a large log: after its start, while it tails, and after a reader of everything."""
    size = size_name(settings.large_log_bytes)
    report.progress(f"memory: writing a log of {size}")
    async with built_log(settings.directory, settings.large_log_bytes) as data:
        began_s = time.perf_counter()
        async with nodes_on(data) as node:
            report.series(f"node on {size}: from command to ready", "s", group=_GROUP).add(
                time.perf_counter() - began_s
            )
            held = (await node.status()).size_bytes
            assert held >= settings.large_log_bytes, f"the node's log holds {held} bytes"
            _note(report, f"node on {size}: resident when ready", resident_mib(node.pids[0])[0])
            for how, pause_s in (("100 batches a second", 1 / _SLOW_BATCHES_PER_S), ("as fast as it goes", 0.0)):
                report.progress(f"memory: tailing, written to {how}")
                highest, records_per_s = await _tail(node, settings.tail_s, pause_s)
                note = f"{number(records_per_s)} records/s of {RECORD_BYTES} B written and followed"
                _note(report, f"node on {size}: highest resident, tailing, {how}", highest, note)
            report.progress("memory: reading all of it")
            note = await _read_all(node)
            _note(report, f"node on {size}: highest resident ever (VmHWM)", resident_mib(node.pids[0])[1], note)
    tailing = max(series.median for name, series in report.all.items() if "highest resident" in name)
    report.target(
        f"a node that tails a log of {size}",
        f"{number(tailing)} MiB at its highest",
        f"< {_LIMIT_MIB} MiB",
        met=tailing < _LIMIT_MIB,
    )


def _note(report: Report, name: str, mib: float, note: str = "") -> None:
    report.series(name, "MiB", group=_GROUP, note=note).add(mib)


async def _tail(node: Nodes, seconds: float, pause_s: float) -> tuple[float, float]:
    """Write and follow for a while; the highest resident memory seen, in MiB, and records a second."""
    request = batch_request(1_000, RECORD_BYTES)
    first = (await node.status()).end_offset
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def requests() -> AsyncIterator[pb.ProduceBatchRequest]:
        sent = first
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            yield request
            sent += request.record_count
            await asyncio.sleep(pause_s)
        # Set before the last batch is sent, so that the follower receives one more batch and sees it.
        end.set_result(sent + request.record_count)
        yield request

    async with _Watch(node.pids[0]) as watch:
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_follow(node, first, end))
            async for _ in node.stub.ProduceBatchStream(requests()):
                pass
        elapsed_s = time.perf_counter() - began_s
    return watch.highest_mib, (end.result() - first) / elapsed_s


async def _follow(node: Nodes, first: int, end: asyncio.Future[int]) -> None:
    """Consume from `first` on until `end` is known and reached."""
    offset = first
    call = node.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(offset=first))
    try:
        async for response in call:
            for batch in response.batches:
                assert batch.base_offset == offset, "batches come in order, without gaps"
                offset += batch.record_count
            if end.done() and offset >= end.result():
                return
    finally:
        call.cancel()


class _Watch:
    """Samples a process's resident memory while it is open."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.highest_mib = 0.0

    async def __aenter__(self) -> _Watch:
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _sample(self) -> None:
        while True:
            self.highest_mib = max(self.highest_mib, resident_mib(self._pid)[0])
            await asyncio.sleep(_SAMPLE_EVERY_S)


async def _read_all(node: Nodes) -> str:
    """Consume the log from its first record to its end, and say how fast that was."""
    status = await node.status()
    began_s = time.perf_counter()
    count = 0
    async for response in node.stub.ConsumeBatchStream(pb.ConsumeBatchRequest(offset=0, stop_at_end=True)):
        count += sum(batch.record_count for batch in response.batches)
    assert count == status.end_offset, f"{count} of {status.end_offset} records came"
    return f"after a reader took all {count:,} records at {number(count / (time.perf_counter() - began_s))} records/s"
