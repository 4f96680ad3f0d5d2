"""Who begins a term, and how a leader hands over: each way to break the promise is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.store import DescribeLog, SaveBallot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.checkers.handing_over import QUESTION
from ourolog.simulation.checkers.standing import ASKS
from ourolog.simulation.events import NodeSaid, PacketSent
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term
from tests.simulation.elected_scene import NODES, RAFT, append, lead, scene_of, vote
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene


def key_of(node_id: NodeId) -> VoterKey:
    return VoterKey(node_id, EPOCH + NODES.index(node_id))


# ---------------------------------------------------------------- standing


def canvass(
    scene: Scene,
    voter: NodeId,
    term: int,
    last: tuple[int, int] = (0, 0),
    *,
    granted: bool = True,
    request_id: int = 1,
) -> None:
    """n1 asks that voter if it would vote for it, and hears the answer."""
    ends = LastEntry(Term(last[0]), Index(last[1]))
    request = VoteRequest("ourolog", 1, *key_of(N1), key_of(voter), Term(term), ends, True)
    scene.tell("", f"{voter}.election", CallReceived(1, request, Probe()))
    response = VoteResponse(*key_of(voter), Term(term), None, granted)
    scene.tell(f"{voter}.election", "network", CallAnswer(1, response))
    scene.tell("", "n1.election", CallReturned(voter, request_id, response))


def begin_term(scene: Scene, term: int, voted_for: NodeId | None = N1) -> None:
    ballot = Ballot(Term(term), voted_for, None, EPOCH if voted_for else 0)
    scene.tell("n1.election", "n1.store", SaveBallot(1, ballot, Probe()))
    vote(scene, N1, term, voted_for)


def test_who_is_wanted_by_a_majority_may_stand_once() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    canvass(scene, N2, 0)
    begin_term(scene, 1)
    with pytest.raises(Violation, match="n1 begins term 2, and of its voters only n1 would vote for it"):
        begin_term(scene, 2)


def test_refusals_and_what_was_granted_in_an_earlier_term_do_not_count() -> None:
    for term, granted in ((1, False), (0, True)):
        scene = scene_of("stands_when_wanted", RAFT)
        vote(scene, N1, 1, None)
        canvass(scene, N2, term, granted=granted)
        with pytest.raises(Violation, match="only n1 would vote for it"):
            begin_term(scene, 2)


def begin_canvass(scene: Scene, request_id: int) -> None:
    """n1 reads its log's end, and asks n2 and n3."""
    scene.tell("n1.election", "n1.store", DescribeLog(request_id, Probe()))
    for voter in (N2, N3):
        scene.see(PacketSent(scene.tick(), 1, N1, voter, ASKS))


@pytest.mark.parametrize("request_id", [6, 7])
def test_what_was_granted_in_an_earlier_canvass_does_not_count_whenever_it_is_heard(request_id: int) -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    begin_canvass(scene, 5)
    if request_id == 6:
        canvass(scene, N2, 0, request_id=6)
    begin_canvass(scene, 8)
    if request_id == 7:
        canvass(scene, N3, 0, request_id=7)
    with pytest.raises(Violation, match="n1 begins term 1, and of its voters only n1 would vote for it"):
        begin_term(scene, 1)


def test_what_is_granted_in_a_canvass_counts_though_another_node_asks_or_the_end_of_the_log_is_read_for_it() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    begin_canvass(scene, 5)
    scene.tell("n1.election", "n1.store", DescribeLog(8, Probe()))
    scene.see(PacketSent(scene.tick(), 1, N2, N1, ASKS))
    canvass(scene, N2, 0, request_id=6)
    scene.see(PacketSent(scene.tick(), 1, N1, N2, "fetch"))
    begin_term(scene, 1)


def test_whom_the_leader_asks_to_take_over_needs_nobody_else() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    vote(scene, N1, 1, None)
    request = EndTermRequest("ourolog", 1, *key_of(N2), key_of(N1), Term(1), (key_of(N1),))
    scene.tell("", "n1.election", CallReceived(2, request, Probe()))
    begin_term(scene, 2)


def test_to_a_term_that_nobody_has_told_it_of_a_node_does_not_go() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    scene.tell("n1.replicator", "n1.election", HigherTermSeen(Term(4), None, N2, 1))
    begin_term(scene, 4, None)
    with pytest.raises(Violation, match="n1 begins term 5"):
        begin_term(scene, 5, None)


def test_who_has_more_than_the_candidate_may_not_say_that_it_would_vote_for_it() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    append(scene, N2, 0, 1)
    canvass(scene, N2, 0, (1, 1))
    canvass(scene, N2, 0, granted=False)
    with pytest.raises(Violation, match="n2 would vote for n1, whose log ends at index 0 in term 0, and its own ends"):
        canvass(scene, N2, 0)


