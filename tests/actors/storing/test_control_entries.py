"""Entries that say who leads and who votes, and what the store tells of them."""

from __future__ import annotations

from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, LogStartMoved, VotersLogged
from ourolog.actors.messages.store import (
    AppendControl,
    BallotSaved,
    BatchAppended,
    BeginTerm,
    DescribeLog,
    LogDescribed,
    LogTruncated,
    NoteCommitted,
    ResetLog,
    RetentionDue,
    SaveBallot,
    TruncateLog,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import decode_batch, scan
from ourolog.storage.control import ControlEntry, LeaderStarted, VoterKey, VoterSet, VotersSet, decode_control
from ourolog.storage.types import Index, Term
from tests.actors.store_stage import N1, N2, STATIC, VOTERS, Stage, at, leader_and_follower

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
