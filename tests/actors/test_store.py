"""The store alone, on files in memory."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ourolog.actors.config import Cycle, Fsync, NodeConfig
from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, LogStartMoved, VotersLogged
from ourolog.actors.messages.observer import FailureKind, NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendControl,
    AppendFetched,
    AppendPulled,
    AppendRefused,
    BallotSaved,
    BatchAppended,
    BatchesRead,
    BeginTerm,
    DescribeLog,
    FetchedAppended,
    FetchedRejected,
    FoundingSaved,
    LogDescribed,
    LogTruncated,
    NoteCommitted,
    OpenLog,
    PulledAppended,
    PullRejected,
    ReadBatches,
    ReadProblem,
    ReadRefused,
    ResetLog,
    RetentionDue,
    SaveBallot,
    SaveFounding,
    StoreFailed,
    TruncateLog,
)
from ourolog.actors.occupants import parse_election
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch, decode_batch, scan
from ourolog.storage.control import (
    ControlEntry,
    LeaderStarted,
    ProducerRegistered,
    Voter,
    VoterKey,
    VoterSet,
    VotersSet,
    decode_control,
    encode_control,
)
from ourolog.storage.founding import Founding
from ourolog.storage.producers import EXPIRES_AFTER_MS, ProducerProblem
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Offset, Position, Term
from tests.disks import empty_disk

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def at(index: int, offset: int | None = None) -> Position:
    return Position(Index(index), Offset(index if offset is None else offset))


class Stage:
    """A store between probes, on files that can be given to the next one."""

    def __init__(self, files: SimulatedDisk | None = None, node_id: NodeId = N1, **config: Any) -> None:
        self.runtime = SteppingRuntime()
        self.node_id = node_id
        self.files = files or empty_disk()
        self.replicator, self.server, self.election, self.observer = Probe(), Probe(), Probe(), Probe()
        self.client = Probe()
        self.ref = self.runtime.spawn(
            StoreActor,
            config=NodeConfig(node_id, f"/{node_id}", "127.0.0.1:1", "127.0.0.1:2", **config),
            ports=stepping_ports(self.runtime, self.files, observer=self.observer),
            replicator=self.replicator,
            server=self.server,
            election=self.election,
        )
        self.tell(OpenLog())

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def append(self, *payloads: bytes, term: int = 0) -> None:
        self.tell(
            *(AppendBatch(i, NewBatch(payload, 1), Term(term), self.client) for i, payload in enumerate(payloads))
        )

    def read(self, index: int = 0, until: int = 1_000) -> BatchesRead:
        self.tell(ReadBatches(1, 1 << 20, Index(until), self.client, index=Index(index)))
        return self.client.last(BatchesRead)

    def payloads(self) -> list[bytes]:
        read = self.read()
        return [decode_batch(read.batches, head).payload for head in scan(read.batches)]

    @property
    def log_epoch(self) -> int:
        return self.replicator.last(LogOpened).log_epoch

    def crash(self) -> SimulatedDisk:
        self.runtime.kill(self.ref)
        return self.files.after_crash(keep_unsynced=False)


def test_opening_is_announced_to_everybody_who_depends_on_it() -> None:
    stage = Stage()
    opened = stage.replicator.last(LogOpened)
    assert stage.server.received == stage.election.received == stage.replicator.received == [opened]
    assert (opened.start, opened.end, opened.ballot) == (at(0), at(0), Ballot())


def test_appends_that_wait_together_are_one_group_with_one_sync() -> None:
    stage = Stage()
    stage.append(b"a", b"b", b"c")
    assert [answer.base_offset for answer in stage.client.all(BatchAppended)] == [0, 1, 2]
    (appended,) = stage.replicator.all(LogAppended)
    assert appended.ends == (at(1), at(2), at(3))


def test_what_was_acknowledged_is_there_after_a_crash() -> None:
    stage = Stage()
    stage.append(b"a", b"b")
    again = Stage(stage.crash())
    assert again.replicator.last(LogOpened).end == at(2)
    assert again.payloads() == [b"a", b"b"]


def test_nothing_is_acknowledged_when_the_sync_fails_and_the_node_must_stop() -> None:
    stage = Stage()
    stage.files.fail("sync", errno.EIO)
    stage.append(b"a")
    assert stage.client.received == []
    assert stage.replicator.all(LogAppended) == []
    failed = stage.observer.last(NodeFailed)
    assert (failed.actor, failed.kind) == ("store", FailureKind.STORAGE_FAILED)
    stage.append(b"b")
    assert stage.client.received == []


def test_a_full_disk_stops_the_node_and_loses_nothing_acknowledged() -> None:
    stage = Stage()
    stage.append(b"a")
    stage.files.fail("write", errno.ENOSPC, after_bytes=10)
    stage.append(b"b")
    assert len(stage.client.all(BatchAppended)) == 1
    failed = stage.observer.last(NodeFailed)
    assert failed.kind is FailureKind.DISK_FULL
    assert stage.election.last(StoreFailed) == StoreFailed(failed.reason)
    assert Stage(stage.crash()).payloads() == [b"a"]


# ---------------------------------------------------------------- votes


def vote(stage: Stage, term: int, candidate: NodeId, last_term: int, end: int) -> BallotSaved:
    """The store's answer to a candidate whose log ends there."""
    last = LastEntry(Term(last_term), Index(end))
    stage.tell(SaveBallot(7, Ballot(Term(term), candidate), stage.client, last))
    return stage.client.last(BallotSaved)


