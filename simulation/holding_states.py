"""Rare states of produces that wait at a server: held, gathering, or while the lead is handed over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.messages.events import HoldProduces, LeaderChanged, ProducesHeld, ReleaseProduces
from ourolog.actors.messages.server import (
    CancelRequest,
    GatherExpired,
    Produce,
    Produced,
    Refusal,
    RequestRefused,
)
from ourolog.simulation.events import MessageTold, NodeStarted

HOLDING_STATES: Final[dict[str, str]] = {
    "produce_held": "A produce came while a leader was being elected, or was handing over.",
    "held_appended": "A node appended what it had held, once it led or went on leading.",
    "held_sent_on": "A client whose produce was held was sent to the next leader.",
    "held_refused": "A produce was held, and nobody took the lead in time.",
    "gather_expired": "Produces waited for company behind others as long as they may.",
    "hand_over_drained": "A leader that hands over had answered all that it had taken.",
    "hand_over_undrained": "A leader that hands over could not answer in time all that it had taken.",
    "hand_over_called_off": "A leader that was to hand over went on, and had held produces.",
}


@dataclass(slots=True)
class _Server:
    """What the server of one node has been told.

    holds: whether a produce is held that comes now.
    held: the produces that are.
    """

    holds: bool = False
    held: set[int] = field(default_factory=set)


class HoldingStates:
    """Watches what servers are told and what they answer.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._servers: dict[str, _Server] = {}
        self.on_message: Final[dict[type, Callable[[MessageTold], None]]] = {
            LeaderChanged: self._on_leader_changed,
            HoldProduces: self._on_hold,
            ReleaseProduces: self._on_release,
            ProducesHeld: self._on_held,
            GatherExpired: lambda _: self._note("gather_expired"),
            Produce: self._on_produce,
            CancelRequest: self._on_cancel,
            Produced: lambda told: self._on_answer(told, "held_appended"),
            RequestRefused: self._on_refused,
        }

    def forget(self, event: NodeStarted) -> None:
        """A new process knows nothing of what the last one held."""
        self._servers.pop(f"{event.node_id}.server", None)

    def _of(self, name: str) -> _Server:
        return self._servers.setdefault(name, _Server())

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed: Any = told.message
        if told.receiver.endswith(".server"):
            self._of(told.receiver).holds = changed.leader_id is None and not changed.why_nobody

    def _on_hold(self, told: MessageTold) -> None:
        if told.receiver.endswith(".server"):
            self._of(told.receiver).holds = True

    def _on_release(self, told: MessageTold) -> None:
        server = self._servers.get(told.receiver)
        if server is not None:
            if server.holds and server.held:
                self._note("hand_over_called_off")
            server.holds = False

    def _on_held(self, told: MessageTold) -> None:
        held: Any = told.message
        self._note("hand_over_drained" if held.is_drained else "hand_over_undrained")

    def _on_produce(self, told: MessageTold) -> None:
        server, produce = self._of(told.receiver), told.message
        assert isinstance(produce, Produce)
        if server.holds:
            server.held.add(produce.request_id)
            self._note("produce_held")

    def _on_cancel(self, told: MessageTold) -> None:
        cancel: Any = told.message
        self._of(told.receiver).held.discard(cancel.request_id)

    def _on_answer(self, told: MessageTold, state: str) -> None:
        answer: Any = told.message
        server = self._of(told.sender)
        if answer.request_id in server.held:
            server.held.discard(answer.request_id)
            self._note(state)

    def _on_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, RequestRefused)
        match refused.refusal:
            case Refusal.NOT_LEADER:
                self._on_answer(told, "held_sent_on")
            case Refusal.LEADER_UNKNOWN:
                self._on_answer(told, "held_refused")
            case _:
                self._of(told.sender).held.discard(refused.request_id)
