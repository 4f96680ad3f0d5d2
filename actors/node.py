"""Node wiring: makes the five actors of a node in order and introduces them to each other."""

from __future__ import annotations

from typing import Any, Final

from ourolog.actors.actor import ActorStuckError, LateBoundMailbox, NodeRef, Runtime
from ourolog.actors.config import NodeConfig
from ourolog.actors.election.news import NewsFilter
from ourolog.actors.membership import MembershipActor
from ourolog.actors.messages.store import OpenLog
from ourolog.actors.occupants import OCCUPANTS, Occupants, find_occupant
from ourolog.actors.ports import Ports
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.server import ServerActor
from ourolog.actors.store import StoreActor

# They only handle messages; the store may have much to write, to a disk that is slow.
STOPS_WITHIN_S: Final = 10.0
STORE_STOPS_WITHIN_S: Final = 30.0

HANDS_OVER_WITHIN_S: Final = 2.0
"""How long a stop waits for HandedOver. The election is told HandOver before anything else ends."""

FAILED_HANDS_OVER_WITHIN_S: Final = 0.5
"""The same for a node that has failed: nothing can be written any more, but another voter can be told to take over."""


class Node:
    """The five actors of a node on one runtime. `ports.observer` hears all that happens to it.

    store, membership, replicator, election, server: pykka refs, there after `start`.
    """

    store: NodeRef
    membership: NodeRef
    replicator: NodeRef
    election: NodeRef
    server: NodeRef

    def __init__(self, config: NodeConfig, runtime: Runtime, ports: Ports, occupants: Occupants = OCCUPANTS) -> None:
        """Prepare the node; `start` makes its actors.

        occupants: what can fill the election slot without being installed.
        """
        self.config = config
        self.occupants = occupants
        self.runtime = runtime
        self.ports = ports

    def start(self) -> None:
        """Start all actors and open the log. NodeReady or NodeFailed reaches the observer later."""
        shared: dict[str, Any] = {"config": self.config, "ports": self.ports}
        spawn = self.runtime.spawn
        to_replicator: LateBoundMailbox[Any] = LateBoundMailbox()
        to_server: LateBoundMailbox[Any] = LateBoundMailbox()
        to_election: LateBoundMailbox[Any] = LateBoundMailbox()
        to_membership: LateBoundMailbox[Any] = LateBoundMailbox()
        self.store = spawn(StoreActor, **shared, replicator=to_replicator, server=to_server, election=to_election)
        self.server = spawn(ServerActor, **shared, store=self.store, replicator=to_replicator)
        self.replicator = spawn(ReplicatorActor, **shared, store=self.store, server=self.server, election=to_election)
        occupant = find_occupant(self.config.election.name, self.occupants)
        self.election = spawn(
            occupant,
            **shared,
            store=self.store,
            listeners=(self.replicator, self.server, to_membership),
        )
        to_replicator.bind(self.replicator)
        to_server.bind(self.server)
        to_election.bind(NewsFilter(self.election, occupant.hears))
        self.membership = spawn(
            MembershipActor,
            **shared,
            listeners=(self.replicator, self.server, self.election),
            election=self.election,
        )
        to_membership.bind(self.membership)
        self.store.tell(OpenLog())

    @property
    def refs(self) -> tuple[NodeRef, ...]:
        """All actors: those that speak to clients and peers first, the store last."""
        return (self.server, self.membership, self.election, self.replicator, self.store)

    def stop(self) -> None:
        """End all actors, the store last: it writes, syncs and closes what the others left.

        The store is closed whatever happens to the others. Raises ActorStuckError, which names all
        that did not end; if the store is among them, the disk is as after a power cut.
        """
        stuck: list[str] = []
        for ref in self.refs:
            try:
                self.runtime.stop(ref, STORE_STOPS_WITHIN_S if ref is self.store else STOPS_WITHIN_S)
            except ActorStuckError as error:
                stuck.append(str(error))
        if stuck:
            raise ActorStuckError("; ".join(stuck))
