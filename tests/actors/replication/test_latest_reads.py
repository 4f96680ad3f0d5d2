"""Reads of the latest state on one replicator: what confirms them on the leader, and how another node asks it."""

from __future__ import annotations

from typing import Any

from ourolog.actors.messages.events import (
    ClaimsDisputed,
    ClaimsSettled,
    LeaderChanged,
    LogAppended,
    MemberJoined,
    NobodyElected,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallReceived,
    CallRefused,
    FetchOutcome,
    FetchRequest,
    FetchResponse,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadIndexDue, ReadNotConfirmed
from ourolog.actors.messages.store import FetchedAppended
from ourolog.actors.testing.testkit import OpenCall, Probe
from ourolog.storage.types import START, Index, NodeId, Term
from tests.replicator_stage import N1, N2, N3, STATIC, Stage, at, history, member, place, response

VOTERS = VotersChanged((N1, N2, N3))


class Reads(Stage):
    """A replicator, and a server that reads the latest state."""

    def __init__(self, node_id: NodeId = N1, **config: Any) -> None:
        super().__init__(node_id, STATIC, **config)
        self.reader = Probe()

    def read(self, request_id: int = 1, timeout_s: float = 5.0) -> None:
        self.tell(ConfirmRead(request_id, timeout_s, self.reader))

    def asked(self, request_id: int = 50, node_id: NodeId = N2, **changed: Any) -> None:
        fields: dict[str, Any] = {"cluster": "ourolog", "node_id": node_id, "log_epoch": 1, "term": Term(1), **changed}
        self.tell(CallReceived(request_id, ReadIndexRequest(**fields), self.edge))

    def ready(self, term: int = 1) -> None:
        """Lead, with an entry of that term committed, and n2's and n3's next fetches parked as 11 and 12."""
        self.lead(term)
        self.fetch(1, N2, 1, term=Term(term))
        self.park(11, N2, term)
        self.park(12, N3, term)

    def park(self, request_id: int, node_id: NodeId, term: int = 1, number: int = 0) -> None:
        self.fetch(request_id, node_id, 1, committed=Index(1), term=Term(term), read_round=number)

    def number(self, request_id: int = 11) -> int:
        """The number of the round in the answer to that fetch."""
        answer: FetchResponse | None = self.answer_to(request_id)
        assert answer is not None
        assert (answer.outcome, answer.batches) == (FetchOutcome.BATCHES, b"")
        return answer.read_round

    @property
    def told_number(self) -> int:
        """The number of the round that what is read from the log now will carry; 0 before the first."""
        header: FetchResponse = self.store.received[-1].reply_to.header
        return header.read_round

    @property
    def confirmed(self) -> list[ReadConfirmed]:
        return self.reader.all(ReadConfirmed)

    @property
    def refusal(self) -> str:
        return self.reader.last(ReadNotConfirmed).detail

    def index_for(self, request_id: int = 50) -> ReadIndexResponse | None:
        for answer in self.edge.all(CallAnswer):
            if answer.request_id == request_id:
                assert isinstance(answer.response, ReadIndexResponse)
                return answer.response
        return None

    def question(self, leader: NodeId = N2) -> OpenCall:
        return self.network.take(leader, ReadIndexRequest)

    @property
    def questions(self) -> int:
        return sum(isinstance(call.request, ReadIndexRequest) for call in self.network.open)

    def answered(self, call: OpenCall, committed: int | None, term: int = 1, **changed: Any) -> None:
        index = None if committed is None else Index(committed)
        call.answer(ReadIndexResponse(call.peer.node_id, Term(term), call.peer.node_id, index, **changed))
        self.runtime.run_until_idle()


def follower(**config: Any) -> Reads:
    """n1 follows n2 in term 1; its log ends at index 5, and nothing of it is known to be committed."""
    stage = Reads(**config)
    stage.open(end=at(5))
    stage.follow()
    return stage


# ---------------------------------------------------------------- on the leader


def test_a_read_releases_the_parked_fetches_and_is_confirmed_by_the_echo_of_a_majority() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    number = stage.number(11)
    assert number == stage.number(12) > 0
    assert stage.confirmed == []
    stage.park(21, N2, number=number)
    assert stage.confirmed == [ReadConfirmed(1, at(1, 0))]


def test_a_fetch_that_arrives_after_the_read_without_its_number_proves_nothing() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    for request_id, node_id in enumerate((N2, N3, N2, N3), start=21):
        stage.park(request_id, node_id)
        assert stage.number(request_id) > 0
    assert stage.confirmed == []


def test_the_answer_to_a_parked_fetch_confirms_nothing_even_if_it_had_echoed_an_earlier_round() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    number = stage.number()
    stage.park(21, N2, number=number)
    stage.park(22, N3, number=number)
    stage.read(2)
    assert stage.number(21) == stage.number(22) == number + 1
    assert [read.request_id for read in stage.confirmed] == [1]
    stage.park(31, N3, number=number + 1)
    assert [read.request_id for read in stage.confirmed] == [1, 2]


def test_a_fetch_that_is_answered_otherwise_than_as_valid_does_not_confirm() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    number = stage.number()
    stage.fetch(21, N2, 1, committed=Index(1), term=Term(2), read_round=number)
    stage.fetch(22, N2, 3, committed=Index(1), read_round=number)
    stage.fetch(23, N2, 1, committed=Index(1), cluster="other", read_round=number)
    assert stage.confirmed == []


def test_a_disk_that_another_has_replaced_does_not_confirm() -> None:
    stage = Reads()
    stage.ready()
    stage.fetch(20, N2, 0, log_epoch=2)
    stage.read()
    stage.park(21, N2, number=stage.number(12))
    assert stage.confirmed == []
    stage.fetch(22, N2, 0, log_epoch=2, read_round=stage.number(12))
    assert len(stage.confirmed) == 1


def test_who_does_not_vote_confirms_nothing_and_hears_of_the_round_all_the_same() -> None:
    stage = Reads()
    stage.ready()
    n9 = NodeId("n9")
    stage.park(13, n9)
    stage.read()
    stage.park(23, n9, number=stage.number(13))
    assert stage.confirmed == []


def test_a_fetch_that_comes_while_a_round_is_open_is_answered_with_its_number_and_parked_once_it_echoes() -> None:
    stage = Reads()
    stage.ready()
    stage.tell(CallCancelled(11), CallCancelled(12))
    stage.read()
    stage.park(21, N2)
    number = stage.number(21)
    stage.tell(VotersChanged((N1, N2, N3, NodeId("n4"), NodeId("n5"))))
    stage.park(22, N2, number=number)
    assert stage.answer_to(22) is None


def test_a_round_that_is_over_does_not_hurry_those_who_have_not_heard_of_it() -> None:
    stage = Reads()
    stage.ready()
    stage.tell(CallCancelled(12))
    stage.read()
    stage.park(21, N2, number=stage.number())
    stage.park(22, N3)
    assert stage.answer_to(22) is None


def test_what_is_read_from_the_log_for_a_fetch_carries_the_number_too() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    stage.fetch(21, N3, 0)
    read = stage.store.received[-1]
    assert read.reply_to.header.read_round == stage.number()


def test_a_leader_waits_for_an_entry_of_its_own_term_and_then_confirms_what_was_committed_with_it() -> None:
    stage = Reads()
    stage.lead()
    stage.read()
    stage.fetch(1, N3, 0)
    assert stage.told_number == 0
    stage.fetch(2, N2, 1)
    number = stage.number(2)
    assert number > 0
    assert stage.confirmed == []
    stage.park(21, N3, number=number)
    assert stage.confirmed == [ReadConfirmed(1, at(1, 0))]


def test_reads_that_come_during_a_round_share_the_next_one() -> None:
    stage = Reads()
    stage.ready()
    stage.read(1)
    number = stage.number()
    stage.read(2)
    stage.read(3)
    stage.park(21, N2, number=number)
    assert [read.request_id for read in stage.confirmed] == [1]
    assert stage.number(21) == number + 1
    stage.park(31, N2, number=number + 1)
    assert [read.request_id for read in stage.confirmed] == [1, 2, 3]


def test_a_leader_that_is_the_only_voter_confirms_at_once() -> None:
    stage = Reads()
    stage.open()
    stage.tell(VotersChanged((N1,)), LeaderChanged(Term(1), N1))
    stage.appended(1, 0)
    stage.read()
    assert stage.confirmed == [ReadConfirmed(1, at(1, 0))]


def test_a_leader_that_is_no_voter_needs_a_majority_of_others() -> None:
    stage = Reads()
    stage.open()
    stage.tell(VotersChanged((N2, N3)), LeaderChanged(Term(1), N1))
    stage.appended(1, 0)
    stage.fetch(1, N2, 1)
    stage.fetch(2, N3, 1)
    stage.park(11, N2)
    stage.park(12, N3)
    stage.read()
    stage.park(21, N2, number=stage.number())
    assert stage.confirmed == []
    stage.park(22, N3, number=stage.number())
    assert len(stage.confirmed) == 1


def test_a_change_of_voters_is_counted_at_once() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    stage.tell(VotersChanged((N1,)))
    assert len(stage.confirmed) == 1


def test_a_new_term_voids_the_open_round_and_the_read_needs_one_of_the_new_term() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    old = stage.number()
    stage.tell(LeaderChanged(Term(2), N1))
    stage.appended(2, 0, term=2)
    stage.fetch(31, N2, 2, term=Term(2), last=None, read_round=old)
    assert stage.confirmed == []
    new = stage.number(31)
    assert new not in (0, old)
    stage.fetch(32, N3, 2, term=Term(2), last=None, read_round=new)
    assert len(stage.confirmed) == 1


def test_a_leader_that_leads_again_waits_for_an_entry_of_its_new_term_as_in_its_first() -> None:
    stage = Reads()
    stage.ready()
    stage.tell(LeaderChanged(Term(2), N2), LeaderChanged(Term(3), N1))
    stage.tell(LogAppended((at(2, 0),), history((1, 0), (3, 1))))
    stage.read()
    stage.fetch(31, N2, 1, term=Term(3))
    stage.fetch(32, N3, 1, term=Term(3))
    assert stage.told_number == 0
    stage.fetch(33, N2, 2, term=Term(3), last=place(3))
    number = stage.number(33)
    stage.fetch(34, N3, 2, term=Term(3), last=place(3), read_round=number)
    assert stage.confirmed == [ReadConfirmed(1, at(2, 0))]


def test_a_leader_that_is_deposed_asks_the_new_leader_for_the_reads_that_waited() -> None:
    stage = Reads()
    stage.ready()
    stage.read()
    old = stage.number()
    stage.tell(MemberJoined(member(N2)), LeaderChanged(Term(2), N2))
    stage.park(21, N2, number=old)
    assert stage.confirmed == []
    call = stage.question()
    assert call.request == ReadIndexRequest("ourolog", N1, 77, Term(2))
    stage.answered(call, 1, term=2)
    assert len(stage.confirmed) == 1


def test_a_leader_among_contradicting_claims_confirms_nothing() -> None:
    stage = Reads()
    stage.ready()
    stage.read(1)
    stage.tell(ClaimsDisputed("n3 claims to lead, too"))
    stage.read(2)
    assert [refused.detail for refused in stage.reader.all(ReadNotConfirmed)] == ["n3 claims to lead, too"] * 2
    stage.tell(ClaimsSettled())
    stage.read(3)
    stage.park(21, N2, number=stage.number(12))
    stage.park(22, N2, number=stage.number(12) + 1)
    assert [read.request_id for read in stage.confirmed] == [3]


def test_a_leader_that_nobody_follows_says_what_is_missing_when_the_time_is_up() -> None:
    stage = Reads()
    stage.ready()
    stage.read(timeout_s=2.0)
    stage.runtime.run_until(lambda: bool(stage.reader.received), timeout_s=3)
    assert stage.refusal == ("no majority of the voters has confirmed that n1 still leads term 1; no word of n2, n3")


def test_a_leader_without_a_quorum_says_that_it_does_not_know_what_is_committed() -> None:
    stage = Reads()
    stage.lead()
    stage.read(timeout_s=1.0)
    stage.runtime.run_until(lambda: bool(stage.reader.received), timeout_s=3)
    assert "a majority of the voters has not copied what begins that term" in stage.refusal


def test_a_read_that_nobody_waits_for_is_forgotten() -> None:
    stage = Reads()
    stage.ready()
    stage.read(1)
    number = stage.number()
    stage.tell(ForgetRead(1))
    stage.read(2)
    stage.tell(ForgetRead(2))
    stage.park(21, N2, number=number)
    stage.runtime.run_for(10)
    assert stage.reader.received == []


def test_with_nobody_elected_there_is_no_latest_state() -> None:
    stage = Stage()
    reader = Probe()
    stage.open()
    stage.tell(NobodyElected(), ConfirmRead(1, 5.0, reader))
    assert "nobody leads here" in reader.last(ReadNotConfirmed).detail


def test_a_read_that_comes_before_it_is_known_that_nobody_is_elected_is_told_then() -> None:
    stage = Stage()
    reader = Probe()
    stage.open()
    stage.tell(ConfirmRead(1, 60.0, reader))
    assert reader.received == []
    stage.tell(NobodyElected())
    assert "nobody leads here" in reader.last(ReadNotConfirmed).detail


def test_however_many_reads_wait_one_timer_looks_for_those_whose_time_is_up() -> None:
    stage = Reads()
    stage.ready()
    for request_id in range(50):
        stage.read(request_id, timeout_s=3.0)
    stage.tell(CallCancelled(11), CallCancelled(12))
    before = stage.runtime.steps
    stage.runtime.run_for(2.9)
    assert stage.runtime.steps - before < 20
    stage.runtime.run_for(1.0)
    assert len(stage.reader.all(ReadNotConfirmed)) == 50


def test_a_read_that_comes_before_the_election_has_spoken_waits() -> None:
    stage = Reads()
    stage.open()
    stage.read()
    assert stage.reader.received == []
    stage.tell(VotersChanged((N1,)), LeaderChanged(Term(1), N1))
    stage.appended(1, 0)
    assert len(stage.confirmed) == 1


# ---------------------------------------------------------------- other nodes ask the leader


def test_the_leader_tells_another_node_the_index_that_a_round_has_confirmed() -> None:
    stage = Reads()
    stage.ready()
    stage.asked()
    assert stage.index_for() is None
    stage.park(21, N3, number=stage.number())
    assert stage.index_for() == ReadIndexResponse(N1, Term(1), N1, Index(1))


def test_who_asks_a_node_that_does_not_lead_is_told_who_does() -> None:
    stage = follower()
    stage.asked()
    assert stage.index_for() == ReadIndexResponse(N1, Term(1), N2, None, "n1 does not lead")


def test_who_asks_in_another_term_is_told_the_leaders_and_no_index() -> None:
    stage = Reads()
    stage.ready()
    for request_id, term in ((50, 0), (51, 2)):
        stage.asked(request_id, term=Term(term))
        answer = stage.index_for(request_id)
        assert answer is not None
        assert (answer.term, answer.committed) == (1, None)


def test_who_is_of_another_cluster_is_refused() -> None:
    stage = Reads()
    stage.ready()
    stage.asked(cluster="other")
    (answer,) = [answer for answer in stage.edge.all(CallAnswer) if answer.request_id == 50]
    assert answer.response == CallRefused("n1 is of cluster 'ourolog', n2 of 'other'")


def test_a_leader_says_soon_that_nobody_confirms_it_and_at_once_that_it_leads_no_more() -> None:
    stage = Reads()
    stage.ready()
    stage.asked(50)
    stage.runtime.run_for(1.5)
    answer = stage.index_for(50)
    assert answer is not None
    assert "no word of n2, n3" in answer.detail
    stage.asked(51)
    stage.tell(LeaderChanged(Term(2), N3))
    assert stage.index_for(51) == ReadIndexResponse(N1, Term(2), N3, None, "n1 does not lead that term any more")


def test_a_question_that_was_cancelled_is_not_answered() -> None:
    stage = Reads()
    stage.ready()
    stage.asked()
    number = stage.number()
    stage.tell(CallCancelled(50))
    stage.park(21, N2, number=number)
    assert stage.index_for() is None


# ---------------------------------------------------------------- on a node that does not lead


def test_a_follower_asks_the_leader_after_the_read_has_come_and_waits_until_it_has_committed_as_much() -> None:
    stage = follower()
    stage.read()
    stage.answered(stage.question(), 5)
    assert stage.reader.received == []
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(9), committed=at(4)))
    stage.runtime.run_until_idle()
    assert stage.reader.received == []
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(9), committed=at(9)))
    stage.runtime.run_until_idle()
    assert stage.confirmed == [ReadConfirmed(1, at(5))]


