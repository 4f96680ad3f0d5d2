"""Connecting to another node, so that a refusal is told from silence.

A process that has ended leaves a machine that answers a connection attempt at once, with a refusal. A process that
stands still, a machine without power and a network that is cut do not: attempts succeed, or get no answer.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from typing import Any, Final

from ourolog.actors.addresses import split_address
from ourolog.rpc.peer.sockets import set_options

MAX_RESOLVING: Final = 8
"""How many names a node looks up at once. Each takes a thread, and anybody can make up names."""

_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
_NO_SUCH_NETWORK_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH})


class NobodyListensError(OSError):
    """Every address that a name has refuses connections, but for those of a network that this machine does not have."""


class Connector:
    """Connects to other nodes. Lives on one asyncio loop."""

    def __init__(self) -> None:
        self._resolving = asyncio.Semaphore(MAX_RESOLVING)

    async def connect(self, addr: str) -> tuple[socket.socket, str]:
        """A connected socket that does not block, and the host as it was named.

        addr: HOST:PORT; the host may be a name.
        Raises NobodyListensError, any other OSError, and ValueError for an address that is none.
        """
        host, port = split_address(addr)
        refused = unsure = None
        for family, sockaddr in await self._resolve(host, port):
            try:
                return await _connect(family, sockaddr), host
            except OSError as error:
                if error.errno in _REFUSED:
                    refused = error
                elif error.errno not in _NO_SUCH_NETWORK_HERE or unsure is None:
                    unsure = error
        if refused is not None and (unsure is None or unsure.errno in _NO_SUCH_NETWORK_HERE):
            raise NobodyListensError(refused.errno, "nobody listens there") from refused
        why = unsure or OSError("the name has no address")
        raise OSError(why.errno, os.strerror(why.errno) if why.errno else str(why)) from unsure

    async def _resolve(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        """The addresses of that host. Numbers need no resolver. Raises OSError and ValueError."""
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        except ValueError:
            pass
        else:
            if "%" not in host:
                return [(family, (host, port))]
        async with self._resolving:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, sockaddr) for family, _, _, _, sockaddr in found]


async def _connect(family: int, sockaddr: tuple[Any, ...]) -> socket.socket:
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        set_options(connecting)
        await asyncio.get_running_loop().sock_connect(connecting, sockaddr)
    except BaseException:
        connecting.close()
        raise
    return connecting
