"""What must hold between the generations of a cluster that was recovered (`ourolog.storage.recovering`)."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar, Final

from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.server import Produce, Produced
from ourolog.actors.messages.store import FoundingSaved, SaveSuperseded
from ourolog.actors.messages.values import Acks
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import Hindrances
from ourolog.simulation.checkers.log_model import records_of
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import ClusterRecovered, FaultInjected, MessageTold, NodeCrashed, NodeStarted
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId, Offset

NOTICED_WITHIN_S: Final = 10.0
"""After both run with nothing in the way: a datagram passes between any two every second or so."""

SAVED_WITHIN_S: Final = 1.0
_MAX_OPEN: Final = 10_000


class GenerationsChecker(EventChecker):
    """A checker that knows to which generation each node's disk belongs."""

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {FaultInjected: self._on_fault, ClusterRecovered: self._on_recovered}
        self.on_told = {LogOpened: self._on_opened, FoundingSaved: self._on_saved}
        self.cluster_of: dict[NodeId, int] = {}

    def _on_fault(self, event: FaultInjected) -> None:
        if event.kind == "disk_lost":
            self.cluster_of.pop(NodeId(event.where), None)

    def _on_recovered(self, event: ClusterRecovered) -> None:
        self.cluster_of[event.node_id] = event.cluster_id

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        if opened.founding is not None:
            self.belongs(self.model.place(told.receiver)[0], opened.founding)

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, FoundingSaved)
        self.belongs(self.model.place(told.receiver)[0], saved.founding)

    def belongs(self, node_id: NodeId, founding: Founding) -> None:
        """Note what stands on that node's disk."""
        self.cluster_of[node_id] = founding.cluster_id


class AcknowledgedByAllSurvive(GenerationsChecker):
    """Remembers by generation what servers have acknowledged, and looks for it in the survivor's log and in the end."""

    name: ClassVar[str] = "acknowledged_by_all_survive"
    statement: ClassVar[str] = (
        "What all voters had when it was acknowledged is in the log of whichever of them is recovered, and what a "
        "generation has acknowledged is in the log of each of its nodes in the end, unless retention took it."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told |= {Produce: self._on_produce, Produced: self._on_produced}
        self._open: OrderedDict[tuple[NodeId, int], tuple[Acks, tuple[bytes, ...]]] = OrderedDict()
        self._acked: dict[int, dict[Offset, tuple[bytes, bool]]] = {}
        self._unread: dict[NodeId, int] = {}

    def _on_produce(self, told: MessageTold) -> None:
        produce = told.message
        assert isinstance(produce, Produce)
        values = records_of(produce.batch.payload, produce.batch.record_count)
        self._open[self.model.place(told.receiver)[0], produce.request_id] = produce.acks, values
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)

    def _on_produced(self, told: MessageTold) -> None:
        produced = told.message
        assert isinstance(produced, Produced)
        node_id = self.model.place(told.sender)[0]
        asked = self._open.pop((node_id, produced.request_id), None)
        node, cluster_id = self.model.nodes.get(node_id), self.cluster_of.get(node_id)
        if asked is None or node is None or node.config is None or cluster_id is None:
            return
        acks, values = asked
        acks = node.config.acks if acks is Acks.DEFAULT else acks
        if acks is Acks.LEADER:
            return
        voters = {voter.node_id for voter in self.model.voters_of(node)}
        # With min_in_sync all that are in sync are enough; the answer names the disks that have it.
        is_named = voters <= set(produced.replicas)
        by_all = len(voters) == 1 or (acks is Acks.ALL and (is_named or node.config.min_in_sync is None))
        acked = self._acked.setdefault(cluster_id, {})
        for at, value in enumerate(values):
            acked[Offset(produced.base_offset + at)] = value, by_all

    def _on_recovered(self, event: ClusterRecovered) -> None:
        # Between two attempts at one recovery the node may have run as a generation that nobody knows of.
        formers = (event.former_id, self.cluster_of.get(event.node_id, event.former_id))
        super()._on_recovered(event)
        self._acked[event.cluster_id] = {
            offset: (value, True)
            for former_id in formers
            for offset, (value, by_all) in self._acked.get(former_id, {}).items()
            if by_all
        }
        self._unread[event.node_id] = event.cluster_id

    def _on_opened(self, told: MessageTold) -> None:
        super()._on_opened(told)
        node = self.model.receiver_of(told)
        cluster_id = self._unread.pop(node.node_id, None) if node is not None else None
        if node is not None and cluster_id is not None:
            self._check(node, cluster_id, "was recovered without")

    def _check(self, node: NodeModel, cluster_id: int, how: str) -> None:
        log = node.log
        for offset, (value, _) in self._acked.get(cluster_id, {}).items():
            if offset >= log.start.offset and log.value_at(offset) != value:
                raise self.violated(f"{node.node_id} {how} {value!r}, acknowledged at offset {offset}", value)

    def at_end(self) -> None:
        for node in self.model.nodes.values():
            cluster_id = self.cluster_of.get(node.node_id)
            if cluster_id is not None and node.log.opened:
                self._check(node, cluster_id, "ends without")


