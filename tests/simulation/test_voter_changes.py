"""The claims about changes of voters, each broken once; and what the people of a run know of who votes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from ourolog.actors.messages.election import RemoveVoter
from ourolog.actors.messages.events import CommitAdvanced, LeaderChanged, LogAppended, LogCut, LogOpened
from ourolog.actors.messages.store import BallotSaved, SaveBallot
from ourolog.actors.occupants import parse_election
from ourolog.actors.testing.testkit import Probe
from ourolog.simulation import Cluster
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import Phase, PhaseBegan
from ourolog.simulation.known_sets import KnownSets
from ourolog.simulation.options import Options
from ourolog.simulation.simulate import simulate
from ourolog.storage.ballot import Ballot
from ourolog.storage.batch import Batch, Kind
from ourolog.storage.control import LeaderStarted, Voter, VoterKey, VoterSet, VotersSet, encode_control
from ourolog.storage.terms import TermHistory
from ourolog.storage.types import START, Index, NodeId, Offset, Position, Term
from tests.simulation.scene import EPOCH, N1, N2, N3, Scene, batch

N4 = NodeId("n4")
NODES = (N1, N2, N3, N4)
RAFT = parse_election("raft:n1,n2,n3")


def key(node_id: NodeId) -> VoterKey:
    return VoterKey(node_id, EPOCH + NODES.index(node_id))


def voter(node_id: NodeId) -> Voter:
    return Voter(*key(node_id), f"{node_id}:1", f"{node_id}:2")


def control(index: int, entry: LeaderStarted | VotersSet, term: int = 1, by: NodeId = N1) -> Batch:
    payload = encode_control(entry)
    more: dict[str, Any] = {"payload": payload, "record_count": 0, "kind": Kind.CONTROL, "base_offset": Offset(0)}
    return batch(index, "", by, term=Term(term), origin_epoch=key(by).log_epoch, **more)


def names(*node_ids: NodeId, removed: tuple[NodeId, ...] = ()) -> VotersSet:
    return VotersSet(tuple(voter(node_id) for node_id in node_ids), tuple(key(node_id) for node_id in removed))


class Led(Scene):
    """Node n1 leads term 1 of three voters, which its log names in entry 1; all of that is committed."""

    def __init__(self, claim: str, **settings: Any) -> None:
        super().__init__(claim)
        for node_id in NODES:
            self.start(node_id, settings={"election": RAFT, **settings}, log_epoch=key(node_id).log_epoch)
        self.tell("n1.store", "n1.election", BallotSaved(1, Ballot(Term(1), N1, N1, EPOCH), True, START, None, None))
        self.tell("n1.election", "n1.replicator", LeaderChanged(Term(1), N1))
        self.append("n1", control(0, LeaderStarted(key(N1), (N1, N2, N3), (N1, N2))), control(1, names(N1, N2, N3)))
        self.named(1, names(N1, N2, N3))
        self.commit(2)

    def named(self, index: int, entry: VotersSet, end: int | None = None) -> None:
        voters = VoterSet(Index(index), Term(1), entry.voters, entry.removed)
        ends = (Position(Index(end or index + 1), Offset(0)),)
        self.tell("n1.store", "n1.replicator", LogAppended(ends, TermHistory(), voters))

    def commit(self, index: int) -> None:
        self.tell("n1.replicator", "n1.server", CommitAdvanced(Position(Index(index), Offset(0))))

    def change(self, index: int, entry: VotersSet, term: int = 1) -> None:
        self.append("n1", control(index, entry, term))
        self.named(index, entry)


# ---------------------------------------------------------------- one change at a time


def test_one_voter_after_the_other_is_changed() -> None:
    scene = Led("one_change_at_a_time")
    scene.change(2, names(N1, N2, N3, N4))
    scene.commit(3)
    scene.change(3, names(N1, N2, N4))


def test_two_voters_are_not_changed_at_once() -> None:
    with pytest.raises(Violation, match="names n1, n2, n4 as voters, and entry 1 before it n1, n2, n3"):
        Led("one_change_at_a_time").change(2, names(N1, N2, N4))


def test_the_next_change_waits_until_the_last_one_is_committed() -> None:
    scene = Led("one_change_at_a_time")
    scene.change(2, names(N1, N2, N3, N4))
    with pytest.raises(Violation, match="entry 2, which named those before, is not committed"):
        scene.change(3, names(N1, N2, N4))


def test_no_change_comes_before_an_entry_of_the_own_term_is_committed() -> None:
    scene = Led("one_change_at_a_time")
    scene.tell("n1.store", "n1.election", BallotSaved(2, Ballot(Term(2), N1, N1, EPOCH), True, START, None, None))
    scene.append("n1", control(2, LeaderStarted(key(N1), (N1, N2, N3), (N1, N2)), 2))
    with pytest.raises(Violation, match="knows of no entry of its term that is committed"):
        scene.append("n1", control(3, names(N1, N2), 2))


# ---------------------------------------------------------------- added once caught up


def test_who_has_next_to_nothing_is_not_added() -> None:
    scene = Led("added_once_caught_up", election_timeout_s=1.0)
    scene.append("n4", control(0, LeaderStarted(key(N1), (N1, N2, N3), (N1, N2))))
    scene.wait(10.0)
    with pytest.raises(Violation, match="n1 adds n4 as a voter, whose log ends at index 1 on disk"):
        scene.change(2, names(N1, N2, N3, N4))


def test_who_has_what_there_was_a_while_ago_is_added() -> None:
    scene = Led("added_once_caught_up", election_timeout_s=1.0)
    scene.append("n4", control(0, LeaderStarted(key(N1), (N1, N2, N3), (N1, N2))), control(1, names(N1, N2, N3)))
    scene.wait(10.0)
    scene.change(2, names(N1, N2, N3, N4))


# ---------------------------------------------------------------- who stands


def stand(scene: Scene, node_id: NodeId) -> None:
    ballot = Ballot(Term(2), node_id, None, key(node_id).log_epoch)
    scene.tell(f"{node_id}.election", f"{node_id}.store", SaveBallot(9, ballot, Probe()))


def test_a_voter_stands_and_who_was_one_before_the_last_change_and_nobody_else() -> None:
    scene = Led("voters_stand")
    stand(scene, N2)
    with pytest.raises(Violation, match="n4 stands in term 2 with a disk that has no vote"):
        stand(scene, N4)
    removed = Led("voters_stand")
    removed.named(2, names(N2, N3))
    stand(removed, N1)


# ---------------------------------------------------------------- leaders that are removed, and who stays removed


def test_a_leader_that_votes_no_more_is_gone_soon_after_that_is_committed() -> None:
    scene = Led("removed_leaders_leave", election_timeout_s=1.0)
    scene.named(2, names(N2, N3))
    scene.wait(20.0)
    scene.commit(3)
    scene.wait(1.0)
    scene.wait(6.0)
    with pytest.raises(Violation, match="n1 still leads, and votes no more since entry 2"):
        scene.wait(1.0)


def test_a_voter_is_removed_by_itself_only_if_it_is_gone_for_long() -> None:
    scene = Led("removed_stay_removed", replace_after_s=10.0)
    with pytest.raises(Violation, match="n1 removes n1 by itself"):
        scene.change(2, names(N2, N3))
    asked = Led("removed_stay_removed", replace_after_s=10.0)
    asked.tell("", "n1.election", RemoveVoter(1, N1, Probe()))
    asked.change(2, names(N2, N3))


def test_whom_a_person_has_removed_no_leader_adds() -> None:
    scene = Led("removed_stay_removed")
    scene.named(2, names(N1, N2, N3, removed=(N4,)))
    with pytest.raises(Violation, match="n1 adds n4 as a voter, which a person had removed"):
        scene.append("n1", control(3, names(N1, N2, N3, N4)))


# ---------------------------------------------------------------- replaced in time


def test_a_voter_whose_disk_is_gone_is_replaced_in_time() -> None:
    scene = Led("replaced_in_time", replace_after_s=5.0)
    scene.wait(100.0)
    scene.crash("n3")
    scene.start("n3", settings={"election": RAFT, "replace_after_s": 5.0}, log_epoch=EPOCH + 99)
    scene.wait(10.0)
    with pytest.raises(Violation, match="n3 of its voters n1, n2, n3 has lost its disk, n4 stands by"):
        scene.wait(20.0)


# ---------------------------------------------------------------- what people know


def test_the_last_two_sets_of_each_log_may_be_in_force() -> None:
    sets = KnownSets()
    assert (sets.in_force, sets.newest, sets.voters) == ([], [], ())
    first, second, third = (
        VoterSet(Index(index), Term(1), names(*named).voters)
        for index, named in ((1, (N1, N2, N3)), (5, (N1, N2)), (9, (N1, N2, N4)))
    )
    sets.note(N1, LogOpened(START, START, TermHistory(), EPOCH, Ballot(), (), START, first))
    assert sets.key_of(N1) == key(N1)
    for named in (second, third):
        sets.note(N1, LogAppended((START,), TermHistory(), named))
    sets.note(N2, LogOpened(START, START, TermHistory(), EPOCH + 1, Ballot(), (), START, first))
    assert set(sets.in_force) == {first.keys, second.keys, third.keys}
    assert sets.newest == [third.keys, second.keys]
    sets.note(N1, LogCut(START, START, TermHistory(), second))
    assert sets.voters == (N1, N2)
    sets.lost(N1)
    assert (sets.voters, sets.key_of(N1)) == ((N1, N2, N3), VoterKey(N1, 0))


def test_a_majority_of_the_newest_sets_is_who_is_chosen_and_as_many_more_as_it_takes() -> None:
    sets = KnownSets()
    before, after = (
        VoterSet(Index(index), Term(1), names(*named).voters) for index, named in ((1, (N1, N2, N3)), (5, (N1, N3, N4)))
    )
    for node_id in (N1, N2, N3, N4):
        epoch = key(node_id).log_epoch
        sets.note(node_id, LogOpened(START, START, TermHistory(), epoch, Ballot(), (), START, before))
    assert sets.with_majority((N2, N4), (N4, N3, N2, N1)) == {N2, N3, N4}
    assert sets.with_majority((N1, N2), (N4, N3)) == {N1, N2}
    sets.note(N1, LogAppended((START,), TermHistory(), after))
    assert sets.with_majority((N1, N2), (N4, N3)) == {N1, N2, N4}
    assert sets.with_majority((N1, N3), (N4, N2)) == {N1, N3}


def test_who_knows_of_a_lost_disk_asks_for_nobody_elses_removal() -> None:
    sets = KnownSets()
    voters = VoterSet(Index(1), Term(1), names(N1, N2, N3).voters)
    for node_id in (N1, N2, N3):
        sets.note(node_id, LogOpened(START, START, TermHistory(), key(node_id).log_epoch, Ballot(), (), START, voters))
    assert not sets.has_lost_another(N3)
    sets.lost(N2)
    assert sets.has_lost_another(N3)
    assert not sets.has_lost_another(N2)
    sets.note(N2, LogOpened(START, START, TermHistory(), 77, Ballot(), (), START, None))
    assert sets.has_lost_another(N3)


def test_a_core_that_is_no_majority_any_more_is_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is when a change of voters was under way while the core was drawn.
    run = vars(import_module("ourolog.simulation.simulate"))["_Run"]
    monkeypatch.setattr(run, "_draw_core", lambda _: (N1,))
    options = Options(seed=1, nodes=4, election="raft", faults=("duplicate",), minutes=0.1, operations=20)
    phases: list[PhaseBegan] = []
    observe = lambda event: phases.append(event) if isinstance(event, PhaseBegan) else None  # noqa: E731
    result = simulate(options, observers=[observe])
    assert result.violations == ()
    first, *_, last = (set(phase.core) for phase in phases if phase.phase is Phase.LIVENESS)
    assert first == {N1}
    assert len(last & {N1, N2, N3}) >= 2
    assert first < last


def test_in_a_whole_cluster_a_person_removes_a_voter_and_another_one_follows_it() -> None:
    with Cluster(seed=3, nodes=4, election="raft") as cluster:
        cluster.start()
        cluster.run_for(5.0)
        assert cluster.leader_id is not None
        removed = next(node_id for node_id in (N1, N2, N3) if node_id != cluster.leader_id)
        cluster.change_voters(cluster.leader_id, removed, is_addition=False)
        cluster.run_for(3.0)
        assert set(cluster.sets.voters) == {N1, N2, N3, N4} - {removed}
        assert cluster.states.counts["voter_added"] == cluster.states.counts["voter_removed"] == 1


def test_in_a_whole_cluster_a_wiped_voter_is_replaced_and_not_before_its_time() -> None:
    with Cluster(seed=4, nodes=4, election="raft", replace_after_s=8.0) as cluster:
        cluster.start()
        cluster.run_for(5.0)
        lost = next(node_id for node_id in (N1, N2, N3) if node_id != cluster.leader_id)
        cluster.crash(lost, power=True)
        cluster.run_for(3.0)
        cluster.wipe(lost)
        cluster.start(lost)
        before = cluster.sets.newest[0]
        cluster.run_for(3.0)
        assert cluster.sets.newest[0] == before
        cluster.run_for(12.0)
        # Who takes its place may be the same node, with the disk that it has now.
        (gone,) = set(before) - set(cluster.sets.newest[0])
        assert (gone.node_id, len(cluster.sets.voters)) == (lost, 3)
        assert cluster.states.counts["wiped_voter_replaced"] == 1
