"""What nodes do about claims that contradict each other: notice them, and acknowledge nothing meanwhile."""

from __future__ import annotations

from itertools import combinations
from typing import ClassVar, Final

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import ClaimsDisputed, ClaimsSettled, MemberFailed, MemberJoined, MemberLeft
from ourolog.actors.messages.server import Produced
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import Hindrances
from ourolog.simulation.checkers.model import ClusterModel
from ourolog.simulation.events import ClientInvoked, MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.types import NodeId

NOTICED_WITHIN_S: Final = 5.0
"""After both know each other: a datagram passes between any two every second or so, and some are lost."""


class DisputesAcknowledgeNothing(EventChecker):
    """Follows what each election slot told its server, from the moment on in which that must have heard it."""

    name: ClassVar[str] = "disputes_acknowledge_nothing"
    statement: ClassVar[str] = (
        "A node that knows of a claim which contradicts its own acknowledges no record until all agree again."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._hindrances = Hindrances()
        self.on = {**self._hindrances.handlers, NodeStarted: self._on_started}
        self.on_told = {ClaimsDisputed: self._on_disputed, ClaimsSettled: self._on_settled, Produced: self._on_produced}
        self._disputed: dict[NodeId, float] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._hindrances.handlers[NodeStarted](event)
        self._disputed.pop(event.node_id, None)

    def _on_disputed(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "server":
            self._disputed.setdefault(node_id, told.time_s)

    def _on_settled(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "server":
            self._disputed.pop(node_id, None)

    def _on_produced(self, told: MessageTold) -> None:
        node_id = self.model.place(told.sender)[0]
        since_s = self._disputed.get(node_id)
        if since_s is None or told.time_s == since_s or self._hindrances.is_held_up(node_id, told.time_s):
            return
        raise self.violated(
            f"{node_id} acknowledged a record, and knows since {since_s:.3f} s that another claims what it does not"
        )


class RivalDecreesNoticed(EventChecker):
    """Checks all pairs of nodes whenever a client asks for something."""

    name: ClassVar[str] = "rival_decrees_noticed"
    statement: ClassVar[str] = (
        f"A node that runs by another decree than one of its voters knows that they contradict each other, once they "
        f"have heard of each other and have had nothing in the way between them for {NOTICED_WITHIN_S:g} s."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._hindrances = Hindrances()
        self.on = {
            **self._hindrances.handlers,
            NodeStarted: self._on_started,
            NodeStopped: self._on_ended,
            NodeCrashed: self._on_ended,
            ClientInvoked: self._on_invoked,
        }
        self.on_told = {
            ClaimsDisputed: self._on_disputed,
            ClaimsSettled: self._on_settled,
            MemberJoined: self._on_joined,
            MemberFailed: self._on_gone,
            MemberLeft: self._on_gone,
        }
        self._decrees: dict[NodeId, ElectionChoice] = {}
        self._known: dict[tuple[NodeId, NodeId], float] = {}
        self._disputed: set[NodeId] = set()

    def _on_started(self, event: NodeStarted) -> None:
        self._hindrances.handlers[NodeStarted](event)
        self._forget(event.node_id)
        self._decrees[event.node_id] = event.config.election

    def _on_ended(self, event: NodeStopped | NodeCrashed) -> None:
        self._hindrances.handlers[type(event)](event)
        self._forget(event.node_id)

    def _forget(self, node_id: NodeId) -> None:
        self._decrees.pop(node_id, None)
        self._disputed.discard(node_id)
        self._known = {pair: since_s for pair, since_s in self._known.items() if pair[0] != node_id}

    def _on_joined(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "election":
            self._known[node_id, told.message.member.node_id] = told.time_s  # type: ignore[attr-defined]

    def _on_gone(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "election":
            self._known.pop((node_id, told.message.member.node_id), None)  # type: ignore[attr-defined]

    def _on_disputed(self, told: MessageTold) -> None:
        self._disputed.add(self.model.place(told.receiver)[0])

    def _on_settled(self, told: MessageTold) -> None:
        self._disputed.discard(self.model.place(told.receiver)[0])

    def _on_invoked(self, event: ClientInvoked) -> None:
        if len(set(self._decrees.values())) < 2:
            return
        for one, other in combinations(sorted(self._decrees), 2):
            if self._decrees[one] == self._decrees[other]:
                continue
            known_s = [self._known.get(pair) for pair in ((one, other), (other, one))]
            # What a node says that does not vote is nobody's concern but its own.
            unaware = {
                node_id
                for node_id, rival in ((one, other), (other, one))
                if rival in self._decrees[node_id].voters and node_id not in self._disputed
            }
            if None in known_s or not unaware:
                continue
            since_s = max(
                self._hindrances.pair_clear_s(one, other, gossip=True), *(since_s for since_s in known_s if since_s)
            )
            if event.time_s - since_s > NOTICED_WITHIN_S:
                raise self.violated(
                    f"{one} runs by {self._decrees[one]} and {other} by {self._decrees[other]}, with nothing between "
                    f"them since {since_s:.3f} s, and {', '.join(sorted(unaware))} has not noticed"
                )