def voter() -> Stage:
    """In term 3, led by n1, with two entries of it."""
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(3), N1, N1), stage.client))
    stage.append(b"a", b"b", term=3)
    return stage


@pytest.mark.parametrize(("last_term", "end"), [(3, 2), (3, 3), (4, 0), (4, 1)])
def test_a_candidate_whose_log_reaches_as_far_gets_the_vote(last_term: int, end: int) -> None:
    stage = voter()
    saved = vote(stage, 5, N2, last_term, end)
    assert (saved.request_id, saved.granted, saved.ballot) == (7, True, Ballot(Term(5), N2))
    assert Stage(stage.crash()).election.last(LogOpened).ballot == Ballot(Term(5), N2)


@pytest.mark.parametrize(("last_term", "end"), [(3, 1), (2, 9), (0, 0)])
def test_a_candidate_whose_log_is_older_gets_no_vote_and_its_term_is_kept(last_term: int, end: int) -> None:
    stage = voter()
    saved = vote(stage, 5, N2, last_term, end)
    assert (saved.granted, saved.ballot) == (False, Ballot(Term(5)))
    again = Stage(stage.crash())
    assert again.election.last(LogOpened).ballot == Ballot(Term(5))
    assert vote(again, 5, N3, 3, 2).granted, "the vote of the term is still to be had"


@pytest.mark.parametrize(("end", "is_granted"), [(3, False), (9, True)])
def test_a_log_begun_anew_behind_an_entry_of_unknown_term_votes_for_none_that_lacks_it(
    end: int, is_granted: bool
) -> None:
    stage = voter()
    stage.tell(ResetLog(at(9), None, None, Term(3), stage.client))
    assert vote(stage, 5, N2, 2, end).granted is is_granted


def test_a_vote_is_judged_by_what_is_about_to_be_acknowledged() -> None:
    stage = voter()
    stage.ref.tell(AppendBatch(1, NewBatch(b"c", 1), Term(3), stage.client))
    saved = vote(stage, 5, N2, 3, 2)
    assert stage.client.last(BatchAppended).end == at(3)
    assert (saved.granted, saved.end, saved.last) == (False, at(3), Place(Term(3), (N1, stage.log_epoch)))


def test_there_is_no_second_vote_in_a_term_and_the_same_one_is_given_again() -> None:
    stage = voter()
    assert vote(stage, 5, N2, 3, 2).granted
    refused = vote(stage, 5, N3, 9, 9)
    assert (refused.granted, refused.ballot) == (False, Ballot(Term(5), N2))
    again = Stage(stage.crash())
    assert not vote(again, 5, N3, 9, 9).granted
    assert vote(again, 5, N2, 9, 9).granted
    again.tell(SaveBallot(8, Ballot(Term(5), N1), again.client))
    assert (again.client.last(BallotSaved).granted, again.client.last(BallotSaved).ballot.voted_for) == (False, N2)
    again.tell(SaveBallot(9, Ballot(Term(5), None, N2), again.client))
    assert again.client.last(BallotSaved).ballot.voted_for == N2, "a step within a term empties no vote"


def test_a_term_whose_leader_is_known_has_no_vote_for_another() -> None:
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(5), None, N3), stage.client))
    assert not vote(stage, 5, N2, 9, 9).granted
    assert vote(stage, 5, N3, 9, 9).ballot == Ballot(Term(5), N3, N3)


