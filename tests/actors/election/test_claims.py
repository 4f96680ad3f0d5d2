"""Claims that contradict each other, and whose word counts."""

from __future__ import annotations

from dataclasses import replace

from ourolog.actors.config import MAX_ELECTION_BYTES, NodeConfig
from ourolog.actors.election.claims import Claims
from ourolog.actors.messages.election import ClaimReceived
from ourolog.actors.messages.events import ClaimsDisputed, ClaimsSettled, MemberFailed, MemberLeft
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.status import ElectionStatus, ReportStatus, StatusReported
from ourolog.actors.messages.store import SaveBallot
from ourolog.actors.messages.values import ElectionClaim, Member
from ourolog.actors.occupants import find_occupant, parse_election
from ourolog.actors.testing.election_conformance import Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.founding import Founding
from ourolog.storage.types import NodeId, Term

N1, N2, N3, N9 = NodeId("n1"), NodeId("n2"), NodeId("n3"), NodeId("n9")
DECREE, RIVAL = "static:n1,n2,n3", "static:n2,n1,n3"


def claims(**heard: ElectionClaim) -> Claims:
    found = Claims(N1, (N1, N2, N3), ElectionClaim(DECREE, Term(4), N1))
    for peer_id, claim in heard.items():
        found.add(ClaimReceived(NodeId(peer_id), claim))
    return found


def test_members_that_say_the_same_in_whatever_term_dispute_nothing() -> None:
    assert claims(n2=ElectionClaim(DECREE, Term(3), N1), n3=ElectionClaim(DECREE, Term(9), None)).dispute() == ""


def test_a_voter_under_another_decree_is_named_with_it() -> None:
    dispute = claims(n2=ElectionClaim(RIVAL, Term(3), N2)).dispute()
    assert f"n2 with {RIVAL}" in dispute
    assert "both claim" not in dispute


def test_two_leaders_of_one_term_are_named_with_the_term() -> None:
    dispute = claims(n2=ElectionClaim(RIVAL, Term(4), N2), n3=ElectionClaim(DECREE, Term(4), N3)).dispute()
    assert "both claim term 4: for n1 here, for n2 there" in dispute
    assert "n3 says otherwise (both claim term 4: for n1 here, for n3 there)" in dispute


def test_a_stranger_silences_nobody_and_whom_most_contradict_is_wrong() -> None:
    agreeing = ElectionClaim(DECREE, Term(4), N1)
    stranger = ElectionClaim("static:n9,n1", Term(4), N9)
    assert claims(n2=agreeing, n3=agreeing, n9=stranger).dispute() == ""
    mistaken = Claims(N9, (N9,), ElectionClaim("static:n9", Term(1), N9))
    for peer_id in (N1, N2, N3):
        mistaken.add(ClaimReceived(peer_id, agreeing))
    assert "n1 with" in mistaken.dispute()
    for peer_id in (N1, N2):
        mistaken.left(peer_id)
    assert mistaken.dispute() == ""


def test_an_election_that_is_too_long_to_claim_still_differs_from_another() -> None:
    names = tuple(NodeId(f"a-rather-long-name-of-a-node-{number}") for number in range(9))
    one, other = (parse_election(f"static:{','.join(voters)}") for voters in (names, (*names[:8], N9)))
    for choice in (one, other):
        assert len(choice.claimed.encode()) <= MAX_ELECTION_BYTES
    assert one.claimed != other.claimed


def test_a_claim_of_another_cluster_contradicts_nothing_and_agrees_with_nothing() -> None:
    own = ElectionClaim("raft", Term(4), N1, cluster_id=7)
    found = Claims(N1, (N1, N2, N3), own)
    found.add(ClaimReceived(N2, replace(own, leader_id=N2)))
    assert "n2 says otherwise" in found.dispute()
    found.add(ClaimReceived(N2, replace(own, leader_id=N2, cluster_id=8)))
    found.add(ClaimReceived(N3, replace(own, cluster_id=0)))
    assert found.dispute() == ""
    assert [peer_id for peer_id, _ in found.foreign()] == [N2]


