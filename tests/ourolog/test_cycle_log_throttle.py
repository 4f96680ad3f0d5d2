from __future__ import annotations

from typing import Any

from ourolog.actors.messages.observer import CycleSeen
from ourolog.cycle_log_throttle import CycleLogThrottle
from ourolog.log_events import LogEvent
from ourolog.storage.types import NodeId

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
SHORT, LONG = (N1, N2, N1), (N1, N2, N3, N1)


class VirtualLoop:
    """The one method of a loop that is used, on virtual time."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_later(self, delay_s: float, callback: Any) -> Any:
        self.due.append(callback)
        return self

    def cancel(self) -> None:
        self.due.clear()

    def a_second_passes(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


def make() -> tuple[CycleLogThrottle, VirtualLoop, list[tuple[object, object]]]:
    loop = VirtualLoop()
    written: list[tuple[object, object]] = []

    def write(event: LogEvent) -> None:
        written.append((event.fields["path"], event.fields["count"]))

    return CycleLogThrottle(write, loop), loop, written  # type: ignore[arg-type]  # it is as much of a loop as is used


def test_each_path_is_written_at_once_when_it_is_first_seen() -> None:
    log, _, written = make()
    log.saw(CycleSeen(N1, SHORT, 1, True))
    log.saw(CycleSeen(N1, LONG, 2, True))
    assert written == [(list(SHORT), 1), (list(LONG), 2)]


def test_repeated_ones_become_one_line_a_second_with_the_sum_of_their_counts() -> None:
    log, loop, written = make()
    for _ in range(100):
        log.saw(CycleSeen(N1, SHORT, 3, True))
    assert written == [(list(SHORT), 3)]
    loop.a_second_passes()
    assert written == [(list(SHORT), 3), (list(SHORT), 297)]
    loop.a_second_passes()
    assert len(written) == 2


def test_no_count_is_lost_when_there_are_more_paths_than_are_kept_or_the_log_closes() -> None:
    log, _, written = make()
    for number in range(200):
        log.saw(CycleSeen(N1, (N1, NodeId(f"x{number}"), N1), 1, True))
    assert len(written) == 64
    log.close()
    assert sum(int(str(count)) for _, count in written) == 200
