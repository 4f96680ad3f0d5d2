"""The ports of a node: what its actors get instead of a clock, randomness, a network and files.

Production implements these on threads, sockets and disks; the stepping runtime and the
simulation implement them on virtual time. An actor cannot tell the difference.
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
    """A message that will be told later."""

    def cancel(self) -> None:
        """Do not tell the message, unless that has happened already."""


class Timers(Protocol):
    """Tells messages later."""

    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        """Tell `message` to `mailbox` once, `delay_s` seconds from now by the monotonic clock."""


class Clock(Protocol):
    """Tells the time."""

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

        It comes within the time that CALL_KINDS gives for this request. The same request may reach the peer twice.
        """

    def forget(self, peer_id: NodeId) -> None:
        """Stop pulling from that peer: open fetches from it fail, and the connection for batches is closed.

        Other calls to it go on.
        """


class Datagrams(Protocol):
    """Sends messages to other nodes that may be lost, reordered or duplicated; they arrive as DatagramReceived."""

    def send(self, addr: str, payload: bytes) -> None:
        """Send without waiting for an answer: an error counts as a loss.

        addr: HOST:PORT.
        """


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything through which a node reaches the world.

    timers: messages that are told later.
    clock: what time it is.
    rng: the source of randomness of this node's actors alone.
    network: calls to other nodes.
    datagrams: messages to other nodes that may be lost.
    files: the disk.
    observer: is told everything that happens to the node.
    """

    timers: Timers
    clock: Clock
    rng: Random
    network: PeerNetwork
    datagrams: Datagrams
    files: Files
    observer: Mailbox[NodeEvent]
