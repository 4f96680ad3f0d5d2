"""Consuming a log from its first record to its last, by the batch and record by record."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from bench.nodes import Nodes, fresh_nodes
from bench.payloads import batch_request
from bench.report import Report
from bench.rounds import Case, Done, Settings, Span, Work, alternate
from ourolog.rpc.client import LogClient
from ourolog.rpc.v1 import log_pb2 as pb

RECORD_BYTES: Final = (100, 1024)
_BATCH_RECORDS: Final = 1_000


async def consume(settings: Settings, report: Report) -> None:
    """One node, whose log is in the page cache since it has just been written."""
    for size_bytes in RECORD_BYTES:
        async with fresh_nodes(settings.directory) as node, LogClient(node.addr) as client:
            count = await _fill(node, settings.fill_bytes, size_bytes)
            of = f"{size_bytes} B"
            cases = [
                Case(
                    f"ConsumeBatchStream {of}",
                    "records",
                    _payloads(node, count),
                    node.pids,
                    size_bytes,
                    "payloads taken, records not decoded",
                ),
                Case(
                    f"ConsumeBatchStream {of}, LogClient",
                    "records",
                    _values(client, count),
                    node.pids,
                    size_bytes,
                    "records decoded to bytes",
                ),
                Case(f"ConsumeStream {of}", "records", _records(node), node.pids, size_bytes, "one record a message"),
            ]
            await alternate(cases, settings, report, f"consume, {of}")


async def _fill(node: Nodes, fill_bytes: int, size_bytes: int) -> int:
    """Produce that many bytes of values. Returns how many records that was."""
    request = batch_request(_BATCH_RECORDS, size_bytes)
    batches = max(1, fill_bytes // (size_bytes * _BATCH_RECORDS))
    acknowledged = 0
    async for response in node.stub.ProduceBatchStream(iter([request] * batches)):
        acknowledged += response.record_count
    assert acknowledged == batches * _BATCH_RECORDS
    return acknowledged


def _payloads(node: Nodes, expected: int) -> Work:
    async def work(span: Span) -> Done:
        request = pb.ConsumeBatchRequest(offset=0, stop_at_end=True)
        count = 0
        end_s = time.perf_counter() + span.seconds
        call = node.stub.ConsumeBatchStream(request)
        async for response in call:
            for batch in response.batches:
                assert batch.base_offset == count, "batches come in order, without gaps"
                count += batch.record_count
            if time.perf_counter() >= end_s:
                call.cancel()
                return Done(count)
        assert count == expected, f"{count} of {expected} records came"
        return Done(count)

    return work


def _values(client: LogClient, expected: int) -> Work:
    async def work(span: Span) -> Done:
        count = 0
        end_s = time.perf_counter() + span.seconds
        async with contextlib.aclosing(client.consume_batches(0, stop_at_end=True)) as batches:
            async for batch in batches:
                count += len(batch.values)
                if time.perf_counter() >= end_s:
                    return Done(count)
        assert count == expected, f"{count} of {expected} records came"
        return Done(count)

    return work


def _records(node: Nodes) -> Work:
    async def work(span: Span) -> Done:
        count = 0
        end_s = time.perf_counter() + span.seconds
        call = node.stub.ConsumeStream(pb.ConsumeRequest(offset=0))
        async for response in call:
            assert response.record.offset == count
            count += 1
            if time.perf_counter() >= end_s:
                break
        call.cancel()
        return Done(count)

    return work
