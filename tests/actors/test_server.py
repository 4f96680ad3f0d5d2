"""A server: when it is ready, where it sends its clients, and what it says when it stops."""

from __future__ import annotations

from ourolog.actors.messages.events import LeaderChanged, MemberFailed, MemberJoined, NobodyElected, VotersChanged
from ourolog.actors.messages.observer import NodeReady
from ourolog.actors.messages.server import Consume, ListServers, Refusal, RequestRefused, ServersListed
from ourolog.actors.messages.values import Member
from ourolog.storage.types import Offset, Term
from tests.actors.server_stage import N1, N2, N3, Stage


def test_it_is_ready_once_the_log_is_open_and_the_election_has_spoken() -> None:
    stage = Stage()
    stage.open()
    stage.produce((1, b"early"))
    assert stage.refused().refusal is Refusal.NOT_READY
    assert stage.observer.all(NodeReady) == []
    stage.tell(NobodyElected(), LeaderChanged(Term(1), N2))
    assert stage.observer.all(NodeReady) == [NodeReady(N1)]


def test_a_follower_refuses_a_produce_and_says_who_leads_and_where() -> None:
    stage = Stage()
    stage.open()
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:2", "g")), LeaderChanged(Term(1), N2))
    stage.produce((1, b"a"))
    refused = stage.refused()
    assert (refused.refusal, refused.leader_id, refused.leader_addr) == (Refusal.NOT_LEADER, N2, "127.0.0.1:2")
    assert "n2" in refused.detail


def test_where_nobody_leads_for_a_reason_a_produce_is_refused_with_that_reason() -> None:
    stage = Stage()
    stage.open()
    stage.tell(LeaderChanged(Term(1), None, "n2 and n3 do not answer"))
    stage.produce((1, b"a"))
    assert (stage.refused().refusal, stage.refused().detail) == (Refusal.LEADER_UNKNOWN, "n2 and n3 do not answer")


def test_clients_are_told_where_a_leader_is_that_gossip_has_lost() -> None:
    stage = Stage()
    stage.open()
    leader = Member(N2, "127.0.0.1:2", "g2")
    stage.tell(LeaderChanged(Term(1), N2), MemberJoined(leader), MemberFailed(leader))
    stage.produce((1, b"a"))
    assert (stage.refused().leader_id, stage.refused().leader_addr) == (N2, "127.0.0.1:2")


def test_clients_are_told_where_a_leader_is_that_gossip_has_not_found() -> None:
    stage = Stage()
    stage.open()
    stage.tell(VotersChanged((N1, N2), addrs=("logged:1", "logged:2")), LeaderChanged(Term(1), N2))
    stage.produce((1, b"a"))
    assert (stage.refused().leader_id, stage.refused().leader_addr) == (N2, "logged:2")
    stage.tell(MemberJoined(Member(N2, "127.0.0.1:2", "g2")))
    stage.produce((2, b"a"))
    assert stage.refused().leader_addr == "127.0.0.1:2"


def test_stopping_answers_everybody_who_waits() -> None:
    stage = Stage()
    stage.lead()
    stage.produce((1, b"a"))
    stage.tell(Consume(2, Offset(0), 1000, True, stage.client))
    stage.runtime.stop(stage.ref)
    assert {(r.request_id, r.refusal) for r in stage.client.all(RequestRefused)} == {
        (1, Refusal.STOPPING),
        (2, Refusal.STOPPING),
    }


def test_the_servers_are_this_node_and_the_living_members() -> None:
    stage = Stage()
    stage.lead()
    n2, n3 = Member(N2, "127.0.0.1:2", "g2"), Member(N3, "127.0.0.1:3", "g3")
    stage.tell(MemberJoined(n3), MemberJoined(n2), MemberFailed(n3), ListServers(1, stage.client))
    listed = stage.client.last(ServersListed)
    assert [server.node_id for server in listed.servers] == [N1, N2]
    assert listed.leader_id == N1
