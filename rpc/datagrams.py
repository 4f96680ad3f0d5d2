"""Gossip over UDP: the Datagrams port on an asyncio loop.

Any thread may send. Host names are resolved here, off the actor's thread, and kept for a while
only, since a name may come to mean another machine, as container names do.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ourolog.actors.addresses import join_address, split_address
from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.membership import DatagramReceived
from ourolog.rpc.datagram_rate_limit import DatagramRateLimiter

SocketAddr: TypeAlias = tuple[Any, ...]

_RESOLVED_FOR_S: Final = 10.0
_RETRY_UNRESOLVED_S: Final = 1.0
_MAX_NAMES: Final = 1024
_MAX_RESOLVING: Final = 4
_MAX_WAITING_FOR_NAME: Final = 16
# How many datagrams are read before the loop runs other tasks.
_MAX_READS_A_TURN: Final = 16
_MAX_DATAGRAM_BYTES: Final = 65_535
_RECEIVE_BUFFER_BYTES: Final = 1024 * 1024


@dataclass(slots=True)
class _ResolvedName:
    """A host name and what it resolved to.

    socket_addr: None while it has not been resolved, or could not be.
    until_s: when to resolve it again, by the loop's clock.
    resolving: whether that is under way.
    waiting: datagrams to be sent there once it is resolved.
    """

    socket_addr: SocketAddr | None = None
    until_s: float = 0.0
    resolving: bool = False
    waiting: list[bytes] = field(default_factory=list)


class UdpDatagrams:
    """A UDP socket that delivers datagrams to an actor and sends them for it.

    Made by `bind`, on the loop that then serves it. What arrives before `deliver_to` is dropped.

    The socket is read here and not by an asyncio transport, which takes one turn of the loop for
    each datagram: a flood would fill the kernel's buffer, and members' datagrams would be lost.

    bound_addr: HOST:PORT, the port resolved.
    dropped: how many datagrams were received and not delivered, since too many came or waited.
    unsent: how many were not sent, since too many waited or the name did not resolve.
    """

    def __init__(self, sock: socket.socket, max_waiting: int) -> None:
        host, port = sock.getsockname()[:2]
        self.bound_addr = join_address(host, port)
        self.dropped = 0
        self.unsent = 0
        self._max_waiting = max_waiting
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._socket: socket.socket | None = sock
        self._family = sock.family
        self._rate_limiter = DatagramRateLimiter(self._loop.time)
        self._members: set[str] = set()
        self._mailbox: Mailbox[DatagramReceived] | None = None
        self._waiting: Callable[[], int] = lambda: 0
        self._names: dict[str, _ResolvedName] = {}
        self._resolvers: set[asyncio.Task[None]] = set()
        self._from_threads = 0
        self._lock = threading.Lock()

    @classmethod
    async def bind(cls, addr: str, *, max_waiting: int = 1024) -> UdpDatagrams:
        """Open the port.

        addr: HOST:PORT, port 0 for any that is free.
        Raises OSError, its text for a person, when the address is in use or not this machine's.
        """
        loop = asyncio.get_running_loop()
        host, port = split_address(addr)
        try:
            # IPv4 where a name has both kinds of address, so that all nodes choose alike.
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
            family, _, _, _, socket_addr = min(found, key=lambda info: info[0] != socket.AF_INET)
            # No SO_REUSEPORT: a second node on the port must fail, not share the datagrams.
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            raise _explain(addr, error) from error
        try:
            sock.setblocking(False)
            # As much as the kernel allows, which may be less.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
            sock.bind(socket_addr)
        except OSError as error:
            sock.close()
            raise _explain(addr, error) from error
        datagrams = cls(sock, max_waiting)
        loop.add_reader(sock, datagrams._readable)
        return datagrams

    def deliver_to(self, mailbox: Mailbox[DatagramReceived], waiting: Callable[[], int] | None = None) -> None:
        """Tell what arrives to that mailbox.

        waiting: how many messages wait in the mailbox (`ref.actor_inbox.qsize` of a Pykka ref),
        so that a flood of datagrams is dropped here and does not fill the memory.
        """
        if waiting is not None:
            self._waiting = waiting
        self._mailbox = mailbox

    def introduce(self, addr: str) -> None:
        """Accept datagrams from a member's address whatever strangers send. On the loop's thread."""
        self._members.add(addr)
        name = self._names.get(addr)
        host, port = split_address(addr)
        if _ip_family(host) == self._family and "%" not in host:
            self._rate_limiter.introduce((host, port))
        elif name is not None and name.socket_addr is not None:
            self._rate_limiter.introduce(name.socket_addr[:2])

    def dismiss(self, addr: str) -> None:
        """Forget a member's address."""
        self._members.discard(addr)
        self._rate_limiter.dismiss(split_address(addr))

    def send(self, addr: str, payload: bytes) -> None:
        """Send and forget, from any thread."""
        if threading.get_ident() == self._loop_thread:
            self._send(addr, payload)
            return
        with self._lock:
            if self._from_threads >= self._max_waiting:
                self.unsent += 1
                return
            self._from_threads += 1
        try:
            self._loop.call_soon_threadsafe(self._send_from_thread, addr, payload)
        except RuntimeError:
            # The loop is closed: the node is stopping, and a lost datagram is no error.
            self.unsent += 1

    def close(self) -> None:
        """Stop receiving and sending, on the loop's thread."""
        for task in self._resolvers:
            task.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    # ---------------------------------------------------------------- on the loop's thread

    def _readable(self) -> None:
        for _ in range(_MAX_READS_A_TURN):
            if self._socket is None:
                return
            try:
                payload, socket_addr = self._socket.recvfrom(_MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # ICMP says that an earlier datagram of this node did not arrive
            self.datagram_received(payload, socket_addr)

    def datagram_received(self, data: bytes, addr: SocketAddr) -> None:
        mailbox, source = self._mailbox, addr[:2]
        if mailbox is None or not self._rate_limiter.admits(source):
            self.dropped += 1
            return
        # Half of what may wait is for members.
        room = self._max_waiting if self._rate_limiter.is_member(source) else self._max_waiting // 2
        if self._waiting() >= room:
            self.dropped += 1
            return
        mailbox.tell(DatagramReceived(join_address(addr[0], addr[1]), data))

    def _send_from_thread(self, addr: str, payload: bytes) -> None:
        with self._lock:
            self._from_threads -= 1
        self._send(addr, payload)

    def _send(self, addr: str, payload: bytes) -> None:
        now_s = self._loop.time()
        name = self._names.get(addr)
        if name is None:
            try:
                name = self._remember_name(addr)
            except ValueError:
                self.unsent += 1
                return
        if now_s >= name.until_s and not name.resolving and self._may_resolve(addr):
            name.resolving = True
            task = self._loop.create_task(self._resolve(addr, name))
            self._resolvers.add(task)
            task.add_done_callback(self._resolvers.discard)
        if name.socket_addr is not None:
            self._put(name.socket_addr, payload)
        elif name.resolving and len(name.waiting) < _MAX_WAITING_FOR_NAME:
            name.waiting.append(payload)
        else:
            self.unsent += 1

    def _may_resolve(self, addr: str) -> bool:
        """Whether a name may be looked up now. Each lookup takes a thread; strangers' names get half of them."""
        return len(self._resolvers) < (_MAX_RESOLVING if addr in self._members else _MAX_RESOLVING // 2)

    def _remember_name(self, addr: str) -> _ResolvedName:
        """Remember an address. An IP address of the socket's own family needs no resolver."""
        host, port = split_address(addr)
        if len(self._names) >= _MAX_NAMES:
            strangers = (known for known in self._names if known not in self._members)
            del self._names[next(strangers, next(iter(self._names)))]
        needs_none = _ip_family(host) == self._family and "%" not in host
        name = _ResolvedName((host, port), float("inf")) if needs_none else _ResolvedName()
        self._names[addr] = name
        return name

    async def _resolve(self, addr: str, name: _ResolvedName) -> None:
        host, port = split_address(addr)
        try:
            found = await self._loop.getaddrinfo(host, port, family=self._family, type=socket.SOCK_DGRAM)
            name.socket_addr = found[0][4]
            if addr in self._members:
                self._rate_limiter.introduce(name.socket_addr[:2])
            name.until_s = self._loop.time() + _RESOLVED_FOR_S
        except (OSError, UnicodeError):
            # The address that it had before is better than none.
            name.until_s = self._loop.time() + _RETRY_UNRESOLVED_S
        name.resolving = False
        waiting, name.waiting = name.waiting, []
        for payload in waiting:
            if name.socket_addr is None:
                self.unsent += 1
            else:
                self._put(name.socket_addr, payload)

    def _put(self, socket_addr: SocketAddr, payload: bytes) -> None:
        if self._socket is None:
            self.unsent += 1
            return
        try:
            self._socket.sendto(payload, socket_addr)
        except BlockingIOError:
            self.unsent += 1  # the kernel has no room
        except OSError:
            return  # no route: as good as a lost datagram


def _ip_family(host: str) -> socket.AddressFamily | None:
    """The family of an IP address; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6


def _explain(addr: str, error: OSError) -> OSError:
    if error.errno == errno.EADDRINUSE:
        return OSError(error.errno, f"the gossip address {addr} (UDP) is in use by another process")
    if error.errno == errno.EADDRNOTAVAIL:
        return OSError(error.errno, f"the gossip address {addr} is not an address of this machine")
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return OSError(error.errno, f"cannot listen for gossip on {addr}: {error.strerror or reason}")
