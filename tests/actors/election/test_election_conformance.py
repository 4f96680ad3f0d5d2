"""The conformance suite of one occupant: a plain occupant passes, and each promise that one breaks turns red."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.election.occupant import ElectionActor
from ourolog.actors.messages.election import ElectionMessage, HandedOver, HandOver, HigherTermSeen, TransferLeader
from ourolog.actors.messages.events import LeaderChanged, LogOpened, VotersChanged
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallCancelled,
    CallFailed,
    CallReceived,
    LogEndRequest,
    LogEndResponse,
)
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import BallotSaved, DescribeLog, LogDescribed, SaveBallot
from ourolog.actors.testing.election_conformance import ElectionConformance
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import START, NodeId, Position, Term


class ByTurns(ElectionActor):
    """The leader of a term is the voter whose turn it is. Says where its log ends, and announces in one place."""

    def __init__(self, **collaborators: Any) -> None:
        super().__init__(**collaborators)
        self.newest = Term(0)
        self.asked: dict[int, CallReceived[LogEndRequest]] = {}

    def on_receive(self, message: ElectionMessage) -> None:
        match message:
            case LogOpened():
                self.begin(message)
            case HigherTermSeen():
                self.move_to(message.term)
            case BallotSaved(granted=False):
                self.move_to(Term(message.ballot.term + 1))
            case BallotSaved():
                self.enter(message.ballot.term)
            case CallReceived():
                self.asked[next(self.request_ids)] = message
                self.store.tell(DescribeLog(max(self.asked), self.me))
            case LogDescribed():
                self.answer(self.asked.pop(message.request_id), message)
            case _:
                super().on_receive(message)

    def begin(self, opened: LogOpened) -> None:
        self.announce(VotersChanged(self.config.election.voters))
        self.move_to(Term(max(1, opened.ballot.term)))

    def move_to(self, term: Term) -> None:
        if term > self.newest:
            self.newest = term
            leader_id = self.leader_of(term)
            self.store.tell(SaveBallot(next(self.request_ids), Ballot(term, leader_id, leader_id), self.me))

    def enter(self, term: Term) -> None:
        if term > self.term:
            self.announce(LeaderChanged(term, self.leader_of(term)))

    def leader_of(self, term: Term) -> NodeId:
        voters = self.config.election.voters
        return voters[term % len(voters)]

    def answer(self, asked: CallReceived[LogEndRequest], described: LogDescribed) -> None:
        ballot, end, last = described.ballot, described.end, described.last
        response = LogEndResponse(self.node_id, 1, ballot.term, ballot.leader_id, end, last, described.committed)
        asked.reply_to.tell(CallAnswer(asked.request_id, response))


class TestByTurns(ElectionConformance):
    occupant = ByTurns
    election = ByTurns.choose("by_turns", "n1,n2,n3")


# ---------------------------------------------------------------- and each promise broken


class AnnouncesAtOnce(ByTurns):
    def on_start(self) -> None:
        self.announce(VotersChanged(self.config.election.voters))


class AnnouncesNothing(ByTurns):
    def begin(self, opened: LogOpened) -> None:
        pass


class NamesNoVoters(ByTurns):
    def begin(self, opened: LogOpened) -> None:
        self.move_to(Term(max(1, opened.ballot.term)))


class PromisesBeforeItPersists(ByTurns):
    def move_to(self, term: Term) -> None:
        super().move_to(term)
        self.enter(term)


class FallsFromStartToStart(ByTurns):
    def begin(self, opened: LogOpened) -> None:
        self.announce(VotersChanged(self.config.election.voters))
        self.announce(LeaderChanged(Term(9 - opened.ballot.term), None))
        self.move_to(Term(opened.ballot.term + 1))


class GoesBackToTheTermBefore(ByTurns):
    def begin(self, opened: LogOpened) -> None:
        self.announce(VotersChanged(self.config.election.voters))
        if opened.ballot.term > 1:
            self.announce(LeaderChanged(Term(opened.ballot.term - 1), None))
        self.move_to(Term(opened.ballot.term + 1))


class DoesNotAskWhetherItWasGranted(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        if isinstance(message, BallotSaved):
            self.enter(message.ballot.term)
        else:
            super().on_receive(message)


class NamesTwoLeaders(ByTurns):
    def enter(self, term: Term) -> None:
        super().enter(term)
        self.announce(LeaderChanged(term, self.leader_of(Term(term + 1))))


class IsDeafToHigherTerms(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        if not isinstance(message, HigherTermSeen):
            super().on_receive(message)


class SavesAndSaysNothing(ByTurns):
    def enter(self, term: Term) -> None:
        if self.term == 0:
            super().enter(term)


class SaysItTwice(ByTurns):
    def enter(self, term: Term) -> None:
        self.announce(LeaderChanged(term, self.leader_of(term)))
        self.announce(LeaderChanged(term, self.leader_of(term)))


class ReportsAnotherLeader(ByTurns):
    def report(self, request: ReportStatus) -> None:
        status = ElectionStatus("by_turns", "peer", self.term, NodeId("n9"), self.voters)
        request.reply_to.tell(StatusReported(request.request_id, status))


class NeverHandsOver(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        if not isinstance(message, HandOver):
            super().on_receive(message)


class HandsOverTwice(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        super().on_receive(message)
        if isinstance(message, HandOver):
            message.reply_to.tell(HandedOver(message.request_id))


class SavesBeforeItHandsOver(ByTurns):
    handing_over: HandOver | None = None

    def on_receive(self, message: ElectionMessage) -> None:
        if isinstance(message, HandOver):
            self.handing_over = message
            self.store.tell(DescribeLog(next(self.request_ids), self.me))
        elif isinstance(message, LogDescribed) and self.handing_over is not None:
            self.handing_over.reply_to.tell(HandedOver(self.handing_over.request_id))
        else:
            super().on_receive(message)


class GivesTheLeadAwayInSilence(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        if not isinstance(message, TransferLeader):
            super().on_receive(message)


class LeavesStrangersWithoutAnAnswer(ByTurns):
    def on_receive(self, message: ElectionMessage) -> None:
        if not isinstance(message, CallReceived) or message.request.node_id in self.config.election.voters:
            super().on_receive(message)


class AnswersWithTheEndThatItRemembers(ByTurns):
    end: Position = START

    def on_receive(self, message: ElectionMessage) -> None:
        super().on_receive(message)
        if isinstance(message, BallotSaved):
            self.end = message.end

    def answer(self, asked: CallReceived[LogEndRequest], described: LogDescribed) -> None:
        response = LogEndResponse(self.node_id, 1, described.ballot.term, None, self.end, described.last, START)
        asked.reply_to.tell(CallAnswer(asked.request_id, response))


class AsksUnderOneId(ByTurns):
    def move_to(self, term: Term) -> None:
        if term > self.newest:
            self.newest = term
            self.store.tell(SaveBallot(1, Ballot(term, self.leader_of(term), self.leader_of(term)), self.me))


class AnswersTheCancelledAgain(ByTurns):
    last: CallReceived[LogEndRequest]

    def on_receive(self, message: ElectionMessage) -> None:
        if isinstance(message, CallReceived):
            self.last = message
        super().on_receive(message)
        if isinstance(message, CallCancelled | CallFailed):
            end = LogEndResponse(self.node_id, 1, self.term, None, START, None, START)
            self.last.reply_to.tell(CallAnswer(self.last.request_id, end))


@pytest.mark.parametrize(
    ("broken", "red"),
    [
        (AnnouncesAtOnce, "test_it_announces_nothing_before_the_log_is_open"),
        (AnnouncesNothing, "test_it_announces_something_once_the_log_is_open"),
        (NamesNoVoters, "test_it_says_who_votes_before_it_says_who_leads"),
        (PromisesBeforeItPersists, "test_no_term_is_announced_before_its_ballot_is_on_disk"),
        (FallsFromStartToStart, "test_terms_never_fall_across_restarts"),
        (GoesBackToTheTermBefore, "test_a_crash_while_the_ballot_is_saved_does_not_bring_an_old_term_back"),
        (DoesNotAskWhetherItWasGranted, "test_who_has_voted_for_another_does_not_lead_in_that_term"),
        (NamesTwoLeaders, "test_at_most_one_leader_is_announced_for_a_term"),
        (IsDeafToHigherTerms, "test_a_term_that_was_heard_of_is_never_undercut"),
        (SavesAndSaysNothing, "test_a_ballot_of_a_higher_term_is_followed_by_its_announcement"),
        (SaysItTwice, "test_every_change_is_announced_once"),
        (ReportsAnotherLeader, "test_its_status_agrees_with_what_it_announced"),
        (NeverHandsOver, "test_it_hands_over_once_whenever_the_node_stops"),
        (HandsOverTwice, "test_it_hands_over_once_whenever_the_node_stops"),
        (SavesBeforeItHandsOver, "test_what_a_failed_store_can_no_longer_save_keeps_no_node_from_stopping"),
        (GivesTheLeadAwayInSilence, "test_it_says_once_who_leads_when_it_is_to_give_the_lead_away"),
        (LeavesStrangersWithoutAnAnswer, "test_it_answers_every_call_once_if_only_with_a_refusal"),
        (AnswersWithTheEndThatItRemembers, "test_where_its_log_ends_it_says_as_the_disk_is_when_it_is_asked"),
        (AsksUnderOneId, "test_no_two_of_its_questions_have_one_id"),
        (AnswersTheCancelledAgain, "test_what_is_over_with_its_calls_harms_nobody"),
    ],
)
def test_an_occupant_that_breaks_a_promise_turns_the_test_of_it_red(broken: type[ByTurns], red: str) -> None:
    suite: Any = type("Suite", (ElectionConformance,), {"occupant": broken, "election": TestByTurns.election})()
    with pytest.raises(AssertionError):
        getattr(suite, red)()


def test_every_test_of_the_suite_has_an_occupant_that_turns_it_red() -> None:
    (marks,) = test_an_occupant_that_breaks_a_promise_turns_the_test_of_it_red.pytestmark  # type: ignore[attr-defined]
    named = {red for _, red in marks.args[1]}
    assert named == {name for name in dir(ElectionConformance) if name.startswith("test_")}
