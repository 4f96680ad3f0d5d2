"""The recorder of the torture of elections: what it writes is what it has seen."""

from __future__ import annotations

from pathlib import Path

from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.storage.types import NodeId, Offset
from torture.elections.recording import in_positions, read_history, recorder

N1 = NodeId("n1")


def test_a_history_that_is_read_again_is_the_one_that_was_written(tmp_path: Path) -> None:
    path = str(tmp_path / "history.jsonl")
    with recorder(path) as history:
        acknowledged = history.began(Operation(OperationKind.PRODUCE, b"one", acks="quorum"))
        unknown = history.began(Operation(OperationKind.PRODUCE, b"two", acks="quorum"))
        history.returned(acknowledged, OperationResult(Outcome.OK, Offset(0)))
        history.returned(unknown, OperationResult(Outcome.UNKNOWN, detail="DEADLINE_EXCEEDED"))
        failed = history.began(Operation(OperationKind.CONSUME, offset=Offset(9)), N1)
        history.returned(failed, OperationResult(Outcome.REFUSED, end_offset=Offset(1)))
        history.read(N1, 0, b"one", 17)
        history.ended_at(N1, 1, 18)
        history.began(Operation(OperationKind.PRODUCE, b"never answered", acks="quorum"))
    assert read_history(path) == history.history
    assert [call.result.outcome if call.result else None for call in history.history] == [
        Outcome.OK,
        Outcome.UNKNOWN,
        Outcome.REFUSED,
        Outcome.OK,
        Outcome.REFUSED,
        None,
    ]


def test_a_call_begins_before_it_is_over_and_calls_keep_their_order(tmp_path: Path) -> None:
    with recorder(str(tmp_path / "history.jsonl")) as history:
        for number in range(20):
            made = history.began(Operation(OperationKind.PRODUCE, b"%d" % number))
            history.returned(made, OperationResult(Outcome.OK, Offset(number)))
        never = history.began(Operation(OperationKind.PRODUCE, b"never"))
    calls = in_positions(history.history)
    assert [(call.invoked_at, call.returned_at) for call in calls] == [
        *((2 * number, 2 * number + 1) for number in range(20)),
        (40, None),
    ]
    assert calls[-1].operation_id == never
