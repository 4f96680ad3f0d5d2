"""Rare states of a decreed leader that asks the voters where their logs end.

Taken from what the actors of each node tell each other alone, as those of replication are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.messages.election import ClaimReceived, HigherTermSeen, SurveyDue
from ourolog.actors.messages.events import LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.peer_calls import CallReturned, LogEndResponse
from ourolog.actors.messages.store import LogDescribed
from ourolog.actors.messages.values import ElectionClaim
from ourolog.simulation.events import MessageTold
from ourolog.storage.terms import LastEntry, Place
from ourolog.storage.types import Index, NodeId, Term

SURVEY_STATES: Final[dict[str, str]] = {
    "leader_asks_again": "A node that led heard of a later term, and asked the voters once more.",
    "copied_while_asked": "Such a leader was answered by a voter that had copied from it since it began to ask.",
    "answer_ahead": "A voter answered who wanted to lead, and was ahead of it.",
    "answer_of_another_maker": "A voter answered who wanted to lead, and had another entry at the same end.",
}


@dataclass(slots=True)
class _Asker:
    """What is known of one node's present life.

    leads_in: the term that it leads in, 0 if it does not lead.
    end: the index after the last entry that it was told of.
    asked_at: where its log ended when it began to ask while it led, None if it does not ask or does not lead.
    is_answered: whether a voter has answered since then.
    answers: what voters have answered since its store was asked last.
    """

    leads_in: Term = Term(0)
    end: Index = Index(0)
    asked_at: Index | None = None
    is_answered: bool = False
    answers: list[LogEndResponse] = field(default_factory=list)


class SurveyStates:
    """Watches decreed leaders that ask, and the voters that answer.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._askers: dict[NodeId, _Asker] = {}
        self._on_message: dict[type, tuple[str, Callable[[NodeId, Any], None]]] = {
            LogOpened: ("replicator", self._on_opened),
            LogAppended: ("replicator", self._on_appended),
            LeaderChanged: ("replicator", self._on_leader_changed),
            HigherTermSeen: ("election", self._on_higher_term),
            ClaimReceived: ("election", lambda node_id, heard: self._on_higher_term(node_id, heard.claim)),
            SurveyDue: ("election", self._on_due),
            CallReturned: ("election", self._on_returned),
            LogDescribed: ("election", self._on_described),
        }

    @property
    def messages(self) -> Collection[type]:
        """The classes of message that are of interest."""
        return self._on_message

    def see(self, told: MessageTold) -> None:
        wanted, handle = self._on_message[type(told.message)]
        node_id, _, actor = told.receiver.rpartition(".")
        if actor == wanted:
            handle(NodeId(node_id), told.message)

    def _asker(self, node_id: NodeId) -> _Asker:
        return self._askers.setdefault(node_id, _Asker())

    def _on_opened(self, node_id: NodeId, opened: LogOpened) -> None:
        self._askers[node_id] = _Asker(end=opened.end.index)

    def _on_appended(self, node_id: NodeId, appended: LogAppended) -> None:
        self._asker(node_id).end = appended.ends[-1].index

    def _on_leader_changed(self, node_id: NodeId, changed: LeaderChanged) -> None:
        asker = self._asker(node_id)
        asker.leads_in = changed.term if changed.leader_id == node_id else Term(0)
        asker.asked_at = None
        asker.is_answered = False

    def _on_higher_term(self, node_id: NodeId, seen: HigherTermSeen | ElectionClaim) -> None:
        asker = self._asker(node_id)
        if asker.leads_in and seen.term > asker.leads_in and asker.asked_at is None:
            asker.asked_at = asker.end

    def _on_due(self, node_id: NodeId, _: SurveyDue) -> None:
        asker = self._asker(node_id)
        if asker.asked_at is not None:
            asker.asked_at = asker.end

    def _on_returned(self, node_id: NodeId, returned: CallReturned[Any]) -> None:
        response = returned.response
        if not isinstance(response, LogEndResponse):
            return
        asker = self._asker(node_id)
        asker.answers.append(response)
        if asker.asked_at is None:
            return
        if not asker.is_answered:
            asker.is_answered = True
            self._note("leader_asks_again")
        if response.last is not None and response.last.writer[0] == node_id and response.end.index > asker.asked_at:
            self._note("copied_while_asked")

    def _on_described(self, node_id: NodeId, described: LogDescribed) -> None:
        asker = self._asker(node_id)
        for answer in asker.answers:
            self._compare(answer, described.last, described.end.index)
        asker.answers.clear()

    def _compare(self, answer: LogEndResponse, own: Place | None, end: Index) -> None:
        theirs, ours = LastEntry.of(answer.last, answer.end.index), LastEntry.of(own, end)
        if theirs > ours:
            self._note("answer_ahead")
        elif theirs == ours and answer.last != own:
            self._note("answer_of_another_maker")
