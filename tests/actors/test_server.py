"""The server alone: a scripted store, clients as probes, virtual time."""

from __future__ import annotations

import sys
import weakref
from dataclasses import replace
from typing import Any

import pytest

from ourolog.actors.config import NodeConfig
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    HoldProduces,
    LeaderChanged,
    LogOpened,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    NobodyElected,
    ProducesHeld,
    ReleaseProduces,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.observer import NodeNotReady, NodeReady
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.actors.messages.server import (
    CancelRequest,
    Consume,
    ListServers,
    Produce,
    Produced,
    Refusal,
    RegisterProducer,
    RequestRefused,
    ServersListed,
    StopHolding,
)
from ourolog.actors.messages.store import AppendBatch, AppendRefused, BatchAppended, ReadBatches
from ourolog.actors.messages.values import Acks, Member, ReadLevel
from ourolog.actors.occupants import parse_election
from ourolog.actors.requests.produces import MAX_UNWRITTEN_BYTES, MERGED_MAX_BYTES
from ourolog.actors.server import ServerActor
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Codec, Kind, NewBatch
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.producers import ProducerProblem
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def at(index: int, offset: int) -> Position:
    return Position(Index(index), Offset(offset))


class Stage:
    """A server between a scripted store and a client."""

    def __init__(self, **settings: Any) -> None:
        self.runtime = SteppingRuntime()
        self.store, self.client, self.observer = Probe(), Probe(), Probe()
        self.replicator, self.election = Probe(), Probe()
        election = parse_election("static:n1,n2,n3")
        config = NodeConfig(N1, "/data", "127.0.0.1:1", "127.0.0.1:2", election=election, **settings)
        self.ref = self.runtime.spawn(
            ServerActor,
            config=config,
            ports=stepping_ports(self.runtime, object(), observer=self.observer),  # type: ignore[arg-type]
            store=self.store,
            replicator=self.replicator,
        )

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def open(self, end: Position = START, committed: Position = START, start: Position = START) -> None:
        self.tell(LogOpened(start, end, TermHistory(), 1, Ballot(), (), committed))

    def lead(self, term: int = 1) -> None:
        """Lead, and know how far the log is committed."""
        self.open()
        self.tell(LeaderChanged(Term(term), N1), CommitKnown(Term(term)))

    def produce(self, *requests: tuple[int, bytes], acks: Acks = Acks.DEFAULT, **batch: Any) -> None:
        self.tell(
            *(
                Produce(request_id, NewBatch(payload, batch.pop("record_count", 1), **batch), acks, 5.0, self.client)
                for request_id, payload in requests
            )
        )

    def appended(self, base_offset: int, index: int) -> None:
        append = self.store.last(AppendBatch)
        end = at(index + 1, base_offset + append.batch.record_count)
        self.tell(BatchAppended(append.request_id, Offset(base_offset), Index(index), Term(1), end))

    def give_up(self, count: int) -> list[Probe]:
        """Clients whose produces are appended, and who then go away."""
        clients = [Probe() for _ in range(count)]
        for index, client in enumerate(clients, start=2):
            self.tell(Produce(index, NewBatch(b"v", 1), Acks.QUORUM, 5.0, client))
            self.appended(index - 1, index)
            self.tell(CancelRequest(index, client))
        return clients

    def read_latest(self, request_id: int, offset: int, *, wait: bool = False, client: Probe | None = None) -> None:
        reply_to = client or self.client
        self.tell(Consume(request_id, Offset(offset), 1000, wait, reply_to, ReadLevel.LATEST, timeout_s=2.5))

    def asked(self) -> ConfirmRead:
        return self.replicator.last(ConfirmRead)

    def refused(self) -> RequestRefused:
        return self.client.last(RequestRefused)

    def refusals(self) -> dict[int, Refusal]:
        return {refused.request_id: refused.refusal for refused in self.client.all(RequestRefused)}

    def hand_over(self, request_id: int = 1, within_s: float = 1.0) -> None:
        self.tell(HoldProduces(request_id, within_s, self.election))


