"""The oracle: an all-knowing party outside the nodes that makes safe changes of leader, at bad moments.

It does what a vote of Raft does (section 5.4.1): a majority of the voters has a ballot of a new
term on disk, and of those the one with the best log leads. Then the rest of a cluster is put to the
test, long before there are elections: it must lose nothing whatever the oracle does, as long as
every change is a safe one. So a change is only ever made of voters whose disks have all that they
promised; who lost its disk counts again when it has all that the present leader has.

Its word needs no network. It comes late, in any order, and to some never: those hear of the new term
from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from ourolog.actors.node import Node
from ourolog.actors.store import StoreActor
from ourolog.simulation.events import Event, LeaderDecided
from ourolog.simulation.oracle_election import DiskTrusted, LeaderTold, LeadGiven, OracleElection, VoteAsked, VoteSaved
from ourolog.simulation.runtime import SimulatedInbox
from ourolog.storage.types import Index, NodeId, Term

GIVES_UP_AFTER_S: Final = 2.0
"""Shorter than it takes to replace a disk: who has answered has the disk that it answered with."""

REMINDS_EVERY_S: Final = 1.5
LOOKS_EVERY_S: Final = 0.01
WAITS_FOR_ENTRIES_S: Final = 0.5


class Stage(Protocol):
    """The cluster, as its oracle sees it."""

    @property
    def now_s(self) -> float: ...

    @property
    def running(self) -> Mapping[NodeId, Node]: ...

    def after(self, delay_s: float, action: Callable[[], None]) -> None: ...

    def is_ready(self, name: str) -> bool: ...

    @property
    def emit(self) -> Callable[[Event], None]: ...


@dataclass(slots=True)
class _Change:
    """One attempt to change the leader.

    answers: who has saved the ballot, with the end of its log as it is from then on.
    """

    term: Term
    answers: dict[NodeId, tuple[Node, tuple[Term, Index]]] = field(default_factory=dict)
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where one process says that its ballot is saved."""

    oracle: Oracle
    change: _Change
    node_id: NodeId
    node: Node

    def tell(self, message: VoteSaved) -> None:
        assert message.term == self.change.term
        self.oracle.heard(self.change, self.node_id, self.node)


