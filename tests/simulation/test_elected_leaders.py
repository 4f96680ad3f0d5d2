"""Leaders that others elect: what they must have, drop, and have been granted, each held against the disks."""

from __future__ import annotations

import json
from itertools import product

import pytest

from ourolog.actors.messages.events import LeaderChanged, LogAppended
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected, NodePaused
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Kind
from ourolog.storage.control import Voter, VoterSet, VotersSet, encode_control
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Term
from tests.simulation.elected_scene import ELECTED, NODES, RAFT, append, follow, grant, lead, scene_of, vote
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, batch, sized

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


@pytest.mark.parametrize("names_others", [True, False])
def test_who_votes_is_what_the_log_names_that_is_synced_and_not_what_its_store_has_said_yet(
    names_others: bool,
) -> None:
    scene = scene_of("leader_completeness", RAFT)
    lead(scene, N1, 1, N1, N2)
    follow(scene, N2, 1, N1)
    # Without n2 both n1 and another one have to have it.
    named = (N1, N3, NodeId("n4")) if names_others else NODES
    voters = tuple(Voter(name, EPOCH + at, f"{name}:1", f"{name}:2") for at, name in enumerate(named))
    payload = encode_control(VotersSet(voters))
    entry = batch(0, "", term=Term(1), kind=Kind.CONTROL, payload=payload, record_count=0)
    for node_id in (N1, N2):
        scene.append(node_id, entry, batch(1, "v", term=Term(1), base_offset=Offset(0)))
    if names_others:
        lead(scene, N3, 2, N3)
    else:
        with pytest.raises(Violation, match=r"n3 leads term 2 .*lacks entry 1"):
            lead(scene, N3, 2, N3)


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
    scene.start("n2", settings={"election": RAFT}, log_epoch=EPOCH + 1, ballot=Ballot(Term(1), N1, None, EPOCH))
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


def begin(
    scene: Scene, leader: list[object], voters: list[NodeId], granted_by: list[NodeId], origin_epoch: int = EPOCH
) -> None:
    """n1 leads term 1 with the votes of n1 and n2, and writes this as the first entry of its term."""
    lead(scene, N1, 1, N1, N2)
    value = {"type": "leader-started", "leader": leader, "voters": voters, "granted_by": granted_by, "version": 1}
    payload = json.dumps(value).encode()
    scene.append(
        "n1", batch(0, "", term=Term(1), kind=Kind.CONTROL, record_count=0, payload=payload, origin_epoch=origin_epoch)
    )


def test_what_a_node_wrote_with_a_lost_disk_and_copies_back_is_not_judged_again() -> None:
    begin(scene_of("leader_elected", RAFT), [N1, EPOCH + 9], [N1, N2, N3], [N2, N3], EPOCH + 9)


def test_the_entry_that_begins_a_term_says_who_leads_who_votes_and_who_voted() -> None:
    voters = [N1, N2, N3]
    begin(scene_of("leader_elected", RAFT), [N1, EPOCH], voters, [N1, N2])
    for leader, named, granted_by, why in (
        ([N1, EPOCH + 1], voters, [N1, N2], "as the leader that wrote it"),
        ([N1, EPOCH], [N1, N2], [N1, N2], "names the voters n1, n2, and they are n1, n2, n3"),
        ([N1, EPOCH], voters, [N1], "says that n1 voted for its leader, and the disks of n1, n2 hold such a vote"),
        ([N1, EPOCH], voters, [N1, N2, N3], "the disks of n1, n2 hold such a vote"),
    ):
        with pytest.raises(Violation, match=why):
            begin(scene_of("leader_elected", RAFT), leader, named, granted_by)


# ---------------------------------------------------------------- leads once elected


def test_who_has_the_votes_of_a_majority_must_say_that_it_leads_and_begin_the_term() -> None:
    scene = scene_of("leads_once_elected", RAFT)
    vote(scene, N1, 1, N1)
    grant(scene, N2, N1, 1)
    scene.wait(0.4)
    with pytest.raises(
        Violation, match=r"n1 knows of the votes of a majority for term 1 since .* not said that it leads"
    ):
        scene.wait(0.2)
    lead(scene, N1, 1)
    scene.wait(0.4)
    with pytest.raises(Violation, match=r"n1 leads term 1 since .*, and no entry begins the term in its log"):
        scene.wait(0.2)
    append(scene, N1, 0, 1)
    scene.wait(10)


def test_one_more_vote_is_nothing_to_a_leader() -> None:
    scene = scene_of("leads_once_elected", RAFT)
    vote(scene, N1, 1, N1)
    grant(scene, N2, N1, 1)
    lead(scene, N1, 1)
    append(scene, N1, 0, 1)
    grant(scene, N3, N1, 1)
    scene.wait(10)


def test_pre_votes_and_votes_of_a_term_that_is_over_make_nobody_lead() -> None:
    for term, is_pre_vote in ((2, True), (1, False)):
        scene = scene_of("leads_once_elected", RAFT)
        vote(scene, N1, 2, N1)
        grant(scene, N2, N1, term, is_pre_vote=is_pre_vote)
        scene.wait(10)


def test_who_is_held_up_ends_or_hears_of_a_later_term_need_not_lead() -> None:
    for prevents in ("crash", "term", "pause"):
        scene = scene_of("leads_once_elected", RAFT)
        vote(scene, N1, 1, N1)
        grant(scene, N2, N1, 1)
        match prevents:
            case "crash":
                scene.crash("n1")
            case "term":
                vote(scene, N1, 2, N3)
            case _:
                scene.see(NodePaused(scene.tick(), N1))
        scene.wait(10)
