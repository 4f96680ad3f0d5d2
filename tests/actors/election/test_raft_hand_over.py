"""A leader that stops: produces held, the log measured, a successor caught up and asked; or everything as before."""

from __future__ import annotations

from ourolog.actors.election.raft.hand_over import LeadTransfer, Phase, Progress
from ourolog.actors.messages.election import (
    HandedOver,
    HandOver,
    HigherTermSeen,
    LeaderTransferred,
    TransferLeader,
    VoterFetched,
)
from ourolog.actors.messages.events import HoldProduces, LeaderChanged, ProducesHeld, ReleaseProduces
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallReceived, EndTermRequest, VoteRequest
from ourolog.actors.messages.store import StoreFailed
from ourolog.actors.testing.election_conformance import PEERS_EPOCH, Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term
from tests.actors.election.test_raft_election import FOUNDING as FOUNDING
from tests.actors.election.test_raft_election import N1, N2, N3, slot, vote

KEY_2, KEY_3 = VoterKey(N2, PEERS_EPOCH), VoterKey(N3, PEERS_EPOCH)


class Done:
    """What a hand-over has done, in order."""

    def __init__(self, timeout_s: float = 1.0) -> None:
        self.steps: list[object] = []
        self.waits_s: list[float] = []
        self.transfer = LeadTransfer(
            timeout_s,
            hold=lambda within_s: self.steps.append(("hold", within_s)),
            release=lambda: self.steps.append("release"),
            measure=lambda: self.steps.append("measure"),
            leave=lambda successors: self.steps.append(("leave", successors)),
            stay=lambda: self.steps.append("stay"),
            wait=self.waits_s.append,
        )

    def over(self, why: str) -> None:
        self.steps.append(("over", why))


def progress(two: int, three: int, at_s: float = 10.0) -> dict[VoterKey, Progress]:
    return {KEY_2: Progress(Index(two), at_s), KEY_3: Progress(Index(three), at_s)}


def test_nobody_is_asked_before_one_has_all_and_the_furthest_is_asked_first() -> None:
    done = Done()
    done.transfer.begin(None, done.over)
    done.transfer.held()
    done.transfer.measured(Index(9), progress(5, 7), 10.0)
    assert done.steps == [("hold", 0.5), "measure"]
    done.transfer.advanced(progress(5, 9), 10.0)
    assert done.steps[2:] == [("leave", (KEY_3, KEY_2))]
    done.transfer.leads_elsewhere()
    assert done.steps[3:] == [("over", "")]


def test_a_voter_that_was_asked_for_is_waited_for_though_another_has_all() -> None:
    done = Done()
    done.transfer.begin(KEY_2, done.over)
    done.transfer.held()
    done.transfer.measured(Index(9), progress(5, 9), 10.0)
    assert done.transfer.phase is Phase.CATCHING_UP
    done.transfer.advanced(progress(9, 9), 10.0)
    assert done.steps[-1] == ("leave", (KEY_2, KEY_3))


def test_a_voter_that_has_not_fetched_lately_is_no_successor() -> None:
    done = Done()
    done.transfer.begin(None, done.over)
    done.transfer.held()
    done.transfer.measured(Index(9), progress(9, 9, at_s=9.4), 10.0)
    assert done.transfer.phase is Phase.CATCHING_UP


def test_when_a_step_takes_too_long_all_is_as_before_whichever_it_is() -> None:
    for steps in range(4):
        done = Done()
        done.transfer.begin(None, done.over)
        if steps > 0:
            done.transfer.held()
        if steps > 1:
            done.transfer.measured(Index(9), progress(9 if steps > 2 else 8, 5), 10.0)
        done.transfer.due()
        assert done.steps[-3:-1] == ["stay", "release"]
        assert done.steps[-1] != ("over", "")
        assert not done.transfer.is_on


def test_who_waits_for_a_voter_in_vain_says_which() -> None:
    for asked_for, who in ((KEY_2, "n2"), (None, "no other voter")):
        done = Done()
        done.transfer.begin(asked_for, done.over)
        done.transfer.held()
        done.transfer.measured(Index(9), progress(5, 8), 10.0)
        done.transfer.due()
        assert done.steps[-1] == ("over", f"{who} does not fetch, or is behind")