def test_it_is_ready_once_the_log_is_open_and_the_election_has_spoken() -> None:
    stage = Stage()
    stage.open()
    stage.produce((1, b"early"))
    assert stage.refused().refusal is Refusal.NOT_READY
    assert stage.observer.all(NodeReady) == []
    stage.tell(NobodyElected(), LeaderChanged(Term(1), N2))
    assert stage.observer.all(NodeReady) == [NodeReady(N1)]


def test_produces_that_wait_together_become_one_batch_with_consecutive_offsets() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"), (2, b"b"), (3, b"c"), acks=Acks.LEADER)
    (append,) = stage.store.all(AppendBatch)
    assert append.batch == NewBatch(b"abc", 3)
    stage.appended(7, 4)
    assert stage.client.received == [Produced(i, Offset(6 + i), Term(1), Index(4), (N1,)) for i in (1, 2, 3)]


REGISTRATION = NewBatch(encode_control(ProducerRegistered()), 0, Kind.CONTROL)


def numbered(sequence: int, payload: bytes = b"v") -> NewBatch:
    return NewBatch(payload, 1, producer_id=9, producer_sequence=sequence)


def test_a_registration_is_an_entry_of_its_own_and_its_index_is_the_id_once_a_majority_has_it() -> None:
    stage = Stage(acks=Acks.LEADER)
    stage.lead()
    stage.tell(
        Produce(1, NewBatch(b"a", 1), Acks.LEADER, 5.0, stage.client),
        RegisterProducer(2, 5.0, stage.client),
        Produce(3, NewBatch(b"b", 1), Acks.LEADER, 5.0, stage.client),
    )
    plain, register, other = stage.store.all(AppendBatch)
    assert (plain.batch, register.batch, other.batch) == (NewBatch(b"a", 1), REGISTRATION, NewBatch(b"b", 1))
    stage.tell(BatchAppended(register.request_id, Offset(1), Index(6), Term(1), at(7, 1)))
    assert stage.client.received == []
    stage.tell(CommitAdvanced(at(7, 1)))
    assert stage.client.received == [Produced(2, Offset(1), Term(1), Index(6), (N1,))]


def test_what_was_sent_again_is_acknowledged_when_the_entry_that_it_stands_in_is_and_counts_as_nothing_more() -> None:
    stage = Stage(max_uncommitted_entries=2)
    stage.lead()

    def append(client: Probe, request_id: int, sequence: int, index: int, *, is_duplicate: bool = False) -> None:
        stage.tell(Produce(request_id, numbered(sequence), Acks.DEFAULT, 5.0, client))
        append_id = stage.store.last(AppendBatch).request_id
        end = at(index + 1, index + 1)
        stage.tell(BatchAppended(append_id, Offset(index), Index(index), Term(1), end, is_duplicate))

    first, later, again = Probe(), Probe(), Probe()
    append(first, 1, 0, 4)
    stage.tell(CancelRequest(1, first))
    for request_id in (2, 3):
        append(again, request_id, 0, 4, is_duplicate=True)
    append(later, 4, 1, 5)  # which is still taken: there is one entry that a majority lacks
    assert again.received == later.received == []
    stage.tell(CommitAdvanced(at(5, 5)))
    assert again.received == [Produced(request_id, Offset(4), Term(1), Index(4), (N1,)) for request_id in (2, 3)]
    assert later.received == []


def test_what_was_sent_again_does_not_wait_for_entries_behind_its_own() -> None:
    stage = Stage()
    stage.lead()
    later, again = Probe(), Probe()
    for client, index in ((later, 5), (again, 4)):
        stage.tell(Produce(1, numbered(index - 4), Acks.DEFAULT, 5.0, client))
        append_id = stage.store.last(AppendBatch).request_id
        end = at(index + 1, index + 1)
        stage.tell(BatchAppended(append_id, Offset(index), Index(index), Term(1), end, is_duplicate=client is again))
    stage.tell(CommitAdvanced(at(5, 5)))
    assert (again.received, later.received) == ([Produced(1, Offset(4), Term(1), Index(4), (N1,))], [])
    stage.tell(CommitAdvanced(at(6, 6)))
    assert later.received == [Produced(1, Offset(5), Term(1), Index(5), (N1,))]