def test_a_follower_that_has_committed_as_much_already_answers_at_once() -> None:
    stage = follower()
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(5), committed=at(5)))
    stage.read()
    stage.answered(stage.question(), 5)
    assert stage.confirmed == [ReadConfirmed(1, at(5))]


def test_an_answer_confirms_no_read_that_came_after_the_question_was_sent() -> None:
    stage = follower()
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(5), committed=at(5)))
    stage.read(1)
    first = stage.question()
    stage.read(2)
    stage.read(3)
    assert stage.questions == 0
    stage.answered(first, 5)
    assert [read.request_id for read in stage.confirmed] == [1]
    second = stage.question()
    assert second.request_id != first.request_id
    stage.answered(first, 5)
    assert len(stage.confirmed) == 1
    stage.answered(second, 5)
    assert [read.request_id for read in stage.confirmed] == [1, 2, 3]


def test_a_question_that_fails_or_is_not_answered_with_an_index_is_asked_anew_under_another_id() -> None:
    stage = follower()
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(5), committed=at(5)))
    stage.read(timeout_s=60)
    asked = [stage.question()]
    asked[0].fail()
    stage.runtime.run_until(lambda: stage.questions > 0, timeout_s=3)
    asked.append(stage.question())
    stage.answered(asked[1], None, detail="no word of n3")
    stage.runtime.run_until(lambda: stage.questions > 0, timeout_s=3)
    asked.append(stage.question())
    stage.answered(asked[2], 5, term=2)
    assert stage.confirmed == []
    stage.runtime.run_until(lambda: stage.questions > 0, timeout_s=6)
    asked.append(stage.question())
    assert len({call.request_id for call in asked}) == 4
    for stale in asked[:3]:
        stage.answered(stale, 5)
    assert stage.confirmed == []
    stage.answered(asked[3], 5)
    assert len(stage.confirmed) == 1