def test_each_step_has_its_time_and_what_comes_out_of_turn_changes_nothing() -> None:
    done = Done(timeout_s=2.0)
    transfer = done.transfer

    def out_of_turn(*but: object) -> None:
        before = list(done.steps), list(done.waits_s), transfer.phase
        if transfer.held not in but:
            transfer.held()
        if transfer.measured not in but:
            transfer.measured(Index(1), progress(9, 9), 10.0)
        if transfer.advanced not in but:
            transfer.advanced(progress(9, 9), 10.0)
        if transfer.phase is None:
            transfer.due()
            transfer.leads_elsewhere()
            transfer.lost("gone")
        assert (done.steps, done.waits_s, transfer.phase) == before

    out_of_turn()
    transfer.begin(KEY_2, done.over)
    assert (done.steps, done.waits_s) == ([("hold", 1.0)], [3.0])
    transfer.begin(KEY_3, done.over)
    out_of_turn(transfer.held)
    transfer.held()
    assert (done.steps[1:], done.waits_s[1:]) == (["measure"], [2.0])
    out_of_turn(transfer.measured)
    transfer.measured(Index(9), progress(8, 9), 10.0)
    assert (done.steps[2:], done.waits_s[2:]) == ([], [2.0])
    out_of_turn(transfer.advanced)
    transfer.advanced(progress(9, 9), 10.0)
    assert (done.steps[2:], done.waits_s[3:]) == ([("leave", (KEY_2, KEY_3))], [2.0])
    out_of_turn()
    transfer.leads_elsewhere()
    assert done.steps[3:] == [("over", ""), ("over", "")]
    out_of_turn()


# ---------------------------------------------------------------- the actor


def leading() -> Slot:
    """Node n1, which the others have elected."""
    stage = slot(FOUNDING)
    stage.open_log()
    while not any(change.leader_id == N1 for change in stage.leaders()):
        stage.settle(seconds=0.05)
    return stage


def fetched(stage: Slot, voter: NodeId, end: int) -> None:
    now_s = stage.runtime.now_s
    stage.ref.tell(VoterFetched(voter, PEERS_EPOCH, Index(end), now_s))
    stage.runtime.run_until_idle()


def asked_to_take_over(stage: Slot) -> list[NodeId]:
    return [call.peer.node_id for call in stage.network.open if isinstance(call.request, EndTermRequest)]


def test_a_leader_that_stops_asks_the_furthest_voter_and_votes_for_it() -> None:
    stage, node, candidate = leading(), Probe(), Probe()
    fetched(stage, N2, 0)
    stage.ref.tell(HandOver(1, node))
    stage.settle()
    hold = stage.listener.last(HoldProduces)
    stage.ref.tell(ProducesHeld(hold.request_id, is_drained=True))
    stage.settle()
    assert asked_to_take_over(stage) == [N2]
    assert node.received == []
    term = stage.on_disk.term
    request = vote(term=Term(term + 1), last=LastEntry(term, Index(9)), by_leave=True)
    assert isinstance(request, VoteRequest)
    stage.ref.tell(CallReceived(5, request, candidate))
    stage.settle()
    assert candidate.received[0].response.granted
    assert stage.leaders()[-1] == LeaderChanged(Term(term + 1), None)


def test_a_leader_that_nobody_relieves_goes_on_with_what_was_held() -> None:
    stage, node = leading(), Probe()
    stage.ref.tell(HandOver(1, node))
    for _ in range(16):
        stage.settle(seconds=0.1)
        fetched(stage, N2, 0)
    assert node.received == [HandedOver(1)]
    assert stage.listener.all(ReleaseProduces) == [ReleaseProduces()]
    assert stage.leaders()[-1].leader_id == N1


def test_a_hand_over_ends_with_the_lead_unless_somebody_has_been_asked_to_take_over() -> None:
    for steps in range(4):
        done = Done()
        done.transfer.begin(None, done.over)
        if steps > 0:
            done.transfer.held()
        if steps > 1:
            done.transfer.measured(Index(9), progress(9 if steps > 2 else 8, 5), 10.0)
        done.transfer.deposed("lost")
        assert done.transfer.is_on == (steps == 3)
        assert (done.steps[-1] == ("over", "lost")) == (steps < 3)
        done.transfer.lost("elected itself")
        assert not done.transfer.is_on


def test_a_leader_that_is_elected_again_does_not_go_on_with_what_it_handed_over_before() -> None:
    for answers_late_s in (0.0, 0.2, 0.6):
        stage, edge = leading(), Probe()
        term = stage.on_disk.term
        fetched(stage, N2, 0)
        stage.ref.tell(TransferLeader(1, N2, edge))
        stage.settle()
        hold = stage.listener.last(HoldProduces)
        stage.ref.tell(HigherTermSeen(Term(term + 1), None, N3, FOUNDING.cluster_id))
        stage.settle()
        assert edge.last(LeaderTransferred).why_not == "n1 leads no more, and nobody does yet, in term 2"
        stage.disk_answers = False
        stage.ref.tell(ProducesHeld(hold.request_id, is_drained=False))
        stage.settle(seconds=answers_late_s)
        stage.disk_answers = True
        while stage.leaders()[-1].leader_id != N1:
            stage.settle(seconds=0.02)
        fetched(stage, N2, 0)
        stage.settle(seconds=0.5)
        assert asked_to_take_over(stage) == []
        stage.ref.tell(TransferLeader(2, N2, edge))
        stage.settle()
        assert stage.listener.last(HoldProduces).request_id != hold.request_id


