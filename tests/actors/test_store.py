"""A store: appends, reads, retention, and what stops its node."""

from __future__ import annotations

import errno

import pytest

from ourolog.actors.config import Fsync, NodeConfig
from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, LogStartMoved
from ourolog.actors.messages.observer import FailureKind, NodeFailed, NodeWarned, WarningKind
from ourolog.actors.messages.store import (
    AppendBatch,
    BatchAppended,
    DescribeLog,
    LogDescribed,
    NoteCommitted,
    OpenLog,
    ReadBatches,
    ReadProblem,
    ReadRefused,
    RetentionDue,
    SaveBallot,
    StoreFailed,
    TruncateLog,
)
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.store import StoreActor
from ourolog.actors.testing.testkit import Probe, stepping_ports
from ourolog.simulation.disks.disk import SimulatedDisk
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch
from ourolog.storage.terms import Place
from ourolog.storage.types import Index, Offset, Term
from tests.actors.store_stage import N1, N2, N3, STATIC, Stage, at, voter


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
