"""Hindrances: since when nothing is in a node's way, or between two nodes. Claims about time need this.

A claim that something happens within a bound applies to nodes that run, are not paused or slowed
down, and whose packets arrive. No event reports the end of a fault that lasts; the
longest that the nemesis and the operator let it last is assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from ourolog.simulation.events import (
    DATAGRAM,
    FaultInjected,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeStarted,
    NodeStopped,
    PartitionHealed,
    PartitionMade,
    PhaseBegan,
)
from ourolog.storage.types import NodeId

CLOCKS_DIFFER: Final = 1.06
"""How much longer than a true second a node's second may be, with drifting clocks."""

IN_FLIGHT_S: Final = 1e-6
"""Actors of a node that nothing holds up handle what they were told before any time passes."""

CATCHES_UP_WITHIN_S: Final = 0.05

HINDERING: Final[tuple[type, ...]] = (
    NodeStarted,
    NodeStopped,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    FaultInjected,
    PartitionMade,
    PartitionHealed,
    PhaseBegan,
)
"""The kinds of event that hindrances are derived from."""

_NODE_FAULTS_S: Final = {"slow_node": 9.1, "slow_disk": 0.31, "bit_rot": 30.0}
_LINK_FAULTS_S: Final = {"slow_link": 17.1, "clog": 8.3}


class Hindrances:
    """Since when nothing has been in the way of each node and link. Call `handlers` with their events.

    Times are virtual seconds; `inf` means "still in the way".
    """

    def __init__(self) -> None:
        self.handlers: dict[type, Callable[[Any], None]] = {
            NodeStarted: self._on_started,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            NodePaused: self._on_paused,
            NodeResumed: self._on_started,
            FaultInjected: self._on_fault,
            PartitionMade: self._on_partition,
            PartitionHealed: self._on_healed,
            PhaseBegan: self._on_phase,
        }
        self._nodes: dict[NodeId, float] = {}
        self._links: dict[tuple[NodeId, NodeId], float] = {}
        self._blocked: set[tuple[NodeId, NodeId]] = set()
        self._all_links_s = 0.0
        self._slow: dict[NodeId, tuple[float, int]] = {}
        self._faults_s: dict[NodeId, dict[str, float]] = {}

    def node_clear_s(self, node_id: NodeId) -> float:
        """Since when, or from when on, the node runs and nothing holds it up."""
        return self._nodes.get(node_id, inf)

    def is_held_up(self, node_id: NodeId, now_s: float) -> bool:
        """Whether its actors may not yet have handled messages from some time ago."""
        return self.node_clear_s(node_id) > now_s - CATCHES_UP_WITHIN_S

    def pair_clear_s(self, one: NodeId, other: NodeId) -> float:
        """Since when, or from when on, nothing is in the way of both nodes and of both links between them."""
        nodes, links = self._nodes, self._links
        if self._blocked and ((one, other) in self._blocked or (other, one) in self._blocked):
            return inf
        return max(
            nodes.get(one, inf),
            nodes.get(other, inf),
            links.get((one, other), 0.0),
            links.get((other, one), 0.0),
            self._all_links_s,
        )

    def _on_started(self, event: NodeStarted | NodeResumed) -> None:
        """Begin anew, but with the faults that go on."""
        faults_s = self._faults_s.get(event.node_id, {})
        self._nodes[event.node_id] = max((event.time_s, *faults_s.values()))

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        """Forget what the process was waiting for; what slows down the whole machine outlives it."""
        self._nodes[event.node_id] = inf
        faults_s = self._faults_s.get(event.node_id, {})
        for kind in faults_s.keys() - {"slow_node"}:
            del faults_s[kind]

    def _on_paused(self, event: NodePaused) -> None:
        self._nodes[event.node_id] = inf

    def _on_fault(self, event: FaultInjected) -> None:
        source, arrow, target = event.where.partition(">")
        if not arrow:
            lasts_s = _NODE_FAULTS_S.get(event.kind, 0.0)
            node_id = NodeId(source)
            if lasts_s and node_id in self._nodes:
                # Slow operations of one turn, a roll's for instance, are reported together and take time in turn.
                in_a_row = self._slow.get(node_id, (0.0, 0))
                count = in_a_row[1] + 1 if event.kind == "slow_disk" and in_a_row[0] == event.time_s else 1
                self._slow[node_id] = event.time_s, count
                until_s = event.time_s + count * lasts_s
                faults_s = self._faults_s.setdefault(node_id, {})
                faults_s[event.kind] = max(faults_s.get(event.kind, 0.0), until_s)
                self._nodes[node_id] = max(self._nodes[node_id], until_s)
        elif event.packet != DATAGRAM:
            link = NodeId(source), NodeId(target)
            until_s = event.time_s + _LINK_FAULTS_S.get(event.kind, 0.0)
            self._links[link] = max(self._links.get(link, 0.0), until_s)

    def _on_partition(self, event: PartitionMade) -> None:
        self._blocked.update(event.blocked)

    def _on_healed(self, event: PartitionHealed) -> None:
        self._blocked.clear()
        self._all_links_s = event.time_s

    def _on_phase(self, event: PhaseBegan) -> None:
        """Nodes that were slowed down have been mended, or are left as they are."""
        self._all_links_s = max(self._all_links_s, event.time_s)
