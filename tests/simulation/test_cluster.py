"""The cluster as its users see it."""

from __future__ import annotations

import errno
from typing import Any, ClassVar

import pytest

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import HandedOver, HandOver
from ourolog.actors.messages.membership import LeaveCluster
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.store import StoreFailed
from ourolog.actors.node import FAILED_HANDS_OVER_WITHIN_S, HANDS_OVER_WITHIN_S
from ourolog.simulation import Cluster, OutcomeUnknownError, OutOfRangeError, RefusedError, Violation
from ourolog.simulation.checker import World
from ourolog.simulation.cluster import ProcessEnd
from ourolog.simulation.events import (
    ClientReturned,
    Event,
    MessageHandled,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    NodeStopped,
)
from ourolog.storage.types import NodeId


def values(cluster: Cluster, name: str) -> list[bytes]:
    return [record.value for record in cluster.records(name)]


def test_what_one_node_was_given_every_node_has_soon() -> None:
    with Cluster(seed=1) as cluster:
        assert cluster.produce("n1", b"hello") == 0
        cluster.run_for(1.0)
        assert [cluster.consume(name, 0) for name in ("n1", "n2", "n3")] == [b"hello"] * 3


@pytest.mark.parametrize("power", [False, True])
def test_what_was_acknowledged_is_there_after_a_crash(power: bool) -> None:
    for seed in range(10):
        with Cluster(seed=seed, nodes=1) as cluster:
            for number in range(5):
                cluster.produce("n1", f"{number}")
            cluster.crash("n1", power=power)
            cluster.restart("n1")
            assert values(cluster, "n1") == [b"0", b"1", b"2", b"3", b"4"]


def test_a_power_loss_in_the_middle_of_a_write_takes_the_node_down() -> None:
    with Cluster(seed=1, nodes=1) as cluster:
        cluster.disks[cluster.names[0]].faults.power_cut_in = 0
        with pytest.raises(Exception, match=r"connection|time"):
            cluster.produce("n1", b"x")
        assert not cluster.running
        cluster.restart("n1")
        assert values(cluster, "n1") in ([], [b"x"])


def test_a_client_finds_the_leader_and_a_follower_refuses_it() -> None:
    with Cluster(seed=2, election="static") as cluster:
        with pytest.raises(RefusedError, match="not the leader"):
            cluster.produce("n2", b"x")
        client = cluster.client("app")
        assert [client.produce(f"{number}") for number in range(3)] == [0, 1, 2]
        cluster.run_for(2.0)
        assert values(cluster, "n3") == [b"0", b"1", b"2"]


def test_an_application_goes_on_through_crashes_and_partitions_that_come_while_it_waits() -> None:
    with Cluster(seed=3) as cluster:
        cluster.after(0.5, lambda: cluster.crash("n1", power=True))
        cluster.after(2.0, lambda: cluster.launch(cluster.names[0]))
        cluster.after(3.0, lambda: cluster.isolate("n2"))
        cluster.after(8.0, cluster.heal)
        client = cluster.client("app")
        acknowledged = []
        for number in range(40):
            try:
                client.produce(f"{number}")
                acknowledged.append(f"{number}".encode())
            except Exception:  # the application would note that it does not know
                continue
            cluster.run_for(0.25)
        cluster.run_for(40.0)
        assert len(acknowledged) > 30
        assert set(acknowledged) <= set(values(cluster, "n3"))


def test_the_pull_graph_has_a_cycle_where_nobody_leads_and_is_a_star_where_somebody_does() -> None:
    with Cluster(seed=1) as cluster:
        cluster.run_for(3.0)
        assert cluster.pulls() == {"n1": ("n2", "n3"), "n2": ("n1", "n3"), "n3": ("n1", "n2")}
    with Cluster(seed=1, election="static") as cluster:
        cluster.run_for(3.0)
        assert cluster.pulls() == {"n1": (), "n2": ("n1",), "n3": ("n1",)}


