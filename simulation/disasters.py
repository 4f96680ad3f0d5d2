"""Disasters: a majority of the voters is lost at once, and people let a survivor go on.

They run the code of `ourolog cluster recover` (`ourolog.storage.recovering`) on the simulated disk of a node that is
down. They lose power in the middle of it and repeat it, recover a second survivor besides, and start nodes of the
former generation once more with their old disks, before the recovered one runs or while it is down. What the command
asks other nodes first would keep them from most of that; here nobody can be asked.

In the end a person decides which survivor goes on, and all others start again on empty disks.
"""

from __future__ import annotations

from random import Random
from typing import Final

from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import StepLimitError
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import ClusterRecovered, FaultInjected
from ourolog.simulation.operator import DISK_ARRIVES_S, Operator
from ourolog.simulation.run_claims import RECOVERED_WRITABLE
from ourolog.simulation.runtime import PowerCutError
from ourolog.simulation.swarm import Swarm
from ourolog.storage.recovering import Survivor
from ourolog.storage.types import NodeId, Term

FOUNDED_WITHIN_S: Final = 60.0
WRITES_WITHIN_S: Final = 15.0
"""Of virtual time, from the start of a recovered node to its first acknowledgements, with nothing in its way."""

WRITES_RECORDS: Final = 3
HEARS_WITHIN_S: Final = 15.0
"""How long nodes of two generations run beside each other, at least."""

STEPS_OF_RECOVERY: Final = 1_400
"""How many steps of the disk, most of them bytes, a recovery takes, about."""

_JOINS: Final = parse_election("raft")
"""What a node is started with that founds nothing, and joins."""


