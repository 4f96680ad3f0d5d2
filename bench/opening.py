"""How long opening a log takes, by its size, each time in a process that has just begun.

`python -m bench.opening build DIRECTORY BYTES PAYLOAD_BYTES` writes a log through the storage
layer and ends without closing it, as kill -9 would; `… open DIRECTORY` opens one and prints how
long that took; `… close DIRECTORY` also closes it in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from random import SystemRandom
from typing import Any, Final

from bench.nodes import fresh_directory
from bench.payloads import values_of
from bench.processes import resident_mib
from bench.report import Report, number
from bench.rounds import Settings
from ourolog.child_processes import child_environment, python_command
from ourolog.storage.batch import NewBatch
from ourolog.storage.disk import DiskFiles
from ourolog.storage.identity import DataDirectory
from ourolog.storage.log import Log
from ourolog.storage.record_set import encode_records
from ourolog.storage.types import NodeId, Term

RECORD_BYTES: Final = 100
_GROUP_BYTES: Final = 1024 * 1024
_LIMIT_MS: Final = 1000
_SAME_MS: Final = 50
_NODE: Final = NodeId("n1")


async def opening(settings: Settings, report: Report) -> None:
    """Logs of two sizes in batches of about 100 KB, and one of one-record batches.

    "killed" is a log left by a killed process, "closed" one that was closed in good order.
    """
    kinds = (
        (settings.small_log_bytes, 1_000),
        (settings.large_log_bytes, 1_000),
        (settings.tiny_log_bytes, 1),
    )
    names = []
    async with contextlib.AsyncExitStack() as stack:
        logs = []
        for size_bytes, records in kinds:
            name = size_name(size_bytes) + (" of one-record batches" if records == 1 else "")
            report.progress(f"opening: writing a log of {name}")
            data = await stack.enter_async_context(built_log(settings.directory, size_bytes, records))
            logs.append((name, size_bytes, data))
            names.append(name)
        for how, act in (("killed", "open"), ("closed", "close")):
            if act == "close":
                for _, _, data in logs:
                    await _child(act, data)
            for round_number in range(settings.rounds):
                report.progress(f"opening, {how}, round {round_number + 1} of {settings.rounds}")
                for name, size_bytes, data in logs:
                    seen = json.loads(await _child(act, data))
                    assert seen["size_bytes"] >= size_bytes, f"the log of {name} holds {seen['size_bytes']} bytes"
                    note = f"from the page cache; {seen['resident_mib']:.0f} MiB resident then"
                    series = report.series(f"open {name}, {how}", "ms", group="opening", note=note)
                    series.add(seen["opened_s"] * 1000)
    for how in ("killed", "closed"):
        small, large = (report.all[f"open {name}, {how}"] for name in names[:2])
        grown_ms = statistics.median(above - below for above, below in zip(large.values, small.values, strict=True))
        slowest_ms = max(large.values)
        report.target(
            f"open {names[1]}, {how}",
            f"{number(slowest_ms)} ms at worst, {grown_ms:+.1f} ms from {names[0]}",
            f"< {_LIMIT_MS:,} ms, the same (within {_SAME_MS} ms)",
            met=slowest_ms < _LIMIT_MS and abs(grown_ms) < _SAME_MS,
        )


def size_name(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:g} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:g} MB"


@contextlib.asynccontextmanager
async def built_log(within: str, size_bytes: int, records: int = 1_000) -> AsyncIterator[str]:
    """A directory that holds n1, a data directory with a log of at least this size; removed at the end."""
    async with fresh_directory(within) as data:
        await _child("build", data, str(size_bytes), str(records))
        yield data


async def _child(*arguments: str) -> bytes:
    """What this module prints when it is run with these arguments in a process of its own."""
    words = python_command("-m", "bench.opening", *arguments)
    process = await asyncio.create_subprocess_exec(
        *words, env=child_environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        out, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return out


# ---------------------------------------------------------------- in the child


def _build(data: str, size_bytes: int, records: int) -> None:
    log = _open(data)[0]
    batch = NewBatch(encode_records(values_of(records, RECORD_BYTES)), records)
    written = unsynced = 0
    now_ms = time.time_ns() // 1_000_000
    while written < size_bytes:
        log.append_new(batch, Term(0), now_ms)
        written += len(batch.payload)
        unsynced += len(batch.payload)
        if unsynced >= _GROUP_BYTES:
            log.commit(sync=True)
            unsynced = 0
    log.commit(sync=True)
    os._exit(0)


def _open(data: str) -> tuple[Log, DataDirectory]:
    files = DiskFiles()
    directory = DataDirectory.open(files, f"{data}/{_NODE}", _NODE, "ourolog", SystemRandom())
    return Log.open(files, directory.log_directory, _NODE, directory.log_epoch), directory


def _timed_open(data: str, *, close: bool) -> dict[str, Any]:
    began_s = time.perf_counter()
    log, directory = _open(data)
    opened_s = time.perf_counter() - began_s
    seen = {"opened_s": opened_s, "size_bytes": log.size_bytes, "resident_mib": resident_mib(os.getpid())[0]}
    if close:
        log.close()
        directory.close()
    return seen


def _main(act: str, data: str, *rest: str) -> None:
    if act == "build":
        size_bytes, records = map(int, rest)
        _build(data, size_bytes, records)
    else:
        print(json.dumps(_timed_open(data, close=act == "close")), flush=True)
        os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
