"""HOST:PORT, with IPv6 hosts in brackets as in RFC 3986 section 3.2.2."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket


def split_address(address: str) -> tuple[str, int]:
    """The host, without brackets, and the port. Raises ValueError with a sentence for whoever typed it."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{address!r} is not HOST:PORT, for instance 127.0.0.1:8400 or [::1]:8400")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError as error:
            raise ValueError(f"{address!r}: what stands in brackets is not an IPv6 address") from error
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address needs brackets, as in [::1]:8400")
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r}: the port must be a number from 0 to 65535")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether the host means every interface, so that nobody can connect to it by that name."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def own_host(host: str) -> str:
    """An address of this machine for others to use, when it listens on the wildcard `host`.

    What the machine's name resolves to; the loopback address where it resolves to nothing. A
    guess: whoever runs several interfaces says which to advertise.
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
    """Try to listen for TCP there, and let go of it again.

    gRPC fails to bind without saying why. Raises OSError that says it, and ValueError for what
    is no address.
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
