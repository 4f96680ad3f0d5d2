"""A request that is out of range is told the readable range."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Final

from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchOutcome, FetchResponse
from ourolog.actors.messages.server import Consume, Refusal, RequestRefused
from ourolog.actors.messages.store import ReadProblem, ReadRefused
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.types import NodeId

_MAX_OPEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Asked:
    """The readable range when the request entered the mailbox, behind the store's messages of before."""

    time_s: float
    start_offset: int
    committed_offset: int
    start_index: int
    durable_index: int


class RangesTrue(EventChecker):
    """Compares each range in an answer with the range when it was asked, and now."""

    name: ClassVar[str] = "ranges_true"
    statement: ClassVar[str] = (
        "Out of range, clients are told where the node's log begins and where what is committed there ends, and peers "
        "where it begins and ends, as it was at some moment between question and answer."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            Consume: self._on_asked,
            CallReceived: self._on_asked,
            RequestRefused: self._on_refused,
            ReadRefused: self._on_read_refused,
            CallAnswer: self._on_call_answer,
        }
        self._asked: dict[NodeId, OrderedDict[int, _Asked]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        self._asked.pop(event.node_id, None)

    def _on_asked(self, told: MessageTold) -> None:
        message, node = told.message, self.model.receiver_of(told)
        assert isinstance(message, Consume | CallReceived)
        if node is not None and node.log.opened:
            log = node.log
            asked = self._asked.setdefault(node.node_id, OrderedDict())
            asked[message.request_id] = _Asked(
                told.time_s, log.start.offset, node.committed.offset, log.start.index, log.durable_index
            )
            if len(asked) > _MAX_OPEN:
                asked.popitem(last=False)

    def _question(self, told: MessageTold, request_id: int) -> tuple[NodeModel, _Asked] | None:
        """The question; None if the model cannot say what is true, or something kept the actors from knowing it."""
        node = self.model.sender_of(told)
        asked = self._asked.get(node.node_id, OrderedDict()).pop(request_id, None) if node is not None else None
        if node is None or asked is None or not node.log.opened or node.spoiled:
            return None
        is_held_up = self.model.hindrances.node_clear_s(node.node_id) >= asked.time_s
        return None if is_held_up else (node, asked)

    def _on_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, RequestRefused)
        question = self._question(told, refused.request_id)
        if question is not None and refused.refusal is Refusal.OUT_OF_RANGE:
            self._check_client(told, *question, refused.first, refused.end)

    def _on_read_refused(self, told: MessageTold) -> None:
        refused = told.message
        assert isinstance(refused, ReadRefused)
        question = self._question(told, refused.request_id)
        if question is not None and refused.problem is ReadProblem.OUT_OF_RANGE:
            self._check_client(told, *question, refused.first.offset, refused.end.offset)

    def _check_client(self, told: MessageTold, node: NodeModel, asked: _Asked, first: int, end: int) -> None:
        start = node.log.start.offset
        least_end = max(asked.start_offset, asked.committed_offset)
        most_end = max(start, node.committed.offset)
        if not (asked.start_offset <= first <= start and least_end <= end <= most_end):
            raise self.violated(
                f"{told.sender} told {told.receiver} that there is [{first}, {end}), where there was "
                f"[{asked.start_offset}, {least_end}) when it asked, and is [{start}, {most_end}) now"
            )

    def _on_call_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        question = self._question(told, answer.request_id)
        response = answer.response
        if question is None or not isinstance(response, FetchResponse):
            return
        if response.outcome is not FetchOutcome.OUT_OF_RANGE:
            return
        node, asked = question
        log, first, end = node.log, response.start.index, response.end.index
        least_end = asked.durable_index if node.syncs_always else asked.start_index
        if not (asked.start_index <= first <= log.start.index and least_end <= end <= log.end.index):
            raise self.violated(
                f"{told.sender} told {told.receiver} that there are entries [{first}, {end}), where there were "
                f"[{asked.start_index}, {least_end}) when it asked, and are [{log.start.index}, {log.end.index}) now"
            )
