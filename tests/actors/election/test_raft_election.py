"""The Raft actor: what happens becomes a rule's call, and its effects become messages."""

from __future__ import annotations

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.messages.election import HigherTermSeen
from ourolog.actors.messages.events import LeaderChanged, LogOpened, MemberJoined
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallRefused,
    FoundRequest,
    VoteRequest,
    VoteResponse,
)
from ourolog.actors.messages.values import Member
from ourolog.actors.testing.election_conformance import OWN_EPOCH, PEERS_EPOCH, Slot
from ourolog.actors.testing.testkit import OpenCall, Probe
from ourolog.storage.control import Voter, VoterKey
from ourolog.storage.founding import Founding
from ourolog.storage.terms import LastEntry, TermHistory
from ourolog.storage.types import START, Index, NodeId, Term

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
EPOCHS = {N1: OWN_EPOCH, N2: PEERS_EPOCH, N3: PEERS_EPOCH}
FOUNDING = Founding(7, tuple(Voter(name, epoch, f"{name}:1", f"{name}:2") for name, epoch in EPOCHS.items()))


def slot(founding: Founding | None = None) -> Slot:
    election = RaftElection.choose("raft", "n1,n2,n3")
    return Slot(RaftElection, NodeConfig(N1, "/data", "n1:1", "n1:2", election=election), founding=founding)


def test_members_that_gossip_found_before_the_log_was_open_are_asked_all_the_same() -> None:
    stage = slot()
    for name in (N2, N3):
        stage.ref.tell(MemberJoined(Member(name, f"{name}:1", f"{name}:2")))
    stage.settle()
    stage.ref.tell(LogOpened(START, START, TermHistory(), OWN_EPOCH, stage.on_disk, (), START))
    stage.runtime.run_for(5)
    asked = {call.peer.node_id for call in stage.network.open if isinstance(call.request, FoundRequest)}
    assert asked == {N2, N3}


def test_who_led_in_this_term_is_believed_though_it_is_no_voter_that_this_node_knows() -> None:
    n4 = NodeId("n4")
    stage = slot(FOUNDING)
    stage.open_log()
    for seen, term in (
        (HigherTermSeen(Term(8), None, n4, 7), 0),
        (HigherTermSeen(Term(9), n4, N2, 7), 9),
        (HigherTermSeen(Term(12), None, n4, 7), 12),
        (HigherTermSeen(Term(15), None, n4, 7), 12),
    ):
        stage.ref.tell(seen)
        stage.settle()
        assert stage.listener.all(LeaderChanged)[-1].term == term


def vote(**fields: object) -> VoteRequest:
    asked = {
        "cluster": "ourolog",
        "cluster_id": 7,
        "node_id": N2,
        "log_epoch": PEERS_EPOCH,
        "voter": VoterKey(N1, OWN_EPOCH),
        "term": Term(5),
        "last": LastEntry(Term(0), Index(0)),
        **fields,
    }
    return VoteRequest(**asked)  # type: ignore[arg-type]


def test_a_vote_asked_in_another_cluster_or_of_another_disk_is_refused_and_changes_nothing() -> None:
    for request in (
        vote(cluster="other"),
        vote(cluster_id=8),
        vote(voter=VoterKey(N1, 99)),
        vote(voter=VoterKey(N3, 1)),
    ):
        stage, caller = slot(FOUNDING), Probe()
        stage.open_log()
        before = stage.on_disk
        stage.ref.tell(CallReceived(1, request, caller))
        stage.settle()
        (answer,) = caller.all(CallAnswer)
        assert isinstance(answer.response, CallRefused)
        assert stage.on_disk == before


def test_votes_asked_while_the_disk_is_busy_are_answered_one_after_the_other() -> None:
    stage, caller = slot(FOUNDING), Probe()
    stage.open_log()
    stage.disk_answers = False
    stage.ref.tell(CallReceived(1, vote(), caller))
    stage.ref.tell(CallReceived(2, vote(node_id=N3), caller))
    stage.settle()
    assert caller.received == []
    stage.disk_answers = True
    stage.settle()
    assert [(answer.request_id, answer.response.granted) for answer in caller.all(CallAnswer)] == [
        (1, True),
        (2, False),
    ]
    assert stage.listener.last(LeaderChanged) == LeaderChanged(Term(5), None)


def test_nodes_that_were_started_with_other_founders_claim_the_same_election() -> None:
    flags = ("", "n1,n2,n3", "n3")
    assert {RaftElection.choose("raft", flag).claimed for flag in flags} == {"raft"}


def asked_for_votes(stage: Slot, *, are_pre_votes: bool) -> list[OpenCall]:
    """The calls that are open by which n1 asks for votes."""
    calls = [call for call in stage.network.open if isinstance(call.request, VoteRequest)]
    return [call for call in calls if call.request.is_pre_vote is are_pre_votes]


def granted_by(call: OpenCall) -> VoteResponse:
    return VoteResponse(call.peer.node_id, PEERS_EPOCH, call.request.term, None, granted=True)


def wanted() -> Slot:
    """Node n1 once it has asked who would vote for it; nobody answers by itself."""
    stage = slot(FOUNDING)
    stage.open_log()
    stage.peers.clear()
    while not asked_for_votes(stage, are_pre_votes=True):
        stage.settle(seconds=0.01)
    return stage


def test_a_candidate_whose_disk_is_slow_waits_for_votes_as_long_as_any_other() -> None:
    stage = wanted()
    stage.disk_answers = False
    asked, *_ = asked_for_votes(stage, are_pre_votes=True)
    asked.answer(granted_by(asked))
    stage.settle(seconds=0.5)
    stage.disk_answers = True
    stage.settle()
    asked, *_ = asked_for_votes(stage, are_pre_votes=False)
    asked.answer(granted_by(asked))
    stage.settle()
    assert stage.leaders()[-1].leader_id == N1


def test_who_has_just_voted_does_not_stand_since_its_time_was_up_while_its_disk_was_busy() -> None:
    stage, caller = slot(FOUNDING), Probe()
    stage.peers.clear()
    stage.open_log()
    stage.disk_answers = False
    stage.ref.tell(CallReceived(1, vote(term=Term(1)), caller))
    stage.settle(seconds=1.0)
    stage.disk_answers = True
    stage.settle(seconds=0.5)
    assert caller.last(CallAnswer).response.granted
    assert asked_for_votes(stage, are_pre_votes=True) == []


def test_who_stands_of_its_own_accord_does_not_say_that_its_leader_has_asked_it_to() -> None:
    stage = wanted()
    asked, *_ = asked_for_votes(stage, are_pre_votes=True)
    asked.answer(granted_by(asked))
    stage.settle()
    asked, *_ = asked_for_votes(stage, are_pre_votes=False)
    assert not asked.request.by_leave
