"""What a report says of a run, before any browser has seen it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import CycleSeen
from ourolog.actors.messages.store import AppendBatch, BallotSaved, FsyncDue, SaveBallot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Cluster, Options, Violation, simulate
from ourolog.simulation.events import (
    ClientInvoked,
    Event,
    FaultInjected,
    MessageTold,
    NodeCrashed,
    NodeSaid,
    NodeStarted,
    Operation,
    OperationKind,
    PartitionMade,
)
from ourolog.simulation.report import Header, Recorder, render_report
from ourolog.simulation.report.causes import explain
from ourolog.simulation.report.overview import headline, journey, most_copied, pull_graph, returned
from ourolog.simulation.report.rows import Lead, RowKind, Vote, Window
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import START, Index, NodeId, Term
from tests.simulation.scene import config


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found.group(1))
    return data


# ---------------------------------------------------------------- what is kept


def test_memory_is_bounded_however_long_a_run_is(recorded: Callable[..., Recorder]) -> None:
    window = recorded(limit=50).window()
    assert len(window.rows) <= 3 * 50
    assert window.dropped > 0


def test_landmarks_outlive_the_traffic_around_them() -> None:
    recorder = Recorder(limit=10)
    recorder.see(PartitionMade(0.5, "isolate", ((NodeId("n1"), NodeId("n2")),)))
    recorder.see(FaultInjected(0.6, "bit_rot", "n2"))
    for number in range(1000):
        recorder.see(MessageTold(1.0 + number, "", "n1.store", number))
    kinds = [row.kind for row in recorder.window().rows]
    assert kinds.count(RowKind.NETWORK) == kinds.count(RowKind.FAULT) == 1
    assert kinds.count(RowKind.MESSAGE) == 10


def test_what_a_timer_told_is_a_timer_s_row_whatever_it_is_called() -> None:
    recorder = Recorder()
    recorder.see(MessageTold(1.0, "", "n1.store", "tick", by_timer=True))
    recorder.see(MessageTold(2.0, "", "n1.store", FsyncDue()))
    assert [row.kind for row in recorder.window().rows] == [RowKind.TIMER, RowKind.MESSAGE]


def test_a_run_tells_its_timers_from_all_else_that_comes_from_outside(recorded: Callable[..., Recorder]) -> None:
    rows = recorded(cycle="break").window().rows
    timers = {row.label for row in rows if row.kind is RowKind.TIMER}
    assert {"PullRetryDue", "FetchWaitExpired"} & timers
    assert not timers & {row.label for row in rows if row.kind is RowKind.MESSAGE}


def test_the_operations_of_dead_nodes_do_not_pile_up() -> None:
    recorder = Recorder(limit=10)
    operation = Operation(OperationKind.PRODUCE, value=b"x")
    for number in range(30_000):
        recorder.see(ClientInvoked(float(number), "c1", number, NodeId("n1"), operation))
    assert len(recorder._operations) <= 20_000


def test_watching_changes_nothing(recorded: Callable[..., Recorder]) -> None:
    def hash_of(*observers: Recorder) -> str:
        with Cluster(seed=3, nodes=3, observers=observers) as cluster:
            cluster.produce("n1", "foo")
            cluster.run_for(2.0)
            return cluster.trace_hash

    assert hash_of() == hash_of(Recorder())


# ---------------------------------------------------------------- causes


def causes_of(window: Window, row_id: int) -> list[str]:
    rows = {row.row_id: row for row in window.rows}
    found = []
    while row_id in rows:
        found.append(rows[row_id].label)
        row_id = rows[row_id].cause
    return found


def test_an_append_on_a_follower_is_traced_back_to_the_client_that_asked_the_leader() -> None:
    recorder = Recorder()
    with Cluster(seed=5, nodes=2, election="static", observers=(recorder,)) as cluster:
        cluster.run_for(1.0)
        cluster.produce("n1", "foo")
        cluster.run_for(1.0)
    window = recorder.window()
    write = next(copy.via for copy in window.copies if copy.node_id == "n2")
    labels = causes_of(window, write)
    assert labels[-1] == "produce"
    assert "fetch answer" in labels
    assert AppendBatch.__name__ in labels


def test_the_steps_to_a_violation_are_those_of_the_record_it_names(recorded: Callable[..., Recorder]) -> None:
    window = recorded(election="static").window()
    explanation = explain(window, Violation("lost", "it is gone", window.end_s, (b"foo",)))
    rows = {row.row_id: row for row in window.rows}
    labels = [rows[row_id].label for row_id in explanation.chain]
    assert {"produce", "Produce", "AppendBatch", "write", "Produced"} & set(labels) >= {
        "produce",
        "AppendBatch",
        "write",
    }
    assert [rows[row_id].step for row_id in explanation.chain] == sorted(
        rows[row_id].step for row_id in explanation.chain
    )


def test_a_violation_that_names_nothing_is_explained_by_what_happened_last() -> None:
    recorder = Recorder()
    recorder.see(FaultInjected(1.0, "bit_rot", "n1"))
    recorder.see(MessageTold(2.0, "", "n1.store", "hello"))
    recorder.see(MessageTold(3.0, "", "n2.store", "later than the violation"))
    explanation = explain(recorder.window(), Violation("claim", "?", 2.5))
    rows = {row.row_id: row for row in recorder.window().rows}
    assert [rows[row_id].target for row_id in explanation.chain] == ["n1.store"]
    assert [rows[row_id].label for row_id in explanation.harm] == ["bit_rot"]


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    ("settings", "kind", "sentence"),
    [
        ({"nodes": 2, "cycle": "allow", "max_hops": 3}, "again", "every copy was copied again"),
        ({"cycle": "break"}, "good", "each of the 3 nodes holds it once"),
        ({"election": "static"}, "good", "each of the 3 nodes holds it once"),
    ],
    ids=["cycle allowed", "cycle broken", "static leader"],
)
def test_the_headline_says_what_became_of_the_record(
    settings: dict[str, object], kind: str, sentence: str, recorded: Callable[..., Recorder]
) -> None:
    found, text = headline(recorded(**settings).window())
    assert found == kind
    assert sentence in text


def test_the_headline_of_a_failed_run_does_not_say_what_nodes_hold(recorded: Callable[..., Recorder]) -> None:
    for settings in ({"nodes": 1}, {"cycle": "break"}, {"nodes": 2, "cycle": "allow", "max_hops": 3}):
        kind, text = headline(recorded(**settings).window(), has_failed=True)
        assert kind == "neutral"
        assert "holds" not in text
        assert "copied again" not in text


def test_one_node_that_holds_its_record_is_told_by_its_name(recorded: Callable[..., Recorder]) -> None:
    assert headline(recorded(nodes=1).window())[1] == "1 record was produced, and n1 holds it once: 1 in all."


def test_what_comes_back_to_a_new_disk_is_not_told_as_a_copy_of_a_copy() -> None:
    recorder = Recorder()
    with Cluster(seed=1, nodes=2, cycle="break", observers=(recorder,)) as cluster:
        cluster.run_for(1.0)
        cluster.produce("n1", "foo")
        cluster.run_for(2.0)
        cluster.crash("n1")
        cluster.wipe("n1")
        cluster.restart("n1")
        cluster.run_for(5.0)
    window = recorder.window()
    assert any(copy.came_back for copy in window.copies)
    kind, text = headline(window)
    assert kind == "neutral"
    assert "1 came back to a node that had lost them" in text
    drawn = journey(window, most_copied(window))
    assert 'class="flow"' in drawn
    for picture in (drawn, pull_graph(window)):
        assert 'class="back"' not in picture
        assert " again" not in picture


def test_a_run_that_ended_before_a_node_said_that_it_saw_a_cycle_shows_it_all_the_same() -> None:
    recorder = Recorder()

    def deaf(event: Event) -> None:
        if not (isinstance(event, NodeSaid) and isinstance(event.event, CycleSeen)):
            recorder.see(event)

    with Cluster(seed=7, nodes=2, cycle="allow", max_hops=3, observers=(deaf,)) as cluster:
        cluster.run_for(2.0)
        cluster.produce("n1", "foo")
        cluster.run_for(1.0)
    window = recorder.window()
    assert headline(window)[0] == "again"
    assert returned(window)
    for picture in (journey(window, most_copied(window)), pull_graph(window)):
        assert 'class="back"' in picture


def test_the_pull_graph_is_a_cycle_without_a_leader_and_a_star_with_one(recorded: Callable[..., Recorder]) -> None:
    assert recorded(nodes=2).window().pulls == [("n1", "n2"), ("n2", "n1")]
    assert recorded(election="static").window().pulls == [("n1", "n2"), ("n1", "n3")]


def test_the_pull_graph_outlives_the_rows_that_told_of_it() -> None:
    recorder = Recorder(limit=1)
    with Cluster(seed=3, nodes=2, observers=(recorder,)) as cluster:
        cluster.run_for(2.0)
    assert recorder.window().pulls == [("n1", "n2"), ("n2", "n1")]


def test_who_led_when_is_kept_and_drawn_with_the_terms_the_votes_and_the_times_down() -> None:
    recorder = Recorder()
    n1, n2 = NodeId("n1"), NodeId("n2")
    for name in (n1, n2):
        recorder.see(NodeStarted(0.0, name, config(name)))
    asked = SaveBallot(1, Ballot(Term(7), n1), Probe(), LastEntry(Term(0), Index(0)))
    for time_s, number, granted in ((1.0, 1, True), (1.5, 2, False)):
        recorder.see(MessageTold(time_s, "n2.election", "n2.store", replace(asked, request_id=number)))
        saved = BallotSaved(number, asked.ballot, granted, START, None, None)
        recorder.see(MessageTold(time_s, "n2.store", "n2.election", saved))
    recorder.see(NodeSaid(2.0, n1, LeaderChanged(Term(7), n1)))
    recorder.see(NodeSaid(2.5, n1, LeaderChanged(Term(7), n1)))
    recorder.see(NodeCrashed(5.0, n1, power_lost=False))
    recorder.see(NodeSaid(6.0, n2, LeaderChanged(Term(8), n2)))
    window = recorder.window()
    assert window.leads == [Lead(n1, Term(7), 2.0, 5.0), Lead(n2, Term(8), 6.0)]
    assert window.votes == [Vote(1.0, n2, n1, Term(7), True), Vote(1.5, n2, n1, Term(7), False)]
    assert window.down == {n1: [(5.0, 6.0)]}
    page = render_report(window, Header("led"))
    for told in (
        "n1 leads term 7, 2.000 to 5.000 s",
        "n2 leads term 8, 6.000 to the end",
        "n2 votes for n1 in term 7, at 1.000 s",
        "n2 refuses its vote to n1 in term 7, at 1.500 s",
        "n1 is down, 5.000 to 6.000 s",
    ):
        assert f"<title>{told}</title>" in page


@pytest.mark.parametrize("election", ["static", "oracle", "decrees"])
def test_every_run_with_leaders_shows_who_led(election: str, recorded: Callable[..., Recorder]) -> None:
    recorder = Recorder()
    options = Options(3, election=election, faults=("kill", "pause"), minutes=0.2)
    simulate(options, observers=(recorder,))
    window = recorder.window()
    assert {lead.node_id for lead in window.leads} <= set(window.nodes)
    assert all(lead.end_s is None or lead.begin_s <= lead.end_s for lead in window.leads)
    assert bool(window.votes) == (election == "oracle")
    page = render_report(window, Header("led"))
    assert len(re.findall(r"<title>n\d leads term ", page)) == len(window.leads) > 0
    assert "Who led when" not in render_report(recorded(cycle="break").window(), Header("nobody leads"))


def test_leads_and_votes_are_bounded_however_many_there_are() -> None:
    recorder = Recorder(limit=10)
    for term in range(100):
        recorder.see(NodeSaid(float(term), NodeId("n1"), LeaderChanged(Term(term), NodeId("n1"))))
    assert [lead.term for lead in recorder.window().leads] == list(range(90, 100))


# ---------------------------------------------------------------- the page


def test_the_page_loads_nothing_from_anywhere(cycle_page: str, failing_page: str) -> None:
    for page in (cycle_page, failing_page):
        assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)|@import|url\((?!#)|https?://""", page)
        assert "default-src 'none'" in page


