"""Rare states between a leader's append and its commit: who has what first, and how others hear of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ourolog.actors.messages.events import LeaderChanged, LogAppended, LogOpened
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, FetchOutcome, FetchRequest, FetchResponse
from ourolog.actors.messages.store import BatchesGathered, FetchedAppended, FetchedTaken
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Index, Term

COPYING_STATES: Final[dict[str, str]] = {
    "copied_before_leader_wrote": "A follower had on its disk what its leader's disk did not have yet.",
    "leader_lost_what_others_have": "A leader went down before it had written what another node has, and was started "
    "again without it.",
    "commit_rode_on_data": "A follower was told together with the next batches that more is committed.",
    "fetch_while_writing": "A follower asked for more while it was writing what the leader had sent.",
    "sent_while_writing": "A follower was sent more while it was writing what the leader had sent.",
    "disk_told_apart": "A follower told what is on its disk while its next fetch waited at the leader.",
    "synced_together": "A follower far behind had on disk at once what several answers of its leader had brought.",
    "commit_told_late": "Nothing followed, and a follower that waited was told a little later that more is committed.",
}

_REMEMBERED: Final = 1000


@dataclass(slots=True)
class _Node:
    """What is known of a node.

    term, leader_id: as its replicator was told last.
    end: the index after the last entry on its disk, as its store says.
    gathered: the index after the last entry that its store has said it is about to write, in any of its lives.
    taken: how many answers of its leader its store has taken, and not said to be on disk.
    """

    term: Term = Term(0)
    leader_id: str | None = None
    end: Index = Index(0)
    gathered: Index = Index(0)
    taken: int = 0


class CopyingStates:
    """Watches the replicators.

    note: called with the name of each state that is reached.
    on_message: the handlers, by class of message.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._nodes: dict[str, _Node] = {}
        self._open: dict[tuple[str, int], tuple[FetchRequest, float]] = {}
        self.on_message: Final[dict[type, Callable[[MessageTold], None]]] = {
            LogOpened: self._on_opened,
            LeaderChanged: self._on_leader_changed,
            BatchesGathered: self._on_gathered,
            LogAppended: self._on_appended,
            FetchedTaken: self._on_taken,
            FetchedAppended: self._on_fetched,
            CallReceived: self._on_call,
            CallAnswer: self._on_answer,
        }

    def _replicator_of(self, told: MessageTold) -> _Node | None:
        """The node whose replicator is told; None if another actor is."""
        node_id, _, actor = told.receiver.rpartition(".")
        return self._nodes.setdefault(node_id, _Node()) if actor == "replicator" else None

    def _on_opened(self, told: MessageTold) -> None:
        assert isinstance(told.message, LogOpened)
        node = self._replicator_of(told)
        if node is not None:
            end = told.message.end.index
            if any(end < node.gathered <= other.end for other in self._nodes.values() if other is not node):
                self._note("leader_lost_what_others_have")
            node.end = node.gathered = end
            node.term, node.leader_id = Term(0), None
            node.taken = 0

    def _on_leader_changed(self, told: MessageTold) -> None:
        assert isinstance(told.message, LeaderChanged)
        node = self._replicator_of(told)
        if node is not None:
            node.term, node.leader_id = told.message.term, told.message.leader_id

    def _on_gathered(self, told: MessageTold) -> None:
        assert isinstance(told.message, BatchesGathered)
        node = self._replicator_of(told)
        if node is not None:
            node.gathered = told.message.end.index

    def _on_appended(self, told: MessageTold) -> None:
        assert isinstance(told.message, LogAppended)
        node = self._replicator_of(told)
        if node is None:
            return
        node.end = told.message.ends[-1].index
        leader = self._nodes.get(node.leader_id or "")
        if leader is not None and leader is not node and leader.term == node.term and leader.end < node.end:
            self._note("copied_before_leader_wrote")

    def _on_taken(self, told: MessageTold) -> None:
        node = self._replicator_of(told)
        if node is not None:
            node.taken += 1
            if node.taken > 1:
                self._note("synced_together")

    def _on_fetched(self, told: MessageTold) -> None:
        node = self._replicator_of(told)
        if node is not None:
            node.taken = 0

    def _on_call(self, told: MessageTold) -> None:
        assert isinstance(told.message, CallReceived)
        request = told.message.request
        if isinstance(request, FetchRequest) and request.elected:
            node_id = told.receiver.rpartition(".")[0]
            if request.disk_index < request.next_index:
                self._note("fetch_while_writing")
            if not request.max_bytes and any(
                other.node_id == request.node_id and other.max_bytes and other.disk_index < request.disk_index
                for (at, _), (other, _) in self._open.items()
                if at == node_id
            ):
                self._note("disk_told_apart")
            self._open[node_id, told.message.request_id] = request, told.time_s
            if len(self._open) > _REMEMBERED:
                del self._open[next(iter(self._open))]

    def _on_answer(self, told: MessageTold) -> None:
        """Of a fetch: by the replicator, or by the store that has read the batches."""
        assert isinstance(told.message, CallAnswer)
        request, came_s = self._open.pop((told.sender.rpartition(".")[0], told.message.request_id), (None, told.time_s))
        response = told.message.response
        if request is None or not isinstance(response, FetchResponse) or response.outcome is not FetchOutcome.BATCHES:
            return
        if response.batches and request.disk_index < request.next_index:
            self._note("sent_while_writing")
        if request.committed < response.committed.index:
            if response.batches:
                self._note("commit_rode_on_data")
            elif request.max_bytes and told.time_s > came_s:
                self._note("commit_told_late")
