"""Where clusters have an id and voters have disks: whose fetches count, and who is refused."""

from __future__ import annotations

from typing import Any

from ourolog.actors.messages.election import HigherTermSeen, StandbyFetched, VoterFetched, VotersCommitted
from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, MemberJoined, VotersChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, FetchOutcome
from ourolog.actors.messages.values import Member
from ourolog.actors.replication.read_rounds import ReadRounds
from ourolog.storage.control import Voter, VoterKey, VoterSet
from ourolog.storage.types import Index, NodeId, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history

CLUSTER = 0xC0
KEYS = (VoterKey(N1, 77), VoterKey(N2, 22), VoterKey(N3, 33))


def leading() -> Stage:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(VotersChanged((N1, N2, N3), KEYS, CLUSTER), LeaderChanged(Term(1), N1))
    stage.appended(1, 0)
    return stage


def outcome(stage: Stage) -> Any:
    return stage.edge.last(CallAnswer).response


def warnings(stage: Stage) -> list[tuple[WarningKind, NodeId]]:
    return [(said.kind, said.about) for said in stage.observer.all(NodeWarned)]


def test_only_the_disks_that_vote_count() -> None:
    stage = leading()
    stage.fetch(1, N2, 1, log_epoch=99, cluster_id=CLUSTER)
    assert stage.server.all(CommitAdvanced) == []
    assert stage.election.all(VoterFetched) == []
    stage.fetch(2, N2, 1, log_epoch=22, cluster_id=CLUSTER)
    assert len(stage.server.all(CommitAdvanced)) == 1
    assert [fetched.voter_id for fetched in stage.election.all(VoterFetched)] == [N2]


def test_disks_that_vote_no_more_do_not_count_from_the_moment_that_others_do() -> None:
    stage = leading()
    stage.tell(VotersChanged((N1, N2, N3), (KEYS[0], VoterKey(N2, 99), KEYS[2]), CLUSTER))
    stage.fetch(1, N2, 1, log_epoch=22, cluster_id=CLUSTER)
    assert stage.server.all(CommitAdvanced) == []
    stage.fetch(2, N2, 1, log_epoch=99, cluster_id=CLUSTER)
    assert len(stage.server.all(CommitAdvanced)) == 1


def test_a_later_term_in_a_fetch_is_believed_of_a_voters_disk_in_this_cluster_alone() -> None:
    stage = leading()
    for changed in ({"log_epoch": 99}, {"cluster_id": 0}, {"cluster_id": CLUSTER + 1}):
        stage.fetch(1, N2, 1, **{"log_epoch": 22, "cluster_id": CLUSTER, "term": Term(9), **changed})
    assert stage.election.all(HigherTermSeen) == []
    stage.fetch(2, N2, 1, log_epoch=22, cluster_id=CLUSTER, term=Term(9))
    assert stage.election.all(HigherTermSeen) == [HigherTermSeen(Term(9), None, N2, CLUSTER)]
    assert outcome(stage).outcome is FetchOutcome.NOT_LEADER


def test_a_node_of_another_cluster_is_refused_and_said_so_once() -> None:
    stage = leading()
    for request_id in (1, 2):
        stage.fetch(request_id, N2, 1, log_epoch=22, cluster_id=CLUSTER + 1)
        assert outcome(stage).outcome is FetchOutcome.REFUSED
        assert "n1 belongs to cluster c0 by its disk, n2 to c1" in outcome(stage).detail
    assert warnings(stage) == [(WarningKind.OTHER_CLUSTER, N2)]
    assert stage.server.all(CommitAdvanced) == []


def test_a_node_that_joins_does_not_know_its_cluster_yet_and_is_told() -> None:
    stage = leading()
    stage.fetch(1, NodeId("n4"), 0, log_epoch=44, max_bytes=0)
    assert (outcome(stage).outcome, outcome(stage).cluster_id) == (FetchOutcome.BATCHES, CLUSTER)


def test_a_fetch_for_no_bytes_is_answered_at_once_and_brings_none() -> None:
    stage = leading()
    stage.fetch(1, N2, 1, log_epoch=22, cluster_id=CLUSTER, max_bytes=0)
    assert (outcome(stage).outcome, outcome(stage).batches) == (FetchOutcome.BATCHES, b"")


# ---------------------------------------------------------------- voters that are changed through the log


def named(index: int, *keys: VoterKey) -> VoterSet:
    return VoterSet(Index(index), Term(1), tuple(Voter(*key, f"{key.node_id}:1", f"{key.node_id}:2") for key in keys))


