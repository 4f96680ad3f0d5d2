"""Whether a history of produces and consumes on one log is linearizable (Herlihy and Wing, 1990).

In general that takes a search over orders (Wing and Gong, 1993). A log needs none: its offsets
already are the order, so all that is left is to compare that order with real time.

The record at offset i takes effect at some moment t(i), and t(0) < t(1) < …. Everything that
clients saw is a bound on one of those moments:

- a produce of i lies within its call:                      invoked < t(i) < returned
- a read that brought record i came after it:                         t(i) < returned
- a read that found the end at e came between e - 1 and e:  t(e - 1) < returned and invoked < t(e)

Moments that ascend and keep all bounds exist exactly if no earliest moment of a record lies behind
the latest moment of a later one, which one pass over the offsets shows. What the calls say of the
end needs no more than that, by Helly's theorem on the line: intervals that meet pairwise have a
point in common. With sorting by offset it is O(n log n) for n calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ourolog.simulation.checker import Violation
from ourolog.simulation.events import OperationKind, Outcome
from ourolog.simulation.history import Call

CLAIM = "linearizable"


@dataclass(slots=True)
class _Moment:
    """What is known of the record at one offset: the bounds of its moment, and which calls set them."""

    value: bytes | None = None
    earliest: float = -math.inf
    latest: float = math.inf
    earliest_by: Call | None = None
    latest_by: Call | None = None

    def after(self, at: float, call: Call) -> None:
        if at > self.earliest:
            self.earliest, self.earliest_by = at, call

    def before(self, at: float, call: Call) -> None:
        if at < self.latest:
            self.latest, self.latest_by = at, call


class _NotLinearizableError(Exception):
    """What cannot have happened, in whatever order; and the records that it is about."""

    def __init__(self, detail: str, *records: bytes) -> None:
        super().__init__(detail)
        self.records = records


@dataclass(slots=True)
class _Log:
    moments: dict[int, _Moment] = field(default_factory=dict)
    produces: dict[bytes, Call] = field(default_factory=dict)
    refused: dict[bytes, Call] = field(default_factory=dict)

    def moment(self, offset: int) -> _Moment:
        return self.moments.setdefault(offset, _Moment())


def check(history: Iterable[Call]) -> Violation | None:
    """None if the calls on one log, empty at first, are linearizable; otherwise the violation.

    Every call counts: a produce whose outcome is unknown may have happened at any time after its
    invocation, or never; a refused one did not happen; a consume that brought nothing says nothing,
    unless it was told the end of the log. Raises ValueError when two produces have the same value,
    since then a read does not say whose record it saw.
    """
    try:
        _check(sorted(history, key=lambda call: call.invoked_at))
    except _NotLinearizableError as violated:
        return Violation(CLAIM, str(violated), 0.0, violated.records)
    return None


def _check(calls: Sequence[Call]) -> None:
    log = _Log()
    maybe: dict[bytes, Call] = {}
    for call in calls:
        if call.operation.kind is OperationKind.PRODUCE:
            _note_produce(log, call, maybe)
    for call in calls:
        if call.operation.kind is OperationKind.CONSUME and call.result is not None:
            _note_consume(log, call, maybe)
    _fill_gaps(log, sorted(maybe.values(), key=lambda call: call.invoked_at))
    _compare(log)


def _note_produce(log: _Log, call: Call, maybe: dict[bytes, Call]) -> None:
    value, result = call.operation.value, call.result
    if result is not None and result.outcome is Outcome.REFUSED:
        log.refused[value] = call  # and may be tried again
        return
    if value in log.produces:
        raise ValueError(f"two produces have the value {value!r}: values tell records apart")
    log.produces[value] = call
    if result is None or result.outcome is Outcome.UNKNOWN:
        maybe[value] = call
    else:
        _place(log, value, result.offset)
        assert call.returned_at is not None, "what has a result has returned"
        log.moments[result.offset].before(call.returned_at, call)


def _note_consume(log: _Log, call: Call, maybe: dict[bytes, Call]) -> None:
    result = call.result
    assert result is not None
    assert call.returned_at is not None, "what has a result has returned"
    if result.outcome is Outcome.OK:
        if result.offset != call.operation.offset:
            raise _NotLinearizableError(f"{_name(call)} asked for {call.operation.offset} and got {result.offset}")
        moment = log.moment(result.offset)
        if moment.value is None:
            if maybe.pop(result.value, None) is None:
                raise _NotLinearizableError(_stray(log, call), result.value)
            _place(log, result.value, result.offset)
        elif moment.value != result.value:
            raise _NotLinearizableError(
                f"{_name(call)} read {result.value!r} at offset {result.offset}, where {moment.value!r} is",
                result.value,
                moment.value,
            )
        moment.before(call.returned_at, call)
    elif result.end_offset is not None:
        end = result.end_offset
        if end > call.operation.offset:
            raise _NotLinearizableError(f"{_name(call)} found nothing at {call.operation.offset}, yet the end at {end}")
        log.moment(end).after(call.invoked_at, call)
        if end > 0:
            log.moment(end - 1).before(call.returned_at, call)


def _place(log: _Log, value: bytes, offset: int) -> None:
    moment, call = log.moment(offset), log.produces[value]
    if moment.value is not None:
        detail = f"{moment.value!r} and {value!r} were both given offset {offset}"
        raise _NotLinearizableError(detail, moment.value, value)
    moment.value = value
    moment.after(call.invoked_at, call)


def _stray(log: _Log, call: Call) -> str:
    assert call.result is not None
    value, offset = call.result.value, call.result.offset
    if value not in log.produces and value in log.refused:
        return f"{_name(call)} read {value!r} at offset {offset}, although {_name(log.refused[value])} was refused"
    if value not in log.produces:
        return f"{_name(call)} read {value!r} at offset {offset}, which nobody ever wrote"
    return f"{_name(call)} read {value!r} at offset {offset}, and that record has another offset, too"


def _fill_gaps(log: _Log, maybe: Sequence[Call]) -> None:
    """Every offset below a record holds a record: one of those that may have happened.

    Earliest deadlines first, earliest invocations first: if this fails, every assignment does.
    """
    length = max((offset + 1 for offset, moment in log.moments.items() if moment.latest < math.inf), default=0)
    known = sum(1 for offset, moment in log.moments.items() if offset < length and moment.value is not None)
    gaps = length - known
    if gaps > len(maybe):
        raise _NotLinearizableError(
            f"the log has {length} records, and at most {known + len(maybe)} can have been written"
        )
    if gaps:
        unused = iter(maybe)
        for offset in range(length):
            moment = log.moment(offset)
            if moment.value is None:
                call = next(unused)
                moment.value = call.operation.value
                moment.after(call.invoked_at, call)


def _compare(log: _Log) -> None:
    newest: _Moment | None = None
    newest_offset = 0
    for offset in sorted(log.moments):
        moment = log.moments[offset]
        if newest is None or moment.earliest > newest.earliest:
            newest, newest_offset = moment, offset
        if newest.earliest >= moment.latest:
            early, late = moment.latest_by, newest.earliest_by
            assert early is not None, "a bound was set by a call"
            assert late is not None, "a bound was set by a call"
            raise _NotLinearizableError(
                f"{_name(early)} shows that offset {offset} was there before {_name(late)} began, "
                f"which shows that offset {newest_offset} was not"
            )


def _name(call: Call) -> str:
    return f"{call.operation.kind} {call.operation_id} on {call.node_id}"