def test_a_node_that_knows_the_leader_of_a_term_does_not_vote_for_itself_in_it() -> None:
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(5), None, N2), stage.client))
    stage.tell(SaveBallot(2, Ballot(Term(5), N1, N1), stage.client))
    refused = stage.client.last(BallotSaved)
    assert (refused.granted, refused.ballot) == (False, Ballot(Term(5), None, N2))
    stage.tell(SaveBallot(3, Ballot(Term(6), N2, N2), stage.client))
    stage.tell(SaveBallot(4, Ballot(Term(6), N2, N3), stage.client))
    assert stage.client.last(BallotSaved).ballot == Ballot(Term(6), N2, N2)
    stage.tell(SaveBallot(5, Ballot(Term(7), None, N2), stage.client))
    stage.tell(SaveBallot(6, Ballot(Term(7), None, N3), stage.client))
    assert stage.client.last(BallotSaved).granted, "it does not vote, and is told of another leader"


def test_a_candidate_of_an_older_term_is_refused_and_changes_nothing() -> None:
    stage = voter()
    saved = vote(stage, 2, N2, 9, 9)
    assert (saved.granted, saved.ballot) == (False, Ballot(Term(3), N1, N1))


def test_after_a_vote_the_store_takes_nothing_of_another_term() -> None:
    stage = voter()
    vote(stage, 5, N2, 3, 2)
    stage.append(b"late", term=3)
    assert stage.client.last(AppendRefused).term == 5
    stage.tell(TruncateLog(Index(0), Term(3), stage.client), ResetLog(at(9), None, None, Term(3), stage.client))
    assert stage.client.all(LogTruncated) == []
    assert stage.payloads() == [b"a", b"b"]


def test_a_description_of_the_log_says_how_it_stands_on_disk() -> None:
    stage = voter()
    stage.ref.tell(AppendBatch(1, NewBatch(b"c", 1), Term(3), stage.client))
    stage.tell(DescribeLog(4, stage.client))
    described = stage.client.last(LogDescribed)
    assert described == LogDescribed(
        4, Ballot(Term(3), N1, N1), at(0), at(3), Place(Term(3), (N1, stage.log_epoch)), at(0), None
    )
    assert Stage(stage.crash()).replicator.last(LogOpened).end == at(3)


def test_what_is_appended_and_cut_is_told_to_the_election_too() -> None:
    stage = voter()
    assert stage.election.last(LogAppended) == stage.replicator.last(LogAppended)
    stage.tell(TruncateLog(Index(1), Term(3), stage.client))
    cut = stage.election.last(LogCut)
    assert (cut.start, cut.end, cut.terms.last_term) == (at(0), at(1), 3)


# ---------------------------------------------------------------- terms


def test_an_append_of_another_term_than_the_ballots_is_refused() -> None:
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(3), N1, N1), stage.client))
    stage.append(b"old", term=2)
    assert stage.client.last(AppendRefused).term == 3
    stage.append(b"new", term=3)
    assert stage.payloads() == [b"new"]


def test_a_ballot_is_on_disk_when_it_is_said_to_be_saved() -> None:
    stage = Stage()
    ballot = Ballot(Term(4), N2, N3)
    stage.tell(SaveBallot(1, ballot, stage.client))
    assert stage.client.last(BallotSaved).ballot == ballot
    assert Stage(stage.crash()).replicator.last(LogOpened).ballot == ballot


def test_a_ballot_that_cannot_be_saved_is_not_promised() -> None:
    stage = Stage()
    stage.files.fail("sync", errno.EIO)
    stage.tell(SaveBallot(1, Ballot(Term(4), N2, N3), stage.client))
    assert stage.client.received == []
    assert stage.observer.all(NodeFailed)


def copied(source: Stage, target: Stage) -> PulledAppended:
    """One pull of everything, from store to store."""
    epoch = source.replicator.last(LogOpened).log_epoch
    source_id = source.replicator.last(LogOpened) and source.ref._actor_weakref().node_id
    target.tell(AppendPulled(source_id, epoch, Index(0), source.read().batches, target.client))
    return target.client.last(PulledAppended)


def test_a_pulled_batch_is_appended_with_the_path_it_took() -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a")
    answer = copied(source, target)
    assert (answer.appended, answer.duplicates, answer.cycles, answer.next_index) == (1, 0, (), 1)
    read = target.read()
    batch = decode_batch(read.batches, next(scan(read.batches)))
    assert (batch.path, batch.payload, batch.source_index) == ((N1, N2), b"a", 0)


def test_broken_a_copy_that_comes_back_is_dropped_and_its_path_reported() -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a")
    copied(source, target)
    answer = copied(target, source)
    assert (answer.appended, answer.duplicates, answer.cycle_count) == (0, 1, 1)
    assert answer.cycles == ((N1, N2, N1),)
    assert source.payloads() == [b"a"]


