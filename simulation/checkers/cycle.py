"""The replication cycle: which copies of copies there must be, each of them exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import ClassVar

from ourolog.actors.messages.observer import PullStarted, PullStopped
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import NodeCrashed, NodeSaid, NodeStopped, Phase, PhaseBegan
from ourolog.storage.types import NodeId

Edges = Mapping[NodeId, Iterable[NodeId]]


def count_walks(sources: Edges, origin: NodeId, max_hops: int) -> dict[NodeId, int]:
    """How many walks of at most max_hops steps lead from `origin` to each node.

    sources: whom each node pulls from; a step goes from a source to a node that pulls from it. A batch
        takes every walk once, so this is how often each node comes to hold it. The origin also has the
        batch itself, the walk of no steps.
    """
    arrived = Counter({origin: 1})
    total = Counter(arrived)
    for _ in range(max_hops):
        arrived = Counter(
            {node: count for node in sorted(sources) if (count := sum(arrived[source] for source in sources[node])) > 0}
        )
        total.update(arrived)
    return dict(total)


class CopiesFaithful(EventChecker):
    """Compares each copy with the batch that it was made from."""

    name: ClassVar[str] = "copies_faithful"
    statement: ClassVar[str] = (
        "A copy is of the batch that stands where it says it was copied from: same identity and records, its path one "
        "node longer, no longer than the hop limit allows; copies of one log stand in that log's order."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed
        self._last: dict[tuple[NodeId, NodeId, int], int] = {}

    def _on_log_changed(self, node: NodeModel) -> None:
        if node.is_elected:
            return
        if self.model.gone and not self.model.is_retention:
            for key in [key for key in self._last if key[0] == node.node_id]:
                del self._last[key]
        for entry in self.model.fresh:
            if entry.path[-1] != node.node_id:
                raise self.violated(f"{node.node_id} has appended {entry}, whose path does not end with it")
            if len(entry.path) > 1:
                self._check_copy(node, entry)

    def _check_copy(self, node: NodeModel, entry: Entry) -> None:
        assert node.config is not None, "it has started"
        if node.is_cycle_allowed and len(entry.path) > node.config.max_hops + 1:
            raise self.violated(f"{node.node_id} has appended {entry} over a limit of {node.config.max_hops} hops")
        source_id = entry.path[-2]
        key = node.node_id, source_id, entry.source_epoch
        if entry.source_index <= self._last.get(key, -1) and not node.spoiled:
            raise self.violated(f"{node.node_id} has copied {source_id}'s index {entry.source_index} after a later one")
        self._last[key] = entry.source_index
        source = self.model.nodes.get(source_id)
        if source is None or source.spoiled or source.opened is None or source.opened.log_epoch != entry.source_epoch:
            return
        original = source.log.entry(entry.source_index)
        if original is None:
            if entry.source_index >= source.log.end.index and source.log.opened:
                raise self.violated(
                    f"{node.node_id} has copied {source_id}'s index {entry.source_index}, which is not there"
                )
            return
        same = original.identity == entry.identity and original.payload_crc == entry.payload_crc
        if not same or (*original.path, node.node_id) != entry.path:
            raise self.violated(f"{node.node_id} has {entry} as a copy of {source_id}'s {original}")


class CycleGrowth(EventChecker):
    """Counts the copies at the end, and compares them with the number of walks in the pull graph."""

    name: ClassVar[str] = "cycle_growth"
    statement: ClassVar[str] = (
        "With the cycle allowed, every node holds each batch exactly as often as there are walks to it from the "
        "batch's origin in the pull graph, of at most as many steps as the hop limit."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {
            NodeSaid: self._on_said,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            PhaseBegan: self._on_phase,
        }
        self._sources: dict[NodeId, set[NodeId]] = {}
        self._is_settled = False

    def _on_said(self, event: NodeSaid) -> None:
        match event.event:
            case PullStarted(node_id=node_id, source_id=source_id):
                self._sources.setdefault(node_id, set()).add(source_id)
            case PullStopped(node_id=node_id, source_id=source_id):
                self._sources.setdefault(node_id, set()).discard(source_id)
            case _:
                pass

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        self._sources.pop(event.node_id, None)

    def _on_phase(self, event: PhaseBegan) -> None:
        self._is_settled = event.phase is Phase.SETTLED

    def at_end(self) -> None:
        nodes = [node for node in self.model.nodes.values() if node.is_cycle_allowed]
        if not nodes or not self._is_settled or not _is_countable(nodes):
            return
        assert nodes[0].config is not None, "it has started"
        max_hops = nodes[0].config.max_hops
        sources = {node.node_id: sorted(self._sources.get(node.node_id, ())) for node in nodes}
        predicted = {node.node_id: count_walks(sources, node.node_id, max_hops) for node in nodes}
        produced = {entry.identity for node in nodes for entry in node.log.entries}
        for node in nodes:
            counted = Counter(entry.identity for entry in node.log.entries)
            for identity in sorted(produced):
                expected = predicted[identity[0]].get(node.node_id, 0)
                if counted[identity] != expected:
                    raise self.violated(
                        f"{node.node_id} holds {identity[0]}'s batch {identity[2]} {counted[identity]} times; "
                        f"the pull graph has {expected} walks of at most {max_hops} hops to it"
                    )


def _is_countable(nodes: list[NodeModel]) -> bool:
    """Whether every copy that was ever made still exists and can be counted."""
    return all(
        node.is_up and node.log.opened and not node.was_spoiled and not node.log.start.index and node.opened is not None
        for node in nodes
    )