def test_a_read_past_the_end_says_what_there_is() -> None:
    with Cluster(seed=1) as cluster:
        cluster.produce("n1", b"only one")
        with pytest.raises(OutOfRangeError) as refused:
            cluster.consume("n1", 5)
        assert (refused.value.first, refused.value.end) == (0, 1)


def test_a_node_that_is_stopped_announces_it_and_one_that_is_paused_is_missed() -> None:
    with Cluster(seed=1) as cluster:
        cluster.run_for(3.0)
        cluster.stop("n2")
        cluster.run_for(1.0)
        assert cluster.pulls()["n1"] == ("n3",)
        cluster.start("n2")
        cluster.run_for(3.0)
        cluster.pause("n3")
        cluster.run_for(15.0)
        assert cluster.status("n1").replicator.pulls[0].source_id == "n2"
        assert len(cluster.status("n1").replicator.pulls) == 1
        cluster.resume("n3")
        cluster.run_for(20.0)
        assert cluster.pulls()["n1"] == ("n2", "n3")


def test_a_node_that_is_stopped_hands_over_before_it_leaves_and_waits_no_longer_than_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receive, answers = ElectionActor.on_receive, True

    def hands_over(self: ElectionActor, message: Any) -> None:
        if answers or not isinstance(message, HandOver):
            receive(self, message)

    monkeypatch.setattr(ElectionActor, "on_receive", hands_over)
    handled: list[type] = []

    def see(event: Event) -> None:
        if isinstance(event, MessageHandled) and event.receiver.startswith("n2"):
            handled.append(type(event.message))

    with Cluster(seed=1, observers=(see,)) as cluster:
        for answers in (True, False):
            handled.clear()
            began_s = cluster.now_s
            cluster.stop("n2")
            told = [kind for kind in handled if kind in {HandOver, LeaveCluster}]
            assert told == [HandOver, LeaveCluster]
            assert (cluster.now_s - began_s >= HANDS_OVER_WITHIN_S) is not answers
            cluster.start("n2")


@pytest.mark.parametrize("answers_after_s", [0.2, 60.0])
def test_a_node_whose_disk_fails_gives_its_election_a_moment_before_it_ends(
    monkeypatch: pytest.MonkeyPatch, answers_after_s: float
) -> None:
    receive = ElectionActor.on_receive
    told: list[type] = []
    at_s: dict[type, float] = {}

    def see(event: Event) -> None:
        if isinstance(event, NodeCrashed) or (isinstance(event, NodeSaid) and isinstance(event.event, NodeFailed)):
            at_s[type(event)] = event.time_s

    def hands_over_late(self: ElectionActor, message: Any) -> None:
        told.append(type(message))
        if isinstance(message, HandOver):
            cluster.after(answers_after_s, lambda: message.reply_to.tell(HandedOver(message.request_id)))
        else:
            receive(self, message)

    with Cluster(seed=1, checkers=(), observers=(see,)) as cluster:
        monkeypatch.setattr(ElectionActor, "on_receive", hands_over_late)
        cluster.disks[NodeId("n2")].fail("write", errno.ENOSPC)
        with pytest.raises(OutcomeUnknownError):
            cluster.produce("n2", b"no room")
        cluster.run_until(lambda: "n2" not in cluster.running)
        assert [kind for kind in told if kind in {StoreFailed, HandOver}] == [StoreFailed, HandOver]
        lasted_s = at_s[NodeCrashed] - at_s[NodeSaid]
        assert lasted_s == pytest.approx(min(answers_after_s, FAILED_HANDS_OVER_WITHIN_S), abs=0.05)


def test_a_node_whose_disk_is_replaced_gets_everything_from_the_others() -> None:
    with Cluster(seed=1) as cluster:
        cluster.produce("n1", b"precious")
        cluster.run_for(2.0)
        cluster.crash("n1", power=True)
        cluster.wipe("n1")
        cluster.restart("n1")
        cluster.run_for(15.0)
        assert values(cluster, "n1") == [b"precious"]