def test_broken_an_identity_is_remembered_across_a_crash() -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a")
    copied(source, target)
    again = Stage(target.crash(), node_id=N2)
    assert copied(source, again).duplicates == 1


def test_allowed_a_copy_that_comes_back_is_appended_again_until_the_hop_limit() -> None:
    source = Stage(cycle=Cycle.ALLOW, max_hops=2)
    target = Stage(node_id=N2, cycle=Cycle.ALLOW, max_hops=2)
    source.append(b"a")
    copied(source, target)
    answer = copied(target, source)
    assert (answer.appended, answer.expired, answer.cycles) == (1, 0, ((N1, N2, N1),))
    target.tell(AppendPulled(N1, 1, Index(1), source.read(index=1).batches, target.client))
    assert (target.client.last(PulledAppended).appended, target.client.last(PulledAppended).expired) == (0, 1)


def test_a_pull_position_is_as_durable_as_what_was_pulled() -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a", b"b")
    copied(source, target)
    ((node_id, position),) = Stage(target.crash(), node_id=N2).replicator.last(LogOpened).pull_positions
    assert (node_id, position.next_index) == (N1, 2)
    assert position.source_epoch == source.replicator.last(LogOpened).log_epoch


@pytest.mark.parametrize("first_index", [1, 7])
def test_pulled_batches_that_do_not_begin_where_they_should_are_rejected_whole(first_index: int) -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a", b"b")
    target.tell(AppendPulled(N1, 1, Index(first_index), source.read().batches, target.client))
    assert target.client.all(PullRejected)
    target.client.take()
    assert target.replicator.all(LogAppended) == []


def test_a_pulled_batch_with_a_flipped_bit_is_rejected() -> None:
    source, target = Stage(), Stage(node_id=N2)
    source.append(b"a")
    blob = bytearray(source.read().batches)
    blob[-1] ^= 1
    target.tell(AppendPulled(N1, 1, Index(0), bytes(blob), target.client))
    assert "checksum" in target.client.last(PullRejected).reason


STATIC = {"election": parse_election("static:n1")}


def leader_and_follower(**config: Any) -> tuple[Stage, Stage]:
    leader, follower = Stage(**STATIC, **config), Stage(node_id=N2, **STATIC, **config)
    for stage in (leader, follower):
        stage.tell(SaveBallot(1, Ballot(Term(1), N1, N1), Probe()))
    return leader, follower


def test_a_replica_is_the_leaders_log_bit_for_bit() -> None:
    leader, follower = leader_and_follower()
    leader.append(b"a", b"b", term=1)
    follower.tell(AppendFetched(N1, Term(1), leader.read().batches, follower.client))
    assert follower.client.last(FetchedAppended).end == at(2)
    bodies = [[decode_batch(r.batches, h) for h in scan(r.batches)] for r in (leader.read(), follower.read())]
    assert bodies[0] == bodies[1]


def test_a_fetch_that_leaves_a_gap_is_rejected() -> None:
    leader, follower = leader_and_follower()
    leader.append(b"a", b"b", term=1)
    follower.tell(AppendFetched(N1, Term(1), leader.read(index=1).batches, follower.client))
    assert follower.client.all(FetchedRejected)
    assert follower.replicator.all(LogAppended) == []


def test_a_fetch_from_a_leader_of_another_term_is_rejected() -> None:
    leader, follower = leader_and_follower()
    leader.append(b"a", term=1)
    follower.tell(
        SaveBallot(1, Ballot(Term(2), N3, N3), Probe()),
        AppendFetched(N1, Term(1), leader.read().batches, follower.client),
    )
    assert follower.client.last(FetchedRejected).term == 1


def test_a_truncated_entry_does_not_come_back_after_a_crash() -> None:
    leader, _ = leader_and_follower()
    leader.append(b"a", b"b", b"c", term=1)
    leader.tell(TruncateLog(Index(1), Term(1), leader.client))
    assert leader.client.last(LogTruncated).end == at(1)
    assert Stage(leader.crash(), **STATIC).payloads() == [b"a"]


def test_a_reset_log_starts_where_it_was_told_to() -> None:
    leader, _ = leader_and_follower()
    leader.append(b"a", term=1)
    leader.tell(ResetLog(at(40, 400), None, None, Term(1), leader.client))
    assert leader.client.last(LogTruncated).start == at(40, 400)
    leader.append(b"z", term=1)
    assert leader.client.last(BatchAppended).base_offset == 400
    assert Stage(leader.crash(), **STATIC).replicator.last(LogOpened).end == at(41, 401)