def stands(scene: Scene, term: int, index: int = 0, *, by_leave: bool = False) -> None:
    """n1 asks n2 for its vote."""
    ends = LastEntry(Term(0), Index(index))
    request = VoteRequest("ourolog", 1, *key_of(N1), key_of(N2), Term(term), ends, False, by_leave)
    scene.tell("", "n2.election", CallReceived(3, request, Probe()))


def test_a_candidate_says_of_its_log_what_was_on_disk_with_its_own_vote() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    canvass(scene, N2, 0)
    begin_term(scene, 1)
    stands(scene, 1)
    with pytest.raises(Violation, match="with its own vote it ended at index 0 in term 0"):
        stands(scene, 1, 7)


def test_a_candidate_says_that_it_was_asked_to_stand_only_if_it_was() -> None:
    scene = scene_of("stands_when_wanted", RAFT)
    vote(scene, N1, 1, None)
    request = EndTermRequest("ourolog", 1, *key_of(N2), key_of(N1), Term(1), (key_of(N1),))
    scene.tell("", "n1.election", CallReceived(2, request, Probe()))
    begin_term(scene, 2)
    stands(scene, 2, by_leave=True)
    with pytest.raises(Violation, match="n1 says that it was asked to stand in term 3, and nobody has asked it"):
        stands(scene, 3, by_leave=True)


# ---------------------------------------------------------------- handing over


def leading() -> Scene:
    """n1 leads term 1 with an entry that n2 has, too."""
    scene = scene_of("hands_over_whole", RAFT)
    lead(scene, N1, 1, N1, N2)
    append(scene, N1, 0, 1)
    append(scene, N2, 0, 1)
    return scene


def ask_to_take_over(scene: Scene, successor: NodeId, *others: NodeId, key: VoterKey | None = None) -> None:
    key = key or key_of(successor)
    first = others[0] if others else None
    successors = (key_of(first), key) if first is not None else (key,)
    scene.see(PacketSent(scene.tick(), 1, N1, successor, QUESTION))
    request = EndTermRequest("ourolog", 1, *key_of(N1), key, Term(1), successors)
    scene.tell("", f"{successor}.election", CallReceived(2, request, Probe()))


def test_whoever_has_everything_may_be_asked_first_and_another_one_after_it() -> None:
    scene = leading()
    ask_to_take_over(scene, N2)
    ask_to_take_over(scene, N3, N2)
    with pytest.raises(Violation, match="n1 asks n3 to take over, whose log ends at index 0 on disk, and its own at 1"):
        ask_to_take_over(scene, N3)


def test_what_is_not_synced_is_nothing_a_successor_has() -> None:
    scene = leading()
    append(scene, N1, 1, 1)
    append(scene, N2, 1, 1, sync=False)
    with pytest.raises(Violation, match="whose log ends at index 1 on disk, and its own at 2"):
        ask_to_take_over(scene, N2)


def test_a_node_or_a_disk_without_a_vote_may_not_be_asked() -> None:
    with pytest.raises(Violation, match="n1 asks n2 to take over, which has no vote"):
        ask_to_take_over(leading(), N2, key=VoterKey(N2, EPOCH + 9))


def test_who_has_stopped_leading_may_ask_nobody_any_more() -> None:
    scene = leading()
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
    with pytest.raises(Violation, match="n1 asks n2 to take over term 1 without a lead"):
        ask_to_take_over(scene, N2)


def test_what_it_asked_in_an_earlier_lead_may_come_late() -> None:
    scene = leading()
    scene.see(PacketSent(scene.tick(), 1, N1, N2, QUESTION))
    for leader_id in (None, N1):
        scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(3), leader_id))
    scene.see(PacketSent(scene.tick(), 2, N1, N2, QUESTION))
    late = EndTermRequest("ourolog", 1, *key_of(N1), key_of(N2), Term(1), (key_of(N2),))
    scene.tell("", "n2.election", CallReceived(2, late, Probe()))
    with pytest.raises(Violation, match="n1 asks n2 to take over term 4 without a lead"):
        scene.tell("", "n2.election", CallReceived(3, replace(late, term=Term(4)), Probe()))


def test_a_leader_whose_disk_has_failed_has_no_time_to_choose() -> None:
    scene = leading()
    scene.see(NodeSaid(scene.tick(), N1, NodeWarned(N1, "election", WarningKind.LEAD_GIVEN_UP, "its disk fails")))
    ask_to_take_over(scene, N3)
