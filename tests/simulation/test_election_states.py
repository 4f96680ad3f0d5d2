"""Rare states of elections: each is noted when it is reached, and its neighbour is not taken for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    FoundRequest,
    FoundResponse,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.server import Produce
from ourolog.actors.messages.store import LogDescribed, LogTruncated
from ourolog.actors.messages.values import Acks
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.election_states import ELECTION_STATES, ElectionStates
from ourolog.simulation.events import (
    FaultInjected,
    FileReplaced,
    MessageTold,
    NodeCrashed,
    NodePaused,
    NodeResumed,
    NodeStarted,
    NodeStopped,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import NewBatch
from ourolog.storage.control import VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry, Place, Run, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, ballot_saved, config


class Stage:
    """Three nodes, and what was counted: `reached`. Methods are what happens."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.states = ElectionStates(lambda state: self.reached.update((state,)))
        self.time_s = 0.0
        self.calls = 0
        for node_id in (N1, N2, N3):
            self.start(node_id)

    def tell(self, sender: str, receiver: str, message: object) -> None:
        self.time_s += 0.001
        self.states.see(MessageTold(self.time_s, sender, receiver, message))

    def start(self, node_id: NodeId, ballot: Ballot = Ballot()) -> None:  # noqa: B008
        self.states.see(NodeStarted(self.time_s, node_id, config(node_id)))
        opened = LogOpened(START, START, TermHistory(), EPOCH, ballot, (), START)
        self.tell(f"{node_id}.store", f"{node_id}.election", opened)

    def save(self, node_id: NodeId, term: int, voted_for: NodeId | None = None) -> None:
        self.states.see(FileReplaced(self.time_s, node_id, "/data/ballot", b""))
        self.tell(f"{node_id}.store", f"{node_id}.election", ballot_saved(Ballot(Term(term), voted_for)))

    def lead(self, node_id: NodeId, term: int) -> None:
        self.save(node_id, term, node_id)
        self.tell(f"{node_id}.election", f"{node_id}.replicator", LeaderChanged(Term(term), node_id))

    def learn(self, node_id: NodeId, term: int, leader_id: NodeId | None = None) -> None:
        self.tell(f"{node_id}.election", f"{node_id}.replicator", LeaderChanged(Term(term), leader_id))

    def log(self, node_id: NodeId, *terms: int) -> None:
        """What was appended to an empty log: one entry of each of these terms."""
        ends = tuple(Position(Index(at + 1), Offset(at + 1)) for at in range(len(terms)))
        self.tell(f"{node_id}.store", f"{node_id}.replicator", LogAppended(ends, history(*terms)))

    def cut(self, node_id: NodeId, *left: int) -> None:
        end = Position(Index(len(left)), Offset(len(left)))
        self.tell(f"{node_id}.store", f"{node_id}.replicator", LogTruncated(START, end, history(*left)))

    def commit(self, node_id: NodeId, index: int) -> None:
        committed = CommitAdvanced(Position(Index(index), Offset(index)))
        self.tell(f"{node_id}.replicator", f"{node_id}.server", committed)

    def ask(self, voter: NodeId, term: int, *, epoch: int = EPOCH, last: tuple[int, int] = (0, 0), **more: Any) -> None:
        """n1 asks for that node's vote."""
        self.calls += 1
        entry = LastEntry(Term(last[0]), Index(last[1]))
        request = VoteRequest("ourolog", 1, N1, EPOCH, VoterKey(voter, epoch), Term(term), entry, **more)
        self.tell("", f"{voter}.election", CallReceived(self.calls, request, Probe()))

    def answer(self, voter: NodeId, term: int, *, granted: bool, leader_id: NodeId | None = None) -> VoteResponse:
        response = VoteResponse(voter, EPOCH, Term(term), leader_id, granted)
        self.tell(f"{voter}.election", "n1", CallAnswer(self.calls, response))
        return response

    def hear(self, response: VoteResponse) -> None:
        self.tell("", "n1.election", CallReturned(response.node_id, 1, response))

    def describe(self, node_id: NodeId, term: int, index: int) -> None:
        end = Position(Index(index), Offset(index))
        place = Place(Term(term), (N1, EPOCH))
        described = LogDescribed(1, Ballot(), START, end, place, START, None)
        self.tell(f"{node_id}.store", f"{node_id}.election", described)

    def hand_over(self) -> None:
        """n1, which leads term 1, asks n2 to take over."""
        key = VoterKey(N2, EPOCH)
        request = EndTermRequest("ourolog", 1, N1, EPOCH, key, Term(1), (key, VoterKey(N3, EPOCH)))
        self.tell("", "n2.election", CallReceived(1, request, Probe()))

    def crash(self, node_id: NodeId) -> None:
        self.states.see(NodeCrashed(self.time_s, node_id, False))

    def pause(self, node_id: NodeId, seconds: float) -> None:
        self.states.see(NodePaused(self.time_s, node_id))
        self.time_s += seconds
        self.states.see(NodeResumed(self.time_s, node_id))

    def produce(self, node_id: NodeId) -> None:
        produce = Produce(1, NewBatch(b"", 1), Acks.QUORUM, 5.0, Probe())
        self.tell("", f"{node_id}.server", produce)