class GenerationsFenced(GenerationsChecker):
    """Follows which generation each disk belongs to, which one made each entry, and who has heard of a later one."""

    name: ClassVar[str] = "generations_fenced"
    statement: ClassVar[str] = (
        "A recovery makes a generation with an id of its own and a term above those that its disk knew. No vote and no "
        "entry goes from one generation to another. Nobody acknowledges or leads once its disk says that a later "
        f"generation has taken over, or acknowledges once it has run beside that, or beside a rival recovery, for "
        f"{NOTICED_WITHIN_S:g} s. Whoever joins knows which generation that is."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._hindrances = Hindrances()
        self.on = {
            **self._hindrances.handlers,
            **self.on,
            FaultInjected: self._on_any_fault,
            NodeStarted: self._on_started,
            NodeCrashed: self._on_crashed,
        }
        self.on_told |= {
            Produced: self._on_produced,
            LeaderChanged: self._on_leader_changed,
            SaveSuperseded: self._on_superseded,
        }
        self.on_log = self._on_log_changed
        self._generation: dict[int, tuple[int, int]] = {}
        self._told_s: dict[NodeId, float] = {}
        self._fenced: set[NodeId] = set()
        self._made: dict[tuple[NodeId, int, int], int] = {}
        self._inherited: dict[int, set[tuple[NodeId, int, int]]] = {}
        self._unread: dict[NodeId, int] = {}

    # ------------------------------------------------------------ who belongs where

    def _on_any_fault(self, event: FaultInjected) -> None:
        self._hindrances.handlers[FaultInjected](event)
        self._on_fault(event)
        if event.kind == "disk_lost":
            self._told_s.pop(NodeId(event.where), None)
            self._fenced.discard(NodeId(event.where))

    def _of(self, cluster_id: int) -> tuple[int, int]:
        """Lineage and number of that generation."""
        return self._generation.get(cluster_id, (cluster_id, 1))

    def _on_recovered(self, event: ClusterRecovered) -> None:
        node_id = event.node_id
        if event.cluster_id in (event.former_id, *self._generation, *self.cluster_of.values()):
            raise self.violated(f"{node_id} was recovered under the id {event.cluster_id:x}, which is another's")
        node = self.model.node(node_id)
        known = max(node.ballot.term, node.log.durable_place[0])
        if event.term <= known:
            raise self.violated(f"{node_id} was recovered for term {event.term}, and its disk knew term {known}")
        if event.generation <= self._of(event.former_id)[1]:
            raise self.violated(f"{node_id} was recovered as generation {event.generation}, which it was before")
        super()._on_recovered(event)
        self._generation[event.cluster_id] = event.origin_id, event.generation
        self._unread[node_id] = event.cluster_id

    def belongs(self, node_id: NodeId, founding: Founding) -> None:
        cluster_id = founding.cluster_id
        if cluster_id in self._generation and self._generation[cluster_id] != (founding.lineage, founding.generation):
            raise self.violated(
                f"{node_id} takes itself for generation {founding.generation} of {founding.lineage:x}, and its cluster "
                f"{cluster_id:x} is {self._generation[cluster_id]}"
            )
        super().belongs(node_id, founding)

    def _on_opened(self, told: MessageTold) -> None:
        super()._on_opened(told)
        opened = told.message
        assert isinstance(opened, LogOpened)
        node = self.model.receiver_of(told)
        if node is None or opened.founding is None:
            return
        founders, voters = opened.founding.voters, opened.voters
        is_first = opened.founding.generation == 1
        if is_first and len(founders) > 1 and voters is not None and len(voters.voters) == 1:
            raise self.violated(f"{node.node_id} votes alone, and belongs to the generation that it was recovered from")
        if self._unread.get(node.node_id) == opened.founding.cluster_id:
            del self._unread[node.node_id]
            self._inherited[opened.founding.cluster_id] = {entry.identity for entry in node.log.entries}

    # ------------------------------------------------------------ what crosses

    def _on_log_changed(self, node: NodeModel) -> None:
        cluster_id = self.cluster_of.get(node.node_id)
        if cluster_id is None or node.node_id in self._unread:
            return
        inherited = self._inherited.get(cluster_id, ())
        for entry in self.model.fresh:
            if entry.path[0] == node.node_id:
                self._made.setdefault(entry.identity, cluster_id)
            made_in = self._made.get(entry.identity, cluster_id)
            if made_in != cluster_id and entry.identity not in inherited:
                raise self.violated(
                    f"{node.node_id} belongs to {cluster_id:x}, and took {entry}, which was made in {made_in:x}"
                )

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor != "replicator" or changed.leader_id != node_id:
            return
        if node_id in self._fenced:
            raise self.violated(f"{node_id} leads term {changed.term}, and a later generation has taken over")
        own = self.cluster_of.get(node_id)
        for voter_id in changed.granted_by:
            if self.cluster_of.get(voter_id, own) != own:
                raise self.violated(f"{node_id} leads term {changed.term} by the vote of {voter_id} of another one")

    # ------------------------------------------------------------ who has heard of a later one

    def _on_superseded(self, told: MessageTold) -> None:
        self._told_s.setdefault(self.model.place(told.receiver)[0], told.time_s)

    def _on_started(self, event: NodeStarted) -> None:
        self._hindrances.handlers[NodeStarted](event)

    def _on_crashed(self, event: NodeCrashed) -> None:
        """Whether it had the time to put on disk what it was told."""
        told_s = self._told_s.get(event.node_id)
        if told_s is not None and max(told_s, self._hindrances.node_clear_s(event.node_id)) + SAVED_WITHIN_S < (
            event.time_s
        ):
            self._fenced.add(event.node_id)
        self._hindrances.handlers[NodeCrashed](event)

    def _on_produced(self, told: MessageTold) -> None:
        node_id = self.model.place(told.sender)[0]
        if node_id in self._fenced:
            raise self.violated(f"{node_id} acknowledged a record, and a later generation has taken over")
        own = self.cluster_of.get(node_id)
        if own is None or not self._generation:
            return
        lineage, generation = self._of(own)
        for other_id, other in self.cluster_of.items():
            if other == own or self._of(other)[0] != lineage or self._of(other)[1] < generation:
                continue
            node = self.model.node(other_id)
            since_s = self._hindrances.pair_clear_s(node_id, other_id, gossip=True)
            if node.is_up and node.log.opened and told.time_s - since_s > NOTICED_WITHIN_S:
                raise self.violated(
                    f"{node_id} of generation {generation} acknowledged a record, and {other_id} of another recovery, "
                    f"generation {self._of(other)[1]}, runs beside it since {since_s:.3f} s"
                )