# ---------------------------------------------------------------- in the slot


def slot_of(node_id: NodeId, election: str) -> Slot:
    choice = parse_election(election)
    return Slot(
        find_occupant(choice.name),
        NodeConfig(node_id, "/data", "127.0.0.1:1", "127.0.0.1:2", election=choice),
        Ballot(),
    )


def hear(slot: Slot, peer_id: NodeId, claim: ElectionClaim) -> None:
    slot.ref.tell(ClaimReceived(peer_id, claim))
    slot.settle()


def test_a_dispute_is_said_after_the_log_is_open_and_ends_with_the_last_rival() -> None:
    slot = slot_of(N1, DECREE)
    hear(slot, N2, ElectionClaim(RIVAL))
    assert slot.listener.received == []
    slot.open_log()
    assert f"n2 with {RIVAL}" in slot.listener.last(ClaimsDisputed).reason
    probe = Probe()
    slot.ref.tell(ReportStatus(1, probe))
    slot.settle()
    status = probe.last(StatusReported).status
    assert isinstance(status, ElectionStatus)
    assert status.claims == ((N2, ElectionClaim(RIVAL)),)
    assert "n2 with" in status.dispute
    n2 = Member(N2, "127.0.0.1:3", "127.0.0.1:4")
    slot.ref.tell(MemberFailed(n2))
    slot.settle()
    assert slot.listener.all(ClaimsSettled) == []
    slot.ref.tell(MemberLeft(n2))
    slot.settle()
    assert slot.listener.all(ClaimsSettled) == [ClaimsSettled()]


def test_a_member_whose_disk_belongs_to_another_cluster_is_warned_of_once_whoever_knows_its_own_first() -> None:
    for hears_first in (True, False):
        slot = slot_of(N1, "raft")
        if hears_first:
            hear(slot, N2, ElectionClaim("raft", Term(1), N2, cluster_id=8))
        slot.founding = Founding(7)
        slot.open_log()
        for term in (1, 2):
            hear(slot, N2, ElectionClaim("raft", Term(term), N2, cluster_id=8))
        hear(slot, N3, ElectionClaim("raft", Term(1), N1, cluster_id=7))
        [warned] = [warned for warned in slot.observer.all(NodeWarned) if warned.kind is WarningKind.OTHER_CLUSTER]
        assert warned.about == N2
        assert "n1 belongs to cluster 7 by its disk, n2 to 8" in warned.reason


def test_a_leader_goes_past_the_term_that_a_voter_proves_to_be_in_and_no_other_claim_moves_it() -> None:
    slot = slot_of(N1, DECREE)
    slot.open_log()
    saved = len(slot.store.all(SaveBallot))
    for peer_id, claim in (
        (N9, ElectionClaim(DECREE, Term(7), N1)),
        (N2, ElectionClaim(RIVAL, Term(7), N2)),
        (N2, ElectionClaim(DECREE, Term(2**64 - 1), N1)),
    ):
        hear(slot, peer_id, claim)
    assert len(slot.store.all(SaveBallot)) == saved
    hear(slot, N2, ElectionClaim(DECREE, Term(7), N1))
    assert slot.leaders()[-1].term == 8


def test_where_nobody_is_elected_one_member_that_thinks_otherwise_stops_nothing() -> None:
    slot = slot_of(N1, "none")
    slot.open_log()
    hear(slot, N3, ElectionClaim("none"))
    hear(slot, N2, ElectionClaim(DECREE, Term(1), N1))
    assert slot.listener.all(ClaimsDisputed) == []
    hear(slot, N3, ElectionClaim(DECREE, Term(1), N1))
    assert len(slot.listener.all(ClaimsDisputed)) == 1
