"""Cases measured side by side, round by round.

The machine is shared and its speed wanders, so cases that are to be compared take turns within
each round, and what is reported of a comparison is the ratio within rounds.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bench.processes import cpu_s
from bench.report import Report


@dataclass(frozen=True, slots=True)
class Settings:
    """How much is measured.

    directory: where data goes, on a real disk; the caller removes it.
    rounds: how often each case is measured.
    seconds, sample_bytes: one sample of a case ends with whichever comes first.
    warm_up_s: how long each case runs unmeasured before the first round.
    fill_bytes: values in a log that is consumed.
    small_log_bytes, large_log_bytes: the two logs that are opened.
    tiny_log_bytes: a log of one-record batches.
    tail_s: how long a tailing node is watched.
    failovers: how often each kind of failover is measured.
    idle_s: how long an idle cluster is watched.
    election: of the cluster whose leader fails.
    """

    directory: str
    rounds: int = 5
    seconds: float = 0.7
    warm_up_s: float = 0.25
    sample_bytes: int = 96 * 1024 * 1024
    fill_bytes: int = 200 * 1000 * 1000
    small_log_bytes: int = 1_000_000_000
    large_log_bytes: int = 4_000_000_000
    tiny_log_bytes: int = 200_000_000
    tail_s: float = 8.0
    failovers: int = 20
    idle_s: float = 10.0
    election: str = "raft:n1,n2,n3"

    @classmethod
    def quick(cls, directory: str) -> Settings:
        """Settings for a quick look: the logs are a tenth as large, and the numbers vary more."""
        return cls(
            directory,
            rounds=2,
            seconds=0.3,
            warm_up_s=0.1,
            sample_bytes=32 * 1024 * 1024,
            fill_bytes=30 * 1000 * 1000,
            small_log_bytes=100_000_000,
            large_log_bytes=400_000_000,
            tiny_log_bytes=20_000_000,
            tail_s=2.0,
            failovers=3,
            idle_s=3.0,
        )

    def with_rounds(self, rounds: int | None) -> Settings:
        return self if rounds is None else replace(self, rounds=rounds, failovers=rounds)

    def with_election(self, election: str | None) -> Settings:
        return self if election is None else replace(self, election=election)


@dataclass(frozen=True, slots=True)
class Span:
    """How long one sample may take and how many bytes of values it may move."""

    seconds: float
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Done:
    """What one sample did.

    count: how many things it counted.
    latencies_s: of each call, where calls are measured one by one.
    """

    count: int
    latencies_s: Sequence[float] = ()


# Does one sample's worth of work and waits for the last acknowledgement of it.
Work = Callable[[Span], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to measure.

    name: as in the table.
    unit: what is counted.
    work: does it for as long as a sample lasts.
    pids: the processes whose processor time is charged to the case.
    record_bytes: value bytes in each thing counted, 0 where that means nothing.
    note: a remark for the table, "" for none.
    """

    name: str
    unit: str
    work: Work
    pids: tuple[int, ...] = ()
    record_bytes: int = 0
    note: str = ""


async def alternate(cases: Sequence[Case], settings: Settings, report: Report, group: str) -> None:
    """Warm every case up, then measure all of them in turn, round after round."""
    span = Span(settings.seconds, settings.sample_bytes)
    warm_up = Span(settings.warm_up_s, settings.sample_bytes // 8)
    for case in cases:
        await case.work(warm_up)
    for number in range(settings.rounds):
        for case in cases:
            report.progress(f"{group}, round {number + 1} of {settings.rounds}: {case.name}")
            await _measure(case, span, report, group)


async def _measure(case: Case, span: Span, report: Report, group: str) -> None:
    node_before_s, client_before_s = cpu_s(case.pids), time.process_time()
    began_s = time.perf_counter()
    done = await case.work(span)
    elapsed_s = time.perf_counter() - began_s
    series = report.series(case.name, f"{case.unit}/s", group=group, note=case.note)
    series.record_bytes = case.record_bytes
    series.add(done.count / elapsed_s)
    series.client_cpu_us.append((time.process_time() - client_before_s) / max(1, done.count) * 1e6)
    if case.pids:
        series.node_cpu_us.append((cpu_s(case.pids) - node_before_s) / max(1, done.count) * 1e6)
    if done.latencies_s:
        ascending = sorted(done.latencies_s)
        series.p50_ms.append(ascending[len(ascending) // 2] * 1e3)
        series.p99_ms.append(ascending[len(ascending) * 99 // 100] * 1e3)


async def timed(call: Callable[[], Awaitable[object]], latencies_s: list[float]) -> None:
    began_s = time.perf_counter()
    await call()
    latencies_s.append(time.perf_counter() - began_s)