def test_what_was_held_for_a_hand_over_that_came_to_nothing_is_not_taken_for_the_next_one() -> None:
    stage, node = leading(), Probe()
    stage.ref.tell(HandOver(1, node))
    stage.settle()
    first = stage.listener.last(HoldProduces)
    for _ in range(16):
        stage.settle(seconds=0.1)
        fetched(stage, N2, 0)
    assert node.received == [HandedOver(1)]
    stage.ref.tell(HandOver(2, node))
    stage.ref.tell(ProducesHeld(first.request_id, is_drained=False))
    stage.settle()
    assert asked_to_take_over(stage) == []
    stage.ref.tell(ProducesHeld(stage.listener.last(HoldProduces).request_id, is_drained=True))
    stage.settle()
    assert asked_to_take_over(stage) == [N2]


def test_the_lead_goes_only_to_voters() -> None:
    stage, edge = leading(), Probe()
    stage.ref.tell(TransferLeader(1, NodeId("n9"), edge))
    stage.ref.tell(TransferLeader(2, N1, edge))
    stage.settle()
    first, second = edge.all(LeaderTransferred)
    assert first.why_not == "n9 has no vote; the voters are n1, n2, n3"
    assert (second.leader_id, second.why_not) == (N1, "")


def test_where_nobody_can_be_elected_who_asks_for_another_leader_is_told_why() -> None:
    stage, edge = slot(FOUNDING), Probe()
    stage.on_disk = Ballot(Term(3))
    stage.peers.clear()
    stage.open_log()
    for _ in range(40):
        stage.settle(seconds=0.1)
    stage.ref.tell(TransferLeader(1, None, edge))
    stage.settle()
    assert "2 of 3 voters are needed, and n2, n3 do not answer n1" in edge.last(LeaderTransferred).why_not


def test_a_leader_whose_disk_has_failed_asks_others_to_take_over_and_leads_no_more() -> None:
    stage, node = leading(), Probe()
    fetched(stage, N3, 4)
    fetched(stage, N2, 9)
    stage.ref.tell(StoreFailed("the disk is full"))
    stage.settle()
    assert asked_to_take_over(stage) == [N2, N3]
    assert stage.leaders()[-1].leader_id is None
    assert any(
        isinstance(said, NodeWarned) and said.kind is WarningKind.LEAD_GIVEN_UP for said in stage.observer.received
    )
    stage.ref.tell(HandOver(1, node))
    stage.settle()
    assert node.received == []
    for call in list(stage.network.open):
        call.fail("gone")
    stage.settle()
    assert node.received == [HandedOver(1)]


def test_a_leader_whose_disk_hangs_lets_others_take_over() -> None:
    stage = leading()
    stage.settle(seconds=0.5)
    stage.disk_answers = False
    for _ in range(30):
        stage.settle(seconds=0.1)
        fetched(stage, N2, 3)
        fetched(stage, N3, 2)
    assert asked_to_take_over(stage)[:2] == [N2, N3]
    assert stage.leaders()[-1].leader_id is None


def test_a_slow_disk_deposes_nobody() -> None:
    stage = leading()
    for _ in range(6):
        stage.disk_answers = False
        for _ in range(12):
            stage.settle(seconds=0.1)
            fetched(stage, N2, 3)
        stage.disk_answers = True
        stage.settle(seconds=0.1)
    assert stage.leaders()[-1].leader_id == N1


def test_a_leader_whose_disk_hangs_while_it_goes_to_another_term_lets_others_take_over() -> None:
    stage = leading()
    stage.settle(seconds=0.5)
    stage.disk_answers = False
    stage.ref.tell(HigherTermSeen(Term(stage.on_disk.term + 1), None, N2, FOUNDING.cluster_id))
    for _ in range(30):
        stage.settle(seconds=0.1)
        fetched(stage, N2, 3)
        fetched(stage, N3, 2)
    assert asked_to_take_over(stage)[:2] == [N2, N3]
    assert stage.leaders()[-1].leader_id is None
