"""The scrub in time: the whole log once in an interval, in small steps; what it finds is repaired like anything."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.observer import WarningKind
from ourolog.actors.messages.store import ScrubDue
from ourolog.actors.storing.scrubber import LEAST_PAUSE_S
from ourolog.storage.errors import StorageBusyError
from ourolog.storage.log import Log
from tests.actors.store_stage import Stage
from tests.actors.storing.test_damaged_places import ELECTED, Damaged

INTERVAL_S = 60.0


def test_damage_that_nobody_reads_is_found_within_the_interval_and_repaired() -> None:
    log = Damaged(7, 30, scrub_interval_s=INTERVAL_S, **ELECTED)
    log.stage.runtime.run_for(2.1 * INTERVAL_S)
    assert sorted(log.asked) == [7, 30]
    for index in (7, 30):
        log.repair(index)
    assert (log.status.damaged_found, log.status.repaired) == (2, 2)
    log.stage.runtime.run_for(2.1 * INTERVAL_S)
    assert sorted(log.asked) == [7, 30]


def test_the_whole_log_is_read_once_in_an_interval_and_status_says_how_far_and_when() -> None:
    log = Damaged(scrub_interval_s=INTERVAL_S, **ELECTED)
    size_bytes = log.status.size_bytes
    log.stage.runtime.run_for(2.1 * INTERVAL_S)
    read_bytes = log.status.scrubbed_bytes
    log.stage.runtime.run_for(10 * INTERVAL_S)
    assert 9 * size_bytes <= log.status.scrubbed_bytes - read_bytes <= 11 * size_bytes
    assert log.status.scrubbed_ms > 0
    assert log.status.scrub_next is not None


def test_alone_a_node_warns_once_for_each_place_and_goes_on() -> None:
    log = Damaged(7, scrub_interval_s=INTERVAL_S)
    log.stage.runtime.run_for(5 * INTERVAL_S)
    (warned,) = log.warned()
    assert "Restore the file from a backup" in warned
    assert log.asked == []


def test_what_can_be_made_again_from_here_is_and_is_counted() -> None:
    log = Damaged(scrub_interval_s=INTERVAL_S, **ELECTED)
    path = sorted(path for path in log.stage.files.durable() if path.endswith(".idx"))[1]
    log.stage.files.open(path).overwrite(30, [b"?"])
    log.stage.runtime.run_for(2.1 * INTERVAL_S)
    (text,) = log.warned(WarningKind.REPAIRED)
    assert path in text
    assert (log.status.damaged_found, log.status.repaired) == (1, 1)


def test_it_begins_with_some_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    count = Damaged(**ELECTED).status.segments
    monkeypatch.setattr(Log, "begin_scrub_at", lambda _, at: begun.append(at))
    disk = Damaged(**ELECTED).stage.crash()
    Stage(disk, scrub_interval_s=INTERVAL_S, **ELECTED)
    assert begun
    assert all(0 <= at < count for at in begun)


def test_when_no_file_can_be_opened_it_goes_on_later(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Damaged(7, scrub_interval_s=INTERVAL_S, **ELECTED)

    def refuse(*_: object) -> None:
        raise StorageBusyError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Log, "scrub", refuse)
        log.stage.runtime.run_for(2.1 * INTERVAL_S)
        assert log.asked == []
    log.stage.runtime.run_for(2.1 * INTERVAL_S)
    assert log.asked == [7]


def test_off_means_never() -> None:
    log = Damaged(7, scrub_interval_s=0.0, **ELECTED)
    log.stage.runtime.run_for(10**6)
    assert log.asked == []
    assert log.status.scrub_next is None


@pytest.mark.parametrize("interval_s", [0.001, 5.0])
def test_steps_are_never_close_to_each_other_and_an_empty_log_costs_next_to_nothing(interval_s: float) -> None:
    stage = Stage(scrub_interval_s=interval_s)
    steps = []
    stage.runtime.tap = lambda envelope: (
        steps.append(stage.runtime.monotonic_s()) if isinstance(envelope.message, ScrubDue) else None
    )
    stage.runtime.run_for(10.0)
    assert len(steps) <= 10.0 / max(LEAST_PAUSE_S, interval_s) + 1
