"""Who hears of a later generation of its cluster has no part in it any more; of two rivals nobody acknowledges."""

from __future__ import annotations

from dataclasses import replace

from ourolog.actors.config import NodeConfig
from ourolog.actors.election.raft.election import RaftElection
from ourolog.actors.election.raft.founding import why_not_ours
from ourolog.actors.election.raft.generations import MAX_RIVALS, Rivals, superseded_by
from ourolog.actors.messages.election import ClaimReceived, HigherTermSeen, LeaderHinted, TransferLeader
from ourolog.actors.messages.events import ClaimsDisputed, ClaimsSettled, LeaderChanged, LogOpened, MemberLeft
from ourolog.actors.messages.observer import NodeWarned, WarningKind
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallRefused
from ourolog.actors.messages.store import SaveFounding, SaveSuperseded
from ourolog.actors.messages.values import ElectionClaim, Member
from ourolog.actors.testing.election_conformance import OWN_EPOCH, Slot
from ourolog.actors.testing.testkit import Probe
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterSet
from ourolog.storage.founding import Founding
from ourolog.storage.superseded import Superseded
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Term
from tests.actors.election.test_raft_election import FOUNDING, N1, N2, slot, vote

OWN = Founding(7)
LATER = ElectionClaim("raft", Term(9), N2, 70, 2, 7)


def test_only_a_later_generation_of_the_same_cluster_supersedes() -> None:
    assert superseded_by(OWN, N2, LATER) == Superseded(2, 70, N2)
    recovered = Founding(70, (), 2, 7)
    assert superseded_by(recovered, N2, LATER) is None, "the same one"
    assert superseded_by(recovered, N2, replace(LATER, cluster_id=71)) is None, "a rival"
    assert superseded_by(recovered, N2, replace(LATER, cluster_id=71, generation=3)) == Superseded(3, 71, N2)
    assert superseded_by(OWN, N2, replace(LATER, origin_id=8)) is None, "of another cluster"
    assert superseded_by(recovered, N2, ElectionClaim("raft", cluster_id=7)) is None, "of a former one"
    assert superseded_by(OWN, N2, ElectionClaim("raft")) is None


def test_rivals_are_those_of_the_same_generation_until_they_leave_or_belong_elsewhere() -> None:
    own, rivals = Founding(71, (), 2, 7), Rivals()
    for name, claim in (("n2", LATER), ("n3", replace(LATER, cluster_id=71)), ("n4", replace(LATER, generation=3))):
        rivals.heed(own, NodeId(name), claim)
    assert "n1 and n2 were recovered separately" in rivals.dispute(N1, own)
    rivals.heed(own, N2, replace(LATER, cluster_id=71))
    assert rivals.dispute(N1, own) == ""
    rivals.heed(own, N2, LATER)
    rivals.left(N2)
    assert rivals.dispute(N1, own) == ""
    for number in range(2 * MAX_RIVALS):
        rivals.heed(own, NodeId(f"m{number}"), LATER)
    for number in range(MAX_RIVALS):
        rivals.left(NodeId(f"m{number}"))
    assert rivals.dispute(N1, own) == "", "no more are remembered"


def test_in_the_first_generation_another_cluster_is_no_rival() -> None:
    rivals = Rivals()
    rivals.heed(OWN, N2, ElectionClaim("raft", cluster_id=8, origin_id=7))
    assert rivals.dispute(N1, OWN) == ""


