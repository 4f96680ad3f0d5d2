"""Leaders that others elect: what they must have, drop, and have been granted, each held against the disks."""

from __future__ import annotations

from itertools import product

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.events import LeaderChanged, LogAppended
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import Voter, VoterSet
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved, batch, sized

NODES = (N1, N2, N3)
ELECTED = ElectionChoice("elected", "n1,n2,n3", voters=NODES)
RAFT = ElectionChoice("raft", "n1,n2,n3", voters=NODES)


def scene_of(claim: str, election: ElectionChoice = ELECTED) -> Scene:
    """Three nodes that have started with empty logs, each with another epoch of its log."""
    scene = Scene(claim)
    for number, node_id in enumerate(NODES):
        scene.start(node_id, settings={"election": election}, log_epoch=EPOCH + number)
    return scene


def vote(scene: Scene, voter: NodeId, term: int, candidate_id: NodeId | None) -> None:
    scene.tell(f"{voter}.store", f"{voter}.election", ballot_saved(Ballot(Term(term), candidate_id)))


def lead(scene: Scene, leader_id: NodeId, term: int, *voters: NodeId) -> None:
    """The voters vote for that node, and it says that it leads."""
    for voter in voters:
        vote(scene, voter, term, leader_id)
    scene.tell(f"{leader_id}.election", f"{leader_id}.replicator", LeaderChanged(Term(term), leader_id))


def follow(scene: Scene, node_id: NodeId, term: int, leader_id: NodeId) -> None:
    vote(scene, node_id, term, None)
    scene.tell(f"{node_id}.election", f"{node_id}.replicator", LeaderChanged(Term(term), leader_id))


def append(scene: Scene, node_id: NodeId, index: int, term: int, *, sync: bool = True) -> None:
    scene.append(node_id, batch(index, f"{term}/{index}", term=Term(term)), sync=sync)


# ---------------------------------------------------------------- append only


def test_a_leader_that_cuts_its_log_in_its_own_term_is_seen() -> None:
    for restarts, resigns in product((False, True), repeat=2):
        scene = scene_of("leader_append_only")
        append(scene, N1, 0, 1)
        lead(scene, N1, 2, N1, N2)
        append(scene, N1, 1, 2)
        if resigns:
            scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(2), None))
        if restarts:
            scene.crash("n1")
            scene.start("n1", settings={"election": ELECTED}, ballot=Ballot(Term(2), N1, N1))
        with pytest.raises(Violation, match=r"n1 dropped entry 1 .* in term 2, in which it leads or has led"):
            scene.truncate("n1", sized(batch(0, "1/0", term=Term(1))))


def test_who_led_in_an_earlier_term_may_cut_and_so_may_who_follows() -> None:
    scene = scene_of("leader_append_only")
    for node_id in (N1, N2):
        append(scene, node_id, 0, 1)
    lead(scene, N1, 2, N1, N2)
    append(scene, N1, 1, 2)
    scene.truncate("n2", 0)
    follow(scene, N1, 3, N2)
    scene.truncate("n1", sized(batch(0, "1/0", term=Term(1))))


def test_what_retention_and_a_power_cut_take_is_not_cut_by_a_leader() -> None:
    scene = scene_of("leader_append_only")
    lead(scene, N1, 2, N1, N2)
    append(scene, N1, 0, 2)
    append(scene, N1, 1, 2, sync=False)
    second = "/data/log/00000000000000000002-00000000000000000002.log"
    scene.append("n1", batch(2, "2/2", term=Term(2)), path=second)
    scene.truncate("n1", 0)
    scene.crash("n1")
    scene.start("n1", settings={"election": ELECTED}, ballot=Ballot(Term(2), N1, N1))


def test_another_disk_was_never_led_from() -> None:
    scene = scene_of("leader_append_only")
    lead(scene, N1, 2, N1, N2)
    scene.crash("n1")
    scene.see(FaultInjected(scene.tick(), "disk_lost", "n1"))
    scene.files[N1] = {}
    scene.start("n1", settings={"election": ELECTED}, ballot=Ballot(Term(2)))
    append(scene, N1, 0, 1)
    scene.truncate("n1", 0)


# ---------------------------------------------------------------- completeness


def test_who_lacks_what_a_majority_had_on_disk_in_its_own_term_may_not_lead() -> None:
    scene = scene_of("leader_completeness")
    lead(scene, N1, 1, N1, N2)
    follow(scene, N2, 1, N1)
    for index, node_id in product(range(2), (N1, N2)):
        append(scene, node_id, index, 1)
    lead(scene, N2, 2, N2, N3)
    append(scene, N3, 0, 1)
    with pytest.raises(Violation, match=r"n3 leads term 3.*index 1, and lacks entry 1 .*a majority.* term 1"):
        lead(scene, N3, 3, N3, N1)


