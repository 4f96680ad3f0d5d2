"""Reads of clients that have seen more than this node knows to be committed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    CommitAdvanced,
    CommitKnown,
    LeaderChanged,
    MemberJoined,
    NobodyElected,
)
from ourolog.actors.messages.replicator import ReadConfirmed
from ourolog.actors.messages.server import CancelRequest, Consume, Refusal
from ourolog.actors.messages.store import ReadBatches
from ourolog.actors.messages.values import Member, ReadLevel
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.types import Offset, Term
from tests.actors.server_stage import N1, N2, Stage, at


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
