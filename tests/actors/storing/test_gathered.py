"""What the store says of batches before it writes them."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import Fsync
from ourolog.actors.messages.events import LogAppended
from ourolog.actors.messages.store import AppendBatch, AppendFetched, BatchesGathered, BeginTerm, SaveBallot
from ourolog.actors.occupants import parse_election
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch, decode_batch, scan
from ourolog.storage.types import NodeId, Term
from tests.actors.store_stage import N1, N2, Stage, at

RAFT = {"election": parse_election("raft:n1,n2,n3")}


def stage_in_term(node_id: NodeId = N1, term: int = 1, leader_id: NodeId = N1, **config: Any) -> Stage:
    stage = Stage(node_id=node_id, **(RAFT | config))
    stage.tell(SaveBallot(1, Ballot(Term(term), leader_id, leader_id), stage.client))
    return stage


def test_a_leader_hears_of_a_group_before_it_is_written_and_these_bytes_are_written() -> None:
    stage = stage_in_term()
    stage.tell(BeginTerm(Term(1), (N1,)))
    stage.append(b"a", b"b", term=1)
    events = [event for event in stage.replicator.received if isinstance(event, BatchesGathered | LogAppended)]
    assert [type(event) for event in events] == [BatchesGathered, LogAppended] * 2
    began, group = stage.replicator.all(BatchesGathered)
    assert (began.first, began.end, began.term) == (0, at(1, 0), 1)
    assert (group.first, group.end) == (1, at(3, 2))
    assert group.terms.last_term == 1
    assert b"".join(part for batch in (*began.batches, *group.batches) for part in batch) == stage.read().batches


def test_a_group_over_two_segments_is_told_whole() -> None:
    stage = stage_in_term(segment_bytes=300)
    stage.append(*(b"x" * 150 for _ in range(4)), term=1)
    (group,) = stage.replicator.all(BatchesGathered)
    heads = [next(scan(b"".join(batch))) for batch in group.batches]
    assert [(head.index, head.kind) for head in heads] == [(index, Kind.DATA) for index in range(4)]
    assert [decode_batch(b"".join(batch), head).payload for batch, head in zip(group.batches, heads, strict=True)] == [
        b"x" * 150
    ] * 4


def test_with_fsync_at_intervals_it_is_told_when_it_is_written() -> None:
    stage = stage_in_term(fsync=Fsync.INTERVAL)
    stage.append(b"a", term=1)
    stage.append(b"b", term=1)
    assert [group.first for group in stage.replicator.all(BatchesGathered)] == [0, 1]
    assert stage.replicator.all(LogAppended) == []


@pytest.mark.parametrize("election", ["none", "static:n1,n2,n3"])
def test_nothing_is_told_where_nobody_else_could_lead_afterwards(election: str) -> None:
    stage = Stage(election=parse_election(election))
    term = 0 if election == "none" else 1
    if term:
        stage.tell(SaveBallot(1, Ballot(Term(1), N1, N1), stage.client))
    stage.append(b"a", term=term)
    assert stage.replicator.all(LogAppended) != []
    assert stage.replicator.all(BatchesGathered) == []


def test_nothing_is_told_of_what_a_leader_has_sent() -> None:
    leader, follower = stage_in_term(), stage_in_term(N2)
    leader.append(b"a", term=1)
    follower.tell(AppendFetched(N1, Term(1), leader.read().batches, follower.client))
    assert follower.replicator.all(LogAppended) != []
    assert follower.replicator.all(BatchesGathered) == []


def test_what_is_gathered_when_a_vote_is_asked_for_is_told_before_the_ballot_is_saved() -> None:
    stage = stage_in_term()
    stage.tell(
        AppendBatch(1, NewBatch(b"a", 1), Term(1), stage.client), SaveBallot(2, Ballot(Term(2), N2), stage.client)
    )
    assert stage.replicator.last(BatchesGathered).term == 1
    assert stage.payloads() == [b"a"]


def test_a_node_that_has_followed_tells_as_well_once_it_leads() -> None:
    leader, stage = stage_in_term(), stage_in_term(N2)
    leader.append(b"a", term=1)
    stage.tell(AppendFetched(N1, Term(1), leader.read().batches, stage.client))
    stage.tell(SaveBallot(2, Ballot(Term(2), N2, N2), stage.client))
    stage.append(b"b", term=2)
    (group,) = stage.replicator.all(BatchesGathered)
    assert (group.first, group.end) == (1, at(2, 2))
