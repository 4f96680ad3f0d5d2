"""Options of the sockets between nodes: no delay for small frames, and dead links are noticed."""

from __future__ import annotations

import socket
from typing import Final

SILENT_S: Final = 10
"""After so many seconds of silence the kernel asks the other machine whether it is there."""

ANSWERS_WITHIN_S: Final = 5
"""How many seconds that may take. A dead link would be noticed after TCP's quarter of an hour otherwise."""

_USER_TIMEOUT_MS: Final = (SILENT_S + ANSWERS_WITHIN_S) * 1000


def set_options(sock: socket.socket) -> None:
    """Set them on a TCP socket. What a platform does not have stays as it is."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_S),
        ("TCP_KEEPALIVE", SILENT_S),  # what macOS calls it
        ("TCP_KEEPINTVL", ANSWERS_WITHIN_S),
        ("TCP_KEEPCNT", 1),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
