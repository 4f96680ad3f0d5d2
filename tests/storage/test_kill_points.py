"""A crash at every single step of what a log does: nothing acknowledged is lost, nothing else appears.

A step is one byte written or one other change to the file system.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from random import Random
from typing import Any

import pytest

from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.simulation.runtime import PowerCutError
from ourolog.storage.batch import NewBatch
from ourolog.storage.errors import StorageError
from ourolog.storage.log import Log, LogConfig
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk, state_of

DIRECTORY = "/data/log"
SMALL = LogConfig(segment_bytes=320, index_interval_bytes=100, checkpoint_interval_bytes=300)
CRASHES: dict[str, Callable[[SimulatedDisk, int], SimulatedDisk]] = {
    "the process is killed": lambda files, _: files.after_crash(keep_unsynced=True),
    "the machine loses power": lambda files, _: files.after_crash(keep_unsynced=False),
    "the machine loses power while writing back": lambda files, seed: files.after_crash(
        keep_unsynced=False, chance=Random(seed)
    ),
}


class Ledger:
    """What a play may leave behind: the payloads acknowledged, and what else may have been written.

    `futures` are the full contents that the log may be on its way to; it must hold a prefix of one
    that includes all that was acknowledged.
    """

    def __init__(self) -> None:
        self.acknowledged: list[bytes] = []
        self.futures: list[list[bytes]] = [[]]
        self.start = 0

    def state(self) -> Hashable:
        return (tuple(self.acknowledged), tuple(map(tuple, self.futures)), self.start)


class Checked:
    """What was checked so far: the same disk is found after many a step, and one look at it is enough."""

    def __init__(self) -> None:
        self._seen: set[Hashable] = set()

    def check(self, found: SimulatedDisk, ledger: Ledger, what: Any) -> None:
        state = (state_of(found), ledger.state())
        if state not in self._seen:
            check(found, ledger, what)
            self._seen.add(state)


def append(log: Log, ledger: Ledger, *payloads: bytes) -> None:
    for payload in payloads:
        log.append_new(NewBatch(payload, 1), Term(1), 5)
    ledger.futures = [ledger.acknowledged + list(payloads)]
    log.commit()
    ledger.acknowledged = ledger.acknowledged + list(payloads)


def open_log(files: SimulatedDisk) -> Log:
    files.make_directory(DIRECTORY)
    return Log.open(files, DIRECTORY, NodeId("n1"), 7, SMALL)


def play_rolls(files: SimulatedDisk, ledger: Ledger) -> None:
    log = open_log(files)
    append(log, ledger, b"a" * 30, b"b" * 30)
    append(log, ledger, b"c" * 30)
    append(log, ledger, b"d" * 30, b"e" * 30, b"f" * 30)
    log.close()


def play_reopening(files: SimulatedDisk, ledger: Ledger) -> None:
    log = open_log(files)
    append(log, ledger, b"a" * 30)
    log.close()
    log = open_log(files)
    append(log, ledger, b"b" * 30)
    log.close()


def play_truncation(files: SimulatedDisk, ledger: Ledger) -> None:
    log = open_log(files)
    for letter in b"abcdefg":
        append(log, ledger, bytes([letter]) * 40)
    kept = ledger.acknowledged[:1]
    ledger.futures, ledger.acknowledged = [ledger.acknowledged], kept
    log.truncate(Index(1))
    ledger.futures = [kept]
    append(log, ledger, b"B" * 40)
    append(log, ledger, b"C" * 40, b"D" * 40)


def play_reset(files: SimulatedDisk, ledger: Ledger) -> None:
    log = open_log(files)
    for letter in b"abcd":
        append(log, ledger, bytes([letter]) * 40)
    ledger.futures, ledger.acknowledged = [ledger.acknowledged, []], []
    log.reset(Position(Index(50), Offset(50)))
    ledger.futures, ledger.start = [[]], 50
    append(log, ledger, b"z" * 40)


PLAYS = {play.__name__: play for play in (play_rolls, play_reopening, play_truncation, play_reset)}


def check(found: SimulatedDisk, ledger: Ledger, what: Any) -> None:
    try:
        log = open_log(found)
        payloads, at = [], log.start.index
        while at < log.end.index:
            read = log.read_from_index(at, 1, log.end.index)
            payloads.append(read.batches[-len(read.batches) :])
            at = read.next.index
    except StorageError as error:
        raise AssertionError(f"{what}: {error}") from error
    bodies = [blob.rstrip()[-30:] for blob in payloads]
    assert len(bodies) >= len(ledger.acknowledged), f"{what}: acknowledged batches are gone"
    assert any(bodies == [p[-30:] for p in future[: len(bodies)]] for future in ledger.futures), f"{what}: {bodies}"
    assert log.start.index in (0, 50), what
    assert log.start.index >= ledger.start, f"{what}: a reset was taken back"
    assert log.terms.last_term == (1 if bodies else 0), what
    # The log that came back goes on, and comes back again.
    log.append_new(NewBatch(b"after" * 10, 1), Term(1), 9)
    log.commit()
    end = log.end
    again = open_log(found.after_crash(keep_unsynced=False))
    assert again.end == end, what
    log.close()


def steps_of(play: Callable[[SimulatedDisk, Ledger], None]) -> int:
    files = empty_disk()
    play(files, Ledger())
    return files.steps


# Split so that workers share the load.
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("play", PLAYS)
def test_a_crash_of_any_kind_at_any_step_loses_nothing_acknowledged(play: str, part: int) -> None:
    checked = Checked()
    for step in range(part, steps_of(PLAYS[play]) + 1, 3):
        files, ledger = empty_disk(), Ledger()
        files.cut_power_after(step)
        with contextlib.suppress(PowerCutError):
            PLAYS[play](files, ledger)
        for crash, crashed in CRASHES.items():
            checked.check(crashed(files, step), ledger, f"{play}, {crash} after step {step}")


@pytest.mark.parametrize("part", range(3))
def test_a_power_cut_at_any_step_of_the_opening_after_a_kill_loses_nothing(part: int) -> None:
    """Killed in the middle of a reset, opened again, and then the power goes while that is finished."""
    steps, checked = steps_of(play_reset), Checked()
    for step in range(part, steps, 3):
        files, ledger = empty_disk(), Ledger()
        files.cut_power_after(step)
        with contextlib.suppress(PowerCutError):
            play_reset(files, ledger)
        if files.unsynced_names() <= {f"{DIRECTORY}/checkpoint.tmp"}:
            continue
        killed = files.after_crash(keep_unsynced=True)
        before = killed.steps
        open_log(killed)
        opening_steps = killed.steps - before
        for cut in range(step % 7, opening_steps, 1 + opening_steps // 20):
            killed = files.after_crash(keep_unsynced=True)
            killed.cut_power_after(cut)
            with contextlib.suppress(PowerCutError):
                open_log(killed)
            for seed in range(2):
                found = killed.after_crash(keep_unsynced=False, chance=Random(seed))
                checked.check(found, ledger, f"killed after {step}, power cut after {cut} more")
