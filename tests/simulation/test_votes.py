"""Votes and voter sets, held against what is on the disks: each way to break a promise is seen."""

from __future__ import annotations

from typing import Any

import pytest

from ourolog.actors.messages.events import (
    CommitKnown,
    LeaderChanged,
    LogCut,
    LogStartMoved,
    VotersChanged,
    VotersLogged,
)
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchOutcome, FetchResponse, VoteRequest
from ourolog.actors.messages.store import BallotSaved, LogDescribed, LogTruncated, ResetLog, SaveBallot
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import FaultInjected
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, Codec, Kind
from ourolog.storage.control import LeaderStarted, Voter, VoterKey, VoterSet, VotersSet, encode_control
from ourolog.storage.terms import LastEntry, Place, TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, ballot_saved, batch, sized

ELECTION = "static:n1,n2,n3"


def at(index: int) -> Position:
    return Position(Index(index), Offset(index))


# ---------------------------------------------------------------- votes


def voter(ballot: Ballot = Ballot()) -> Scene:  # noqa: B008
    """n1, whose log ends at index 3 in term 2."""
    scene = Scene("votes_by_present_end")
    scene.start("n1", ELECTION, ballot=ballot)
    scene.append("n1", batch(0, "a", term=Term(1)), batch(1, "b", term=Term(1)), batch(2, "c", term=Term(2)))
    return scene


def ask(scene: Scene, term: int, candidate_id: NodeId, last: tuple[int, int] | None, *, granted: bool) -> None:
    ballot = Ballot(Term(term), candidate_id)
    candidate = None if last is None else LastEntry(Term(last[0]), Index(last[1]))
    request_id = scene.operations = scene.operations + 1
    scene.tell("n1.election", "n1.store", SaveBallot(request_id, ballot, Probe(), candidate))
    saved = ballot if granted else Ballot(Term(term))
    place = Place(Term(2), (N1, EPOCH))
    scene.tell("n1.store", "n1.election", BallotSaved(request_id, saved, granted, at(3), place, None))


@pytest.mark.parametrize("last", [(2, 3), (2, 4), (3, 1)])
def test_a_candidate_that_is_no_older_gets_the_vote_and_must_get_it(last: tuple[int, int]) -> None:
    ask(voter(), 5, N2, last, granted=True)
    with pytest.raises(Violation, match="n1 refuses its vote in term 5 to n2"):
        ask(voter(), 5, N2, last, granted=False)


@pytest.mark.parametrize("last", [(2, 2), (1, 9), (0, 0)])
def test_a_vote_for_an_older_log_is_seen(last: tuple[int, int]) -> None:
    ask(voter(), 5, N2, last, granted=False)
    with pytest.raises(Violation, match=r"n1 votes in term 5 for n2.*its own ends at index 3 in term 2"):
        ask(voter(), 5, N2, last, granted=True)


def test_a_vote_by_an_end_that_has_been_passed_is_seen() -> None:
    scene = voter()
    scene.append("n1", batch(3, "d", term=Term(2)), sync=False)
    with pytest.raises(Violation, match="its own ends at index 4 in term 2"):
        ask(scene, 5, N2, (2, 3), granted=True)


def test_a_second_vote_in_a_term_is_seen_also_over_a_restart() -> None:
    scene = voter()
    ask(scene, 5, N2, (2, 3), granted=True)
    ask(scene, 5, N2, (2, 3), granted=True)
    ask(scene, 6, N3, (2, 3), granted=True)
    scene.crash("n1")
    scene.start("n1", ELECTION, ballot=Ballot(Term(6), N3))
    with pytest.raises(Violation, match="votes for n2 in term 6, and has voted for n3 in it"):
        ask(scene, 6, N2, (2, 3), granted=True)


def test_a_node_that_votes_for_itself_has_voted() -> None:
    scene = voter()
    ask(scene, 5, N1, None, granted=True)
    with pytest.raises(Violation, match="has voted for n1"):
        ask(scene, 5, N2, (2, 3), granted=True)


