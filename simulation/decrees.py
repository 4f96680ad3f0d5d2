"""The people who decree the leader: during the run they decree others, at all nodes at once, one by one, or at some.

They are not wise. The new leader may lack what was acknowledged, two may be decreed at once for a
while, a supervisor starts the old leader once more with its old flags, and one node is
forgotten. Now and then the leader is told not to ask the voters first (`--force-lead`). At the end somebody
takes care: all nodes get one decree, whose leader has the best log and need not ask,
and a node that reports that it does not follow gets an empty disk, as its own warning advises.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.occupants import parse_election
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.disks.image import heads_on
from ourolog.simulation.events import Event, NodeSaid, NodeStarted
from ourolog.simulation.operator import Operator
from ourolog.storage.types import Index, NodeId, Term

LOOKS_EVERY_S: Final = 1.0
FORCED: Final = 0.4
"""How often people tell a leader not to ask first."""


class Decrees:
    """The people who decree another leader in mid-run; the last decree is `cluster.decree`.

    rng: the source of all their choices.
    """

    def __init__(self, cluster: Cluster, operator: Operator, rng: Random) -> None:
        self._cluster = cluster
        self._operator = operator
        self._rng = rng
        self._is_on = False
        self._serial = 0
        self._forces = False
        self._refusing: dict[NodeId, None] = {}
        self._heeded: tuple[NodeId, ...] = ()
        cluster.subscribe(self._see)

    def start(self, interval_s: float) -> None:
        """Decree another leader at random times, this far apart on average."""
        self._is_on = True

        def due() -> None:
            if self._is_on:
                self._change()
                self._cluster.after(self._rng.expovariate(1.0 / interval_s), due)

        self._cluster.after(self._rng.expovariate(1.0 / interval_s), due)

    def agree(self, core: tuple[NodeId, ...]) -> None:
        """Give all nodes one decree, whose leader is of the core, and stop those of the core that run by another."""
        self._is_on = False
        self._serial += 1
        voters = self._cluster.decree.voters
        leader_id = max((voter for voter in voters if voter in core), key=self._end_of)
        self._cluster.decree = self._led_by(leader_id)
        for node_id in self._cluster.configs:
            self._cluster.configure(node_id, election=self._cluster.decree, force_lead=True)
        for node_id in core:
            self._cluster.crash(node_id)
        self.heed(core)

    def heed(self, core: tuple[NodeId, ...]) -> None:
        """Look after these nodes from now on, should one refuse to follow."""
        is_first = not self._heeded
        self._heeded = core
        for node_id in core:
            # A node that was cut off until now still runs by its earlier decree.
            node = self._cluster.running.get(node_id)
            if node is not None and node.config.election != self._cluster.decree:
                self._cluster.crash(node_id)
        if is_first:
            self._look_after()

    # ------------------------------------------------------------ decrees

    def _change(self) -> None:
        cluster, rng = self._cluster, self._rng
        self._serial += 1
        old = cluster.decree
        new = cluster.decree = self._led_by(rng.choice(old.voters[1:] or old.voters))
        self._forces = rng.random() < FORCED
        names = list(cluster.configs)
        rng.shuffle(names)
        match rng.choice(("at once", "one by one", "forgets one")):
            case "at once":
                for node_id in names:
                    self._give(node_id, new)
                return
            case "forgets one":
                names.pop()
            case _:
                pass
        after_s = 0.0
        for node_id in names:
            self._later(after_s, node_id, new)
            after_s += 4.0 * rng.random() ** 2
        if rng.random() < 0.5:
            back_s = after_s + 5.0 * rng.random()
            self._later(back_s, old.voters[0], old)
            self._later(back_s + 2.0 + 6.0 * rng.random(), old.voters[0], new)

    def _led_by(self, leader_id: NodeId) -> ElectionChoice:
        voters = self._cluster.options.election_choice().voters
        return parse_election(f"static:{','.join((leader_id, *(voter for voter in voters if voter != leader_id)))}")

    def _later(self, after_s: float, node_id: NodeId, decree: ElectionChoice) -> None:
        serial = self._serial

        def due() -> None:
            if serial == self._serial:
                self._give(node_id, decree)

        self._cluster.after(after_s, due)

    def _give(self, node_id: NodeId, decree: ElectionChoice) -> None:
        """Give the node that decree from its next start on, which is soon."""
        self._cluster.configure(node_id, election=decree, force_lead=self._forces)
        if node_id in self._cluster.running:
            self._operator.bring_down(node_id, power=False)

    def _end_of(self, node_id: NodeId) -> tuple[Term, Index]:
        heads = [head for head, _ in heads_on(self._cluster.durable(node_id))]
        return (heads[-1].term, Index(heads[-1].index)) if heads else (Term(0), Index(0))

    # ------------------------------------------------------------ in the end

    def _see(self, event: Event) -> None:
        match event:
            case NodeStarted():
                self._refusing.pop(event.node_id, None)
            case NodeSaid(event=NodeWarned(kind=WarningKind.KEEPS_ITS_COPY)):
                self._refusing[event.node_id] = None
            case _:
                pass

    def _look_after(self) -> None:
        """Give nodes that refuse to follow an empty disk, to copy the leader's log to."""
        for node_id in list(self._refusing):
            if node_id in self._heeded and node_id in self._cluster.running:
                self._cluster.crash(node_id)
                self._operator.replace_disk(node_id)
        self._cluster.after(LOOKS_EVERY_S, self._look_after)