class Oracle:
    """Changes the leader of a cluster, at random times or at bad moments, and only as a vote of Raft would.

    term, leader_id: the last term that a leader was found for, and that leader.
    rng: the source of all its choices.
    trusts: whether a node's disk has all that the node promised, as far as the oracle may know.
    """

    def __init__(self, stage: Stage, voters: tuple[NodeId, ...], rng: Random) -> None:
        self.voters = voters
        self.term = Term(0)
        self.leader_id: NodeId | None = None
        self.trusts: Callable[[NodeId], bool] = lambda _: True
        self._stage = stage
        self._rng = rng
        self._used = Term(0)
        self._is_on = False
        self._is_calm = False
        self._among: tuple[NodeId, ...] = voters

    # ------------------------------------------------------------ on and off

    def start(self, interval_s: float) -> None:
        """Change the leader at random times, so long apart on average, and tell of it."""
        self._is_on = True
        self.change()
        self._again(interval_s)
        self._remind()

    def calm(self, core: tuple[NodeId, ...]) -> None:
        """Change it no more, unless these are without a leader; and speak to them alone."""
        self._is_on = False
        self._among = core
        if not self._is_calm:
            self._is_calm = True
            self._see_to_a_leader()

    def launched(self, node_id: NodeId, node: Node) -> None:
        """A process has begun: before it opens its log it learns whether that is what it was."""
        if self.trusts(node_id):
            node.election.tell(DiskTrusted())

    def _again(self, interval_s: float) -> None:
        def due() -> None:
            if not self._is_on:
                return
            self._change_at_a_bad_moment(WAITS_FOR_ENTRIES_S * self._rng.choice((0, 1)))
            if self._rng.random() < 0.25:
                for _ in range(self._rng.randrange(1, 3)):
                    self._stage.after(0.3 * self._rng.random() ** 2, self._change_if_on)
            self._again(interval_s)

        self._stage.after(self._rng.expovariate(1.0 / interval_s), due)

    def _change_if_on(self) -> None:
        if self._is_on:
            self.change()

    def _change_at_a_bad_moment(self, patience_s: float) -> None:
        """Rather while something is under way: then the old leader has what others do not have."""
        if not self._is_on:
            return
        if patience_s <= 0 or self._has_entries_in_flight():
            self.change()
        else:
            self._stage.after(LOOKS_EVERY_S, lambda: self._change_at_a_bad_moment(patience_s - LOOKS_EVERY_S))

    def _has_entries_in_flight(self) -> bool:
        ends = {
            voter: _end_of(self._stage.running[voter])
            for voter in self.voters
            if voter in self._stage.running and self._stage.is_ready(voter)
        }
        return self.leader_id in ends and min(ends.values()) < ends[self.leader_id]

    def _see_to_a_leader(self) -> None:
        if not self._is_led():
            self.change()
        if self.leader_id is not None:
            self._tell(self._among, self.term, self.leader_id)
        self._stage.after(REMINDS_EVERY_S, self._see_to_a_leader)

    def _is_led(self) -> bool:
        """Whether the leader leads, and nobody has promised a later term to a change that came to nothing."""
        elections = {
            node_id: _election_of(self._stage.running[node_id])
            for node_id in self._among
            if node_id in self._stage.running
        }
        leader = elections.get(self.leader_id) if self.leader_id else None
        return (
            leader is not None
            and (leader.term, leader.leader_id) == (self.term, self.leader_id)
            and all(election.promised_term <= self.term for election in elections.values())
        )

    # ------------------------------------------------------------ one change

    def change(self) -> None:
        """Begin a change, of as many voters as answer; a later one may overtake it."""
        rng, stage = self._rng, self._stage
        self._used = Term(self._used + 1)
        change = _Change(self._used)
        able = [voter for voter in self.voters if voter in self._among and self._may_vote(voter)]
        rng.shuffle(able)
        if self._is_on and rng.random() < 0.5:
            # As often as not without the present leader, who then goes on until it hears of it.
            able.sort(key=lambda voter: voter == self.leader_id)
        asked = able[: rng.randrange(self._majority, len(able) + 1)] if len(able) > self._majority else able
        for voter in asked:
            stage.after(self._delay_s(), self._asking(change, voter, stage.running[voter]))

        def give_up() -> None:
            change.is_over = True

        stage.after(GIVES_UP_AFTER_S, give_up)

    @property
    def _majority(self) -> int:
        return len(self.voters) // 2 + 1

    def _may_vote(self, voter: NodeId) -> bool:
        return voter in self._stage.running and self.trusts(voter)

    def _asking(self, change: _Change, voter: NodeId, node: Node) -> Callable[[], None]:
        def ask() -> None:
            if self._stage.running.get(voter) is node and self.trusts(voter):
                node.election.tell(VoteAsked(change.term, _Answer(self, change, voter, node)))

        return ask

    def heard(self, change: _Change, voter: NodeId, node: Node) -> None:
        """A ballot is on disk. The log behind it grows and shrinks no more until this term has a leader."""
        change.answers[voter] = (node, _end_of(node))
        good = {
            voter: end
            for voter, (node, end) in change.answers.items()
            if self._stage.running.get(voter) is node and self.trusts(voter)
        }
        if change.is_over or len(good) < self._majority:
            return
        change.is_over = True
        best = self.best(good.values())
        leader_id = self._rng.choice([voter for voter in self.voters if good.get(voter) == best])
        self._decide(change, leader_id)

    def best(self, ends: Iterable[tuple[Term, Index]]) -> tuple[Term, Index]:
        """Term before length: a longer log of an older term may lack what was committed since."""
        return max(ends)

    def _decide(self, change: _Change, leader_id: NodeId) -> None:
        stage = self._stage
        leader = stage.running[leader_id]
        stage.emit(LeaderDecided(stage.now_s, change.term, leader_id, tuple(change.answers)))
        if change.term > self.term:
            self.term, self.leader_id = change.term, leader_id

        def lead() -> None:
            # Only that process: another one may have come back with less.
            if stage.running.get(leader_id) is leader:
                leader.election.tell(LeadGiven(change.term))

        stage.after(self._delay_s(), lead)
        self._tell(self._among if not self._is_on else tuple(stage.running), change.term, leader_id)

    # ------------------------------------------------------------ its word

    def _tell(self, node_ids: tuple[NodeId, ...], term: Term, leader_id: NodeId) -> None:
        """To most of them, sooner or later; to all at once when it is calm."""
        rng = self._rng
        word = LeaderTold(term, leader_id)
        for node_id in node_ids:
            node = self._stage.running.get(node_id)
            if node is not None and (not self._is_on or rng.random() < 0.75):
                delay_s = 3.0 * rng.random() ** 3 if self._is_on else 0.0
                self._stage.after(delay_s, self._telling(node_id, node, word))

    def _telling(self, node_id: NodeId, node: Node, word: LeaderTold) -> Callable[[], None]:
        def tell() -> None:
            # Who has forgotten what it promised is told nothing old: it would believe it.
            is_safe = self.trusts(node_id) or word.term == self.term
            if self._stage.running.get(node_id) is node and is_safe:
                node.election.tell(word)

        return tell

    def _remind(self) -> None:
        if self._is_on:
            running = list(self._stage.running)
            if running and self.leader_id is not None:
                self._tell((self._rng.choice(running),), self.term, self.leader_id)
            self._stage.after(REMINDS_EVERY_S * (0.5 + self._rng.random()), self._remind)

    def _delay_s(self) -> float:
        if not self._is_on:
            return 0.0
        return 0.05 * self._rng.random() ** 3 if self._rng.random() < 0.8 else self._rng.random()


def _store_of(node: Node) -> StoreActor:
    inbox = node.store.actor_inbox
    assert isinstance(inbox, SimulatedInbox)
    assert isinstance(inbox.actor, StoreActor)
    return inbox.actor


def _election_of(node: Node) -> OracleElection:
    inbox = node.election.actor_inbox
    assert isinstance(inbox, SimulatedInbox)
    assert isinstance(inbox.actor, OracleElection)
    return inbox.actor


def _end_of(node: Node) -> tuple[Term, Index]:
    """Term of the last entry and end of its log: the higher the better (Raft section 5.4.1)."""
    log = _store_of(node).log
    return log.terms.last_term, log.end.index
