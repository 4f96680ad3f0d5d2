"""Reads that say what was seen, replicas that are named, who is waited for: the checkers, and the states of runs."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.events import LeaderChanged, ReplicasAdvanced, VotersChanged
from ourolog.actors.messages.server import Consume, Produced, Refusal, RequestRefused
from ourolog.actors.messages.store import ReadBatches
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Options, simulate
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import Operation, OperationKind, OperationResult, Outcome
from ourolog.storage.types import Index, NodeId, Offset, Term
from tests.simulation.scene import Scene, batch

STATIC = "static:n1,n2,n3"
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def scene(claim: str, **settings: Any) -> Scene:
    found = Scene(claim)
    for name in ("n1", "n2", "n3"):
        found.start(name, STATIC, settings=settings)
    return found


# ---------------------------------------------------------------- what a client has seen


def asks(found: Scene, seen_end: int, *, wait: bool = False) -> None:
    found.tell("c1", "n1.server", Consume(7, Offset(0), 100, wait, Probe(), timeout_s=2.0, seen_end=Offset(seen_end)))


def reads(found: Scene) -> None:
    found.tell("n1.server", "n1.store", ReadBatches(7, 100, Index(5), Probe(), offset=Offset(0)))


def test_a_node_that_reads_for_a_client_that_has_seen_more_than_it_has_is_noticed() -> None:
    found = scene("read_your_writes")
    found.commit("n1", 5)
    asks(found, 5)
    reads(found)
    asks(found, 6)
    with pytest.raises(Violation, match="has seen all below 6, and has committed what is below 5"):
        reads(found)


def test_an_end_below_what_a_client_has_seen_is_noticed_at_the_node_and_at_the_client() -> None:
    found = scene("read_your_writes")
    found.commit("n1", 5)
    asks(found, 6)
    with pytest.raises(Violation, match="says that its log ends at 5"):
        found.tell("n1.server", "c1", RequestRefused(7, Refusal.OUT_OF_RANGE, "", end=Offset(5)))
    operation = Operation(OperationKind.CONSUME, offset=Offset(9), seen_end=Offset(6))
    operation_id = found.invoke("n1", operation)
    answer = OperationResult(Outcome.REFUSED, end_offset=Offset(5), detail=Refusal.OUT_OF_RANGE.value)
    with pytest.raises(Violation, match="told it that the log ends at 5"):
        found.answer("n1", operation_id, operation, answer)


def test_a_read_that_waits_though_so_much_is_committed_or_its_time_is_up_is_noticed() -> None:
    found = scene("read_your_writes")
    found.wait(1.0)
    asks(found, 6)
    found.commit("n1", 6)
    found.wait(0.4)
    with pytest.raises(Violation, match="has not answered read 7 of a client that has seen all below 6"):
        found.wait(0.4)
    found = scene("read_your_writes")
    found.wait(1.0)
    asks(found, 6)
    found.wait(2.0)
    with pytest.raises(Violation, match="has not answered read 7"):
        found.wait(1.0)


def test_who_says_that_it_is_behind_though_it_is_not_is_noticed() -> None:
    found = scene("read_your_writes")
    found.commit("n1", 6)
    asks(found, 6)
    found.time_s += 0.6
    with pytest.raises(Violation, match="says that it is behind a client that has seen all below 6"):
        found.tell("n1.server", "c1", RequestRefused(7, Refusal.BEHIND, ""))


# ---------------------------------------------------------------- who is named


def acknowledged(*replicas: str) -> Produced:
    return Produced(7, Offset(0), Term(0), Index(0), tuple(NodeId(name) for name in replicas))


def test_a_replica_that_is_named_and_does_not_have_the_record_on_disk_is_noticed() -> None:
    found = scene("replicas_true")
    found.append("n1", batch(0, "a"))
    found.append("n2", batch(0, "a"))
    found.tell("n1.server", "c1", acknowledged("n1", "n2"))
    with pytest.raises(Violation, match="names n1, n2, n3, and n3 does not have it on disk"):
        found.tell("n1.server", "c1", acknowledged("n1", "n2", "n3"))
    with pytest.raises(Violation, match="names a replica twice"):
        found.tell("n1.server", "c1", acknowledged("n1", "n1"))
    with pytest.raises(Violation, match="does not name itself"):
        found.tell("n1.server", "c1", acknowledged("n2"))


# ---------------------------------------------------------------- who is waited for


def leads(found: Scene) -> None:
    found.wait(1.0)
    found.tell("n1.election", "n1.replicator", VotersChanged((N1, N2, N3)))
    found.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N1))


def news(index: int, *ends: int) -> ReplicasAdvanced:
    by_voter = tuple((voter, Index(end)) for voter, end in zip((N1, N2, N3), ends, strict=True))
    return ReplicasAdvanced(Term(1), Index(index), by_voter, (N1, N2, N3))


def test_a_leader_that_goes_on_waiting_for_a_silent_voter_is_noticed() -> None:
    found = scene("in_sync_waited_for", min_in_sync=1)
    leads(found)
    found.tell("n1.replicator", "n1.server", news(0, 4, 0, 0))
    found.wait(4.0)
    found.wait(2.0)
    with pytest.raises(Violation, match="everybody that is not silent has had what is below 4"):
        found.wait(4.0)


def test_a_leader_that_counts_fewer_voters_than_it_must_is_noticed() -> None:
    found = scene("in_sync_waited_for", min_in_sync=2)
    leads(found)
    with pytest.raises(Violation, match="2 voters must, and by their last fetches they have n1 0, n2 0, n3 0"):
        found.tell("n1.replicator", "n1.server", news(4, 4, 4, 4))


# ---------------------------------------------------------------- whole runs


def test_runs_come_to_reads_that_wait_for_what_was_seen() -> None:
    states: dict[str, int] = {}
    for seed in range(4):
        result = simulate(Options(seed, election="raft", nodes=4, minutes=0.4))
        assert result.violations == ()
        for state, count in result.states.items():
            states[state] = states.get(state, 0) + count
    assert states.get("read_waited_for_seen", 0) > 0
