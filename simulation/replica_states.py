"""Rare states of acknowledgements that say who has it, and of reads that say what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourolog.actors.messages.events import CommitAdvanced, LogOpened, ReplicasAdvanced
from ourolog.actors.messages.server import Consume, Produce, Produced, Refusal, RequestRefused
from ourolog.actors.messages.values import Acks
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Offset

REPLICA_STATES: Final = {
    "read_waited_for_seen": "A node was asked by a client that had seen more than it had committed.",
    "read_sent_to_leader": "A node that was behind its client for too long named the leader.",
    "all_without_a_voter": "All that are in sync had a record, and a voter that was silent was not waited for.",
}

_MAX_OPEN: Final = 1000


class ReplicaStates:
    """Watches the servers.

    note: called with the name of each state that is reached.
    on_message: the handlers, by class of message.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._committed: dict[str, Offset] = {}
        self._leaves_out: dict[str, bool] = {}
        self._for_all: dict[tuple[str, int], None] = {}
        self.on_message: dict[type, Callable[[MessageTold], None]] = {
            LogOpened: self._on_opened,
            CommitAdvanced: self._on_committed,
            ReplicasAdvanced: self._on_replicas,
            Consume: self._on_consume,
            RequestRefused: self._on_refused,
            Produce: self._on_produce,
            Produced: self._on_produced,
        }

    def _on_opened(self, told: MessageTold) -> None:
        assert isinstance(told.message, LogOpened)
        self._committed[told.receiver] = told.message.committed.offset
        self._leaves_out.pop(told.receiver, None)

    def _on_committed(self, told: MessageTold) -> None:
        assert isinstance(told.message, CommitAdvanced)
        self._committed[told.receiver] = told.message.committed.offset

    def _on_replicas(self, told: MessageTold) -> None:
        assert isinstance(told.message, ReplicasAdvanced)
        self._leaves_out[told.receiver] = len(told.message.in_sync) < len(told.message.ends)

    def _on_consume(self, told: MessageTold) -> None:
        assert isinstance(told.message, Consume)
        if told.message.seen_end > self._committed.get(told.receiver, 0):
            self._note("read_waited_for_seen")

    def _on_refused(self, told: MessageTold) -> None:
        assert isinstance(told.message, RequestRefused)
        if told.message.refusal is Refusal.BEHIND and told.message.leader_id is not None:
            self._note("read_sent_to_leader")

    def _on_produce(self, told: MessageTold) -> None:
        assert isinstance(told.message, Produce)
        if told.message.acks is Acks.ALL:
            self._for_all[told.receiver, told.message.request_id] = None
            if len(self._for_all) > _MAX_OPEN:
                del self._for_all[next(iter(self._for_all))]

    def _on_produced(self, told: MessageTold) -> None:
        assert isinstance(told.message, Produced)
        key = told.sender, told.message.request_id
        if self._for_all.pop(key, 0) is None and self._leaves_out.get(told.sender):
            self._note("all_without_a_voter")
