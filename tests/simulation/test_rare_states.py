"""Rare states: each is noted when it is reached, and a sweep that misses one says so."""

from __future__ import annotations

import json

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import FailureKind, NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, FetchOutcome, FetchResponse
from ourolog.cli import cli
from ourolog.simulation import Cluster, Options, simulate
from ourolog.simulation.events import FaultInjected, MessageTold, NodeSaid, Operation, OperationKind
from ourolog.simulation.rare_states import STATES, RareStates
from ourolog.simulation.reach import MUST_REACH, missed_states, mode_of, never_reached
from ourolog.simulation.replication_states import ReplicationStates
from ourolog.storage.types import START, NodeId, Offset, Term

N1 = NodeId("n1")


def test_every_state_that_must_be_reached_is_one_and_says_what_it_is() -> None:
    for states in MUST_REACH.values():
        assert set(states) <= set(STATES)
        assert len(set(states)) == len(states)
    assert all(sentence.endswith(".") for sentence in STATES.values())


@pytest.mark.parametrize(
    ("said", "reached"),
    [
        (NodeWarned(N1, "store", WarningKind.TORN_TAIL_CUT, "cut"), {"torn_tail_cut": 1}),
        (NodeWarned(N1, "store", WarningKind.RETENTION_HELD_BACK, "kept"), {"retention_held_back": 1}),
        (NodeWarned(N1, "store", WarningKind.DAMAGED, "a file"), {"damage_found": 1}),
        (NodeWarned(N1, "replicator", WarningKind.KEEPS_ITS_COPY, "no"), {"kept_its_copy": 1}),
        (NodeWarned(N1, "replicator", WarningKind.PULL_REFUSED, "n2 refused the pull: its file is damaged"), {}),
        (NodeWarned(N1, "election", WarningKind.LEAD_GIVEN_UP, "no room"), {"lead_given_up": 1}),
        (NodeFailed(N1, "store", FailureKind.DAMAGED, "a file"), {"node_failed": 1, "damage_found": 1}),
        (NodeFailed(N1, "store", FailureKind.DISK_FULL, "the disk that is damaged is full"), {"node_failed": 1}),
    ],
)
def test_what_a_node_warns_of_is_counted_by_its_kind_whatever_its_words(
    said: NodeWarned | NodeFailed, reached: dict[str, int]
) -> None:
    with Cluster(seed=1, nodes=1) as cluster:
        states = RareStates()
        states.see(NodeSaid(1.0, N1, said), cluster)
        assert states.counts == reached


def test_who_gives_up_the_lead_while_its_disk_hangs_is_told_from_others() -> None:
    with Cluster(seed=1, nodes=1) as cluster:
        states = RareStates()
        states.see(FaultInjected(1.0, "disk_hangs", "n1", until_s=6.0), cluster)
        for time_s in (5.9, 6.1):
            states.see(NodeSaid(time_s, N1, NodeWarned(N1, "election", WarningKind.LEAD_GIVEN_UP, "why")), cluster)
        assert states.counts == {"lead_given_up_hung": 1, "lead_given_up": 1}


def test_a_mode_is_asked_for_what_it_can_reach() -> None:
    assert mode_of(Options(1, election="static:n2")) == "static"
    assert mode_of(Options(1, election="oracle:n1")) == "oracle"
    assert mode_of(Options(1, election="raft:n1,n2")) == "raft"
    assert mode_of(Options(1, cycle="allow")) == "none allow"
    assert "divergence" in missed_states(Options(1, election="oracle"), ())
    assert "divergence" not in missed_states(Options(1, election="oracle"), ("divergence",))
    assert "divergence" not in never_reached(Options(1), ())
    assert {"cycle_seen", "name_clashed"} <= set(never_reached(Options(1), ("duplicate_dropped",)))


def test_an_oracle_s_changes_make_logs_part_and_come_together() -> None:
    needed = {"divergence", "truncation", "change_in_flight", "parked_fetch_over_term", "produce_at_deposed_leader"}
    for seed in range(12):
        needed -= set(simulate(Options(seed, election="oracle", minutes=0.5), checkers=()).states)
        if not needed:
            return
    raise AssertionError(f"not reached: {sorted(needed)}")


