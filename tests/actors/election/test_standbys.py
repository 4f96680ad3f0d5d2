"""What a leader knows of the nodes that copy from it."""

from __future__ import annotations

from ourolog.actors.election.raft.standbys import MAX_KNOWN, Standbys
from ourolog.actors.messages.election import StandbyFetched
from ourolog.actors.messages.values import Member, MemberState
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId

N4, N5 = NodeId("n4"), NodeId("n5")


def member(node_id: NodeId) -> Member:
    return Member(node_id, f"{node_id}:1", f"{node_id}:2", MemberState.ALIVE, 1)


def fetch(standbys: Standbys, node_id: NodeId, epoch: int = 44, at_s: float = 1.0, *, is_member: bool = True) -> None:
    fetched = StandbyFetched(node_id, epoch, Index(9), 3, True, at_s)
    standbys.fetched(fetched, member(node_id) if is_member else None)


def known(standbys: Standbys, *voters: VoterKey) -> list[VoterKey]:
    return [standby.key for standby in standbys.besides(voters)]


def test_who_copies_is_known_with_its_disk_and_where_it_can_be_reached() -> None:
    standbys = Standbys()
    fetch(standbys, N5, 55)
    fetch(standbys, N4, 44, at_s=1.0)
    fetch(standbys, N4, 44, at_s=2.0)
    assert known(standbys) == [VoterKey(N4, 44), VoterKey(N5, 55)]
    assert known(standbys, VoterKey(N4, 44)) == [VoterKey(N5, 55)], "who votes is no standby"
    assert standbys.fetched_s == {VoterKey(N4, 44): 2.0, VoterKey(N5, 55): 1.0}
    (n4, _) = standbys.besides(())
    assert (n4.voter.rpc_addr, n4.voter.gossip_addr, n4.lag, n4.end) == ("n4:1", "n4:2", 3, 9)
    standbys.clear()
    assert known(standbys) == []


def test_whom_gossip_does_not_know_is_forgotten_with_all_its_disks_and_nobody_else() -> None:
    standbys = Standbys()
    for epoch in (44, 45):
        fetch(standbys, N4, epoch)
    fetch(standbys, N5, 55)
    fetch(standbys, N4, 45, is_member=False)
    assert known(standbys) == [VoterKey(N5, 55)]
    standbys.gone(N5)
    assert known(standbys) == []


def test_of_too_many_those_that_fetched_longest_ago_are_forgotten() -> None:
    standbys = Standbys()
    for epoch in range(MAX_KNOWN):
        fetch(standbys, N4, epoch)
    fetch(standbys, N4, 0)
    assert len(known(standbys)) == MAX_KNOWN
    fetch(standbys, N5, 1)
    kept = known(standbys)
    assert len(kept) == MAX_KNOWN
    assert VoterKey(N4, 0) in kept
    assert VoterKey(N4, 1) not in kept
