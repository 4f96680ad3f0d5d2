"""Addresses to listen on: whether one can be bound, and what others may call it."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket

from ourolog.actors.addresses import split_address


def own_host(host: str) -> str:
    """An address of this machine for others to use, when it listens on the wildcard `host`.

    It is what the machine's name resolves to, or the loopback address if that is nothing. This is a
    guess: a machine with several interfaces needs to be told which one to advertise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, family, socket.SOCK_DGRAM)
    except OSError:
        found = []
    hosts = sorted({str(entry[4][0]) for entry in found})
    reachable = [
        found_host for found_host in hosts if not ipaddress.ip_address(found_host.partition("%")[0]).is_loopback
    ]
    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    return reachable[0] if reachable else loopback


async def check_listenable(address: str) -> None:
    """Try to listen for TCP at that address, and release it again.

    gRPC fails to bind without saying why. Raises OSError that says it, and ValueError for
    an invalid address.
    """
    host, port = split_address(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen for gRPC on {address}: the host name {host} is not known") from error
    for family, kind, protocol, _, socket_address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: a port whose last owner has just gone is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(socket_address)
                probe.listen(1)
        except OSError as error:
            raise OSError(error.errno, _why_not_listenable(address, port, error)) from error


def _why_not_listenable(address: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the gRPC address {address} is in use by another process"
        case errno.EADDRNOTAVAIL:
            return f"the gRPC address {address} is not an address of this machine"
        case errno.EACCES:
            return f"cannot listen for gRPC on {address}: port {port} needs privileges that this process does not have"
        case _:
            return f"cannot listen for gRPC on {address}: {os.strerror(error.errno or 0)}"
