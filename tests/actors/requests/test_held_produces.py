"""Produces that are held while the lead goes from one node to another."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    CommitAdvanced,
    LeaderChanged,
    MemberJoined,
    ProducesHeld,
    ReleaseProduces,
)
from ourolog.actors.messages.server import CancelRequest, Produce, Produced, Refusal, RequestRefused, StopHolding
from ourolog.actors.messages.store import AppendBatch, BatchAppended
from ourolog.actors.messages.values import Acks, Member
from ourolog.actors.requests.produces import MAX_UNWRITTEN_BYTES
from ourolog.actors.server import GATHERS_AT_MOST_S
from ourolog.storage.batch import NewBatch
from ourolog.storage.types import Index, Offset, Term
from tests.actors.server_stage import N1, N2, Stage, at


def test_a_leader_that_hands_over_appends_nothing_new_and_says_when_what_it_had_taken_is_answered() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"on its way"))
    stage.ref.tell(Produce(2, NewBatch(b"in the inbox", 1), Acks.QUORUM, 5.0, stage.client))
    stage.hand_over()
    assert [append.batch.payload for append in stage.store.all(AppendBatch)] == [b"on its way", b"in the inbox"]
    stage.produce((3, b"held"))
    for append, index in zip(stage.store.all(AppendBatch), (1, 2), strict=True):
        stage.tell(BatchAppended(append.request_id, Offset(index), Index(index), Term(1), at(index + 1, index + 1)))
    assert stage.election.received == []
    stage.tell(CommitAdvanced(at(3, 3)))
    assert [produced.request_id for produced in stage.client.all(Produced)] == [1, 2]
    assert stage.election.received == [ProducesHeld(1, is_drained=True)]
    assert len(stage.store.all(AppendBatch)) == 2


def test_what_its_client_gave_up_is_still_on_its_way_to_the_log_that_a_hand_over_waits_for() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.hand_over()
    stage.tell(CancelRequest(1, stage.client))
    assert stage.election.received == []
    stage.appended(0, 1)
    assert stage.election.received == [ProducesHeld(1, is_drained=True)]


def test_a_hand_over_does_not_wait_longer_than_it_wants_for_what_no_quorum_acknowledges() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.appended(0, 1)
    stage.hand_over(within_s=0.8)
    stage.runtime.run_for(0.7)
    assert stage.election.received == []
    stage.runtime.run_for(0.2)
    assert stage.election.received == [ProducesHeld(1, is_drained=False)]
    stage.produce((2, b"b"))
    stage.tell(CommitAdvanced(at(2, 1)))
    stage.runtime.run_for(0.5)
    assert stage.client.received == [Produced(1, Offset(0), Term(1), Index(1), (N1,))]
    assert len(stage.election.received) == len(stage.store.all(AppendBatch)) == 1


def test_what_is_held_is_sent_to_the_next_leader_and_was_certainly_not_appended() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:2", "g")))
    stage.produce((1, b"in the store"))
    stage.hand_over()
    stage.produce((2, b"held"))
    stage.tell(LeaderChanged(Term(2), N2))
    first, second = stage.client.all(RequestRefused)
    assert (first.refusal, first.outcome_unknown) == (Refusal.DEPOSED, True)
    assert (second.refusal, second.leader_id, second.leader_addr) == (Refusal.NOT_LEADER, N2, "127.0.0.1:2")
    assert not second.outcome_unknown
    assert len(stage.store.all(AppendBatch)) == 1
    assert stage.election.received == [ProducesHeld(1, is_drained=False)]


def test_what_is_held_is_appended_once_the_hand_over_is_called_off() -> None:
    stage = Stage()
    stage.lead()
    stage.hand_over()
    stage.produce((1, b"a"), (2, b"b"))
    assert stage.store.all(AppendBatch) == []
    stage.tell(ReleaseProduces())
    assert stage.store.last(AppendBatch).batch.payload == b"ab"
    stage.appended(0, 1)
    stage.tell(CommitAdvanced(at(2, 2)))
    assert [produced.base_offset for produced in stage.client.all(Produced)] == [0, 1]
    stage.produce((3, b"c"))
    assert stage.store.last(AppendBatch).batch.payload == b"c"


def test_a_produce_waits_for_a_leader_that_is_being_elected_and_goes_to_the_one_that_is_found() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.produce((1, b"a"))
    stage.runtime.run_for(0.5)
    assert stage.client.received == []
    stage.tell(LeaderChanged(Term(2), N2))
    assert (stage.refused().refusal, stage.refused().leader_id) == (Refusal.NOT_LEADER, N2)
    assert stage.store.received == []


def test_a_node_that_is_elected_appends_what_has_waited_for_a_leader_in_its_own_term() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.produce((1, b"a"))
    stage.tell(LeaderChanged(Term(2), N1))
    append = stage.store.last(AppendBatch)
    assert (append.term, append.batch.payload) == (Term(2), b"a")
    assert stage.client.received == []


def test_what_is_held_when_a_leader_is_deposed_waits_for_the_next_one_and_the_rest_is_refused() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"in the store"))
    stage.hand_over()
    stage.produce((2, b"held"))
    stage.ref.tell(Produce(3, NewBatch(b"in the inbox", 1), Acks.QUORUM, 5.0, stage.client))
    stage.tell(LeaderChanged(Term(2), None))
    assert stage.refusals() == {1: Refusal.DEPOSED}
    stage.tell(LeaderChanged(Term(3), N1))
    stage.runtime.run_for(GATHERS_AT_MOST_S)  # the store has not said yet what became of the first one
    assert stage.store.last(AppendBatch).batch.payload == b"heldin the inbox"
    assert len(stage.client.received) == 1


def test_what_is_held_is_refused_as_soon_as_it_is_known_why_nobody_can_lead() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.produce((1, b"a"))
    stage.tell(LeaderChanged(Term(1), None, "2 of 3 voters do not answer: n2, n3"))
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.LEADER_UNKNOWN, False)
    assert stage.refused().detail == "2 of 3 voters do not answer: n2, n3"


@pytest.mark.parametrize(("timeout_s", "held_s"), [(0.5, 0.4), (1.0, 0.85), (30.0, 3.0)])
def test_what_is_held_is_refused_before_its_client_gives_up_or_another_node_may_know_more(
    timeout_s: float, held_s: float
) -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.tell(Produce(1, NewBatch(b"a", 1), Acks.QUORUM, timeout_s, stage.client))
    stage.runtime.run_for(held_s - 0.01)
    assert stage.client.received == []
    stage.runtime.run_for(0.07)
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.LEADER_UNKNOWN, False)
    stage.tell(LeaderChanged(Term(2), N1))
    stage.runtime.run_for(timeout_s)
    assert len(stage.client.received) == 1
    assert stage.store.received == []


@pytest.mark.parametrize("leads", [True, False])
def test_a_node_that_stops_keeps_nobody_waiting_for_its_successor(leads: bool) -> None:
    stage = Stage()
    stage.lead()
    stage.hand_over()
    if not leads:
        stage.tell(LeaderChanged(Term(2), None))
    stage.produce((1, b"a"))
    stage.tell(StopHolding())
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.STOPPING, False)
    stage.produce((2, b"b"))
    assert stage.refusals() == {1: Refusal.STOPPING, 2: Refusal.STOPPING}
    assert stage.store.received == []


def test_what_is_held_is_refused_when_claims_contradict_each_other() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.produce((1, b"a"))
    stage.tell(ClaimsDisputed("n2 runs with another --election"))
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.NOT_READY, False)


def test_what_is_held_is_bounded_like_what_waits_for_the_disk_and_is_released_when_its_client_goes() -> None:
    stage = Stage(max_waiting_requests=2)
    stage.open()
    stage.tell(LeaderChanged(Term(1), None))
    stage.produce((1, b"a"), (2, b"b"), (3, b"c"))
    assert stage.refusals() == {3: Refusal.OVERLOADED}
    stage.tell(CancelRequest(1, stage.client))
    large = bytes(MAX_UNWRITTEN_BYTES)
    stage.produce((4, large))
    assert stage.refusals()[4] is Refusal.OVERLOADED
    stage.tell(CancelRequest(2, stage.client))
    stage.produce((5, large))
    assert 5 not in stage.refusals()
    stage.tell(CancelRequest(5, stage.client), LeaderChanged(Term(2), N1))
    assert stage.store.all(AppendBatch) == []


def test_stopping_refuses_what_is_held_for_certain() -> None:
    stage = Stage()
    stage.lead()
    stage.hand_over()
    stage.produce((1, b"a"))
    stage.runtime.stop(stage.ref)
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.STOPPING, False)


def test_a_node_that_does_not_lead_has_nothing_to_hand_over() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), N2))
    stage.hand_over()
    assert stage.election.received == [ProducesHeld(1, is_drained=False)]
    stage.tell(LeaderChanged(Term(2), N1))
    stage.produce((1, b"a"))
    assert len(stage.store.all(AppendBatch)) == 1


def test_each_question_to_hold_is_answered_once() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.hand_over(1)
    stage.hand_over(2)
    stage.tell(ReleaseProduces())
    stage.runtime.run_for(5.0)
    assert stage.election.received == [ProducesHeld(1, is_drained=False), ProducesHeld(2, is_drained=False)]
