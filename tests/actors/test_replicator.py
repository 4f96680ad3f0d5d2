"""The replicator where nobody is elected, and what must not get stuck or grow, whoever is."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import Cycle
from ourolog.actors.messages.election import HigherTermSeen, VoterFetched
from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
)
from ourolog.actors.messages.observer import CycleSeen, NodeWarned, PullStarted, PullStopped, WarningKind
from ourolog.actors.messages.peer_calls import (
    FetchOutcome,
)
from ourolog.actors.messages.store import (
    AppendPulled,
    BatchesRead,
    FetchedRejected,
    NoteCommitted,
    PulledAppended,
    ReadBatches,
    ResetLog,
)
from ourolog.actors.messages.values import Member, PullPosition
from ourolog.storage.types import START, Index, NodeId, Offset, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, member, response

# ---------------------------------------------------------------- nobody elected


def test_every_discovered_member_is_pulled_and_that_is_the_cycle() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N3)), MemberJoined(member(N2)), MemberJoined(member(N1)))
    assert stage.observer.all(PullStarted) == [PullStarted(N1, N3), PullStarted(N1, N2)]
    assert [call.peer.node_id for call in stage.network.open] == [N3, N2]


def test_members_that_were_there_before_the_election_spoke_are_pulled_once_it_has() -> None:
    stage = Stage()
    stage.open()
    stage.tell(MemberJoined(member(N2)))
    assert stage.network.open == []
    stage.tell(NobodyElected())
    assert [call.peer.node_id for call in stage.network.open] == [N2]


GONE = pytest.mark.parametrize("gone", [MemberFailed(member(N2)), MemberLeft(member(N2))])


def test_a_pull_stops_when_its_source_failed_and_does_not_answer_and_goes_on_where_it_was() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"ten"))
    stage.tell(PulledAppended(N2, 5, Index(10), Offset(10), 10, 0, 0, (), 0))
    stage.tell(MemberFailed(member(N2)))
    assert stage.observer.all(PullStopped) == []
    stage.network.take(N2).fail()
    stage.runtime.run_until_idle()
    assert stage.observer.all(PullStopped)[-1].source_id == N2
    assert stage.network.forgotten == [N2]
    stage.network.open.clear()
    stage.tell(MemberJoined(member(N2)))
    request = stage.network.take(N2).request
    assert (request.next_index, request.source_epoch) == (10, 5)


def test_a_pull_that_works_is_not_stopped_on_the_word_of_gossip() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)), MemberFailed(member(N2)))
    for index in (3, 6):
        stage.network.take(N2).answer(response(batches=b"some"))
        stage.runtime.run_until_idle()
        stage.tell(PulledAppended(N2, 5, Index(index), Offset(index), 3, 0, 0, (), 0))
    assert stage.observer.all(PullStopped) == []
    assert stage.network.take(N2).request.next_index == 6


def test_a_member_that_gossip_has_lost_and_met_again_is_pulled_whether_or_not_it_answers() -> None:
    stage = Stage(pull_backoff_min_s=0.01, pull_backoff_max_s=0.02)
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(end=START, committed=START))
    stage.runtime.run_until_idle()
    stage.tell(MemberFailed(member(N2)), MemberJoined(member(N2)))
    stage.network.take(N2).fail()
    stage.runtime.run_until_idle()
    stage.tell(MemberJoined(member(N3)))
    assert stage.observer.all(PullStopped) == []
    stage.runtime.run_until(lambda: {call.peer.node_id for call in stage.network.open} == {N2, N3}, timeout_s=5)


def test_a_pull_stops_at_once_when_its_source_leaves() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)), MemberLeft(member(N2)))
    assert stage.observer.all(PullStopped) == [PullStopped(N1, N2, "n2 left")]


@GONE
def test_a_source_that_is_not_answering_is_given_up_when_it_is_gone_and_forgotten(gone: object) -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).fail()
    stage.tell(gone)
    assert stage.observer.all(PullStopped)[-1].source_id == N2
    assert stage.status().pulls == ()
    replicator = stage.ref._actor_weakref()
    assert replicator is not None
    assert (replicator.state.members, replicator.state.gone) == ({}, set())


@GONE
def test_a_leader_is_pulled_from_whatever_gossip_says_of_it(gone: object) -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.tell(gone)
    for _ in range(5):
        stage.network.take(N2).fail()
        stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=3)
    stage.network.take(N2).answer(response(term=Term(1)))
    stage.runtime.run_until_idle()
    assert stage.status().pulls[0].connected
    assert stage.observer.all(PullStopped) == []


def test_thirty_thousand_names_that_come_and_go_leave_nothing_behind() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected())
    for number in range(30_000):
        invented = Member(NodeId(f"x{number}"), "127.0.0.1:9", "g")
        stage.tell(MemberJoined(invented), MemberFailed(invented))
        stage.network.take(invented.node_id).fail()
        stage.runtime.run_until_idle()
        stage.network.forgotten.clear()
        stage.observer.take()
    replicator = stage.ref._actor_weakref()
    assert replicator is not None
    assert (replicator.state.members, replicator.state.gone, stage.status().pulls) == ({}, set(), ())


def test_a_pull_goes_on_where_it_was_before_the_restart() -> None:
    stage = Stage()
    stage.open(pull_positions=((N2, PullPosition(5, Index(42))),))
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    request = stage.network.take(N2).request
    assert (request.next_index, request.source_epoch) == (42, 5)


def test_a_member_that_moved_is_pulled_at_its_new_address() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2)
    stage.tell(MemberUpdated(Member(N2, "r", "127.0.0.1:9")))
    assert stage.network.take(N2).peer.addr == "127.0.0.1:9"


def test_what_was_pulled_goes_to_the_store_and_only_then_more_is_fetched() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"some"))
    stage.runtime.run_until_idle()
    append = stage.store.last(AppendPulled)
    assert (append.source_id, append.source_epoch, append.first_index, append.batches) == (N2, 5, 0, b"some")
    assert stage.network.open == []
    stage.tell(PulledAppended(N2, 5, Index(3), Offset(3), 3, 0, 0, (), 0))
    assert stage.network.take(N2).request.next_index == 3


def test_a_pull_that_is_restarted_during_an_append_waits_for_its_end() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"some"))
    stage.runtime.run_until_idle()
    stage.tell(MemberUpdated(Member(N2, "r", "127.0.0.1:9")))
    assert stage.network.open == []
    stage.tell(PulledAppended(N2, 5, Index(3), Offset(3), 3, 0, 0, (), 0))
    assert stage.network.take(N2).request.next_index == 3


def test_an_entry_that_nobody_could_read_is_left_out_and_said_and_the_pull_goes_on_behind_it_after_a_pause() -> None:
    stage = Stage()
    stage.open(pull_positions=((N2, PullPosition(5, Index(2))),))
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"good", unreadable="entry 3 of n2 is no record"))
    stage.runtime.run_until_idle()
    assert stage.store.last(AppendPulled).batches == b"good"
    assert stage.observer.all(NodeWarned) == []
    stage.tell(PulledAppended(N2, 5, Index(3), Offset(3), 1, 0, 0, (), 0))
    stage.network.take(N2).answer(response(unreadable="entry 3 of n2 is no record"))
    stage.runtime.run_until_idle()
    warned = stage.observer.last(NodeWarned)
    assert (warned.kind, warned.reason) == (WarningKind.ENTRY_LEFT_OUT, "entry 3 of n2 is no record")
    noted = stage.store.last(AppendPulled)
    assert (noted.source_epoch, noted.first_index, noted.batches) == (5, 4, b"")
    stage.tell(PulledAppended(N2, 5, Index(4), None, 0, 0, 0, (), 0))
    assert stage.network.open == []
    assert stage.status().pulls[0].detail == "entry 3 of n2 is no record"
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=10)
    fetch = stage.network.take(N2)
    assert fetch.request.next_index == 4
    fetch.answer(response(end=at(4)))
    stage.runtime.run_until_idle()
    (pull,) = stage.status().pulls
    assert (pull.next_index, pull.lag, pull.connected, pull.detail) == (4, 0, True, "entry 3 of n2 is no record")


def test_a_source_whose_entries_nobody_can_read_is_asked_ever_more_seldom() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    pauses = []
    for index in range(8):
        stage.network.take(N2).answer(response(unreadable=f"entry {index} of n2 is no record"))
        stage.runtime.run_until_idle()
        stage.tell(PulledAppended(N2, 5, Index(index + 1), None, 0, 0, 0, (), 0))
        before_s = stage.runtime.now_s
        stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=10)
        pauses.append(stage.runtime.now_s - before_s)
    assert pauses[0] < 0.11
    assert 1.0 <= pauses[-1] <= 2.0


@pytest.mark.parametrize(("cycle", "broken"), [(Cycle.BREAK, True), (Cycle.ALLOW, False)])
def test_a_cycle_is_reported_with_its_path_and_counted(cycle: Cycle, broken: bool) -> None:
    stage = Stage(cycle=cycle)
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"some"))
    stage.runtime.run_until_idle()
    stage.tell(PulledAppended(N2, 5, Index(3), Offset(3), 0, 2, 1, ((N1, N2, N1),), 2))
    assert stage.observer.last(CycleSeen) == CycleSeen(N1, (N1, N2, N1), 2, broken)
    status = stage.status()
    assert (status.cycles_seen, status.duplicates_dropped, status.expired_dropped) == (2, 2, 1)


def test_an_unreachable_source_is_tried_again_with_growing_pauses() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    pauses = []
    for _ in range(8):
        stage.network.take(N2).fail()
        stage.runtime.run_until_idle()
        before_s = stage.runtime.now_s
        stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=10)
        pauses.append(stage.runtime.now_s - before_s)
    assert pauses[0] < 0.11
    assert 1.0 <= pauses[-1] <= 2.0
    assert not stage.status().pulls[0].connected
    assert stage.status().pulls[0].detail == "the connection broke"


def test_an_answer_to_a_fetch_of_a_stopped_pull_is_ignored() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    late = stage.network.take(N2)
    stage.tell(MemberUpdated(Member(N2, "r", "127.0.0.1:9")))
    late.answer(response(batches=b"late"))
    stage.runtime.run_until_idle()
    assert stage.store.all(AppendPulled) == []


def test_a_source_with_a_new_log_is_pulled_from_its_start() -> None:
    stage = Stage()
    stage.open(pull_positions=((N2, PullPosition(4, Index(42))),))
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(FetchOutcome.NEW_LOG))
    stage.runtime.run_until_idle()
    request = stage.network.take(N2).request
    assert (request.next_index, request.source_epoch) == (0, 5)
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.SOURCE_LOG_REPLACED
    assert "new log" in warned.reason


def test_a_source_whose_retention_overtook_the_pull_is_pulled_from_its_first_entry() -> None:
    stage = Stage()
    stage.open(pull_positions=((N2, PullPosition(5, Index(2))),))
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(FetchOutcome.OUT_OF_RANGE, start=at(6)))
    stage.runtime.run_until_idle()
    assert stage.network.take(N2).request.next_index == 6
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.ENTRIES_SKIPPED
    assert "[6, 10)" in warned.reason


def test_lag_is_what_the_source_has_and_the_pull_has_not() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    assert stage.status().pulls[0].lag == -1
    stage.network.take(N2).answer(response(batches=b"some"))
    stage.runtime.run_until_idle()
    stage.tell(PulledAppended(N2, 5, Index(3), Offset(3), 3, 0, 0, (), 0))
    (pull,) = stage.status().pulls
    assert (pull.source_id, pull.next_index, pull.next_offset, pull.lag, pull.connected) == (N2, 3, 3, 7, True)


def test_with_nobody_elected_what_is_on_this_disk_is_committed() -> None:
    stage = Stage()
    stage.open(end=at(2, 5))
    stage.tell(NobodyElected())
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(2, 5))]
    stage.appended(3, 9, term=0)
    assert stage.server.last(CommitAdvanced) == CommitAdvanced(at(3, 9))


def test_a_peers_fetch_is_read_from_the_store_and_answered() -> None:
    stage = Stage()
    stage.open(end=at(4, 40))
    stage.tell(NobodyElected())
    stage.fetch(1, N2, 2, elected=False, term=Term(0))
    read = stage.store.last(ReadBatches)
    assert (read.index, read.until, read.max_bytes) == (2, 4, 1000)
    read.reply_to.tell(BatchesRead(read.request_id, b"two", at(4, 40)))
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.batches, answer.log_epoch, answer.end) == (
        FetchOutcome.BATCHES,
        b"two",
        77,
        at(4, 40),
    )


def test_a_fetch_with_nothing_new_waits_and_is_answered_when_something_is_appended() -> None:
    stage = Stage()
    stage.open(end=at(4))
    stage.tell(NobodyElected())
    stage.fetch(1, N2, 4, elected=False, term=Term(0))
    assert stage.answer_to(1) is None
    assert stage.store.all(ReadBatches) == []
    stage.appended(5, 5, term=0)
    assert stage.store.last(ReadBatches).index == 4


def test_a_fetch_that_waited_long_enough_is_answered_empty() -> None:
    stage = Stage()
    stage.open(end=at(4))
    stage.tell(NobodyElected())
    stage.fetch(1, N2, 4, elected=False, term=Term(0))
    stage.runtime.run_for(0.49)
    assert stage.answer_to(1) is None
    stage.runtime.run_for(0.02)
    answer = stage.answer_to(1)
    assert answer is not None
    assert answer.batches == b""


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"source_epoch": 76, "next_index": Index(1)}, FetchOutcome.NEW_LOG),
        ({"source_epoch": 77, "next_index": Index(5)}, FetchOutcome.OUT_OF_RANGE),
        ({"cluster": "another"}, FetchOutcome.REFUSED),
        ({"elected": True}, FetchOutcome.REFUSED),
    ],
)
def test_a_peers_fetch_that_does_not_fit_is_told_why(changed: dict[str, Any], outcome: FetchOutcome) -> None:
    stage = Stage()
    stage.open(end=at(4))
    stage.tell(NobodyElected())
    stage.fetch(1, N2, changed.pop("next_index", 0), **{"elected": False, "term": Term(0), **changed})
    answer = stage.answer_to(1)
    assert answer is not None
    assert answer.outcome is outcome


# ---------------------------------------------------------------- what must not get stuck, or grow


def test_an_append_that_the_store_refused_for_its_old_term_does_not_hold_up_the_next_pull() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"some"))
    stage.tell(LeaderChanged(Term(2), N2))
    stage.tell(FetchedRejected(N2, Term(1), "term 1 is over"))
    assert stage.network.take(N2).request.term == 2
    assert stage.observer.all(NodeWarned) == []


def test_a_follower_that_shares_nothing_with_the_leader_begins_where_the_leader_does_and_says_so() -> None:
    stage = Stage(election=STATIC)
    stage.open(start=at(4), end=at(9), terms=history((1, 2)))
    stage.follow(term=2)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(2), diverged=None, diverged_at=Index(3), start=at(3), end=at(20))
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(ResetLog).start == at(3)
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.ENTRIES_DROPPED
    assert "drops its entries [4, 9)" in warned.reason


def test_a_leader_remembers_the_progress_of_voters_only() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    for number in range(50):
        stage.fetch(number, NodeId(f"stranger{number}"), 1)
    replicator = stage.ref._actor_weakref()
    assert replicator is not None
    assert set(replicator._commit.on_disk) <= {N1, N2, N3}


def test_a_stop_leaves_a_note_of_what_was_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), committed=at(2)))
    stage.runtime.run_until_idle()
    stage.runtime.stop(stage.ref)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2))]


TERMS = (0, 1, 2, 2**20, 2**20 + 1, 2**32, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("name", [N2, NodeId("stranger")])
def test_no_request_moves_a_leader_from_its_term(name: NodeId) -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    for request_id, term in enumerate(TERMS, 1):
        stage.fetch(request_id, name, 0, term=Term(term))
        assert stage.answer_to(request_id) is not None or term == 1
    assert {type(message) for message in stage.election.received} <= {VoterFetched}
    stage.fetch(100, N2, 1)
    stage.fetch(101, N3, 1)
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]


def test_a_follower_takes_any_term_that_its_leader_can_have_reached_and_none_that_no_leader_can() -> None:
    for term, is_taken in ((2, True), (2**32 + 2, True), (2**61, True), (2**62, False), (2**63, False)):
        follower = Stage(election=STATIC)
        follower.open()
        follower.follow()
        follower.network.take(N2).answer(response(FetchOutcome.STALE_TERM, term=Term(term)))
        follower.runtime.run_until_idle()
        assert bool(follower.election.all(HigherTermSeen)) is is_taken


def test_a_term_out_of_all_proportion_is_not_believed() -> None:
    follower = Stage(election=STATIC)
    follower.open()
    follower.follow()
    follower.network.take(N2).answer(response(FetchOutcome.STALE_TERM, term=Term(2**64 - 1)))
    follower.runtime.run_until_idle()
    assert follower.election.received == []
    assert str(2**64 - 1) in follower.status().pulls[0].detail
