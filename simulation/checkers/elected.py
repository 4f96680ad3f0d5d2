"""Who may lead because others voted for it: not without a majority of the votes, on the voters' own disks."""

from __future__ import annotations

import json
from math import inf
from typing import Any, ClassVar

from ourolog.actors.messages.events import LeaderChanged, LogOpened
from ourolog.actors.messages.membership import ProbeDue
from ourolog.actors.messages.peer_calls import CallAnswer, CallReceived, CallReturned, VoteRequest, VoteResponse
from ourolog.actors.messages.store import BallotSaved
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.log_model import Entry
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.checkers.waiting import SOON_S
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.ballot import Ballot
from ourolog.storage.control import VoterKey
from ourolog.storage.types import NodeId, Term

Candidacy = tuple[Term, NodeId, int]
"""A term, who stands in it, and the epoch of its log."""


class Votes:
    """Which disks hold a vote for whom, as stores say when they have saved a ballot or opened a log with one."""

    def __init__(self, model: ClusterModel) -> None:
        self._model = model
        self._votes: dict[Candidacy, set[VoterKey]] = {}

    def note_saved(self, told: MessageTold) -> None:
        """Note the vote in a BallotSaved."""
        saved, node = told.message, self._model.sender_of(told)
        assert isinstance(saved, BallotSaved)
        if node is not None:
            self._note(node.key, saved.ballot)

    def note_opened(self, told: MessageTold) -> None:
        """Note the vote in a LogOpened, which a crash may have kept the store from reporting."""
        opened, node = told.message, self._model.receiver_of(told)
        assert isinstance(opened, LogOpened)
        if node is not None:
            self._note(node.key, opened.ballot)

    def _note(self, voter: VoterKey, ballot: Ballot) -> None:
        if ballot.voted_for is not None:
            candidacy = ballot.term, ballot.voted_for, ballot.voted_for_epoch
            self._votes.setdefault(candidacy, set()).add(voter)

    def of(self, node: NodeModel, term: Term) -> set[VoterKey]:
        """The disks that hold a vote in that term for the node with its present disk."""
        return self._votes.get((term, *node.key), set())


CANVASS_AT_LEAST = 0.14
"""How long a candidate waits for votes at the least, in election timeouts, by a clock that runs fast."""