def test_a_change_of_leader_voids_the_question_and_the_new_leader_is_asked_at_once() -> None:
    stage = follower()
    stage.read()
    old = stage.question()
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    stage.answered(old, 0)
    stage.answered(old, 0, term=2)
    assert stage.confirmed == []
    stage.answered(stage.question(N3), 0, term=2)
    assert stage.confirmed == [ReadConfirmed(1, START)]


def test_who_waits_to_ask_once_more_waits_in_vain_for_nobody_but_this_leader() -> None:
    stage = follower(pull_backoff_min_s=3.0, pull_backoff_max_s=3.0)
    stage.read(timeout_s=60)
    stage.question().fail()
    stage.tell(VotersChanged((N1, N2, N3, NodeId("n4"))), ReadIndexDue(0), ReadIndexDue(7))
    stage.runtime.run_for(1.4)
    assert stage.questions == 0
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    question = stage.question(N3)
    stage.runtime.run_for(10)
    assert stage.questions == 0
    stage.answered(question, 0, term=2)
    assert len(stage.confirmed) == 1


def test_a_read_that_nobody_waits_for_is_not_asked_for_nor_answered_once_it_could_be() -> None:
    stage = Reads()
    stage.open(end=at(5))
    stage.tell(VOTERS, LeaderChanged(Term(1), N2))
    stage.read()
    stage.tell(ForgetRead(1), MemberJoined(member(N2)))
    assert stage.questions == 0
    stage.read(2)
    stage.answered(stage.question(), 3)
    stage.tell(ForgetRead(2))
    stage.network.take(N2, FetchRequest).answer(response(term=Term(1), end=at(5), committed=at(4)))
    stage.runtime.run_until_idle()
    assert stage.reader.received == []
    assert stage.network.take(N2, FetchRequest)


