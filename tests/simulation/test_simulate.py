"""Runs: what is injected, what the budget keeps good, and how a run ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from ourolog.actors.server import ServerActor
from ourolog.simulation import KINDS, Cluster, Nemesis, Options, Violation, simulate
from ourolog.simulation.budget import FaultBudget
from ourolog.simulation.checker import World
from ourolog.simulation.clients import Producer
from ourolog.simulation.disks.image import identities_on
from ourolog.simulation.events import Event, FaultInjected, NodeStarted, Phase, PhaseBegan
from ourolog.simulation.plan import draw_plan
from ourolog.simulation.simulate import Result
from ourolog.simulation.swarm import Swarm
from ourolog.storage.types import NodeId

SPOILING_KINDS = ("disk_lost", "fsync_lies", "old_disk", "bit_rot")


def run(seed: int, *faults: str, **options: Any) -> Result:
    return simulate(Options(seed, faults=faults, **{"minutes": 0.5, **options}))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_fault_fires_when_it_is_asked_for_and_no_claim_falls(kind: str) -> None:
    election = {
        "fsync_lies": "static",
        "old_disk": "static",
        "transfer": "raft",
        "gossip_lost": "raft",
        "voters": "raft",
    }.get(kind, "none")
    # No earlier seed gives an old disk back.
    first, fired = (7 if kind == "old_disk" else 0), 0
    for seed in range(first, 12):
        result = run(seed, kind, election=election)
        assert result.violations == ()
        assert set(result.faults) <= {kind}
        fired += result.faults.get(kind, 0)
        if fired:
            return
    raise AssertionError(f"{kind} never fired")


def test_without_faults_none_is_injected_and_nobody_fails() -> None:
    result = run(1)
    assert (result.faults, result.violations) == ({}, ())
    assert "node_failed" not in result.states


@pytest.mark.parametrize(
    ("options", "seeds"),
    [
        # `make sim` runs the first four with hundreds of seeds, and with faults that each seed draws.
        ({}, 2),
        ({"election": "static"}, 2),
        ({"election": "oracle"}, 2),
        ({"cycle": "allow", "max_hops": 3}, 2),
        ({"nodes": 5, "election": "static:n2,n1,n3,n4,n5"}, 4),
        ({"nodes": 1}, 4),
    ],
    ids=str,
)
def test_no_claim_falls_with_every_fault_on(options: dict[str, Any], seeds: int) -> None:
    for seed in range(seeds):
        result = run(seed, *KINDS, **options)
        assert result.violations == ()


def test_the_seed_draws_which_faults_are_on() -> None:
    drawn = {draw_plan(Options(seed)).kinds for seed in range(40)}
    assert len(drawn) > 30
    assert () in drawn, "now and then a calm run"
    assert draw_plan(Options(3)) == draw_plan(Options(3))


def test_a_run_has_a_safety_a_liveness_and_a_settled_phase() -> None:
    phases: list[PhaseBegan] = []
    observe = lambda event: phases.append(event) if isinstance(event, PhaseBegan) else None  # noqa: E731
    simulate(Options(1, nodes=5, election="static", faults=("kill",), minutes=0.2), observers=(observe,))
    assert [phase.phase for phase in phases] == [Phase.SAFETY, Phase.LIVENESS, Phase.SETTLED]
    assert "n1" in phases[1].core
    assert len(set(phases[1].core) & {"n1", "n2", "n3"}) >= 2


def test_the_decreed_leader_never_loses_its_disk_and_a_minority_is_spoiled_at_once() -> None:
    spoiled: list[FaultInjected] = []

    def observe(event: Event) -> None:
        if isinstance(event, FaultInjected) and event.kind in SPOILING_KINDS:
            spoiled.append(event)

    for seed in range(3, 6):
        options = Options(seed, election="static", faults=SPOILING_KINDS, minutes=1.0, operations=30)
        result = simulate(options, observers=(observe,))
        assert result.budget.startswith("at most 1 of 3 voters at once")
    assert {event.kind for event in spoiled} == {*SPOILING_KINDS}
    assert all(event.where != "n1" for event in spoiled)


def test_where_voters_elect_the_leader_is_hit_more_often_than_others_and_timeouts_differ() -> None:
    with Cluster(seed=1, election="raft") as cluster:
        cluster.run_for(3.0)
        nemesis = Nemesis(cluster, draw_plan(cluster.options))
        hit = [nemesis._any_running() for _ in range(300)]
        assert 0.4 * 300 < hit.count(cluster.leader_id) < 0.7 * 300
        assert {*cluster.names} == {*hit}
    timeouts = {draw_plan(Options(seed, election="raft")).settings["election_timeout_s"] for seed in range(20)}
    assert timeouts == {0.3, 1.0}


def test_leads_are_transferred_and_gossip_is_lost_where_voters_elect_and_nowhere_else() -> None:
    kinds = ("transfer", "gossip_lost")
    fired = [
        simulate(Options(seed, election=election, faults=kinds, minutes=0.5)).faults
        for seed in range(3)
        for election in ("raft", "static")
    ]
    assert {kind for faults in fired[::2] for kind in faults} == {*kinds}
    assert fired[1::2] == [{}] * 3


def test_little_room_for_requests_is_not_taken_up_by_those_that_wait_for_a_copy_out_of_reach() -> None:
    for core, acks in ((("n1", "n2"), ("default", "quorum")), (("n1", "n2", "n3"), ("default", "quorum", "all"))):
        with Cluster(seed=1, nodes=4, election="raft:n1,n2,n3") as cluster:
            swarm = Swarm(cluster, replace(draw_plan(cluster.options), acks=("default", "quorum", "all")))
            swarm.retire(tuple(NodeId(name) for name in core))
            assert {client.acks for client in swarm._clients if isinstance(client, Producer)} == {acks}


def test_with_nobody_elected_a_disk_is_lost_only_while_another_holds_all_of_it() -> None:
    with Cluster(seed=1) as cluster:
        budget = FaultBudget(cluster)
        cluster.run_for(1.0)
        cluster.isolate("n1")
        cluster.produce("n1", b"only here")
        assert not budget.may_spoil("disk_lost", NodeId("n1"))
        assert budget.withheld == {"disk_lost": 1}
        cluster.heal()
        cluster.run_for(15.0)
        assert budget.may_spoil("disk_lost", NodeId("n1"))
        assert not budget.may_spoil("fsync_lies", NodeId("n1"))
        budget.spoil("disk_lost", NodeId("n2"))
        assert not budget.may_spoil("disk_lost", NodeId("n1"))


def test_what_is_on_a_disk_is_read_from_its_bytes_alone() -> None:
    with Cluster(seed=1) as cluster:
        for number in range(3):
            cluster.produce("n1", f"{number}")
        cluster.run_for(2.0)
        mine, copied = (identities_on(cluster.durable(NodeId(name))) for name in ("n1", "n2"))
        assert mine == copied
        assert [(origin, sequence) for origin, _, sequence in mine] == [("n1", 0), ("n1", 1), ("n1", 2)]


class FallsAtTheThirdStart:
    name: ClassVar[str] = "falls_at_the_third_start"
    statement: ClassVar[str] = "Nobody is started a third time."
    sees: ClassVar[tuple[type, ...]] = (NodeStarted,)

    def __init__(self) -> None:
        self.starts = 0

    def see(self, event: Event, world: World) -> None:
        self.starts += 1
        if self.starts >= 3:
            raise Violation(self.name, "somebody was", event.time_s)

    def finish(self, world: World) -> None:
        """Nothing is left to look at."""


def test_a_violation_ends_the_run_and_stands_in_its_result() -> None:
    checker = FallsAtTheThirdStart()
    result = simulate(Options(1, faults=("kill",), minutes=5.0), checkers=(checker,))
    assert [violation.claim for violation in result.violations] == ["falls_at_the_third_start"]
    assert checker.starts == 3
    assert result.virtual_seconds < 60


def test_a_cluster_that_acknowledges_nothing_makes_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServerActor, "_produce", lambda self, produce: None)
    result = simulate(Options(1, faults=(), minutes=0.0, clients=0), checkers=())
    assert [violation.claim for violation in result.violations] == ["a_healthy_core_makes_progress"]


def test_a_cluster_that_pulls_nothing_does_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    from ourolog.actors.replication.pulls import Pulls

    monkeypatch.setattr(Pulls, "_fetch", lambda self, pull: None)
    result = simulate(Options(1, faults=(), minutes=0.1), checkers=())
    assert [violation.claim for violation in result.violations] == ["nodes_converge_after_healing"]


def test_a_node_that_gives_up_without_a_cause_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    from ourolog.actors.store import StoreActor
    from ourolog.storage.errors import StorageFailedError

    def give_up(self: StoreActor, message: object) -> None:
        raise StorageFailedError("I am tired")

    monkeypatch.setattr(StoreActor, "_append_batch", give_up)
    result = simulate(Options(1, faults=(), minutes=0.5), checkers=())
    assert [violation.claim for violation in result.violations] == ["no_node_fails_without_a_cause"]


def test_the_wall_clock_is_the_caller_s_and_is_not_in_the_trace() -> None:
    ticks = iter((10.0, 17.5))
    options = Options(1, minutes=0.05)
    measured = simulate(options, checkers=(), clock=lambda: next(ticks))
    assert measured.wall_seconds == 7.5
    assert measured.trace_hash == simulate(options, checkers=()).trace_hash


def test_fewer_operations_and_clients_are_smaller_runs_of_the_same_seed() -> None:
    options = Options(1, faults=(), minutes=0.1)
    assert simulate(replace(options, operations=30)).events < simulate(options).events
    assert simulate(replace(options, clients=0)).events < simulate(replace(options, operations=30)).events


def test_faults_can_be_let_loose_on_an_application_s_own_cluster() -> None:
    with Cluster(seed=4) as cluster:
        nemesis = Nemesis.unleash(cluster, "kill", "partition", "loss")
        client = cluster.client("app", timeout_s=2.0)
        acknowledged = []
        for number in range(60):
            try:
                acknowledged.append((client.produce(f"{number}"), f"{number}".encode()))
            except Exception:
                continue
            cluster.run_for(0.5)
        nemesis.stop()
        nemesis.operator.mend_all()
        cluster.run_for(60.0)
        assert set(cluster.stream.faults) == {"kill", "partition", "loss"}
        assert {value for _, value in acknowledged} <= {record.value for record in cluster.records("n2")}
