"""What the failure detection checker knows: since when nodes are healthy, who can reach whom, who knows which members.

All of it comes from events. A healthy node runs, is not paused, is not slowed down and is not
leaving. A link is clean while it is not blocked, slow or clogged and loses no gossip. Some
faults do not report their end; these are assumed to last as long as they can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import MemberFailed, MemberJoined, MemberLeft
from ourolog.actors.messages.membership import LeaveCluster
from ourolog.actors.messages.observer import MemberSuspected, NameContested, SuspicionRefuted
from ourolog.simulation.events import (
    DATAGRAM,
    FaultInjected,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
    PartitionHealed,
    PartitionMade,
    PhaseBegan,
)
from ourolog.storage.types import NodeId

SLOW_NODE_S: Final = 9.1
SLOW_LINK_S: Final = 17.1
CLOG_DRAINS_S: Final = 0.1
NEVER: Final = float("inf")

Pair = tuple[NodeId, NodeId]


@dataclass(slots=True)
class Holding:
    """One member as another node sees it. Times are virtual seconds.

    since_s: when it was announced.
    suspected_s: since when it is under suspicion; None if it is not.
    refuted_s: when a suspicion last ended well, or began anew after a refutation.
    is_contested: whether two nodes seemed to have its name.
    """

    since_s: float
    suspected_s: float | None = None
    refuted_s: float = 0.0
    is_contested: bool = False


@dataclass(slots=True)
class NodeView:
    """One node, as the events show it. Times are virtual seconds.

    config: its present configuration.
    is_up: whether its process runs.
    is_paused: whether it stands still.
    well_from_s: from when on it is well; NEVER while nothing says when.
    left_s: when it was last told to leave, in its present life or the one before; None if it was not.
    left_well_s: since when it was well at that moment.
    left_to: whom it held to be members at that moment.
    holds: the members as it sees them.
    joins_s: when it announced members, in this life.
    """

    config: NodeConfig
    is_up: bool = False
    is_paused: bool = False
    well_from_s: float = NEVER
    left_s: float | None = None
    left_well_s: float = NEVER
    left_to: frozenset[NodeId] = frozenset()
    holds: dict[NodeId, Holding] = field(default_factory=dict)
    joins_s: list[float] = field(default_factory=list)


class GossipView:
    """What is known of all nodes and links. `take` events in order; everything else only reads."""

    def __init__(self) -> None:
        self.nodes: dict[NodeId, NodeView] = {}
        self._blocked: set[Pair] = set()
        self._clean_from_s: dict[Pair, float] = {}
        self._silent_since_s: dict[Pair, float] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            NodeStarted: self._on_started,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            NodePaused: self._on_paused,
            NodeResumed: self._on_resumed,
            NodeSaid: self._on_said,
            PartitionMade: self._on_partition,
            PartitionHealed: self._on_healed,
            FaultInjected: self._on_fault,
            PhaseBegan: self._on_phase,
        }

    # ------------------------------------------------------------ looking

    def well_since(self, *node_ids: NodeId) -> float:
        """Since when all of them are healthy; NEVER, or a future time, if they are not."""
        return max(self.nodes[node_id].well_from_s for node_id in node_ids)

    def clean_since(self, one: NodeId, other: NodeId) -> float:
        """Since when the links between them are clean, both ways."""
        return max(self._link_clean_s((one, other)), self._link_clean_s((other, one)))

    def all_clean_since(self, among: Iterable[NodeId] | None = None) -> float:
        """Since when these nodes (None for all that are up) are healthy, with clean links to each other."""
        chosen = [node_id for node_id, node in self.nodes.items() if node.is_up] if among is None else list(among)
        pairs = [(one, other) for one in chosen for other in chosen if one < other]
        return max(
            (*(self.nodes[one].well_from_s for one in chosen), *(self.clean_since(*pair) for pair in pairs), 0.0)
        )

    def undisturbed_since(self) -> float:
        """Since when no link loses, slows or holds back anything, except for those that are blocked."""
        return max((clean_s for link, clean_s in self._clean_from_s.items() if link not in self._blocked), default=0.0)

    def silent_since(self, listener: NodeId, speaker: NodeId) -> float:
        """Since when nothing that the speaker sends can reach the listener, on any path; NEVER if it can."""
        return self._silent_since_s.get((listener, speaker), NEVER)

    def _link_clean_s(self, link: Pair) -> float:
        return NEVER if link in self._blocked else self._clean_from_s.get(link, 0.0)

    # ------------------------------------------------------------ nodes

    def _on_started(self, event: NodeStarted) -> None:
        before = self.nodes.get(event.node_id)
        node = self.nodes[event.node_id] = NodeView(event.config, is_up=True, well_from_s=event.time_s)
        if before is not None:
            node.left_s = before.left_s
        self._find_silence(event.time_s)

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        node = self.nodes[event.node_id]
        node.is_up = node.is_paused = False
        node.well_from_s = NEVER
        node.holds = {}
        if isinstance(event, NodeCrashed):
            node.left_well_s = NEVER
        self._find_silence(event.time_s)

    def _on_paused(self, event: NodePaused) -> None:
        node = self.nodes[event.node_id]
        node.is_paused = True
        node.well_from_s = NEVER
        self._find_silence(event.time_s)

    def _on_resumed(self, event: NodeResumed) -> None:
        node = self.nodes[event.node_id]
        node.is_paused = False
        node.well_from_s = event.time_s
        self._find_silence(event.time_s)

    def on_leave(self, told: MessageTold) -> None:
        """LeaveCluster was told to a node's membership."""
        assert isinstance(told.message, LeaveCluster)
        node = self.nodes[NodeId(told.receiver.rpartition(".")[0])]
        node.left_s, node.left_well_s, node.left_to = told.time_s, node.well_from_s, frozenset(node.holds)
        node.well_from_s = NEVER

    # ------------------------------------------------------------ what nodes say

    def _on_said(self, event: NodeSaid) -> None:
        node, said, now_s = self.nodes[event.node_id], event.event, event.time_s
        match said:
            case MemberJoined(member):
                node.holds[member.node_id] = Holding(now_s)
                node.joins_s.append(now_s)
            case MemberFailed(member) | MemberLeft(member):
                node.holds.pop(member.node_id, None)
            case MemberSuspected(_, member):
                holding = node.holds.get(member.node_id)
                if holding is not None:
                    if holding.suspected_s is not None:
                        holding.refuted_s = now_s
                    holding.suspected_s = now_s
            case SuspicionRefuted(_, member):
                holding = node.holds.get(member.node_id)
                if holding is not None:
                    holding.suspected_s, holding.refuted_s = None, now_s
            case NameContested(_, name):
                if name in node.holds:
                    node.holds[name].is_contested = True
            case _:
                pass

    # ------------------------------------------------------------ faults

    def _on_partition(self, event: PartitionMade) -> None:
        self._blocked.update(event.blocked)
        self._find_silence(event.time_s)

    def _on_healed(self, event: PartitionHealed) -> None:
        for link in sorted(self._blocked):
            self._spoil(link, event.time_s)
        self._blocked.clear()
        self._find_silence(event.time_s)

    def _on_fault(self, event: FaultInjected) -> None:
        source, _, target = event.where.partition(">")
        link = NodeId(source), NodeId(target)
        match event.kind:
            case "slow_node":
                node = self.nodes[NodeId(event.where)]
                node.well_from_s = max(node.well_from_s, event.time_s + SLOW_NODE_S)
            case "loss":
                if event.packet == DATAGRAM:
                    self._spoil(link, event.time_s)
            case "slow_link":
                self._spoil(link, event.time_s + SLOW_LINK_S)
            case "clog":
                self._spoil(link, event.until_s + CLOG_DRAINS_S)
            case _:
                pass

    def _spoil(self, link: Pair, until_s: float) -> None:
        self._clean_from_s[link] = max(self._clean_from_s.get(link, 0.0), until_s)

    def _on_phase(self, event: PhaseBegan) -> None:
        """All links are mended, and the nodes of the core."""
        for link, clean_s in self._clean_from_s.items():
            self._clean_from_s[link] = min(clean_s, event.time_s)
        for node_id in event.core:
            node = self.nodes.get(node_id)
            if node is not None and event.time_s < node.well_from_s < NEVER:
                node.well_from_s = event.time_s

    def _find_silence(self, now_s: float) -> None:
        speaking = [node_id for node_id, node in self.nodes.items() if node.is_up and not node.is_paused]
        for speaker in self.nodes:
            heard = self._reached_from(speaker, speaking) if speaker in speaking else set()
            for listener in self.nodes:
                if listener in heard:
                    self._silent_since_s.pop((listener, speaker), None)
                else:
                    self._silent_since_s.setdefault((listener, speaker), now_s)

    def _reached_from(self, speaker: NodeId, speaking: list[NodeId]) -> set[NodeId]:
        reached, fresh = {speaker}, [speaker]
        while fresh:
            source = fresh.pop()
            for target in self.nodes:
                if target not in reached and (source, target) not in self._blocked:
                    reached.add(target)
                    if target in speaking:
                        fresh.append(target)
        return reached
