"""Carries out the changes of voters on a leader, one at a time; `voter_changes` says which.

A change goes through four places: the standby that is to be added is asked whether it is who it seems to be; the entry
is on its way to the store; it is in the log, and in force; it is committed. The next change waits for the last place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ourolog.actors.election.raft.voter_changes import (
    Change,
    NoChange,
    Situation,
    asked_to_add,
    asked_to_remove,
    automatic,
)
from ourolog.actors.messages.election import ChangeProblem
from ourolog.storage.control import VoterKey, VoterSet, VotersSet
from ourolog.storage.types import Index, NodeId


class VoterChangeEffects(Protocol):
    """What the occupant does for the changes."""

    def situation(self) -> Situation:
        """What this leader knows now."""

    def append_voters(self, entry: VotersSet) -> int:
        """Have the store append the entry. Returns the request's id."""

    def ask_standby(self, key: VoterKey) -> int:
        """Tell that node that this one leads; its answer shows who it is. Returns the call's id."""

    def tell_of_change(self, change: Change) -> None:
        """Say why the voters change."""

    def leave_as_removed(self) -> None:
        """This leader votes no more, and that is committed: let another one lead."""


Answered = Callable[[ChangeProblem | None, str], None]
"""Called once with what became of a person's change: no problem, or which one, and a sentence."""


@dataclass(slots=True)
class _Asked:
    """What a person has asked for.

    has_begun: whether something of it has been appended.
    has_successor: of a removal, whether a successor has been added, or there is none after all.
    """

    node_id: NodeId
    is_addition: bool
    answer: Answered
    has_begun: bool = False
    has_successor: bool = False

    def __str__(self) -> str:
        return f"{self.node_id} is being {'added' if self.is_addition else 'removed'}"


class VoterChanger:
    """The changes of voters of one node, in the terms in which it leads.

    under_way: what is being changed, for a person; "" if nothing is.
    """

    def __init__(self, effects: VoterChangeEffects) -> None:
        self._effects = effects
        self._leads = False
        self._knows_commit = False
        self._logged: VoterSet | None = None
        self._committed_at: Index | None = None
        self._appending: tuple[int, Change] | None = None
        self._asking: tuple[int, VoterKey] | None = None
        self._proven: VoterKey | None = None
        self._asked: _Asked | None = None

    # ------------------------------------------------------------ what happens to the node

    def lead_begun(self) -> None:
        """This node leads; no entry of its term is committed yet."""
        self._leads, self._knows_commit = True, False
        self._appending = self._asking = self._proven = None

    def lead_ended(self, why: str) -> None:
        """This node leads no more."""
        self._leads = False
        self._appending = self._asking = self._proven = None
        if self._asked is not None:
            problem = ChangeProblem.LOST if self._asked.has_begun else ChangeProblem.NOT_LEADER
            self._answer(problem, why)

    def commit_known(self) -> None:
        """An entry of this leader's own term is committed."""
        self._knows_commit = True
        self.look()

    def logged(self, voters: VoterSet | None) -> None:
        """The log names these voters last."""
        self._logged = voters
        if voters is not None and self._appending is not None:
            entry = self._appending[1].entry
            if entry == VotersSet(voters.voters, voters.removed):
                self._appending = None

    def refused(self, request_id: int) -> None:
        """The store has not appended what it was asked to: the term is over."""
        if self._appending is not None and self._appending[0] == request_id:
            self._appending = None

    def committed(self, index: Index) -> None:
        """The entry there, which names the voters, is committed."""
        self._committed_at = index
        self.look()

    def proven(self, call_id: int, key: VoterKey) -> None:
        """That node has answered, and follows this leader."""
        if self._asking == (call_id, key):
            self._asking, self._proven = None, key
            self.look()
            self._proven = None

    def not_proven(self, call_id: int, why: str) -> None:
        """A node that was asked does not answer, or is another one."""
        if self._asking is not None and self._asking[0] == call_id:
            key, self._asking = self._asking[1], None
            asked = self._asked
            if asked is not None and asked.is_addition and asked.node_id == key.node_id:
                self._answer(ChangeProblem.IMPOSSIBLE, f"{key.node_id} does not follow this leader: {why}")
            elif asked is not None and not asked.is_addition:
                asked.has_successor = True  # there is none, and a person wants the voter gone
                self.look()

    # ------------------------------------------------------------ what a person asks for

    def ask(self, node_id: NodeId, answer: Answered, *, is_addition: bool) -> None:
        """A person wants that node to vote, or to vote no more."""
        if not self._leads:
            answer(ChangeProblem.NOT_LEADER, "")
        elif why := self._why_not_now():
            answer(ChangeProblem.UNDER_WAY, f"{why}; try again")
        else:
            self._asked = _Asked(node_id, is_addition, answer)
            self.look()

    @property
    def under_way(self) -> str:
        if self._asked is not None:
            return str(self._asked)
        if self._appending is not None:
            change = self._appending[1]
            return f"{change.key.node_id} is being {'added' if change.is_addition else 'removed'}"
        if self._leads and self._knows_commit and not self._is_committed:
            return "the last change is not committed yet"
        return ""

    def _why_not_now(self) -> str:
        if self.under_way:
            return f"the voters are being changed: {self.under_way}"
        if not self._knows_commit:
            return "this leader has just been elected, and nothing of its term is committed yet"
        return ""

    @property
    def _is_committed(self) -> bool:
        return self._logged is not None and self._logged.index == self._committed_at

    def _answer(self, problem: ChangeProblem | None, detail: str) -> None:
        assert self._asked is not None, "there is somebody to be answered"
        answer, self._asked = self._asked.answer, None
        answer(problem, detail)

    # ------------------------------------------------------------ the next step

    def look(self) -> None:
        """Do what is to be done now, if anything is: called whenever something may have changed."""
        is_ready = self._leads and self._knows_commit and self._is_committed
        if not is_ready or self._appending is not None or self._asking is not None:
            return
        situation = self._effects.situation()
        if self._asked is not None:
            self._go_on(self._asked, situation)
        if all(voter.key != situation.me for voter in situation.voters):
            self._effects.leave_as_removed()
        elif self._asked is None and self._appending is None and self._asking is None:
            change = automatic(situation)
            if change is not None:
                self._make(change)

    def _go_on(self, asked: _Asked, situation: Situation) -> None:
        votes = situation.voter_named(asked.node_id) is not None
        if asked.has_begun and votes is asked.is_addition:
            self._answer(None, "")
            return
        if asked.is_addition:
            change = asked_to_add(situation, asked.node_id)
        else:
            change = asked_to_remove(situation, asked.node_id, has_successor=asked.has_successor)
        if isinstance(change, NoChange):
            self._answer(change.problem, change.why)
        elif self._make(change):
            asked.has_begun = True
            asked.has_successor |= change.is_addition

    def _make(self, change: Change) -> bool:
        """Append the change, or first ask the node that is to be added. Returns whether it is on its way."""
        if change.is_addition and self._proven != change.key:
            self._proven = None
            self._asking = (self._effects.ask_standby(change.key), change.key)
            return False
        self._proven = None
        self._effects.tell_of_change(change)
        self._appending = (self._effects.append_voters(change.entry), change)
        return True
