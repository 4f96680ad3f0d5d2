"""Rare states of votes, and of what logs say of who votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourolog.actors.messages.events import LogAppended, LogCut, LogOpened, LogStartMoved
from ourolog.actors.messages.store import BallotSaved, ResetLog, SaveBallot
from ourolog.simulation.events import MessageTold
from ourolog.storage.control import VoterSet
from ourolog.storage.terms import LastEntry

VOTE_STATES: Final[dict[str, str]] = {
    "vote_granted": "A node voted for another.",
    "vote_refused_short_log": "A node did not vote for a candidate whose last entry was older than its own.",
    "vote_refused_longer_log": "It did not though the candidate's log was longer: its last entry was of an older term.",
    "second_vote_refused": "A node that had voted was asked for its vote in the same term by another candidate.",
    "voters_entry_cut": "An entry that named voters was cut, and what was named before it is in force again.",
    "voters_entry_behind_retention": "Retention removed the entry that named voters in force.",
    "voters_entry_before_reset": "A log began anew behind an entry that names voters.",
}


class VoteStates:
    """Watches what stores are asked and what they say.

    note: called with the name of each state that is reached.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._asked: dict[tuple[str, int], SaveBallot] = {}
        self._voters: dict[str, VoterSet | None] = {}
        self.on_message: Final[dict[type, Callable[[MessageTold], None]]] = {
            SaveBallot: self._on_asked,
            BallotSaved: self._on_saved,
            LogOpened: self._on_log,
            LogAppended: self._on_log,
            LogCut: self._on_cut,
            LogStartMoved: self._on_start_moved,
            ResetLog: self._on_reset,
        }

    def _on_asked(self, told: MessageTold) -> None:
        asked = told.message
        assert isinstance(asked, SaveBallot)
        self._asked[told.receiver, asked.request_id] = asked

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        asked = self._asked.pop((told.sender, saved.request_id), None)
        if asked is None or asked.candidate is None:
            return
        own = LastEntry.of(saved.last, saved.end.index)
        if saved.granted:
            self._note("vote_granted")
        elif asked.candidate < own:
            self._note("vote_refused_short_log")
            if asked.candidate.index > own.index:
                self._note("vote_refused_longer_log")
        elif asked.ballot.term == saved.ballot.term and saved.ballot.voted_for not in (None, asked.ballot.voted_for):
            self._note("second_vote_refused")

    def _on_log(self, told: MessageTold) -> None:
        opened_or_appended = told.message
        assert isinstance(opened_or_appended, LogOpened | LogAppended)
        self._voters[told.sender] = opened_or_appended.voters

    def _on_cut(self, told: MessageTold) -> None:
        cut = told.message
        assert isinstance(cut, LogCut)
        before = self._voters.get(told.sender)
        if before is not None and (cut.voters is None or cut.voters.index < before.index):
            self._note("voters_entry_cut")
        self._voters[told.sender] = cut.voters

    def _on_start_moved(self, told: MessageTold) -> None:
        moved = told.message
        assert isinstance(moved, LogStartMoved)
        if not told.receiver.endswith(".replicator"):
            return  # what several actors of a node are told is one state
        present = self._voters.get(told.sender)
        if moved.voters_before_start is not None and moved.voters_before_start == present:
            self._note("voters_entry_behind_retention")

    def _on_reset(self, told: MessageTold) -> None:
        reset = told.message
        assert isinstance(reset, ResetLog)
        if reset.voters is not None:
            self._note("voters_entry_before_reset")