def test_what_was_on_no_majority_in_its_own_term_may_be_missing() -> None:
    """Raft figure 8: an entry of an older term on a majority is not committed by that."""
    scene = scene_of("leader_completeness")
    lead(scene, N1, 1, N1, N2)
    append(scene, N1, 0, 1)
    append(scene, N2, 0, 1, sync=False)
    lead(scene, N3, 2, N3, N2)
    lead(scene, N1, 3, N1, N2)
    scene.sync("n2")
    lead(scene, N3, 4, N3, N2)


def test_a_later_entry_of_the_leaders_own_term_commits_the_older_ones() -> None:
    scene = scene_of("leader_completeness")
    lead(scene, N1, 1, N1, N2)
    append(scene, N1, 0, 1)
    lead(scene, N1, 3, N1, N2)
    follow(scene, N2, 3, N1)
    append(scene, N2, 0, 1)
    for node_id in (N1, N2):
        append(scene, node_id, 1, 3)
    with pytest.raises(Violation, match=r"n3 leads term 4 .*lacks entry 1 .*term 3"):
        lead(scene, N3, 4, N3, N2)


def test_who_lacks_what_any_node_held_for_committed_may_not_lead() -> None:
    for told_in in (1, 3):
        scene = scene_of("leader_completeness")
        append(scene, N1, 0, 1)
        follow(scene, N1, told_in, N2)
        scene.commit("n1", 1)
        if told_in == 1:
            with pytest.raises(Violation, match=r"n3 leads term 2 .*lacks entry 0 .*held for committed in term 1"):
                lead(scene, N3, 2, N3, N2)
        else:
            lead(scene, N3, 2, N3, N2)  # it was elected before, and says so late


def test_a_node_with_a_new_disk_is_no_part_of_a_majority() -> None:
    for is_wiped in (False, True):
        scene = scene_of("leader_completeness", RAFT)
        lead(scene, N1, 1, N1, N2)
        append(scene, N1, 0, 1)
        if is_wiped:
            scene.crash("n2")
            scene.see(FaultInjected(scene.tick(), "disk_lost", "n2"))
            scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 9)
        follow(scene, N2, 1, N1)
        append(scene, N2, 0, 1)
        if is_wiped:
            lead(scene, N3, 2, N3, N2)
        else:
            with pytest.raises(Violation, match="lacks entry 0"):
                lead(scene, N3, 2, N3, N2)


def test_retention_takes_nothing_that_a_leader_must_have() -> None:
    scene = scene_of("leader_completeness")
    lead(scene, N1, 1, N1, N2)
    follow(scene, N2, 1, N1)
    second = "/data/log/00000000000000000001-00000000000000000001.log"
    for node_id in (N1, N2):
        append(scene, node_id, 0, 1)
    scene.append("n2", batch(1, "1/1", term=Term(1)), path=second)
    scene.truncate("n2", 0)
    lead(scene, N2, 2, N2, N3)


# ---------------------------------------------------------------- elected


def test_who_leads_without_the_votes_of_a_majority_is_seen() -> None:
    lead(scene_of("leader_elected", RAFT), N1, 1, N1, N3)
    with pytest.raises(Violation, match=r"n1 leads term 1, and of the voters n1, n2, n3 only n1 has a vote for it"):
        lead(scene_of("leader_elected", RAFT), N1, 1, N1)


def test_votes_for_another_or_in_another_term_do_not_count() -> None:
    scene = scene_of("leader_elected", RAFT)
    vote(scene, N2, 1, N1)
    vote(scene, N3, 2, N2)
    with pytest.raises(Violation, match="only n1 has a vote"):
        lead(scene, N1, 2, N1)


def test_a_vote_that_a_crash_kept_from_being_reported_counts_and_so_does_one_of_before_a_later_term() -> None:
    scene = scene_of("leader_elected", RAFT)
    scene.crash("n2")
    scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 1, ballot=Ballot(Term(1), N1))
    vote(scene, N2, 2, N3)
    lead(scene, N1, 1, N1)


def test_a_vote_on_another_disk_than_the_log_names_does_not_count() -> None:
    scene = scene_of("leader_elected", RAFT)
    named = tuple(Voter(node_id, EPOCH + number, "a:1", "a:2") for number, node_id in enumerate(NODES))
    voters = VoterSet(Index(0), Term(1), named)
    scene.tell("n1.store", "n1.replicator", LogAppended((START,), TermHistory(), voters))
    scene.crash("n2")
    scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 9)
    with pytest.raises(Violation, match="only n1 has a vote"):
        lead(scene, N1, 2, N1, N2)


def test_a_node_with_another_disk_may_not_lead() -> None:
    scene = scene_of("leader_elected", RAFT)
    scene.crash("n1")
    scene.start("n1", settings={"election": RAFT}, log_epoch=EPOCH + 9)
    with pytest.raises(Violation, match="n1 leads term 2 with a disk that has no vote"):
        lead(scene, N1, 2, N1, N2, N3)
