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
    DATAGRAMS,
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

_SLOW_NODE: Final = "slow_node"
_ROT: Final = "bit_rot"
_NODE_FAULTS_S: Final = {_SLOW_NODE: 9.1, "slow_disk": 0.31, _ROT: 30.0}
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
            NodePaused: self._on_ended,
            NodeResumed: self._on_resumed,
            FaultInjected: self._on_fault,
            PartitionMade: self._on_partition,
            PartitionHealed: self._on_healed,
            PhaseBegan: self._on_phase,
        }
        self._processes: dict[NodeId, float] = {}
        self._disks: dict[NodeId, float] = {}
        self._rots: dict[NodeId, float] = {}
        self._slow_until_s: dict[NodeId, float] = {}
        self._links: dict[tuple[NodeId, NodeId], float] = {}
        self._blocked: set[tuple[NodeId, NodeId]] = set()
        self._filtered: set[tuple[NodeId, NodeId]] = set()
        self._all_links_s = 0.0
        self._turns: dict[NodeId, tuple[float, float]] = {}

    def node_clear_s(self, node_id: NodeId, *, rots: bool = True) -> float:
        """Since when, or from when on, the node runs and nothing holds it up.

        rots: whether what rots on its disk counts.
        """
        rots_s = self._rots.get(node_id, 0.0) if rots else 0.0
        return max(self._processes.get(node_id, inf), self._disks.get(node_id, 0.0), rots_s)

    def process_clear_s(self, node_id: NodeId) -> float:
        """Since when, or from when on, the node runs and its process is not held up, whatever may be with its disk."""
        return self._processes.get(node_id, inf)

    def is_held_up(self, node_id: NodeId, now_s: float) -> bool:
        """Whether its actors may not yet have handled messages from some time ago."""
        return self.node_clear_s(node_id) > now_s - CATCHES_UP_WITHIN_S

    def pair_clear_s(self, one: NodeId, other: NodeId, *, gossip: bool = False, rots: bool = True) -> float:
        """Since when, or from when on, nothing is in the way of both nodes and of both links between them.

        gossip: whether of gossip, too, and not of calls alone.
        rots: whether what rots on their disks counts.
        """
        links = self._links
        if self._blocked and ((one, other) in self._blocked or (other, one) in self._blocked):
            return inf
        if gossip and self._filtered and ((one, other) in self._filtered or (other, one) in self._filtered):
            return inf
        return max(
            self.node_clear_s(one, rots=rots),
            self.node_clear_s(other, rots=rots),
            links.get((one, other), 0.0),
            links.get((other, one), 0.0),
            self._all_links_s,
        )

    def _on_started(self, event: NodeStarted) -> None:
        self._disks.pop(event.node_id, None)
        self._rots.pop(event.node_id, None)
        self._on_resumed(event)

    def _on_resumed(self, event: NodeStarted | NodeResumed) -> None:
        """Go on, on a machine that may be slow yet."""
        self._processes[event.node_id] = max(event.time_s, self._slow_until_s.get(event.node_id, 0.0))

    def _on_ended(self, event: NodeStopped | NodeCrashed | NodePaused) -> None:
        self._processes[event.node_id] = inf

    def _on_fault(self, event: FaultInjected) -> None:
        source, arrow, target = event.where.partition(">")
        if not arrow:
            lasts_s = event.until_s - event.time_s if event.until_s else _NODE_FAULTS_S.get(event.kind, 0.0)
            if lasts_s:
                self._on_node_fault(event, NodeId(source), lasts_s)
        elif event.packet != DATAGRAM:
            link = NodeId(source), NodeId(target)
            until_s = event.time_s + _LINK_FAULTS_S.get(event.kind, 0.0)
            self._links[link] = max(self._links.get(link, 0.0), until_s)

    def _on_node_fault(self, event: FaultInjected, node_id: NodeId, lasts_s: float) -> None:
        if event.kind == _SLOW_NODE:
            until_s = max(self._slow_until_s.get(node_id, 0.0), event.time_s + lasts_s)
            self._slow_until_s[node_id] = until_s
            if node_id in self._processes:
                self._processes[node_id] = max(self._processes[node_id], until_s)
        elif event.kind == _ROT:
            self._rots[node_id] = event.time_s + lasts_s
        else:
            # Slow operations of one turn, a roll's for instance, are reported together and take time in turn.
            time_s, before_s = self._turns.get(node_id, (0.0, 0.0))
            takes_s = lasts_s + (before_s if time_s == event.time_s else 0.0)
            self._turns[node_id] = event.time_s, takes_s
            self._disks[node_id] = max(self._disks.get(node_id, 0.0), event.time_s + takes_s)

    def _on_partition(self, event: PartitionMade) -> None:
        blocked = self._filtered if event.shape == DATAGRAMS else self._blocked
        blocked.update(event.blocked)

    def _on_healed(self, event: PartitionHealed) -> None:
        self._blocked.clear()
        self._filtered.clear()
        self._all_links_s = event.time_s

    def _on_phase(self, event: PhaseBegan) -> None:
        """Nodes that were slowed down have been mended, or are left as they are."""
        self._all_links_s = max(self._all_links_s, event.time_s)