VOTERS = VotersSet((Voter(N1, 5, "h:1", "h:2"), Voter(N2, 6, "h:3", "h:4")))
FEWER = VotersSet(VOTERS.voters[:1])


def says(stage: Stage, entry: ControlEntry, term: int = 1) -> Index:
    """The entry that says so, once it is on disk."""
    stage.tell(AppendControl(7, entry, Term(term), stage.client))
    return stage.client.last(BatchAppended).index


def test_a_term_begins_with_the_entry_that_says_who_leads_it() -> None:
    leader, _ = leader_and_follower()
    leader.tell(SaveBallot(1, Ballot(Term(5), N1), leader.client))
    leader.tell(BeginTerm(Term(4), (N1, N2)), BeginTerm(Term(5), (N1, N2), (N1,)))
    read = leader.read()
    batches = [decode_batch(read.batches, span) for span in scan(read.batches)]
    assert 4 not in {batch.term for batch in batches}
    batch = batches[-1]
    assert batch.term == 5
    assert decode_control(batch.payload) == LeaderStarted(VoterKey(N1, leader.log_epoch), (N1, N2), (N1,))


def test_a_disk_makes_one_founding_promise_and_keeps_it_over_a_crash() -> None:
    stage = Stage(**STATIC)
    first, second = Founding(7, VOTERS.voters), Founding(8, VOTERS.voters)
    assert stage.replicator.last(LogOpened).founding is None
    stage.tell(SaveFounding(1, first, stage.client), SaveFounding(2, second, stage.client))
    assert stage.client.all(FoundingSaved) == [FoundingSaved(1, first), FoundingSaved(2, first)]
    assert Stage(stage.crash(), **STATIC).replicator.last(LogOpened).founding == first


def test_a_vote_is_for_a_node_with_its_disk() -> None:
    stage = Stage(**STATIC)
    own = LastEntry(Term(0), Index(0))
    for request_id, epoch in ((1, 6), (2, 7), (3, 6)):
        stage.tell(SaveBallot(request_id, Ballot(Term(3), N2, None, epoch), stage.client, own))
    assert [saved.granted for saved in stage.client.all(BallotSaved)] == [True, False, True]


def test_the_election_is_told_when_the_log_names_other_voters() -> None:
    leader, _ = leader_and_follower()
    first = says(leader, VOTERS)
    assert leader.election.all(VotersLogged) == [VotersLogged(VoterSet(first, Term(1), VOTERS.voters))]
    leader.append(b"x", term=1)
    leader.tell(TruncateLog(first, Term(1), leader.client))
    assert leader.election.all(VotersLogged)[1:] == [VotersLogged(None)]


def test_voters_that_the_log_names_are_in_force_from_their_append_on() -> None:
    leader, _ = leader_and_follower()
    index = says(leader, VOTERS)
    expected = VoterSet(index, Term(1), VOTERS.voters)
    assert leader.replicator.last(LogAppended).voters == leader.election.last(LogAppended).voters == expected
    leader.tell(DescribeLog(1, leader.client))
    assert leader.client.last(LogDescribed).voters == expected
    leader.tell(SaveBallot(2, Ballot(Term(9), N1), leader.client))
    assert leader.client.last(BallotSaved).voters == expected
    assert Stage(leader.crash(), **STATIC).election.last(LogOpened).voters == expected


def test_voters_that_are_cut_are_in_force_no_longer_after_a_crash_either() -> None:
    leader, _ = leader_and_follower()
    first = says(leader, VOTERS)
    second = says(leader, FEWER)
    leader.tell(TruncateLog(second, Term(1), leader.client))
    expected = VoterSet(first, Term(1), VOTERS.voters)
    assert leader.election.last(LogCut).voters == expected
    assert Stage(leader.crash(), **STATIC).election.last(LogOpened).voters == expected


def test_a_reset_log_goes_on_with_the_voters_that_it_was_given() -> None:
    leader, _ = leader_and_follower()
    says(leader, FEWER)
    given = VoterSet(Index(30), Term(1), VOTERS.voters)
    leader.tell(ResetLog(at(40), None, given, Term(1), leader.client))
    assert leader.client.last(LogTruncated).voters_before_start == leader.election.last(LogCut).voters == given
    opened = Stage(leader.crash(), **STATIC).replicator.last(LogOpened)
    assert (opened.voters, opened.voters_before_start) == (given, given)


# ---------------------------------------------------------------- producers


