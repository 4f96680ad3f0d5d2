"""The coordinates of the log, as types, so that one is never mistaken for another.

`Index` counts log entries (batches), including control batches; replication works in it.
`Offset` counts users' records only, is contiguous from 0, and is all that clients see.
`Position` is the same point of the log in both coordinates.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

Offset = NewType("Offset", int)
Index = NewType("Index", int)
Term = NewType("Term", int)
NodeId = NewType("NodeId", str)

NODE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""What every node id matches, from its first character to its last."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A point between two batches: everything below it comes before, everything else after.

    As an end it is exclusive: `index` is the index the next batch gets, `offset` the
    offset its first record gets.
    """

    index: Index
    offset: Offset


START = Position(Index(0), Offset(0))