def test_the_same_run_makes_the_same_page(recorded: Callable[..., Recorder]) -> None:
    pages = {render_report(recorded().window(), Header("twice")) for _ in range(2)}
    assert len(pages) == 1


def test_a_record_cannot_write_itself_into_the_page() -> None:
    recorder = Recorder()
    evil = b"</script><script>alert(1)</script>"
    with Cluster(seed=1, nodes=1, observers=(recorder,)) as cluster:
        cluster.produce("n1", evil)
    violation = Violation("<b>claim</b>", "<img src=x>", recorder.now_s)
    page = render_report(recorder.window(), Header("<i>title</i>", "<u>replay</u>"), [violation])
    assert page.count("<script") == 2
    assert not re.search(r"<(b>claim|img|i>title|u>replay)", page)
    assert any(evil.decode() in row[7] for row in data_of(page)["rows"])


def test_a_failing_page_has_the_claim_its_statement_and_the_command(failing_page: str) -> None:
    assert "Violated: acknowledged_lost" in failing_page
    assert "What was acknowledged is never lost." in failing_page
    assert "ourolog simulate --seed 7" in failing_page
    (violation,) = data_of(failing_page)["violations"]
    assert violation["chain"]
    labels = data_of(failing_page)["labels"]
    rows = {row[0]: labels[row[6]] for row in data_of(failing_page)["rows"]}
    assert {rows[row_id] for row_id in violation["harm"]} >= {"partition: isolate", "crashed", "restarted"}
