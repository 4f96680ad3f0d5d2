"""Who may lead because a person said so, and who leaves it to a person: each claim on events made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, LogEndResponse
from ourolog.actors.messages.store import SaveBallot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.log_end_answers import QUESTION
from ourolog.simulation.events import FaultInjected, MessageHandled, PacketSent
from ourolog.storage.ballot import Ballot
from ourolog.storage.terms import Place
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, Scene, batch, sized

THREE, FOUR = "static:n1,n2,n3", "static:n1,n2,n3,n4"


class Lead:
    """n1 is decreed, and has a log of three entries of term 2, which it made itself."""

    def __init__(self, claim: str, election: str = THREE, **settings: Any) -> None:
        self.scene = Scene(claim)
        self.election = election
        self.term = 2
        self.scene.start("n1", election, settings=settings)
        self.scene.append("n1", *(batch(index, f"v{index}", term=Term(2)) for index in range(3)))

    def ask(self, *voters: str) -> None:
        for voter in voters:
            self.scene.see(PacketSent(self.scene.tick(), 1, N1, NodeId(voter), QUESTION))

    def tell(self, message: object) -> None:
        self.scene.tell("", "n1.election", message)
        self.scene.see(MessageHandled(self.scene.tick(), "n1.election", message))

    def answered(self, voter: str, end: int, term: int = 2, maker: str = "n1", by: str = "") -> None:
        last = Place(Term(term), (NodeId(maker), EPOCH)) if end else None
        position = Position(Index(end), Offset(end))
        response = LogEndResponse(NodeId(by or voter), EPOCH, Term(term), None, position, last, START)
        self.tell(CallReturned(NodeId(voter), 1, response))

    def decide(self) -> None:
        self.term += 1
        ballot = Ballot(Term(self.term), N1, N1)
        self.scene.tell("n1.election", "n1.store", SaveBallot(1, ballot, Probe()))
        self.scene.see(MessageHandled(self.scene.tick(), "n1.election", "what it decided on"))

    def begin(self) -> None:
        self.scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(self.term), N1))

    def lead(self) -> None:
        self.decide()
        self.begin()

    def leave_it(self) -> None:
        self.scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(2), None, "n2 is ahead", True))

    def voter(self, name: str, entries: int) -> None:
        self.scene.start(name, self.election)
        if entries:
            self.scene.append(name, *(batch(index, f"v{index}", term=Term(2)) for index in range(entries)))


# ---------------------------------------------------------------- decreed_leader_asked


def asked(election: str = THREE, **settings: Any) -> Lead:
    return Lead("decreed_leader_asked", election, **settings)


def test_a_majority_that_is_not_ahead_lets_it_lead_wherever_the_others_are() -> None:
    for end, term in ((3, 2), (2, 2), (0, 0), (9, 1)):
        lead = asked()
        lead.ask("n2", "n3")
        lead.answered("n2", end, term, "n9" if (end, term) != (3, 2) else "n1")
        lead.lead()


@pytest.mark.parametrize(("end", "term"), [(4, 2), (1, 3)])
def test_one_voter_that_answers_and_is_ahead_is_enough_to_forbid_the_lead(end: int, term: int) -> None:
    lead = asked(FOUR)
    lead.ask("n2", "n3", "n4")
    for voter in ("n2", "n3"):
        lead.answered(voter, 3)
    lead.answered("n4", end, term)
    with pytest.raises(Violation, match=f"n4 had answered that its log ends at {end}"):
        lead.lead()


def test_another_maker_s_entry_at_the_same_place_forbids_the_lead() -> None:
    lead = asked()
    lead.ask("n2", "n3")
    lead.answered("n2", 3, maker="n3")
    with pytest.raises(Violation, match="n2 had answered"):
        lead.lead()


@pytest.mark.parametrize(("election", "others"), [(THREE, 0), (FOUR, 1), ("static:n1,n2", 0)])
def test_to_have_heard_of_less_than_a_majority_forbids_the_lead(election: str, others: int) -> None:
    lead = asked(election)
    lead.ask("n2", "n3", "n4")
    for voter in ("n2", "n3")[:others]:
        lead.answered(voter, 3)
    with pytest.raises(Violation, match=f"only {others + 1} of"):
        lead.lead()


def test_strangers_and_who_answers_at_another_s_address_are_no_part_of_a_majority() -> None:
    lead = asked()
    lead.ask("n2", "n3", "n9")
    lead.answered("n9", 3)
    lead.answered("n2", 3, by="n9")
    with pytest.raises(Violation, match="only 1 of 3"):
        lead.lead()


def test_what_was_answered_before_the_voter_was_asked_again_does_not_count() -> None:
    lead = asked(FOUR)
    lead.ask("n2", "n3", "n4")
    lead.answered("n2", 3)
    lead.tell(CallFailed(NodeId("n3"), 2, "down"))
    lead.ask("n2", "n3", "n4")
    lead.answered("n3", 3)
    with pytest.raises(Violation, match="only 2 of 4"):
        lead.lead()


@pytest.mark.parametrize("restarts", [False, True])
def test_each_term_needs_answers_of_its_own(restarts: bool) -> None:
    lead = asked()
    lead.ask("n2", "n3")
    lead.answered("n2", 3)
    lead.lead()
    if restarts:
        lead.scene.start("n1", THREE)
    with pytest.raises(Violation, match="only 1 of 3"):
        lead.lead()


def test_a_lead_that_was_not_decided_on_is_seen() -> None:
    lead = asked()
    with pytest.raises(Violation, match="has never decided to"):
        lead.begin()


def test_an_answer_that_comes_after_the_decision_changes_nothing() -> None:
    lead = asked()
    lead.ask("n2", "n3")
    lead.answered("n2", 3)
    lead.decide()
    lead.answered("n3", 9)
    lead.begin()


def test_an_answer_that_still_lies_in_the_mailbox_is_not_held_against_it() -> None:
    lead = asked()
    lead.ask("n2", "n3")
    lead.answered("n2", 3)
    ahead = LogEndResponse(NodeId("n3"), EPOCH, Term(5), None, START, Place(Term(5), (N1, EPOCH)), START)
    lead.scene.tell("", "n1.election", CallReturned(NodeId("n3"), 1, ahead))
    lead.lead()


def test_an_answer_that_may_be_one_to_an_earlier_question_is_not_held_against_it() -> None:
    lead = asked()
    lead.ask("n2", "n3")
    lead.answered("n2", 3)
    lead.lead()
    lead.ask("n2", "n3")
    lead.answered("n3", 9)
    lead.answered("n2", 3)
    lead.lead()


def test_nothing_is_asked_of_who_is_forced_or_alone_and_of_a_spoiled_disk_only_a_majority() -> None:
    asked(force_lead=True).lead()
    asked("static:n1").lead()
    lead = asked()
    lead.scene.see(FaultInjected(lead.scene.tick(), "fsync_lies", "n1"))
    lead.ask("n2", "n3")
    lead.answered("n2", 9)
    lead.lead()
    with pytest.raises(Violation, match="only 1 of 3"):
        lead.lead()


# ---------------------------------------------------------------- decreed_leader_not_behind


def test_a_leader_without_what_half_of_the_voters_have_is_seen_also_if_their_number_is_even() -> None:
    for election, ends, is_behind in (
        (THREE, (4, 4), True),
        (THREE, (4, 3), False),
        (FOUR, (4, 4, 3), True),
        (FOUR, (4, 3, 3), False),
    ):
        lead = Lead("decreed_leader_not_behind", election)
        for number, end in enumerate(ends, 2):
            lead.voter(f"n{number}", end)
        if is_behind:
            with pytest.raises(Violation, match="n2 at 4 in term 2, n3 at 4"):
                lead.begin()
        else:
            lead.begin()


def test_what_voters_get_from_another_leader_after_they_were_asked_nobody_could_know() -> None:
    lead = Lead("decreed_leader_not_behind")
    for voter in ("n2", "n3"):
        lead.voter(voter, 3)
    lead.ask("n2", "n3")
    for voter in ("n2", "n3"):
        lead.scene.append(voter, batch(3, "v3", term=Term(2)))
    lead.begin()
    with pytest.raises(Violation, match="n2 at 4"):
        lead.begin()


def test_what_is_cut_while_the_question_is_under_way_need_not_be_there() -> None:
    lead = Lead("decreed_leader_not_behind")
    for voter in ("n2", "n3"):
        lead.voter(voter, 4)
    lead.ask("n2", "n3")
    lead.scene.truncate("n3", sized(*(batch(index, f"v{index}", term=Term(2)) for index in range(3))))
    lead.scene.append("n3", batch(3, "w", term=Term(2)))
    lead.begin()


# ---------------------------------------------------------------- lead_withheld_for_cause


def withheld() -> Lead:
    return Lead("lead_withheld_for_cause")


@pytest.mark.parametrize(("end", "term", "maker"), [(4, 2, "n1"), (1, 3, "n1"), (3, 2, "n2")])
def test_a_voter_that_is_ahead_is_a_reason_to_call_a_person(end: int, term: int, maker: str) -> None:
    lead = withheld()
    lead.ask("n2", "n3")
    lead.answered("n2", end, term, maker)
    lead.leave_it()


def test_a_voter_that_copied_what_the_leader_wrote_since_it_asked_is_no_reason_to_call_a_person() -> None:
    lead = withheld()
    lead.ask("n2", "n3")
    lead.scene.append("n1", batch(3, "v3", term=Term(2)))
    lead.answered("n2", 4)
    with pytest.raises(Violation, match="no voter was ahead of its log, which ends at 4: n2 at 4"):
        lead.leave_it()


def test_an_answer_to_an_earlier_question_is_no_reason_to_call_a_person() -> None:
    lead = withheld()
    lead.ask("n2", "n3")
    lead.answered("n2", 4)
    lead.ask("n2", "n3")
    with pytest.raises(Violation, match="none has answered"):
        lead.leave_it()
