"""What the store takes from other nodes: pulled batches, and a replica of the leader's log."""

from __future__ import annotations

import pytest

from ourolog.actors.config import Cycle
from ourolog.actors.messages.events import LogAppended, LogOpened
from ourolog.actors.messages.store import (
    AppendControl,
    AppendFetched,
    AppendPulled,
    AppendRefused,
    BatchAppended,
    FetchedAppended,
    FetchedRejected,
    LogTruncated,
    PulledAppended,
    PullRejected,
    ResetLog,
    SaveBallot,
    TruncateLog,
)
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import decode_batch, scan
from ourolog.storage.types import Index, Term
from tests.actors.store_stage import N1, N2, N3, STATIC, VOTERS, Stage, at, leader_and_follower


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


def test_what_a_leader_says_of_its_cluster_is_refused_in_another_term() -> None:
    leader, _ = leader_and_follower()
    leader.tell(AppendControl(7, VOTERS, Term(9), leader.client))
    assert leader.client.last(AppendRefused).term == 1