def test_a_vote_for_the_same_name_with_another_disk_is_a_second_one() -> None:
    scene = voter()
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(5), N2, None, 7)))
    scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(5), N2, N2, 7)))
    with pytest.raises(Violation, match="votes for n2 in term 5, and has voted for n2 with another disk in it"):
        scene.tell("n1.store", "n1.election", ballot_saved(Ballot(Term(5), N2, None, 8)))


def test_a_vote_against_the_leader_of_the_term_is_seen() -> None:
    scene = voter(Ballot(Term(5), None, N3))
    ask(scene, 5, N3, (2, 3), granted=True)
    with pytest.raises(Violation, match="votes for n2 in term 5, and n3 leads in it"):
        ask(voter(Ballot(Term(5), None, N3)), 5, N2, (2, 3), granted=True)


def test_who_refuses_is_in_the_later_term_all_the_same() -> None:
    scene = voter(Ballot(Term(3)))
    scene.tell("n1.election", "n1.store", SaveBallot(1, Ballot(Term(5), N2), Probe(), LastEntry(Term(1), Index(1))))
    place = Place(Term(2), (N1, EPOCH))
    with pytest.raises(Violation, match="asked for its vote in term 5, and stays in 3"):
        scene.tell("n1.store", "n1.election", BallotSaved(1, Ballot(Term(3)), False, at(3), place, None))


def candidate(*ends: tuple[int, int], leader_id: NodeId | None = None) -> Scene:
    """n1 as above, which has voted for itself in term 5, and whose store has said that its log ends there."""
    scene = voter(Ballot(Term(5), N1, leader_id, EPOCH))
    for term, index in ends:
        place = Place(Term(term), (N1, EPOCH)) if term else None
        scene.tell("n1.store", "n1.election", LogDescribed(1, Ballot(Term(5)), START, at(index), place, START, None))
    return scene


def stand(scene: Scene, term: int, last: tuple[int, int], *, epoch: int = EPOCH, is_pre_vote: bool = False) -> None:
    """n1 asks n2 for its vote."""
    end = LastEntry(Term(last[0]), Index(last[1]))
    request = VoteRequest("ourolog", 1, N1, epoch, VoterKey(N2, EPOCH), Term(term), end, is_pre_vote)
    scene.tell("", "n2.election", CallReceived(1, request, Probe()))


@pytest.mark.parametrize("last", [(3, 3), (4, 1), (2, 4)])
def test_a_candidate_that_says_more_of_its_log_than_there_is_is_seen(last: tuple[int, int]) -> None:
    with pytest.raises(Violation, match=r"n1 asks for votes in term 5 .*and it ends at index 3 in term 2"):
        stand(candidate((2, 3), last), 5, last)


@pytest.mark.parametrize("is_pre_vote", [False, True])
def test_who_says_of_its_log_what_its_store_never_said_is_seen(*, is_pre_vote: bool) -> None:
    with pytest.raises(Violation, match=r"n1 asks for .*votes in term 5 .* index 3 in term 1, as its store never said"):
        stand(candidate((2, 3)), 5, (1, 3), is_pre_vote=is_pre_vote)


def test_what_a_candidate_said_of_an_earlier_log_or_of_another_disk_is_over() -> None:
    stand(candidate((2, 3)), 5, (2, 3))
    stand(candidate((3, 3), (2, 3)), 4, (3, 3))
    stand(candidate((3, 3)), 5, (3, 3), is_pre_vote=True)
    stand(candidate((3, 3), leader_id=N3), 5, (3, 3))
    stand(candidate(), 5, (3, 3), epoch=7)


def test_who_is_asked_in_a_term_that_it_is_in_may_refuse() -> None:
    ask(voter(Ballot(Term(5))), 5, N2, (2, 3), granted=False)


# ---------------------------------------------------------------- voter sets


