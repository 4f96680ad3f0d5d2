"""One run: faults everywhere, then a healthy core that must make progress, then no faults, and the final checks.

A run is a function of (code, seed, options). It draws its plan from the seed, starts the nemesis and
the clients on a cluster, and ends at the first claim that does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ourolog.actors.stepping import StepLimitError
from ourolog.simulation.budget import budget_of
from ourolog.simulation.checker import Checker, Violation
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.decrees import Decrees
from ourolog.simulation.disasters import Disasters
from ourolog.simulation.events import Event, Phase, PhaseBegan
from ourolog.simulation.known_sets import KnownSets
from ourolog.simulation.nemesis import Nemesis
from ourolog.simulation.options import Options
from ourolog.simulation.plan import Plan, draw_plan
from ourolog.simulation.run_claims import (
    A_HEALTHY_CORE_MAKES_PROGRESS,
    CLAIMS_ARE_WATCHED,
    NODES_CONVERGE_AFTER_HEALING,
    RunClaim,
)
from ourolog.simulation.swarm import Swarm
from ourolog.storage.types import NodeId

PROGRESS_WITHIN_S = 60.0
PROGRESS_AFTER_ELECTION_S = 30.0
"""Where voters elect a leader: `majority_is_led` says how soon, and clients find it in a few seconds."""

PROGRESS_RECORDS = 3
SETTLES_WITHIN_S = 180.0
"""Gossip may need several full exchanges to merge what a partition separated."""

CHECK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run.

    seed: the run's seed.
    options: the run's options.
    trace_hash: a hash over all its events.
    violations: the claims that did not hold.
    virtual_seconds: how long it took in virtual time.
    wall_seconds: how long it took by the caller's clock, 0.0 without one.
    events: how many events there were.
    claims: the names of the checkers that saw anything of it.
    faults: how often each fired.
    states: how often each rare state was reached, see `rare_states`.
    withheld: how often the budget forbade each kind of fault.
    budget: what the budget kept good, as a sentence.
    """

    seed: int
    options: Options
    trace_hash: str
    violations: tuple[Violation, ...]
    virtual_seconds: float
    wall_seconds: float
    events: int
    claims: tuple[str, ...]
    faults: dict[str, int]
    states: dict[str, int]
    withheld: dict[str, int]
    budget: str


def simulate(
    options: Options,
    checkers: Sequence[Checker] | None = None,
    observers: Sequence[Callable[[Event], None]] = (),
    clock: Callable[[], float] = lambda: 0.0,
) -> Result:
    """Run a cluster under faults with these options.

    A violation is in the result, not raised. A run that was to be watched by all claims and was
    watched by none is one.

    checkers: None for all there are.
    clock: for wall_seconds, e.g. time.perf_counter.
    """
    began_s = clock()
    plan = draw_plan(options)
    cluster = Cluster(options=options, checkers=checkers, observers=observers, **plan.settings)
    run = _Run(cluster, plan)
    try:
        run.play()
    except Violation:
        pass  # the reason was recorded when the run was halted
    finally:
        cluster.close()
    if checkers is None and not cluster.stream.claims:
        detail = f"none of {len(cluster.checkers)} claims was shown an event, so that the run proves nothing"
        cluster.violated(CLAIMS_ARE_WATCHED.violated(detail, cluster.now_s))
    return Result(
        seed=options.seed,
        options=options,
        trace_hash=cluster.trace_hash,
        violations=tuple(cluster.stream.violations),
        virtual_seconds=cluster.now_s,
        wall_seconds=clock() - began_s,
        events=cluster.stream.count,
        claims=cluster.stream.claims,
        faults=dict(sorted(cluster.stream.faults.items())),
        states=dict(sorted(cluster.states.counts.items())),
        withheld=dict(sorted(run.nemesis.budget.withheld.items())),
        budget=budget_of(options),
    )


