"""Whether anybody listens at an address: what gRPC's errors do not say.

A process that has ended leaves a machine that answers a connection attempt at once, with a refusal. A process that
stands still, a machine without power and a network that is cut do not: attempts succeed, or get no answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, Final

from ourolog.actors.addresses import split_address

PROBE_TIMEOUT_S: Final = 0.2
"""A refusal takes one round trip."""

_REFUSED: Final = frozenset({errno.ECONNREFUSED, errno.ECONNRESET})
_NO_SUCH_NETWORK_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETUNREACH})


async def is_refused(rpc_addr: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether connections to this address are refused; False whenever that is not certain.

    A name may have several addresses. All of them have to refuse, but for those of a kind of network that this machine
    does not have.

    rpc_addr: HOST:PORT; the host may be a name.
    timeout_s: after how many seconds it counts as not certain.
    """
    loop = asyncio.get_running_loop()
    try:
        host, port = split_address(rpc_addr)
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            refusals = [await _refuses(family, sockaddr) for family, _, _, _, sockaddr in found]
    except (OSError, ValueError):  # among them TimeoutError, and names that are none
        return False
    return True in refusals and False not in refusals


async def _refuses(family: int, sockaddr: tuple[Any, ...]) -> bool | None:
    """Whether a connection is refused there; None if this machine has no way there."""
    try:
        host, port = sockaddr[:2]
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port, family=family)
        transport.abort()
    except TimeoutError:
        raise
    except OSError as error:
        return None if error.errno in _NO_SUCH_NETWORK_HERE else error.errno in _REFUSED
    return False