def test_an_entry_that_names_voters_is_counted_by_them_from_the_moment_it_is_on_disk() -> None:
    stage = leading()
    added = (*KEYS, VoterKey(NodeId("n4"), 44))
    stage.fetch(1, N2, 1, log_epoch=22, cluster_id=CLUSTER)
    stage.tell(LogAppended((at(2, 0),), history((1, 0)), named(1, *added)))
    stage.fetch(2, N2, 2, log_epoch=22, cluster_id=CLUSTER)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(1, 0))  # two of three, and four vote
    stage.fetch(3, NodeId("n4"), 2, log_epoch=44, cluster_id=CLUSTER)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(2, 0))
    assert stage.election.last(VotersCommitted) == VotersCommitted(Index(1))


def test_what_the_election_says_late_of_voters_before_does_not_bring_them_back() -> None:
    stage = leading()
    stage.tell(LogAppended((at(2, 0),), history((1, 0)), named(1, *KEYS, VoterKey(NodeId("n4"), 44))))
    stage.tell(VotersChanged((N1, N2, N3), KEYS, CLUSTER))
    stage.fetch(2, N2, 2, log_epoch=22, cluster_id=CLUSTER)
    assert stage.server.all(CommitAdvanced) == []


def test_a_leader_that_is_removed_does_not_count_its_own_disk() -> None:
    stage = leading()
    stage.fetch(1, N2, 1, log_epoch=22, cluster_id=CLUSTER)
    stage.tell(LogAppended((at(2, 0),), history((1, 0)), named(1, *KEYS[1:])))
    stage.fetch(2, N2, 2, log_epoch=22, cluster_id=CLUSTER)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(1, 0))
    stage.fetch(3, N3, 2, log_epoch=33, cluster_id=CLUSTER)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(2, 0))


def test_that_the_voters_are_committed_is_told_once_by_followers_too() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), committed=at(5))
    for index in (3, 3, None):
        stage.tell(VotersChanged((N1, N2, N3), KEYS, CLUSTER, index=None if index is None else Index(index)))
    stage.tell(VotersChanged((N1, N2, N3), KEYS, CLUSTER, index=Index(7)))
    assert stage.election.all(VotersCommitted) == [VotersCommitted(Index(3))]


def test_the_election_hears_of_standbys_that_gossip_knows_and_that_are_of_this_cluster() -> None:
    stage = leading()
    n4 = NodeId("n4")
    for tries, changed in enumerate(({}, {"cluster_id": 0}, {"cluster_id": CLUSTER})):
        stage.fetch(10 + tries, n4, 1, **{"log_epoch": 44, "cluster_id": CLUSTER, **changed})
    assert stage.election.all(StandbyFetched) == []
    stage.tell(MemberJoined(Member(n4, "n4:1", "n4:2")))
    stage.fetch(20, n4, 1, log_epoch=44, cluster_id=0)
    assert stage.election.all(StandbyFetched) == []
    stage.fetch(21, n4, 1, log_epoch=44, cluster_id=CLUSTER)
    stage.fetch(22, n4, 1, log_epoch=44, cluster_id=CLUSTER)
    assert [(told.node_id, told.is_caught_up) for told in stage.election.all(StandbyFetched)] == [
        (n4, False),
        (n4, True),
    ]
    stage.fetch(23, N2, 1, log_epoch=99, cluster_id=CLUSTER)  # a voter's name on another disk
    assert len(stage.election.all(StandbyFetched)) == 2
    stage.tell(MemberJoined(Member(N2, "n2:1", "n2:2")))
    stage.fetch(24, N2, 1, log_epoch=99, cluster_id=CLUSTER)
    assert stage.election.last(StandbyFetched).log_epoch == 99


def test_a_standby_has_caught_up_with_what_is_on_its_disk_and_not_with_what_it_wants() -> None:
    stage = leading()
    n4 = NodeId("n4")
    stage.tell(MemberJoined(Member(n4, "n4:1", "n4:2")))
    for request_id in range(30, 33):
        stage.fetch(request_id, n4, 1, disk_index=Index(0), log_epoch=44, cluster_id=CLUSTER)
    assert [told.is_caught_up for told in stage.election.all(StandbyFetched)] == [False]


def test_echoes_of_a_voter_that_is_removed_do_not_count_for_its_next_disk() -> None:
    rounds: ReadRounds[str] = ReadRounds(N1, lambda: 5)
    rounds.join("read")
    rounds.open(Index(3))
    rounds.echo(N2, 5)
    rounds.keep((N1, N3, NodeId("n4"), NodeId("n5")))
    assert rounds.confirmed((N1, N2, N3)) is None
