"""The client as programs use it: one `produce` after another from many tasks, and records consumed one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from bench.nodes import Nodes, fresh_nodes
from bench.payloads import values_of
from bench.report import Report
from bench.rounds import Case, Done, Settings, Span, Work, alternate
from ourolog.rpc.client import LogClient
from ourolog.rpc.v1 import log_pb2 as pb

RECORD_BYTES: Final = 100
_TASKS: Final = (1, 64, 1_000)
# gRPC's own calls get slower from there on.
_MOST_CALLS: Final = 64
_FLAGS: Final = ("--election", "static:n1,n2,n3", "--acks", "quorum")


async def client(settings: Settings, report: Report) -> None:
    """`LogClient.produce` from several numbers of tasks, beside one call of gRPC for each record; three nodes."""
    async with fresh_nodes(settings.directory, 3, _FLAGS) as nodes, LogClient(nodes.addr) as log:
        # Only a write that all three acknowledge shows that the followers follow.
        await nodes.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"first"), acks=pb.ACKS_ALL), timeout=30)
        value = values_of(1, RECORD_BYTES)[0]
        cases = []
        for tasks in _TASKS:
            if tasks <= _MOST_CALLS:
                cases.append(_case(f"Produce by the stub, {tasks} tasks", _stub(nodes, value), tasks, nodes))
            cases.append(_case(f"LogClient.produce, {tasks} tasks", lambda: log.produce(value), tasks, nodes))
        await alternate(cases, settings, report, "the client, three nodes, acks quorum")
    for tasks in _TASKS[:2]:
        report.ratio(
            f"LogClient.produce / Produce by the stub, {tasks} tasks",
            f"LogClient.produce, {tasks} tasks",
            f"Produce by the stub, {tasks} tasks",
        )


def _stub(nodes: Nodes, value: bytes) -> Callable[[], Awaitable[object]]:
    request = pb.ProduceRequest(record=pb.Record(value=value))
    return lambda: nodes.stub.Produce(request)


def _case(name: str, call: Callable[[], Awaitable[object]], tasks: int, nodes: Nodes) -> Case:
    return Case(name, "records", _from_tasks(call, tasks), nodes.pids, RECORD_BYTES)


def _from_tasks(call: Callable[[], Awaitable[object]], tasks: int) -> Work:
    """Each task calls again as soon as it is answered."""

    async def work(span: Span) -> Done:
        latencies_s: list[float] = []
        end_s = time.perf_counter() + span.seconds

        async def one() -> None:
            began_s = time.perf_counter()
            while began_s < end_s:
                await call()
                now_s = time.perf_counter()
                latencies_s.append(now_s - began_s)
                began_s = now_s

        await asyncio.gather(*(one() for _ in range(tasks)))
        return Done(len(latencies_s), latencies_s)

    return work
