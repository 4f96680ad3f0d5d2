"""Whole nodes on the simulated cluster, under decrees that a test changes, with no faults but those of the test."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeVar

from ourolog.actors.messages.observer import NodeEvent, NodeNotReady, NodeReady, NodeWarned
from ourolog.simulation import Cluster, Options, OutcomeUnknownError, RefusedError
from ourolog.simulation.checkers import default_checkers
from ourolog.simulation.events import Event, NodeSaid
from ourolog.storage.types import NodeId

E = TypeVar("E")

NAMES = ("n1", "n2", "n3")


class DecreedCluster(Cluster):
    """Three nodes, with all checkers that hold whoever is decreed. A `with` block starts them and has them settle.

    without: the claims that do not hold here, since the test itself says in a node's name what is not so.
    said: what each node told its owner, the oldest first.
    """

    def __init__(self, without: tuple[str, ...] = (), **settings: Any) -> None:
        self.said: dict[str, list[NodeEvent]] = defaultdict(list)
        options = Options(seed=1, nodes=3, election="decrees:n1,n2,n3", faults=())
        checkers = [checker for checker in default_checkers(options) if checker.name not in without]
        super().__init__(options=options, checkers=checkers, observers=(self._hear,), **settings)

    def __enter__(self) -> DecreedCluster:
        super().__enter__()
        self.run_for(3)
        return self

    def _hear(self, event: Event) -> None:
        if isinstance(event, NodeSaid):
            self.said[event.node_id].append(event.event)

    def start_under(self, decree: str, *names: str, force_lead: bool = False) -> None:
        """Start nodes that do not run, by that decree from now on. force_lead: with that flag, which a person set."""
        for name in names:
            self.start(name, election=decree, force_lead=force_lead)

    def restart_under(self, decree: str, *names: str) -> None:
        """Stop nodes in good order and start them by that decree, one by one."""
        for name in names:
            self.stop(name)
            self.start_under(decree, name)

    def lose_power(self, *names: str) -> None:
        """Nodes end where they stand, and of what was not synced any part may be gone."""
        for name in names:
            self.crash(name, power=True)

    def lose_disk(self, name: str) -> None:
        """The node ends where it stands, and its disk is an empty one from now on."""
        self.lose_power(name)
        self.wipe(name)

    def acknowledges(self, name: str, value: bytes, acks: str) -> bool:
        """Whether the node acknowledges one record."""
        try:
            self.produce(name, value, acks=acks)
        except (RefusedError, OutcomeUnknownError):
            return False
        return True

    def values(self, name: str) -> list[bytes]:
        """All that a reader of this node gets: what it holds for committed."""
        return [record.value for record in self.records(name)]

    def heard(self, name: str, kind: type[E]) -> list[E]:
        """What the node told its owner, of that class."""
        return [event for event in self.said[name] if isinstance(event, kind)]

    def warnings(self, name: str) -> str:
        """Everything that the node has warned of, and why it was not ready."""
        return "\n".join(event.reason for event in self.said[name] if isinstance(event, NodeWarned | NodeNotReady))

    def disputes(self, name: str) -> list[NodeNotReady]:
        """When the node was not ready until a person decides."""
        return [event for event in self.heard(name, NodeNotReady) if event.needs_person]

    def says_ready(self, name: str) -> bool:
        """Whether the node's last word is that it is ready."""
        last = [event for event in self.said[NodeId(name)] if isinstance(event, NodeReady | NodeNotReady)][-1]
        return isinstance(last, NodeReady)
