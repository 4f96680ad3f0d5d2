"""The claim that votes are refused for a cause only: each way to break it is seen, and each cause is one."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import LeaderAnswered
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.peer_calls import (
    BeginTermRequest,
    CallAnswer,
    CallCancelled,
    CallReceived,
    CallRefused,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, NodePaused, NodeResumed
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, Term
from tests.simulation.elected_scene import RAFT, append, scene_of
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved

KEYS = VoterKey(N1, EPOCH), VoterKey(N2, EPOCH + 1)
PRE_OR_NOT = pytest.mark.parametrize("is_pre_vote", [True, False])


def save(scene: Scene, ballot: Ballot) -> None:
    """n2 has that ballot on its disk."""
    scene.tell("n2.store", "n2.election", ballot_saved(ballot))


def voter(ballot: Ballot = Ballot(Term(3))) -> Scene:  # noqa: B008
    """n2, with entry 0 of term 2 on its disk, which has heard of no leader for long."""
    scene = scene_of("refuses_for_cause", RAFT)
    append(scene, N2, 0, 2)
    scene.tell("n2.replicator", "n2.election", LeaderAnswered(Term(2), N3, 0.0))
    save(scene, ballot)
    scene.wait(1.2)
    return scene


def ask(scene: Scene, *, term: int = 3, last: tuple[int, int] = (2, 1), is_pre_vote: bool = True) -> None:
    """n1 asks n2 for its vote."""
    ends = LastEntry(Term(last[0]), Index(last[1]))
    request = VoteRequest("ourolog", 1, *KEYS[0], KEYS[1], Term(term), ends, is_pre_vote)
    scene.tell("", "n2.election", CallReceived(1, request, Probe()))


def answer(scene: Scene, *, term: int = 3, granted: bool = False) -> None:
    scene.tell("n2.election", "", CallAnswer(1, VoteResponse(*KEYS[1], Term(term), None, granted)))


def hear_of_lead(scene: Scene, term: int = 3) -> None:
    """n3 tells n2 that it leads."""
    request = BeginTermRequest("ourolog", 1, N3, EPOCH + 2, KEYS[1], Term(term))
    scene.tell("", "n2.election", CallReceived(2, request, Probe()))


def hear(scene: Scene, term: int = 3) -> None:
    scene.tell("n2.replicator", "n2.election", LeaderAnswered(Term(term), N3, 0.0))


@PRE_OR_NOT
@pytest.mark.parametrize("last", [(2, 1), (2, 2)])
def test_who_misses_a_leader_must_vote_for_a_log_that_is_no_older(last: tuple[int, int], is_pre_vote: bool) -> None:
    scene = voter()
    ask(scene, last=last, is_pre_vote=is_pre_vote)
    answer(scene, granted=True)
    ask(scene, last=last, is_pre_vote=is_pre_vote)
    with pytest.raises(
        Violation,
        match=r"n2 has heard of no leader of term 3 for 1\.1 election timeouts, and refuses n1 its (pre-)?vote in term "
        r"3, whose log ends at index \d in term 2, and its own at index 1 in term 2",
    ):
        answer(scene)


@PRE_OR_NOT
def test_who_misses_a_leader_must_go_to_the_later_term_of_who_asks(is_pre_vote: bool) -> None:
    scene = voter()
    ask(scene, term=4, last=(1, 0), is_pre_vote=is_pre_vote)
    with pytest.raises(Violation, match=r"is in that term still when it refuses n1 its (pre-)?vote in term 4"):
        answer(scene)
    save(scene, Ballot(Term(4)))
    ask(scene, term=4, last=(1, 0), is_pre_vote=is_pre_vote)
    answer(scene, term=4)


@PRE_OR_NOT
def test_a_log_that_ends_later_or_did_while_it_was_asked_is_a_cause(is_pre_vote: bool) -> None:
    scene = voter()
    ask(scene, last=(1, 7), is_pre_vote=is_pre_vote)
    answer(scene)
    ask(scene, last=(2, 1), is_pre_vote=is_pre_vote)
    append(scene, N2, 1, 2)
    answer(scene)
    ask(scene, last=(2, 1), is_pre_vote=is_pre_vote)
    scene.truncate("n2", 0)
    answer(scene)
    ask(scene, last=(2, 1), is_pre_vote=is_pre_vote)
    with pytest.raises(Violation, match="and its own at index 0 in term 0"):
        answer(scene)


@pytest.mark.parametrize("ballot", [Ballot(Term(3), N3, None, EPOCH + 2), Ballot(Term(3), None, N3)])
def test_another_vote_or_leader_on_its_disk_is_a_cause_to_refuse_votes_and_not_pre_votes(ballot: Ballot) -> None:
    scene = voter(ballot)
    ask(scene, is_pre_vote=False)
    answer(scene)
    ask(scene)
    with pytest.raises(Violation, match="refuses n1 its pre-vote"):
        answer(scene)


@pytest.mark.parametrize("ballot", [Ballot(Term(3), N1, None, EPOCH), Ballot(Term(3), N1, N1, EPOCH)])
def test_who_has_this_vote_is_not_refused_it(ballot: Ballot) -> None:
    scene = voter(ballot)
    ask(scene, is_pre_vote=False)
    with pytest.raises(Violation, match="refuses n1 its vote"):
        answer(scene)


def test_a_log_that_ends_in_the_term_of_its_candidate_is_a_cause() -> None:
    scene = voter()
    for term in (3, 4):
        ask(scene, term=term, last=(term, 9), is_pre_vote=False)
        answer(scene)


def test_a_later_term_of_its_own_is_a_cause() -> None:
    scene = voter()
    ask(scene, term=2)
    answer(scene)


@pytest.mark.parametrize("how", ["answer", "lead", "lead on disk"])
def test_a_leader_that_has_been_heard_is_a_cause_for_one_election_timeout(how: str) -> None:
    for waits_s, is_right in ((1.05, True), (1.15, False)):
        scene = voter()
        if how == "answer":
            hear(scene)
        else:
            hear_of_lead(scene)
        if how == "lead on disk":
            scene.wait(1.0)
            save(scene, Ballot(Term(3), None, N3))
        scene.wait(waits_s)
        ask(scene)
        if is_right:
            answer(scene)
        else:
            with pytest.raises(Violation, match="has heard of no leader of term 3"):
                answer(scene)


def test_a_leader_of_an_earlier_term_is_none_and_what_it_says_late_makes_no_difference() -> None:
    scene = voter()
    hear(scene, 2)
    ask(scene)
    with pytest.raises(Violation, match="has heard of no leader of term 3"):
        answer(scene)
    hear(scene, 3)
    hear(scene, 2)
    ask(scene)
    answer(scene)


def test_who_leads_has_a_cause() -> None:
    scene = voter()
    scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(3), N2))
    ask(scene)
    answer(scene)
    scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(3), None))
    scene.tell("n2.election", "n2.server", LeaderChanged(Term(3), N2))
    ask(scene)
    with pytest.raises(Violation, match="refuses n1 its pre-vote"):
        answer(scene)


@pytest.mark.parametrize("how", ["slow disk", "slow node", "pause", "start"])
def test_who_is_or_was_held_up_may_have_heard_of_a_leader_late(how: str) -> None:
    scene = voter()
    match how:
        case "slow disk":
            scene.see(FaultInjected(scene.tick(), "slow_disk", "n2"))
        case "slow node":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n2"))
        case "pause":
            scene.see(NodePaused(scene.tick(), N2))
            scene.wait(3.0)
            scene.see(NodeResumed(scene.tick(), N2))
        case _:
            scene.crash("n2")
            scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 1, ballot=Ballot(Term(3)))
    scene.wait(1.0)
    ask(scene)
    answer(scene)


def test_who_declines_to_answer_or_is_asked_no_more_refuses_nothing() -> None:
    scene = voter()
    ask(scene)
    scene.tell("n2.election", "", CallAnswer(1, CallRefused("n2 is starting")))
    answer(scene)
    ask(scene)
    scene.tell("", "n2.election", CallCancelled(1))
    answer(scene)
    ask(scene)
    scene.see(FaultInjected(scene.tick(), "fsync_lies", "n2"))
    answer(scene)
