"""Producing: one record a call, one a message, and many a message; on one node and on three."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from bench.baseline import SyncedAppends, empty_server
from bench.nodes import Nodes, fresh_nodes
from bench.payloads import batch_request, values_of
from bench.report import Report, number
from bench.rounds import Case, Done, Settings, Span, Work, alternate, timed
from ourolog.rpc.client import LogClient
from ourolog.rpc.v1 import log_pb2 as pb

RECORD_BYTES: Final = (100, 1024)
SIZES: Final = (100, 1_000, 10_000)
_PREBUILT: Final = "payload built beforehand"
_BUILT: Final = "records built by the client meanwhile"
_BULK_TARGET: Final = 300_000
_UNARY_TARGET: Final = 0.5
# The node takes 64 MiB at once and refuses more; the largest batch here has 10 MB.
_BATCHES_IN_FLIGHT: Final = 4


async def unary_and_stream(settings: Settings, report: Report) -> None:
    """Single records on one node, against handlers that do nothing."""
    group = "single records"
    async with empty_server() as empty, fresh_nodes(settings.directory) as node:
        cases = []
        for in_flight in (1, 64):
            for kind, where in (("empty handler", empty), ("Produce", node)):
                name = f"{kind}, {in_flight} in flight"
                cases.append(Case(name, "calls", calls(where, in_flight), where.pids, 100))
        cases.append(Case("empty stream", "messages", _messages(empty), empty.pids, 100))
        cases.append(Case("ProduceStream", "messages", _messages(node), node.pids, 100))
        await _and_check(cases, node, settings, report, group)
    report.ratio("Produce / empty handler, 1 in flight", "Produce, 1 in flight", "empty handler, 1 in flight")
    empty_name, node_name = "empty handler, 64 in flight", "Produce, 64 in flight"
    ratio = report.ratio("Produce / empty handler, 64 in flight", node_name, empty_name)
    cost = report.cost_ratio("the same by processor time", empty_name, node_name)
    report.ratio("ProduceStream / empty stream", "ProduceStream", "empty stream")
    report.target(
        "Produce at 64 in flight / empty handler",
        f"{ratio.median:.2f} ({cost.median:.2f} by processor time)",
        f"> {_UNARY_TARGET}",
        met=ratio.median > _UNARY_TARGET,
    )


async def bulk(settings: Settings, report: Report) -> None:
    """Batches on one node, fsync before each acknowledgement."""
    for size_bytes in RECORD_BYTES:
        await _bulk_of(size_bytes, settings, report)
    best = max((f"ProduceBatchStream 100 B x {count:,}" for count in SIZES), key=lambda name: report.all[name].median)
    built = "LogClient stream 100 B x 1,000"
    for name in (best, built):
        median = report.all[name].median
        report.target(name, f"{number(median)} records/s", f"> {_BULK_TARGET:,}", met=median > _BULK_TARGET)


async def _bulk_of(size_bytes: int, settings: Settings, report: Report) -> None:
    sizes = SIZES
    async with contextlib.AsyncExitStack() as stack:
        empty = await stack.enter_async_context(empty_server())
        node = await stack.enter_async_context(fresh_nodes(settings.directory))
        client = await stack.enter_async_context(LogClient(node.addr))
        of = f"{size_bytes} B x"
        cases = []
        for count in sizes:
            request = batch_request(count, size_bytes)
            cases.append(
                Case(
                    f"bare file {of} {count:,}",
                    "records",
                    SyncedAppends(f"{settings.directory}/appended", len(request.records), count),
                    record_bytes=size_bytes,
                    note="append and fdatasync, no node",
                )
            )
            cases += [
                Case(
                    f"empty stream {of} {count:,}",
                    "records",
                    batches(empty, request),
                    empty.pids,
                    size_bytes,
                ),
                Case(
                    f"ProduceBatchStream {of} {count:,}",
                    "records",
                    batches(node, request),
                    node.pids,
                    size_bytes,
                    _PREBUILT,
                ),
                Case(
                    f"LogClient stream {of} {count:,}",
                    "records",
                    _built(client, values_of(count, size_bytes)),
                    node.pids,
                    size_bytes,
                    _BUILT,
                ),
                Case(
                    f"ProduceBatch {of} {count:,}, {_BATCHES_IN_FLIGHT} in flight",
                    "records",
                    _batch_calls(node, request),
                    node.pids,
                    size_bytes,
                    _PREBUILT,
                ),
            ]
        await _and_check(cases, node, settings, report, f"bulk, {size_bytes} B")
    for count in sizes:
        produced = f"ProduceBatchStream {of} {count:,}"
        report.ratio(f"{produced} / bare file", produced, f"bare file {of} {count:,}")
        report.ratio(f"{produced} / empty handler", produced, f"empty stream {of} {count:,}")


async def three_nodes(settings: Settings, report: Report) -> None:
    """Batches on three nodes with a decreed leader, acknowledged when on a majority of disks."""
    group = "three nodes, acks quorum"
    flags = ("--election", "static:n1,n2,n3", "--acks", "quorum")
    async with fresh_nodes(settings.directory, 3, flags) as nodes, LogClient(nodes.addr) as client:
        # Only a write that all three acknowledge shows that the followers follow.
        await nodes.stub.Produce(pb.ProduceRequest(record=pb.Record(value=b"first"), acks=pb.ACKS_ALL), timeout=30)
        cases = [
            Case(f"3 nodes: Produce, {in_flight} in flight", "calls", calls(nodes, in_flight), nodes.pids, 100)
            for in_flight in (1, 64)
        ]
        for count in SIZES:
            request = batch_request(count, 100)
            of = f"100 B x {count:,}"
            cases += [
                Case(
                    f"3 nodes: ProduceBatchStream {of}", "records", batches(nodes, request), nodes.pids, 100, _PREBUILT
                ),
                Case(
                    f"3 nodes: LogClient stream {of}",
                    "records",
                    _built(client, values_of(count, 100)),
                    nodes.pids,
                    100,
                    _BUILT,
                ),
            ]
        await _and_check(cases, nodes, settings, report, group)


async def _and_check(cases: list[Case], node: Nodes, settings: Settings, report: Report, group: str) -> None:
    """Measure, and check that the log holds exactly what was acknowledged."""
    counted = [0]
    watched = [
        Case(case.name, case.unit, _counting(case, counted), case.pids, case.record_bytes, case.note)
        if set(case.pids) == set(node.pids)
        else case
        for case in cases
    ]
    before = (await node.status()).end_offset
    await alternate(watched, settings, report, group)
    appended = (await node.status()).end_offset - before
    if appended != counted[0]:
        raise AssertionError(f"{group}: {counted[0]} records were acknowledged, and the log grew by {appended}")


def _counting(case: Case, counted: list[int]) -> Work:
    async def work(span: Span) -> Done:
        done = await case.work(span)
        counted[0] += done.count
        return done

    return work


def calls(where: Nodes, in_flight: int) -> Work:
    """Unary Produce, this many at once."""
    request = pb.ProduceRequest(record=pb.Record(value=values_of(1, 100)[0]))
    produce = where.stub.Produce
    return _in_flight(lambda: produce(request), in_flight, 1, 100)


def _batch_calls(where: Nodes, request: pb.ProduceBatchRequest) -> Work:
    produce = where.stub.ProduceBatch
    return _in_flight(lambda: produce(request), _BATCHES_IN_FLIGHT, request.record_count, len(request.records))


def _in_flight(call: Callable[[], Awaitable[object]], in_flight: int, records: int, size_bytes: int) -> Work:
    async def work(span: Span) -> Done:
        latencies_s: list[float] = []
        end_s = time.perf_counter() + span.seconds
        most = max(in_flight, span.size_bytes // size_bytes)

        async def worker() -> None:
            while time.perf_counter() < end_s and len(latencies_s) < most:
                await timed(call, latencies_s)

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return Done(len(latencies_s) * records, latencies_s)

    return work


def _messages(where: Nodes) -> Work:
    """ProduceStream, one record a message, as fast as flow control lets them go."""
    request = pb.ProduceRequest(record=pb.Record(value=values_of(1, 100)[0]))
    return _pump(where.stub.ProduceStream, request, 1, 100)


def batches(where: Nodes, request: pb.ProduceBatchRequest) -> Work:
    return _pump(where.stub.ProduceBatchStream, request, request.record_count, len(request.records))


def _pump(method: Callable[[AsyncIterator[Any]], Any], request: Any, records: int, size_bytes: int) -> Work:
    async def work(span: Span) -> Done:
        count = 0
        async for _ in method(_repeat(request, span, size_bytes)):
            count += 1
        return Done(count * records)

    return work


def _built(client: LogClient, values: list[bytes]) -> Work:
    """Produce through the client library, which encodes every record inside the measured time."""
    size_bytes = sum(map(len, values))

    async def work(span: Span) -> Done:
        count = 0
        async for _ in client.produce_batch_stream(_repeat(values, span, size_bytes)):
            count += 1
        return Done(count * len(values))

    return work


async def _repeat(item: Any, span: Span, size_bytes: int) -> AsyncIterator[Any]:
    end_s = time.perf_counter() + span.seconds
    for _ in range(max(1, span.size_bytes // size_bytes)):
        if time.perf_counter() >= end_s:
            return
        yield item