def test_what_is_wrong_with_a_numbered_batch_is_said_and_this_attempt_has_appended_nothing() -> None:
    stage = Stage()
    stage.lead()
    for request_id, problem in enumerate(ProducerProblem):
        stage.tell(Produce(request_id, numbered(3), Acks.DEFAULT, 5.0, stage.client))
        append = stage.store.last(AppendBatch)
        stage.tell(AppendRefused(append.request_id, Term(1), f"why {problem}", problem))
        assert (stage.refused().detail, stage.refused().outcome_unknown) == (f"why {problem}", False)
    assert list(stage.refusals().values()) == [
        Refusal.PRODUCER_EXPIRED,
        Refusal.SEQUENCE_FORGOTTEN,
        Refusal.SEQUENCE_GAP,
        Refusal.SEQUENCE_REUSED,
    ]


def test_a_numbered_batch_is_never_acknowledged_by_the_leader_alone() -> None:
    stage = Stage(acks=Acks.LEADER)
    stage.lead()
    stage.tell(Produce(1, numbered(0), Acks.LEADER, 5.0, stage.client))
    assert (stage.refused().refusal, stage.store.all(AppendBatch)) == (Refusal.ACKS_TOO_WEAK, [])
    stage.tell(Produce(2, numbered(0), Acks.DEFAULT, 5.0, stage.client))
    stage.appended(0, 1)
    assert stage.client.all(Produced) == []
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.all(Produced) == [Produced(2, Offset(0), Term(1), Index(1), (N1,))]


def test_with_nobody_elected_there_are_no_producers() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), RegisterProducer(1, 5.0, stage.client))
    stage.tell(Produce(2, numbered(0), Acks.DEFAULT, 5.0, stage.client))
    assert stage.refusals() == {1: Refusal.NOBODY_ELECTED, 2: Refusal.NOBODY_ELECTED}
    assert stage.store.all(AppendBatch) == []


def test_a_compressed_or_numbered_batch_is_never_merged() -> None:
    stage = Stage()
    stage.lead()
    plain, packed = NewBatch(b"a", 1), NewBatch(b"zz", 5, codec=Codec.ZSTD)
    batches = (plain, packed, numbered(0), numbered(1), plain)
    stage.tell(*(Produce(i, batch, Acks.QUORUM, 5.0, stage.client) for i, batch in enumerate(batches)))
    assert tuple(append.batch for append in stage.store.all(AppendBatch)) == batches


def test_a_merged_batch_stays_small() -> None:
    stage = Stage()
    stage.lead()
    half = b"x" * (MERGED_MAX_BYTES // 2 + 1)
    stage.produce((1, half), (2, half), (3, b"y"))
    assert [append.batch.record_count for append in stage.store.all(AppendBatch)] == [1, 2]


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


def test_a_follower_refuses_a_produce_and_says_who_leads_and_where() -> None:
    stage = Stage()
    stage.open()
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:2", "g")), LeaderChanged(Term(1), N2))
    stage.produce((1, b"a"))
    refused = stage.refused()
    assert (refused.refusal, refused.leader_id, refused.leader_addr) == (Refusal.NOT_LEADER, N2, "127.0.0.1:2")
    assert "n2" in refused.detail


def test_where_nobody_leads_for_a_reason_a_produce_is_refused_with_that_reason() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None, "n2 and n3 do not answer"))
    stage.produce((1, b"a"))
    assert (stage.refused().refusal, stage.refused().detail) == (Refusal.LEADER_UNKNOWN, "n2 and n3 do not answer")


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


