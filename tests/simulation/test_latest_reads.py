"""Reads of the latest state in simulated clusters: what they see, what watches them, and which states they reach."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ourolog.actors.messages.server import Refusal
from ourolog.actors.messages.values import ReadLevel
from ourolog.simulation import Cluster, Options, simulate
from ourolog.simulation.checker import Violation
from ourolog.simulation.client import OutOfRangeError, RefusedError
from ourolog.simulation.events import ClientInvoked, Event, Operation, OperationKind, OperationResult, Outcome
from ourolog.storage.types import NodeId, Offset
from tests.simulation.scene import Scene

STATIC = "static:n1,n2,n3"
LATEST = ReadLevel.LATEST


# ---------------------------------------------------------------- the checker


def led_by_n1() -> Scene:
    scene = Scene("latest_reads_linearizable")
    for name in ("n1", "n2", "n3"):
        scene.start(name, STATIC)
    return scene


def asks(scene: Scene, name: str, read: ReadLevel = LATEST, offset: int = 100) -> Callable[[int], None]:
    """A client asks that node where the log ends; the function gives the answer."""
    operation = Operation(OperationKind.CONSUME, offset=Offset(offset), read=read)
    operation_id = scene.invoke(name, operation)
    result = OperationResult(Outcome.REFUSED, detail=Refusal.OUT_OF_RANGE.value)

    def told(end: int) -> None:
        answer = OperationResult(result.outcome, end_offset=Offset(end), detail=result.detail)
        scene.answer(name, operation_id, operation, answer)

    return told


def test_an_end_below_what_a_node_knew_to_be_committed_before_the_read_is_seen() -> None:
    scene = led_by_n1()
    scene.commit("n1", 5)
    with pytest.raises(Violation, match=r"ends at 4; before it asked, all below 5 was committed: n1\.server"):
        asks(scene, "n3")(4)


def test_what_is_committed_while_a_read_is_under_way_it_may_miss() -> None:
    scene = led_by_n1()
    scene.commit("n1", 5)
    told = asks(scene, "n3")
    scene.commit("n1", 6)
    told(5)
    asks(scene, "n2")(6)


def test_an_end_below_one_that_an_earlier_read_was_told_is_seen_whoever_told_it() -> None:
    scene = led_by_n1()
    asks(scene, "n1")(7)
    with pytest.raises(Violation, match="c1 was told that the log ends there"):
        asks(scene, "n2")(6)


def test_an_end_below_what_a_quorum_has_acknowledged_or_a_client_has_read_is_seen() -> None:
    for acks in ("quorum", "all"):
        scene = led_by_n1()
        scene.produced("n1", "a", 3, acks=acks)
        with pytest.raises(Violation, match="acknowledged the last of them"):
            asks(scene, "n2")(3)
    scene = led_by_n1()
    scene.consumed("n2", 3, "a")
    with pytest.raises(Violation, match="had read the last of them"):
        asks(scene, "n3")(3)


def test_one_disks_word_and_reads_of_what_is_committed_bind_nobody() -> None:
    scene = led_by_n1()
    scene.produced("n1", "a", 3, acks="leader")
    asks(scene, "n2")(0)
    scene.commit("n1", 5)
    asks(scene, "n3", ReadLevel.COMMITTED)(0)


def test_a_read_that_was_refused_otherwise_says_nothing_of_the_end() -> None:
    scene = led_by_n1()
    scene.commit("n1", 5)
    operation = Operation(OperationKind.CONSUME, offset=Offset(9), read=LATEST)
    result = OperationResult(Outcome.REFUSED, end_offset=Offset(0), detail="damaged")
    scene.answer("n2", scene.invoke("n2", operation), operation, result)


# ---------------------------------------------------------------- clusters


def test_every_node_sees_at_once_what_was_acknowledged() -> None:
    with Cluster(seed=3, election=STATIC) as cluster:
        reader = cluster.client("reader")
        for number in range(20):
            offset = cluster.produce("n1", f"record {number}")
            for name in ("n3", "n2", "n1"):
                assert cluster.consume(name, offset, read=LATEST) == f"record {number}".encode()
        with pytest.raises(OutOfRangeError, match="holds"):
            reader.consume(20, read=LATEST)
        assert cluster.states.counts["latest_read_at_follower"] >= 40


def test_with_nobody_elected_a_read_of_the_latest_state_is_refused() -> None:
    with Cluster(seed=3) as cluster:
        cluster.produce("n1", "a")
        with pytest.raises(RefusedError, match=Refusal.NOBODY_ELECTED.value):
            cluster.consume("n1", 0, read=LATEST)


def led_by(cluster: Cluster, name: str) -> None:
    assert cluster.oracle is not None
    cluster.oracle.change(NodeId(name))
    cluster.run_until(lambda: cluster.leader_id == name)


def test_a_leader_that_was_replaced_and_has_not_heard_of_it_confirms_nothing_and_the_next_one_does() -> None:
    with Cluster(seed=5, election="oracle:n1,n2,n3") as cluster:
        led_by(cluster, "n1")
        cluster.client().produce("of the first leader")
        cluster.isolate("n1")
        assert cluster.oracle is not None
        cluster.oracle.calm((NodeId("n2"), NodeId("n3")))
        cluster.run_until(lambda: cluster.leader_id != "n1")
        cluster.run_for(1.0)
        offset = cluster.produce(str(cluster.leader_id), "of the second leader")
        assert cluster.consume("n2", offset, read=LATEST) == b"of the second leader"
        assert cluster.consume("n3", offset, read=LATEST) == b"of the second leader"
        with pytest.raises(RefusedError, match=Refusal.NOT_CONFIRMED.value):
            cluster.consume("n1", 0, read=LATEST)
        assert cluster.consume("n1", 0) == b"of the first leader"
        states = cluster.states.counts
        assert states["latest_read_at_deposed_leader"] == 1
        cluster.heal()


def test_a_read_that_waits_at_a_leader_in_its_last_moment_is_answered_by_the_next_one() -> None:
    with Cluster(seed=5, election="oracle:n1,n2,n3") as cluster:
        led_by(cluster, "n1")
        cluster.client().produce("a")
        cluster.isolate("n1")
        answers: list[OperationResult] = []
        read = Operation(OperationKind.CONSUME, offset=Offset(0), read=LATEST)
        cluster.calls.consume("n1", NodeId("n1"), read, 5.0, lambda result, _: answers.append(result), wait=False)
        cluster.run_for(0.2)
        assert answers == []
        led_by(cluster, "n2")
        cluster.heal()
        cluster.run_until(lambda: bool(answers))
        assert answers[0].value == b"a"
        assert cluster.states.counts["latest_read_voided"] == 1


def test_each_node_has_a_watcher_that_asks_where_somebody_leads_and_none_elsewhere() -> None:
    asked: dict[str, set[NodeId]] = {}

    def observe(event: Event) -> None:
        if isinstance(event, ClientInvoked) and event.operation.read is LATEST:
            asked.setdefault(event.client, set()).add(event.node_id)

    assert simulate(Options(1, election=STATIC, minutes=0.2, faults=()), observers=(observe,)).violations == ()
    assert asked == {f"watcher-{name}": {NodeId(name)} for name in ("n1", "n2", "n3")}
    asked.clear()
    simulate(Options(1, minutes=0.2, faults=()), observers=(observe,))
    assert asked == {}