REGISTRATION = NewBatch(encode_control(ProducerRegistered()), 0, Kind.CONTROL)


def numbered(producer_id: int, sequence: int, payload: bytes = b"v") -> NewBatch:
    return NewBatch(payload, 1, producer_id=producer_id, producer_sequence=sequence)


def registered(stage: Stage, term: int = 1) -> int:
    """A plain record, then a registration; the producer's id."""
    stage.append(b"first", term=term)
    stage.tell(AppendBatch(90, REGISTRATION, Term(term), stage.client))
    return stage.client.last(BatchAppended).index


def test_what_a_producer_sends_again_is_judged_by_what_is_appended_though_nothing_of_it_is_written() -> None:
    leader, _ = leader_and_follower()
    producer_id = registered(leader)
    leader.client.received.clear()
    batches = [numbered(producer_id, sequence) for sequence in (0, 0, 1, 3, 0)]
    leader.tell(*(AppendBatch(i, batch, Term(1), leader.client) for i, batch in enumerate(batches)))
    (gap,) = leader.client.all(AppendRefused)
    assert (gap.request_id, gap.problem) == (3, ProducerProblem.GAP)
    assert leader.client.received[0] is gap, "the others wait for the disk"
    answers = {answer.request_id: answer for answer in leader.client.all(BatchAppended)}
    assert [(i, answer.index, answer.base_offset, answer.is_duplicate) for i, answer in answers.items()] == [
        (0, 2, 1, False),
        (1, 2, 1, True),
        (2, 3, 2, False),
        (4, 2, 1, True),
    ]
    assert answers[1].end == answers[0].end == at(3, 2)
    assert leader.payloads()[2:] == [b"v", b"v"]
    assert leader.replicator.last(LogAppended).ends == (at(3, 2), at(4, 3))


def test_what_was_appended_long_ago_is_answered_with_its_own_term_and_a_restart_changes_nothing() -> None:
    leader, _ = leader_and_follower()
    producer_id = registered(leader)
    leader.tell(AppendBatch(1, numbered(producer_id, 0), Term(1), leader.client))
    again = Stage(leader.crash(), **STATIC)
    again.tell(SaveBallot(1, Ballot(Term(2), N1, N1), Probe()))
    again.append(b"later", term=2)
    again.tell(AppendBatch(7, numbered(producer_id, 0), Term(2), again.client))
    assert again.client.last(BatchAppended) == BatchAppended(7, Offset(1), Index(2), Term(1), at(3, 2), True)
    assert len(again.payloads()) == 4


def test_a_follower_remembers_what_its_leader_appended_and_forgets_what_it_cuts() -> None:
    leader, follower = leader_and_follower()
    producer_id = registered(leader)
    leader.tell(AppendBatch(1, numbered(producer_id, 0), Term(1), leader.client))
    follower.tell(AppendFetched(N1, Term(1), leader.read().batches, follower.client))
    follower.tell(SaveBallot(1, Ballot(Term(2), N2, N2), Probe()))
    ask = AppendBatch(5, numbered(producer_id, 0), Term(2), follower.client)
    follower.tell(ask)
    assert follower.client.last(BatchAppended).is_duplicate
    follower.tell(TruncateLog(Index(2), Term(2), follower.client), ask)
    assert follower.client.last(BatchAppended) == BatchAppended(5, Offset(1), Index(2), Term(2), at(3, 2))
    follower.tell(TruncateLog(Index(1), Term(2), follower.client), ask)
    assert follower.client.last(AppendRefused).problem is ProducerProblem.EXPIRED


def test_a_producer_expires_by_the_times_in_the_log_and_not_by_any_clock() -> None:
    leader, _ = leader_and_follower()
    producer_id = registered(leader)
    leader.runtime.run_for(2 * EXPIRES_AFTER_MS / 1000)
    leader.tell(AppendBatch(1, numbered(producer_id, 0), Term(1), leader.client))
    assert not leader.client.last(BatchAppended).is_duplicate
    leader.runtime.run_for(2 * EXPIRES_AFTER_MS / 1000)
    leader.append(b"other", term=1)
    leader.tell(AppendBatch(2, numbered(producer_id, 0), Term(1), leader.client))
    assert leader.client.last(AppendRefused).problem is ProducerProblem.EXPIRED


