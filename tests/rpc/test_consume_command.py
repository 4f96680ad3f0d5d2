"""`ourolog consume` at a leader that does not know yet where its log ends."""

from __future__ import annotations

import asyncio
from typing import Any

from ourolog.actors.messages.server import Refusal, RequestRefused
from ourolog.child_processes import child_environment, python_command
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_records


def not_known(request_id: int) -> RequestRefused:
    return RequestRefused(request_id, Refusal.COMMIT_UNKNOWN, "n1 leads and does not know yet what is committed")


async def consume(address: str, *more: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *python_command("-m", "ourolog", "consume", "--addr", address, *more), env=child_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_it_says_what_it_waits_for_and_prints_all_there_is_once_the_end_is_known(edge: Any) -> None:
    async with edge() as e:
        e.server.refuse = not_known
        process = await consume(e.address, "--from", "end", "--follow", "--count", "1", "--output", "raw")
        assert process.stderr is not None
        said = await process.stderr.readline()
        assert said == b"Waiting: n1 leads and does not know yet what is committed\n"
        e.server.append(NewBatch(encode_records([b"acknowledged before"]), 1))
        e.server.refuse = None
        await e.server.until(lambda: bool(e.server.tailing))
        e.server.append(NewBatch(encode_records([b"new"]), 1))
        out, rest = await process.communicate()
        assert (process.returncode, out, rest) == (0, b"new\n", b"")


async def test_it_does_not_end_well_when_the_end_is_never_known(edge: Any) -> None:
    async with edge() as e:
        e.server.refuse = not_known
        process = await consume(e.address, "--from", "end", "--timeout", "5")
        out, error = await process.communicate()
        assert process.returncode != 0
        assert out == b""
        assert error.splitlines()[-1].endswith(b"n1 leads and does not know yet what is committed")
