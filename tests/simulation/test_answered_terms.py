"""The claim that answers name the term on the disk of who answers: each way to break it is seen, and nothing else."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.peer_calls import CallAnswer, CallRefused, TermResponse, VoteResponse
from ourolog.actors.messages.store import SaveBallot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.ballot import Ballot
from ourolog.storage.types import Term
from tests.simulation.elected_scene import RAFT, scene_of, vote
from tests.simulation.scene import EPOCH, N1, Scene

ANSWERS = pytest.mark.parametrize("kind", [VoteResponse, TermResponse])


def voter(term: int) -> Scene:
    """n1, on whose disk is a ballot of that term."""
    scene = scene_of("answers_name_present_term", RAFT)
    vote(scene, N1, term, None)
    return scene


def answer(scene: Scene, kind: type[VoteResponse] | type[TermResponse], term: int, *, is_granted: bool = False) -> None:
    scene.tell("n1.election", "", CallAnswer(1, kind(N1, EPOCH, Term(term), None, is_granted)))


@ANSWERS
@pytest.mark.parametrize("is_granted", [False, True])
def test_who_answers_names_the_term_on_its_disk_and_no_other(
    kind: type[VoteResponse] | type[TermResponse], is_granted: bool
) -> None:
    answer(voter(3), kind, 3, is_granted=is_granted)
    for term in (2, 4):
        with pytest.raises(Violation, match=f"n1 answers as if it were in term {term}, and the ballot .* is of term 3"):
            answer(voter(3), kind, term, is_granted=is_granted)


@ANSWERS
def test_a_term_is_on_disk_when_the_store_says_so_and_still_is_after_a_start(
    kind: type[VoteResponse] | type[TermResponse],
) -> None:
    scene = voter(3)
    scene.tell("n1.election", "n1.store", SaveBallot(1, Ballot(Term(5)), Probe()))
    answer(scene, kind, 3)
    vote(scene, N1, 5, None)
    answer(scene, kind, 5)
    scene.crash("n1")
    scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH, ballot=Ballot(Term(5)))
    answer(scene, kind, 5)
    with pytest.raises(Violation, match="as if it were in term 3"):
        answer(scene, kind, 3)


def test_who_declines_to_answer_names_none_and_a_spoiled_disk_proves_nothing() -> None:
    scene = voter(3)
    scene.tell("n1.election", "", CallAnswer(1, CallRefused("n1 is starting")))
    scene.see(FaultInjected(scene.tick(), "fsync_lies", "n1"))
    answer(scene, VoteResponse, 2)
