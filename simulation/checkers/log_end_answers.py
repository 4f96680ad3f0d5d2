"""Where the logs of the voters end, according to the answers that each would-be leader has received."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.messages.peer_calls import CALL_KINDS, CallFailed, CallReturned, LogEndRequest, LogEndResponse
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.model import NodeModel
from ourolog.simulation.events import MessageHandled, MessageTold, NodeStarted, PacketSent
from ourolog.storage.terms import Writer
from ourolog.storage.types import Index, NodeId, Term

QUESTION: Final = CALL_KINDS[LogEndRequest].name
"""What the packets are called that ask where a log ends."""


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """Where the log on a node's disk ends, by the model.

    last: (term of the last entry, the index after it).
    writer: who made the last entry, None for an empty log.
    """

    last: tuple[Term, Index]
    writer: Writer | None

    @classmethod
    def of(cls, node: NodeModel) -> KnownEnd | None:
        """None where that is not known: the disk lies, has just lost something, cannot be followed, or is not open."""
        log = node.log
        if node.spoiled or node.is_blind or not log.opened or (not log.entries and log.durable_index):
            return None
        entry = log.entry(log.durable_index - 1)
        return cls(log.durable_place, (entry.path[0], entry.origin_epoch) if entry is not None else None)

    def is_passed_by(self, answer: LogEndResponse) -> bool:
        """Whether who answers has something that is not here: it is ahead, or its last entry has another maker."""
        theirs = (answer.last.term if answer.last is not None else Term(0), answer.end.index)
        if theirs != self.last:
            return theirs > self.last
        return answer.last is not None and answer.last.writer != self.writer


@dataclass(slots=True)
class Answers:
    """What one node has been told, of its present life.

    told: the answer of each voter to the last question to it, from when it is in the node's mailbox.
    handled: those of them that the node has seen.
    ahead: of those in `told`, the voters whose logs were ahead of the node's log when the answer came.
    open: how many questions to each voter are under way.
    doubtful: the voters in `told` whose answer may be that to an earlier question, which was under way still.
    """

    told: dict[NodeId, LogEndResponse] = field(default_factory=dict)
    handled: dict[NodeId, LogEndResponse] = field(default_factory=dict)
    ahead: set[NodeId] = field(default_factory=set)
    open: dict[NodeId, int] = field(default_factory=dict)
    doubtful: set[NodeId] = field(default_factory=set)

    def ask(self, voter: NodeId) -> None:
        """A new question to `voter`: its earlier answer no longer counts."""
        self._forget(voter)
        self.open[voter] = self.open.get(voter, 0) + 1

    def end(self, voter: NodeId) -> bool:
        """A question to `voter` was answered or failed. Return whether no other question to it is under way."""
        self.open[voter] = self.open.get(voter, 1) - 1
        return not self.open[voter]

    def forget(self) -> None:
        """Whatever was said until now does not count any more."""
        for voter in list(self.told):
            self._forget(voter)

    def _forget(self, voter: NodeId) -> None:
        self.told.pop(voter, None)
        self.handled.pop(voter, None)
        self.ahead.discard(voter)
        self.doubtful.discard(voter)


class AnswersChecker(EventChecker):
    """What checkers share that look at those answers.

    An answer counts until the voter is asked again, whether that question arrives or not: it may have come back
    with another disk. It does not count if somebody else answers at that voter's address.
    """

    def __init__(self, model: Any = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started, PacketSent: self._on_sent, MessageHandled: self._on_handled}
        self.on_told = {CallReturned: self._on_returned, CallFailed: self._on_failed}
        self.after_handling: Callable[[NodeId], None] = _nothing
        self._answers: dict[NodeId, Answers] = {}

    def answers_of(self, node_id: NodeId) -> Answers:
        return self._answers.setdefault(node_id, Answers())

    def decreed_leader(self, told: MessageTold, actor: str) -> NodeModel | None:
        """The node whose actor was told something, if it is to lead and has to ask other voters before it does."""
        node_id, told_actor = self.model.place(told.receiver)
        node = self.model.nodes.get(node_id)
        if told_actor != actor or node is None or node.config is None or node.config.force_lead:
            return None
        election = node.config.election
        return node if election.decreed_leader == node_id and len(election.voters) > 1 else None

    def _on_started(self, event: NodeStarted) -> None:
        self._answers.pop(event.node_id, None)

    def _on_sent(self, event: PacketSent) -> None:
        if event.what == QUESTION:
            self.answers_of(event.source).ask(event.target)

    def _on_returned(self, told: MessageTold) -> None:
        returned, node = told.message, self.model.receiver_of(told)
        assert isinstance(returned, CallReturned)
        response = returned.response
        if node is None or not isinstance(response, LogEndResponse):
            return
        voter, answers = returned.peer_id, self.answers_of(node.node_id)
        is_last = answers.end(voter)
        if response.node_id != voter:
            return
        answers.told[voter] = response
        if not is_last:
            answers.doubtful.add(voter)
        end = KnownEnd.of(node)
        if end is None or end.is_passed_by(response):
            answers.ahead.add(voter)

    def _on_failed(self, told: MessageTold) -> None:
        failed = told.message
        assert isinstance(failed, CallFailed)
        node_id, actor = self.model.place(told.receiver)
        if actor == "election":
            self.answers_of(node_id).end(failed.peer_id)

    def _on_handled(self, event: MessageHandled) -> None:
        node_id, actor = self.model.place(event.receiver)
        if actor != "election":
            return
        message = event.message
        if type(message) is CallReturned and isinstance(message.response, LogEndResponse):
            answers = self.answers_of(node_id)
            if answers.told.get(message.peer_id) is message.response:
                answers.handled[message.peer_id] = message.response
        self.after_handling(node_id)


def _nothing(_: NodeId) -> None:
    """Nothing follows."""