def test_an_index_that_a_leader_has_confirmed_outlives_its_term() -> None:
    stage = follower()
    stage.read()
    stage.answered(stage.question(), 3)
    stage.tell(MemberJoined(member(N3)), LeaderChanged(Term(2), N3))
    assert stage.questions == 0
    stage.network.take(N3, FetchRequest).answer(response(term=Term(2), end=at(5), committed=at(4)))
    stage.runtime.run_until_idle()
    assert stage.confirmed == [ReadConfirmed(1, at(4))]


def test_a_read_waits_for_a_leader_and_for_its_address() -> None:
    stage = Reads()
    stage.open()
    stage.tell(VOTERS, LeaderChanged(Term(1), None))
    stage.read()
    stage.tell(LeaderChanged(Term(1), N2))
    assert stage.questions == 0
    stage.tell(MemberJoined(member(N2)))
    stage.answered(stage.question(), 0)
    assert len(stage.confirmed) == 1


def test_what_a_follower_lacks_when_the_time_is_up_is_said() -> None:
    said: list[str] = []

    def time_is_up(stage: Reads) -> None:
        stage.runtime.run_until(lambda: bool(stage.reader.all(ReadNotConfirmed)), timeout_s=3)
        said.append(stage.refusal)
        stage.reader.take()

    leaderless = Reads()
    leaderless.open()
    leaderless.tell(VOTERS, LeaderChanged(Term(1), None))
    leaderless.read(timeout_s=1.0)
    time_is_up(leaderless)
    leaderless.tell(LeaderChanged(Term(1), N2))
    leaderless.read(2, timeout_s=1.0)
    time_is_up(leaderless)
    behind = follower()
    behind.read(timeout_s=1.0)
    time_is_up(behind)
    behind.question().fail("connection refused")
    behind.runtime.run_until_idle()
    behind.read(2, timeout_s=0.1)
    time_is_up(behind)
    behind = follower()
    behind.read(timeout_s=1.0)
    behind.answered(behind.question(), 9)
    time_is_up(behind)
    assert said == [
        "n1 knows of no leader in term 1",
        "n1 does not know yet where n2 is, which leads term 1",
        "n2, which leads term 1, has not answered yet",
        "connection refused",
        "everything below index 9 is committed, and n1 has that up to index 0 only, from n2",
    ]