def test_a_leader_that_loses_the_lead_refuses_what_waits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.appended(0, 1)
    stage.produce((2, b"b"))
    stage.tell(LeaderChanged(Term(2), N2))
    refused = stage.client.all(RequestRefused)
    assert [(refusal.request_id, refusal.refusal) for refusal in refused] == [
        (1, Refusal.DEPOSED),
        (2, Refusal.DEPOSED),
    ]
    stage.appended(1, 2)
    assert stage.client.all(Produced) == []


def test_an_append_that_the_store_refused_is_refused_for_certain() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(AppendRefused(stage.store.last(AppendBatch).request_id, Term(2), "term 1 is over"))
    assert (stage.refused().refusal, stage.refused().outcome_unknown) == (Refusal.DEPOSED, False)


def test_a_cancelled_produce_is_not_answered() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(CancelRequest(1, stage.client))
    stage.appended(0, 1)
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.received == []


def test_a_produce_that_is_cancelled_in_time_is_never_appended() -> None:
    stage = Stage()
    stage.lead()
    batch = NewBatch(b"a", 1)
    stage.tell(Produce(1, batch, Acks.LEADER, 5.0, stage.client))
    stage.store.take()
    stage.ref.tell(Produce(2, batch, Acks.LEADER, 5.0, stage.client))
    stage.ref.tell(CancelRequest(2, stage.client))
    stage.runtime.run_until_idle()
    assert stage.store.all(AppendBatch) == []


def test_only_what_is_committed_is_read() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)))
    stage.tell(Consume(1, Offset(29), 1000, False, stage.client))
    read = stage.store.last(ReadBatches)
    assert (read.offset, read.until, read.max_bytes, read.reply_to) == (29, 3, 1000, stage.client)
    stage.tell(Consume(2, Offset(30), 1000, False, stage.client))
    refused = stage.refused()
    assert (refused.refusal, refused.first, refused.end) == (Refusal.OUT_OF_RANGE, 0, 30)


def test_below_the_first_offset_even_one_who_would_wait_is_refused() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)), LogStartMoved(at(2, 20)))
    stage.tell(Consume(1, Offset(19), 1000, True, stage.client))
    assert (stage.refused().refusal, stage.refused().first) == (Refusal.OUT_OF_RANGE, 20)


