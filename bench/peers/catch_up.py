"""An empty replica copies a log, against a bare copy of the leader's files on the same disk."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from bench.payloads import batch_request
from bench.peers.clusters.ours import Ours, status_of
from bench.peers.comparisons import MEGABYTES, Comparison, Entry, Wanted
from bench.peers.meter import Meter
from bench.peers.samples import Sample, SampleError, Task
from bench.peers.servers import wait_until

_TITLE: Final = "an empty replica catches up"
_CHUNK_BYTES: Final = 1 << 20
_WITHIN_S: Final = 300.0
_ASK_EVERY_S: Final = 0.02
_RECORDS: Final = 1_000
_RECORD_BYTES: Final = 100


def catch_up(us: Ours, copied_bytes: int, say: Callable[[str], None]) -> list[Comparison]:
    """Fill the log; the comparisons with a bare copy that is synced at its end, and one that is synced as it goes."""
    say(f"filling a log with {copied_bytes / 1e6:,.0f} MB for an empty replica to copy")
    us.append_until(copied_bytes // _RECORD_BYTES, batch_request(_RECORDS, _RECORD_BYTES))
    numbers = count(1)
    replica = Entry.one(Task(f"{us.label}: an empty replica", lambda: _copied_by_replica(us, f"r{next(numbers)}")))

    def bare(how: str, *, synced_each: bool) -> Entry:
        return Entry.one(Task(f"bare copy of {us.label}'s files, {how}", lambda: _copied_bare(us, synced_each)))

    at_end, as_it_goes = bare("fsync at the end", synced_each=False), bare("fdatasync each MiB", synced_each=True)
    wanted = Wanted(0.5, 0.8)
    return [
        Comparison("catchup", _TITLE, us.label, "bare copy", replica, at_end, MEGABYTES, wanted),
        Comparison("catchup", _TITLE, us.label, "bare copy, synced", replica, as_it_goes, MEGABYTES),
    ]


def _copied_by_replica(us: Ours, name: str) -> Sample:
    """A new node, from the first entry that it has to the last one; how long its process takes to start is left out."""
    leader = us.leader()
    server, addr, directory = us.newcomer(name)
    end_offset = us.status(leader).end_offset
    server.start()
    try:
        meter, first_bytes = Meter([*us.pids(), server.pid]), 0
        wait_until(lambda: status_of(addr).end_offset > 0, "first record on an empty replica", [server])
        if status_of(addr).end_offset < end_offset:  # else the log is so short that it is all there already
            meter, first_bytes = Meter([*us.pids(), server.pid]), _size(directory)
        give_up_at_s = time.monotonic() + _WITHIN_S
        while status_of(addr).end_offset < end_offset:
            server.check()
            if time.monotonic() > give_up_at_s:
                raise SampleError(f"{name} had not caught up within {_WITHIN_S:g} s")
            time.sleep(_ASK_EVERY_S)
        return meter.sample(_size(directory) - first_bytes)
    finally:
        server.signal(signal.SIGTERM)
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _copied_bare(us: Ours, synced_each: bool) -> Sample:
    """Read and write a MiB at a time, one file after the other."""
    source = us.data_directory(us.leader())
    target = os.path.join(us.directory, "bare")
    os.makedirs(target)
    try:
        meter = Meter(us.pids())
        copied = 0
        unsynced: list[int] = []
        for path in _files(source):
            with _opened(path, os.O_RDONLY) as reading:
                writing = os.open(os.path.join(target, f"{len(unsynced)}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                unsynced.append(writing)
                while chunk := os.read(reading, _CHUNK_BYTES):
                    copied += os.write(writing, chunk)
                    if synced_each:
                        os.fdatasync(writing)
        for fd in unsynced:
            os.fsync(fd)
            os.close(fd)
        return meter.sample(copied)
    finally:
        shutil.rmtree(target)


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _files(directory: str) -> list[str]:
    return sorted(os.path.join(at, name) for at, _, names in os.walk(directory) for name in names)


def _size(directory: str) -> int:
    return sum(os.path.getsize(path) for path in _files(directory))
