"""The gossip address: one port of UDP and TCP. Gossip comes by UDP, calls of other nodes by TCP, unless elsewhere."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final

from ourolog.actors.addresses import join_address, split_address
from ourolog.rpc.datagrams import UdpDatagrams

BACKLOG: Final = 128
FREE_PORTS_TRIED: Final = 16
"""How many ports are tried when any will do: what is free for TCP may be taken for UDP."""


async def bind_gossip_port(addr: str, peer_addr: str = "") -> tuple[socket.socket, UdpDatagrams]:
    """Open both halves of the gossip address: a socket that listens, and gossip's datagrams.

    addr: HOST:PORT, port 0 for any that is free for both.
    peer_addr: where to listen instead, HOST:PORT, port 0 for any that is free; "" for the gossip address.
    Raises OSError, its text for a person, when the address is in use or not this machine's, and ValueError for one
    that is none.
    """
    host, port = split_address(addr)
    if peer_addr:
        listening = await listen_for_peers(peer_addr)
        try:
            return listening, await UdpDatagrams.bind(addr)
        except OSError:
            listening.close()
            raise
    for tries_left in reversed(range(1 if port else FREE_PORTS_TRIED)):
        listening = await listen_for_peers(addr)
        try:
            bound_port = listening.getsockname()[1]
            return listening, await UdpDatagrams.bind(join_address(host, bound_port))
        except OSError:
            listening.close()
            if not tries_left:
                raise
    raise AssertionError("it is tried once at least")


async def listen_for_peers(addr: str) -> socket.socket:
    """A TCP socket that listens there for other nodes, and does not block.

    addr: HOST:PORT, port 0 for any that is free.
    Raises OSError, its text for a person, and ValueError.
    """
    host, port = split_address(addr)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # As gossip does, so that both are the same address: IPv4 where a name has both kinds.
        family, _, _, _, socket_addr = min(found, key=lambda info: info[0] != socket.AF_INET)
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _explain(addr, error) from error
    try:
        listening.setblocking(False)
        # A port whose last owner has just gone is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(socket_addr)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _explain(addr, error) from error
    return listening


def _explain(addr: str, error: OSError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(error.errno, f"the address {addr} (TCP, for calls between nodes) is in use by another process")
    if error.errno == errno.EADDRNOTAVAIL:
        return OSError(error.errno, f"the address {addr} is not an address of this machine")
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return OSError(error.errno, f"cannot listen for other nodes on {addr}: {error.strerror or reason}")