def test_a_leader_claims_no_end_before_an_entry_of_its_own_term_is_committed() -> None:
    """Raft section 8: what its predecessor acknowledged may lie beyond what it knows to be committed."""
    stage = Stage()
    stage.open(end=at(9, 90), committed=at(3, 30), start=at(1, 10))
    stage.tell(LeaderChanged(Term(2), N1))
    assert "does not know how far" in stage.observer.last(NodeNotReady).reason
    assert stage.observer.all(NodeReady) == []
    stage.tell(Consume(1, Offset(29), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).request_id == 1
    for request_id, offset in ((2, 30), (3, 95), (4, 5)):
        stage.tell(Consume(request_id, Offset(offset), 1000, False, stage.client))
        assert stage.refused().refusal is Refusal.COMMIT_UNKNOWN
    stage.tell(Consume(5, Offset(30), 1000, True, stage.client), Consume(6, Offset(5), 1000, True, stage.client))
    assert [refused.request_id for refused in stage.client.all(RequestRefused)] == [2, 3, 4]
    stage.tell(CommitAdvanced(at(10, 90)), CommitKnown(Term(2)))
    assert stage.store.last(ReadBatches).request_id == 5
    assert (stage.refused().request_id, stage.refused().refusal) == (6, Refusal.OUT_OF_RANGE)
    assert stage.observer.last(NodeReady) == NodeReady(N1)
    stage.tell(Consume(7, Offset(90), 1000, False, stage.client))
    assert (stage.refused().refusal, stage.refused().end) == (Refusal.OUT_OF_RANGE, 90)
    stage.tell(LeaderChanged(Term(3), N1))
    stage.tell(Consume(8, Offset(90), 1000, False, stage.client))
    assert stage.refused().refusal is Refusal.COMMIT_UNKNOWN


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


@pytest.mark.parametrize("limit", [{"max_uncommitted_entries": 3}, {"max_uncommitted_bytes": 3 * (5 + 1024)}])
def test_a_leader_without_a_quorum_takes_only_so_much(limit: dict[str, int]) -> None:
    stage = Stage(**limit)
    stage.lead()
    for number in range(4):
        stage.produce((number, b"value"))
        if number < 3:
            stage.appended(number, 1 + number)
    assert (stage.refused().request_id, stage.refused().refusal) == (3, Refusal.OVERLOADED)
    assert "wait for a majority" in stage.refused().detail
    stage.tell(CommitAdvanced(at(3, 2)))
    stage.produce((4, b"value"))
    assert len(stage.store.all(AppendBatch)) == 4


@pytest.mark.parametrize("limit", [{"max_uncommitted_entries": 3}, {"max_uncommitted_bytes": 3 * (5 + 1024)}])
def test_what_is_on_its_way_to_the_disk_counts_towards_what_a_leader_takes(limit: dict[str, int]) -> None:
    stage = Stage(**limit)
    stage.lead()
    for number in range(5):
        stage.produce((number, b"value"))
    assert [refused.request_id for refused in stage.client.all(RequestRefused)] == [3, 4]


def test_what_an_old_leader_had_under_way_does_not_fill_its_next_lead() -> None:
    stage = Stage(max_uncommitted_entries=2)
    stage.lead()
    stage.produce((1, b"lost"))
    stage.tell(LeaderChanged(Term(2), N2))
    stage.appended(9, 9)
    # Its end is cut, it leads again, and gives out lower places once more.
    stage.tell(LeaderChanged(Term(3), N1), CommitKnown(Term(3)))
    for number in range(2, 5):
        stage.produce((number, b"value"))
        append = stage.store.last(AppendBatch)
        stage.tell(BatchAppended(append.request_id, Offset(number), Index(number), Term(3), at(number + 1, number + 1)))
        stage.tell(CommitAdvanced(at(number + 1, number + 1)))
    assert len(stage.store.all(AppendBatch)) == 4


def test_clients_are_told_where_a_leader_is_that_gossip_has_lost() -> None:
    stage = Stage()
    stage.open()
    leader = Member(N2, "127.0.0.1:2", "g2")
    stage.tell(LeaderChanged(Term(1), N2), MemberJoined(leader), MemberFailed(leader))
    stage.produce((1, b"a"))
    assert (stage.refused().leader_id, stage.refused().leader_addr) == (N2, "127.0.0.1:2")


def test_clients_are_told_where_a_leader_is_that_gossip_has_not_found() -> None:
    stage = Stage()
    stage.open()
    stage.tell(VotersChanged((N1, N2), addrs=("logged:1", "logged:2")), LeaderChanged(Term(1), N2))
    stage.produce((1, b"a"))
    assert (stage.refused().leader_id, stage.refused().leader_addr) == (N2, "logged:2")
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:2", "g2")))
    stage.produce((2, b"a"))
    assert stage.refused().leader_addr == "127.0.0.1:2"


def test_one_who_waits_at_the_end_is_answered_when_the_commit_position_passes() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(Consume(1, Offset(0), 1000, True, stage.client), Consume(2, Offset(5), 1000, True, stage.client))
    stage.tell(CommitAdvanced(at(2, 5)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1]
    stage.tell(CommitAdvanced(at(3, 6)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1, 2]


def test_one_who_waited_and_went_away_is_forgotten() -> None:
    stage = Stage()
    stage.lead()
    other = Probe()
    stage.tell(Consume(1, Offset(0), 1000, True, stage.client), Consume(1, Offset(0), 1000, True, other))
    stage.tell(CancelRequest(1, stage.client), CommitAdvanced(at(2, 1)))
    assert [read.reply_to for read in stage.store.all(ReadBatches)] == [other]


def test_stopping_answers_everybody_who_waits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(Consume(2, Offset(0), 1000, True, stage.client))
    stage.runtime.stop(stage.ref)
    assert {(r.request_id, r.refusal) for r in stage.client.all(RequestRefused)} == {
        (1, Refusal.STOPPING),
        (2, Refusal.STOPPING),
    }


def test_a_read_of_the_latest_state_is_confirmed_before_anything_is_read() -> None:
    stage = Stage()
    stage.lead()
    stage.tell(CommitAdvanced(at(3, 30)))
    stage.read_latest(1, 29)
    assert (stage.asked().timeout_s, stage.asked().reply_to) == (2.5, stage.ref)
    assert stage.store.all(ReadBatches) == []
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    read = stage.store.last(ReadBatches)
    assert (read.request_id, read.offset, read.until) == (1, 29, 4)
    assert len(stage.replicator.received) == 1


def test_the_end_that_a_read_of_the_latest_state_is_told_is_not_below_the_confirmed_one() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), N2))
    stage.read_latest(1, 40)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert (stage.refused().refusal, stage.refused().end) == (Refusal.OUT_OF_RANGE, 40)


