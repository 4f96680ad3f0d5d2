"""The claims of the torture of elections: a good history holds, and each way to spoil it is found out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.history import Call
from ourolog.storage.types import NodeId, Offset
from torture.elections.claims import what_does_not_hold
from torture.elections.logs import Entry, differences

VALUES = [b"a-%d" % number for number in range(10)]
UNKNOWN = b"unknown"
REFUSED = b"refused"
MS = 1_000_000


class History:
    """Calls one after the other, each a millisecond long."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.now_ns = 0

    def add(self, operation: Operation, result: OperationResult | None) -> Call:
        began_ns, self.now_ns = self.now_ns, self.now_ns + MS
        over_ns = None if result is None else self.now_ns - 1
        call = Call(len(self.calls), NodeId("n1"), operation, began_ns, over_ns, result)
        self.calls.append(call)
        return call

    def produce(self, value: bytes, offset: int | None = None, outcome: Outcome = Outcome.OK) -> Call:
        result = OperationResult(outcome, Offset(offset or 0))
        return self.add(Operation(OperationKind.PRODUCE, value), result)

    def read(self, offset: int, value: bytes) -> Call:
        return self.add(
            Operation(OperationKind.CONSUME, offset=Offset(offset)), OperationResult(Outcome.OK, Offset(offset), value)
        )

    def end(self, offset: int) -> Call:
        result = OperationResult(Outcome.REFUSED, end_offset=Offset(offset))
        return self.add(Operation(OperationKind.CONSUME, offset=Offset(offset)), result)


@pytest.fixture
def history() -> History:
    """Ten records acknowledged, each read at once, and one of each other outcome."""
    found = History()
    for offset, value in enumerate(VALUES):
        found.produce(value, offset)
        found.read(offset, value)
        found.end(offset + 1)
    found.produce(REFUSED, outcome=Outcome.REFUSED)
    found.produce(UNKNOWN, outcome=Outcome.UNKNOWN)
    return found


def logs(*values: bytes) -> dict[str, list[bytes]]:
    return {name: list(values) for name in ("n1", "n2", "n3")}


@pytest.mark.parametrize("rest", [[], [UNKNOWN]])
def test_what_was_acknowledged_and_perhaps_what_has_no_known_outcome_is_what_may_be_there(
    history: History, rest: list[bytes]
) -> None:
    for offset, value in enumerate(rest, len(VALUES)):
        history.read(offset, value)
    assert what_does_not_hold(history.calls, logs(*VALUES, *rest)) == []


def test_a_record_that_was_acknowledged_and_is_gone_is_lost(history: History) -> None:
    wrong = what_does_not_hold(history.calls, logs(*VALUES[:-1]))
    assert "1 acknowledged records are lost, n1 does not hold them where it was said: 'a-9' at 9" in wrong


def test_a_record_that_was_acknowledged_for_another_offset_is_lost(history: History) -> None:
    moved = [*VALUES[:-2], VALUES[-1], VALUES[-2]]
    assert any("2 acknowledged records are lost" in text for text in what_does_not_hold(history.calls, logs(*moved)))


def test_a_lost_record_is_seen_by_the_history_alone(history: History) -> None:
    history.end(len(VALUES) - 1)
    (wrong,) = what_does_not_hold(history.calls, {})
    assert "not linearizable" in wrong
    assert "offset 9 was there before" in wrong


def test_a_record_that_was_replaced_after_it_was_acknowledged_is_seen_by_the_history_alone(history: History) -> None:
    history.read(9, UNKNOWN)
    (wrong,) = what_does_not_hold(history.calls, {})
    assert "read b'unknown' at offset 9, where b'a-9' is" in wrong


def test_a_record_that_is_there_twice_is_found(history: History) -> None:
    wrong = what_does_not_hold(history.calls, logs(*VALUES, UNKNOWN, UNKNOWN))
    assert "1 records are in n1's log twice: 'unknown' at 10 and 11" in wrong


def test_a_record_that_is_read_at_two_offsets_is_seen_by_the_history_alone(history: History) -> None:
    history.read(10, VALUES[3])
    (wrong,) = what_does_not_hold(history.calls, {})
    assert "that record has another offset, too" in wrong


def test_a_stale_answer_about_the_end_is_found_out(history: History) -> None:
    history.end(4)
    (wrong,) = what_does_not_hold(history.calls, {})
    assert "not linearizable" in wrong


def test_an_answer_about_the_end_may_be_as_old_as_its_question(history: History) -> None:
    answer = history.end(len(VALUES))
    history.produce(b"later", len(VALUES))
    asked_earlier = replace(answer, invoked_at=history.calls[0].invoked_at, returned_at=history.now_ns + MS)
    history.calls[history.calls.index(answer)] = asked_earlier
    assert what_does_not_hold(history.calls, {}) == []


def test_two_moments_that_the_clock_cannot_tell_apart_may_have_come_in_any_order() -> None:
    history = History()
    first = history.produce(b"second", 1)
    second = history.produce(b"first", 0)
    assert any("not linearizable" in text for text in what_does_not_hold(history.calls, {}))
    history.calls[1] = replace(second, invoked_at=first.returned_at)
    assert what_does_not_hold(history.calls, {}) == []


def test_a_hole_is_found() -> None:
    history = History()
    history.produce(b"one", 0)
    history.produce(b"three", 2)
    (wrong,) = what_does_not_hold(history.calls, {})
    assert "the log has 3 records, and at most 2 can have been written" in wrong


def test_what_was_refused_and_is_there_all_the_same_is_found(history: History) -> None:
    wrong = what_does_not_hold(history.calls, logs(*VALUES, REFUSED))
    assert "1 records are in n1's log that were refused or never sent: 'refused' at 10" in wrong


def test_a_node_that_shows_another_log_than_the_first_is_named(history: History) -> None:
    shown = logs(*VALUES, UNKNOWN)
    shown["n3"] = VALUES
    assert what_does_not_hold(history.calls, shown) == ["n3's log ends at 10, n1's at 11"]


def test_an_entry_that_differs_below_the_commit_position_is_found_and_one_above_it_may() -> None:
    entries = {index: Entry(1, 0, index, 7, 100 + index) for index in range(5)}
    other = {**entries, 4: entries[4]._replace(term=2)}
    assert differences({"n1": entries, "n2": other}, 4) == []
    (wrong,) = differences({"n1": entries, "n2": other}, 5)
    assert wrong.startswith("the logs of n1 and n2 differ at index 4")
    (wrong,) = differences({"n1": entries, "n2": {index: entries[index] for index in range(3)}}, 5)
    assert wrong.startswith("the logs of n1 and n2 differ at index 3")


def test_a_log_that_begins_later_is_compared_from_there() -> None:
    entries = {index: Entry(1, 0, index, 7, 100 + index) for index in range(5)}
    assert differences({"n1": entries, "n2": {3: entries[3], 4: entries[4]}}, 5) == []
