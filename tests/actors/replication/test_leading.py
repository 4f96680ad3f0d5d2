"""The replicator of a leader: whose fetches count, what commits, and what those who wait are told."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import VoterFetched
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    HoldProduces,
    LeaderChanged,
    LogAppended,
    LogStartMoved,
    MemberJoined,
    ReleaseProduces,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import (
    CallCancelled,
    FetchOutcome,
)
from ourolog.actors.messages.store import (
    BatchesGathered,
    BatchesRead,
    LogTruncated,
    ReadBatches,
)
from ourolog.actors.replication.fetch_server import COMMIT_NEWS_AFTER_S
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.control import VoterSet
from ourolog.storage.terms import Place
from ourolog.storage.types import START, Index, NodeId, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, member, place


def replicas(term: int, index: int, ends: tuple[int, ...], in_sync: tuple[NodeId, ...] | None = None) -> object:
    """What the server is told of n1, n2, …"""
    voters = (N1, N2, N3)[: len(ends)]
    by_voter = tuple((voter, Index(end)) for voter, end in zip(voters, ends, strict=True))
    return ReplicasAdvanced(Term(term), Index(index), by_voter, voters if in_sync is None else in_sync)


def test_who_asks_where_retention_has_moved_the_start_is_told_what_stood_before_it() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    voters = VoterSet(Index(0), Term(1), ())
    stage.tell(LogStartMoved(at(1), voters, b"memory"))
    stage.fetch(1, N2, 0)
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.start, answer.voters_before_start) == (FetchOutcome.OUT_OF_RANGE, at(1), voters)
    assert answer.producers_before_start == b"memory"


def test_while_a_lead_is_handed_over_the_election_is_told_of_every_fetch() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(3, 2)

    def told(request_id: int) -> int:
        before = len(stage.election.all(VoterFetched))
        stage.fetch(request_id, N2, 1)
        return len(stage.election.all(VoterFetched)) - before

    assert [told(1), told(2)] == [1, 0]
    stage.tell(HoldProduces(1, 0.5, Probe()))
    assert [told(3), told(4)] == [1, 1]
    stage.tell(ReleaseProduces())
    assert told(5) == 0


def test_a_leader_pulls_from_nobody() -> None:
    stage = Stage(election=STATIC)
    stage.tell(MemberJoined(member(N2)))
    stage.lead()
    assert stage.network.open == []


def test_an_entry_commits_when_a_majority_of_voters_has_it_on_disk() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(2, 10)
    assert stage.server.all(CommitAdvanced) == []
    stage.fetch(1, N2, 1)
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]
    stage.fetch(2, N2, 2)
    assert stage.server.all(CommitAdvanced)[-1] == CommitAdvanced(at(2, 10))


def test_what_a_majority_has_once_others_vote_commits_at_once() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    assert stage.server.all(CommitAdvanced) == []
    stage.tell(VotersChanged((N1,)))
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]


def test_what_voters_had_in_an_earlier_term_does_not_count_when_a_node_leads_again() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(3, 30)
    stage.fetch(1, N2, 3)
    assert stage.server.all(CommitAdvanced)[-1] == CommitAdvanced(at(3, 30))
    stage.tell(LeaderChanged(Term(2), N2), LogTruncated(START, at(3, 30), history((1, 0))), LeaderChanged(Term(3), N1))
    stage.tell(LogAppended((at(4, 30),), history((1, 0), (3, 3))))
    assert stage.server.last(ReplicasAdvanced) == replicas(3, 0, (4, 0, 0)), "nothing is known of n2 in this term"
    stage.fetch(2, N3, 4, term=Term(3), last=place(3))
    assert stage.server.last(ReplicasAdvanced) == replicas(3, 0, (4, 0, 4))


def test_a_node_that_does_not_vote_copies_but_does_not_count() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, NodeId("n9"), 1)
    assert stage.server.all(CommitAdvanced) == []


def test_an_entry_of_an_earlier_term_commits_only_with_one_of_the_leaders_own() -> None:
    """Raft section 5.4.2 and figure 8."""
    stage = Stage(election=STATIC)
    stage.open(end=at(5, 50), terms=history((1, 0)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(2), N1))
    stage.tell(LogAppended((at(6, 50),), history((1, 0), (2, 5))))
    stage.fetch(1, N2, 5, term=Term(2), last=place(1))
    assert stage.server.all(CommitAdvanced) == []
    stage.fetch(2, N2, 6, term=Term(2), last=place(2))
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(6, 50))]


def test_a_leader_says_when_it_knows_how_far_the_log_is_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(5, 50), terms=history((1, 0)), committed=at(5, 50))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(2), N1))
    stage.tell(LogAppended((at(6, 50),), history((1, 0), (2, 5))))
    stage.fetch(1, N2, 5, term=Term(2), last=place(1))
    assert stage.server.all(CommitKnown) == []
    assert "does not know how far" in stage.status().commit_unknown
    stage.fetch(2, N2, 6, term=Term(2), last=Place(Term(2), (N2, 78)))
    assert stage.server.received[-2:] == [CommitAdvanced(at(6, 50)), CommitKnown(Term(2))]
    assert stage.status().commit_unknown == ""


def test_a_leader_among_contradicting_claims_commits_nothing_until_they_agree() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.tell(ClaimsDisputed("n3 claims it too"))
    stage.fetch(1, N2, 1)
    assert stage.server.all(CommitAdvanced) == []
    stage.tell(ClaimsSettled())
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]


def test_what_every_voter_has_is_reported_for_acks_all() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 1)
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 0, (1, 1, 0))
    stage.fetch(2, N3, 1)
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 1, (1, 1, 1))


def test_what_voters_have_is_told_before_what_is_committed_and_only_when_it_has_changed() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 1)
    assert stage.server.received[-3:] == [replicas(1, 0, (1, 1, 0)), CommitAdvanced(at(1, 0)), CommitKnown(Term(1))]
    told = len(stage.server.received)
    stage.fetch(2, N2, 1)
    stage.appended(2, 10)
    assert len(stage.server.received) == told, "a leader knows what it has written itself"
    stage.fetch(3, N3, 0)
    assert len(stage.server.received) == told
    stage.fetch(4, N2, 2)
    assert stage.server.received[told:] == [replicas(1, 0, (2, 2, 0)), CommitAdvanced(at(2, 10))]
    stage.tell(VotersChanged((N1, N2)))
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 2, (2, 2))


def test_a_silent_voter_is_not_waited_for_where_enough_others_have_it() -> None:
    stage = Stage(election=STATIC, min_in_sync=2)
    stage.lead()
    stage.fetch(1, N2, 1)
    assert stage.server.last(ReplicasAdvanced).index == 0, "n3 may yet come"
    for request_id in (2, 3, 4, 5, 6):
        stage.runtime.run_for(0.9)
        stage.fetch(request_id, N2, 1)
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 1, (1, 1, 0), in_sync=(N1, N2))
    stage.fetch(7, N3, 0)
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 1, (1, 1, 0)), "it is back; what was said stays"
    stage.appended(2, 10)
    stage.fetch(8, N2, 2)
    assert stage.server.last(ReplicasAdvanced).index == 1, "n3 is waited for again"


def test_a_voter_that_falls_silent_is_noticed_though_nobody_says_anything() -> None:
    stage = Stage(election=STATIC, min_in_sync=1)
    stage.lead()
    stage.runtime.run_for(2.9)
    assert stage.server.last(ReplicasAdvanced).index == 0
    stage.runtime.run_for(1.2)
    assert stage.server.last(ReplicasAdvanced) == replicas(1, 1, (1, 0, 0), in_sync=(N1,))
    stage.tell(LeaderChanged(Term(2), N2))
    told = len(stage.server.received)
    stage.runtime.run_for(10.0)
    assert len(stage.server.all(ReplicasAdvanced)) == 2
    assert told


def test_the_commit_position_does_not_fall_when_a_follower_comes_back_shorter() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 1)
    stage.fetch(2, N2, 0)
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]
    assert stage.status().committed == at(1, 0)


def test_a_commit_is_told_to_those_who_wait_a_little_later() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1, committed=Index(1))
    assert stage.answer_to(1) is None
    stage.appended(2, 10)
    stage.store.take()[-1].reply_to.tell(BatchesRead(0, b"entry 1", at(2, 10)))
    stage.fetch(2, N3, 2, committed=Index(1))
    stage.fetch(3, NodeId("n9"), 2, committed=Index(2))
    stage.runtime.run_for(0.9 * COMMIT_NEWS_AFTER_S)
    stage.fetch(4, N2, 2, committed=Index(1))
    assert [stage.answers_to(request_id) for request_id in (2, 3, 4)] == [0, 0, 0]
    stage.runtime.run_for(0.2 * COMMIT_NEWS_AFTER_S)
    assert [stage.answers_to(request_id) for request_id in (2, 3, 4)] == [1, 0, 1], "one timer serves all"
    answer = stage.answer_to(2)
    assert answer is not None
    assert (answer.batches, answer.committed) == (b"", at(2, 10))


def test_each_commit_is_told_to_those_who_wait_in_every_term() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1)
    stage.runtime.run_for(COMMIT_NEWS_AFTER_S)
    assert stage.answers_to(1) == 1
    stage.appended(2, 10)
    stage.fetch(2, N3, 2, committed=Index(1))
    stage.runtime.run_for(COMMIT_NEWS_AFTER_S)
    assert stage.answers_to(2) == 1
    stage.appended(3, 20)
    stage.fetch(3, N3, 3, committed=Index(2))
    stage.tell(LeaderChanged(Term(2), N2), LeaderChanged(Term(3), N1))
    stage.fetch(4, N3, 3, committed=Index(2), term=Term(3))
    stage.runtime.run_for(COMMIT_NEWS_AFTER_S)
    assert stage.answers_to(4) == 1


def test_who_waits_already_hears_of_a_commit_though_no_other_fetch_waits() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, NodeId("n9"), 1)
    stage.fetch(2, N2, 1, max_bytes=0, max_wait_s=0.0)
    assert (stage.answers_to(1), stage.answers_to(2)) == (0, 1)
    stage.runtime.run_for(COMMIT_NEWS_AFTER_S)
    answer = stage.answer_to(1)
    assert answer is not None
    assert answer.committed == at(1, 0)


def test_who_is_still_writing_what_is_committed_hears_of_it_when_its_disk_has_it() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1, committed=Index(1))
    stage.appended(2, 10)
    stage.store.take()[-1].reply_to.tell(BatchesRead(0, b"entry 1", at(2, 10)))
    stage.fetch(2, N3, 2, committed=Index(1), disk_index=Index(1))
    stage.fetch(3, NodeId("n9"), 2, committed=Index(1))
    stage.fetch(4, N2, 2, committed=Index(2))
    stage.runtime.run_for(5 * COMMIT_NEWS_AFTER_S)
    assert [stage.answers_to(request_id) for request_id in (2, 3)] == [0, 1], "it could not use the news"
    stage.fetch(5, N3, 2, committed=Index(1), disk_index=Index(2), log_epoch=9, max_bytes=0, max_wait_s=0.0)
    stage.fetch(6, NodeId("n9"), 2, committed=Index(1), disk_index=Index(2), max_bytes=0, max_wait_s=0.0)
    stage.runtime.run_for(5 * COMMIT_NEWS_AFTER_S)
    assert stage.answers_to(2) == 0, "that was another's disk"
    stage.fetch(7, N3, 2, committed=Index(1), disk_index=Index(2), max_bytes=0, max_wait_s=0.0)
    stage.runtime.run_for(COMMIT_NEWS_AFTER_S)
    answer = stage.answer_to(2)
    assert answer is not None
    assert (answer.batches, answer.committed) == (b"", at(2, 10))


def test_a_commit_rides_on_the_next_batches_and_is_told_to_nobody_twice() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(2, 10)
    stage.fetch(1, N3, 2, committed=Index(1))
    stage.tell(BatchesGathered(Term(1), ((b"entry ", b"2"),), at(3, 20), history((1, 0))))
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.batches, answer.committed) == (b"entry 2", at(2, 10))
    stage.runtime.run_for(1.0)
    assert stage.answers_to(1) == 1


def test_what_a_fetch_wants_counts_for_nothing_and_what_it_says_is_on_disk_does() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(3, 20)
    stage.fetch(1, N2, 3, disk_index=Index(1), max_bytes=1000)
    assert stage.server.last(ReplicasAdvanced).ends == ((N1, 3), (N2, 1), (N3, 0))
    assert stage.election.last(VoterFetched).end == 1
    stage.fetch(2, N2, 3, max_bytes=0, max_wait_s=0.0)
    assert stage.server.last(ReplicasAdvanced).ends == ((N1, 3), (N2, 3), (N3, 0))


def test_who_waits_when_the_term_changes_is_answered_once() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(2, 10)
    stage.fetch(1, N3, 2, committed=Index(1))
    stage.tell(LeaderChanged(Term(2), N2))
    assert stage.answers_to(1) == 1
    stage.runtime.run_for(1.0)
    assert stage.answers_to(1) == 1


def test_who_has_heard_the_news_already_waits_on_and_as_long_as_it_said() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(2, 1)
    stage.fetch(1, NodeId("n8"), 2, committed=Index(1))
    stage.fetch(2, NodeId("n9"), 2, committed=Index(2))
    assert stage.status().parked_fetches == 2
    stage.runtime.run_for(0.3)
    stage.fetch(3, N2, 2, committed=Index(1))
    stage.runtime.run_for(0.01)
    assert [stage.answers_to(request_id) for request_id in (1, 2, 3)] == [1, 0, 1]
    stage.runtime.run_for(0.18)
    assert stage.answers_to(2) == 0
    stage.runtime.run_for(0.02)
    assert stage.answers_to(2) == 1
    stage.runtime.run_for(40.0)
    assert [stage.answers_to(request_id) for request_id in (1, 2, 3)] == [1, 1, 1]
    assert stage.status().parked_fetches == 0


def test_nobody_waits_for_longer_than_half_a_minute() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1, committed=Index(1), max_wait_s=86_400.0)
    stage.runtime.run_for(29.9)
    assert stage.answers_to(1) == 0
    stage.runtime.run_for(0.2)
    assert stage.answers_to(1) == 1


def test_a_fetch_that_was_called_off_is_not_answered() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1, committed=Index(1))
    stage.tell(CallCancelled(1), CallCancelled(7))
    assert stage.status().parked_fetches == 0
    stage.appended(2, 10)
    stage.runtime.run_for(1.0)
    assert (stage.answers_to(1), stage.store.all(ReadBatches)) == (0, [])


@pytest.mark.parametrize(("asked_for", "read"), [(-5, 0), (1000, 1000), (2**40, 70_000)])
def test_a_fetch_is_given_no_more_than_is_configured(asked_for: int, read: int) -> None:
    stage = Stage(election=STATIC, fetch_max_bytes=70_000)
    stage.lead()
    stage.fetch(1, N2, 0, max_bytes=asked_for)
    assert stage.store.last(ReadBatches).max_bytes == read


def test_a_node_that_is_starting_says_so() -> None:
    stage = Stage(election=STATIC)
    stage.fetch(1, N2, 0, term=Term(0))
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.leader_id, answer.detail) == (FetchOutcome.NOT_LEADER, None, "n1 is starting")


def test_a_follower_that_parted_is_told_where() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (3, 4)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    for request_id, next_index, last_term, parted_at in ((1, 7, 2, 4), (2, 7, 1, 4), (3, 12, 3, 9), (4, 3, 2, 4)):
        stage.fetch(request_id, N2, next_index, term=Term(4), last=place(last_term))
        answer = stage.answer_to(request_id)
        assert answer is not None
        assert (answer.outcome, answer.diverged_at) == (FetchOutcome.DIVERGED, parted_at)


def test_a_fetch_that_parts_does_not_count_towards_the_commit_position() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 9, last=place(1))
    assert stage.server.all(CommitAdvanced) == []


def test_a_fetch_of_another_term_is_told_so_and_a_higher_one_moves_nobody() -> None:
    stage = Stage(election=STATIC)
    stage.lead(term=2)
    stage.fetch(1, N2, 0, term=Term(1))
    stale = stage.answer_to(1)
    assert stale is not None
    assert (stale.outcome, stale.term) == (FetchOutcome.STALE_TERM, 2)
    stage.fetch(2, N2, 0, term=Term(3))
    higher = stage.answer_to(2)
    assert higher is not None
    assert higher.outcome is FetchOutcome.NOT_LEADER
    assert stage.election.received == []


def test_a_fetch_below_the_first_entry_is_told_what_there_is() -> None:
    stage = Stage(election=STATIC)
    stage.open(start=at(4, 40), end=at(9, 90), terms=history((1, 4)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(1), N1))
    stage.fetch(1, N2, 4, last=place(1))
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.start) == (FetchOutcome.OUT_OF_RANGE, at(4, 40))
    stage.fetch(2, N2, 4, last=None)
    assert stage.store.last(ReadBatches).index == 4


def test_when_the_lead_is_lost_those_who_wait_are_told() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 1, committed=Index(9))
    stage.tell(LeaderChanged(Term(2), N3))
    answer = stage.answer_to(1)
    assert answer is not None
    assert answer.outcome is FetchOutcome.STALE_TERM
    stage.runtime.run_for(40.0)
    assert stage.answers_to(1) == 1
