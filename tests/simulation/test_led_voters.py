"""Voters and their leader: when it must stop, when there must be one, what is on disk before an answer."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import HigherTermSeen, LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import CommitKnown, LeaderChanged, MemberFailed, MemberLeft
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, EndTermRequest, VoteRequest, VoteResponse
from ourolog.actors.messages.store import SaveBallot
from ourolog.actors.messages.values import Member
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.holding_on import LEAVES
from ourolog.simulation.events import (
    FaultInjected,
    FileReplaced,
    NodePaused,
    NodeResumed,
    PacketSent,
    PartitionHealed,
    PartitionMade,
)
from ourolog.storage.ballot import Ballot
from ourolog.storage.checksummed_json import encode
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term
from tests.simulation.elected_scene import ELECTED, NODES, RAFT, fetch, lead, scene_of, vote
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved

# ---------------------------------------------------------------- check quorum


def test_a_leader_that_nobody_fetches_from_must_stop_leading() -> None:
    scene = scene_of("check_quorum", RAFT)
    lead(scene, N1, 1, N1, N2)
    for _ in range(10):
        fetch(scene, N3, N1, 1)
        scene.wait(1.0)
    scene.wait(1.9)
    with pytest.raises(Violation, match=r"n1 still leads term 1, and has not heard from a majority .* since 9\.\d+ s"):
        scene.wait(1.2)


def test_who_has_stopped_leading_or_does_not_run_needs_no_fetches() -> None:
    scene = scene_of("check_quorum", RAFT)
    lead(scene, N1, 1, N1, N2)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    lead(scene, N2, 2, N2, N1)
    scene.crash("n2")
    scene.wait(10)


def test_a_leader_that_stood_still_is_given_time_to_notice() -> None:
    scene = scene_of("check_quorum", RAFT)
    lead(scene, N1, 1, N1, N2)
    scene.see(NodePaused(scene.tick(), N1))
    scene.wait(10)
    scene.see(NodeResumed(scene.tick(), N1))
    scene.wait(2.9)
    with pytest.raises(Violation, match="n1 still leads term 1"):
        scene.wait(0.2)


@pytest.mark.parametrize("of_whom", ["an older term", "another disk", "the leader itself"])
def test_what_is_no_voters_fetch_of_the_term_keeps_no_leader(of_whom: str) -> None:
    scene = scene_of("check_quorum", RAFT)
    lead(scene, N1, 2, N1, N2)

    def fetches() -> None:
        for _ in range(10):
            match of_whom:
                case "an older term":
                    fetch(scene, N2, N1, 1)
                case "another disk":
                    fetch(scene, N2, N1, 2, epoch=EPOCH + 9)
                case _:
                    fetch(scene, N1, N1, 2)
            scene.wait(0.5)

    with pytest.raises(Violation, match="n1 still leads term 2"):
        fetches()


# ---------------------------------------------------------------- a majority that can talk is led


def led_scene() -> Scene:
    """n1 has led, has committed something, and is gone."""
    scene = scene_of("majority_is_led", RAFT)
    lead(scene, N1, 1, N1, N2)
    scene.tell("n1.replicator", "n1.server", CommitKnown(Term(1)))
    fetch(scene, N2, N1, 1)
    scene.wait(0.1)
    scene.crash("n1")
    return scene


def test_a_majority_with_nothing_in_its_way_must_be_led_again() -> None:
    scene = led_scene()
    scene.wait(9.8)
    with pytest.raises(Violation, match=r"nothing is in the way of n2, n3 .*, and nobody leads them since 0\.\d+ s"):
        scene.wait(0.5)


def test_who_leads_without_the_fetches_of_a_majority_or_without_a_commit_of_its_term_does_not_count() -> None:
    for fetches, commits in ((True, True), (True, False), (False, True)):
        scene = led_scene()
        lead(scene, N2, 2, N2, N3)
        if commits:
            scene.tell("n2.replicator", "n2.server", CommitKnown(Term(2)))
        for _ in range(19):
            if fetches:
                fetch(scene, N3, N2, 2)
            scene.wait(0.5)
        if fetches and commits:
            scene.wait(2.1)
        else:
            with pytest.raises(Violation, match="nobody leads them"):
                scene.wait(2.1)  # who has just been elected counts for a while


def test_nothing_is_asked_of_those_that_cannot_talk_all_with_all() -> None:
    for blocked in (((N2, N3),), ((N3, N2),)):
        scene = led_scene()
        scene.see(PartitionMade(scene.tick(), "one-way", blocked))
        scene.wait(100)
        scene.see(PartitionHealed(scene.tick()))
        scene.wait(9.9)
        with pytest.raises(Violation, match="nobody leads them"):
            scene.wait(0.2)


def test_a_node_with_another_disk_makes_no_majority() -> None:
    scene = led_scene()
    scene.crash("n3")
    scene.start("n3", settings={"election": RAFT}, log_epoch=EPOCH + 9)
    scene.wait(100)


def test_before_the_first_commit_all_founders_are_needed() -> None:
    scene = scene_of("majority_is_led", RAFT)
    scene.crash("n3")
    scene.wait(100)
    scene.start("n3", settings={"election": RAFT}, log_epoch=EPOCH + 2)
    scene.wait(9.9)
    with pytest.raises(Violation, match="nothing is in the way of n1, n2, n3"):
        scene.wait(0.2)


# ---------------------------------------------------------------- what is asked and answered in a term


def asked(
    voter: NodeId, candidate_id: NodeId, term: int, *, is_pre_vote: bool = False, by_leave: bool = False
) -> CallReceived[VoteRequest]:
    keys = [VoterKey(node_id, EPOCH + NODES.index(node_id)) for node_id in (candidate_id, voter)]
    last = LastEntry.of(None, Index(0))
    return CallReceived(
        1, VoteRequest("ourolog", 1, *keys[0], keys[1], Term(term), last, is_pre_vote, by_leave), Probe()
    )


def answered(voter: NodeId, term: int, *, granted: bool) -> CallAnswer[VoteResponse]:
    return CallAnswer(1, VoteResponse(voter, EPOCH + NODES.index(voter), Term(term), None, granted))


def put_ballot(
    scene: Scene, node_id: NodeId, term: int, candidate_id: NodeId | None, leader_id: NodeId | None = None
) -> None:
    """A ballot is on disk, and the store says so."""
    epoch = 0 if candidate_id is None else EPOCH + NODES.index(candidate_id)
    value = {"leader_id": leader_id, "term": term, "voted_for": candidate_id, "voted_for_epoch": epoch}
    content = encode("ballot", 1, value)
    scene.files.setdefault(node_id, {})["/data/ballot"] = content
    scene.synced.setdefault(node_id, {})["/data/ballot"] = len(content)
    scene.see(FileReplaced(scene.tick(), node_id, "/data/ballot", content))
    saved = Ballot(Term(term), candidate_id, leader_id, epoch)
    scene.tell(f"{node_id}.store", f"{node_id}.election", ballot_saved(saved))


def test_who_asks_for_votes_has_its_own_on_disk() -> None:
    scene = scene_of("ballots_on_disk", RAFT)
    put_ballot(scene, N1, 3, None)
    scene.tell("", "n2.election", asked(N2, N1, 3, is_pre_vote=True))
    with pytest.raises(
        Violation, match=r"n1 stands or leads in term 3, and its vote is Ballot\(term=3, voted_for=None"
    ):
        scene.tell("", "n2.election", asked(N2, N1, 3))
    with pytest.raises(Violation, match="n1 asks in term 4 while the ballot on its disk is of term 3"):
        scene.tell("", "n2.election", asked(N2, N1, 4))
    put_ballot(scene, N1, 4, N1)
    scene.tell("", "n2.election", asked(N2, N1, 4))


def test_a_vote_is_on_disk_before_the_candidate_hears_of_it() -> None:
    for on_disk, is_right in (((4, N1), True), ((4, N3), False), ((3, None), False), ((5, None), True)):
        scene = scene_of("ballots_on_disk", RAFT)
        put_ballot(scene, N1, 4, N1)
        scene.tell("", "n2.election", asked(N2, N1, 4))
        put_ballot(scene, N2, *on_disk)
        if is_right:
            scene.tell("n2.election", "n1", answered(N2, on_disk[0], granted=True))
        else:
            with pytest.raises(Violation, match="n2 tells n1 that it has its vote in term 4, and on its disk is"):
                scene.tell("n2.election", "n1", answered(N2, on_disk[0], granted=True))


def test_an_answer_in_a_term_that_is_not_on_disk_is_seen() -> None:
    scene = scene_of("ballots_on_disk", RAFT)
    put_ballot(scene, N2, 3, None)
    with pytest.raises(Violation, match="n2 answers in term 4 while the ballot on its disk is of term 3"):
        scene.tell("n2.election", "n1", answered(N2, 4, granted=False))


def test_who_says_that_it_leads_has_that_on_its_disk() -> None:
    for leader_id, term, is_right in ((N1, 4, True), (None, 4, False), (N2, 4, False), (N1, 3, False), (N1, 5, False)):
        scene = scene_of("ballots_on_disk", RAFT)
        put_ballot(scene, N1, term, N1, leader_id)
        scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(3), N2))
        lead = LeaderChanged(Term(4), N1)
        if is_right:
            scene.tell("n1.election", "n1.replicator", lead)
        else:
            with pytest.raises(Violation, match=r"n1 (says that it leads|announced) term 4"):
                scene.tell("n1.election", "n1.replicator", lead)


def test_where_no_disk_votes_nothing_need_say_who_leads() -> None:
    scene = scene_of("ballots_on_disk", ELECTED)
    put_ballot(scene, N1, 4, N1)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(4), N1))


# ---------------------------------------------------------------- holding on


def led_voter() -> Scene:
    """n2 follows n1 in term 1, and has just been answered."""
    scene = scene_of("led_voters_hold_on", RAFT)
    scene.wait(1.0)
    scene.tell("n2.store", "n2.election", ballot_saved(Ballot(Term(1), None, N1)))
    scene.tell("n2.replicator", "n2.election", LeaderAnswered(Term(1), N1, 0.0))
    return scene


def ask_and_answer(scene: Scene, *, is_pre_vote: bool, by_leave: bool = False, granted: bool = True) -> None:
    scene.tell("", "n2.election", asked(N2, N3, 1 if is_pre_vote else 2, is_pre_vote=is_pre_vote, by_leave=by_leave))
    if not is_pre_vote and granted:
        vote(scene, N2, 2, N3)
    scene.tell("n2.election", "n3", answered(N2, 1 if is_pre_vote or not granted else 2, granted=granted))


@pytest.mark.parametrize("is_pre_vote", [True, False])
def test_who_has_just_heard_of_its_leader_grants_nothing(is_pre_vote: bool) -> None:
    scene = led_voter()
    ask_and_answer(scene, is_pre_vote=is_pre_vote, granted=False)
    scene.wait(0.8)
    with pytest.raises(Violation, match=r"n2 grants n3 a (pre-)?vote in term \d, and its leader had answered it at 1"):
        ask_and_answer(scene, is_pre_vote=is_pre_vote)


def test_an_answer_that_reaches_a_node_which_was_held_up_may_be_old() -> None:
    scene = led_voter()
    scene.wait(2.0)
    scene.see(NodePaused(scene.tick(), N2))
    scene.see(NodeResumed(scene.tick(), N2))
    scene.tell("n2.replicator", "n2.election", LeaderAnswered(Term(1), N1, 0.0))
    ask_and_answer(scene, is_pre_vote=False)


@pytest.mark.parametrize(
    "why", ["later", "leave", "unreachable", "left", "failed", "is slow", "ends its term", "a later term", "restart"]
)
def test_who_has_not_heard_of_its_leader_lately_or_has_lost_it_may_vote(why: str) -> None:
    scene, by_leave = led_voter(), False
    match why:
        case "later":
            scene.wait(1.0)
        case "leave":
            by_leave = True
        case "unreachable":
            scene.tell("n2.replicator", "n2.election", LeaderUnreachable(Term(1), N1))
        case "left":
            scene.tell("n2.membership", "n2.election", MemberLeft(Member(N1, "n1:1", "n1:2")))
        case "failed":
            scene.wait(0.46)
            scene.tell("n2.membership", "n2.election", MemberFailed(Member(N1, "n1:1", "n1:2")))
        case "is slow":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n2"))
            scene.tell("n2.membership", "n2.election", MemberFailed(Member(N1, "n1:1", "n1:2")))
        case "ends its term":
            keys = [VoterKey(node_id, EPOCH + NODES.index(node_id)) for node_id in (N1, N2, N3)]
            request = EndTermRequest("ourolog", 1, *keys[0], keys[1], Term(1), (keys[2], keys[1]))
            scene.tell("", "n2.election", CallReceived(7, request, Probe()))
        case "a later term":
            vote(scene, N2, 2, None)
        case _:
            scene.crash("n2")
            scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 1, ballot=Ballot(Term(1), None, N1))
    ask_and_answer(scene, is_pre_vote=False, by_leave=by_leave)


@pytest.mark.parametrize("what", ["has failed", "has left", "is unreachable", "leader has failed", "server is told"])
def test_what_becomes_of_others_or_is_said_of_a_leader_that_has_just_answered_lets_nobody_go(what: str) -> None:
    scene = led_voter()
    other, leader = Member(N3, "n3:1", "n3:2"), Member(N1, "n1:1", "n1:2")
    match what:
        case "has failed":
            scene.wait(0.5)
            scene.tell("n2.membership", "n2.election", MemberFailed(other))
        case "has left":
            scene.tell("n2.membership", "n2.election", MemberLeft(other))
        case "is unreachable":
            scene.tell("n2.replicator", "n2.election", LeaderUnreachable(Term(1), N3))
        case "leader has failed":
            scene.wait(0.42)
            scene.tell("n2.membership", "n2.election", MemberFailed(leader))
        case _:
            scene.tell("n2.membership", "n2.server", MemberLeft(leader))
    with pytest.raises(Violation, match="and its leader had answered it at 1"):
        ask_and_answer(scene, is_pre_vote=True)


def test_a_refusal_keeps_the_term_unless_the_node_hears_of_the_later_one_otherwise() -> None:
    for hears_otherwise in (True, False):
        scene = led_voter()
        scene.tell("", "n2.election", asked(N2, N3, 2))
        if hears_otherwise:
            scene.tell("n2.replicator", "n2.election", HigherTermSeen(Term(2), N3, N3, 1))
            scene.tell("n2.election", "n3", answered(N2, 2, granted=False))
        else:
            with pytest.raises(Violation, match="n2 goes to term 2 because n3 asks for its vote"):
                scene.tell("n2.election", "n3", answered(N2, 2, granted=False))


def test_a_leader_votes_for_nobody_unless_it_has_asked_others_to_take_over() -> None:
    scene = scene_of("led_voters_hold_on", RAFT)
    lead(scene, N2, 1, N2, N3)
    wanted = SaveBallot(1, Ballot(Term(2), N3, None, EPOCH + 2), Probe(), LastEntry.of(None, Index(0)))
    with pytest.raises(Violation, match="n2 leads term 1, has asked nobody to take over, and is about to vote for n3"):
        scene.tell("n2.election", "n2.store", wanted)
    with pytest.raises(Violation, match="n2 leads term 1, and would vote for another node"):
        ask_and_answer(scene, is_pre_vote=True)
    scene.see(PacketSent(scene.tick(), 1, N2, N3, LEAVES))
    scene.tell("n2.election", "n2.store", wanted)