def history(*terms: int) -> TermHistory:
    first = {term: index for index, term in reversed(list(enumerate(terms)))}
    return TermHistory(tuple(Run(Term(term), (N1, EPOCH), Index(first[term])) for term in sorted(first)))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_two_who_stand_in_one_term_and_do_not_lead_split_the_vote(stage: Stage) -> None:
    stage.save(N1, 1, N1)
    stage.save(N2, 2, N2)
    assert not stage.reached
    stage.save(N1, 2, N1)
    stage.save(N3, 3, N3)
    assert stage.reached == {"split_vote": 1}
    stage.save(N1, 3, N1)
    stage.lead(N1, 3)
    stage.save(N2, 4, N2)
    assert stage.reached == {"split_vote": 1}


@pytest.mark.parametrize(
    ("last", "reached"),
    [
        ((2, 1), {"pre_vote_refused_short_log"}),
        ((1, 7), {"pre_vote_refused_short_log", "pre_vote_refused_longer_log"}),
        ((2, 3), set()),
    ],
)
def test_a_pre_vote_refused_for_the_log_is_told_from_others(
    stage: Stage, last: tuple[int, int], reached: set[str]
) -> None:
    stage.describe(N2, 2, 3)
    stage.ask(N2, 4, last=last, is_pre_vote=True)
    stage.answer(N2, 4, granted=False)
    assert set(stage.reached) == reached


def test_who_hears_of_its_leader_refuses_in_two_ways(stage: Stage) -> None:
    stage.ask(N2, 4, is_pre_vote=True)
    stage.answer(N2, 4, granted=False, leader_id=N3)
    stage.ask(N2, 5)
    stage.answer(N2, 4, granted=False, leader_id=N3)
    assert stage.reached == {"pre_vote_refused_led": 1, "vote_refused_led": 1}


def test_a_vote_refused_to_who_was_told_that_it_would_have_it(stage: Stage) -> None:
    for pre_voted_in, granted in ((3, False), (4, True), (4, False)):
        assert not stage.reached
        stage.ask(N2, pre_voted_in, is_pre_vote=True)
        stage.answer(N2, pre_voted_in, granted=True)
        stage.ask(N2, 5)
        stage.answer(N2, 5, granted=granted)
    assert stage.reached == {"vote_refused_after_pre_vote": 1}


def test_a_vote_that_comes_in_a_later_term_is_late_and_a_pre_vote_is_not(stage: Stage) -> None:
    stage.save(N1, 5, N1)
    for is_pre_vote in (True, False):
        stage.ask(N2, 5, is_pre_vote=is_pre_vote)
        response = stage.answer(N2, 5, granted=True)
        stage.hear(response)
        assert not stage.reached
    stage.ask(N2, 5)
    response = stage.answer(N2, 5, granted=True)
    stage.save(N1, 6)
    stage.hear(response)
    assert stage.reached == {"vote_answered_late": 1}


def test_a_crash_between_ballot_and_answer(stage: Stage) -> None:
    stage.ask(N2, 5, is_pre_vote=True)
    stage.save(N2, 5)
    stage.crash(N2)
    stage.ask(N3, 5)
    stage.save(N3, 5, N1)
    stage.answer(N3, 5, granted=True)
    stage.crash(N3)
    stage.start(N3)
    stage.ask(N3, 6)
    stage.crash(N3)
    assert not stage.reached
    stage.start(N3)
    stage.ask(N3, 6)
    stage.save(N3, 6, N1)
    stage.crash(N3)
    assert stage.reached == {"crash_before_vote_answer": 1}


def test_a_voter_with_another_disk_returns_and_is_asked_for_the_lost_ones_vote(stage: Stage) -> None:
    stage.save(N2, 1, N1)
    stage.crash(N2)
    stage.states.see(FaultInjected(stage.time_s, "disk_lost", "n2"))
    stage.start(N2)
    assert stage.reached == {"wiped_voter_returned": 1}
    stage.ask(N2, 2)
    stage.ask(N2, 2, epoch=EPOCH + 1)
    assert stage.reached["vote_of_lost_disk_asked"] == 1


