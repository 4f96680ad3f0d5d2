"""The checkers of what is answered, woken and followed in time: each sees its bug, and nothing else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitKnown,
    LeaderChanged,
    MemberJoined,
    NobodyElected,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.observer import FailureKind, NodeFailed
from ourolog.actors.messages.peer_calls import (
    EMPTY_FETCH,
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallRefused,
    CallReturned,
)
from ourolog.actors.messages.server import CancelRequest, ListServers, Produced, ServersListed
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, BatchesRead
from ourolog.actors.messages.values import Acks, Member
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import (
    FaultInjected,
    NodePaused,
    NodeResumed,
    NodeSaid,
    NodeStopped,
    PacketSent,
    PartitionHealed,
    PartitionMade,
)
from ourolog.storage.batch import NewBatch
from ourolog.storage.record_set import encode_record
from ourolog.storage.types import START, Index, Offset, Term
from tests.simulation.scene import N1, N2, N3, Scene, batch
from tests.simulation.scene_messages import (
    STATIC,
    ask_log_end,
    at,
    consume,
    fetch,
    led_by_n1,
    log_end,
    produce,
    refused,
    response,
)

# ---------------------------------------------------------------- answered once, in time


@pytest.mark.parametrize(
    ("question", "answer", "within_s"),
    [
        (produce(7), Produced(7, Offset(0), Term(1), Index(0)), 5.0),
        (consume(7, 0), BatchesRead(7, b"", START), 0.0),
        (ListServers(7, Probe()), ServersListed(7, (), None), 0.0),
    ],
)
def test_a_request_of_a_client_is_answered_once_and_in_time(question: Any, answer: Any, within_s: float) -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    scene.tell("", "n1.server", question)
    scene.wait(within_s + 0.9)
    scene.tell("n1.server", "c1", answer)
    with pytest.raises(Violation, match="answers nothing that is open"):
        scene.tell("n1.server", "c1", answer)
    scene.tell("", "n1.server", question)
    with pytest.raises(Violation, match="has not answered it"):
        scene.wait(within_s * 1.1 + 1.1)


def test_a_fetch_is_answered_within_its_long_poll() -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    scene.tell("", "n1.replicator", fetch("n2", 1, 0))
    scene.wait(0.6)
    scene.tell("n1.replicator", "n2", CallAnswer(1, response()))
    scene.tell("", "n1.replicator", fetch("n2", 2, 0))
    with pytest.raises(Violation, match=r"was told CallReceived\(FetchRequest\) 2"):
        scene.wait(2.0)


@pytest.mark.parametrize("answer", [log_end(), CallRefused("n1 runs with another --election")])
def test_a_call_to_an_election_is_answered_at_once_and_once_if_only_with_a_refusal(answer: Any) -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    scene.tell("", "n1.election", ask_log_end(1))
    scene.wait(0.9)
    scene.tell("n1.election", "n2", CallAnswer(1, answer))
    with pytest.raises(Violation, match="answers nothing that is open"):
        scene.tell("n1.election", "n2", CallAnswer(1, answer))
    scene.tell("", "n1.election", ask_log_end(2))
    scene.tell("", "n1.election", CallCancelled(2))
    scene.wait(2.0)
    scene.tell("", "n1.election", ask_log_end(3))
    with pytest.raises(Violation, match=r"n1's election was told CallReceived\(LogEndRequest\) 3"):
        scene.wait(2.0)


def test_the_store_answers_every_append() -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    append = AppendBatch(3, NewBatch(encode_record(b"a"), 1), Term(1), Probe())
    scene.tell("n1.server", "n1.store", append)
    scene.tell("n1.store", "n1.server", AppendRefused(3, Term(2), "over"))
    scene.tell("n1.server", "n1.store", append)
    with pytest.raises(Violation, match="n1's store was told AppendBatch"):
        scene.wait(2.0)


def test_a_paused_or_slow_node_is_given_its_time_and_a_crashed_one_owes_nothing() -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    scene.tell("", "n1.server", consume(1, 0))
    scene.see(NodePaused(scene.tick(), N1))
    scene.wait(30.0)
    scene.see(NodeResumed(scene.tick(), N1))
    scene.wait(0.9)
    scene.see(FaultInjected(scene.tick(), "slow_disk", "n1"))
    scene.wait(0.9)
    scene.tell("n1.server", "c1", refused(1))
    scene.tell("", "n1.server", consume(2, 0))
    scene.crash("n1")
    scene.start("n1", STATIC)
    scene.wait(5.0)
    scene.tell("", "n1.server", consume(3, 0))
    scene.see(NodeSaid(scene.tick(), N1, NodeFailed(N1, "store", FailureKind.STORAGE_FAILED, "disk failed")))
    scene.wait(5.0)


def test_a_waiting_reader_may_wait_for_ever_but_not_beyond_a_stop() -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    scene.tell("", "n1.server", consume(1, 0, wait=True))
    scene.wait(100.0)
    with pytest.raises(Violation, match="has stopped and never answered Consume 1"):
        scene.see(NodeStopped(scene.tick(), N1))


def test_who_gave_up_is_not_answered_much_later() -> None:
    scene = Scene("answered_once")
    scene.start("n1", STATIC)
    for request_id in (1, 2):
        scene.tell("", "n1.server", consume(request_id, 0, wait=True))
        scene.tell("", "n1.server", CancelRequest(request_id, Probe()))
    scene.tell("n1.server", "c1", refused(1))
    scene.wait(1.1)
    with pytest.raises(Violation, match="nobody waits"):
        scene.tell("n1.server", "c1", refused(2))


# ---------------------------------------------------------------- woken


def test_a_reader_at_the_end_is_woken_when_what_it_waits_for_is_committed() -> None:
    scene = Scene("readers_woken")
    scene.start("n1", STATIC)
    scene.tell("", "n1.server", consume(1, 0, wait=True))
    scene.tell("", "n1.server", consume(2, 0, wait=True))
    scene.tell("", "n1.server", consume(3, 5, wait=True))
    scene.wait(100.0)
    scene.commit("n1", 1)
    scene.tell("n1.store", "c1", BatchesRead(1, b"", at(1)))
    with pytest.raises(Violation, match="lets a reader of offset 0 wait"):
        scene.wait(1.0)


def test_a_reader_below_the_start_of_a_new_leader_waits_until_that_knows_the_range() -> None:
    scene = Scene("readers_woken")
    scene.start("n1", STATIC)
    scene.checker.model.node(N1).log.start = at(5)  # type: ignore[attr-defined]
    scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N1))
    scene.commit("n1", 9)
    scene.tell("", "n1.server", consume(1, 3, wait=True))
    scene.wait(5.0)
    scene.tell("n1.replicator", "n1.server", CommitKnown(Term(2)))
    with pytest.raises(Violation, match="lets a reader of offset 3 wait"):
        scene.wait(1.0)


def test_a_reader_of_a_paused_node_or_one_that_gave_up_is_not_missed() -> None:
    scene = Scene("readers_woken")
    scene.start("n1", STATIC)
    scene.tell("", "n1.server", consume(1, 0, wait=True))
    scene.tell("", "n1.server", consume(2, 0, wait=True))
    scene.see(NodePaused(scene.tick(), N1))
    scene.commit("n1", 1)
    scene.tell("", "n1.server", CancelRequest(2, Probe()))
    scene.wait(10.0)
    scene.see(NodeResumed(scene.tick(), N1))
    scene.wait(0.4)
    scene.tell("n1.store", "c1", BatchesRead(1, b"", at(1)))
    scene.wait(10.0)


def test_who_is_told_of_a_leader_whose_address_is_on_its_disk_pulls_from_it_without_gossip() -> None:
    for addrs in ((), ("n1:1", "n2:1")):
        scene = Scene("followers_follow")
        for name in ("n1", "n2"):
            scene.start(name, STATIC)
            scene.tell(f"{name}.election", f"{name}.replicator", VotersChanged((N1, N2), peer_addrs=addrs))
            scene.tell(f"{name}.election", f"{name}.replicator", LeaderChanged(Term(1), N1))
        with pytest.raises(Violation, match="n2 should pull from n1") if addrs else contextlib.nullcontext():
            scene.wait(15.5)


def append_produced(scene: Scene, value: str, index: int) -> None:
    append = AppendBatch(index + 1, NewBatch(encode_record(value.encode()), 1), Term(1), Probe())
    scene.tell("n1.server", "n1.store", append)
    scene.append("n1", batch(index, value, term=Term(1)))
    scene.tell("n1.store", "n1.server", BatchAppended(index + 1, Offset(index), Index(index), Term(1), at(index + 1)))


@pytest.mark.parametrize("acks", [Acks.LEADER, Acks.QUORUM, Acks.ALL])
def test_a_produce_is_answered_as_soon_as_its_acks_are_met(acks: Acks) -> None:
    for is_answered in (True, False):
        scene = led_by_n1("produces_answered")
        scene.tell("", "n1.server", produce(9, acks=acks))
        append_produced(scene, "a", 0)
        if acks is not Acks.LEADER:
            scene.wait(2.0)
            scene.commit("n1", 1)
        if acks is Acks.ALL:
            scene.wait(2.0)
            scene.tell("n1.replicator", "n1.server", ReplicasAdvanced(Term(1), Index(1)))
        if is_answered:
            scene.tell("n1.server", "c1", Produced(9, Offset(0), Term(1), Index(0)))
            scene.wait(2.0)
        else:
            with pytest.raises(Violation, match="has not answered produce 9"):
                scene.wait(2.0)


def test_a_produce_is_answered_when_its_append_is_refused_or_its_leader_deposed() -> None:
    for is_refused in (True, False):
        scene = led_by_n1("produces_answered")
        scene.tell("", "n1.server", produce(9))
        scene.tell("n1.server", "n1.store", AppendBatch(1, NewBatch(encode_record(b"a"), 1), Term(1), Probe()))
        scene.wait(2.0)
        if is_refused:
            scene.tell("n1.store", "n1.server", AppendRefused(1, Term(2), "term 1 is over"))
        else:
            scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), N2))
        with pytest.raises(Violation, match="has not answered produce 9"):
            scene.wait(2.0)


def test_a_produce_that_the_store_was_not_told_of_may_wait_for_a_leader_and_no_longer() -> None:
    for changed in (LeaderChanged(Term(3), N2), LeaderChanged(Term(2), None, "n2 and n3 do not answer")):
        scene = led_by_n1("produces_answered")
        scene.tell("", "n1.server", produce(9))
        scene.tell("n1.election", "n1.server", LeaderChanged(Term(2), None))
        scene.wait(2.0)
        scene.tell("n1.election", "n1.server", changed)
        with pytest.raises(Violation, match="has not answered produce 9"):
            scene.wait(2.0)


def test_a_produce_that_the_store_was_told_of_does_not_wait_for_the_next_leader() -> None:
    for is_told_first in (True, False):
        scene = led_by_n1("produces_answered")
        scene.tell("", "n1.server", produce(9))
        append = ("n1.server", "n1.store", AppendBatch(1, NewBatch(encode_record(b"a"), 1), Term(1), Probe()))
        deposed = ("n1.election", "n1.server", LeaderChanged(Term(2), None))
        for told in (append, deposed) if is_told_first else (deposed, append):
            scene.tell(*told)
        with pytest.raises(Violation, match="has not answered produce 9"):
            scene.wait(2.0)


def test_nothing_is_due_while_two_claim_the_lead() -> None:
    scene = led_by_n1("produces_answered")
    scene.tell("", "n1.server", produce(9))
    append_produced(scene, "a", 0)
    scene.tell("n1.election", "n1.server", ClaimsDisputed("n2 claims it, too"))
    scene.commit("n1", 1)
    scene.wait(3.0)
    scene.tell("n1.election", "n1.server", ClaimsSettled())
    with pytest.raises(Violation, match="has not answered produce 9"):
        scene.wait(1.0)


# ---------------------------------------------------------------- following


def test_a_second_fetch_beside_one_under_way_is_seen_and_so_is_an_end_without_a_fetch() -> None:
    scene = Scene("one_fetch_at_a_time")
    scene.start("n1")
    scene.see(PacketSent(scene.tick(), 1, N1, N2, "fetch"))
    scene.tell("", "n1.replicator", CallFailed(N2, 1, "lost"))
    scene.see(PacketSent(scene.tick(), 2, N1, N2, "fetch"))
    scene.see(PacketSent(scene.tick(), 3, N1, N3, "fetch"))
    with pytest.raises(Violation, match="2 fetches to n2"):
        scene.see(PacketSent(scene.tick(), 4, N1, N2, "fetch"))
    scene.tell("", "n1.replicator", CallReturned(N3, 3, response()))
    with pytest.raises(Violation, match="no call was open"):
        scene.tell("", "n1.replicator", CallReturned(N3, 3, response()))


def test_one_fetch_for_no_batches_may_be_under_way_beside_a_fetch_and_a_second_one_is_seen() -> None:
    scene = Scene("one_fetch_at_a_time")
    scene.start("n1")
    for packet_id, kind in enumerate(("fetch", EMPTY_FETCH)):
        scene.see(PacketSent(scene.tick(), packet_id, N1, N2, kind))
    scene.tell("", "n1.replicator", CallFailed(N2, -1, "lost"))
    scene.see(PacketSent(scene.tick(), 3, N1, N2, EMPTY_FETCH))
    scene.tell("", "n1.replicator", CallFailed(N2, 1, "lost"))
    with pytest.raises(Violation, match="2 fetches for no batches to n2"):
        scene.see(PacketSent(scene.tick(), 4, N1, N2, EMPTY_FETCH))


def test_an_election_has_several_calls_to_a_peer_under_way_and_each_has_one_end() -> None:
    scene = Scene("one_fetch_at_a_time")
    scene.start("n1")
    for packet_id, kind in enumerate(("log end", "log end", "fetch")):
        scene.see(PacketSent(scene.tick(), packet_id, N1, N2, kind))
    scene.tell("", "n1.election", CallFailed(N2, 1, "lost"))
    scene.tell("", "n1.election", CallReturned(N2, 2, log_end()))
    with pytest.raises(Violation, match=r"n1\.election was told CallFailed of n2, and no call was open"):
        scene.tell("", "n1.election", CallFailed(N2, 2, "lost"))


def test_a_follower_that_does_not_pull_although_nothing_is_in_the_way_is_seen() -> None:
    scene = led_by_n1("followers_follow")
    for _ in range(5):
        scene.tell("", "n2.replicator", CallReturned(N1, 1, response()))
        scene.tell("", "n3.replicator", CallReturned(N1, 1, response()))
        scene.wait(10.0)
    scene.tell("", "n2.replicator", CallReturned(N1, 1, response()))
    with pytest.raises(Violation, match="n3 should pull from n1"):
        scene.wait(6.0)


def test_a_follower_that_is_cut_off_has_its_time_after_healing() -> None:
    scene = led_by_n1("followers_follow")
    scene.see(PartitionMade(scene.tick(), "isolate", tuple((N1, other) for other in (N2, N3))))
    scene.wait(100.0)
    scene.see(PartitionHealed(scene.tick()))
    scene.wait(14.0)
    with pytest.raises(Violation, match="should pull from n1"):
        scene.wait(2.0)


def test_a_follower_that_is_answered_and_gets_nowhere_is_seen() -> None:
    scene = led_by_n1("followers_follow")
    scene.append("n1", batch(0, "a", term=Term(1)))
    scene.wait(1.0)
    scene.wait(10.0)
    for name in ("n2", "n3"):
        scene.tell("", f"{name}.replicator", CallReturned(N1, 1, response()))
    with pytest.raises(Violation, match="has got to index 0 of n1's log, which ended at 1"):
        scene.wait(6.0)


def test_with_nobody_elected_everybody_has_to_pull_from_everybody() -> None:
    scene = Scene("followers_follow")
    for name, other in (("n1", N2), ("n2", N1)):
        scene.start(name)
        scene.tell(f"{name}.election", f"{name}.replicator", NobodyElected())
        scene.tell(f"{name}.membership", f"{name}.replicator", MemberJoined(Member(other, f"{other}:1", f"{other}:2")))
    scene.tell("", "n1.replicator", CallReturned(N2, 1, response()))
    with pytest.raises(Violation, match="should pull from"):
        scene.wait(16.0)


def test_what_the_leader_has_committed_spreads_at_once() -> None:
    for is_told in (True, False):
        scene = led_by_n1("commit_spreads")
        for name in ("n2", "n3"):
            scene.tell("", f"{name}.replicator", CallReturned(N1, 1, response()))
        for name in ("n1", "n2"):
            scene.append(name, batch(0, "a", term=Term(1)))
        scene.commit("n1", 1)
        if is_told:
            scene.commit("n2", 1)
            scene.wait(10.0)
        else:
            with pytest.raises(Violation, match="which n2 had on disk"):
                scene.wait(0.3)


def test_a_follower_whose_fetch_has_failed_may_learn_of_the_commit_position_later() -> None:
    scene = led_by_n1("commit_spreads")
    scene.tell("", "n2.replicator", CallReturned(N1, 1, response()))
    for name in ("n1", "n2"):
        scene.append(name, batch(0, "a", term=Term(1)))
    scene.commit("n1", 1)
    scene.tell("", "n2.replicator", CallFailed(N1, 2, "lost"))
    scene.wait(3.0)
