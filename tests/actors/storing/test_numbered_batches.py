"""Batches that producers number: which the store appends, and which it has already."""

from __future__ import annotations

from ourolog.actors.messages.events import LogAppended, LogOpened, LogStartMoved
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendFetched,
    AppendRefused,
    BatchAppended,
    LogTruncated,
    NoteCommitted,
    ResetLog,
    RetentionDue,
    SaveBallot,
    TruncateLog,
)
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.control import ProducerRegistered, encode_control
from ourolog.storage.producers import EXPIRES_AFTER_MS, ProducerProblem
from ourolog.storage.types import Index, Offset, Term
from tests.actors.store_stage import N1, N2, STATIC, Stage, at, leader_and_follower

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
