"""What a record costs on a log that is long already, against one that is short."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Final

from bench.payloads import batch_request
from bench.peers.clusters.ours import Ours
from bench.peers.comparisons import RATE, SERVERS_US, Comparison, Entry, Wanted
from bench.peers.meter import Meter
from bench.peers.samples import Sample, Task

_RECORDS: Final = 1_000
_RECORD_BYTES: Final = 100


def growth(us: Ours, few: int, many: int, fresh: Callable[[], Ours], say: Callable[[str], None]) -> list[Comparison]:
    """Fill the log with `many` records; one with `few` is made anew, by `fresh`, for each sample.

    A sample appends four times `few`, so that its processor time is many ticks of the clock.
    """
    sampled = 4 * few
    request = batch_request(_RECORDS, _RECORD_BYTES)
    say(f"filling a log with {many:,} records")
    us.append_until(many, request)

    def on_short() -> Sample:
        short = fresh()
        with short.started():
            short.append_until(few, request)
            sample = _appended(short, sampled)
        shutil.rmtree(short.directory)
        return sample

    long_log = Entry.one(Task(f"{us.label}: with {many:,} records", lambda: _appended(us, sampled), _RECORD_BYTES))
    short_log = Entry.one(Task(f"{us.label}: with {few:,} records", on_short, _RECORD_BYTES))
    title = f"{{}} of a record at {many:,} records, batches of {_RECORDS:,}"
    pair = (us.label, f"at {few:,}")
    return [
        Comparison("growth", title.format("cost"), *pair, long_log, short_log, SERVERS_US, Wanted(1.1, at_most=True)),
        Comparison("growth", title.format("rate"), *pair, long_log, short_log, RATE),
    ]


def _appended(us: Ours, records: int) -> Sample:
    """The processor time of all nodes for so many more records."""
    before = us.status(us.leader()).end_offset
    meter = Meter(us.pids())
    us.append_until(before + records, batch_request(_RECORDS, _RECORD_BYTES))
    return meter.sample(records)
