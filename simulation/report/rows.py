"""What a report is made of: one row for each thing that happened, and the record copies that it made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from ourolog.simulation.events import Outcome
from ourolog.storage.types import NodeId, Term


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


class NodeChange(StrEnum):
    """What the rows of nodes are labelled with: what became of a node's process.

    STARTED: for the first time, which harms nobody.
    RESTARTED: any other time.
    STOPPED: in good order.
    CRASHED: it ended where it stood.
    PAUSED: it stands still.
    RESUMED: it goes on.
    """

    STARTED = "started"
    RESTARTED = "restarted"
    STOPPED = "stopped"
    CRASHED = "crashed"
    PAUSED = "paused"
    RESUMED = "resumed"


# Rare and telling: kept apart, so that traffic does not push them out of the window.
LANDMARKS = frozenset({RowKind.FAULT, RowKind.NODE, RowKind.NETWORK, RowKind.PHASE, RowKind.NOTE})


@dataclass(slots=True)
class Row:
    """Something that begins at one lane and may end at another, later.

    row_id: unique in a page.
    kind: how it is drawn and filtered.
    start_s, end_s: when it began and ended, in virtual seconds; `end_s` is None while it is under way.
    step, end_step: the places of its beginning and end in the order of all events.
    source, target: lanes, "n1.store", "n1", a client, or "" for none.
    label: what it is, in a word or two.
    detail, end_detail: what is to be seen of its beginning and end.
    is_lost: whether it was a packet that never arrived.
    cause: the row that led to it, 0 for none.
    end_cause: the row that led to its end, where that is another one.
    record: the value of the record that a client's operation produced or has read; b"" of all others.
    outcome: how it ended, if it was a client's operation; None while it is under way.
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
    record: bytes = b""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """A batch that reached a node's disk: one appearance of an identity.

    time_s: when, in virtual seconds.
    step: the write's place in the order of all events.
    node_id: the node whose disk it reached.
    offset: the offset of its first record there.
    identity: its origin, origin epoch and origin sequence.
    path: the nodes it passed.
    value: its first record, for people.
    record: its first record.
    via: the row of the write.
    count: how many records it holds.
    """

    time_s: float
    step: int
    node_id: NodeId
    offset: int
    identity: tuple[str, int, int]
    path: tuple[NodeId, ...]
    value: str
    record: bytes
    via: int
    count: int = 1

    @property
    def is_original(self) -> bool:
        """Written where it was produced, by whoever produced it: not a copy of anything."""
        return len(self.path) == 1 and self.node_id == self.path[0]

    @property
    def came_back(self) -> bool:
        """Whether this node had held the same record before; `Window.multiplies` says whether it holds it twice now."""
        return self.node_id in self.path[:-1]

    @property
    def way(self) -> tuple[NodeId, ...]:
        """The nodes it passed, this one last. Replicas of a leader's log keep the origin's path."""
        return self.path if self.path[-1] == self.node_id else (*self.path, self.node_id)


@dataclass(slots=True)
class Lead:
    """A time in which a node said that it leads.

    node_id: the node.
    term: the term in which it led.
    begin_s, end_s: from when to when, in virtual seconds; `end_s` is None while it leads.
    """

    node_id: NodeId
    term: Term
    begin_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """A store has voted, or refused to.

    time_s: when, in virtual seconds.
    node_id: the node whose store it is.
    candidate_id: who asked for the vote, perhaps the node itself.
    term: the term that it was asked for in.
    granted: whether the candidate has it.
    """

    time_s: float
    node_id: NodeId
    candidate_id: NodeId
    term: Term
    granted: bool


@dataclass(slots=True)
class Window:
    """Everything a page shows.

    rows: by id.
    copies: the copies of records, in the order of their writes.
    dropped: how many rows were let go to keep memory bounded.
    nodes: all nodes.
    clients: all clients.
    end_s: when the run ended, in virtual seconds.
    produced: how many records were produced.
    stored: how many records were written, copies counted.
    pulls: every arrow (source, puller) of the pull graph that there ever was, sorted: records flow along it.
    multiplies: whether some node was started so that it appends what comes back to it: nobody elected, cycle allowed.
    leads: who led when, in the order in which they began.
    votes: the votes that were asked for, in the order in which they were decided.
    down: for each node the times, in virtual seconds, from when to when it did not run.
    """

    rows: list[Row]
    copies: list[Copy]
    dropped: int
    nodes: list[NodeId]
    clients: list[str]
    end_s: float
    produced: int
    stored: int
    pulls: list[tuple[NodeId, NodeId]] = field(default_factory=list)
    multiplies: bool = False
    leads: list[Lead] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    down: dict[NodeId, list[tuple[float, float]]] = field(default_factory=dict)
