"""Leaders that others elect: what they must have, drop, and have been granted, each held against the disks."""

from __future__ import annotations

import json
from itertools import product

import pytest

from ourolog.actors.config import ElectionChoice
from ourolog.actors.messages.election import HigherTermSeen, LeaderAnswered, LeaderUnreachable
from ourolog.actors.messages.events import CommitKnown, LeaderChanged, LogAppended, MemberFailed, MemberLeft
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    EndTermRequest,
    FetchRequest,
    VoteRequest,
    VoteResponse,
)
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
from ourolog.storage.batch import Kind
from ourolog.storage.checksummed_json import encode
from ourolog.storage.control import Voter, VoterKey, VoterSet, VotersSet, encode_control
from ourolog.storage.terms import LastEntry, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Term
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
    epoch = 0 if candidate_id is None else EPOCH + NODES.index(candidate_id)
    scene.tell(f"{voter}.store", f"{voter}.election", ballot_saved(Ballot(Term(term), candidate_id, None, epoch)))


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


def grant(scene: Scene, voter: NodeId, candidate_id: NodeId, term: int, *, is_pre_vote: bool = False) -> None:
    """The candidate asks the voter for its vote, gets it, and hears of it."""
    if not is_pre_vote:
        vote(scene, voter, term, candidate_id)
    key = VoterKey(voter, EPOCH + NODES.index(voter))
    request = VoteRequest(
        "ourolog",
        1,
        candidate_id,
        EPOCH + NODES.index(candidate_id),
        key,
        Term(term),
        LastEntry.of(None, Index(0)),
        is_pre_vote,
    )
    scene.tell("", f"{voter}.election", CallReceived(1, request, Probe()))
    response = VoteResponse(voter, key.log_epoch, Term(term), None, True)
    scene.tell(f"{voter}.election", "network", CallAnswer(1, response))
    scene.tell("", f"{candidate_id}.election", CallReturned(voter, 1, response))


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


# ---------------------------------------------------------------- check quorum


def fetch(scene: Scene, voter: NodeId, leader_id: NodeId, term: int, *, epoch: int | None = None) -> None:
    """The node fetches from the leader: with its own disk, or with that epoch."""
    number = NODES.index(voter)
    request = FetchRequest(
        cluster="ourolog",
        node_id=voter,
        log_epoch=EPOCH + number if epoch is None else epoch,
        elected=True,
        term=Term(term),
        next_index=Index(0),
        last=None,
        source_epoch=0,
        committed=Index(0),
        max_bytes=1000,
        max_wait_s=0.5,
    )
    scene.tell("", f"{leader_id}.replicator", CallReceived(1, request, Probe()))


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
