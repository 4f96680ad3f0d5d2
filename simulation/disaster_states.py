"""Rare states of clusters that lose a majority of their disks, and are recovered from a survivor."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import ClassVar, Final

from ourolog.actors.messages.events import ClaimsDisputed, LeaderChanged, LogOpened
from ourolog.actors.messages.server import Produced
from ourolog.actors.messages.store import SaveSuperseded
from ourolog.simulation.events import ClusterRecovered, Event, FaultInjected, MessageTold
from ourolog.storage.types import NodeId

DISASTER_STATES: Final[dict[str, str]] = {
    "cluster_recovered": "A cluster was recovered from the disk of a survivor.",
    "recovered_with_tail": "A survivor was recovered with entries that it did not know to be committed.",
    "recovery_interrupted": "Power was lost in the middle of a recovery.",
    "recovery_finished": "A recovery was repeated that had written its promise, and not the log's entry.",
    "recovered_twice": "Two survivors of one generation were recovered separately.",
    "rivals_met": "A node that was recovered heard of another recovery beside its own, and said so.",
    "superseded": "A node heard that its cluster was recovered without it.",
    "superseded_on_disk": "A node was started whose disk says that its cluster was recovered without it.",
    "former_majority_led": "Voters of the former generation elected a leader after the survivor was recovered.",
    "former_acknowledged": "A node of the former generation acknowledged a record after the survivor was recovered.",
}


class DisasterStates:
    """Follows recoveries, and what is told on nodes of each generation.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._former: set[int] = set()
        self._recovered: set[NodeId] = set()
        self._cluster_of: dict[NodeId, int] = {}

    messages: ClassVar[Collection[type]] = (LogOpened, SaveSuperseded, LeaderChanged, ClaimsDisputed, Produced)
    """The classes of message that are of interest."""

    def see(self, event: Event) -> None:
        match event:
            case ClusterRecovered():
                self._on_recovered(event)
            case FaultInjected(kind="power_loss", detail="in the middle of a recovery"):
                self._note("recovery_interrupted")
            case MessageTold():
                self._on_told(event)
            case _:
                pass

    def _on_recovered(self, event: ClusterRecovered) -> None:
        self._note("cluster_recovered")
        if event.tail:
            self._note("recovered_with_tail")
        if event.was_unfinished:
            self._note("recovery_finished")
        if self._recovered - {event.node_id}:
            self._note("recovered_twice")
        self._recovered.add(event.node_id)
        self._former.add(event.former_id)
        self._cluster_of[event.node_id] = event.cluster_id

    def _on_told(self, told: MessageTold) -> None:
        receiver, _, actor = told.receiver.partition(".")
        match told.message:
            case LogOpened(founding=founding, superseded=superseded) if actor == "election" and founding is not None:
                self._cluster_of[NodeId(receiver)] = founding.cluster_id
                if superseded is not None:
                    self._note("superseded_on_disk")
            case SaveSuperseded():
                self._note("superseded")
            case LeaderChanged(leader_id=leader_id) if actor == "replicator" and leader_id == receiver:
                if self._cluster_of.get(NodeId(receiver)) in self._former:
                    self._note("former_majority_led")
            case ClaimsDisputed(reason=reason) if actor == "server" and "recovered separately" in reason:
                self._note("rivals_met")
            case Produced():
                sender = NodeId(told.sender.partition(".")[0])
                if self._cluster_of.get(sender) in self._former:
                    self._note("former_acknowledged")
            case _:
                pass