def test_a_read_of_the_latest_state_that_waits_at_the_end_is_confirmed_once() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 40, wait=True)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert stage.client.received == []
    stage.tell(CommitAdvanced(at(5, 41)))
    assert stage.store.last(ReadBatches).request_id == 1
    assert len(stage.replicator.received) == 1


def test_what_is_not_confirmed_is_refused_with_what_is_missing() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 0)
    stage.tell(ReadNotConfirmed(stage.asked().request_id, "no word of n2, n3"))
    assert stage.refused() == RequestRefused(1, Refusal.NOT_CONFIRMED, "no word of n2, n3")
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 40)))
    assert len(stage.client.received) == 1


def test_each_read_has_its_own_confirmation_whatever_ids_clients_choose() -> None:
    stage = Stage()
    stage.lead()
    other = Probe()
    stage.read_latest(1, 0)
    stage.read_latest(1, 0, client=other)
    first, second = stage.replicator.all(ConfirmRead)
    stage.tell(ReadConfirmed(second.request_id, at(4, 40)))
    assert [read.reply_to for read in stage.store.all(ReadBatches)] == [other]
    stage.tell(CancelRequest(1, stage.client))
    assert stage.replicator.last(ForgetRead) == ForgetRead(first.request_id)
    stage.tell(ReadConfirmed(first.request_id, at(4, 40)))
    assert len(stage.store.all(ReadBatches)) == 1


def test_reads_that_wait_for_a_confirmation_share_the_room_of_readers_that_wait() -> None:
    stage = Stage(max_waiting_requests=2)
    stage.lead()
    stage.read_latest(1, 0)
    stage.tell(Consume(2, Offset(0), 1000, True, stage.client))
    stage.read_latest(3, 0)
    stage.tell(Consume(4, Offset(0), 1000, True, stage.client))
    assert [(refused.request_id, refused.refusal) for refused in stage.client.all(RequestRefused)] == [
        (3, Refusal.OVERLOADED),
        (4, Refusal.OVERLOADED),
    ]


def test_with_nobody_elected_the_latest_state_is_refused_and_what_is_committed_is_not() -> None:
    stage = Stage()
    stage.open(end=at(1, 10), committed=at(1, 10))
    stage.tell(NobodyElected())
    stage.read_latest(1, 0)
    assert stage.refused().refusal is Refusal.NOBODY_ELECTED
    assert "no latest state" in stage.refused().detail
    assert stage.replicator.received == []
    stage.tell(Consume(2, Offset(0), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).request_id == 2


def test_stopping_answers_reads_that_wait_for_a_confirmation() -> None:
    stage = Stage()
    stage.lead()
    stage.read_latest(1, 0)
    stage.runtime.stop(stage.ref)
    assert stage.refused().refusal is Refusal.STOPPING


def test_the_servers_are_this_node_and_the_living_members() -> None:
    stage = Stage()
    stage.lead()
    n2, n3 = Member(N2, "127.0.0.1:2", "g2"), Member(N3, "127.0.0.1:3", "g3")
    stage.tell(MemberJoined(n3), MemberJoined(n2), MemberFailed(n3), ListServers(1, stage.client))
    listed = stage.client.last(ServersListed)
    assert [server.node_id for server in listed.servers] == [N1, N2]
    assert listed.leader_id == N1


def test_produces_that_were_given_up_are_not_kept_until_something_commits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"patient"))
    stage.appended(0, 1)
    gone = [weakref.ref(client) for client in stage.give_up(20)]
    stage.store.take()
    assert [client() for client in gone if client() is not None] == []


