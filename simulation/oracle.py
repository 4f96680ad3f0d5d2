"""The oracle: an all-knowing party outside the nodes that makes safe changes of leader, at bad moments.

It holds the vote that nodes without an election of their own cannot hold (Raft section 5.4.1): a node becomes a
candidate, now and then two in one term, each voter's store grants its vote or refuses it, and the candidate with a
majority of the votes leads. Candidates are drawn at random, however short their logs; the stores must keep them from
leading. So the rest of a cluster is tested before there are elections: it must lose nothing whatever the oracle
does, as long as every change is safe. For that reason only nodes vote whose disks have all that they promised; a
node that lost its disk votes again when it has all that the present leader has.

Its messages need no network. They come late, in any order, and to some nodes never: those hear of the new term
from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from ourolog.actors.node import Node
from ourolog.actors.store import StoreActor
from ourolog.simulation.events import Event, LeaderDecided
from ourolog.simulation.oracle_election import (
    DiskTrusted,
    LeaderTold,
    LeadGiven,
    OracleElection,
    VoteAsked,
    VotersWanted,
    VoteSaved,
)
from ourolog.simulation.runtime import SimulatedInbox
from ourolog.storage.terms import LastEntry
from ourolog.storage.types import Index, NodeId, Term

GIVES_UP_AFTER_S: Final = 2.0
"""Shorter than it takes to replace a disk: a node that has answered still has the disk that it answered with."""

REMINDS_EVERY_S: Final = 1.5
LOOKS_EVERY_S: Final = 0.01
WAITS_FOR_ENTRIES_S: Final = 0.5
VOTERS_EVERY_S: Final = 1.0
"""How long it is on average until a leader's log says once more who votes."""
TWO_STAND: Final = 0.25
"""How often two candidates stand in one term."""


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
class _Candidacy:
    """One node that stands in one term.

    term: the term.
    candidate_id: who stands.
    voters: the others that are asked for their votes.
    last: the last entry of the candidate's log; None until its vote for itself is on disk.
    granted: which nodes have voted for it, itself included, each with the process that said so.
    refused: who has not, with the last entry of its log.
    is_over: whether no vote counts any more.
    """

    term: Term
    candidate_id: NodeId
    voters: tuple[NodeId, ...]
    last: LastEntry | None = None
    granted: dict[NodeId, Node] = field(default_factory=dict)
    refused: dict[NodeId, LastEntry] = field(default_factory=dict)
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    """Where one process says how it voted."""

    oracle: Oracle
    candidacy: _Candidacy
    node_id: NodeId
    node: Node

    def tell(self, message: VoteSaved) -> None:
        assert message.term == self.candidacy.term
        self.oracle.heard(self.candidacy, self.node_id, self.node, message)


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
        """Change the leader at random times, this far apart on average, and tell the nodes."""
        self._is_on = True
        self.change()
        self._again(interval_s)
        self._remind()
        self._have_voters_written()

    def calm(self, core: tuple[NodeId, ...]) -> None:
        """Change the leader no more, unless these nodes have none; and tell only these nodes."""
        self._is_on = False
        self._among = core
        if not self._is_calm:
            self._is_calm = True
            self._see_to_a_leader()

    def launched(self, node_id: NodeId, node: Node) -> None:
        """Tell a new process, before it opens its log, whether its disk is still what it was."""
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
        """Change preferably while something is under way: then the old leader has what others do not have."""
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
        """Whether the leader leads, and no node has promised a later term to a change that failed."""
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

    def change(self, favourite: NodeId | None = None) -> None:
        """Let a node be a candidate, and ask a majority or more of the voters that are there.

        A later change may overtake it.

        favourite: the candidate, if possible; otherwise another node.
        """
        rng, stage = self._rng, self._stage
        self._used = Term(self._used + 1)
        able = [voter for voter in self.voters if voter in self._among and self._may_vote(voter)]
        rng.shuffle(able)
        if self._is_on and rng.random() < 0.5:
            # Half the time without the present leader, which then goes on until it learns of it.
            able.sort(key=lambda voter: voter == self.leader_id)
        able.sort(key=lambda voter: voter != favourite)
        asked = able[: rng.randrange(self._majority, len(able) + 1)] if len(able) > self._majority else able
        standing = asked[: 2 if self._is_on and rng.random() < TWO_STAND else 1]
        for candidate_id in standing:
            candidacy = _Candidacy(self._used, candidate_id, tuple(voter for voter in asked if voter != candidate_id))
            stage.after(self._delay_s(), self._asking(candidacy, candidate_id, stage.running[candidate_id]))
            stage.after(GIVES_UP_AFTER_S, self._ending(candidacy))

    @property
    def _majority(self) -> int:
        return len(self.voters) // 2 + 1

    def _may_vote(self, voter: NodeId) -> bool:
        return voter in self._stage.running and self.trusts(voter)

    def _ending(self, candidacy: _Candidacy) -> Callable[[], None]:
        def end() -> None:
            candidacy.is_over = True

        return end

    def _asking(self, candidacy: _Candidacy, voter: NodeId, node: Node) -> Callable[[], None]:
        def ask() -> None:
            if self._stage.running.get(voter) is node and self.trusts(voter):
                answer = _Answer(self, candidacy, voter, node)
                node.election.tell(VoteAsked(candidacy.term, candidacy.candidate_id, candidacy.last, answer))

        return ask

    def heard(self, candidacy: _Candidacy, voter: NodeId, node: Node, vote: VoteSaved) -> None:
        """Note a vote that is on disk, or refused. The log behind it does not change until this term has a leader."""
        if vote.granted:
            candidacy.granted[voter] = node
        else:
            candidacy.refused[voter] = vote.last
        if voter == candidacy.candidate_id and vote.granted:
            candidacy.last = vote.last
            for other in candidacy.voters:
                if other in self._stage.running:
                    self._stage.after(self._delay_s(), self._asking(candidacy, other, self._stage.running[other]))
        if candidacy.is_over:
            return
        good = [
            voter
            for voter, node in candidacy.granted.items()
            if self._stage.running.get(voter) is node and self.trusts(voter)
        ]
        if self.has_won(candidacy.candidate_id, good):
            candidacy.is_over = True
            self._decide(candidacy.term, candidacy.candidate_id, tuple(good))
        elif candidacy.refused and len(candidacy.granted) + len(candidacy.refused) > len(candidacy.voters):
            candidacy.is_over = True
            self._try_again(candidacy)

    def has_won(self, candidate_id: NodeId, votes: Sequence[NodeId]) -> bool:
        """Whether that many votes, including its own, make that node leader."""
        return candidate_id in votes and len(votes) >= self._majority

    def _try_again(self, lost: _Candidacy) -> None:
        """Let the node with the best log known now be the candidate, unless there is a winner or a candidate."""
        ends = {**lost.refused, lost.candidate_id: lost.last or LastEntry.of(None, Index(0))}
        best = max(self.voters, key=lambda voter: ends.get(voter, LastEntry.of(None, Index(0))))

        def again() -> None:
            if self._used == lost.term > self.term:
                self.change(best)

        self._stage.after(self._delay_s(), again)

    def _decide(self, term: Term, leader_id: NodeId, votes: tuple[NodeId, ...]) -> None:
        stage = self._stage
        leader = stage.running[leader_id]
        stage.emit(LeaderDecided(stage.now_s, term, leader_id, votes))
        if term > self.term:
            self.term, self.leader_id = term, leader_id

        def lead() -> None:
            # Only that process: a later one may have less on its disk.
            if stage.running.get(leader_id) is leader:
                leader.election.tell(LeadGiven(term))

        stage.after(self._delay_s(), lead)
        self._tell(self._among if not self._is_on else tuple(stage.running), term, leader_id)

    # ------------------------------------------------------------ its word

    def _tell(self, node_ids: tuple[NodeId, ...], term: Term, leader_id: NodeId) -> None:
        """Tell most of the nodes, sooner or later; all of them at once when it is calm."""
        rng = self._rng
        word = LeaderTold(term, leader_id)
        for node_id in node_ids:
            node = self._stage.running.get(node_id)
            if node is not None and (not self._is_on or rng.random() < 0.75):
                delay_s = 3.0 * rng.random() ** 3 if self._is_on else 0.0
                self._stage.after(delay_s, self._telling(node_id, node, word))

    def _telling(self, node_id: NodeId, node: Node, word: LeaderTold) -> Callable[[], None]:
        def tell() -> None:
            # A node that has forgotten what it promised is told nothing old, since it would believe it.
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

    def _have_voters_written(self) -> None:
        """Have voter sets written at times, so that logs with them diverge, are cut, lose their start, begin anew."""

        def due() -> None:
            if self._is_on:
                leader = self._stage.running.get(self.leader_id) if self.leader_id is not None else None
                if leader is not None:
                    leader.election.tell(VotersWanted(self.term))
                self._have_voters_written()

        self._stage.after(VOTERS_EVERY_S * self._rng.expovariate(1.0), due)

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


def _end_of(node: Node) -> LastEntry:
    log = _store_of(node).log
    return LastEntry.of(log.terms.last_place, log.end.index)
