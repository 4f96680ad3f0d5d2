"""A consumer that is at work on what it has read: the connection brings what comes next meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from ourolog.rpc import server_calls
from ourolog.rpc.client import LogClient
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records

RECORD_BYTES = 250_000
RECORDS = 200


async def test_what_comes_next_is_brought_while_a_program_is_at_work_and_not_without_a_bound(
    edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    changed = asyncio.Event()
    write = server_calls.ServerCall.write

    async def noted(call: Any, message: bytes) -> None:
        await write(call, message)
        written.append(len(message))
        changed.set()

    monkeypatch.setattr(server_calls.ServerCall, "write", noted)
    async with edge() as e, LogClient(e.address) as client:
        for number in range(RECORDS):
            e.server.append(NewBatch(encode_records([b"%0*d" % (RECORD_BYTES, number)]), 1))
        async with aclosing(client.consume_batches(stop_at_end=True, max_bytes=RECORD_BYTES)) as batches:
            assert (await anext(batches)).base_offset == 0
            async with asyncio.timeout(30):
                while sum(written) < 1_500_000:  # while the program takes no second batch
                    changed.clear()
                    await changed.wait()
            before = len(written)
            assert before < RECORDS // 2
            assert [batch.base_offset async for batch in batches] == list(range(1, RECORDS))
