"""Proof that a sender is at its address, by cookies, as in DTLS (RFC 6347, 4.2.1) and QUIC (RFC 9000, 8).

Gossip has no secret that members share, and anybody can send a datagram with any source address. But
only a node at an address can read what is sent there. So every datagram issues a cookie, a
keyed hash of the address that it is sent to; a node at that address echoes it from then
on. A datagram that echoes the cookie of its sender's gossip address is *proven*. All others change
nothing here, leave nothing in memory, and are answered by one Challenge that is about as small.

So a stranger who cannot read at an address cannot speak for the node there, and cannot make
this node send more than a Challenge to an address that does not answer. A node that does answer at an
address of its own is a member like any other: gossip belongs inside a network that trusts its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import blake2b
from random import Random
from typing import Final

from ourolog.actors.gossip.codec import Datagram

MAX_COOKIES: Final = 512
"""How many other nodes' cookies are remembered; if one is forgotten, this node is challenged once more."""

_SECRET_BYTES: Final = 16
_COOKIE_BYTES: Final = 8


class Cookies:
    """The cookies that this node issues, which it can compute again at any time, and those that others issued to it."""

    def __init__(self, rng: Random) -> None:
        self._secret = rng.getrandbits(8 * _SECRET_BYTES).to_bytes(_SECRET_BYTES)
        self._received: dict[str, int] = {}

    def issue(self, addr: str) -> int:
        """The cookie for a node that reads at that address; never 0."""
        digest = blake2b(addr.encode(), digest_size=_COOKIE_BYTES, key=self._secret).digest()
        return int.from_bytes(digest) or 1

    def verify(self, datagram: Datagram) -> bool:
        """Whether the sender of the datagram can read what is sent to its gossip address."""
        return datagram.echoed_cookie == self.issue(datagram.sender.gossip_addr)

    def store(self, datagram: Datagram, needed: Callable[[], Collection[str]]) -> None:
        """Keep the cookie that a proven datagram issues; beyond the bound, those of unneeded addresses go first."""
        addr = datagram.sender.gossip_addr
        if addr not in self._received and len(self._received) >= MAX_COOKIES:
            keep = needed()
            del self._received[next((old for old in self._received if old not in keep), next(iter(self._received)))]
        self._received[addr] = datagram.issued_cookie

    def received_from(self, addr: str) -> int:
        """The cookie to echo to the node at that address, 0 when it has issued none yet."""
        return self._received.get(addr, 0)