def voters(index: int, term: int = 1, epoch: int = 7) -> VoterSet:
    return VoterSet(Index(index), Term(term), (Voter(N1, epoch, "n1:1", "n1:2"), Voter(N2, index + 1, "n2:1", "n2:2")))


def control(index: int, **changed: Any) -> Batch:
    """The entry that names `voters(index)`."""
    payload = encode_control(VotersSet(voters(index).voters))
    return batch(index, "", term=Term(1), kind=Kind.CONTROL, record_count=0, payload=payload, **changed)


def started() -> Batch:
    payload = encode_control(LeaderStarted(VoterKey(N1, EPOCH), (N1, N2, N3)))
    return batch(0, "", term=Term(1), kind=Kind.CONTROL, record_count=0, payload=payload, codec=Codec.NONE)


def naming() -> Scene:
    """n1, whose entries 1 and 2 name voters."""
    scene = Scene("voters_kept")
    scene.start("n1", ELECTION)
    scene.append("n1", started(), control(1), control(2))
    return scene


def describe(scene: Scene, said: VoterSet | None) -> None:
    scene.tell("n1.store", "n1.election", LogDescribed(1, Ballot(), START, at(3), None, START, said))


def test_the_last_voters_that_the_log_names_are_what_a_store_says() -> None:
    describe(naming(), voters(2))
    for wrong in (None, voters(1), voters(2, term=2), voters(2, epoch=8)):
        with pytest.raises(Violation, match="and it names those of entry 2 of term 1"):
            describe(naming(), wrong)


def test_voters_that_nobody_named_are_seen() -> None:
    scene = Scene("voters_kept")
    scene.start("n1", ELECTION)
    scene.append("n1", started())
    with pytest.raises(Violation, match="names last the voters of entry 1 of term 1, and it names those of no entry"):
        describe(scene, voters(1))


def test_voters_that_were_cut_are_not_in_force_any_more() -> None:
    for said in (voters(1), voters(2)):
        scene = naming()
        scene.truncate("n1", sized(started()) + sized(control(1)))
        cut = LogCut(START, at(2), TermHistory(), said)
        if said == voters(1):
            scene.tell("n1.store", "n1.election", cut)
            continue
        with pytest.raises(Violation, match="and it names those of entry 1"):
            scene.tell("n1.store", "n1.election", cut)


def test_a_restart_that_forgets_the_voters_is_seen() -> None:
    for said in (voters(2), voters(1), None):
        scene = naming()
        scene.crash("n1", keep=True)
        if said == voters(2):
            scene.start("n1", ELECTION, voters=said)
            describe(scene, said)
            continue
        with pytest.raises(Violation, match="those of entry 2"):
            scene.start("n1", ELECTION, voters=said)


def begun_anew(said: VoterSet | None) -> Scene:
    scene = naming()
    scene.tell("n1.replicator", "n1.store", ResetLog(at(9), None, voters(4), Term(1), Probe()))
    scene.truncate("n1", 0)
    scene.tell("n1.store", "n1.replicator", LogTruncated(at(9), at(9), TermHistory(), said))
    return scene


def test_a_log_that_begins_anew_has_the_voters_that_it_was_told() -> None:
    scene = begun_anew(voters(4))
    describe(scene, voters(4))
    with pytest.raises(Violation, match="before index 9 names last the voters of no entry"):
        begun_anew(None)
    moved = LogStartMoved(at(9), voters(2))
    with pytest.raises(Violation, match="before index 9 names last the voters of entry 2"):
        scene.tell("n1.store", "n1.replicator", moved)


def test_a_leader_that_tells_others_of_other_voters_is_seen() -> None:
    scene = begun_anew(voters(4))
    for said in (voters(4), None):
        response = FetchResponse(
            FetchOutcome.OUT_OF_RANGE, Term(1), EPOCH, at(9), at(9), START, N1, voters_before_start=said
        )
        if said is not None:
            scene.tell("n1.replicator", "n2", CallAnswer(1, response))
            continue
        with pytest.raises(Violation, match="before index 9"):
            scene.tell("n1.replicator", "n2", CallAnswer(2, response))


