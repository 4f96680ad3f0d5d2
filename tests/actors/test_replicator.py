"""The replicator alone: a scripted store, scripted peers, virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.config import NOBODY_ELECTED, Cycle, ElectionChoice, NodeConfig
from ourolog.actors.messages.election import HigherTermSeen, VoterFetched
from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    CommitAdvanced,
    CommitKnown,
    HoldProduces,
    LeaderChanged,
    LogAppended,
    LogOpened,
    LogStartMoved,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberUpdated,
    NobodyElected,
    ReleaseProduces,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.observer import CycleSeen, NodeWarned, PullStarted, PullStopped, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallReceived,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
)
from ourolog.actors.messages.status import ReplicatorStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import (
    AppendFetched,
    AppendPulled,
    BatchesRead,
    FetchedAppended,
    FetchedRejected,
    LogTruncated,
    NoteCommitted,
    PulledAppended,
    PullRejected,
    ReadBatches,
    ReadProblem,
    ReadRefused,
    ResetLog,
    TruncateLog,
)
from ourolog.actors.messages.values import Member, PullPosition
from ourolog.actors.occupants import parse_election
from ourolog.actors.replicator import ReplicatorActor
from ourolog.actors.stepping import SteppingRuntime
from ourolog.actors.testing.testkit import Probe, ScriptedNetwork, stepping_ports
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterSet
from ourolog.storage.terms import Place, Run, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
ADDR = {N1: "127.0.0.1:1", N2: "127.0.0.1:2", N3: "127.0.0.1:3"}
STATIC = parse_election("static:n1,n2,n3")


def at(index: int, offset: int | None = None) -> Position:
    return Position(Index(index), Offset(index if offset is None else offset))


def member(node_id: NodeId) -> Member:
    return Member(node_id, ADDR[node_id], f"gossip-{node_id}")


WRITERS = {1: (N1, 77), 2: (N2, 78), 3: (N3, 79), 4: (N1, 77)}


def place(term: int) -> Place:
    """Of an entry of that term; each has one writer in these tests."""
    return Place(Term(term), WRITERS.get(term, (N1, 77)) if term else (N1, 0))


def history(*starts: tuple[int, int]) -> TermHistory:
    """Terms and where they begin."""
    return TermHistory(tuple(Run(*place(term), Index(index)) for term, index in starts))


class Stage:
    """A replicator between probes."""

    def __init__(self, node_id: NodeId = N1, election: ElectionChoice | None = None, **config: Any) -> None:
        self.runtime = SteppingRuntime()
        self.store, self.server, self.election, self.observer = Probe(), Probe(), Probe(), Probe()
        self.network = ScriptedNetwork()
        self.edge = Probe()
        self.ref = self.runtime.spawn(
            ReplicatorActor,
            config=NodeConfig(
                node_id, "/data", ADDR[node_id], "127.0.0.1:2", election=election or NOBODY_ELECTED, **config
            ),
            ports=stepping_ports(self.runtime, object(), network=self.network, observer=self.observer),  # type: ignore[arg-type]
            store=self.store,
            server=self.server,
            election=self.election,
        )

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.ref.tell(message)
        self.runtime.run_until_idle()

    def open(self, end: Position = START, terms: TermHistory | None = None, **more: Any) -> None:
        opened: dict[str, Any] = {
            "start": START,
            "end": end,
            "terms": terms or TermHistory(),
            "log_epoch": 77,
            "ballot": Ballot(),
            "pull_positions": (),
            "committed": START,
            **more,
        }
        self.tell(LogOpened(**opened))

    def lead(self, term: int = 1) -> None:
        """Become the leader, with its control batch at index 0 of an empty log."""
        self.open()
        self.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(term), N1))
        self.appended(1, 0, term=term)

    def follow(self, term: int = 1, leader: NodeId = N2) -> None:
        self.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(term), leader), MemberJoined(member(leader)))

    def appended(self, index: int, offset: int, term: int = 1) -> None:
        self.tell(LogAppended((at(index, offset),), history((term, 0))))

    def fetch(self, request_id: int, node_id: NodeId, next_index: int, **changed: Any) -> None:
        fields: dict[str, Any] = {
            "cluster": "ourolog",
            "node_id": node_id,
            "log_epoch": 1,
            "elected": True,
            "term": Term(1),
            "next_index": Index(next_index),
            "last": place(1) if next_index else None,
            "source_epoch": 0,
            "committed": Index(0),
            "max_bytes": 1000,
            "max_wait_s": 0.5,
            **changed,
        }
        self.tell(CallReceived(request_id, FetchRequest(**fields), self.edge))

    def answer_to(self, request_id: int) -> FetchResponse | None:
        for answer in self.edge.all(CallAnswer):
            if answer.request_id == request_id:
                return answer.response
        return None

    def answers_to(self, request_id: int) -> int:
        return sum(answer.request_id == request_id for answer in self.edge.all(CallAnswer))

    def status(self) -> ReplicatorStatus:
        probe = Probe()
        self.tell(ReportStatus(1, probe))
        status = probe.last(StatusReported).status
        assert isinstance(status, ReplicatorStatus)
        return status


def response(outcome: FetchOutcome = FetchOutcome.BATCHES, **changed: Any) -> FetchResponse:
    fields: dict[str, Any] = {
        "outcome": outcome,
        "term": Term(0),
        "log_epoch": 5,
        "start": START,
        "end": at(10),
        "committed": at(10),
        **changed,
    }
    return FetchResponse(**fields)


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
    stage.tell(MemberUpdated(Member(N2, "127.0.0.1:9", "g")))
    assert stage.network.take(N2).peer.rpc_addr == "127.0.0.1:9"


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
    stage.tell(MemberUpdated(Member(N2, "127.0.0.1:9", "g")))
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
    stage.tell(MemberUpdated(Member(N2, "127.0.0.1:9", "g")))
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


# ---------------------------------------------------------------- a follower


def test_a_follower_pulls_from_the_leader_and_from_nobody_else() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(MemberJoined(member(N3)))
    stage.follow()
    assert [call.peer.node_id for call in stage.network.open] == [N2]
    request = stage.network.take(N2).request
    assert (request.elected, request.term, request.next_index, request.last) == (True, 1, 0, None)


def test_a_follower_finds_the_leader_where_its_disk_says_until_gossip_knows_better() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.tell(LeaderChanged(Term(1), N2))
    assert stage.network.open == []
    stage.tell(VotersChanged((N1, N2, N3), addrs=("n1:1", "logged:2", "n3:3")))
    assert [(call.peer.node_id, call.peer.rpc_addr) for call in stage.network.open] == [(N2, "logged:2")]
    stage.tell(MemberJoined(member(N2)))
    assert stage.network.open[-1].peer.rpc_addr == member(N2).rpc_addr


def test_a_follower_that_hears_of_the_same_leader_again_goes_on_with_its_fetch() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    (fetch,) = stage.network.open
    stage.tell(LeaderChanged(Term(1), N2, "what was missing is there"))
    assert stage.network.open == [fetch]
    assert stage.observer.all(PullStopped) == []


def test_a_follower_fetches_from_its_own_end_with_its_last_term() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(7), terms=history((1, 0), (3, 5)))
    stage.follow(term=3)
    request = stage.network.take(N2).request
    assert (request.next_index, request.last, request.term) == (7, place(3), 3)


def test_a_follower_learns_the_commit_position_with_what_it_has_on_disk() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"three", committed=at(5, 50), end=at(5, 50)))
    stage.runtime.run_until_idle()
    assert stage.store.last(AppendFetched).batches == b"three"
    assert stage.server.all(CommitAdvanced) == []
    stage.tell(
        LogAppended((at(2, 20), at(3, 30)), history((1, 0))),
        FetchedAppended(N2, Term(1), at(3, 30)),
    )
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(3, 30))]
    request = stage.network.take(N2).request
    assert (request.next_index, request.committed) == (3, 3)


def test_a_follower_with_a_longer_stale_log_truncates_before_it_fetches() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(1), diverged_at=Index(6))
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(TruncateLog).index == 6
    assert stage.network.open == []
    stage.tell(LogTruncated(START, at(6), history((1, 0))))
    request = stage.network.take(N2).request
    assert (request.next_index, request.last) == (6, place(1))


def test_a_follower_asks_nothing_while_its_log_is_cut_though_its_leader_has_another_address() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    diverged = response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(1), diverged_at=Index(6))
    stage.network.take(N2).answer(diverged)
    stage.runtime.run_until_idle()
    stage.tell(MemberUpdated(Member(N2, "127.0.0.1:99", "gossip-n2")))
    assert stage.network.open == []
    stage.tell(LogTruncated(START, at(6), history((1, 0))))
    request = stage.network.take(N2).request
    assert (request.next_index, request.last) == (6, place(1))
    assert len(stage.store.all(TruncateLog)) == 1


def test_when_the_leader_has_nothing_of_the_last_term_there_all_of_that_term_goes() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0), (2, 6)))
    stage.follow(term=3)
    stage.network.take(N2).answer(
        response(FetchOutcome.DIVERGED, term=Term(3), diverged=place(2), diverged_at=Index(20))
    )
    stage.runtime.run_until_idle()
    assert stage.store.last(TruncateLog).index == 6


def test_a_follower_never_drops_what_was_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(9), terms=history((1, 0)), committed=at(8))
    stage.follow(term=2)
    stage.network.take(N2).answer(response(FetchOutcome.DIVERGED, term=Term(2), diverged=None, diverged_at=Index(1)))
    stage.runtime.run_until_idle()
    assert stage.store.all(TruncateLog) + stage.store.all(ResetLog) == []
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.KEEPS_ITS_COPY
    assert "keeps its copy" in warned.reason
    assert "keeps its copy" in stage.status().pulls[0].detail


def test_a_follower_that_retention_has_overtaken_starts_again_at_the_leaders_first_entry() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(FetchOutcome.OUT_OF_RANGE, term=Term(1), start=at(8, 80)))
    stage.runtime.run_until_idle()
    assert stage.store.last(ResetLog).start == at(8, 80)
    stage.tell(LogTruncated(at(8, 80), at(8, 80), TermHistory()))
    assert stage.network.take(N2).request.next_index == 8


def test_a_rejected_append_is_said_and_fetched_again_after_a_pause() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), batches=b"rotten"))
    stage.runtime.run_until_idle()
    stage.tell(FetchedRejected(N2, Term(1), "the checksum does not hold"))
    warned = stage.observer.last(NodeWarned)
    assert warned.kind is WarningKind.PULL_NOT_APPENDED
    assert "checksum" in warned.reason
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=5)


def test_a_rejected_copy_is_said_and_pulled_again_after_a_pause() -> None:
    stage = Stage()
    stage.open()
    stage.tell(NobodyElected(), MemberJoined(member(N2)))
    stage.network.take(N2).answer(response(batches=b"rotten"))
    stage.runtime.run_until_idle()
    stage.tell(PullRejected(N2, "the checksum does not hold"))
    warned = stage.observer.last(NodeWarned)
    assert (warned.kind, warned.about) == (WarningKind.PULL_NOT_APPENDED, N2)
    assert "checksum" in warned.reason
    assert stage.network.open == []
    stage.runtime.run_until(lambda: bool(stage.network.open), timeout_s=5)
    assert stage.network.take(N2).request.next_index == 0


@pytest.mark.parametrize("outcome", [FetchOutcome.STALE_TERM, FetchOutcome.NOT_LEADER])
def test_a_higher_term_in_an_answer_reaches_the_election(outcome: FetchOutcome) -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.network.take(N2).answer(response(outcome, term=Term(6), leader_id=N3))
    stage.runtime.run_until_idle()
    assert stage.election.received == [HigherTermSeen(Term(6), N3, N2)]


def test_a_follower_answers_a_fetch_with_who_leads() -> None:
    stage = Stage(election=STATIC)
    stage.open()
    stage.follow()
    stage.fetch(1, N3, 0)
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.leader_id, answer.term) == (FetchOutcome.NOT_LEADER, N2, 1)


def test_the_commit_position_is_noted_for_the_next_start() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    stage.network.take(N2).answer(response(term=Term(1), committed=at(2)))
    stage.runtime.run_for(1.1)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2))]
    stage.runtime.run_for(3.0)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2))]
    stage.network.take(N2).answer(response(term=Term(1), committed=at(3)))
    stage.runtime.run_for(1.1)
    assert stage.store.all(NoteCommitted) == [NoteCommitted(at(2)), NoteCommitted(at(3))]


# ---------------------------------------------------------------- a log that was begun anew


RESET = history((1, 39))
"""Of a log that begins at index 40, behind an entry of term 1."""


def test_a_log_that_was_begun_anew_knows_what_stood_before_it_and_that_it_was_committed() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(3), terms=history((1, 0)))
    stage.follow()
    out_of_range = response(FetchOutcome.OUT_OF_RANGE, term=Term(1), start=at(40, 400), before_start=place(1))
    stage.network.take(N2).answer(out_of_range)
    stage.runtime.run_until_idle()
    assert stage.store.last(ResetLog).before == place(1)
    stage.tell(LogTruncated(at(40, 400), at(40, 400), RESET))
    assert stage.server.received == [LogStartMoved(at(40, 400)), CommitAdvanced(at(40, 400))]
    request = stage.network.take(N2).request
    assert (request.next_index, request.last, request.committed) == (40, place(1), 40)


@pytest.mark.parametrize("leaders_start", [0, 39, 40, 60])
@pytest.mark.parametrize("is_empty", [True, False])
def test_a_follower_that_begins_anywhere_follows_a_leader_that_begins_anywhere(
    leaders_start: int, is_empty: bool
) -> None:
    leader = Stage(N1, election=STATIC)
    terms = history((1, 0), (4, 80))
    leader.open(start=at(leaders_start), end=at(80), terms=history((1, 0)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1), LogAppended((at(81),), terms))
    follower = Stage(N2, election=STATIC)
    end = 40 if is_empty else 50
    follower.open(start=at(40), end=at(end), terms=RESET, committed=at(40))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    answer = leader.answer_to(1)
    if leaders_start <= end:
        assert answer is None
        assert leader.store.last(ReadBatches).index == end
    else:
        assert answer is not None
        fetch.answer(answer)
        follower.runtime.run_until_idle()
        assert follower.store.last(ResetLog).start == at(leaders_start)
    assert follower.observer.all(NodeWarned) == [] or leaders_start > end


def test_an_empty_log_that_does_not_know_what_stood_before_it_is_served() -> None:
    stage = Stage(election=STATIC)
    stage.open(end=at(80), terms=history((1, 0)))
    stage.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    stage.fetch(1, N2, 40, term=Term(4), last=None)
    assert stage.store.last(ReadBatches).index == 40


def test_a_leader_that_does_not_know_what_stood_before_its_start_lets_others_begin_there() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    leader.fetch(1, N2, 40, term=Term(4), last=place(1))
    answer = leader.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.before_start) == (FetchOutcome.OUT_OF_RANGE, None)


def test_who_has_all_as_committed_up_to_the_leaders_start_is_served_whatever_the_leader_knows_of_before() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(40))
    follower.follow(term=4, leader=N1)
    leader.tell(CallReceived(1, follower.network.take(N1).request, leader.edge))
    assert leader.answer_to(1) is None
    assert leader.store.last(ReadBatches).index == 40


def test_who_stands_at_the_leaders_start_and_cannot_be_compared_is_told_why_it_begins_anew() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((3, 50)))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(39))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    answer = leader.answer_to(1)
    assert answer is not None
    fetch.answer(answer)
    follower.runtime.run_until_idle()
    assert follower.store.last(ResetLog).start == at(40)
    warned = follower.observer.last(NodeWarned)
    assert warned.kind is WarningKind.LOG_BEGUN_ANEW
    reason = warned.reason
    assert "n1 no longer knows which entry stood before its first one" in reason
    assert "n2 drops its entries [0, 40)" in reason


def test_a_read_that_retention_overtook_brings_nothing_and_the_next_fetch_is_told_where_the_log_begins() -> None:
    leader = Stage(election=STATIC)
    leader.open(start=at(40), end=at(80), terms=history((1, 0)), committed=at(80))
    leader.tell(VotersChanged((N1, N2, N3)), LeaderChanged(Term(4), N1))
    follower = Stage(N2, election=STATIC)
    follower.open(end=at(40), terms=history((1, 0)), committed=at(40))
    follower.follow(term=4, leader=N1)
    fetch = follower.network.take(N1)
    leader.tell(CallReceived(1, fetch.request, leader.edge))
    leader.tell(LogStartMoved(at(60)))
    leader.store.last(ReadBatches).reply_to.tell(ReadRefused(0, ReadProblem.OUT_OF_RANGE, "", at(60), at(80)))
    leader.runtime.run_until_idle()
    answer = leader.answer_to(1)
    assert answer is not None
    fetch.answer(answer)
    follower.runtime.run_until_idle()
    assert follower.store.all(ResetLog) == []
    leader.tell(CallReceived(2, follower.network.take(N1).request, leader.edge))
    told = leader.answer_to(2)
    assert told is not None
    assert (told.outcome, told.start) == (FetchOutcome.OUT_OF_RANGE, at(60))


def test_a_copy_that_begins_above_all_that_a_leader_has_is_kept() -> None:
    stage = Stage(election=STATIC)
    stage.open(start=at(40), end=at(40), terms=RESET, committed=at(40))
    stage.follow()
    diverged = response(FetchOutcome.DIVERGED, term=Term(1), diverged=place(1), diverged_at=Index(10), end=at(10))
    stage.network.take(N2).answer(diverged)
    stage.runtime.run_until_idle()
    assert stage.store.all(ResetLog) == []
    assert stage.observer.last(NodeWarned).kind is WarningKind.KEEPS_ITS_COPY


# ---------------------------------------------------------------- a leader


def test_who_asks_where_retention_has_moved_the_start_is_told_what_stood_before_it() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    voters = VoterSet(Index(0), Term(1), ())
    stage.tell(LogStartMoved(at(1), voters))
    stage.fetch(1, N2, 0)
    answer = stage.answer_to(1)
    assert answer is not None
    assert (answer.outcome, answer.start, answer.voters_before_start) == (FetchOutcome.OUT_OF_RANGE, at(1), voters)


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
    assert stage.server.all(ReplicasAdvanced) == []
    stage.fetch(2, N3, 4, term=Term(3), last=place(3))
    assert stage.server.all(ReplicasAdvanced) == [], "nothing is known of n2 in this term"


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
    assert stage.server.all(ReplicasAdvanced) == []
    stage.fetch(2, N3, 1)
    assert stage.server.all(ReplicasAdvanced) == [ReplicasAdvanced(Term(1), Index(1))]


def test_the_commit_position_does_not_fall_when_a_follower_comes_back_shorter() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N2, 1)
    stage.fetch(2, N2, 0)
    assert stage.server.all(CommitAdvanced) == [CommitAdvanced(at(1, 0))]
    assert stage.status().committed == at(1, 0)


def test_a_commit_is_told_at_once_to_those_who_wait() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.fetch(1, N3, 1, committed=Index(1))
    assert stage.answer_to(1) is None
    stage.appended(2, 10)
    stage.store.take()[-1].reply_to.tell(BatchesRead(0, b"entry 1", at(2, 10)))
    stage.fetch(2, N3, 2, committed=Index(1))
    answer = stage.answer_to(2)
    assert answer is not None
    assert answer.committed == at(2, 10)


def test_who_has_heard_the_news_already_waits_on_and_as_long_as_it_said() -> None:
    stage = Stage(election=STATIC)
    stage.lead()
    stage.appended(2, 1)
    stage.fetch(1, NodeId("n8"), 2, committed=Index(1))
    stage.fetch(2, NodeId("n9"), 2, committed=Index(2))
    assert stage.status().parked_fetches == 2
    stage.runtime.run_for(0.3)
    stage.fetch(3, N2, 2, committed=Index(1))
    assert [stage.answers_to(request_id) for request_id in (1, 2, 3)] == [1, 0, 1]
    stage.runtime.run_for(0.19)
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