def test_a_node_that_fails_ends_by_itself_and_its_owner_is_told() -> None:
    with Cluster(seed=1, checkers=()) as cluster:
        ended: list[tuple[str, ProcessEnd, str]] = []
        cluster.on_process_end = lambda node_id, how, reason: ended.append((node_id, how, reason))
        cluster.disks[cluster.names[0]].faults.room_bytes = 0
        with pytest.raises(Exception, match=r"time|connection"):
            cluster.produce("n1", b"x")
        assert ended[0][:2] == ("n1", ProcessEnd.GAVE_UP)
        assert "No space left" in ended[0][2]


def test_a_name_that_no_node_has_is_refused() -> None:
    with Cluster(seed=1) as cluster, pytest.raises(ValueError, match="no node 'n9': the nodes are n1, n2, n3"):
        cluster.crash("n9")


def test_the_stream_of_events_tells_the_life_of_a_node() -> None:
    seen: list[Event] = []
    with Cluster(seed=1, nodes=1, observers=(seen.append,)) as cluster:
        cluster.crash("n1", power=True)
        cluster.restart("n1")
        cluster.stop("n1")
    life = [type(event) for event in seen if isinstance(event, NodeStarted | NodeStopped | NodeCrashed)]
    assert life == [NodeStarted, NodeCrashed, NodeStarted, NodeStopped]


class NobodyIsAnswered:
    """A claim that does not hold."""

    name: ClassVar[str] = "nobody_is_answered"
    statement: ClassVar[str] = "No client is ever answered."
    sees: ClassVar[tuple[type, ...]] = (ClientReturned,)

    def __init__(self) -> None:
        self.saw: list[Event] = []

    def see(self, event: Event, world: World) -> None:
        self.saw.append(event)
        raise Violation(self.name, "one was", event.time_s)

    def finish(self, world: World) -> None:
        """There is nothing left to look at."""


def test_a_claim_that_does_not_hold_is_raised_by_whoever_lets_time_pass() -> None:
    checker = NobodyIsAnswered()
    with pytest.raises(Violation, match="nobody_is_answered: one was"), Cluster(seed=1, checkers=(checker,)) as cluster:
        cluster.produce("n1", b"x")
    assert [type(event) for event in checker.saw] == [ClientReturned]


def test_an_actor_that_raises_is_a_violation_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    from ourolog.actors.server import ServerActor

    def broken(self: ServerActor, produce: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ServerActor, "_produce", broken)
    with (
        pytest.raises(Violation, match=r"no_actor_raises: n1\.server raised RuntimeError: a bug \(test_cluster\.py"),
        Cluster(seed=1) as cluster,
    ):
        cluster.produce("n1", b"x")


def test_nothing_of_a_cluster_is_left_in_the_registry_of_actors() -> None:
    import pykka

    before = len(pykka.ActorRegistry.get_all())
    with Cluster(seed=1, nodes=2) as cluster:
        cluster.crash("n1")
        cluster.restart("n1")
    assert len(pykka.ActorRegistry.get_all()) == before


def test_every_message_that_is_handled_was_told_to_the_same_actor() -> None:
    from ourolog.simulation.events import MessageTold

    open_: dict[tuple[str, int], int] = {}
    wrong: list[Event] = []

    def see(event: Event) -> None:
        if isinstance(event, MessageTold):
            key = (event.receiver, id(event.message))
            open_[key] = open_.get(key, 0) + 1
        elif isinstance(event, MessageHandled):
            key = (event.receiver, id(event.message))
            if not open_.get(key):
                wrong.append(event)

    with Cluster(seed=1, observers=(see,)) as cluster:
        cluster.produce("n1", b"x")
        cluster.run_for(2.0)
    assert wrong == []
