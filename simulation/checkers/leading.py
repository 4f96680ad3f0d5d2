"""How a leader begins its term, what it counts, and in which term a store writes."""

from __future__ import annotations

from math import inf
from typing import ClassVar

from ourolog.actors.messages.events import (
    CommitAdvanced,
    LeaderChanged,
    LogAppended,
    LogOpened,
    ReplicasAdvanced,
    VotersChanged,
)
from ourolog.actors.messages.peer_calls import CallReceived, FetchRequest
from ourolog.actors.messages.store import BallotSaved, BatchAppended, FetchedAppended
from ourolog.simulation.checkers.base import EventChecker
from ourolog.simulation.checkers.hindrances import IN_FLIGHT_S
from ourolog.simulation.checkers.model import ClusterModel, NodeModel
from ourolog.simulation.events import MessageTold, NodeStarted
from ourolog.storage.batch import Kind
from ourolog.storage.control import VoterKey
from ourolog.storage.types import Index, NodeId, Position, Term


class TermsBegin(EventChecker):
    """Checks the first entry of each term that reaches a disk."""

    name: ClassVar[str] = "terms_begin"
    statement: ClassVar[str] = (
        "The entries of a term begin with a control batch of its leader, so that what was there before can be "
        "committed (Raft sections 5.4.2 and 8)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_log = self._on_log_changed

    def _on_log_changed(self, node: NodeModel) -> None:
        if not node.is_elected:
            return
        for entry in self.model.fresh:
            if not entry.term or entry.kind is Kind.CONTROL:
                continue
            before = node.log.entry(entry.index - 1)
            is_first = before.term < entry.term if before is not None else entry.index == 0
            if is_first:
                raise self.violated(f"{node.node_id} has {entry} as the first of its term, and it is no control batch")


class AppendsInTerm(EventChecker):
    """Compares what a store says that it has appended with the ballot that it has saved."""

    name: ClassVar[str] = "appends_in_term"
    statement: ClassVar[str] = "A store appends nothing under a term that is not that of its ballot (Raft section 5.1)."

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on_told = {
            LogOpened: self._on_opened,
            BallotSaved: self._on_saved,
            BatchAppended: self._on_appended,
            FetchedAppended: self._on_appended,
        }
        self._terms: dict[NodeId, Term] = {}

    def _on_opened(self, told: MessageTold) -> None:
        opened = told.message
        assert isinstance(opened, LogOpened)
        self._terms[self.model.place(told.sender)[0]] = opened.ballot.term

    def _on_saved(self, told: MessageTold) -> None:
        saved = told.message
        assert isinstance(saved, BallotSaved)
        self._terms[self.model.place(told.sender)[0]] = saved.ballot.term

    def _on_appended(self, told: MessageTold) -> None:
        appended = told.message
        assert isinstance(appended, BatchAppended | FetchedAppended)
        if isinstance(appended, BatchAppended) and appended.is_duplicate:
            return  # it stands in the log since an earlier term
        node_id = self.model.place(told.sender)[0]
        term = self._terms.get(node_id)
        if term is not None and appended.term != term:
            raise self.violated(f"{node_id} has appended under term {appended.term}, and its ballot is of term {term}")


class CountsHonestly(EventChecker):
    """Counts again what a leader counts, from the last fetch of each voter."""

    name: ClassVar[str] = "counts_honestly"
    statement: ClassVar[str] = (
        "A leader holds nothing for committed, or for being on all replicas, beyond what the last fetches of its "
        "voters say: one that has lost its disk, or has cut its log, counts for what it has now. And it commits only "
        "with an entry of its own term (Raft section 5.4.2)."
    )

    def __init__(self, model: ClusterModel | None = None) -> None:
        super().__init__(model)
        self.on = {NodeStarted: self._on_started}
        self.on_told = {
            VotersChanged: self._on_voters,
            LeaderChanged: self._on_leader,
            CallReceived: self._on_call,
            LogAppended: self._on_appended,
            CommitAdvanced: self._on_committed,
            ReplicasAdvanced: self._on_replicas,
        }
        self._voters: dict[NodeId, tuple[NodeId, ...]] = {}
        self._led: dict[NodeId, list[tuple[float, Term]]] = {}
        self._fetched: dict[tuple[NodeId, VoterKey, Term], list[tuple[float, Index]]] = {}
        self._own_end: dict[NodeId, Index] = {}
        self._on_all: dict[NodeId, tuple[Term, Index]] = {}

    def _on_started(self, event: NodeStarted) -> None:
        node_id = event.node_id
        self._led.pop(node_id, None)
        self._own_end.pop(node_id, None)
        self._on_all.pop(node_id, None)
        for key in [key for key in self._fetched if key[0] == node_id]:
            del self._fetched[key]

    def _on_voters(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, VotersChanged)
        self._voters[self.model.place(told.receiver)[0]] = changed.voters

    def _on_leader(self, told: MessageTold) -> None:
        changed = told.message
        assert isinstance(changed, LeaderChanged)
        node_id, actor = self.model.place(told.receiver)
        if actor == "replicator":
            led = self._led.setdefault(node_id, [])
            while len(led) > 1 and led[1][0] < told.time_s - IN_FLIGHT_S:
                del led[0]
            led.append((told.time_s, changed.term if changed.leader_id == node_id else Term(0)))

    def _on_appended(self, told: MessageTold) -> None:
        appended = told.message
        assert isinstance(appended, LogAppended)
        node_id = self.model.place(told.receiver)[0]
        self._own_end[node_id] = appended.ends[-1].index

    def _on_call(self, told: MessageTold) -> None:
        received = told.message
        assert isinstance(received, CallReceived)
        request = received.request
        if isinstance(request, FetchRequest) and request.elected and not self._parts(told, request):
            leader = self.model.receiver_of(told)
            is_of_disk = leader is not None and leader.is_vote_of_disk
            fetcher = VoterKey(request.node_id, request.log_epoch if is_of_disk else 0)
            key = self.model.place(told.receiver)[0], fetcher, request.term
            fetches = self._fetched.setdefault(key, [])
            while len(fetches) > 1 and fetches[1][0] < told.time_s - IN_FLIGHT_S:
                del fetches[0]
            fetches.append((told.time_s, request.disk_index))

    def _parts(self, told: MessageTold, request: FetchRequest) -> bool:
        """Whether the fetcher's last entry is another one than the leader's: such a fetch tells of no entry in common.

        It may be an old one that the network brings once more, of before its sender had cut its log.
        """
        leader = self.model.receiver_of(told)
        mine = leader.log.entry(request.next_index - 1) if leader is not None and leader.log.opened else None
        if mine is None or request.last is None:
            return False
        return request.last != (mine.term, (mine.path[0], mine.origin_epoch))

    def _reached(self, leader: NodeModel, voter: VoterKey, term: Term) -> float:
        """The most that the leader may assume of that voter now."""
        if voter.node_id == leader.node_id:
            return max(self._own_end.get(voter.node_id, Index(0)), leader.opened.end.index if leader.opened else 0)
        fetches = self._fetched.get((leader.node_id, voter, term), ())
        recent = [
            index
            for at, (_, index) in enumerate(fetches)
            if at + 1 == len(fetches) or fetches[at + 1][0] >= self.time_s - IN_FLIGHT_S
        ]
        return max(recent, default=-1)

    def _counted(self, leader: NodeModel, terms: set[Term], voters: tuple[VoterKey, ...] | None = None) -> list[float]:
        """What each voter has, the most first; empty if that is not known.

        voters: None for those that are in force.
        """
        voters = self._voters_of(leader) if voters is None else voters
        is_held_up = self.model.hindrances.is_held_up(leader.node_id, self.time_s)
        if not voters or is_held_up or Term(0) in terms or not leader.is_elected:
            return []
        return sorted((max(self._reached(leader, voter, term) for term in terms) for voter in voters), reverse=True)

    def _voters_of(self, leader: NodeModel) -> tuple[VoterKey, ...]:
        """Whose fetches count: those of the disks that its log names, or of whoever has the name of a voter."""
        if leader.is_vote_of_disk:
            return self.model.voters_of(leader)
        return tuple(VoterKey(voter, 0) for voter in self._voters.get(leader.node_id, ()))

    def _on_committed(self, told: MessageTold) -> None:
        advanced, leader = told.message, self.model.receiver_of(told)
        assert isinstance(advanced, CommitAdvanced)
        if leader is not None:
            led = self._led.get(leader.node_id, [(0.0, Term(0))])
            terms = {
                term
                for at, (_, term) in enumerate(led)
                if at + 1 == len(led) or led[at + 1][0] > told.time_s - IN_FLIGHT_S
            }
            counted = self._counted(leader, terms)
            if counted:
                self._check_term(leader, advanced.committed, terms)
            last = Index(advanced.committed.index - 1)
            quorums = self.model.quorums_of(leader, last) if leader.is_vote_of_disk else ()
            others = [self._counted(leader, terms, some) for some in quorums[1:]]
            reached = [some[len(some) // 2] for some in (counted, *others) if some]
            if counted and advanced.committed.index > max(reached):
                raise self.violated(
                    f"{leader.node_id} commits up to index {advanced.committed.index}, and by their last fetches its "
                    f"voters have {_listed(counted)}"
                )

    def _check_term(self, leader: NodeModel, committed: Position, terms: set[Term]) -> None:
        """What an earlier leader appended may be on a majority, and still be overwritten (Raft figure 8)."""
        last = leader.log.entry(committed.index - 1) if leader.log.opened and not leader.spoiled else None
        if last is not None and last.term not in terms:
            raise self.violated(
                f"{leader.node_id} leads in term {max(terms)} and commits up to {last}, which is of an earlier one"
            )

    def _on_replicas(self, told: MessageTold) -> None:
        advanced, leader = told.message, self.model.receiver_of(told)
        assert isinstance(advanced, ReplicasAdvanced)
        if leader is not None and leader.config is not None and leader.config.min_in_sync is None:
            term, index = self._on_all.get(leader.node_id, (Term(0), Index(0)))
            self._on_all[leader.node_id] = advanced.term, advanced.index
            if advanced.term == term and advanced.index <= index:
                return  # what all have had counts, though one of them may have lost its disk since
            counted = self._counted(leader, {advanced.term})
            if counted and advanced.index > max(counted[-1], 0):
                raise self.violated(
                    f"{leader.node_id} says that all voters have what is below index {advanced.index}, and by their "
                    f"last fetches they have {_listed(counted)}"
                )


def _listed(counted: list[float]) -> str:
    return ", ".join("nothing" if index in (-1, inf) else f"{index:g}" for index in counted)
