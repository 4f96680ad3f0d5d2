"""Gossip that passes through here on its way to a node, so that it can be cut while TCP is left alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast


class Relay(asyncio.DatagramProtocol):
    """Stands in for one node's gossip port: what arrives is sent on to the node.

    It is sent from the sender's own relay, so that what is answered passes that one.
    """

    def __init__(self, node_addr: str, pass_on: Callable[[Relay, bytes, str], None]) -> None:
        self.node_addr = node_addr
        self.addr = ""
        self._pass_on = pass_on
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, node_addr: str, pass_on: Callable[[Relay, bytes, str], None]) -> Relay:
        loop = asyncio.get_running_loop()
        _, relay = await loop.create_datagram_endpoint(lambda: cls(node_addr, pass_on), local_addr=("127.0.0.1", 0))
        return relay

    def send(self, addr: str, payload: bytes) -> None:
        if self._transport is not None:
            host, _, port = addr.rpartition(":")
            self._transport.sendto(payload, (host, int(port)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")
        self.addr = f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._pass_on(self, data, f"{addr[0]}:{addr[1]}")


def free_udp_addr() -> str:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        host, port = sock.getsockname()
    return f"{host}:{port}"
