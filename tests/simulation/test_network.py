"""The simulated network: what can happen to a packet, and to a call."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    CallRefused,
    CallReturned,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.server import Produce
from ourolog.actors.messages.values import Peer
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.cluster import Cluster
from ourolog.simulation.events import (
    Event,
    FaultInjected,
    LossCause,
    MessageTold,
    Operation,
    OperationKind,
    OperationResult,
    PacketDelivered,
    PacketLost,
    PacketSent,
)
from ourolog.simulation.links import Chances, Links, links_between, ring
from ourolog.simulation.network import NodeNetwork
from ourolog.storage.types import START, NodeId, Term


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(seed=5, nodes=3) as cluster:
        yield cluster


def watch(cluster: Cluster) -> list[Event]:
    seen: list[Event] = []
    cluster.subscribe(seen.append)
    return seen


def test_packets_overtake_each_other_since_each_has_a_delay_of_its_own() -> None:
    links = Links(Random(1))
    delays = [links.delay_s("n1", "n2", 0.0) for _ in range(100)]
    assert min(delays) > 0
    assert any(later + 0.0001 < earlier for earlier, later in pairwise(delays))


def test_every_direction_of_a_link_has_a_least_delay_of_its_own() -> None:
    links = Links(Random(1))
    least = {link: min(links.delay_s(*link, 0.0) for _ in range(200)) for link in (("n1", "n2"), ("n2", "n1"))}
    assert least["n1", "n2"] != least["n2", "n1"]


def test_a_clogged_link_delivers_only_when_it_is_free_again() -> None:
    links = Links(Random(1))
    links.clog(("n1", "n2"), 10.0)
    assert links.delay_s("n1", "n2", 4.0) >= 6.0
    assert links.delay_s("n2", "n1", 4.0) < 1.0
    assert links.delay_s("n1", "n2", 10.0) < 1.0


def test_replies_are_lost_after_the_work_was_done_and_requests_are_not() -> None:
    links = Links(Random(1))
    links.chances = Chances(reply_lost=1.0)
    assert links.fate("n1", "n2", 0.0, may_repeat=False, is_reply=True).fault == "reply_lost"
    assert links.fate("n1", "n2", 0.0, may_repeat=False, is_reply=False).fault == ""


def test_only_what_may_come_twice_is_duplicated_or_replayed() -> None:
    links = Links(Random(1))
    links.chances = Chances(duplicate=0.5, replay=0.5)
    assert len(links.fate("n1", "n2", 0.0, may_repeat=False, is_reply=False).delays_s) == 1
    fates = [links.fate("n1", "n2", 0.0, may_repeat=True, is_reply=False) for _ in range(100)]
    assert {fate.fault for fate in fates} >= {"duplicate", "replay"}
    assert all(len(fate.delays_s) == 2 for fate in fates if fate.fault)


def test_a_ring_of_five_leaves_every_node_in_a_majority_and_no_two_the_same_one() -> None:
    names = [f"n{number}" for number in range(1, 6)]
    blocked = set(ring(names))
    majorities = {
        frozenset(other for other in names if other == name or (name, other) not in blocked) for name in names
    }
    assert len(majorities) == 5
    assert all(len(majority) == 3 for majority in majorities)


def test_groups_are_parted_in_both_directions() -> None:
    assert set(links_between([["a"], ["b", "c"]])) == {("a", "b"), ("a", "c"), ("b", "a"), ("c", "a")}


def test_nothing_passes_a_partition_not_even_what_was_under_way(cluster: Cluster) -> None:
    seen = watch(cluster)
    cluster.isolate("n1")
    cluster.run_for(5.0)
    crossing = [
        event for event in seen if isinstance(event, PacketDelivered) and NodeId("n1") in (event.source, event.target)
    ]
    assert crossing == []
    assert {event.cause for event in seen if isinstance(event, PacketLost)} == {LossCause.PARTITION}


def test_a_one_way_cut_leaves_the_other_way_open(cluster: Cluster) -> None:
    seen = watch(cluster)
    cluster.cut("n1", "n2")
    cluster.run_for(3.0)
    delivered = {(event.source, event.target) for event in seen if isinstance(event, PacketDelivered)}
    assert ("n1", "n2") not in delivered
    assert ("n2", "n1") in delivered


def test_every_packet_is_delivered_or_lost_under_the_number_it_was_sent_with(cluster: Cluster) -> None:
    seen = watch(cluster)
    cluster.network.links.chances = Chances(loss=0.2, duplicate=0.2, replay=0.2, reply_lost=0.2)
    cluster.run_for(20.0)
    cluster.network.links.heal()
    sent = [event.packet_id for event in seen if isinstance(event, PacketSent)]
    ended = {event.packet_id for event in seen if isinstance(event, PacketDelivered | PacketLost)}
    under_way = [packet_id for packet_id in sent if packet_id not in ended]
    assert len(sent) == len(set(sent))
    assert all(packet_id > sent[-1] - 50 for packet_id in under_way)
    assert {event.kind for event in seen if isinstance(event, FaultInjected)} == {
        "loss",
        "duplicate",
        "replay",
        "reply_lost",
    }


def test_a_call_to_a_node_that_is_down_fails_soon_and_for_certain(cluster: Cluster) -> None:
    from ourolog.simulation.client import RefusedError

    cluster.stop("n2")
    before_s = cluster.now_s
    with pytest.raises(RefusedError, match="nobody listens at n2"):
        cluster.produce("n2", b"x")
    assert cluster.now_s - before_s < 0.1


def test_a_call_across_a_partition_ends_with_its_time_and_nobody_knows_how(cluster: Cluster) -> None:
    from ourolog.simulation.client import OutcomeUnknownError

    cluster.network.links.block([("console", "n2")])
    with pytest.raises(OutcomeUnknownError, match="did not answer in time"):
        cluster.produce("n2", b"x")


def test_a_lost_reply_leaves_the_record_in_the_log_and_the_client_in_doubt(cluster: Cluster) -> None:
    from ourolog.simulation.client import OutcomeUnknownError

    cluster.network.links.block([("n2", "console")])
    with pytest.raises(OutcomeUnknownError):
        cluster.produce("n2", b"in doubt")
    cluster.network.links.unblock_all()
    assert [record.value for record in cluster.records("n2")] == [b"in doubt"]


def test_calls_in_one_packet_arrive_at_once_or_not_at_all(cluster: Cluster) -> None:
    results: list[tuple[float, str]] = []

    def ask() -> list[object]:
        before = len(results)
        events = watch(cluster)

        def returned(result: OperationResult, _: NodeId | None) -> None:
            results.append((cluster.now_s, result.outcome))

        first, second = (Operation(OperationKind.PRODUCE, value=value) for value in (b"a", b"b"))
        call = cluster.calls.produce("c", N2, first, 1.0, returned)
        cluster.calls.produce("c", N2, second, 1.0, returned, beside=call)
        cluster.run_until(lambda: len(results) == before + 2)
        told = [event for event in events if isinstance(event, MessageTold) and isinstance(event.message, Produce)]
        return [event.time_s for event in told]

    first_s, second_s = ask()
    assert first_s == second_s
    cluster.stop("n2")
    assert ask() == []
    assert [outcome for _, outcome in results] == ["ok", "ok", "refused", "refused"]


def test_pulls_go_on_after_their_connections_were_cut(cluster: Cluster) -> None:
    cluster.network.links.chances = Chances(stream_cut=0.5)
    for number in range(20):
        cluster.produce("n1", f"{number}")
        cluster.run_for(0.5)
    cluster.network.links.heal()
    cluster.run_for(10.0)
    assert len(cluster.records("n3")) == 20
    assert cluster.stream.faults["stream_cut"] > 3


# ---------------------------------------------------------------- calls between nodes

N1, N2 = NodeId("n1"), NodeId("n2")
ASKED = LogEndRequest("ourolog", N1, 1, "none", Term(0))
TOLD = LogEndResponse(N2, 7, Term(0), None, START, None, START)


Response = LogEndResponse | CallRefused


def answering(monkeypatch: pytest.MonkeyPatch, responses: Iterable[Response | None]) -> list[CallReceived[Any]]:
    """Elections that answer call by call as they are told to, None for not at all; the calls that come are kept."""
    left, received = iter(responses), []

    def on_call(_: ElectionActor, call: CallReceived[Any]) -> None:
        received.append(call)
        response = next(left)
        if response is not None:
            call.reply_to.tell(CallAnswer(call.request_id, response))

    monkeypatch.setattr(ElectionActor, "_refuse_call", on_call)
    return received


def ask(cluster: Cluster, request_id: int, answers: Probe) -> None:
    NodeNetwork(cluster.network, N1, "n1:8401").call(Peer(N2, "n2:8400"), request_id, ASKED, answers)


def test_a_call_goes_to_the_actor_that_answers_it_and_is_seen_by_its_kind(cluster: Cluster) -> None:
    seen, answers = watch(cluster), Probe()
    ask(cluster, 4, answers)
    cluster.run_for(1.0)
    assert answers.received == [
        CallFailed(N2, 4, 'n2 runs with --election none, which does not answer the call "log end"', is_declined=True)
    ]
    sent = [event for event in seen if isinstance(event, PacketSent) and event.what == "log end"]
    assert [(event.source, event.target) for event in sent] == [(N1, N2)]
    told = [event.message for event in seen if isinstance(event, MessageTold) and event.receiver == "n2.election"]
    assert [message.request for message in told if isinstance(message, CallReceived)] == [ASKED]


def test_an_answer_comes_back_and_a_refusal_fails_the_call_with_its_sentence(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, (TOLD, CallRefused("no")))
    answers = Probe()
    for request_id in (1, 2):
        ask(cluster, request_id, answers)
        cluster.run_for(1.0)
    assert answers.received == [CallReturned(N2, 1, TOLD), CallFailed(N2, 2, "no", is_declined=True)]


def test_a_caller_that_stops_pulling_goes_on_asking_and_one_that_has_waited_is_told_and_cancels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    received, answers = answering(monkeypatch, (None,)), Probe()
    with Cluster(seed=5, nodes=2, checkers=()) as cluster:  # an election that does not answer violates a claim
        seen = watch(cluster)
        ask(cluster, 1, answers)
        cluster.run_for(0.5)
        NodeNetwork(cluster.network, N1, "n1:8401").forget(N2)
        cluster.run_for(0.5)
        assert answers.received == []
        cluster.run_for(2.0)
        assert answers.received == [CallFailed(N2, 1, "n2 did not answer in time")]
        told = [event.message for event in seen if isinstance(event, MessageTold) and event.receiver == "n2.election"]
        assert CallCancelled(received[0].request_id) in told


def test_a_process_that_has_ended_refuses_calls_and_a_machine_without_power_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, itertools.repeat(TOLD))
    for power in (False, True):
        answers = Probe()
        with Cluster(seed=5, nodes=2, checkers=()) as cluster:
            cluster.crash("n2", power=power)
            ask(cluster, 1, answers)
            cluster.run_for(1.0)
            refused = CallFailed(N2, 1, "nobody listens at n2", is_refused=True)
            assert answers.received == ([] if power else [refused])
            cluster.run_for(2.0)
            late = CallFailed(N2, 1, "n2 did not answer in time")
            assert answers.received == [late if power else refused]
            cluster.restart("n2")
            ask(cluster, 2, answers)
            cluster.run_for(1.0)
            assert answers.received[1:] == [CallReturned(N2, 2, TOLD)]


def test_a_node_that_stands_still_refuses_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, itertools.repeat(TOLD))
    answers = Probe()
    with Cluster(seed=5, nodes=2, checkers=()) as cluster:
        cluster.pause("n2")
        ask(cluster, 1, answers)
        cluster.run_for(3.0)
        assert answers.received == [CallFailed(N2, 1, "n2 did not answer in time")]


@pytest.mark.parametrize("seed", range(5))
def test_each_call_has_one_end_whatever_becomes_of_packets_and_of_both_nodes(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, itertools.cycle((TOLD, None, CallRefused("no"))))
    with Cluster(seed=seed, nodes=2, checkers=()) as cluster:
        cluster.network.links.chances = Chances(loss=0.2, duplicate=0.2, replay=0.2, reply_lost=0.2, stream_cut=0.2)
        answers = Probe()
        for request_id in range(60):
            ask(cluster, request_id, answers)
            cluster.run_for(0.05)
            if request_id == 20:
                cluster.crash("n2")
            if request_id == 40:
                cluster.restart("n2")
        cluster.network.links.heal()
        cluster.run_for(5.0)
        assert sorted(ended.request_id for ended in answers.received) == list(range(60))
        assert {type(ended) for ended in answers.received} == {CallReturned, CallFailed}
