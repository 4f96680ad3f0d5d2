"""The history of a run: every call of every client, when it began and ended by one clock, and what came of it.

It is written as it grows, one JSON object a line, so that it is there whatever happens to the run; and it
can be read again, see `python -m torture.elections --check`.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TextIO

from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.simulation.history import Call
from ourolog.storage.types import NodeId, Offset

ANY: Final = NodeId("any")
"""Stands for the node where a client with several addresses does not say which of them answered."""


class Recorder:
    """Keeps calls as they are made, with times in nanoseconds of this process's monotonic clock.

    calls: those that have returned.
    """

    def __init__(self, file: TextIO) -> None:
        self.calls: list[Call] = []
        self._file = file
        self._open: dict[int, Call] = {}
        self._ids = itertools.count(1)

    def began(self, operation: Operation, node_id: NodeId = ANY) -> int:
        """Note that a client is about to ask for that; returns the operation's number."""
        number = next(self._ids)
        self._open[number] = Call(number, node_id, operation, time.monotonic_ns())
        return number

    def returned(self, number: int, result: OperationResult) -> None:
        """Note what came of an operation, as soon as it is known."""
        call = replace(self._open.pop(number), returned_at=time.monotonic_ns(), result=result)
        self._keep(call)

    def read(self, node_id: NodeId, offset: int, value: bytes, invoked_at: int) -> None:
        """Note a record that came in a stream which was asked for then."""
        operation = Operation(OperationKind.CONSUME, offset=Offset(offset))
        result = OperationResult(Outcome.OK, Offset(offset), value)
        self._keep(Call(next(self._ids), node_id, operation, invoked_at, time.monotonic_ns(), result))

    def ended_at(self, node_id: NodeId, end_offset: int, invoked_at: int) -> None:
        """Note that a node which had to know the end of the log has named it."""
        operation = Operation(OperationKind.CONSUME, offset=Offset(end_offset))
        result = OperationResult(Outcome.REFUSED, end_offset=Offset(end_offset))
        self._keep(Call(next(self._ids), node_id, operation, invoked_at, time.monotonic_ns(), result))

    def close(self) -> None:
        """Write down the calls that never returned."""
        for call in self._open.values():
            self._file.write(_line(call))
        self._file.flush()

    @property
    def history(self) -> list[Call]:
        """All calls, also those that never returned."""
        return [*self.calls, *self._open.values()]

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        self._file.write(_line(call))


@contextmanager
def recorder(path: str) -> Iterator[Recorder]:
    """A recorder that writes to that file."""
    with open(path, "w", encoding="utf-8") as file:
        found = Recorder(file)
        try:
            yield found
        finally:
            found.close()


def read_history(path: str) -> list[Call]:
    """The calls in a file that a recorder has written. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        return [_call(json.loads(line)) for line in file]


def in_positions(history: Sequence[Call]) -> list[Call]:
    """A history whose times are positions in it, of which no two are equal.

    Two moments that the clock does not tell apart may have come in any order. The beginning of a call
    is put before the end of another one then: calls that may have overlapped are taken to have done so.
    """
    moments = [(call.invoked_at, 0, at) for at, call in enumerate(history)]
    moments += [(call.returned_at, 1, at) for at, call in enumerate(history) if call.returned_at is not None]
    began = [0] * len(history)
    over: list[int | None] = [None] * len(history)
    for position, (_, is_end, at) in enumerate(sorted(moments)):
        if is_end:
            over[at] = position
        else:
            began[at] = position
    return [replace(call, invoked_at=began[at], returned_at=over[at]) for at, call in enumerate(history)]


def _line(call: Call) -> str:
    operation, result = call.operation, call.result
    fields: dict[str, Any] = {
        "id": call.operation_id,
        "node": call.node_id,
        "kind": operation.kind,
        "began_ns": call.invoked_at,
    }
    if operation.kind is OperationKind.PRODUCE:
        fields |= {"value": operation.value.decode(), "acks": operation.acks}
    else:
        fields["asked"] = operation.offset
    if result is not None:
        fields |= {"ended_ns": call.returned_at, "outcome": result.outcome}
        if result.outcome is Outcome.OK:
            fields["offset"] = result.offset
            if operation.kind is OperationKind.CONSUME:
                fields["read"] = result.value.decode()
        if result.end_offset is not None:
            fields["end"] = result.end_offset
        if result.detail:
            fields["detail"] = result.detail
    return json.dumps(fields) + "\n"


def _call(fields: dict[str, Any]) -> Call:
    operation = Operation(
        OperationKind(fields["kind"]),
        fields.get("value", "").encode(),
        Offset(fields.get("asked", 0)),
        fields.get("acks", "default"),
    )
    result = None
    if "outcome" in fields:
        end = fields.get("end")
        result = OperationResult(
            Outcome(fields["outcome"]),
            Offset(fields.get("offset", 0)),
            fields.get("read", "").encode(),
            end_offset=None if end is None else Offset(end),
            detail=fields.get("detail", ""),
        )
    node_id = NodeId(fields["node"])
    return Call(fields["id"], node_id, operation, fields["began_ns"], fields.get("ended_ns"), result)