def test_a_reader_that_waits_at_the_end_is_seen_to_be_woken() -> None:
    with Cluster(seed=1, nodes=1) as cluster:
        answers: list[object] = []
        read = Operation(OperationKind.CONSUME, offset=Offset(0))
        cluster.calls.consume("reader", NodeId("n1"), read, 5.0, lambda result, _: answers.append(result), wait=True)
        cluster.run_for(1.0)
        assert (answers, cluster.states.counts.get("reader_woken")) == ([], None)
        cluster.produce("n1", b"x")
        cluster.run_for(1.0)
        assert (len(answers), cluster.states.counts["reader_woken"]) == (1, 1)


def test_who_asks_too_much_at_once_is_seen_to_be_refused() -> None:
    with Cluster(seed=1, nodes=3, election="static", max_waiting_requests=1) as cluster:
        cluster.isolate("n1")
        for value in (b"waits for a quorum", b"is refused"):
            produce = Operation(OperationKind.PRODUCE, value=value)
            cluster.calls.produce("producer", NodeId("n1"), produce, 5.0, lambda *_: None)
            cluster.run_for(1.0)
        assert cluster.states.counts["inbox_full"] == 1


def test_who_led_and_comes_back_with_less_than_a_follower_is_counted() -> None:
    with Cluster(seed=1, nodes=3, election="oracle") as cluster:
        oracle = cluster.oracle
        assert oracle is not None

        def lead() -> NodeId:
            oracle.change()
            cluster.run_for(1.0)
            leader_id = oracle.leader_id
            assert leader_id is not None
            cluster.client("app").produce(b"a record")
            cluster.run_for(3.0)
            return leader_id

        first = lead()
        cluster.crash(first)
        cluster.start(first, wait=False)
        cluster.run_for(1.0)
        assert "leader_restarted_shorter" not in cluster.states.counts
        second = lead()
        cluster.crash(second)
        cluster.wipe(second)
        oracle.trusts = lambda node_id: node_id != second
        cluster.start(second, wait=False)
        cluster.run_for(1.0)
        assert cluster.states.counts["leader_restarted_shorter"] == 1
        lead()
        cluster.run_for(5.0)


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_sweep_that_misses_a_state_has_failed_if_it_must_reach_it(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", "--seeds", "2", "--minutes", "0.05", "--faults", "none", "--election", "oracle"]
    words += ["--output", output, "--executor", "concurrent.futures:ThreadPoolExecutor"]
    assert cli.main(words, standalone_mode=False) == 0
    shown = capsys.readouterr()
    assert "missed" not in shown.err
    assert cli.main([*words, "--must-reach"], standalone_mode=False) == 1
    shown = capsys.readouterr()
    assert "missed: disk_replaced\n  A node was started again on an empty disk. 2 seeds of this mode" in shown.err
    if output == "json":
        found = json.loads(shown.out)
        assert "disk_replaced" in found["missed"]
        assert set(found["missed"]) <= set(found["never"])
    else:
        assert "\n  never   " in shown.out


def test_batches_that_a_leader_serves_in_another_s_term_are_seen_though_its_store_answers_the_fetch() -> None:
    reached: list[str] = []
    states = ReplicationStates(reached.append)
    for term, name in enumerate(("n1", "n2"), start=1):
        states.see(MessageTold(0.0, f"{name}.election", f"{name}.replicator", LeaderChanged(Term(term), NodeId(name))))
    response = FetchResponse(FetchOutcome.BATCHES, Term(1), 5, START, START, START, batches=b"some")
    states.see(MessageTold(1.0, "n2.store", "n3", CallAnswer(1, response)))
    assert "two_leaders_serve" not in reached
    states.see(MessageTold(2.0, "n1.store", "n3", CallAnswer(2, response)))
    assert reached[-1] == "two_leaders_serve"
