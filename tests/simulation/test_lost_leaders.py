"""Claims about followers and their leader: each way to break one is seen."""

from __future__ import annotations

import pytest

from ourolog.actors.messages.election import LeaderUnreachable
from ourolog.actors.messages.events import LeaderChanged, MemberJoined
from ourolog.actors.messages.peer_calls import EMPTY_FETCH, CallFailed, CallReturned
from ourolog.actors.messages.values import Member
from ourolog.simulation import Cluster
from ourolog.simulation.checker import Violation
from ourolog.simulation.events import Event, FaultInjected, MessageTold, NodePaused, PacketSent
from ourolog.storage.types import NodeId, Term
from tests.simulation.scene import N1, N2, N3, Scene
from tests.simulation.scene_messages import response


def following(checker: str) -> Scene:
    """n2, which has just been told that n1 leads in term 1."""
    scene = Scene(checker)
    scene.start("n2", "static:n1,n2,n3")
    scene.tell("n2.membership", "n2.replicator", MemberJoined(Member(N1, "n1:1", "n1:2")))
    scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(1), N1))
    return scene


def fetch(scene: Scene, what: str = "fetch") -> None:
    scene.see(PacketSent(scene.tick(), 1, N2, N1, what))


# ---------------------------------------------------------------- followers call


@pytest.mark.parametrize("what", ["fetch", EMPTY_FETCH])
def test_a_follower_that_has_a_fetch_under_way_or_had_one_lately_does_right(what: str) -> None:
    scene = following("followers_call")
    for _ in range(5):
        scene.wait(0.4)
        fetch(scene, what)
        scene.wait(6.0)
        scene.tell("", "n2.replicator", CallFailed(N1, -2 if what == EMPTY_FETCH else 2, "lost"))
    with pytest.raises(Violation, match="n2 follows n1, and has not called it since"):
        scene.wait(1.2)


def test_questions_for_a_read_index_are_no_fetches() -> None:
    scene = following("followers_call")
    for request_id in range(2**32, 2**32 + 3):
        scene.tell("", "n2.replicator", CallFailed(N1, request_id, "lost"))
    with pytest.raises(Violation, match="has not called it"):
        scene.wait(1.2)


def test_who_is_held_up_leads_or_does_not_know_where_the_leader_is_calls_nobody() -> None:
    scene = following("followers_call")
    scene.see(NodePaused(scene.tick(), N2))
    scene.wait(30.0)
    scene = following("followers_call")
    scene.see(FaultInjected(scene.tick(), "slow_node", "n2"))
    scene.wait(8.0)
    for leader_id in (None, N2, N3):
        scene = following("followers_call")
        scene.tell("n2.election", "n2.replicator", LeaderChanged(Term(1), leader_id))
        scene.wait(30.0)


# ---------------------------------------------------------------- lost leaders are told


def refuse(scene: Scene, peer_id: NodeId = N1) -> None:
    scene.tell("", "n2.replicator", CallFailed(peer_id, 1, "nobody listens", is_refused=True))


def lose(scene: Scene) -> None:
    scene.tell("n2.replicator", "n2.election", LeaderUnreachable(Term(1), N1))


def test_a_loss_is_told_once_and_again_after_an_answer() -> None:
    scene = following("lost_leaders_told")
    for _ in range(3):
        for _ in range(3):
            refuse(scene)
        lose(scene)
        for _ in range(9):
            refuse(scene)
        scene.tell("", "n2.replicator", CallReturned(N1, 1, response()))


def test_who_is_met_again_and_still_does_not_listen_may_be_told_of_once_more() -> None:
    for is_told_again in (True, False):
        scene = following("lost_leaders_told")
        refuse(scene)
        lose(scene)
        scene.tell("n2.membership", "n2.replicator", MemberJoined(Member(N1, "n1:1", "n1:2")))
        for _ in range(9):
            refuse(scene)
        if is_told_again:
            lose(scene)


def test_a_loss_that_is_not_told_is_seen() -> None:
    scene = following("lost_leaders_told")
    for _ in range(4):
        refuse(scene)
    with pytest.raises(Violation, match="has found 5 times that nobody listens there"):
        refuse(scene)


def test_who_refuses_and_does_not_lead_need_not_be_told_of() -> None:
    scene = following("lost_leaders_told")
    for _ in range(9):
        refuse(scene, N3)


def test_a_loss_without_a_refusal_is_seen() -> None:
    scene = following("lost_leaders_told")
    scene.tell("", "n2.replicator", CallFailed(N1, 1, "n1 did not answer in time"))
    with pytest.raises(Violation, match="and no fetch was refused"):
        lose(scene)


def test_a_loss_that_is_told_twice_is_seen() -> None:
    scene = following("lost_leaders_told")
    for _ in range(2):
        refuse(scene)
        lose(scene)  # that of the leader, and that of the address before it
    refuse(scene)
    with pytest.raises(Violation, match="cannot have been lost more often than 2 times"):
        lose(scene)


# ---------------------------------------------------------------- a leader that stands still


def test_who_followed_a_leader_that_stands_still_fetches_from_the_next_one_at_once_and_the_old_one_harms_nobody() -> (
    None
):
    with Cluster(seed=3, nodes=3, election="raft:n1,n2,n3") as cluster:
        seen: list[Event] = []
        cluster.subscribe(seen.append)
        cluster.run_until(lambda: cluster.leader_id is not None)
        first = cluster.leader_id
        assert first is not None
        cluster.run_for(1.0)
        cluster.produce(first, b"first", acks="all")
        cluster.pause(first)
        cluster.run_until(lambda: cluster.leader_id not in (None, first))
        second = cluster.leader_id
        assert second is not None
        (third,) = {N1, N2, N3} - {first, second}
        cluster.run_for(1.0)
        told = next(event for event in seen if is_told_of(event, third, second))
        fetched = [event for event in seen if isinstance(event, PacketSent) and event.source == third]
        assert told.time_s in {event.time_s for event in fetched if (event.target, event.what) == (second, "fetch")}
        cluster.produce(second, b"second", acks="quorum")
        cluster.resume(first)
        cluster.run_for(3.0)
        assert cluster.leader_id == second
        cluster.produce(second, b"third", acks="all")
        cluster.run_for(0.1)  # until the others have heard that it is committed
        assert [record.value for record in cluster.records(first)] == [b"first", b"second", b"third"]


def is_told_of(event: Event, node_id: NodeId, leader_id: NodeId) -> bool:
    """Whether the replicator of that node is told who leads."""
    return (
        isinstance(event, MessageTold)
        and event.receiver == f"{node_id}.replicator"
        and isinstance(event.message, LeaderChanged)
        and event.message.leader_id == leader_id
    )
