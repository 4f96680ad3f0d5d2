"""A node that wants to lead is told where the logs of voters end now, not where they once did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ourolog.actors.messages.events import LogOpened
from ourolog.actors.messages.peer_calls import CallAnswer, CallCancelled, CallReceived, LogEndRequest, LogEndResponse
from ourolog.actors.messages.store import BallotSaved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import Index, NodeId, Term


@dataclass(slots=True)
class _Asked:
    """The state of the node when the question came, and what has changed since.

    least: below this index all has been on the disk, from the question on.
    term: the ballot on the disk was of this term.
    has_lost: entries have left the end of the log since.
    """

    time_s: float
    least: Index
    term: Term
    has_lost: bool = False


class LogEndsTrue(EventChecker):
    """Compares each answer to "where does your log end" with the disk, from the question to the answer.

    Judging a candidate or a leader by a remembered end loses what was acknowledged since.
    """

    name: ClassVar[str] = "log_ends_true"
    statement: ClassVar[str] = (
        "Asked where its log ends, a node names all that was on its disk when it was asked and nothing that was "
        "not on it when it answers, with the place of the last entry, the epoch of its log and a term no lower than "
        "it had promised."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LogOpened: self._on_opened,
            BallotSaved: self._on_ballot,
            CallReceived: self._on_call,
            CallCancelled: self._on_cancelled,
            CallAnswer: self._on_answer,
        }
        self.on_log = self._on_log_changed
        self._asked: dict[NodeId, dict[int, _Asked]] = {}
        self._terms: dict[NodeId, Term] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._asked.pop(event.node_id, None)
        self._terms.pop(event.node_id, None)

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        self._terms[self.model.place(told.receiver)[0]] = opened.ballot.term

    def _on_ballot(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        self._terms[self.model.place(told.sender)[0]] = saved.ballot.term

    def _on_call(self, told: MessageTold) -> None:
        received, node = told.message, self.model.receiver_of(told)
        assert isinstance(received, CallReceived)
        if node is not None and node.log.opened and isinstance(received.request, LogEndRequest):
            term = self._terms.get(node.node_id, Term(0))
            asked = _Asked(told.time_s, node.log.durable_index, term)
            self._asked.setdefault(node.node_id, {})[received.request_id] = asked

    def _on_cancelled(self, told: MessageTold) -> None:
        cancelled = told.message
        assert isinstance(cancelled, CallCancelled)
        self._asked.get(self.model.place(told.receiver)[0], {}).pop(cancelled.request_id, None)

    def _on_log_changed(self, node: NodeModel) -> None:
        end = node.log.end.index
        for asked in self._asked.get(node.node_id, {}).values():
            if end < asked.least:
                asked.least = end
            asked.has_lost = asked.has_lost or (bool(self.model.gone) and not self.model.is_retention)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        asked = self._asked.get(node.node_id, {}).pop(answer.request_id, None) if node is not None else None
        response = answer.response
        if node is None or asked is None or not isinstance(response, LogEndResponse):
            return
        if node.opened is not None and response.log_epoch != node.opened.log_epoch:
            raise self.violated(
                f"{node.node_id} said that its log is that of epoch {response.log_epoch}, and it has that of "
                f"{node.opened.log_epoch}"
            )
        if response.term < asked.term:
            raise self.violated(
                f"{node.node_id} said that it is in term {response.term}, and had promised {asked.term} before"
            )
        if not (node.spoiled or node.is_rotten or node.is_blind):
            self._check_end(node, asked, response)

    def _check_end(self, node: NodeModel, asked: _Asked, response: LogEndResponse) -> None:
        end, most = response.end.index, node.log.highest_durable_index
        if not asked.least <= end <= most:
            raise self.violated(
                f"{node.node_id} said that its log ends at index {end}, where all below {asked.least} was on its disk "
                f"when it was asked, at {asked.time_s:.3f} s, and never more than what is below {most}"
            )
        entry = node.log.entry(end - 1) if end and not asked.has_lost else None
        if entry is None:
            return
        place = entry.term, (entry.path[0], entry.origin_epoch)
        told = response.last and (response.last.term, response.last.writer)
        if told != place:
            raise self.violated(f"{node.node_id} said that its last entry {end - 1} is {told}, and it is {place}")
