"""Acknowledgements: when as many disks have a record as was asked for, and what is said until then."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    LeaderChanged,
    NobodyElected,
    ReplicasAdvanced,
)
from ourolog.actors.messages.observer import NodeNotReady, NodeReady
from ourolog.actors.messages.server import Produce, Produced, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.storage.batch import NewBatch
from ourolog.storage.types import Index, Offset, Term
from tests.actors.server_stage import N1, N2, N3, Stage, at


@pytest.mark.parametrize(
    ("acks", "answered_after"),
    [(Acks.LEADER, 1), (Acks.QUORUM, 2), (Acks.DEFAULT, 2), (Acks.ALL, 3)],
)
def test_a_produce_is_acknowledged_when_as_many_disks_have_it_as_was_asked(acks: Acks, answered_after: int) -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=acks)
    answered = []
    stage.appended(0, 1)
    answered.append(len(stage.client.all(Produced)))
    stage.tell(CommitAdvanced(at(2, 1)))
    answered.append(len(stage.client.all(Produced)))
    stage.tell(ReplicasAdvanced(Term(1), Index(2)))
    answered.append(len(stage.client.all(Produced)))
    assert answered.index(1) + 1 == answered_after
    assert answered[-1] == 1


def test_one_that_waits_for_all_does_not_hold_up_one_that_waits_for_a_quorum() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=Acks.ALL)
    stage.appended(0, 1)
    stage.produce((2, b"b"), acks=Acks.QUORUM)
    stage.appended(1, 2)
    stage.tell(CommitAdvanced(at(3, 2)))
    assert [produced.request_id for produced in stage.client.all(Produced)] == [2]
    stage.tell(ReplicasAdvanced(Term(1), Index(2)))
    assert [produced.request_id for produced in stage.client.all(Produced)] == [2, 1]


def test_replicas_of_an_old_term_do_not_acknowledge_a_new_one() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(ReplicasAdvanced(Term(1), Index(50)), LeaderChanged(Term(2), N1))
    stage.produce((1, b"a"), acks=Acks.ALL)
    stage.appended(0, 1)
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.all(Produced) == []


def voters_have(index: int, *ends: int) -> ReplicasAdvanced:
    by_voter = tuple((voter, Index(end)) for voter, end in zip((N1, N2, N3), ends, strict=True))
    return ReplicasAdvanced(Term(1), Index(index), by_voter, (N1, N2, N3))


def test_the_answer_names_the_disks_that_have_it() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=Acks.LEADER)
    stage.appended(0, 1)
    stage.produce((2, b"b"), acks=Acks.QUORUM)
    stage.appended(1, 2)
    stage.produce((3, b"c"), acks=Acks.ALL)
    stage.appended(2, 3)
    stage.tell(voters_have(0, 4, 3, 0), CommitAdvanced(at(3, 2)))
    stage.tell(voters_have(3, 4, 4, 3), CommitAdvanced(at(4, 3)), voters_have(4, 4, 4, 4))
    assert [produced.replicas for produced in stage.client.all(Produced)] == [(N1,), (N1, N2), (N1, N2, N3)]


def test_at_its_deadline_a_produce_says_which_voters_do_not_have_it() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=Acks.ALL)
    stage.appended(0, 1)
    stage.tell(voters_have(0, 2, 2, 1), CommitAdvanced(at(2, 1)))
    stage.produce((2, b"b"), acks=Acks.QUORUM)
    stage.appended(1, 2)
    stage.produce((3, b"c"), acks=Acks.LEADER)
    stage.runtime.run_for(5.1)
    assert [refused.detail for refused in stage.client.all(RequestRefused)] == [
        "not acknowledged by all within 5 s: n3 does not have it yet",
        "not acknowledged by quorum within 5 s: n2 and n3 do not have it yet",
        "not acknowledged by leader within 5 s: the disk of n1 has not taken it yet",
    ]


def test_a_produce_is_refused_when_its_time_is_up_and_not_later() -> None:
    stage = Stage()
    stage.lead()
    for request_id, timeout_s in ((1, 5.0), (2, 0.5), (3, 0.505), (4, 2.0)):
        stage.tell(Produce(request_id, NewBatch(b"v", 1), Acks.QUORUM, timeout_s, stage.client))
    refused = []
    for until_s in (0.49, 0.5, 0.51, 0.511, 1.99, 2.0, 5.0):
        stage.runtime.run_for(until_s - stage.runtime.now_s)
        refused.append(tuple(stage.refusals()))
    assert refused == [(), (2,), (2, 3), (2, 3), (2, 3), (2, 3, 4), (2, 3, 4, 1)]


def test_with_nobody_elected_every_acks_means_this_disk() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected())
    stage.produce((1, b"a"), acks=Acks.ALL)
    stage.appended(0, 0)
    assert stage.client.all(Produced) == [Produced(1, Offset(0), Term(1), Index(0), (N1,))]


def test_a_produce_that_no_quorum_acknowledges_is_refused_in_time_and_says_that_it_may_still_commit() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.appended(0, 1)
    stage.runtime.run_for(4.9)
    assert stage.client.received == []
    stage.runtime.run_for(0.4)
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.TIMED_OUT, True)
    stage.tell(CommitAdvanced(at(2, 1)))
    assert len(stage.client.received) == 1


def test_a_node_among_contradicting_claims_acknowledges_nothing_until_they_agree() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=Acks.LEADER)
    stage.tell(ClaimsDisputed("n2 runs another decree"))
    assert stage.observer.last(NodeNotReady) == NodeNotReady(N1, "n2 runs another decree", needs_person=True)
    stage.appended(0, 1)
    stage.produce((2, b"b"))
    assert (stage.refused().refusal, stage.refused().detail) == (Refusal.NOT_READY, "n2 runs another decree")
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.all(Produced) == []
    stage.tell(ClaimsSettled())
    assert stage.client.all(Produced) == [Produced(1, Offset(0), Term(1), Index(1), (N1,))]
    assert len(stage.observer.all(NodeReady)) == 2


def test_what_every_voter_had_in_an_older_term_acknowledges_nothing() -> None:
    stage = Stage()
    stage.lead(term=2)
    stage.produce((1, b"a"), acks=Acks.ALL)
    stage.appended(0, 1)
    stage.tell(CommitAdvanced(at(2, 1)), ReplicasAdvanced(Term(1), Index(2)))
    assert stage.client.all(Produced) == []
    stage.tell(ReplicasAdvanced(Term(2), Index(2)))
    assert len(stage.client.all(Produced)) == 1


def test_the_term_of_an_acknowledgement_is_that_of_the_entry() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), acks=Acks.QUORUM)
    stage.appended(0, 1)
    stage.tell(LeaderChanged(Term(2), N1), CommitAdvanced(at(3, 1)))
    assert stage.client.all(Produced) == [Produced(1, Offset(0), Term(1), Index(1), (N1,))]
