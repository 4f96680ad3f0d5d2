"""The ports of a node: what its actors are given instead of a clock, chance, a network and files.

Production implements these on threads, sockets and disks; the stepping runtime and the
simulation implement them on virtual time. An actor cannot tell which.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeEvent
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, PeerRequest
from ourolog.actors.messages.values import Peer
from ourolog.storage.files import Files
from ourolog.storage.types import NodeId

A = TypeVar("A")


class Timer(Protocol):
    """A message that is still to be told."""

    def cancel(self) -> None:
        """The message will not be told, unless it already was."""


class Timers(Protocol):
    """Messages that are told later."""

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        """Tell `message` to `mailbox` once, `delay_s` seconds from now by the monotonic clock."""


class Clock(Protocol):
    """What time it is."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; for waiting and measuring."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; for timestamps that people read. May jump."""


class PeerNetwork(Protocol):
    """Calls to other nodes, see `ourolog.actors.messages.peer_calls`."""

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[A], reply_to: Mailbox[CallReturned[A] | CallFailed]
    ) -> None:
        """Ask a peer. Exactly one of CallReturned and CallFailed is told back, with this request_id.

        It comes within the time that CALL_KINDS says for this request. The same request may reach the peer twice.
        """

    def forget(self, peer_id: NodeId) -> None:
        """Nothing is pulled from that peer any more: open fetches from it fail, and their connection is closed.

        Election calls to it go on.
        """


class Datagrams(Protocol):
    """Messages to other nodes that may be lost, overtaken or doubled; they arrive as DatagramReceived."""

    def send(self, addr: str, payload: bytes) -> None:
        """Send, and hear no more of it: an error counts as a loss.

        addr: HOST:PORT.
        """


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a node has of the world.

    timers: messages that are told later.
    clock: what time it is.
    rng: chance, for the actors of this node alone.
    network: calls to other nodes.
    datagrams: messages to other nodes that may be lost.
    files: the disk.
    observer: hears all that happens to the node.
    """

    timers: Timers
    clock: Clock
    rng: Random
    network: PeerNetwork
    datagrams: Datagrams
    files: Files
    observer: Mailbox[NodeEvent]
