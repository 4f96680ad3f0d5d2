"""Network addresses as text: HOST:PORT, with IPv6 hosts in brackets as in RFC 3986 section 3.2.2."""

from __future__ import annotations

import ipaddress


def split_address(address: str) -> tuple[str, int]:
    """The host, without brackets, and the port. Raises ValueError with a sentence for the person who typed it."""
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
    """HOST:PORT, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_wildcard(host: str) -> bool:
    """Whether the host means every interface, so that nobody can connect to it by that name."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
