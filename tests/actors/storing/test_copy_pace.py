"""A replica far behind syncs what several answers of its leader brought at once, and tells of none before."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import Fsync
from ourolog.actors.messages.events import LogAppended, LogOpened
from ourolog.actors.messages.store import (
    AppendFetched,
    FetchedAppended,
    FetchedTaken,
    FsyncDue,
    SaveBallot,
    TruncateLog,
)
from ourolog.actors.storing.copy_pace import ANSWERS_FAR, ANSWERS_TO_A_SYNC, SYNC_AFTER_S, CopyPace
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.disks.disk import SimulatedFile
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import scan
from ourolog.storage.types import Index, Term
from tests.actors.store_stage import N1, N2, STATIC, Stage, leader_and_follower

ANSWER_BYTES = 1_000
ENTRIES = 200


class Copy:
    """A follower that copies a leader's log, an answer at a time."""

    def __init__(self, **config: Any) -> None:
        leader, self.follower = leader_and_follower(fetch_max_bytes=ANSWER_BYTES, **config)
        leader.append(*(b"%03d" % number * 30 for number in range(ENTRIES)), term=1)
        blob = leader.read().batches
        self.ends = [head.end for head in scan(blob)]
        self.blob = blob
        self.each = ANSWER_BYTES // self.ends[0]
        self.copied = 0
        self.follower.replicator.take()

    def answer(self, expected: int = ENTRIES) -> list[object]:
        """The next answer comes; what the replicator is told."""
        first, last = self.copied, self.copied + self.each
        batches = self.blob[self.ends[first - 1] if first else 0 : self.ends[last - 1]]
        self.copied = last
        follower = self.follower
        follower.tell(AppendFetched(N1, Term(1), batches, follower.client, Index(expected)))
        return self.told()

    def told(self) -> list[object]:
        return [type(message) for message in (*self.follower.client.take(), *self.follower.replicator.take())]


def written(stage: Stage) -> int:
    """How many bytes of segments there are, on disk or not."""
    return sum(len(stage.files.content(path)) for path in stage.files.entries.visible if path.endswith(".log"))


def test_far_is_so_many_answers_and_the_estimate_is_of_what_came_last() -> None:
    pace = CopyPace(ANSWER_BYTES)
    assert not pace.is_far
    pace.took(1_000, 10, 160)
    assert pace.is_far
    assert pace.may_wait(ANSWERS_TO_A_SYNC * ANSWER_BYTES - 1)
    assert not pace.may_wait(ANSWERS_TO_A_SYNC * ANSWER_BYTES)
    pace.took(1_000, 10, ANSWERS_FAR * 10 - 1)
    assert not pace.may_wait(0)
    pace.took(1_000, 0, -3)
    assert not pace.is_far


def test_what_came_is_written_at_once_and_told_of_after_one_sync() -> None:
    copy = Copy()
    sizes = []
    for _ in range(ANSWERS_TO_A_SYNC):
        assert copy.answer() == [FetchedTaken]
        sizes.append(written(copy.follower))
    assert sizes == sorted(set(sizes)), "each is written when it comes"
    told = copy.answer()
    assert told == [FetchedTaken, *[FetchedAppended] * (ANSWERS_TO_A_SYNC + 1), LogAppended]
    assert copy.answer() == [FetchedTaken]


def test_what_waits_for_its_sync_is_lost_with_the_power_and_nobody_was_told_of_it() -> None:
    copy = Copy()
    copy.answer()
    assert Stage(copy.follower.crash(), node_id=N2, **STATIC).replicator.last(LogOpened).end.index == 0


def test_near_the_end_each_answer_is_synced_with_all_before_it() -> None:
    copy = Copy()
    copy.answer()
    assert copy.answer(copy.copied + copy.each + 1) == [FetchedTaken, FetchedAppended, FetchedAppended, LogAppended]
    assert copy.answer(copy.copied + copy.each) == [FetchedAppended, LogAppended]


def test_when_no_more_comes_it_is_synced_soon() -> None:
    copy = Copy()
    copy.answer()
    copy.follower.runtime.run_for(SYNC_AFTER_S / 2)
    assert copy.told() == []
    copy.follower.runtime.run_for(SYNC_AFTER_S)
    assert copy.told() == [FetchedAppended, LogAppended]


def test_a_sync_that_is_due_much_later_puts_it_off_no_further() -> None:
    copy = Copy(fsync=Fsync.INTERVAL, fsync_interval_s=60.0)
    copy.follower.append(b"led before, and has lost the entry", term=1)
    copy.follower.tell(TruncateLog(Index(0), Term(1), copy.follower.client))
    copy.told()
    copy.answer()
    copy.follower.runtime.run_for(2 * SYNC_AFTER_S)
    assert copy.told() == [FetchedAppended, LogAppended]


def test_a_ballot_comes_after_all_of_it() -> None:
    copy = Copy()
    copy.answer()
    copy.follower.tell(SaveBallot(2, Ballot(Term(2), N2, N2), Probe()))
    assert copy.told() == [FetchedAppended, LogAppended]


def test_it_is_on_disk_once_the_store_has_stopped() -> None:
    copy = Copy()
    copy.answer()
    copy.follower.runtime.stop(copy.follower.ref)
    copy.follower.runtime.run_until_idle()
    again = Stage(copy.follower.files.after_crash(keep_unsynced=False), node_id=N2, **STATIC)
    assert again.replicator.last(LogOpened).end.index == copy.each


def test_a_timer_that_finds_nothing_left_does_nothing() -> None:
    copy = Copy()
    copy.answer()
    copy.follower.tell(FsyncDue())
    assert copy.told() == [FetchedAppended, LogAppended]
    copy.follower.runtime.run_for(1.0)
    assert copy.told() == []


def test_what_is_written_is_brought_to_disk_at_once_and_what_is_there_need_not_stay_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(SimulatedFile, "write_back", lambda _, position: asked.append(position))
    copy = Copy()
    for _ in range(2 * ANSWERS_TO_A_SYNC + 2):
        copy.answer()
    answers_bytes = copy.ends[copy.each - 1]
    until_sync = ANSWERS_TO_A_SYNC + 1
    # Each time from where on all was synced when it was asked the last time.
    assert asked == [0] * (until_sync + 1) + [until_sync * answers_bytes] * (until_sync - 1)
    copy.answer(copy.copied + copy.each)
    assert len(asked) == 2 * until_sync, "at the end it stays in memory"
