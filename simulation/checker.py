"""What a checker is: one small class over the stream of events, with a claim that it checks."""

from __future__ import annotations

from typing import ClassVar, Protocol

from ourolog.actors.config import NodeConfig
from ourolog.actors.node import Node
from ourolog.simulation.events import Event
from ourolog.storage.types import NodeId


class Violation(AssertionError):
    """A claim did not hold.

    claim: the checker's name.
    detail: what was seen instead.
    time_s: when, in virtual seconds.
    records: the values of the records that it is about; none if it is about something else.
    nodes: the nodes at which it was seen.
    """

    def __init__(self, claim: str, detail: str, time_s: float, records: tuple[bytes, ...] = ()) -> None:
        super().__init__(f"{claim}: {detail} (at {time_s:.6f} virtual seconds)")
        self.claim = claim
        self.detail = detail
        self.time_s = time_s
        self.records = records
        self.nodes: tuple[NodeId, ...] = ()


class World(Protocol):
    """What a checker may look at besides the events. Nothing here changes the run."""

    @property
    def configs(self) -> dict[NodeId, NodeConfig]:
        """Every node that was ever started, with its present configuration; in the order of starting."""

    @property
    def running(self) -> dict[NodeId, Node]:
        """The nodes that run now."""

    def durable(self, node_id: NodeId) -> dict[str, bytes]:
        """What the node's disk would hold after a power cut that keeps nothing unsynced, by path."""

    def open_files(self, node_id: NodeId) -> int:
        """How many files of its disk the node's process has open."""


class Checker(Protocol):
    """A claim about a cluster, checked event by event.

    name: short, as in reports and on the command line.
    statement: the claim as a sentence.

    A class may also have `sees: ClassVar[tuple[type, ...]]`, the kinds of event it wants, and
    `sees_told`, the kinds of message it wants in MessageTold and None for all other events; without
    them every event is shown to it, which costs time.
    """

    name: ClassVar[str]
    statement: ClassVar[str]

    def see(self, event: Event, world: World) -> None:
        """Called for every event, in order. Raises Violation."""

    def finish(self, world: World) -> None:
        """Called once at the end of the settled phase. Raises Violation."""