def test_retention_and_a_reset_lose_no_producer() -> None:
    leader, follower = leader_and_follower(segment_bytes=400, retention_bytes=400, retention_check_s=1.0)
    producer_id = registered(leader)
    leader.tell(AppendBatch(1, numbered(producer_id, 0), Term(1), leader.client))
    for _ in range(8):
        leader.append(b"x" * 200, term=1)
    leader.tell(NoteCommitted(at(8)), RetentionDue())
    moved = leader.replicator.last(LogStartMoved)
    assert moved.start.index > 2
    given = moved.producers_before_start
    follower.tell(ResetLog(moved.start, None, None, Term(1), follower.client, given))
    assert follower.client.last(LogTruncated).producers_before_start == given != b""
    for stage in (leader, follower):
        opened = Stage(stage.crash(), stage.node_id, **STATIC).replicator.last(LogOpened)
        assert opened.producers_before_start == given
        again = Stage(stage.files.after_crash(keep_unsynced=False), stage.node_id, **STATIC)
        again.tell(AppendBatch(2, numbered(producer_id, 0), Term(1), again.client))
        first = again.client.last(BatchAppended)
        assert (first.index, first.base_offset, first.is_duplicate) == (2, 1, True)


def test_retention_loses_no_voters() -> None:
    leader, _ = leader_and_follower(segment_bytes=400, retention_bytes=400, retention_check_s=1.0)
    expected = VoterSet(says(leader, VOTERS), Term(1), VOTERS.voters)
    for _ in range(8):
        leader.append(b"x" * 200, term=1)
    leader.tell(NoteCommitted(at(8)), RetentionDue())
    moved = leader.replicator.last(LogStartMoved)
    assert moved.start.index > expected.index
    assert moved.voters_before_start == expected
    leader.append(b"y", term=1)
    assert leader.replicator.last(LogAppended).voters == expected
    opened = Stage(leader.crash(), **STATIC).replicator.last(LogOpened)
    assert (opened.voters, opened.voters_before_start) == (expected, expected)


def test_what_a_leader_says_of_its_cluster_is_refused_in_another_term() -> None:
    leader, _ = leader_and_follower()
    leader.tell(AppendControl(7, VOTERS, Term(9), leader.client))
    assert leader.client.last(AppendRefused).term == 1


def test_a_read_out_of_range_says_what_there_is() -> None:
    stage = Stage()
    stage.append(b"a", b"b")
    stage.tell(ReadBatches(5, 100, Index(2), stage.client, offset=Offset(2)))
    refused = stage.client.last(ReadRefused)
    assert (refused.request_id, refused.problem, refused.first, refused.end) == (
        5,
        ReadProblem.OUT_OF_RANGE,
        at(0),
        at(2),
    )


def test_a_reader_hears_of_no_record_above_what_it_may_read() -> None:
    stage = Stage(segment_bytes=500, retention_bytes=500)
    stage.append(*(b"x" * 100 for _ in range(6)))
    stage.tell(RetentionDue())
    first = stage.server.last(LogStartMoved).start.offset
    assert 0 < first < 5
    for until in (5, first):
        stage.tell(ReadBatches(5, 100, Index(until), stage.client, offset=Offset(0)))
        refused = stage.client.last(ReadRefused)
        assert (refused.first, refused.end) == (at(first), at(until))
        assert refused.detail.endswith(f"[{first}, {until})" if until > first else f"starts at {first}")
    stage.tell(ReadBatches(5, 100, Index(5), stage.client, index=Index(0)))
    assert stage.client.last(ReadRefused).end == at(6)


def test_a_read_that_finds_no_descriptor_is_answered_as_busy_and_the_node_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(segment_bytes=400)
    stage.append(*(b"x" * 200 for _ in range(5)))

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedDisk, "open_read_only", refuse)
        stage.tell(ReadBatches(5, 100, Index(5), stage.client, offset=Offset(0)))
    refused = stage.client.last(ReadRefused)
    assert (refused.request_id, refused.problem) == (5, ReadProblem.BUSY)
    assert len(stage.payloads()) == 1
    assert stage.observer.all(NodeFailed) == []


def test_interval_fsync_acknowledges_before_the_sync_and_peers_see_it_after() -> None:
    stage = Stage(fsync=Fsync.INTERVAL, fsync_interval_s=0.1)
    stage.append(b"a")
    assert stage.client.all(BatchAppended)
    assert stage.replicator.all(LogAppended) == []
    stage.runtime.run_for(0.11)
    assert stage.replicator.last(LogAppended).ends == (at(1),)
    assert Stage(stage.crash()).payloads() == [b"a"]