def test_a_leader_that_is_superseded_leads_no_more_and_puts_it_on_disk_and_declines_every_call() -> None:
    stage = slot(FOUNDING)
    stage.open_log()
    while not stage.leaders() or stage.leaders()[-1].leader_id != N1:
        stage.settle(0.1)
    stage.ref.tell(ClaimReceived(N2, LATER))
    stage.settle()
    last = stage.listener.all(LeaderChanged)[-1]
    assert (last.leader_id, last.needs_person) == (None, True)
    assert "this cluster was recovered without n1" in last.why_nobody
    assert [told.superseded for told in stage.store.all(SaveSuperseded)] == [Superseded(2, 70, N2)]
    assert [warned.kind for warned in stage.observer.all(NodeWarned)][-1] is WarningKind.SUPERSEDED
    caller = Probe()
    stage.ref.tell(CallReceived(1, vote(term=Term(50)), caller))
    stage.ref.tell(TransferLeader(2, None, caller))
    stage.ref.tell(HigherTermSeen(Term(60), N2, N2, 7))
    stage.runtime.run_for(20)
    [answer] = caller.all(CallAnswer)
    assert isinstance(answer.response, CallRefused)
    assert stage.listener.all(LeaderChanged)[-1] == last
    assert stage.network.open == []


def test_who_finds_it_on_its_disk_never_stands() -> None:
    stage = slot(FOUNDING)
    superseded = Superseded(2, 70, N2)
    opened = LogOpened(START, START, TermHistory(), OWN_EPOCH, stage.on_disk, (), START, founding=FOUNDING)
    stage.ref.tell(replace(opened, superseded=superseded))
    stage.runtime.run_for(20)
    assert [changed.leader_id for changed in stage.listener.all(LeaderChanged)] == [None]
    assert stage.network.open == []


def test_a_claim_that_came_before_the_log_was_open_counts() -> None:
    stage = slot(FOUNDING)
    stage.ref.tell(ClaimReceived(N2, LATER))
    stage.open_log()
    assert "recovered without n1" in stage.listener.all(LeaderChanged)[-1].why_nobody


def test_while_a_rival_may_run_nothing_is_acknowledged() -> None:
    own = replace(FOUNDING, cluster_id=71, voters=FOUNDING.voters[:1], generation=2, origin_id=7)
    stage = slot(own)
    opened = LogOpened(START, START, TermHistory(), OWN_EPOCH, stage.on_disk, (), START, founding=own)
    stage.ref.tell(replace(opened, voters=VoterSet(Index(0), Term(1), own.voters)))
    stage.ref.tell(ClaimReceived(N2, LATER))
    stage.settle()
    assert "were recovered separately" in stage.listener.all(ClaimsDisputed)[-1].reason
    stage.ref.tell(MemberLeft(Member(N2, "n2:1", "n2:2")))
    stage.settle()
    assert len(stage.listener.all(ClaimsSettled)) == 1


def test_a_recovery_that_was_interrupted_has_to_be_finished_first() -> None:
    own = replace(FOUNDING, cluster_id=71, voters=FOUNDING.voters[:1], generation=2, origin_id=7, since_term=Term(6))
    former = VoterSet(Index(3), Term(5), FOUNDING.voters)
    opened = LogOpened(START, START, TermHistory(), OWN_EPOCH, Ballot(Term(6)), (), START, former, None, own)
    assert "Run `ourolog cluster recover` on it once more" in (why_not_ours(N1, opened) or "")
    assert why_not_ours(N1, replace(opened, voters=replace(former, term=Term(6), voters=own.voters))) is None


def test_a_node_that_joins_belongs_to_no_cluster_before_gossip_says_which_generation_it_is() -> None:
    choice = RaftElection.choose("raft", "")
    stage = Slot(RaftElection, NodeConfig(N1, "/data", "n1:1", "n1:2", join=("n2:2",), election=choice))
    stage.ref.tell(LogOpened(START, START, TermHistory(), OWN_EPOCH, stage.on_disk, (), START))
    stage.ref.tell(LeaderHinted(Term(9), N2, N2, 70))
    stage.settle()
    assert stage.store.all(SaveFounding) == []
    stage.ref.tell(ClaimReceived(N2, LATER))
    stage.ref.tell(LeaderHinted(Term(9), N2, N2, 70))
    stage.settle()
    assert [told.founding for told in stage.store.all(SaveFounding)] == [Founding(70, (), 2, 7)]
