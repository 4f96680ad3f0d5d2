"""Helpers for tests of actors on the stepping runtime: probes, and a peer network that follows a script."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from ourolog.actors.messages.mailbox import Mailbox
from ourolog.actors.messages.peer_calls import CallFailed, CallReturned, PeerRequest
from ourolog.actors.messages.values import Peer
from ourolog.actors.ports import Ports
from ourolog.actors.stepping import SteppingRuntime
from ourolog.storage.files import Files
from ourolog.storage.types import NodeId

T = TypeVar("T")


class Probe:
    """A mailbox that keeps what it is told, in order."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def tell(self, message: Any) -> None:
        self.received.append(message)

    def all(self, kind: type[T]) -> list[T]:
        """All messages of that class so far."""
        return [message for message in self.received if isinstance(message, kind)]

    def last(self, kind: type[T]) -> T:
        """The newest message of that class. AssertionError, showing what came instead, if there is none."""
        found = self.all(kind)
        assert found, f"no {kind.__name__} among {self.received}"
        return found[-1]

    def take(self) -> list[Any]:
        """All messages so far, which are then forgotten."""
        taken, self.received = self.received, []
        return taken


@dataclass(slots=True)
class OpenCall:
    """A call that an actor under test has made and that the test has not answered yet."""

    peer: Peer
    request_id: int
    request: Any
    reply_to: Mailbox[CallReturned[Any] | CallFailed]

    def answer(self, response: Any) -> None:
        self.reply_to.tell(CallReturned(self.peer.node_id, self.request_id, response))

    def fail(
        self, reason: str = "the connection broke", *, is_refused: bool = False, is_declined: bool = False
    ) -> None:
        self.reply_to.tell(CallFailed(self.peer.node_id, self.request_id, reason, is_refused, is_declined))


@dataclass(slots=True)
class ScriptedNetwork:
    """A PeerNetwork whose peers are played by the test: it collects calls and answers nothing by itself."""

    open: list[OpenCall] = field(default_factory=list)
    forgotten: list[NodeId] = field(default_factory=list)

    def call(
        self, peer: Peer, request_id: int, request: PeerRequest[T], reply_to: Mailbox[CallReturned[T] | CallFailed]
    ) -> None:
        self.open.append(OpenCall(peer, request_id, request, reply_to))

    def forget(self, peer_id: NodeId) -> None:
        self.forgotten.append(peer_id)

    def take(self, peer_id: str, kind: type[PeerRequest[Any]] = PeerRequest) -> OpenCall:
        """The oldest open call of that kind to that peer, which is then no longer open. By default of any kind."""
        for call in self.open:
            if call.peer.node_id == peer_id and isinstance(call.request, kind):
                self.open.remove(call)
                return call
        raise AssertionError(f"no {kind.__name__} to {peer_id} is open: {self.open}")


@dataclass(slots=True)
class SentDatagrams:
    """A Datagrams port that keeps what was sent."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)

    def send(self, addr: str, payload: bytes) -> None:
        self.sent.append((addr, payload))


def stepping_ports(runtime: SteppingRuntime, files: Files | None = None, *, seed: int = 1, **replaced: Any) -> Ports:
    """Ports on virtual time, with scripted peers; any of them can be replaced by keyword.

    files: None for an actor that keeps nothing on disk.
    """
    ports: dict[str, Any] = {
        "timers": runtime,
        "clock": runtime,
        "rng": Random(seed),  # noqa: S311  # chance of a test, not a secret
        "network": ScriptedNetwork(),
        "datagrams": SentDatagrams(),
        "files": files,
        "observer": Probe(),
        **replaced,
    }
    return Ports(**ports)