# ---------------------------------------------------------------- the voters in a leader's log


def leading(election: str = "raft:n1,n2,n3") -> Scene:
    """n1 leads term 1, has committed the entry that begins it, and none of its log names who votes."""
    scene = Scene("voters_kept")
    scene.start("n1", election)
    scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N1))
    scene.append("n1", started())
    scene.tell("n1.replicator", "n1.server", CommitKnown(Term(1)))
    return scene


def test_a_leader_that_does_not_write_down_who_votes_is_seen() -> None:
    scene = leading()
    scene.wait(0.4)
    with pytest.raises(Violation, match=r"n1 leads term 1, .* at 0\.\d+ s, and its log does not name who votes"):
        scene.wait(0.2)


def test_a_leader_whose_log_lost_who_votes_in_a_cut_is_seen() -> None:
    scene = leading()
    scene.append("n1", control(1))
    scene.truncate("n1", sized(started()))
    with pytest.raises(Violation, match="does not name who votes"):
        scene.wait(0.6)


@pytest.mark.parametrize(
    "why", ["named", "before its start", "no lead", "restart", "is slow", "decreed", "nothing known"]
)
def test_a_leader_that_has_written_it_or_cannot_or_is_none_is_not_asked_for_it(why: str) -> None:
    scene = leading("static:n1,n2,n3" if why == "decreed" else "raft:n1,n2,n3")
    match why:
        case "named":
            scene.append("n1", control(1))
        case "before its start":
            scene.tell("n1.replicator", "n1.store", ResetLog(at(9), None, voters(4), Term(1), Probe()))
            scene.truncate("n1", 0)
            scene.tell("n1.store", "n1.replicator", LogTruncated(at(9), at(9), TermHistory(), voters(4)))
        case "no lead":
            scene.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), None))
        case "restart":
            scene.crash("n1", keep=True)
            scene.start("n1", "raft:n1,n2,n3")
        case "is slow":
            scene.see(FaultInjected(scene.tick(), "slow_node", "n1"))
        case "nothing known":
            scene.see(FaultInjected(scene.tick(), "bit_rot", "n1"))
        case _:
            pass
    scene.wait(5.0)


# ---------------------------------------------------------------- voters in force


def in_force() -> Scene:
    """n1, whose log names voters in entry 1, and whose election has said so."""
    scene = Scene("voters_in_force")
    scene.start("n1", "raft:n1,n2", voters=voters(1))
    announce(scene, voters(1))
    return scene


def announce(scene: Scene, said: VoterSet) -> None:
    names = tuple(key.node_id for key in said.keys)
    scene.tell("n1.election", "n1.replicator", VotersChanged(names, said.keys, index=said.index))


def test_an_election_goes_by_voters_that_its_log_has_named() -> None:
    scene = in_force()
    scene.tell("n1.store", "n1.election", VotersLogged(voters(2), voters(1)))
    announce(scene, voters(2))
    with pytest.raises(Violation, match="goes by the voters of entry 3, which its log has not named"):
        announce(scene, voters(3))


@pytest.mark.parametrize("follows", [True, False])
def test_an_election_that_goes_on_with_voters_that_were_cut_is_seen(follows: bool) -> None:
    scene = in_force()
    scene.tell("n1.store", "n1.election", VotersLogged(voters(2), voters(1)))
    announce(scene, voters(2))
    scene.tell("n1.store", "n1.election", VotersLogged(voters(1)))
    scene.wait(0.4)
    if follows:
        announce(scene, voters(1))
        scene.wait(1.0)
        return
    with pytest.raises(Violation, match="goes by the voters of entry 2, and its log names those of entry 1 since"):
        scene.wait(1.0)