class LeaderElected(EventChecker):
    """Counts the votes on disk when a node says that it leads, and when it writes in its log who voted for it."""

    name: ClassVar[str] = "leader_elected"
    statement: ClassVar[str] = (
        "Who says that it leads is one of the voters that its log names, or of those before the last change, and has "
        "the votes of a majority of them for that term on disk (Raft section 5.2): each on the very disk that is "
        "named, for a node with another disk is another voter. Its log says with which disk it leads, who voted for "
        "it, and who votes."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._votes = Votes(self.model)
        self.on_told = {
            BallotSaved: self._votes.note_saved,
            LogOpened: self._votes.note_opened,
            LeaderChanged: self._on_leader_changed,
        }
        self.on_log = self._on_log_changed

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node = self.model.receiver_of(told)
        if node is None or changed.leader_id != node.node_id or self.model.place(told.receiver)[1] != "replicator":
            return
        voters = self.model.voters_of(node)
        if not self.model.may_stand(node):
            raise self.violated(f"{node.node_id} leads term {changed.term} with a disk that has no vote")
        votes = self._votes.of(node, changed.term)
        granted = [voter.node_id for voter in voters if voter in votes]
        if len(granted) <= len(voters) // 2:
            raise self.violated(
                f"{node.node_id} leads term {changed.term}, and of the voters {_listed(voters)} only "
                f"{', '.join(granted) or 'nobody'} has a vote for it on disk"
            )

    def _on_log_changed(self, node: NodeModel) -> None:
        if self.model.is_reopened:
            return
        for entry in self.model.fresh:
            # What a node has copied back that it wrote with a disk that it has lost, it wrote long ago.
            if entry.control and (entry.path, entry.origin_epoch) == ((node.node_id,), node.epoch):
                value = json.loads(entry.control)
                if value["type"] == "leader-started":
                    self._check_started(node, entry, value)

    def _check_started(self, node: NodeModel, entry: Entry, value: dict[str, Any]) -> None:
        voters = self.model.voters_of(node)
        if value["leader"] != list(node.key):
            raise self.violated(f"{entry} names {value['leader']} as the leader that wrote it, which is {node.key}")
        if set(value["voters"]) != {voter.node_id for voter in voters}:
            raise self.violated(
                f"{entry} names the voters {', '.join(value['voters'])}, and they are {_listed(voters)}"
            )
        votes = {voter.node_id for voter in self._votes.of(node, entry.term)}
        granted = set(value["granted_by"])
        if len(granted) <= len(voters) // 2 or not granted <= votes:
            raise self.violated(
                f"{entry} says that {', '.join(value['granted_by']) or 'nobody'} voted for its leader, and the disks "
                f"of {', '.join(sorted(votes)) or 'nobody'} hold such a vote"
            )


class LeadsOnceElected(EventChecker):
    """Follows each answer to a candidate, and what it says once a majority has granted it their votes."""

    name: ClassVar[str] = "leads_once_elected"
    statement: ClassVar[str] = (
        f"Who is told in time of the votes of a majority for its present term says that it leads within {SOON_S:g} s, "
        "and in the same time the entry that begins the term is in its log, unless a later term begins meanwhile."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self._votes = Votes(self.model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            BallotSaved: self._on_saved,
            LogOpened: self._votes.note_opened,
            CallReceived: self._on_asked,
            CallAnswer: self._on_answer,
            CallReturned: self._on_returned,
            LeaderChanged: self._on_leader_changed,
            ProbeDue: self._look,
        }
        self._asked: dict[tuple[NodeId, int], VoteRequest] = {}
        self._timeout_s: dict[NodeId, float] = {}
        self._stood_s: dict[NodeId, float] = {}
        self._answers: dict[int, VoteResponse] = {}
        self._granted: dict[NodeId, tuple[Term, set[VoterKey]]] = {}
        self._elected_s: dict[NodeId, tuple[Term, float]] = {}
        self._leads_s: dict[NodeId, tuple[Term, float]] = {}
        self._led: dict[NodeId, Term] = {}

    def _on_saved(self, told: MessageTold) -> None:
        self._votes.note_saved(told)
        saved = told.message
        assert isinstance(saved, BallotSaved)
        node_id, _ = self.model.place(told.receiver)
        if saved.ballot.voted_for == node_id and saved.ballot.leader_id is None:
            self._stood_s[node_id] = told.time_s

    def _waits_for_votes(self, node_id: NodeId, now_s: float) -> bool:
        """Whether a candidate must still wait for votes; those that come later may find it standing again."""
        waits_s = CANVASS_AT_LEAST * self._timeout_s.get(node_id, 1.0)
        return now_s - self._stood_s.get(node_id, -inf) < waits_s

    def _on_started(self, event: NodeStarted) -> None:
        self._timeout_s[event.node_id] = event.config.election_timeout_s
        for of_node in (self._granted, self._elected_s, self._leads_s):
            of_node.pop(event.node_id, None)
        for key in [key for key in self._asked if key[0] == event.node_id]:
            del self._asked[key]

    def _on_asked(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        if isinstance(received.request, VoteRequest):
            self._asked[self.model.place(told.receiver)[0], received.request_id] = received.request

    def _on_answer(self, told: MessageTold) -> None:
        answer = told.message
        assert isinstance(answer, CallAnswer)
        asked = self._asked.pop((self.model.place(told.sender)[0], answer.request_id), None)
        response = answer.response
        if asked is not None and not asked.is_pre_vote and isinstance(response, VoteResponse) and response.granted:
            self._answers[id(response)] = response  # kept, so that no other object gets the same id

    def _on_returned(self, told: MessageTold) -> None:
        returned, node = told.message, self.model.receiver_of(told)
        assert isinstance(returned, CallReturned)
        response = returned.response
        if node is None or self._answers.pop(id(response), None) is None or response.term != node.ballot.term:
            return
        term, granted = self._granted.get(node.node_id, (Term(0), set()))
        if term != response.term:
            granted = {node.key} & self._votes.of(node, response.term)
            self._granted[node.node_id] = response.term, granted
        granted.add(response.key)
        voters = self.model.voters_of(node)
        has_led = self._led.get(node.node_id) == response.term  # this is one vote more
        is_in_time = self._waits_for_votes(node.node_id, told.time_s)
        if len(granted.intersection(voters)) > len(voters) // 2 and not has_led and is_in_time:
            self._elected_s.setdefault(node.node_id, (response.term, told.time_s))

    def _on_leader_changed(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            self._elected_s.pop(node_id, None)
            self._leads_s.pop(node_id, None)
            if changed.leader_id == node_id:
                self._leads_s[node_id] = changed.term, told.time_s
                self._led[node_id] = changed.term

    def _look(self, _: MessageTold) -> None:
        for node_id, (term, since_s) in list(self._elected_s.items()):
            if self._is_over(node_id, term):
                del self._elected_s[node_id]
            elif self._is_overdue(node_id, since_s):
                raise self.violated(
                    f"{node_id} knows of the votes of a majority for term {term} since {since_s:.3f} s, and has not "
                    "said that it leads"
                )
        for node_id, (term, since_s) in list(self._leads_s.items()):
            log = self.model.nodes[node_id].log
            last = log.entry(log.end.index - 1)
            if self._is_over(node_id, term) or not log.opened or (last is not None and last.term >= term):
                del self._leads_s[node_id]
            elif self._is_overdue(node_id, since_s):
                raise self.violated(
                    f"{node_id} leads term {term} since {since_s:.3f} s, and no entry begins the term in its log"
                )

    def _is_over(self, node_id: NodeId, term: Term) -> bool:
        node = self.model.nodes[node_id]
        return not node.is_up or node.ballot.term != term

    def _is_overdue(self, node_id: NodeId, since_s: float) -> bool:
        return self.time_s > max(since_s, self.model.hindrances.node_clear_s(node_id)) + SOON_S


def _listed(voters: tuple[VoterKey, ...]) -> str:
    return ", ".join(voter.node_id for voter in voters)
