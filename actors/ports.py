"""What an actor is given instead of a clock, chance, a network and files.

Production implements these on threads, sockets and disks; the stepping runtime and the
simulation implement them on virtual time. An actor cannot tell which.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.observer import NodeEvent
from ourolog.actors.messages.peer_calls import FetchRequest
from ourolog.actors.messages.replicator import FetchFailed, FetchReturned
from ourolog.storage.files import Files
from ourolog.storage.types import NodeId


class Timer(Protocol):
    def cancel(self) -> None:
        """The message will not be told, unless it already was."""


class Timers(Protocol):
    def after(self, delay_s: float, mailbox: Mailbox[Any], message: object) -> Timer:
        """Tell `message` to `mailbox` once, `delay_s` seconds from now by the monotonic clock."""


class Clock(Protocol):
    def monotonic_s(self) -> float:
        """Seconds that never go back; for waiting and measuring."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 UTC; for timestamps that people read. May jump."""


class PeerNetwork(Protocol):
    """Calls to other nodes."""

    def fetch(
        self,
        peer_id: NodeId,
        rpc_addr: str,
        request_id: int,
        request: FetchRequest,
        reply_to: Mailbox[FetchReturned | FetchFailed],
    ) -> None:
        """Ask a peer for batches. Exactly one of FetchReturned and FetchFailed is told back,
        within request.max_wait_s and a margin of the network's own."""

    def forget(self, peer_id: NodeId) -> None:
        """Drop the connection to a peer that is gone; open calls to it fail."""


class Datagrams(Protocol):
    """Unreliable, unordered, possibly duplicated messages, received as DatagramReceived."""

    def send(self, addr: str, payload: bytes) -> None:
        """Send and forget. Errors are as good as loss. addr: HOST:PORT."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All the world a node gets. `rng` is for this node's actors only; chance is handed in."""

    timers: Timers
    clock: Clock
    rng: Random
    network: PeerNetwork
    datagrams: Datagrams
    files: Files
    observer: Mailbox[NodeEvent]
