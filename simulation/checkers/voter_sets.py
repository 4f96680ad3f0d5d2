"""Who votes, as each log says: every store must know the last voter set of its log, whatever becomes of the entry."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ourolog.actors.messages.events import (
    CommitKnown,
    LeaderChanged,
    LogAppended,
    LogCut,
    LogOpened,
    LogStartMoved,
    VotersChanged,
    VotersLogged,
)
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallAnswer, FetchOutcome, FetchResponse
from ourolog.actors.messages.store import BallotSaved, LogDescribed, LogTruncated, ResetLog
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.waiting import SOON_S
from ourolog.simulation.events import MessageTold, NodeCrashed, NodeStarted, NodeStopped
from ourolog.storage.control import VoterKey, VoterSet, encode_voters
from ourolog.storage.types import NodeId, Position, Term

_Set = tuple[int, int, tuple[tuple[Any, ...], ...]]
"""Index and term of the entry, and of each voter: name, epoch of its log, gRPC address, gossip address."""


_Keys = tuple[int | None, tuple[VoterKey, ...]]
"""Index of the entry, None if there is none, and each voter with its disk."""


@dataclass(slots=True)
class _Sets:
    """The voter sets of one log.

    here: those whose entries are in it, by index.
    before: the one that was in force where the log begins.
    reset_to: the reset that was asked for and is not done yet, which says what `before` will be; None if there is none.
    is_known: whether this has been followed since the log was opened whole.
    """

    here: dict[int, _Set] = field(default_factory=dict)
    before: _Set | None = None
    reset_to: ResetLog | None = None
    is_known: bool = False

    @property
    def latest(self) -> _Set | None:
        return self.here[max(self.here)] if self.here else self.before


class VotersKept(EventChecker):
    """Reads the voter sets from the bytes of each log, and holds what stores and leaders say against them."""

    name: ClassVar[str] = "voters_kept"
    statement: ClassVar[str] = (
        "The voter set that a node says its log names last is that of the last such entry in it, or of the last one "
        "before its start: no restart, retention or reset loses it, and a truncation takes back what it cuts. "
        f"Where a voter is a node with a certain disk, the log of a leader names who votes, {SOON_S:g} s after it has "
        "committed an entry of its term at the latest: no founding promise says so to a node that joins later."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed
        self.on = {NodeStarted: self._on_ended, NodeStopped: self._on_ended, NodeCrashed: self._on_ended}
        self.on_told = {
            LeaderChanged: self._on_leader_changed,
            CommitKnown: self._on_commit_known,
            ProbeDue: self._look,
            LogOpened: self._on_opened,
            ResetLog: self._on_reset,
            LogTruncated: self._on_truncated,
            LogStartMoved: self._on_start_moved,
            LogAppended: self._on_appended,
            LogCut: lambda told: self._check_latest(told, told.message.voters),
            VotersLogged: lambda told: self._check_latest(told, told.message.voters),
            BallotSaved: lambda told: self._check_latest(told, told.message.voters),
            LogDescribed: lambda told: self._check_latest(told, told.message.voters),
            CallAnswer: self._on_answer,
        }
        self._sets: dict[NodeId, _Sets] = {}
        self._leads_s: dict[NodeId, tuple[Term, float]] = {}

    def _of(self, node: NodeModel) -> _Sets:
        return self._sets.setdefault(node.node_id, _Sets())

    # ------------------------------------------------------------ what there is

    def _on_log_changed(self, node: NodeModel) -> None:
        sets, model = self._of(node), self.model
        for entry in model.gone:
            named = set_in(entry)
            if named is None:
                continue
            sets.here.pop(entry.index, None)
            is_before = model.is_retention or entry.index < node.log.start.index
            if is_before and (sets.before is None or named[0] > sets.before[0]):
                sets.before = named
        for entry in node.log.entries if model.is_reopened else model.fresh:
            named = set_in(entry)
            if named is not None:
                sets.here[named[0]] = named

    def _on_opened(self, told: MessageTold) -> None:
        opened, node = told.message, self.model.receiver_of(told)
        assert isinstance(opened, LogOpened)
        if node is None or node.opened is not opened:
            return
        sets = self._of(node)
        sets.reset_to = None
        is_whole = not (node.spoiled or node.is_blind or node.is_rotten)
        # A reset that a crash had interrupted is finished when the log is opened: the model sees only that it began.
        if sets.is_known and is_whole and not node.must_reset:
            self._check(node, opened.voters, sets.latest, "log")
        else:
            sets.here = {named[0]: named for entry in node.log.entries if (named := set_in(entry)) is not None}
            sets.before = _told(opened.voters_before_start)
        sets.is_known = is_whole

    def _on_reset(self, told: MessageTold) -> None:
        reset, node = told.message, self.model.receiver_of(told)
        assert isinstance(reset, ResetLog)
        if node is not None:
            self._of(node).reset_to = reset

    def _on_truncated(self, told: MessageTold) -> None:
        truncated, node = told.message, self.model.sender_of(told)
        assert isinstance(truncated, LogTruncated)
        if node is None:
            return
        sets = self._of(node)
        if sets.reset_to is not None and truncated.start == truncated.end == sets.reset_to.start:
            sets.here.clear()
            sets.before = _told(sets.reset_to.voters)
            sets.reset_to = None
        self._check_start(node, truncated.start, truncated.voters_before_start)

    # ------------------------------------------------------------ what a leader must have

    def _on_ended(self, event: NodeStarted | NodeStopped | NodeCrashed) -> None:
        self._leads_s.pop(event.node_id, None)

    def _on_leader_changed(self, told: MessageTold) -> None:
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._leads_s.pop(node_id, None)

    def _on_commit_known(self, told: MessageTold) -> None:
        known, node = told.message, self.model.receiver_of(told)
        assert isinstance(known, CommitKnown)
        if node is not None and node.is_vote_of_disk:
            self._leads_s[node.node_id] = known.term, told.time_s

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        if node is None or node.node_id not in self._leads_s:
            return
        term, since_s = self._leads_s[node.node_id]
        if self.time_s <= max(since_s, self.model.hindrances.node_clear_s(node.node_id)) + SOON_S:
            return
        del self._leads_s[node.node_id]
        can_be_seen = node.log.opened and not (node.spoiled or node.is_blind or node.is_rotten)
        if can_be_seen and self._of(node).latest is None:
            raise self.violated(
                f"{node.node_id} leads term {term}, has committed an entry of it at {since_s:.3f} s, and its log does "
                "not name who votes"
            )

    # ------------------------------------------------------------ what is said

    def _on_start_moved(self, told: MessageTold) -> None:
        moved, node = told.message, self.model.sender_of(told)
        assert isinstance(moved, LogStartMoved)
        if node is not None:
            self._check_start(node, moved.start, moved.voters_before_start)

    def _on_appended(self, told: MessageTold) -> None:
        appended, node = told.message, self.model.sender_of(told)
        assert isinstance(appended, LogAppended)
        if node is not None and appended.ends[-1].index == node.log.end.index:
            self._check_latest(told, appended.voters)

    def _on_answer(self, told: MessageTold) -> None:
        answer, node = told.message, self.model.sender_of(told)
        assert isinstance(answer, CallAnswer)
        response = answer.response
        if node is not None and isinstance(response, FetchResponse) and response.outcome is FetchOutcome.OUT_OF_RANGE:
            self._check_start(node, response.start, response.voters_before_start)

    def _check_start(self, node: NodeModel, start: Position, said: VoterSet | None) -> None:
        """Retention may have moved the start on since; what is said of an older one is not looked at."""
        if start == node.log.start:
            self._check(node, said, self._of(node).before, f"log before index {start.index}")

    def _check_latest(self, told: MessageTold, said: VoterSet | None) -> None:
        node = self.model.sender_of(told)
        if node is not None:
            self._check(node, said, self._of(node).latest, "log")

    def _check(self, node: NodeModel, said: VoterSet | None, named: _Set | None, of_what: str) -> None:
        if not node.log.opened or node.spoiled or node.is_blind or node.is_rotten:
            self._of(node).is_known = False
        elif self._of(node).is_known and _told(said) != named:
            raise self.violated(
                f"{node.node_id} says that its {of_what} names last the voters of {_where(_told(said))}, and it names "
                f"those of {_where(named)}"
            )


class VotersInForce(EventChecker):
    """Compares what an election announces with what its store has told it."""

    name: ClassVar[str] = "voters_in_force"
    statement: ClassVar[str] = (
        "Where a voter is a node with a certain disk, whom an election announces as voters its log has named since the "
        f"node was started; and {SOON_S:g} s later at the latest, with nothing holding the node up, it is whom that "
        "log names last, also if that entry has been cut."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            LogOpened: self._on_told,
            VotersLogged: self._on_told,
            BallotSaved: self._on_told,
            VotersChanged: self._on_announced,
            ProbeDue: self._look,
        }
        self._named: dict[NodeId, list[_Keys]] = {}
        self._announced: dict[NodeId, _Keys] = {}
        self._changed_s: dict[NodeId, float] = {}

    def _on_started(self, event: NodeStarted) -> None:
        for known in (self._named, self._announced, self._changed_s):
            known.pop(event.node_id, None)

    def _on_told(self, told: MessageTold) -> None:
        said = told.message
        assert isinstance(said, LogOpened | VotersLogged | BallotSaved)
        node = self.model.sender_of(told)
        if node is not None and node.is_vote_of_disk:
            named = _keys_of(said.voters)
            known = self._named.setdefault(node.node_id, [])
            if not known or known[-1] != named:
                known.append(named)
                self._changed_s[node.node_id] = told.time_s

    def _on_announced(self, told: MessageTold) -> None:
        changed, node = told.message, self.model.receiver_of(told)
        assert isinstance(changed, VotersChanged)
        if node is None or not node.is_vote_of_disk or not changed.keys:
            return  # nobody is known to vote yet
        announced = changed.index, changed.keys if changed.index is not None else ()
        self._announced[node.node_id] = announced
        if announced not in self._named.get(node.node_id, ()):
            raise self.violated(
                f"{node.node_id} goes by the voters of {_entry(announced)}, which its log has not named since it was "
                "started"
            )

    def _look(self, told: MessageTold) -> None:
        node = self.model.receiver_of(told)
        announced = self._announced.get(node.node_id) if node is not None else None
        if node is None or announced is None:
            return
        named = self._named[node.node_id][-1]
        since_s = max(self._changed_s[node.node_id], self.model.hindrances.node_clear_s(node.node_id))
        if announced != named and self.time_s > since_s + SOON_S:
            raise self.violated(
                f"{node.node_id} goes by the voters of {_entry(announced)}, and its log names those of {_entry(named)} "
                f"since {since_s:.3f} s"
            )


def _keys_of(voters: VoterSet | None) -> _Keys:
    return (None, ()) if voters is None else (voters.index, voters.keys)


def _entry(named: _Keys) -> str:
    return "no entry" if named[0] is None else f"entry {named[0]}"


def set_in(entry: Entry) -> _Set | None:
    """The voter set that an entry names, read without the code under test; None if it names none."""
    if not entry.control:
        return None
    value = json.loads(entry.control)
    if value["type"] != "voters-set":
        return None
    return entry.index, entry.term, tuple(tuple(voter) for voter in value["voters"])


def _told(voters: VoterSet | None) -> _Set | None:
    if voters is None:
        return None
    named = tuple(tuple(voter) for voter in encode_voters(voters.voters))
    return voters.index, voters.term, named


def _where(named: _Set | None) -> str:
    return "no entry" if named is None else f"entry {named[0]} of term {named[1]}"
