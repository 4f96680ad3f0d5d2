"""Readiness for systemd's `Type=notify`, see sd_notify(3): one datagram to the socket it names."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tell the service manager, if there is one, e.g. `READY=1`. Never fails."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # @ is Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        return
