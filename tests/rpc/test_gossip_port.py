"""The gossip address is one port of UDP and TCP, and other nodes call a node there."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from ourolog.actors.messages.peer_calls import CallFailed, LogEndRequest
from ourolog.actors.messages.values import Peer
from ourolog.rpc import gossip_port
from ourolog.rpc.datagrams import UdpDatagrams
from ourolog.rpc.gossip_port import bind_gossip_port
from ourolog.storage.types import NodeId, Term
from tests.rpc.peers import N2, Answers, network


@pytest.mark.parametrize("addr", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
async def test_both_halves_get_one_port_that_is_free_for_both(addr: str) -> None:
    listening, datagrams = await bind_gossip_port(addr)
    with listening:
        assert datagrams.bound_addr.rpartition(":")[2] == str(listening.getsockname()[1])
        assert datagrams.bound_addr.rpartition(":")[0] == listening.getsockname()[0]
        datagrams.close()


async def test_where_any_port_will_do_one_whose_other_half_is_taken_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bind = UdpDatagrams.bind
    tried: list[str] = []

    async def taken_twice(addr: str) -> UdpDatagrams:
        tried.append(addr)
        if len(tried) <= 2:
            raise OSError(errno.EADDRINUSE, "in use")
        return await bind(addr)

    monkeypatch.setattr(UdpDatagrams, "bind", taken_twice)
    listening, datagrams = await bind_gossip_port("127.0.0.1:0")
    with listening:
        assert len(tried) == 3
        assert str(listening.getsockname()[1]) == tried[-1].rpartition(":")[2]
        datagrams.close()
    tried.clear()
    monkeypatch.setattr(gossip_port, "FREE_PORTS_TRIED", 2)
    with pytest.raises(OSError, match="in use"):
        await bind_gossip_port("127.0.0.1:0")


@pytest.mark.parametrize(("kind", "why"), [(socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")])
async def test_a_half_that_is_taken_is_named_and_the_other_is_free_again(kind: socket.SocketKind, why: str) -> None:
    other = socket.SOCK_STREAM if kind is socket.SOCK_DGRAM else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        addr = taken.getsockname()
        with pytest.raises(OSError, match=f"{why}.* in use by another process"):
            await bind_gossip_port(f"127.0.0.1:{addr[1]}")
        with socket.socket(socket.AF_INET, other) as free:
            free.bind(addr)


@pytest.mark.parametrize("addr", ["192.0.2.1:0", "no.such.name.invalid:0"])
async def test_an_address_of_another_machine_or_of_none_is_refused_with_a_sentence(addr: str) -> None:
    with pytest.raises(OSError, match=r"not an address of this machine|cannot listen for other nodes"):
        await bind_gossip_port(addr)


async def test_a_node_is_called_at_its_gossip_address(node: Any) -> None:
    answers = Answers()
    asked = LogEndRequest("c", NodeId("n1"), 5, "none", Term(3))
    async with node("n2") as n, network() as net:
        net.call(Peer(N2, n.gossip_addr), 1, asked, answers)
        assert (await answers.queue.get()).is_declined  # by its election
        net.call(Peer(N2, n.rpc_addr), 2, asked, answers)
        failed = await answers.queue.get()
        assert isinstance(failed, CallFailed)
        assert "no ourolog node" in failed.reason
