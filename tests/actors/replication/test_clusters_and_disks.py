"""Where clusters have an id and voters have disks: whose fetches count, and who is refused."""

from __future__ import annotations

from typing import Any

from ourolog.actors.messages.election import HigherTermSeen, VoterFetched
from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, VotersChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, FetchOutcome
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage

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
