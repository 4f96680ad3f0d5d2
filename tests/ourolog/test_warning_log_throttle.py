from __future__ import annotations

from typing import Any

from ourolog.actors.messages.observer import NameContested, NodeWarned, WarningKind
from ourolog.log_events import LogEvent
from ourolog.storage.types import NodeId
from ourolog.warning_log_throttle import MAX_DIFFERENT, MAX_PLACES, REPEAT_INTERVAL_S, WarningLogThrottle


class VirtualLoop:
    """The two methods of a loop that are used, on virtual time."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, callback: Any) -> Any:
        self.due.append((self.now_s + delay_s, callback))
        return self

    def cancel(self) -> None:
        self.due.clear()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        due = [entry for entry in self.due if entry[0] <= self.now_s]
        self.due = [entry for entry in self.due if entry[0] > self.now_s]
        for _, callback in due:
            callback()


def make() -> tuple[WarningLogThrottle, VirtualLoop, list[tuple[object, object]]]:
    loop = VirtualLoop()
    written: list[tuple[object, object]] = []

    def write(event: LogEvent) -> None:
        assert (event.level, event.name) == ("warning", "node_warned")
        written.append((event.fields["reason"], event.fields.get("repeated")))

    return WarningLogThrottle(write, loop), loop, written  # type: ignore[arg-type]  # it is as much of a loop as is used


def warned(
    reason: str, actor: str = "replicator", kind: WarningKind = WarningKind.PULL_REFUSED, about: str = ""
) -> NodeWarned:
    return NodeWarned(NodeId("n1"), actor, kind, reason, NodeId(about))


def test_a_warning_is_written_at_once_and_its_repetitions_are_counted_and_written_after_minutes() -> None:
    log, loop, written = make()
    for _ in range(408):
        log.warned(warned("n2 does not answer"))
        loop.pass_time(1.0)
    assert written == [("n2 does not answer", None), ("n2 does not answer", 299)]
    loop.pass_time(REPEAT_INTERVAL_S)
    assert written[2:] == [("n2 does not answer", 108)]


def test_another_reason_or_actor_is_written_at_once_and_other_numbers_are_not_another_reason() -> None:
    log, _, written = make()
    log.warned(warned("n2 at 10.0.0.1:80 does not answer"))
    log.warned(warned("n2 at 10.0.0.1:81 does not answer"))
    log.warned(warned("n2 refuses"))
    log.warned(warned("n2 refuses", "store"))
    assert [reason for reason, _ in written] == ["n2 at 10.0.0.1:80 does not answer", "n2 refuses", "n2 refuses"]


def test_a_warning_that_has_ended_is_new_when_it_comes_back() -> None:
    log, loop, written = make()
    log.warned(warned("a"))
    loop.pass_time(REPEAT_INTERVAL_S)
    log.warned(warned("a"))
    assert written == [("a", None), ("a", None)]


def test_a_flood_of_different_warnings_is_bounded_and_none_goes_uncounted() -> None:
    log, loop, written = make()
    for number in range(1000):
        log.warned(warned("stranger " + "x" * number))
    assert len(written) == MAX_DIFFERENT
    loop.pass_time(REPEAT_INTERVAL_S)
    assert len(written) == MAX_DIFFERENT + 1
    assert written[-1][1] == 1000 - MAX_DIFFERENT
    loop.pass_time(REPEAT_INTERVAL_S)
    assert len(written) == MAX_DIFFERENT + 1


def test_what_was_held_back_is_written_when_the_log_closes() -> None:
    log, _, written = make()
    for _ in range(3):
        log.warned(warned("a"))
    log.close()
    assert written == [("a", None), ("a", 2)]


def test_a_name_that_is_contested_again_and_again_is_logged_once() -> None:
    loop = VirtualLoop()
    written: list[LogEvent] = []
    log = WarningLogThrottle(written.append, loop)  # type: ignore[arg-type]
    for port in range(475):
        log.warned(NameContested(NodeId("n1"), NodeId("n2"), "10.0.0.2:8401", f"10.0.0.9:{port}"))
    log.close()
    assert [event.name for event in written] == ["name_contested"] * 2
    assert written[1].fields["repeated"] == 474


def test_what_is_said_of_another_node_or_of_another_kind_is_not_held_back_for_its_numbers() -> None:
    log, _, written = make()
    log.warned(warned("n2 refused the pull", about="n2"))
    log.warned(warned("n3 refused the pull", about="n3"))
    log.warned(warned("n3 refused the pull", about="n3", kind=WarningKind.PULL_NOT_APPENDED))
    log.warned(warned("n3 refused the pull", about="n3"))
    assert len(written) == 3


def test_what_becomes_of_a_nodes_own_log_is_never_held_back() -> None:
    log, _, written = make()
    for start, leader in ((10, "n1"), (30, "n2"), (50, "n1")):
        reason = f"n3 drops its entries [{start}, 60): leader {leader} does not have them"
        log.warned(warned(reason, kind=WarningKind.ENTRIES_DROPPED, about=leader))
    assert len(written) == 3


def test_each_damaged_place_and_each_repair_is_a_line_of_its_own_until_they_are_many() -> None:
    log, loop, written = make()
    for kind in (WarningKind.DAMAGED, WarningKind.REPAIRED):
        for index in range(1, MAX_PLACES + 1):
            log.warned(warned(f"byte {index}", "store", kind))
            log.warned(warned(f"byte {index}", "store", kind))
    assert len(written) == 2 * MAX_PLACES, "one line for each"
    for index in range(100, 200):
        log.warned(warned(f"byte {index}", "store", WarningKind.DAMAGED))
    assert written[2 * MAX_PLACES :] == [("byte 100", None)]
    loop.pass_time(REPEAT_INTERVAL_S)
    assert written[-1] == ("byte 199", 99)
    loop.pass_time(REPEAT_INTERVAL_S)
    loop.pass_time(REPEAT_INTERVAL_S)
    log.warned(warned("byte 300", "store", WarningKind.DAMAGED))
    log.warned(warned("byte 301", "store", WarningKind.DAMAGED))
    assert [text for text, _ in written[-2:]] == ["byte 300", "byte 301"]
