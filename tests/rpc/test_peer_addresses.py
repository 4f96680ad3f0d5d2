"""A node that is called elsewhere than at its gossip address: others learn where, by gossip and by the log."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from ourolog.actors.addresses import split_address
from ourolog.actors.messages.events import LeaderChanged, MemberJoined
from ourolog.actors.messages.observer import NodeWarned
from ourolog.actors.messages.values import Member
from ourolog.actors.occupants import parse_election
from ourolog.rpc.client import LogClient
from ourolog.rpc.cluster_status import cluster_status

ANYWHERE = "127.0.0.1:0"


def listens(addr: str) -> bool:
    with socket.socket() as connecting:
        return connecting.connect_ex(split_address(addr)) == 0


async def member_of(node: Any, node_id: str) -> Member:
    joined = await node.until(lambda event: isinstance(event, MemberJoined) and event.member.node_id == node_id)
    member: Member = joined.member
    return member


async def test_nodes_with_an_address_of_their_own_for_calls_elect_a_leader_and_copy_from_it(node: Any) -> None:
    election = parse_election("raft")
    expect: dict[str, Any] = {"election": election, "bootstrap_expect": 2, "own_peer_addr": ANYWHERE}
    async with (
        node("n1", ready=False, **expect) as n1,
        node("n2", ready=False, join=(n1.gossip_addr,), **expect) as n2,
    ):
        for one in (n1, n2):
            await one.until(lambda event: isinstance(event, LeaderChanged) and event.leader_id is not None)
            assert listens(one.peer_addr)
            assert not listens(one.gossip_addr)
        assert (await member_of(n1, "n2")).peer_addr == n2.peer_addr != n2.gossip_addr
        async with LogClient([n1.rpc_addr, n2.rpc_addr]) as client:
            await client.produce(b"copied")
        status = await cluster_status(n1.rpc_addr)
        assert {one["id"]: one["peer_addr"] for one in status["nodes"]} == {"n1": n1.peer_addr, "n2": n2.peer_addr}


async def test_where_nothing_else_is_said_a_node_is_called_at_its_gossip_address(node: Any) -> None:
    async with node("n1") as n1, node("n2", join=(n1.gossip_addr,)) as n2:
        member = await member_of(n1, "n2")
        assert (member.own_peer_addr, member.peer_addr) == ("", n2.gossip_addr)
        assert n2.peer_addr == n2.gossip_addr
        assert listens(n2.peer_addr)


@pytest.mark.parametrize(
    ("own_peer_addr", "advertised", "told"),
    [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1:"),
        ("", "192.0.2.7:7777", "192.0.2.7:7777"),
        (ANYWHERE, "n1.example:0", "n1.example:"),
    ],
)
async def test_others_are_told_the_address_for_calls_that_is_advertised(
    node: Any, own_peer_addr: str, advertised: str, told: str
) -> None:
    async with node("n1", own_peer_addr=own_peer_addr, advertise_peer_addr=advertised) as n1:
        assert n1.peer_addr.startswith(told)
        assert n1.peer_addr != n1.gossip_addr
        assert not any(isinstance(event, NodeWarned) for event in n1.events)


async def test_a_wildcard_address_for_calls_is_guessed_with_a_warning(node: Any) -> None:
    async with node("n1", own_peer_addr="0.0.0.0:0") as n1:
        assert not n1.peer_addr.startswith("0.0.0.0")
        warned = await n1.until(lambda event: isinstance(event, NodeWarned))
        assert "calls of nodes listens" in warned.reason


async def test_an_address_for_calls_that_is_taken_is_named_and_nothing_is_left_running(node: Any) -> None:
    async with node("n1") as n1:
        with pytest.raises(OSError, match=r"TCP, for calls between nodes\) is in use"):
            async with node("n2", own_peer_addr=n1.peer_addr):
                pass
        async with node("n2", own_peer_addr=ANYWHERE):
            pass