def test_who_reads_where_nobody_can_be_elected_is_told_why_at_once_and_served_once_somebody_is() -> None:
    stage = Reads()
    stage.open()
    stage.tell(VOTERS, LeaderChanged(Term(1), None), MemberJoined(member(N2)))
    stage.read()
    assert stage.reader.all(ReadNotConfirmed) == []
    stage.tell(LeaderChanged(Term(1), None, "n2 and n3 do not answer"))
    stage.read(2)
    assert [refused.detail for refused in stage.reader.all(ReadNotConfirmed)] == ["n2 and n3 do not answer"] * 2
    stage.tell(LeaderChanged(Term(1), N2))
    stage.read(3)
    stage.answered(stage.question(), 0)
    assert len(stage.confirmed) == 1


def test_a_follower_echoes_the_leaders_last_number_in_this_term_and_nothing_in_the_next() -> None:
    stage = follower()
    first = stage.network.take(N2, FetchRequest)
    assert first.request.read_round == 0
    first.answer(response(term=Term(1), end=at(5), committed=at(5), read_round=7))
    stage.runtime.run_until_idle()
    second = stage.network.take(N2, FetchRequest)
    assert second.request.read_round == 7
    second.answer(response(term=Term(1), end=at(9), committed=at(5), batches=b"x", read_round=8))
    stage.runtime.run_until_idle()
    stage.tell(FetchedAppended(N2, Term(1), at(9)))
    assert stage.network.take(N2, FetchRequest).request.read_round == 8
    stage.tell(LeaderChanged(Term(2), N2))
    assert stage.network.take(N2, FetchRequest).request.read_round == 0


def test_a_number_of_another_term_or_of_a_node_that_does_not_lead_is_not_echoed() -> None:
    stage = follower(pull_backoff_min_s=0.01, pull_backoff_max_s=0.02)
    for answer in (
        response(term=Term(2), end=at(5), committed=at(5), read_round=7),
        response(FetchOutcome.NOT_LEADER, term=Term(1), read_round=7),
    ):
        stage.network.take(N2, FetchRequest).answer(answer)
        stage.runtime.run_until(
            lambda: any(isinstance(call.request, FetchRequest) for call in stage.network.open), timeout_s=1
        )
        assert stage.network.open[-1].request.read_round == 0