def test_a_leader_that_gives_up_in_its_own_term_has_resigned(stage: Stage) -> None:
    stage.lead(N1, 1)
    stage.save(N1, 2)
    stage.learn(N1, 2)
    assert not stage.reached
    stage.lead(N1, 3)
    stage.learn(N1, 3)
    assert stage.reached == {"leader_resigned": 1}


def test_a_produce_after_a_long_freeze_is_one_that_comes_before_the_news(stage: Stage) -> None:
    stage.lead(N1, 1)
    stage.pause(N1, 1.0)
    stage.produce(N1)
    stage.pause(N1, 5.0)
    stage.learn(N1, 2, N2)
    stage.produce(N1)
    stage.pause(N1, 5.0)
    stage.produce(N1)
    assert not stage.reached
    stage.lead(N1, 3)
    stage.pause(N1, 5.0)
    stage.produce(N1)
    stage.produce(N1)
    assert stage.reached == {"produce_after_freeze": 1}


@pytest.mark.parametrize(
    ("theirs", "committed", "reached"), [((1, 1), 1, 1), ((1,), 1, 0), ((1, 2), 1, 0), ((1, 1), 2, 0)]
)
def test_entries_of_a_deposed_leader_that_another_has(theirs: tuple[int, ...], committed: int, reached: int) -> None:
    for crashes in (False, True):
        stage = Stage()
        stage.lead(N1, 1)
        stage.log(N1, 1, 1)
        stage.log(N2, *theirs)
        stage.commit(N1, committed)
        stage.crash(N1) if crashes else stage.learn(N1, 2, N2)
        assert stage.reached["deposed_with_copied_entries"] == reached


def test_entries_of_an_older_term_on_a_majority_that_are_cut(stage: Stage) -> None:
    stage.lead(N1, 1)
    stage.log(N1, 1)
    stage.lead(N1, 3)
    stage.log(N2, 1)
    stage.cut(N1, 1)
    assert "old_term_on_majority_cut" not in stage.reached
    stage.cut(N2)
    assert stage.reached["old_term_on_majority_cut"] == 1


def test_what_is_cut_of_the_leaders_own_term_or_was_on_a_minority_is_another_matter(stage: Stage) -> None:
    stage.lead(N1, 1)
    for node_id in (N1, N2):
        stage.log(node_id, 1)
    stage.cut(N2)
    stage.lead(N1, 3)
    stage.log(N3, 2)
    stage.cut(N3)
    assert "old_term_on_majority_cut" not in stage.reached


def test_a_hand_over_is_asked_for_and_may_be_cut(stage: Stage) -> None:
    for crashed, reached in ((N3, 0), (N2, 1), (N1, 1)):
        stage = Stage()
        stage.hand_over()
        stage.crash(crashed)
        assert stage.reached["hand_over_cut"] == reached
        assert stage.reached["hand_over_asked"] == 1
    stage = Stage()
    stage.hand_over()
    stage.lead(N2, 2)
    stage.crash(N2)
    assert "hand_over_cut" not in stage.reached


def test_a_vote_by_leave_and_a_founding_that_is_turned_down(stage: Stage) -> None:
    stage.ask(N2, 5, by_leave=True)
    stage.answer(N2, 5, granted=True)
    for wanted, promised in ((1, 1), (1, None), (None, 1), (1, 2)):
        founding = [None if number is None else Founding(number) for number in (wanted, promised)]
        request = FoundRequest("ourolog", N1, EPOCH, (N1, N2), founding[0])
        stage.tell("", "n2.election", CallReceived(9, request, Probe()))
        response = FoundResponse(N2, EPOCH, "n2:1", "n2:2", wanted == promised, founding[1])
        stage.tell("n2.election", "n1", CallAnswer(9, response))
    assert stage.reached == {"vote_by_leave": 1, "founding_promised_otherwise": 1}


def test_a_vote_that_another_has_in_that_term(stage: Stage) -> None:
    stage.save(N2, 5, N3)
    stage.ask(N2, 6)
    stage.answer(N2, 6, granted=False)
    stage.ask(N2, 5)
    stage.answer(N2, 5, granted=False)
    assert stage.reached == {"vote_given_to_another": 1}


def test_an_orderly_stop_is_no_crash(stage: Stage) -> None:
    stage.ask(N2, 5)
    stage.save(N2, 5, N1)
    stage.states.see(NodeStopped(stage.time_s, N2))
    assert not stage.reached


def test_every_state_says_what_it_is() -> None:
    assert all(sentence.endswith(".") for sentence in ELECTION_STATES.values())