class _Run:
    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self.cluster = cluster
        self.nemesis = Nemesis(cluster, plan)
        self.swarm = Swarm(cluster, plan)
        self.rng = cluster.chance("phases")
        self.change_interval_s = plan.change_interval_s
        if cluster.oracle is not None:
            budget = self.nemesis.budget
            cluster.oracle.trusts = lambda node_id: not budget.is_lost(node_id)
        self.decrees: Decrees | None = None
        if cluster.options.decrees_change:
            self.decrees = Decrees(cluster, self.nemesis.operator, cluster.chance("decrees"))

        self.disasters: Disasters | None = None
        if cluster.options.has_disaster:
            self.disasters = Disasters(cluster, self.nemesis.operator, self.swarm, cluster.chance("disasters"))

    def play(self) -> None:
        self._safety()
        if self.disasters is not None:
            self.disasters.play()
        else:
            self._liveness()
        self._settle()
        self.cluster.finish()

    def _safety(self) -> None:
        cluster = self.cluster
        cluster.emit(PhaseBegan(cluster.now_s, Phase.SAFETY))
        cluster.start(wait=False)
        self.nemesis.start()
        self.swarm.start()
        if cluster.oracle is not None:
            cluster.oracle.start(self.change_interval_s)
        if self.decrees is not None:
            self.decrees.start(2.0 + self.change_interval_s)
        cluster.watch()
        cluster.run_for(cluster.options.minutes * 60.0)
        self.nemesis.stop()

    def _liveness(self) -> None:
        """Heal a core; everybody else stays as broken as they are, and cut off."""
        core = self._draw_core()
        if self.decrees is not None:
            self.decrees.agree(core)
        self._heal(core)
        self.swarm.retire(core)
        self._calm(core)
        while not self._progress(core):
            # A change of voters was under way when the core was drawn, and now another majority is needed.
            core = self._extended(core)
            self._heal(core)
            self.swarm.ask(core)

    def _heal(self, core: tuple[NodeId, ...]) -> None:
        self.nemesis.operator.mend(core)
        self.cluster.emit(PhaseBegan(self.cluster.now_s, Phase.LIVENESS, core))

    def _progress(self, core: tuple[NodeId, ...]) -> bool:
        """Wait until the core acknowledges records. Returns False once it is no majority any more."""
        cluster, swarm = self.cluster, self.swarm
        within_s = PROGRESS_AFTER_ELECTION_S if cluster.is_vote_of_disk else PROGRESS_WITHIN_S
        try:
            cluster.run_until(
                lambda: swarm.probed >= PROGRESS_RECORDS or self._extended(core) != core,
                within_s,
            )
        except StepLimitError:
            detail = f"{', '.join(core)} are healthy and connected, and acknowledged {swarm.probed} records"
            self._violated(A_HEALTHY_CORE_MAKES_PROGRESS, f"{detail} within {within_s:g} s")
        return swarm.probed >= PROGRESS_RECORDS

    def _extended(self, core: tuple[NodeId, ...]) -> tuple[NodeId, ...]:
        """The core, and who else is needed where it is not a majority of the voters that logs name now."""
        if not self.cluster.is_vote_of_disk:
            return core
        names = self.cluster.options.node_ids()
        chosen = self.cluster.sets.with_majority(core, names)
        return tuple(name for name in names if name in chosen)

    def _draw_core(self) -> tuple[NodeId, ...]:
        """A majority of what can lead and vote, with the leader if no other can be had; sometimes all nodes."""
        options = self.cluster.options
        names = list(options.node_ids())
        voters = list(options.election_choice().voters) or names
        leader_id = self.cluster.leader_id
        if leader_id is not None and not self.cluster.is_lead_passed_on:
            leaders, rest = [leader_id], [voter for voter in voters if voter != leader_id]
        else:
            leaders, rest = [], [voter for voter in voters if not self.nemesis.budget.is_lost(voter)]
        self.rng.shuffle(rest)
        sets = self.cluster.sets
        if self.cluster.is_vote_of_disk and sets.newest:
            return self._draw_core_of(sets, names)
        enough = len(voters) // 2 + 1 if self.nemesis.budget.is_founded() else len(voters)
        majority = {*leaders, *rest[: enough - len(leaders)]}
        bystanders = {name for name in names if name not in voters and self.rng.random() < 0.5}
        return tuple(name for name in names if name in majority or name in bystanders)

    def _draw_core_of(self, sets: KnownSets, names: list[NodeId]) -> tuple[NodeId, ...]:
        """A majority of the last set of voters, and of the one before it, by the disks that vote; and bystanders."""
        shuffled = list(names)
        self.rng.shuffle(shuffled)
        chosen = sets.with_majority((), shuffled)
        bystanders = {name for name in names if name not in sets.voters and self.rng.random() < 0.5}
        return tuple(name for name in names if name in chosen or name in bystanders)

    def _settle(self) -> None:
        """End faults and clients; all nodes must come to agree."""
        cluster = self.cluster
        self.swarm.stop()
        if self.decrees is not None:
            self.decrees.heed(tuple(cluster.configs))
        self.nemesis.operator.mend_all()
        cluster.emit(PhaseBegan(cluster.now_s, Phase.SETTLED, tuple(cluster.configs)))
        self._calm(tuple(cluster.configs))
        deadline_s = cluster.now_s + SETTLES_WITHIN_S
        problem = "not looked at yet"
        while problem:
            if cluster.now_s >= deadline_s:
                self._violated(
                    NODES_CONVERGE_AFTER_HEALING,
                    f"{problem}, {SETTLES_WITHIN_S:g} s after the last fault and the last client",
                )
            cluster.run_for(CHECK_EVERY_S)
            problem = self._why_not_settled()
        # The last answers may still be under way.
        cluster.run_for(10.0)

    def _calm(self, core: tuple[NodeId, ...]) -> None:
        if self.cluster.oracle is not None:
            self.cluster.oracle.calm(core)

    def _why_not_settled(self) -> str:
        """What is still missing; "" once every pull that should exist has brought everything there is."""
        cluster = self.cluster
        elects = cluster.options.election_choice().elects
        names = list(cluster.configs)
        for node_id in names:
            if not cluster.is_ready(node_id):
                return f"{node_id} does not serve clients"
            if cluster.disks[node_id].hangs_until_s > cluster.now_s:
                return f"the disk of {node_id} does not answer"
        statuses = {node_id: cluster.status(node_id) for node_id in names}
        for node_id, status in statuses.items():
            leader_id = status.election.leader_id
            expected = [name for name in names if name != node_id] if not elects else [leader_id]
            if elects and leader_id == node_id:
                expected = []
            pulls = {pull.source_id: pull for pull in status.replicator.pulls}
            for source_id in expected:
                pull = pulls.get(source_id) if source_id is not None else None
                if pull is None:
                    return f"{node_id} does not pull from {source_id}"
                if not pull.connected or pull.lag != 0:
                    return f"{node_id} lags {pull.lag} behind {source_id} ({pull.detail or 'no detail'})"
                if source_id is not None and pull.next_index < statuses[source_id].store.end.index:
                    return f"{node_id} has not heard of all that {source_id} has"
            if status.replicator.committed.index < status.store.end.index:
                return f"{node_id} has entries that are not committed"
        return ""

    def _violated(self, claim: RunClaim, detail: str) -> None:
        violation = claim.violated(detail, self.cluster.now_s)
        self.cluster.violated(violation)
        raise violation
