"""The coordinates of the log, as types, so that one is never taken for another.

`Index` counts log entries (batches), control ones included: replication reasons in it.
`Offset` counts users' records only, is contiguous from 0, and is all that clients see.
`Position` is the same point of the log in both coordinates.
"""

from dataclasses import dataclass
from typing import NewType

Offset = NewType("Offset", int)
Index = NewType("Index", int)
Term = NewType("Term", int)
NodeId = NewType("NodeId", str)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A point between two batches: everything below it lies before, all else after.

    As an end it is exclusive: `index` is the index the next batch gets, `offset` the
    offset its first record gets.
    """

    index: Index
    offset: Offset


START = Position(Index(0), Offset(0))