class Disasters:
    """A disaster and what people make of it, in place of a run's liveness phase.

    rng: the source of all that is left to chance in it.
    """

    def __init__(self, cluster: Cluster, operator: Operator, swarm: Swarm, rng: Random) -> None:
        self._cluster = cluster
        self._operator = operator
        self._swarm = swarm
        self._rng = rng
        self._voters = cluster.options.election_choice().voters
        self._away: list[NodeId] = []
        self._former: dict[NodeId, int] = {}
        self._generation: dict[NodeId, int] = {}

    def play(self) -> None:
        """Let it happen, and leave all disks but one empty and all nodes down. Raises Violation."""
        rng = self._rng
        survivor = rng.choice(self._voters)
        self._mend()
        self._strike(survivor)
        old_voters = [node_id for node_id in self._away if node_id in self._voters]
        goes_on = 2 * len(old_voters) > len(self._voters) and rng.random() < 0.7
        is_early = rng.random() < 0.4
        if goes_on and is_early:
            self._go_on_without(old_voters)
        self._recover(survivor)
        if goes_on and not is_early:
            self._go_on_without(old_voters)
        down = [node_id for node_id in old_voters if node_id not in self._cluster.running]
        if down and rng.random() < 0.4:
            survivor = self._recover_another(survivor, rng.choice(down))
        else:
            self._write_at(survivor)
            self._meet(survivor)
        self._begin_anew(survivor)

    # ------------------------------------------------------------ the disaster

    def _mend(self) -> None:
        """End all other faults, and wait until the cluster is founded: before, there is nothing to recover."""
        cluster = self._cluster
        self._operator.mend_all()
        founded = self._operator.budget.is_founded
        cluster.run_until(lambda: founded() and cluster.leader_id in cluster.running, FOUNDED_WITHIN_S)
        cluster.run_for(3.0 * self._rng.random())

    def _strike(self, survivor: NodeId) -> None:
        """All nodes go down, some a moment later than others; of some the disk is lost, too."""
        cluster, rng = self._cluster, self._rng
        self._operator.leave_alone(cluster.names)
        leader_id = cluster.leader_id
        if leader_id is not None and rng.random() < 0.5:
            cluster.isolate(leader_id)  # what it takes now nobody else has
            cluster.run_for(0.2 + rng.random())
        names = list(cluster.names)
        rng.shuffle(names)
        for node_id in names:
            cluster.crash(node_id, power=rng.random() < 0.5)
            cluster.run_for(0.1 * rng.random())
        cluster.heal()
        for node_id in cluster.names:
            cluster.disks[node_id].repair()
            if node_id == survivor:
                continue
            if rng.random() < 0.4:
                self._lose(node_id)
            else:
                self._away.append(node_id)

    def _lose(self, node_id: NodeId) -> None:
        self._operator.budget.spoil("disk_lost", node_id)
        self._cluster.wipe(node_id)

    # ------------------------------------------------------------ the recovery

    def _recover(self, node_id: NodeId) -> None:
        """Recover the survivor; power may go in the middle, and somebody may start the node before it is repeated."""
        cluster, rng = self._cluster, self._rng
        disk = cluster.disks[node_id]
        while rng.random() < 0.4:
            try:
                self._carry_out(node_id, cut_after=rng.randrange(1, STEPS_OF_RECOVERY))
            except PowerCutError:
                disk.lose_power()
                disk.repair()
                detail = "in the middle of a recovery"
                cluster.emit(FaultInjected(cluster.now_s, "power_loss", node_id, detail, is_mid_write=True))
            else:
                disk.repair()
                return
            if rng.random() < 0.4:
                self._start_unfinished(node_id)
        self._carry_out(node_id)

    def _carry_out(self, node_id: NodeId, cut_after: int | None = None) -> None:
        """Run what the command runs. Raises PowerCutError after so many steps of the disk, if that is not None."""
        cluster = self._cluster
        disk = cluster.disks[node_id]
        survivor = Survivor.open(disk, cluster.configs[node_id].data_dir, self._rng)
        tail = survivor.end.index - survivor.committed.index
        former_id = self._former.setdefault(node_id, survivor.founding.cluster_id)
        was_unfinished = survivor.is_unfinished
        if cut_after is not None:
            disk.cut_power_after(cut_after)
        made = survivor.recover(self._rng, cluster.clocks[node_id].wall_ms(), Term(0))
        survivor.close()
        disk.end_process()
        founding = made.founding
        self._generation[node_id] = founding.generation
        cluster.emit(
            ClusterRecovered(
                cluster.now_s,
                node_id,
                founding.cluster_id,
                former_id,
                founding.lineage,
                founding.generation,
                made.term,
                tail,
                was_unfinished=was_unfinished,
            )
        )

    def _start_unfinished(self, node_id: NodeId) -> None:
        """Start the node as if its recovery were complete; it says that it is not, or goes on as it was before."""
        self._operator.blame(node_id, "recovery")
        self._cluster.launch(node_id)
        self._cluster.run_for(1.0 + 4.0 * self._rng.random())
        self._cluster.crash(node_id)

    def _write_at(self, survivor: NodeId) -> None:
        """Start the recovered node, which must acknowledge records soon, whatever the former generation does."""
        cluster = self._cluster
        cluster.launch(survivor)
        self._swarm.retire((survivor,))
        try:
            cluster.run_until(lambda: self._swarm.probed >= WRITES_RECORDS, WRITES_WITHIN_S)
        except StepLimitError:
            detail = (
                f"{survivor} was recovered and started, and acknowledged {self._swarm.probed} records within "
                f"{WRITES_WITHIN_S:g} s"
            )
            violation = RECOVERED_WRITABLE.violated(detail, cluster.now_s)
            cluster.violated(violation)
            raise violation from None

    # ------------------------------------------------------------ the others

    def _go_on_without(self, old_voters: list[NodeId]) -> None:
        """A majority comes back that whoever recovers the survivor cannot reach: it elects a leader, and goes on."""
        self._start_old()
        self._swarm.ask(tuple(old_voters))
        self._cluster.run_for(2.0 + 10.0 * self._rng.random())
        if self._rng.random() < 0.5:
            for node_id in self._away:
                self._cluster.crash(node_id, power=self._rng.random() < 0.5)

    def _meet(self, survivor: NodeId) -> None:
        """Nodes of the former generation run beside the recovered one, and then while it is down."""
        cluster, rng = self._cluster, self._rng
        if not self._away or rng.random() < 0.2:
            return
        self._start_old()
        self._swarm.ask((survivor, *self._away))
        cluster.run_for(HEARS_WITHIN_S + 5.0 * rng.random())
        if rng.random() < 0.6:
            cluster.crash(survivor)
            for node_id in self._away:
                cluster.crash(node_id, power=rng.random() < 0.5)
            self._start_old()
            self._swarm.ask(tuple(self._away))
            cluster.run_for(10.0)
            cluster.launch(survivor)
            self._swarm.ask((survivor,))
            cluster.run_for(5.0)

    def _recover_another(self, survivor: NodeId, rival: NodeId) -> NodeId:
        """Two people recover two survivors, which then meet; a person decides which of them goes on."""
        cluster, rng = self._cluster, self._rng
        self._recover(rival)
        cluster.launch(survivor)
        self._swarm.retire((survivor, rival))
        if rng.random() < 0.5:
            cluster.run_for(5.0 * rng.random())
        cluster.launch(rival)
        cluster.run_for(HEARS_WITHIN_S + 5.0 * rng.random())
        # A recovery that was repeated may be a generation further than its rival, which is superseded then for good.
        latest = max(self._generation[survivor], self._generation[rival])
        return rng.choice([one for one in (survivor, rival) if self._generation[one] == latest])

    def _start_old(self) -> None:
        for node_id in self._away:
            if node_id not in self._cluster.running:
                self._cluster.launch(node_id)

    def _begin_anew(self, survivor: NodeId) -> None:
        """All but the survivor go down, and get an empty disk; nothing that they have sent is under way any more."""
        cluster = self._cluster
        for node_id in cluster.names:
            if node_id != survivor:
                cluster.crash(node_id)
                self._lose(node_id)
                cluster.configure(node_id, election=_JOINS)
        cluster.run_for(DISK_ARRIVES_S)
