"""The O(n log n) checker against one that tries every order, and against examples one can follow."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.history import Call
from ourolog.simulation.linearizability import check
from ourolog.storage.types import NodeId, Offset

N1 = NodeId("n1")


def produce(value: str, invoked: int, returned: int | None, offset: int | None) -> Call:
    """offset None: unknown whether it happened."""
    result = None
    if returned is not None:
        outcome = Outcome.UNKNOWN if offset is None else Outcome.OK
        result = OperationResult(outcome, Offset(offset or 0))
    operation = Operation(OperationKind.PRODUCE, value.encode())
    return Call(invoked, N1, operation, invoked, returned, result)


def read(offset: int, value: str, invoked: int, returned: int) -> Call:
    operation = Operation(OperationKind.CONSUME, offset=Offset(offset))
    result = OperationResult(Outcome.OK, Offset(offset), value.encode())
    return Call(invoked, N1, operation, invoked, returned, result)


def read_end(end: int, invoked: int, returned: int) -> Call:
    operation = Operation(OperationKind.CONSUME, offset=Offset(end))
    result = OperationResult(Outcome.REFUSED, end_offset=Offset(end))
    return Call(invoked, N1, operation, invoked, returned, result)


# ---------------------------------------------------------------- by example


def test_calls_one_after_another_are_linearizable() -> None:
    assert check([produce("a", 1, 2, 0), read(0, "a", 3, 4), produce("b", 5, 6, 1), read_end(2, 7, 8)]) is None


def test_overlapping_produces_may_take_either_order() -> None:
    assert check([produce("a", 1, 4, 1), produce("b", 2, 3, 0)]) is None


def test_a_record_acknowledged_before_another_was_sent_has_the_lower_offset() -> None:
    violation = check([produce("a", 1, 2, 1), produce("b", 3, 4, 0)])
    assert violation is not None
    assert violation.claim == "linearizable"
    assert "offset 1 was there before produce 3 on n1 began" in violation.detail


def test_a_record_cannot_be_read_before_it_was_sent() -> None:
    assert check([read(0, "a", 1, 2), produce("a", 3, 4, 0)]) is not None


def test_what_was_acknowledged_is_before_the_end() -> None:
    assert check([produce("a", 1, 2, 0), read_end(0, 3, 4)]) is not None


def test_an_end_seen_while_the_produce_was_under_way_may_be_either() -> None:
    assert check([produce("a", 1, 4, 0), read_end(0, 2, 3)]) is None
    assert check([produce("a", 1, 6, 0), read_end(1, 2, 3), read_end(0, 4, 5)]) is not None


def test_a_value_that_nobody_wrote_cannot_be_read() -> None:
    violation = check([read(0, "a", 1, 2)])
    assert violation is not None
    assert "nobody ever wrote" in violation.detail


def test_two_records_cannot_have_one_offset() -> None:
    assert check([produce("a", 1, 4, 0), produce("b", 2, 3, 0)]) is not None


def test_one_record_cannot_have_two_offsets() -> None:
    assert check([produce("a", 1, 2, 0), produce("b", 3, 4, None), read(1, "a", 5, 6)]) is not None


def test_an_unknown_produce_may_have_happened_or_not() -> None:
    unknown = produce("a", 1, 2, None)
    assert check([unknown, produce("b", 3, 4, 0)]) is None
    assert check([unknown, produce("b", 3, 4, 1)]) is None


def test_a_gap_that_nobody_can_have_filled_is_a_lost_record() -> None:
    violation = check([produce("b", 3, 4, 1)])
    assert violation is not None
    assert "at most 1 can have been written" in violation.detail


def test_a_gap_is_not_filled_by_a_produce_that_began_after_its_successor_was_there() -> None:
    assert check([produce("b", 1, 2, 1), produce("a", 3, 4, None)]) is not None


def test_a_refused_produce_is_never_read() -> None:
    refused = Call(
        1, N1, Operation(OperationKind.PRODUCE, b"a"), 1, 2, OperationResult(Outcome.REFUSED, detail="not the leader")
    )
    violation = check([refused, read(0, "a", 3, 4)])
    assert violation is not None
    assert "was refused" in violation.detail


def test_a_read_that_answers_another_offset_than_was_asked_for_is_a_violation() -> None:
    operation = Operation(OperationKind.CONSUME, offset=Offset(0))
    jumped = Call(5, N1, operation, 5, 6, OperationResult(Outcome.OK, Offset(1), b"b"))
    assert check([produce("a", 1, 2, 0), produce("b", 3, 4, 1), jumped]) is not None


def test_values_must_tell_records_apart() -> None:
    with pytest.raises(ValueError, match="two produces have the value"):
        check([produce("a", 1, 2, 0), produce("a", 3, 4, 1)])


# ---------------------------------------------------------------- against every order


@dataclass(frozen=True)
class _State:
    log: tuple[bytes, ...]
    left: frozenset[int]


def brute_force(history: list[Call]) -> bool:
    """Whether some order of the calls, each within its time, is one that a log could have answered."""
    calls = [call for call in history if _says_something(call)]
    seen: set[_State] = set()
    pending = [_State((), frozenset(range(len(calls))))]
    while pending:
        state = pending.pop()
        if state in seen:
            continue
        seen.add(state)
        must_come = [calls[at].returned_at for at in state.left if _must_happen(calls[at])]
        if not must_come:
            return True
        bound = min(at for at in must_come if at is not None)
        for at in state.left:
            if calls[at].invoked_at < bound:
                log = _apply(calls[at], state.log)
                if log is not None:
                    pending.append(_State(log, state.left - {at}))
    return False


def _says_something(call: Call) -> bool:
    result = call.result
    if call.operation.kind is OperationKind.PRODUCE:
        return result is None or result.outcome is not Outcome.REFUSED
    return result is not None and (result.outcome is Outcome.OK or result.end_offset is not None)


def _must_happen(call: Call) -> bool:
    return call.result is not None and call.result.outcome is not Outcome.UNKNOWN


def _apply(call: Call, log: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    result = call.result
    if call.operation.kind is OperationKind.PRODUCE:
        fits = result is None or result.outcome is Outcome.UNKNOWN or result.offset == len(log)
        return (*log, call.operation.value) if fits else None
    assert result is not None
    if result.outcome is Outcome.OK:
        fits = result.offset == call.operation.offset < len(log) and log[result.offset] == result.value
    else:
        fits = result.end_offset == len(log) and call.operation.offset >= len(log)
    return log if fits else None


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    """Any few calls with times drawn at random: most are wrong, many only by a little."""
    count = draw(st.integers(1, 6))
    times = draw(st.permutations(range(2 * count)))
    calls = []
    for at in range(count):
        invoked, returned = sorted(times[2 * at : 2 * at + 2])
        match draw(st.sampled_from(("produce", "unknown", "open", "read", "end"))):
            case "produce":
                calls.append(produce(f"v{at}", invoked, returned, draw(st.integers(0, 3))))
            case "unknown":
                calls.append(produce(f"v{at}", invoked, returned, None))
            case "open":
                calls.append(produce(f"v{at}", invoked, None, None))
            case "read":
                value = f"v{draw(st.integers(0, count - 1))}"
                calls.append(read(draw(st.integers(0, 3)), value, invoked, returned))
            case _:
                calls.append(read_end(draw(st.integers(0, 3)), invoked, returned))
    return calls


@st.composite
def plausible_histories(draw: st.DrawFn) -> list[Call]:
    """Calls as a true log answered them, then with one time or answer changed or none."""
    log: list[str] = []
    calls: list[Call] = []
    count = draw(st.integers(2, 7))
    for at in range(count):
        moment = 10 * at + 50
        invoked = moment - draw(st.integers(1, 45)) * 2 - 1
        returned = moment + draw(st.integers(1, 45)) * 2
        kind = draw(st.sampled_from(("produce", "unknown", "read", "end")))
        if kind in ("produce", "unknown"):
            log.append(f"v{at}")
            calls.append(produce(f"v{at}", invoked, returned, len(log) - 1 if kind == "produce" else None))
        elif kind == "read" and log:
            offset = draw(st.integers(0, len(log) - 1))
            calls.append(read(offset, log[offset], invoked, returned))
        else:
            calls.append(read_end(len(log), invoked, returned))
    if draw(st.booleans()):
        at = draw(st.integers(0, count - 1))
        call = calls[at]
        if call.operation.kind is OperationKind.PRODUCE and call.result and call.result.outcome is Outcome.OK:
            calls[at] = produce(
                call.operation.value.decode(), call.invoked_at, call.returned_at, draw(st.integers(0, 4))
            )
        elif call.result and call.result.end_offset is not None and call.returned_at is not None:
            calls[at] = read_end(draw(st.integers(0, 4)), call.invoked_at, call.returned_at)
    return _with_distinct_times(calls)


def _with_distinct_times(calls: list[Call]) -> list[Call]:
    ends = sorted(
        [(call.invoked_at, 0, at) for at, call in enumerate(calls)]
        + [(call.returned_at, 1, at) for at, call in enumerate(calls) if call.returned_at is not None]
    )
    place = {(at, side): rank for rank, (_, side, at) in enumerate(ends)}
    return [
        Call(call.operation_id, call.node_id, call.operation, place[at, 0], place[at, 1], call.result)
        for at, call in enumerate(calls)
    ]


@settings(max_examples=500, deadline=None)
@given(histories())
@example([produce("v0", 0, 1, None), produce("v1", 2, 3, None), read(1, "v0", 4, 5)])
def test_the_fast_checker_agrees_with_every_order_on_arbitrary_histories(history: list[Call]) -> None:
    assert (check(history) is None) == brute_force(history)


@settings(max_examples=500, deadline=None)
@given(plausible_histories())
def test_the_fast_checker_agrees_with_every_order_on_histories_of_a_log(history: list[Call]) -> None:
    assert (check(history) is None) == brute_force(history)
