"""Ballots and promises of a disk: what the store votes for, and what it takes in which term."""

from __future__ import annotations

import errno

import pytest

from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.observer import NodeFailed
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendRefused,
    BallotSaved,
    BatchAppended,
    FoundingSaved,
    LogTruncated,
    ResetLog,
    SaveBallot,
    SaveFounding,
    TruncateLog,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Term
from tests.actors.store_stage import N1, N2, N3, STATIC, VOTERS, Stage, at, voter

# ---------------------------------------------------------------- votes


def vote(stage: Stage, term: int, candidate: NodeId, last_term: int, end: int) -> BallotSaved:
    """The store's answer to a candidate whose log ends there."""
    last = LastEntry(Term(last_term), Index(end))
    stage.tell(SaveBallot(7, Ballot(Term(term), candidate), stage.client, last))
    return stage.client.last(BallotSaved)


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
