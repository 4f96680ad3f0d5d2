"""Rare states of reads of the latest state: confirmed by few, late, on other nodes than the leader, or not at all.

Taken from what the actors of each node tell each other and from which nodes run, as other rare states are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from ourolog.actors.messages.events import CommitAdvanced, CommitKnown, LeaderChanged, LogOpened
from ourolog.actors.messages.peer_calls import (
    CallAnswer,
    CallReceived,
    CallReturned,
    ReadIndexRequest,
    ReadIndexResponse,
)
from ourolog.actors.messages.replicator import ConfirmRead, ForgetRead, ReadConfirmed, ReadNotConfirmed
from ourolog.simulation.checker import World
from ourolog.simulation.events import MessageTold
from ourolog.storage.types import Index, NodeId, Term

READ_STATES: Final[dict[str, str]] = {
    "latest_read_by_bare_majority": "A leader confirmed a read of the latest state, and all other voters but those it "
    "needed did not run or were in a later term.",
    "latest_read_beside_later_term": "It did while a voter was in a later term.",
    "latest_read_of_new_leader": "It did, and the read had come before an entry of its own term was committed.",
    "latest_read_voided": "A leader lost the lead, or went to another term, while a read of the latest state waited.",
    "latest_read_at_deposed_leader": "A read of the latest state came to a leader while another led in a later term.",
    "latest_read_at_follower": "A node that did not lead answered a read of the latest state.",
    "read_index_ahead": "A node was told by its leader that more is committed than it has committed itself.",
}

ReadKey = tuple[str, int]


@dataclass(slots=True)
class _Node:
    """What is known of one node's present life.

    term: the one that its replicator was told last.
    leads: whether it leads in it.
    knows_end: whether an entry of that term is committed.
    committed: its commit index.
    waiting: the reads that wait at it, of its server and of other nodes; each with whether it came before it knew that.
    """

    term: Term = Term(0)
    leads: bool = False
    knows_end: bool = False
    committed: Index = Index(0)
    waiting: dict[ReadKey, bool] = field(default_factory=dict)


class ReadStates:
    """Watches the replicators, where reads of the latest state wait.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._nodes: dict[NodeId, _Node] = {}
        self._newest_led = Term(0)
        self._world: World | None = None
        self._on_received: dict[type, Callable[[NodeId, Any], None]] = {
            LogOpened: self._on_opened,
            LeaderChanged: self._on_leader_changed,
            ConfirmRead: lambda node_id, read: self._begin(node_id, ("server", read.request_id)),
            ForgetRead: lambda node_id, read: self._end(node_id, ("server", read.request_id)),
            CallReceived: self._on_call,
            CallReturned: self._on_returned,
        }
        self._on_sent: dict[type, Callable[[NodeId, Any], None]] = {
            CommitAdvanced: self._on_committed,
            CommitKnown: self._on_commit_known,
            ReadConfirmed: lambda node_id, read: self._confirm(node_id, ("server", read.request_id)),
            ReadNotConfirmed: lambda node_id, read: self._end(node_id, ("server", read.request_id)),
            CallAnswer: self._on_answer,
        }

    @property
    def messages(self) -> Collection[type]:
        """The classes of message that are of interest."""
        return {*self._on_received, *self._on_sent}

    def see(self, told: MessageTold, world: World) -> None:
        kind = type(told.message)
        for name, handlers in ((told.receiver, self._on_received), (told.sender, self._on_sent)):
            handle = handlers.get(kind)
            if handle is not None and name.endswith(".replicator"):
                self._world = world
                handle(NodeId(name.removesuffix(".replicator")), told.message)

    def _node(self, node_id: NodeId) -> _Node:
        return self._nodes.setdefault(node_id, _Node())

    # ------------------------------------------------------------ who leads

    def _on_opened(self, node_id: NodeId, opened: LogOpened) -> None:
        self._nodes[node_id] = _Node(term=opened.ballot.term, committed=opened.committed.index)

    def _on_leader_changed(self, node_id: NodeId, changed: LeaderChanged) -> None:
        node = self._node(node_id)
        leads = changed.leader_id == node_id
        if node.leads and (changed.term > node.term or not leads) and node.waiting:
            self._note("latest_read_voided")
        if (changed.term, leads) != (node.term, node.leads):
            node.knows_end = False
        node.term, node.leads = changed.term, leads
        if leads:
            self._newest_led = max(self._newest_led, changed.term)

    def _on_commit_known(self, node_id: NodeId, _: CommitKnown) -> None:
        self._node(node_id).knows_end = True

    def _on_committed(self, node_id: NodeId, advanced: CommitAdvanced) -> None:
        self._node(node_id).committed = advanced.committed.index

    # ------------------------------------------------------------ reads

    def _begin(self, node_id: NodeId, key: ReadKey) -> None:
        node = self._node(node_id)
        node.waiting[key] = not node.knows_end
        if node.leads and node.term < self._newest_led:
            self._note("latest_read_at_deposed_leader")

    def _end(self, node_id: NodeId, key: ReadKey) -> None:
        self._node(node_id).waiting.pop(key, None)

    def _confirm(self, node_id: NodeId, key: ReadKey) -> None:
        node = self._node(node_id)
        came_early = node.waiting.pop(key, False)
        if not node.leads:
            self._note("latest_read_at_follower")
            return
        if came_early:
            self._note("latest_read_of_new_leader")
        assert self._world is not None, "an event came with it"
        voters = self._world.configs[node_id].election.voters
        later = [voter for voter in voters if self._node(voter).term > node.term]
        able = [voter for voter in voters if voter in self._world.running and voter not in later]
        if later:
            self._note("latest_read_beside_later_term")
        if len(able) == len(voters) // 2 + 1:
            self._note("latest_read_by_bare_majority")

    def _on_call(self, node_id: NodeId, received: CallReceived[Any]) -> None:
        if isinstance(received.request, ReadIndexRequest):
            self._begin(node_id, ("call", received.request_id))

    def _on_answer(self, node_id: NodeId, answer: CallAnswer[Any]) -> None:
        if isinstance(answer.response, ReadIndexResponse):
            key = "call", answer.request_id
            if answer.response.committed is not None:
                self._confirm(node_id, key)
            else:
                self._end(node_id, key)

    def _on_returned(self, node_id: NodeId, returned: CallReturned[Any]) -> None:
        response = returned.response
        if not isinstance(response, ReadIndexResponse) or response.committed is None:
            return
        if response.committed > self._node(node_id).committed:
            self._note("read_index_ahead")
