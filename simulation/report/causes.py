"""What led to a violation: the steps that a person should read first, found in the causes of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ourolog.simulation.checker import Violation
from ourolog.simulation.report.rows import Copy, NodeChange, Row, RowKind, Window

_MOST_STEPS: Final = 60
_HARM_BEFORE: Final = 6
_HARM: Final = frozenset({RowKind.FAULT, RowKind.NODE, RowKind.NETWORK})


@dataclass(frozen=True, slots=True)
class Explanation:
    """The rows of a report that a person should read first to understand a violation.

    chain: rows that led to the violation, in order.
    harm: faults and crashes of the same nodes in the meantime, and the last few from before.
    anchor: the last row before the violation, where it is marked.
    """

    chain: tuple[int, ...]
    harm: tuple[int, ...]
    anchor: int


def explain(window: Window, violation: Violation) -> Explanation:
    """The steps that led to what the violation is about; at most 60, the latest ones.

    Where it is about no record, the last thing that happened is what broke the claim.
    """
    before = [row for row in window.rows if row.start_s <= violation.time_s]
    by_id = {row.row_id: row for row in before}
    ends = list(_named(before, window.copies, violation)) or before[-1:]
    found: dict[int, Row] = {}
    waiting = [row for row in ends if row.row_id in by_id]
    while waiting:
        row = waiting.pop()
        if row.row_id in found:
            continue
        found[row.row_id] = row
        waiting += [by_id[cause] for cause in (row.cause, row.end_cause) if cause in by_id]
    chain = sorted(found.values(), key=lambda row: row.step)[-_MOST_STEPS:]
    if not chain:
        return Explanation((), (), 0)
    touched = {_node(lane) for row in chain for lane in (row.source, row.target) if lane} | {*violation.nodes}
    near = [row for row in before if row.kind in _HARM and row.row_id not in found and _touches(row, touched)]
    begun = sum(row.start_s < chain[0].start_s for row in near)
    harm = near[max(begun - _HARM_BEFORE, 0) :]
    last = max(before, key=lambda row: row.end_step)
    return Explanation(
        tuple(row.row_id for row in chain), tuple(row.row_id for row in harm[-_MOST_STEPS:]), last.row_id
    )


def _touches(row: Row, nodes: set[str]) -> bool:
    """Whether a fault was on one of these nodes, or on links between any. A first start harms nobody."""
    return (not row.source or row.source in nodes) and row.label != NodeChange.STARTED


def _named(rows: Iterable[Row], copies: Iterable[Copy], violation: Violation) -> Iterator[Row]:
    """Operations on the records that the violation is about, and writes of them. Values are unique in a run."""
    written = {copy.via for copy in copies if copy.record in violation.records}
    for row in rows:
        if row.row_id in written or (row.record and row.record in violation.records):
            yield row


def _node(lane: str) -> str:
    return lane.partition(".")[0]