def test_retention_removes_old_segments_and_says_where_the_log_starts_now() -> None:
    stage = Stage(segment_bytes=500, retention_bytes=1000, retention_check_s=1.0)
    stage.append(*(b"x" * 200 for _ in range(20)))
    stage.append(*(b"x" * 200 for _ in range(20)))
    stage.runtime.run_for(1.1)
    moved = stage.replicator.last(LogStartMoved)
    assert moved.start.offset > 0
    assert stage.server.last(LogStartMoved) == moved


@pytest.mark.parametrize("fsync", Fsync)
def test_nobody_hears_of_a_start_beyond_the_end_that_it_knows(fsync: Fsync) -> None:
    stage = Stage(segment_bytes=500, retention_bytes=1000, retention_check_s=60.0, fsync=fsync)
    appends = (AppendBatch(i, NewBatch(b"x" * 200, 1), Term(0), stage.client) for i in range(20))
    stage.tell(*appends, RetentionDue())
    end = at(0)
    for message in stage.replicator.received:
        if isinstance(message, LogAppended):
            end = message.ends[-1]
        if isinstance(message, LogStartMoved):
            assert message.start <= end
    assert stage.replicator.all(LogStartMoved)


def test_with_a_leader_retention_waits_until_what_is_old_is_committed_and_says_so_once() -> None:
    limits = {"segment_bytes": 500, "retention_bytes": 1000, "retention_check_s": 1.0}
    leader = Stage(**STATIC, **limits)
    leader.tell(SaveBallot(1, Ballot(Term(1), N1, N1), Probe()))
    leader.append(*(b"x" * 200 for _ in range(20)), term=1)
    leader.runtime.run_for(3.1)
    assert leader.replicator.all(LogStartMoved) == []
    (warned,) = leader.observer.all(NodeWarned)
    assert warned.kind is WarningKind.RETENTION_HELD_BACK
    assert "not known to be committed" in warned.reason
    leader.tell(NoteCommitted(at(20)))
    leader.runtime.run_for(1.1)
    assert leader.replicator.last(LogStartMoved).start.index > 0
    again = Stage(leader.crash(), **STATIC)
    opened = again.replicator.last(LogOpened)
    assert opened.committed == at(20)
    assert opened.start <= opened.committed


def test_an_orderly_stop_writes_what_was_gathered() -> None:
    stage = Stage()
    stage.ref.tell(AppendBatch(1, NewBatch(b"a", 1), Term(0), stage.client))
    stage.runtime.stop(stage.ref)
    assert Stage(stage.files).payloads() == [b"a"]


def test_a_directory_of_another_node_is_refused_with_both_names() -> None:
    stage = Stage()
    stage.runtime.stop(stage.ref)
    runtime, observer = SteppingRuntime(), Probe()
    ref = runtime.spawn(
        StoreActor,
        config=NodeConfig(N2, "/n1", "127.0.0.1:1", "127.0.0.1:2"),
        ports=stepping_ports(runtime, stage.files, observer=observer),
        replicator=Probe(),
        server=Probe(),
        election=Probe(),
    )
    ref.tell(OpenLog())
    runtime.run_until_idle()
    failed = observer.last(NodeFailed)
    assert failed.kind is FailureKind.WRONG_DIRECTORY
    assert "n1" in failed.reason
    assert "n2" in failed.reason


def test_a_damaged_file_stops_the_node_as_damaged() -> None:
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(4), N2, N3), stage.client))
    stage.runtime.stop(stage.ref)
    stage.files.content("/n1/ballot")[-2] ^= 1
    failed = Stage(stage.files).observer.last(NodeFailed)
    assert (failed.actor, failed.kind) == ("store", FailureKind.DAMAGED)


def test_the_election_of_a_node_whose_log_was_never_open_is_told_nothing() -> None:
    stage = Stage()
    stage.tell(SaveBallot(1, Ballot(Term(4), N2, N3), stage.client))
    stage.runtime.stop(stage.ref)
    stage.files.content("/n1/ballot")[-2] ^= 1
    again = Stage(stage.files)
    assert again.observer.all(NodeFailed)
    assert again.election.received == []


def test_a_directory_in_use_is_refused() -> None:
    stage = Stage()
    runtime, observer = SteppingRuntime(), Probe()
    ref = runtime.spawn(
        StoreActor,
        config=NodeConfig(N1, "/n1", "127.0.0.1:1", "127.0.0.1:2"),
        ports=stepping_ports(runtime, stage.files, observer=observer),
        replicator=Probe(),
        server=Probe(),
        election=Probe(),
    )
    ref.tell(OpenLog())
    runtime.run_until_idle()
    failed = observer.last(NodeFailed)
    assert failed.kind is FailureKind.WRONG_DIRECTORY
    assert "/n1" in failed.reason