def test_what_a_disk_that_stands_still_has_not_written_is_bounded_though_its_clients_gave_up() -> None:
    stage = Stage()
    stage.lead()
    payload = bytes(1 << 20)
    for request_id in range(100):
        stage.produce((request_id, payload))
        stage.tell(CancelRequest(request_id, stage.client))
    waiting = stage.store.all(AppendBatch)
    assert sum(len(append.batch.payload) for append in waiting) <= MAX_UNWRITTEN_BYTES
    assert stage.refused().refusal is Refusal.OVERLOADED
    assert not stage.refused().outcome_unknown
    for append in waiting:
        stage.tell(BatchAppended(append.request_id, Offset(0), Index(1), Term(1), at(2, 1)))
    stage.store.take()
    stage.produce((1000, payload))
    assert len(stage.store.all(AppendBatch)) == 1


def test_with_nobody_elected_a_record_can_be_read_the_moment_it_is_acknowledged() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected())
    stage.produce((1, b"v"))
    stage.appended(0, 0)
    assert stage.client.last(Produced).base_offset == 0
    stage.tell(Consume(2, Offset(0), 1000, False, stage.client))
    assert stage.store.last(ReadBatches).offset == 0
    stage.tell(CommitAdvanced(at(0, 0)), Consume(3, Offset(0), 1000, False, stage.client))
    assert len(stage.store.all(ReadBatches)) == 2


def test_the_outcome_is_unknown_from_the_moment_the_store_was_told_and_not_before() -> None:
    stage = Stage()
    stage.lead()
    batch = NewBatch(b"a", 1)
    stage.produce((1, b"in the store"))
    # Still in the inbox when the lead is lost: the store never hears of it.
    stage.ref.tell(Produce(2, batch, Acks.QUORUM, 5.0, stage.client))
    stage.tell(LeaderChanged(Term(2), N2))
    outcomes = {refused.request_id: refused.outcome_unknown for refused in stage.client.all(RequestRefused)}
    assert outcomes == {1: True, 2: False}
    assert stage.refusals() == {1: Refusal.DEPOSED, 2: Refusal.NOT_LEADER}
    assert len(stage.store.all(AppendBatch)) == 1


def test_a_produce_that_waits_for_other_disks_does_not_keep_its_payload() -> None:
    stage = Stage()
    stage.lead()
    payload = bytes(1000)
    mine = sys.getrefcount(payload)
    stage.produce((1, payload))
    assert sys.getrefcount(payload) > mine
    stage.appended(0, 1)
    stage.store.take()
    assert sys.getrefcount(payload) == mine
    stage.tell(CommitAdvanced(at(2, 1)))
    assert stage.client.last(Produced).base_offset == 0


# ---------------------------------------------------------------- held produces


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


# ---------------------------------------------------------------- reads of clients that have seen more


def follow(**settings: Any) -> Stage:
    """A follower of n2 that has committed three records."""
    stage = Stage(**settings)
    stage.open(end=at(3, 3), committed=at(3, 3))
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:20", "g")), LeaderChanged(Term(1), N2))
    return stage


def seen(request_id: int, seen_end: int, client: Probe, *, offset: int = 0, timeout_s: float = 2.0) -> Consume:
    return Consume(request_id, Offset(offset), 1000, False, client, timeout_s=timeout_s, seen_end=Offset(seen_end))


