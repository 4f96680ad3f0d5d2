"""Rare states of producers that number their batches: what is sent again, to whom, and what was forgotten meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ourolog.actors.messages.events import CommitAdvanced, LogOpened, LogStartMoved
from ourolog.actors.messages.store import (
    AppendBatch,
    AppendRefused,
    BatchAppended,
    ResetLog,
    TruncateLog,
)
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.batch import Kind, NewBatch
from ourolog.storage.producers import ProducerMemory, ProducerProblem
from ourolog.storage.types import Index, Term

PRODUCER_STATES: Final[dict[str, str]] = {
    "retry_of_uncommitted": "A batch was sent again to a leader that had it from an earlier term, not committed.",
    "retry_of_committed": "A batch was sent again to a leader that had it from an earlier term, committed.",
    "retry_of_cut": "A batch was sent again that a leader had appended, and that was cut.",
    "retry_of_unwritten": "A batch was sent again before the first attempt was written.",
    "retry_after_retention": "A batch was sent again that retention had removed from the leader's log.",
    "retry_after_expiry": "A batch of a producer was sent that the log had forgotten, or never knew.",
    "retry_after_window": "A batch was sent again that was stored, with an offset that the log had forgotten.",
    "batch_before_its_turn": "A batch came before the one before it.",
    "reset_with_producers": "A log was begun anew with what its leader remembered of producers.",
    "registration_cut": "The entry that registers a producer was cut.",
    "producers_rolled_back": "A numbered batch was cut.",
}

_PROBLEMS: Final = {
    ProducerProblem.EXPIRED: "retry_after_expiry",
    ProducerProblem.FORGOTTEN: "retry_after_window",
    ProducerProblem.GAP: "batch_before_its_turn",
}

_REMEMBERED: Final = 4_096


@dataclass(slots=True)
class _Store:
    """What one node's store was told and has said.

    appending: the batches that it has not answered for, by append.
    numbered, registrations: the indexes of such entries that it has appended itself.
    start, committed: where its log begins, and how far it is known to be committed.
    """

    appending: dict[int, NewBatch] = field(default_factory=dict)
    numbered: dict[Index, tuple[int, int]] = field(default_factory=dict)
    registrations: set[Index] = field(default_factory=set)
    start: Index = Index(0)
    committed: Index = Index(0)


class ProducerStates:
    """Watches what stores are told and what they answer.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._stores: dict[str, _Store] = {}
        self._cut: dict[tuple[int, int], None] = {}
        self.on_message: Final[dict[type, Callable[[MessageTold], None]]] = {
            LogOpened: self._on_opened,
            LogStartMoved: self._on_start_moved,
            CommitAdvanced: self._on_committed,
            AppendBatch: self._on_append,
            BatchAppended: self._on_appended,
            AppendRefused: self._on_refused,
            TruncateLog: self._on_truncate,
            ResetLog: self._on_reset,
        }

    def forget(self, event: NodeStarted) -> None:
        """Forget what a process was asked that has ended."""
        store = self._stores.get(event.node_id)
        if store is not None:
            store.appending.clear()

    def _of(self, name: str) -> _Store:
        return self._stores.setdefault(name.rpartition(".")[0], _Store())

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        store = self._of(told.sender)
        store.start, store.committed = opened.start.index, opened.committed.index

    def _on_start_moved(self, told: MessageTold) -> None:
        moved = told.message
        assert isinstance(moved, LogStartMoved)
        self._of(told.receiver).start = moved.start.index

    def _on_committed(self, told: MessageTold) -> None:
        advanced = told.message
        assert isinstance(advanced, CommitAdvanced)
        store = self._of(told.receiver)
        store.committed = max(store.committed, advanced.committed.index)

    def _on_append(self, told: MessageTold) -> None:
        append = told.message
        assert isinstance(append, AppendBatch)
        store = self._of(told.receiver)
        if append.batch.producer_id and append.batch in store.appending.values():
            self._note("retry_of_unwritten")
        store.appending[append.request_id] = append.batch

    def _on_appended(self, told: MessageTold) -> None:
        appended = told.message
        assert isinstance(appended, BatchAppended)
        store = self._of(told.sender)
        batch = store.appending.pop(appended.request_id, None)
        if batch is None:
            return
        key = batch.producer_id, batch.producer_sequence
        if appended.is_duplicate:
            self._on_duplicate(store, appended)
        elif batch.producer_id:
            if key in self._cut:
                self._note("retry_of_cut")
            store.numbered[appended.index] = key
            if len(store.numbered) > _REMEMBERED:
                del store.numbered[next(iter(store.numbered))]
        elif batch.kind is Kind.CONTROL:
            store.registrations.add(appended.index)

    def _on_duplicate(self, store: _Store, appended: BatchAppended) -> None:
        if appended.index < store.start:
            self._note("retry_after_retention")
        if appended.index not in store.numbered and appended.term > Term(0):
            self._note("retry_of_committed" if appended.index < store.committed else "retry_of_uncommitted")

    def _on_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, AppendRefused)
        self._of(told.sender).appending.pop(refused.request_id, None)
        if refused.problem in _PROBLEMS:
            self._note(_PROBLEMS[refused.problem])

    def _on_truncate(self, told: MessageTold) -> None:
        truncate = told.message
        assert isinstance(truncate, TruncateLog)
        store = self._of(told.receiver)
        gone = [index for index in store.numbered if index >= truncate.index]
        if gone:
            self._note("producers_rolled_back")
        for index in gone:
            self._cut[store.numbered.pop(index)] = None
        if any(index >= truncate.index for index in store.registrations):
            self._note("registration_cut")
        store.registrations = {index for index in store.registrations if index < truncate.index}

    def _on_reset(self, told: MessageTold) -> None:
        reset = told.message
        assert isinstance(reset, ResetLog)
        if reset.producers and len(ProducerMemory.decode(reset.producers)):
            self._note("reset_with_producers")
