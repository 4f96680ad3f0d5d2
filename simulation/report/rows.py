"""What a report is made of: one row a thing that happened, and the record copies that came of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ourolog.storage.types import NodeId


class RowKind(StrEnum):
    """How a row is drawn and what filter it obeys."""

    MESSAGE = "message"
    TIMER = "timer"
    GOSSIP = "gossip"
    PACKET = "packet"
    CLIENT = "client"
    DISK = "disk"
    FAULT = "fault"
    NODE = "node"
    NOTE = "note"
    NETWORK = "network"
    PHASE = "phase"


# Rare and telling: kept apart, so that traffic does not push them out of the window.
LANDMARKS = frozenset({RowKind.FAULT, RowKind.NODE, RowKind.NETWORK, RowKind.PHASE, RowKind.NOTE})


@dataclass(slots=True)
class Row:
    """Something that begins at one lane and may end at another, later.

    step: its place in the order of all events. source, target: lanes, "n1.store", "n1", a client,
    or "" for none. end_s is None while it is under way. cause: the row that led to it, 0 for none;
    end_cause: the row that led to its end, where that is another one.
    """

    row_id: int
    kind: RowKind
    start_s: float
    step: int
    source: str
    target: str
    label: str
    detail: str = ""
    end_s: float | None = None
    end_step: int = 0
    end_detail: str = ""
    is_lost: bool = False
    cause: int = 0
    end_cause: int = 0


@dataclass(frozen=True, slots=True)
class Copy:
    """A batch that reached a node's disk: one appearance of an identity. path: the nodes it passed.

    count: its records. value: the first of them, for people. via: the row of the write.
    """

    time_s: float
    step: int
    node_id: NodeId
    offset: int
    identity: tuple[str, int, int]
    path: tuple[NodeId, ...]
    value: str
    via: int
    count: int = 1

    @property
    def is_original(self) -> bool:
        """Written where it was produced, by whoever produced it: not a copy of anything."""
        return len(self.path) == 1 and self.node_id == self.path[0]

    @property
    def came_back(self) -> bool:
        """This node had held the same record before; whether it holds it twice now, `Window.multiplies` says."""
        return self.node_id in self.path[:-1]

    @property
    def way(self) -> tuple[NodeId, ...]:
        """The nodes it passed, this one last. Replicas of a leader's log keep the origin's path."""
        return self.path if self.path[-1] == self.node_id else (*self.path, self.node_id)


@dataclass(slots=True)
class Window:
    """Everything a page shows.

    rows: by id.
    dropped: how many rows were let go to keep memory bounded.
    multiplies: some node appended what had come back to it, as it does where the cycle is allowed.
    """

    rows: list[Row]
    copies: list[Copy]
    dropped: int
    nodes: list[NodeId]
    clients: list[str]
    end_s: float
    produced: int
    stored: int
    multiplies: bool = False
