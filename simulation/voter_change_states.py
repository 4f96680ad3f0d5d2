"""Rare states of changes of voters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourolog.actors.messages.election import ChangeProblem, VotersChangeAnswered, VotersCommitted
from ourolog.actors.messages.events import LeaderChanged, LogOpened, VotersLogged
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, VoteRequest, VoteResponse
from ourolog.actors.messages.store import AppendControl, SaveBallot
from ourolog.simulation.events import MessageTold, NodeCrashed
from ourolog.storage.control import VoterKey, VoterSet, VotersSet

VOTER_CHANGE_STATES: Final[dict[str, str]] = {
    "voter_added": "A leader appended a set of voters with one more.",
    "voter_removed": "A leader appended a set of voters with one less.",
    "removed_itself": "A leader appended a set of voters without itself.",
    "removed_leader_left": "A leader that votes no more stopped leading.",
    "change_cut_short": "A leader lost its lead, or crashed, before a set of voters that it appended was committed.",
    "wiped_voter_replaced": "A voter was removed whose name has another disk.",
    "changes_at_once": "A person asked for a change of voters while another one was under way.",
    "change_refused": "A change of voters that a person asked for could not be made as things were.",
    "outgoing_stood": "A node stood that the last set of voters in its log has left out.",
    "unaware_voter_voted": "A node voted whose own log does not name it as a voter.",
}


class VoterChangeStates:
    """Watches what elections have appended, and what they answer.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._named: dict[str, VoterSet | None] = {}
        self._keys: dict[str, VoterKey] = {}
        self._uncommitted: dict[str, None] = {}
        self._leads: dict[str, None] = {}
        self._asked: dict[tuple[str, int], None] = {}
        self.on_message: Final[dict[type, Callable[[MessageTold], None]]] = {
            LogOpened: self._on_opened,
            VotersLogged: self._on_logged,
            VotersCommitted: self._on_committed,
            AppendControl: self._on_append,
            LeaderChanged: self._on_leader,
            SaveBallot: self._on_save,
            CallReceived: self._on_call,
            CallAnswer: self._on_answer,
        }

    def crashed(self, event: NodeCrashed) -> None:
        """Note that a node has ended where it stood."""
        self._end(event.node_id)
        self._leads.pop(event.node_id, None)

    def _end(self, node_id: str) -> None:
        if node_id in self._uncommitted:
            del self._uncommitted[node_id]
            self._note("change_cut_short")

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        node_id = _node(told.receiver)
        self._named[node_id] = opened.voters
        self._keys[node_id] = VoterKey(node_id, opened.log_epoch)  # type: ignore[arg-type]

    def _on_logged(self, told: MessageTold) -> None:
        logged = told.message
        assert isinstance(logged, VotersLogged)
        self._named[_node(told.receiver)] = logged.voters

    def _on_committed(self, told: MessageTold) -> None:
        self._uncommitted.pop(_node(told.receiver), None)

    def _on_append(self, told: MessageTold) -> None:
        asked, node_id = told.message, _node(told.sender)
        assert isinstance(asked, AppendControl)
        named = self._named.get(node_id)
        if not isinstance(asked.entry, VotersSet) or named is None:
            return
        keys = {voter.key for voter in asked.entry.voters}
        gone = set(named.keys) - keys
        self._note("voter_removed" if gone else "voter_added")
        self._uncommitted[node_id] = None
        if self._keys.get(node_id) in gone:
            self._note("removed_itself")
        if any(self._keys.get(key.node_id, key) != key for key in gone):
            self._note("wiped_voter_replaced")

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        if not told.receiver.endswith(".replicator"):
            return
        node_id = _node(told.receiver)
        if changed.leader_id == node_id:
            self._leads[node_id] = None
            return
        self._end(node_id)
        if self._leads.pop(node_id, 0) is None and not self._votes(node_id):
            self._note("removed_leader_left")

    def _votes(self, node_id: str) -> bool:
        named = self._named.get(node_id)
        return named is None or self._keys.get(node_id) in named.keys

    def answered(self, answered: VotersChangeAnswered) -> None:
        """Note what a person was answered."""
        if answered.problem is ChangeProblem.UNDER_WAY:
            self._note("changes_at_once")
        elif answered.problem is ChangeProblem.IMPOSSIBLE:
            self._note("change_refused")

    def _on_save(self, told: MessageTold) -> None:
        asked, node_id = told.message, _node(told.receiver)
        assert isinstance(asked, SaveBallot)
        is_own = asked.candidate is None and asked.ballot.voted_for == node_id and asked.ballot.leader_id is None
        if is_own and not self._votes(node_id):
            self._note("outgoing_stood")

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        if isinstance(received.request, VoteRequest) and not received.request.is_pre_vote:
            self._asked[_node(told.receiver), received.request_id] = None

    def _on_answer(self, told: MessageTold) -> None:
        answer, node_id = told.message, _node(told.sender)
        assert isinstance(answer, CallAnswer)
        was_asked = self._asked.pop((node_id, answer.request_id), 0) is None
        is_granted = was_asked and isinstance(answer.response, VoteResponse) and answer.response.granted
        if is_granted and not self._votes(node_id):
            self._note("unaware_voter_voted")


def _node(mailbox: str) -> str:
    return mailbox.rpartition(".")[0]
