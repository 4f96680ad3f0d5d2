"""What must hold once everything is healed: nothing lost, nothing twice, no hole, all logs alike, and the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ourolog.simulation.events import OperationKind, Outcome
from ourolog.simulation.history import Call
from ourolog.simulation.linearizability import check
from torture.elections.recording import in_positions

_SHOWN: Final = 3


def what_does_not_hold(history: Sequence[Call], logs: Mapping[str, Sequence[bytes]]) -> list[str]:
    """A sentence for each claim that does not hold.

    history: all calls of all clients, times by one clock.
    logs: what can be read from each node in the end, from offset 0 on.
    """
    wrong = []
    for name, log in logs.items():
        wrong += lost(history, name, log)
        wrong += twice(name, log)
        wrong += never_written(history, name, log)
    wrong += unlike(logs)
    try:
        violation = check(in_positions(history))
    except ValueError as error:
        return [*wrong, f"the history cannot be checked: {error}"]
    if violation is not None:
        wrong.append(f"the history is not linearizable: {violation.detail}")
    return wrong


def lost(history: Iterable[Call], name: str, log: Sequence[bytes]) -> list[str]:
    """What was acknowledged is in a log, at the offset that was returned."""
    gone = [
        (int(call.result.offset), call.operation.value)
        for call in history
        if call.operation.kind is OperationKind.PRODUCE
        and call.result is not None
        and call.result.outcome is Outcome.OK
        and (call.result.offset >= len(log) or log[call.result.offset] != call.operation.value)
    ]
    if not gone:
        return []
    shown = ", ".join(f"{value.decode()!r} at {offset}" for offset, value in sorted(gone)[:_SHOWN])
    return [f"{len(gone)} acknowledged records are lost, {name} does not hold them where it was said: {shown}"]


def twice(name: str, log: Sequence[bytes]) -> list[str]:
    """No record is in a log twice: no client here sends one again whose outcome it does not know."""
    first: dict[bytes, int] = {}
    again = []
    for offset, value in enumerate(log):
        if first.setdefault(value, offset) != offset:
            again.append(f"{value.decode()!r} at {first[value]} and {offset}")
    return [f"{len(again)} records are in {name}'s log twice: {', '.join(again[:_SHOWN])}"] if again else []


def never_written(history: Iterable[Call], name: str, log: Sequence[bytes]) -> list[str]:
    """Nothing is in a log that was refused, or that nobody has sent."""
    sent = {
        call.operation.value
        for call in history
        if call.operation.kind is OperationKind.PRODUCE
        and (call.result is None or call.result.outcome is not Outcome.REFUSED)
    }
    strange = [f"{value.decode(errors='replace')!r} at {at}" for at, value in enumerate(log) if value not in sent]
    if not strange:
        return []
    return [
        f"{len(strange)} records are in {name}'s log that were refused or never sent: {', '.join(strange[:_SHOWN])}"
    ]


def unlike(logs: Mapping[str, Sequence[bytes]]) -> list[str]:
    """All nodes let their readers see the same log."""
    wrong: list[str] = []
    if not logs:
        return wrong
    (first, model), *others = logs.items()
    for name, log in others:
        if len(log) != len(model):
            wrong.append(f"{name}'s log ends at {len(log)}, {first}'s at {len(model)}")
        at = next((at for at, (mine, theirs) in enumerate(zip(model, log, strict=False)) if mine != theirs), None)
        if at is not None:
            wrong.append(f"at offset {at} {first} has {model[at]!r} and {name} has {log[at]!r}")
    return wrong