def test_a_read_waits_until_all_that_its_client_has_seen_is_committed_here() -> None:
    stage = follow()
    stage.tell(seen(1, 3, stage.client), seen(2, 5, stage.client), seen(3, 4, stage.client, offset=3))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1]
    stage.tell(CommitAdvanced(at(4, 4)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1, 3]
    stage.tell(CommitAdvanced(at(6, 6)))
    assert [(read.request_id, read.until) for read in stage.store.all(ReadBatches)] == [
        (1, 3),
        (3, 4),
        (2, 6),
    ]
    assert stage.client.received == []


def test_when_its_time_is_up_the_leader_is_named() -> None:
    stage = follow()
    stage.tell(seen(1, 5, stage.client))
    stage.runtime.run_for(1.99)
    assert stage.client.received == []
    stage.runtime.run_for(0.02)
    refused = stage.refused()
    assert (refused.refusal, refused.leader_id, refused.leader_addr) == (Refusal.BEHIND, N2, "127.0.0.1:20")
    assert refused.detail == (
        "n1 has committed what is below offset 3, and this client has seen all below 5; n2 leads, at 127.0.0.1:20"
    )
    stage.tell(CommitAdvanced(at(6, 6)))
    assert stage.store.all(ReadBatches) == []


def test_a_new_leader_waits_too_until_it_knows_what_is_committed() -> None:
    stage = follow()
    stage.tell(LeaderChanged(Term(2), N1), seen(1, 5, stage.client), seen(2, 10**12, stage.client))
    assert stage.client.received == []
    stage.tell(CommitAdvanced(at(6, 5)), CommitKnown(Term(2)))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1]
    stage.runtime.run_for(2.1)
    assert (stage.refused().request_id, stage.refused().refusal, stage.refused().leader_id) == (2, Refusal.BEHIND, None)
    assert stage.refused().detail.endswith("n1 leads, so the rest is not committed")


def test_what_a_client_has_seen_elsewhere_means_nothing_where_each_node_has_its_own_offsets() -> None:
    stage = Stage()
    stage.open(end=at(3, 3), committed=at(3, 3))
    stage.tell(NobodyElected(), seen(1, 99, stage.client))
    assert [read.request_id for read in stage.store.all(ReadBatches)] == [1]


def test_where_nothing_more_will_come_it_is_said_at_once() -> None:
    stage = follow()
    stage.tell(seen(1, 5, stage.client), LeaderChanged(Term(2), None, "n2 and n3 do not answer"))
    assert (stage.refused().request_id, stage.refused().refusal) == (1, Refusal.BEHIND)
    assert stage.refused().detail.endswith("; n2 and n3 do not answer")
    stage.tell(seen(2, 5, stage.client))
    assert stage.refusals() == {1: Refusal.BEHIND, 2: Refusal.BEHIND}
    stage = follow()
    stage.tell(seen(1, 5, stage.client), ClaimsDisputed("n3 claims it too"))
    assert stage.refused().detail.endswith("; n3 claims it too")


def test_those_that_wait_for_what_they_have_seen_are_bounded_cancelled_and_told_that_the_node_stops() -> None:
    stage = follow(max_waiting_requests=2)
    stage.tell(*(seen(request_id, 5, stage.client) for request_id in (1, 2, 3)))
    assert stage.refusals() == {3: Refusal.OVERLOADED}
    stage.tell(CancelRequest(1, stage.client))
    stage.runtime.stop(stage.ref)
    assert stage.refusals() == {3: Refusal.OVERLOADED, 2: Refusal.STOPPING}


def test_what_is_more_than_the_latest_state_is_not_waited_for() -> None:
    stage = follow()
    consume = replace(seen(1, 5, stage.client), read=ReadLevel.LATEST)
    stage.tell(consume)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(4, 4)))
    assert stage.refused().refusal is Refusal.BEHIND
    stage.tell(consume)
    stage.tell(ReadConfirmed(stage.asked().request_id, at(6, 5)))
    assert len(stage.store.all(ReadBatches)) == 1
